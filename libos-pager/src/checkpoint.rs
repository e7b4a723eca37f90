//! Checkpoints: all pages of a region on a device, whole or not at all.

use crate::pager::PagerError;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use crc32fast::Hasher;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_fs::{BlockDevice, DeviceError, Operation, Rejection, Request};

/// First bytes of a header.
const MAGIC: [u8; 8] = *b"hxcheck1";
/// Blocks of headers.
const HEADERS: u64 = 2;

/// The checkpoints of a region on a device: the last one that was finished is there, whatever happens while
/// the next is written.
///
/// ```text
/// block 0        header of even checkpoints     magic, number, pages, CRC-32 of the pages; CRC-32 of that
/// block 1        header of odd checkpoints
/// 2 ..           pages of even checkpoints
/// 2 + pages ..   pages of odd checkpoints
/// ```
///
/// The pages go into the half that does not count. Then the device is flushed, and the header makes them
/// count.
pub struct Checkpoints {
    device: Box<dyn BlockDevice>,
    pages: u64,
    /// Number of the last one. 0: there is none.
    last: u64,
}

impl Checkpoints {
    /// Blocks of a device for a region of so many pages.
    pub const fn blocks(pages: u64) -> u64 {
        HEADERS + 2 * pages
    }

    /// Opens a device, and finds the last checkpoint there.
    ///
    /// # Errors
    ///
    /// If it is too small or can't be read. A device without checkpoints is no error.
    pub fn open(device: Box<dyn BlockDevice>, pages: u64) -> Result<Checkpoints, PagerError> {
        let (wanted, left) = (Checkpoints::blocks(pages), device.blocks());
        if wanted > left {
            return Err(PagerError::Other(format!(
                "checkpoints of {pages} pages: {wanted} blocks, but {left} there are"
            )));
        }
        let mut checkpoints = Checkpoints { device, pages, last: 0 };
        let mut found: Vec<u64> = Vec::new();
        for block in 0..HEADERS {
            let header = checkpoints.read(block)?;
            if let Some(number) = parse(&header, pages).filter(|(number, _)| number % HEADERS == block) {
                let sum = checkpoints.sum(number.0)?;
                found.extend((sum == number.1).then_some(number.0));
            }
        }
        checkpoints.last = found.into_iter().max().unwrap_or(0);
        Ok(checkpoints)
    }

    /// The number of the last one, from 1 on. `None`: there is none.
    pub fn last(&self) -> Option<u64> {
        (self.last > 0).then_some(self.last)
    }

    /// Writes the next one. `contents` fills each page; see
    /// [`Snapshot::read`](crate::Snapshot::read). The program may run on meanwhile.
    ///
    /// # Errors
    ///
    /// [`PagerError`]; the checkpoint before is still the last.
    pub fn write(
        &mut self,
        mut contents: impl FnMut(u64, &mut Page) -> Result<(), PagerError>,
    ) -> Result<(), PagerError> {
        let number = self.last + 1;
        let mut hasher = Hasher::new();
        for page in 0..self.pages {
            let mut frame = Box::new(Page([0; FRAME_BYTES]));
            contents(page, &mut frame)?;
            hasher.update(&frame.0);
            self.transfer(Operation::Write, self.place(number) + page, vec![frame])?;
        }
        self.transfer(Operation::Flush, 0, Vec::new())?;
        let header = Box::new(header(number, self.pages, hasher.finalize()));
        self.transfer(Operation::Write, number % HEADERS, vec![header])?;
        self.transfer(Operation::Flush, 0, Vec::new())?;
        self.last = number;
        Ok(())
    }

    /// Calls `each` with all pages of the last one.
    ///
    /// # Errors
    ///
    /// [`PagerError`].
    pub fn restore(&mut self, mut each: impl FnMut(u64, &Page)) -> Result<(), PagerError> {
        for page in 0..self.pages {
            let contents = self.read(self.place(self.last) + page)?;
            each(page, &contents);
        }
        Ok(())
    }

    /// First block of the pages of a checkpoint.
    fn place(&self, number: u64) -> u64 {
        HEADERS + number % HEADERS * self.pages
    }

    fn sum(&mut self, number: u64) -> Result<u32, PagerError> {
        let mut hasher = Hasher::new();
        for page in 0..self.pages {
            hasher.update(&self.read(self.place(number) + page)?.0);
        }
        Ok(hasher.finalize())
    }

    fn read(&mut self, block: u64) -> Result<Box<Page>, PagerError> {
        let mut pages = self.transfer(Operation::Read, block, vec![Box::new(Page([0; FRAME_BYTES]))])?;
        pages.pop().ok_or(PagerError::Device { what: "reading", block, error: DeviceError::Timeout })
    }

