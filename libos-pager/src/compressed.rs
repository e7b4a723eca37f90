//! Pages kept in memory, compressed.

use crate::pager::{PageFailure, Pager, PagerError};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::{FRAME_BYTES, Page};
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// Memory between memory and the disk: pages that go out are compressed (LZ4) and stay on the heap, as
/// long as all of them together have no more bytes than they may have. What does not fit, or gains too
/// little, goes to the pager below; without one it stays in memory.
///
/// After F. Douglis, "The compression cache: using on-line compression to extend physical memory", USENIX
/// Winter 1993.
pub struct Compressed {
    kept: BTreeMap<u64, Box<[u8]>>,
    bytes: usize,
    most_bytes: usize,
    below: Option<Box<dyn Pager>>,
    /// Where a page is compressed to.
    scratch: Vec<u8>,
}

impl Compressed {
    /// Compressed pages of more bytes than this are not kept: three quarters of a page.
    pub const WORTH: usize = FRAME_BYTES / 4 * 3;

    /// Keeps so many bytes of compressed pages; `below` takes the rest.
    pub fn new(most_bytes: usize, below: Option<Box<dyn Pager>>) -> Compressed {
        let scratch = vec![0; get_maximum_output_size(FRAME_BYTES)];
        Compressed { kept: BTreeMap::new(), bytes: 0, most_bytes, below, scratch }
    }

    /// Pages that are kept compressed.
    pub fn pages(&self) -> usize {
        self.kept.len()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, page: u64) {
        if let Some(old) = self.kept.remove(&page) {
            self.bytes -= old.len();
        }
    }

    /// Keeps a page if there is room.
    fn keep(&mut self, number: u64, page: &Page) -> bool {
        self.forget(number);
        let length = match compress_into(&page.0, &mut self.scratch) {
            Ok(length) if length <= Compressed::WORTH && self.bytes + length <= self.most_bytes => length,
            _ => return false,
        };
        self.bytes += length;
        self.kept.insert(number, self.scratch[..length].into());
        true
    }
}

impl Pager for Compressed {
    fn name(&self) -> &'static str {
        "compressed"
    }

    fn holds(&self, page: u64) -> bool {
        self.kept.contains_key(&page) || self.below.as_ref().is_some_and(|below| below.holds(page))
    }

    /// One: what is beside a page may be elsewhere.
    fn most_pages(&self) -> usize {
        1
    }

    fn page_in(&mut self, first: u64, mut pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        for number in 0..pages.len() {
            let page = first + number as u64;
            let Some(kept) = self.kept.get(&page) else {
                let Some(below) = &mut self.below else {
                    let error = PagerError::Other(format!("page {page} was never compressed"));
                    return Err(PageFailure { pages, error });
                };
                // One after the other: the pages are as many as were asked for, at most one by `most_pages`.
                let rest = pages.split_off(number);
                match below.page_in(page, rest) {
                    Ok(filled) => pages.extend(filled),
                    Err(PageFailure { pages: rest, error }) => {
                        pages.extend(rest);
                        return Err(PageFailure { pages, error });
                    }
                }
                return Ok(pages);
            };
            if decompress_into(kept, &mut pages[number].0).ok() != Some(FRAME_BYTES) {
                let error = PagerError::Other(format!("page {page} can't be decompressed"));
                return Err(PageFailure { pages, error });
            }
        }
        Ok(pages)
    }

    fn page_out(&mut self, first: u64, mut pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        for number in 0..pages.len() {
            let page = first + number as u64;
            if self.keep(page, &pages[number]) {
                if let Some(below) = &mut self.below {
                    below.discard(page..page + 1);
                }
                continue;
            }
            let Some(below) = &mut self.below else {
                return Err(PageFailure { pages, error: PagerError::Full });
            };
            let rest = pages.split_off(number);
            let (result, rest) = match below.page_out(page, rest) {
                Ok(rest) => (Ok(()), rest),
                Err(PageFailure { pages, error }) => (Err(error), pages),
            };
            pages.extend(rest);
            return match result {
                Ok(()) => Ok(pages),
                Err(error) => Err(PageFailure { pages, error }),
            };
        }
        Ok(pages)
    }

    fn discard(&mut self, pages: Range<u64>) {
        pages.clone().for_each(|page| self.forget(page));
        if let Some(below) = &mut self.below {
            below.discard(pages);
        }
    }

    fn sync(&mut self) -> Result<(), PagerError> {
        self.below.as_mut().map_or(Ok(()), |below| below.sync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::Swap;
    use libos_fs::RamDisk;
    use libos_fs::device::fault::Dice;

    fn text(seed: u64) -> Box<Page> {
        let mut page = Box::new(Page([0; FRAME_BYTES]));
        let line = format!("this is line {seed} of a page that repeats itself. ");
        page.0.iter_mut().zip(line.bytes().cycle()).for_each(|(byte, from)| *byte = from);
        page
    }

    fn noise(seed: u64) -> Box<Page> {
        let (mut page, mut dice) = (Box::new(Page([0; FRAME_BYTES])), Dice::new(seed));
        page.0.iter_mut().for_each(|byte| *byte = dice.roll() as u8);
        page
    }

    fn out(pager: &mut Compressed, number: u64, page: Box<Page>) {
        assert_eq!(pager.page_out(number, vec![page]).unwrap().len(), 1);
    }

    fn comes_back(pager: &mut Compressed, number: u64, page: &Page) {
        assert!(pager.holds(number));
        assert_eq!(pager.page_in(number, vec![text(99)]).unwrap()[0].0, page.0, "page {number}");
    }

    #[test]
    fn what_gains_is_kept_and_the_rest_goes_below() {
        let swap = Swap::new(Box::new(RamDisk::new(64)), 64).unwrap();
        let mut pager = Compressed::new(2000, Some(Box::new(swap)));
        (0..64).for_each(|number| {
            out(&mut pager, number, if number % 2 == 0 { text(number) } else { noise(number) })
        });
        assert!(pager.bytes() <= 2000 && (5..32).contains(&pager.pages()), "{} pages", pager.pages());
        for number in 0..64 {
            let page = if number % 2 == 0 { text(number) } else { noise(number) };
            comes_back(&mut pager, number, &page);
        }
        // A page that changes its kind is in one place only, and the last one counts.
        out(&mut pager, 0, noise(7));
        comes_back(&mut pager, 0, &noise(7));
        out(&mut pager, 0, text(7));
        comes_back(&mut pager, 0, &text(7));
        pager.discard(0..64);
        assert!((0..64).all(|number| !pager.holds(number)));
        assert_eq!((pager.pages(), pager.bytes()), (0, 0));
    }

    #[test]
    fn without_room_a_page_stays_where_it_is() {
        let mut pager = Compressed::new(100, None);
        out(&mut pager, 3, text(3));
        let failure = pager.page_out(4, vec![noise(4)]).unwrap_err();
        assert_eq!((failure.error, failure.pages[0].0), (PagerError::Full, noise(4).0));
        assert!(!pager.holds(4));
        let failure = pager.page_in(4, vec![noise(4)]).unwrap_err();
        assert!(failure.error.to_string().contains("page 4 was never"));
    }
    use alloc::string::ToString;
}
