//! Buffers that several cores read while another one changes them.
//!
//! Readers and the one core that writes never wait for each other: a reader that finds its frame being
//! written looks the block up again; a writer that finds readers in a frame takes another one. So there are
//! [`SPARE`] frames more than blocks, more than there are cores that could be taken off their processor in
//! the middle of a copy. What no block has ever been in takes no memory.

use crate::device::BLOCK_BYTES;
use crate::lock::RwLock;
use alloc::boxed::Box;
use hyperexo_abi::Page;

/// Frames beyond the capacity of the cache: most cores that may be stopped while they read.
pub(super) const SPARE: usize = 64;

/// Frames for blocks.
pub(super) struct Frames(Box<[Frame]>);

/// On cache lines of its own: reading one frame does not slow down the core that fills the next.
#[repr(align(64))]
struct Frame(RwLock<Contents>);

struct Contents {
    /// Which block it holds.
    block: u64,
    /// Not aligned to pages, as no device sees it: copies between places that are equal but for their page
    /// are slow.
    bytes: Option<Box<[u8; BLOCK_BYTES]>>,
}

impl Frames {
    /// For so many blocks.
    pub(super) fn new(blocks: usize) -> Frames {
        let frame = |_| Frame(RwLock::new(Contents { block: u64::MAX, bytes: None }));
        Frames((0..blocks + SPARE).map(frame).collect())
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Copies bytes of a block from a frame, from `offset` in the block on. `false`, if the frame holds
    /// another block or is being written.
    #[inline]
    pub(super) fn copy(&self, frame: usize, block: u64, offset: usize, into: &mut [u8]) -> bool {
        let Some(contents) = self.0[frame].0.try_read() else { return false };
        match &contents.bytes {
            Some(bytes) if contents.block == block => {
                into.copy_from_slice(&bytes[offset..offset + into.len()]);
                true
            }
            _ => false,
        }
    }

    /// Puts a block into a frame. `false` if somebody is still reading what is there.
    pub(super) fn fill(&self, frame: usize, block: u64, from: &Page) -> bool {
        let Some(mut contents) = self.0[frame].0.try_write() else { return false };
        contents.block = block;
        contents.bytes.get_or_insert_with(|| Box::new([0; BLOCK_BYTES])).copy_from_slice(&from.0);
        true
    }

    /// Changes part of the block in a frame. `false` if somebody is reading it.
    pub(super) fn change(&self, frame: usize, offset: usize, from: &[u8]) -> bool {
        let Some(mut contents) = self.0[frame].0.try_write() else { return false };
        if let Some(bytes) = &mut contents.bytes {
            bytes[offset..offset + from.len()].copy_from_slice(from);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn any_part_is_copied() {
        let frames = Frames::new(2);
        let page = Page(core::array::from_fn(|at| (at * 7 % 251) as u8));
        assert!(frames.fill(1, 5, &page));
        for (offset, bytes) in [(0, BLOCK_BYTES), (3, 9), (4090, 6), (17, 0)] {
            let mut into = vec![0; bytes];
            assert!(frames.copy(1, 5, offset, &mut into));
            assert_eq!(into, page.0[offset..offset + bytes], "{bytes} bytes from {offset} on");
        }
        assert!(!frames.copy(1, 6, 0, &mut [0; 8]), "another block");
        assert!(!frames.copy(0, 5, 0, &mut [0; 8]), "another frame");
        assert!(frames.change(1, 4000, b"new"));
        let mut into = [0; 5];
        assert!(frames.copy(1, 5, 3999, &mut into));
        assert_eq!(into, [page.0[3999], b'n', b'e', b'w', page.0[4003]]);
    }

    #[test]
    fn a_reader_that_is_stopped_keeps_its_frame_only() {
        let frames = Frames::new(1);
        assert!(frames.fill(0, 5, &Page([5; BLOCK_BYTES])));
        let reading = frames.0[0].0.read();
        assert!(!frames.fill(0, 6, &Page([6; BLOCK_BYTES])), "it is being read");
        assert!(!frames.change(0, 0, b"new"));
        assert!(frames.copy(0, 5, 0, &mut [0; 8]), "others read it, too");
        assert!(frames.fill(1, 6, &Page([6; BLOCK_BYTES])));
        drop(reading);
        assert!(frames.fill(0, 6, &Page([6; BLOCK_BYTES])));
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
                while !frames.fill(0, block as u64, &pages[block]) {
                    std::thread::yield_now();
                }
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
