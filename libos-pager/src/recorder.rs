//! The exact string of page references of a program.

use alloc::vec::Vec;

/// Page references, one after the other equal ones as one.
///
/// While an engine records, a single page is accessible at a time, so every change to another page faults.
#[derive(Debug, Default)]
pub struct Recorder {
    pages: Vec<u32>,
}

impl Recorder {
    /// A page is used. Returns the one used before, if it was another.
    pub fn push(&mut self, page: u64) -> Option<u64> {
        let last = self.pages.last().copied().map(u64::from);
        if last == Some(page) {
            return None;
        }
        self.pages.push(page as u32);
        last
    }

    /// The references so far.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// A digest of the references, to compare strings by (FNV-1a, 64 bits).
    pub fn digest(&self) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.pages.iter().flat_map(|page| page.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step)
    }
}
