//! Pages of a store: a word about the page, then objects, none of which crosses into another page.
//!
//! ```text
//! word 0: checksum (bits 32 and up) │ first free word (bits 0–31)
//! word 1: header of an object: references (bits 32 and up) │ words of data (bits 0–31) │ references │ data │ …
//! ```

use super::StoreError;
use crate::memory::PAGE_WORDS;
use hyperexo_abi::{FRAME_BYTES, Page};

/// A page as words.
pub type Words = [u64; PAGE_WORDS];

/// Most words of an object, its header included.
pub const MOST_WORDS: usize = PAGE_WORDS - 1;

/// The header of an object.
pub fn header(references: usize, data: usize) -> u64 {
    (references as u64) << 32 | data as u64
}

/// Number of references, and words of data.
pub fn parts(header: u64) -> (usize, usize) {
    ((header >> 32) as usize, header as u32 as usize)
}

/// A page without objects.
pub fn empty() -> Words {
    let mut words = [0; PAGE_WORDS];
    words[0] = 1;
    words
}

/// Words of a block.
pub fn words_of(page: &Page) -> Words {
    let mut words = [0; PAGE_WORDS];
    for (word, bytes) in words.iter_mut().zip(page.0.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// The block of words.
pub fn block_of(words: &Words) -> Page {
    let mut page = Page([0; FRAME_BYTES]);
    for (word, bytes) in words.iter().zip(page.0.as_chunks_mut().0) {
        *bytes = word.to_le_bytes();
    }
    page
}

/// Checksum of all but itself.
fn checksum(words: &Words) -> u64 {
    let mut words = *words;
    words[0] &= 0xffff_ffff;
    u64::from(crc32fast::hash(&block_of(&words).0))
}

/// Puts the checksum in.
pub fn seal(words: &mut Words) {
    words[0] = words[0] & 0xffff_ffff | checksum(words) << 32;
}

/// Checks a page that comes from the disk, and takes its checksum out.
///
/// # Errors
///
/// [`StoreError::Damaged`].
pub fn unseal(words: &mut Words, page: u64) -> Result<(), StoreError> {
    let damaged = |what| Err(StoreError::Damaged { page, what });
    if words[0] >> 32 != checksum(words) {
        return damaged("its checksum is wrong");
    }
    words[0] &= 0xffff_ffff;
    let top = words[0] as usize;
    if top == 0 || top > PAGE_WORDS {
        return damaged("its first free word is none of it");
    }
    let mut at = 1;
    while at < top {
        let (references, data) = parts(words[at]);
        match references.checked_add(data).and_then(|words| words.checked_add(at + 1)) {
            Some(next) if next <= top => at = next,
            _ => return damaged("an object ends beyond it"),
        }
    }
    Ok(())
}

/// Changes each reference of a page that is one.
///
/// # Errors
///
/// The first of `change`.
pub fn change_references<E>(
    words: &mut Words,
    mut change: impl FnMut(u64) -> Result<u64, E>,
) -> Result<(), E> {
    let (mut at, top) = (1, words[0] as usize);
    while at < top {
        let (references, data) = parts(words[at]);
        for reference in words[at + 1..at + 1 + references].iter_mut().filter(|word| **word != 0) {
            *reference = change(*reference)?;
        }
        at += 1 + references + data;
    }
    Ok(())
}
