//! What tests of the whole kernel ask of the table of frames.

use super::*;

impl FrameTable {
    /// Nested tables that have an entry for a frame: entries of its own, and entries for its whole region.
    pub fn bindings(&self, frame: u64) -> (u64, u64) {
        let region = &self.regions[(frame / LARGE_FRAMES) as usize];
        (self.entries[frame as usize].bindings.into(), region.large_bindings.into())
    }

    /// Whether the free map has a frame.
    pub fn is_free(&self, frame: u64) -> bool {
        self.free_word(frame / 64) >> (frame % 64) & 1 != 0
    }

    /// How often a frame is pinned.
    pub fn pins(&self, frame: u64) -> u64 {
        self.entries[frame as usize].pins.into()
    }

    /// Checks the table against itself: map, counts, lists, regions.
    ///
    /// # Panics
    ///
    /// If two parts of it say different things.
    pub fn audit(&self) {
        let (mut free, mut kernel, mut owned) = (0, 0, [0u64; MAX_ENVIRONMENTS]);
        let is_next = |frame: usize, list: usize| {
            let before = match self.entries[frame].previous {
                NONE => self.first[list],
                previous => self.entries[previous as usize].next,
            };
            before as usize == frame
        };
        for (frame, entry) in self.entries.iter().enumerate() {
            let is_free = entry.owner == FREE;
            assert_eq!(self.is_free(frame as u64), is_free, "free map at {frame:#x}");
            match entry.owner {
                FREE => {
                    free += 1;
                    assert!(is_next(frame, FREE_LIST), "the list of free frames at {frame:#x}");
                }
                KERNEL => kernel += 1,
                ABSENT => assert_eq!((entry.pins, entry.bindings), (0, 0), "a hole at {frame:#x} is used"),
                LEAVING => assert!(entry.pins != 0 && entry.bindings == 0, "{frame:#x} leaves for no reason"),
                bits => {
                    let id = EnvironmentId::from_bits(bits);
                    owned[id.index()] += 1;
                    assert!(is_next(frame, id.index()), "the list of {id:?} at {frame:#x}");
                }
            }
            if is_free {
                assert_eq!((entry.pins, entry.bindings), (0, 0), "free frame {frame:#x} is used");
            }
            let kept = !matches!(entry.owner, FREE | KERNEL | ABSENT | LEAVING);
            assert_eq!(kept, entry.generation != NO_GENERATION, "generation of {frame:#x}");
        }
        assert_eq!((self.free, self.kernel_frames()), (free, kernel), "counts of free and kernel frames");
        assert_eq!(self.owned[1..], owned[1..], "counts of environments' frames");
        for (number, region) in self.regions.iter().enumerate() {
            let end = (number + 1) * LARGE_FRAMES as usize;
            let entries = &self.entries[number * LARGE_FRAMES as usize..end.min(self.entries.len())];
            let sum =
                |of: fn(&FrameEntry) -> u16| entries.iter().map(|entry| u32::from(of(entry))).sum::<u32>();
            assert_eq!(region.pins, sum(|entry| entry.pins), "pins of region {number}");
            assert_eq!(region.bindings, sum(|entry| entry.bindings), "bindings of region {number}");
            let uniform = entries.iter().all(|entry| entry.generation == region.generation);
            assert!(region.generation == NO_GENERATION || uniform, "region {number} is not uniform");
        }
    }
}
