//! A sample of a reference string, whose misses tell those of the whole.

use super::string::{Numbering, ReferenceString, TooLong};
use alloc::vec::Vec;

/// What limits a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleLimit {
    /// This share of all blocks, more than 0 and at most 1.
    Rate(f64),
    /// So many distinct blocks and references at most. The share begins at 1, and falls when there are more.
    Memory {
        /// Distinct blocks.
        blocks: usize,
        /// References.
        references: usize,
    },
}

/// By how much the share falls when a sample has become too large. Sorting out takes time in proportion to
/// the sample, and so does what comes in until it is next too large.
const FALL: f64 = 0.75;

/// Takes a sample of a reference string while it is read: all references to some blocks, chosen by a hash of
/// their numbers (C. Waldspurger, N. Park, A. Garthwaite, I. Ahmad, "Efficient MRC construction with SHARDS",
/// FAST 2015). Under every policy that does not look at block numbers, a cache of a hundredth of the size
/// then misses about a hundredth as often on a hundredth of the blocks (C. Waldspurger, T. Saemundsson, I.
/// Ahmad, N. Park, "Cache modeling and optimization using miniature simulations", USENIX ATC 2017).
///
/// Where SHARDS of fixed size scales what it counted before the share fell, here all references to the blocks
/// that fell out are left out: the sample is at any time the one of its present share.
///
/// ```
/// use libos_fs::cache::{SampleLimit, Sampler};
///
/// let mut sampler = Sampler::new(SampleLimit::Memory { blocks: 100, references: 1000 }, 0);
/// (0..10_000).for_each(|step| sampler.push(step % 5000).unwrap());
/// let sample = sampler.finish();
/// assert!(sample.string.blocks().len() <= 100 && sample.string.blocks().len() > 50);
/// assert_eq!(sample.references, 10_000);
/// assert!((sample.distinct() / 5000.0 - 1.0).abs() < 0.3);
/// ```
pub struct Sampler {
    choice: Choice,
    /// Most blocks and references.
    most: (usize, usize),
    numbering: Numbering,
    references: u64,
}

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// References of the whole string.
    pub references: u64,
    /// The references to the blocks that were chosen.
    pub string: ReferenceString,
    choice: Choice,
}

/// Which blocks are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    seed: u64,
    /// The largest hash of a block that is chosen.
    largest: u64,
}

impl Choice {
    /// All bits of a block's number in all bits of the hash: the last steps of SplitMix64 (G. Steele, D. Lea,
    /// C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    #[inline]
    fn hash(self, block: u64) -> u64 {
        let mut bits = block ^ self.seed;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    #[inline]
    fn takes(self, block: u64) -> bool {
        self.hash(block) <= self.largest
    }

    /// Share of the blocks, in the long run.
    fn rate(self) -> f64 {
        (self.largest as f64 + 1.0) / (u64::MAX as f64 + 1.0)
    }

    fn set_rate(&mut self, rate: f64) {
        // Saturates: a share of 1 takes all.
        self.largest = (rate * u64::MAX as f64) as u64;
    }
}

impl Sampler {
    /// A sample within a limit. Different seeds choose different blocks.
    pub fn new(limit: SampleLimit, seed: u64) -> Sampler {
        // The hash of 0 is 0: without a seed of its own, block 0 would be in every sample.
        let seed = Choice { seed: 0, largest: 0 }.hash(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut choice = Choice { seed, largest: u64::MAX };
        let most = match limit {
            SampleLimit::Rate(rate) => {
                choice.set_rate(rate);
                (usize::MAX, usize::MAX)
            }
            SampleLimit::Memory { blocks, references } => (blocks.max(1), references.max(1)),
        };
        Sampler { choice, most, numbering: Numbering::default(), references: 0 }
    }

    /// The next reference.
    ///
    /// # Errors
    ///
    /// [`TooLong`]: the sample has become too large, which a limit of memory keeps it from.
    #[inline]
    pub fn push(&mut self, block: u64) -> Result<(), TooLong> {
        self.references += 1;
        if self.choice.takes(block) { self.take(block) } else { Ok(()) }
    }

    /// References of the whole string so far.
    pub fn references(&self) -> u64 {
        self.references
    }

    fn take(&mut self, block: u64) -> Result<(), TooLong> {
        self.numbering.push(block)?;
        let (blocks, references) = self.most;
        let too_large = |numbering: &Numbering| {
            let string = numbering.string();
            string.blocks().len() > blocks || string.numbers().len() > references
        };
        while too_large(&self.numbering) {
            self.choice.set_rate(self.choice.rate() * FALL);
            let choice = self.choice;
            self.numbering.retain(|block| choice.takes(block));
        }
        Ok(())
    }

    /// The sample.
    pub fn finish(self) -> Sample {
        Sample { references: self.references, string: self.numbering.finish(), choice: self.choice }
    }
}

impl Sample {
    /// Share of the blocks that were chosen, in the long run.
    pub fn rate(&self) -> f64 {
        self.choice.rate()
    }

