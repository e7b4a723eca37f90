//! Buffers that several cores read while another one fills them.

use crate::device::BLOCK_BYTES;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use hyperexo_abi::Page;

/// Bytes that are copied at a time.
const WORD: usize = size_of::<u64>();
/// Words of a line of a processor's cache.
const LINE: usize = 8;

/// Frames for blocks. A reader gets a whole copy of the block it wants, or `false`; it never waits.
pub(super) struct Frames(Box<[Frame]>);

/// On a cache line of its own: reading one frame does not slow down the core that fills the next.
#[repr(align(64))]
struct Frame {
    /// Odd while the frame is being filled.
    version: AtomicU64,
    /// Which block it holds.
    block: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Frames {
    /// So many, which hold no block.
    pub(super) fn new(count: usize) -> Frames {
        let frame = |_| Frame {
            version: AtomicU64::new(0),
            block: AtomicU64::new(u64::MAX),
            words: (0..BLOCK_BYTES / WORD).map(|_| AtomicU64::new(0)).collect(),
        };
        Frames((0..count).map(frame).collect())
    }

    /// Copies bytes of a block from a frame, from `offset` in the block on. If the frame holds another block,
    /// or is filled meanwhile, the answer is `false` and `into` holds anything.
    pub(super) fn copy(&self, frame: usize, block: u64, offset: usize, into: &mut [u8]) -> bool {
        let frame = &self.0[frame];
        let before = frame.version.load(Ordering::Acquire);
        if !before.is_multiple_of(2) || frame.block.load(Ordering::Relaxed) != block {
            return false;
        }
        copy_words(&frame.words, offset, into);
        // What was read counts if the version has not moved meanwhile; see [`crate::cache::SharedCache`].
        fence(Ordering::Acquire);
        frame.version.load(Ordering::Relaxed) == before
    }

    /// Puts a block into a frame. One core at a time; the caller sees to that.
    pub(super) fn fill(&self, frame: usize, block: u64, contents: &Page) {
        let frame = &self.0[frame];
        let version = frame.version.load(Ordering::Relaxed);
        frame.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        frame.block.store(block, Ordering::Relaxed);
        for (word, bytes) in frame.words.iter().zip(contents.0.as_chunks::<WORD>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        frame.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

/// Copies bytes out of words, from an offset in bytes on: whole words at their places, and parts of words at
/// both ends.
fn copy_words(words: &[AtomicU64], offset: usize, into: &mut [u8]) {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_ne_bytes();
    let mut words = &words[offset / WORD..];
    let mut rest = into;
    let skip = offset % WORD;
    if let (1.., Some((word, others))) = (skip, words.split_first()) {
        let (head, tail) = rest.split_at_mut(rest.len().min(WORD - skip));
        head.copy_from_slice(&load(word)[skip..skip + head.len()]);
        (rest, words) = (tail, others);
    }
    let (whole, tail) = rest.as_chunks_mut::<WORD>();
    let (whole_words, words) = words.split_at(whole.len());
    // Several at a time: the compiler leaves loops over atomics as they are.
    let (lines, line_rest) = whole.as_chunks_mut::<LINE>();
    let (line_words, rest_words) = whole_words.as_chunks::<LINE>();
    for (line, words) in lines.iter_mut().zip(line_words) {
        *line = core::array::from_fn(|at| load(&words[at]));
    }
    line_rest.iter_mut().zip(rest_words).for_each(|(bytes, word)| *bytes = load(word));
    if let (false, Some(word)) = (tail.is_empty(), words.first()) {
        tail.copy_from_slice(&load(word)[..tail.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn any_part_is_copied() {
        let frames = Frames::new(2);
        let page = Page(core::array::from_fn(|at| (at * 7 % 251) as u8));
        frames.fill(1, 5, &page);
        for offset in (0..40).chain(4080..BLOCK_BYTES) {
            for bytes in (0..40).chain([BLOCK_BYTES]) {
                let bytes = bytes.min(BLOCK_BYTES - offset);
                let mut into = vec![0; bytes];
                assert!(frames.copy(1, 5, offset, &mut into));
                assert_eq!(into, page.0[offset..offset + bytes], "{bytes} bytes from {offset} on");
            }
        }
        assert!(!frames.copy(1, 6, 0, &mut [0; 8]), "another block");
        assert!(!frames.copy(0, 5, 0, &mut [0; 8]), "another frame");
    }

    /// A frame gets other contents all the time; every copy is of one filling.
    #[test]
    fn copies_are_whole() {
        let frames = Frames::new(1);
        let pages: Vec<Page> = (0..4).map(|number| Page([number; BLOCK_BYTES])).collect();
        let done = AtomicBool::new(false);
        let copied = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut into = [0; BLOCK_BYTES];
                        let mut copied = 0u64;
                        while !done.load(Ordering::Relaxed) {
                            for block in 0..4u8 {
                                if frames.copy(0, u64::from(block), 0, &mut into) {
                                    assert!(into.iter().all(|byte| *byte == block));
                                    copied += 1;
                                }
                            }
                        }
                        copied
                    })
                })
                .collect();
            for round in 0..40_000 {
                let block = round % 4;
                frames.fill(0, block as u64, &pages[block]);
                if round % 8 == 0 {
                    std::thread::yield_now();
                }
            }
            done.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
        });
        assert!(copied > 0, "nobody ever saw a block");
    }
}
