//! How often blocks were used lately, roughly, in a few bits for each.

use alloc::vec;
use alloc::vec::Vec;

/// Counters in a word, of 4 bits each.
const COUNTERS: u64 = 16;

/// The lower three bits of each counter.
const HALVED: u64 = 0x7777_7777_7777_7777;

/// Counters that a block has.
const ROWS: u64 = 4;

/// References for each block of the cache after which all counters are halved.
const SAMPLE: u64 = 10;

/// A count-min sketch (G. Cormode, S. Muthukrishnan, Journal of Algorithms 55(1), 2005) that forgets: each
/// block has four counters that it shares with others, and the lowest is its estimate, up to 15, never too
/// low but for aging. After ten references for each block of the cache all counters are halved (Einziger,
/// Friedman, Manes, "TinyLFU", section 3.3).
///
/// 8 to 16 bytes for each block that the cache may hold.
#[derive(Default)]
pub(super) struct Sketch {
    /// A power of two of words.
    words: Vec<u64>,
    references: u64,
    period: u64,
}

impl Sketch {
    /// An empty sketch for a cache of so many blocks.
    pub(super) fn for_blocks(blocks: usize) -> Sketch {
        let blocks = blocks.max(16);
        Sketch { words: vec![0; blocks.next_power_of_two()], references: 0, period: SAMPLE * blocks as u64 }
    }

    /// Word and shift of each counter of a block. Each row has four of the counters of a word to itself.
    fn counters(&self, block: u64) -> [(usize, u64); ROWS as usize] {
        let mut bits = (block ^ block >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let mask = self.words.len().saturating_sub(1) as u64;
        core::array::from_fn(|row| {
            let row = row as u64;
            let own = bits.rotate_left(16 * row as u32).wrapping_mul(2 * row + 1);
            let counter = ROWS * row + (own >> 60) % (COUNTERS / ROWS);
            ((own & mask) as usize, 4 * counter)
        })
    }

    /// A use of a block.
    pub(super) fn count(&mut self, block: u64) {
        for (word, shift) in self.counters(block) {
            if let Some(word) = self.words.get_mut(word)
                && *word >> shift & 15 < 15
            {
                *word += 1 << shift;
            }
        }
        self.references += 1;
        if self.references >= self.period {
            self.references /= 2;
            self.words.iter_mut().for_each(|word| *word = *word >> 1 & HALVED);
        }
    }

    /// Uses of a block, from 0 to 15.
    pub(super) fn estimate(&self, block: u64) -> u64 {
        let counters = self.counters(block).into_iter();
        counters
            .map(|(word, shift)| self.words.get(word).map_or(0, |word| word >> shift & 15))
            .min()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_not_too_low_and_rarely_too_high() {
        let mut sketch = Sketch::for_blocks(1000);
        for block in 0..1000u64 {
            (0..block % 8).for_each(|_| sketch.count(block));
        }
        let too_high = (0..1000).filter(|block| sketch.estimate(*block) > block % 8).count();
        assert!((0..1000).all(|block| sketch.estimate(block) >= block % 8));
        assert!(too_high < 50, "{too_high} of 1000");
    }

    #[test]
    fn counters_end_at_15_and_are_halved_in_time() {
        let mut sketch = Sketch::for_blocks(16);
        (0..100).for_each(|_| sketch.count(7));
        assert_eq!(sketch.estimate(7), 15);
        (0..60).for_each(|_| sketch.count(8));
        assert_eq!(sketch.estimate(7), 7);
    }
}