    /// One request, to its end.
    fn transfer(
        &mut self,
        operation: Operation,
        block: u64,
        buffers: Vec<Box<Page>>,
    ) -> Result<Vec<Box<Page>>, PagerError> {
        let what = if operation == Operation::Read { "reading" } else { "writing" };
        let failure = |error| PagerError::Device { what, block, error };
        let request = Request { tag: 0, operation, block, buffers };
        self.device.submit(request).map_err(|rejected| {
            failure(match rejected.reason {
                // Nothing else is in flight.
                Rejection::QueueFull => DeviceError::Io,
                Rejection::Refused(error) => error,
            })
        })?;
        loop {
            match self.device.poll() {
                Some(completion) => return completion.result.map(|()| completion.buffers).map_err(failure),
                None => self.device.wait(),
            }
        }
    }
}

/// The header of a checkpoint.
fn header(number: u64, pages: u64, sum: u32) -> Page {
    let mut page = Page([0; FRAME_BYTES]);
    page.0[..8].copy_from_slice(&MAGIC);
    page.0[8..16].copy_from_slice(&number.to_le_bytes());
    page.0[16..24].copy_from_slice(&pages.to_le_bytes());
    page.0[24..28].copy_from_slice(&sum.to_le_bytes());
    let own = crc32fast::hash(&page.0[..28]);
    page.0[28..32].copy_from_slice(&own.to_le_bytes());
    page
}

/// Number and sum of a header, if it is one for so many pages.
fn parse(page: &Page, pages: u64) -> Option<(u64, u32)> {
    let word = |at: usize| Some(u64::from_le_bytes(*page.0[at..].first_chunk()?));
    let half = |at: usize| Some(u32::from_le_bytes(*page.0[at..].first_chunk()?));
    let right = page.0[..8] == MAGIC && half(28)? == crc32fast::hash(&page.0[..28]) && word(16)? == pages;
    let number = word(8)?;
    (right && number > 0).then_some((number, half(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use libos_fs::RamDisk;
    use libos_fs::device::fault::PowerCut;

    const PAGES: u64 = 5;

    fn write(checkpoints: &mut Checkpoints, seed: u8) -> Result<(), PagerError> {
        checkpoints.write(|page, contents| {
            contents.0.fill(seed.wrapping_mul(31) ^ page as u8);
            Ok(())
        })
    }

    /// The seed of the last checkpoint, if all its pages are of one.
    fn seed(checkpoints: &mut Checkpoints, seeds: core::ops::RangeInclusive<u8>) -> Option<u8> {
        checkpoints.last()?;
        let mut pages = Vec::new();
        checkpoints.restore(|_, page| pages.push(page.0)).unwrap();
        let is = |seed: u8| {
            pages
                .iter()
                .enumerate()
                .all(|(page, bytes)| bytes.iter().all(|byte| *byte == seed.wrapping_mul(31) ^ page as u8))
        };
        Some(seeds.into_iter().find(|seed| is(*seed)).expect("a whole checkpoint"))
    }

    /// Power is cut during each write of three checkpoints in turn: what is found afterwards is the last one
    /// that was acknowledged, or the one that was being written, whole.
    #[test]
    fn the_last_checkpoint_is_whole_after_every_cut() {
        let start = RamDisk::new(Checkpoints::blocks(PAGES));
        for cut in 0..3 * (PAGES + 1) {
            for dice in 0..4 {
                let (device, power) = PowerCut::new(&start, Some(cut), dice);
                let mut checkpoints = Checkpoints::open(Box::new(device), PAGES).unwrap();
                let done = (1..=3).take_while(|seed| write(&mut checkpoints, *seed).is_ok()).count() as u8;
                assert!(power.is_cut() && done < 3);
                let mut found = Checkpoints::open(Box::new(power.survivor()), PAGES).unwrap();
                let last = seed(&mut found, 1..=3).unwrap_or(0);
                assert!(last == done || last == done + 1, "cut {cut}: {last} found, {done} finished");
                // And it goes on from there.
                write(&mut found, 9).unwrap();
                assert_eq!(seed(&mut found, 9..=9), Some(9));
            }
        }
    }

    #[test]
    fn a_device_that_is_too_small_or_another_region_is_told() {
        let error = Checkpoints::open(Box::new(RamDisk::new(11)), 5).err().unwrap();
        assert!(error.to_string().contains("12 blocks, but 11"), "{error}");
        let disk = RamDisk::new(64);
        let bytes = {
            let (device, power) = PowerCut::new(&disk, None, 0);
            write(&mut Checkpoints::open(Box::new(device), 5).unwrap(), 1).unwrap();
            power.survivor().to_bytes()
        };
        let open = |pages| Checkpoints::open(Box::new(RamDisk::from_bytes(bytes.clone())), pages).unwrap();
        assert_eq!((open(5).last(), open(4).last()), (Some(1), None));
    }
}