    /// Distinct blocks of the whole string, estimated.
    pub fn distinct(&self) -> f64 {
        self.string.blocks().len() as f64 / self.rate()
    }

    /// The sample in so many parts, chosen by other bits of the same hash: each is a sample of its own, of a
    /// share as much smaller.
    pub fn parts(&self, count: usize) -> Vec<ReferenceString> {
        let part_of = |block: &u64| (self.choice.hash(*block) as u32 as usize) % count.max(1);
        let parts: Vec<u32> = self.string.blocks().iter().map(|block| part_of(block) as u32).collect();
        (0..count as u32)
            .map(|part| {
                let mut numbering = Numbering::default();
                let numbers = self.string.numbers().iter().map(|number| *number as usize);
                for number in numbers.filter(|number| parts[*number] == part) {
                    // As long as the whole at most.
                    let _ = numbering.push(self.string.blocks()[number]);
                }
                numbering.finish()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(limit: SampleLimit, seed: u64, references: impl Iterator<Item = u64>) -> Sample {
        let mut sampler = Sampler::new(limit, seed);
        references.for_each(|block| sampler.push(block).unwrap());
        sampler.finish()
    }

    fn references() -> impl Iterator<Item = u64> + Clone {
        (0..60_000u64).map(|step| step * step % 20_011)
    }

    #[test]
    fn a_sample_has_all_references_to_its_blocks_in_order() {
        for limit in [SampleLimit::Rate(0.1), SampleLimit::Memory { blocks: 300, references: 5000 }] {
            let sample = sample(limit, 1, references());
            let chosen = sample.string.blocks();
            let all = references().filter(|block| chosen.contains(block));
            assert!(!chosen.is_empty() && all.eq(sample.string.references()), "{limit:?}");
            assert_eq!(sample.references, 60_000);
        }
    }

    #[test]
    fn a_sample_keeps_its_limit_and_tells_how_many_blocks_there_are() {
        let distinct = ReferenceString::of(references()).unwrap().blocks().len() as f64;
        for seed in 0..20 {
            let by_rate = sample(SampleLimit::Rate(0.1), seed, references());
            let limit = SampleLimit::Memory { blocks: 400, references: 1 << 20 };
            let by_memory = sample(limit, seed, references());
            assert!((200..=400).contains(&by_memory.string.blocks().len()), "{:?}", by_memory.rate());
            let limit = SampleLimit::Memory { blocks: 1 << 20, references: 3000 };
            let by_references = sample(limit, seed, references());
            assert!((1000..=3000).contains(&by_references.string.numbers().len()));
            for sample in [by_rate, by_memory, by_references] {
                assert!(
                    (sample.distinct() / distinct - 1.0).abs() < 0.3,
                    "{} of {distinct}",
                    sample.distinct()
                );
            }
        }
    }

    #[test]
    fn all_is_a_sample() {
        let memory = SampleLimit::Memory { blocks: 1 << 20, references: 1 << 20 };
        for limit in [SampleLimit::Rate(1.0), memory] {
            let sample = sample(limit, 7, references().chain([u64::MAX]));
            assert_eq!(Some(&sample.string), ReferenceString::of(references().chain([u64::MAX])).as_ref());
            assert_eq!(sample.rate(), 1.0);
        }
    }

    #[test]
    fn parts_are_about_equal_and_together_the_sample() {
        let sample = sample(SampleLimit::Rate(0.2), 3, references());
        let parts = sample.parts(8);
        let blocks: usize = parts.iter().map(|part| part.blocks().len()).sum();
        let length: usize = parts.iter().map(|part| part.numbers().len()).sum();
        assert_eq!((blocks, length), (sample.string.blocks().len(), sample.string.numbers().len()));
        assert!(parts.iter().all(|part| part.blocks().len() * 8 > blocks / 2), "{blocks}");
    }
}
