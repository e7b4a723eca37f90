//! Memory before there is a frame table: which RAM is free, and a bump allocator over the best part of it.
#![forbid(unsafe_code)]

use hyperexo_abi::FRAME_BYTES;
use hyperexo_hw::boot::{Region, Regions};

/// Most gaps that are kept track of.
pub const MAX_GAPS: usize = 96;

/// Calls `gap` with every part of `memory`, cut to whole frames, that overlaps none of `taken`.
pub fn for_each_gap(memory: &[Region], taken: &[Region], mut gap: impl FnMut(Region)) {
    const FRAME: u64 = FRAME_BYTES as u64;
    for region in memory {
        let mut start = region.start.next_multiple_of(FRAME);
        let end = region.end / FRAME * FRAME;
        while start < end {
            let here = Region { start, end };
            // The taken region that begins first, among those in the way.
            match taken.iter().filter(|other| other.overlaps(&here)).min_by_key(|other| other.start) {
                None => {
                    gap(here);
                    break;
                }
                Some(other) => {
                    let before = Region { start, end: other.start / FRAME * FRAME };
                    if before.start < before.end {
                        gap(before);
                    }
                    start = other.end.next_multiple_of(FRAME).max(start + FRAME);
                }
            }
        }
    }
}

/// Most frames that are used: 512 GiB, as far as one table of the linear map reaches.
pub const MAX_FRAMES: u64 = 1 << 27;

/// One past the highest frame of RAM that is used.
pub fn end_frame(memory: &[Region]) -> u64 {
    let last = |region: &Region| (region.start / FRAME_BYTES as u64, region.end / FRAME_BYTES as u64);
    let below = memory.iter().map(last).filter(|(first, _)| *first < MAX_FRAMES);
    below.map(|(_, end)| end.min(MAX_FRAMES)).max().unwrap_or(0)
}

/// Hands out adjacent frames from the largest gap below `limit`, never to take them back.
pub struct Bump {
    next: u64,
    end: u64,
}

impl Bump {
    /// A bump allocator over the largest of the gaps below `limit` (bytes).
    pub fn new(gaps: &Regions<MAX_GAPS>, limit: u64) -> Bump {
        let cut = |gap: &Region| Region { start: gap.start, end: gap.end.min(limit) };
        let largest = gaps.as_slice().iter().map(cut).max_by_key(|gap| gap.end.saturating_sub(gap.start));
        let largest = largest.unwrap_or_default();
        Bump { next: largest.start, end: largest.end }
    }

    /// Address of `bytes` bytes in frames of their own; `None` when the gap is used up.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let start = self.next;
        let end = start.checked_add(bytes)?.checked_next_multiple_of(FRAME_BYTES as u64)?;
        if start == 0 || end > self.end {
            return None;
        }
        self.next = end;
        Some(start)
    }

    /// What has been handed out so far, beginning at `start`.
    pub fn used_since(&self, start: u64) -> Region {
        Region { start, end: self.next }
    }

    /// Where the next piece would begin.
    pub fn position(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_taken_is_cut_out() {
        let mut gaps = Vec::new();
        let memory = [Region { start: 0, end: 0x9fc00 }, Region { start: 0x100000, end: 0x200000 }];
        let taken = [
            Region { start: 0, end: 0x100000 },
            Region { start: 0x100000, end: 0x110001 },
            Region { start: 0x120800, end: 0x120900 },
        ];
        for_each_gap(&memory, &taken, |gap| gaps.push((gap.start, gap.end)));
        assert_eq!(gaps, [(0x111000, 0x120000), (0x121000, 0x200000)]);
    }

    #[test]
    fn the_largest_gap_is_handed_out_in_frames() {
        let mut gaps = Regions::default();
        gaps.push(Region { start: 0x1000, end: 0x3000 });
        gaps.push(Region { start: 0x10000, end: 0x80000 });
        let mut bump = Bump::new(&gaps, 0x14000);
        assert_eq!(bump.take(1), Some(0x10000));
        assert_eq!(bump.take(0x1001), Some(0x11000));
        assert_eq!(bump.take(0x1001), None);
        assert_eq!(bump.take(u64::MAX), None);
        assert_eq!(bump.take(0x1000), Some(0x13000));
        assert_eq!(bump.used_since(0x10000), Region { start: 0x10000, end: 0x14000 });
    }

    #[test]
    fn memory_beyond_what_is_mapped_makes_no_table_larger() {
        let region = |start: u64, end: u64| Region { start: start << 30, end: end << 30 };
        assert_eq!(end_frame(&[region(0, 2), region(1024, 2000)]), 2 << 18);
        assert_eq!(end_frame(&[region(0, 2), region(4, 600)]), MAX_FRAMES);
        assert_eq!(end_frame(&[]), 0);
    }

    proptest! {
        #[test]
        fn a_frame_is_in_a_gap_exactly_if_it_is_free_ram(
            memory in (0u64..50, 50u64..100),
            taken in prop::collection::vec((0u64..400_000, 1u64..60_000), 0..6),
        ) {
            let memory = [Region { start: memory.0 * 4096, end: memory.1 * 4096 }];
            let taken: Vec<_> = taken.into_iter().map(|(start, len)| Region { start, end: start + len }).collect();
            let mut free = [false; 100];
            for_each_gap(&memory, &taken, |gap| {
                for frame in gap.start / 4096..gap.end / 4096 {
                    assert!(!std::mem::replace(&mut free[frame as usize], true), "frame twice");
                }
            });
            for (frame, is_free) in free.iter().enumerate() {
                let here = Region { start: frame as u64 * 4096, end: (frame as u64 + 1) * 4096 };
                let expected = memory[0].overlaps(&here) && !taken.iter().any(|region| region.overlaps(&here));
                prop_assert_eq!(*is_free, expected);
            }
        }
    }
}
