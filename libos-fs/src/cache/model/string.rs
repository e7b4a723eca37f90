//! Reference strings whose blocks are numbered, and their simulation.

use super::fixed_set;
use super::simulation::admit;
use crate::cache::policies::{Cached, PolicyKind, ReplacementPolicy, Share, TakePolicy};
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// A reference string whose distinct blocks have numbers, from 0 on, in the order of their first use. So
/// simulators keep what they know of blocks in arrays. 4 bytes a reference, and 8 for each distinct block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceString {
    blocks: Vec<u64>,
    numbers: Vec<u32>,
}

impl ReferenceString {
    /// The string of these references; `None` if they are more than [`Numbering::MOST`].
    pub fn of(references: impl IntoIterator<Item = u64>) -> Option<ReferenceString> {
        let mut numbering = Numbering::default();
        references.into_iter().try_for_each(|block| numbering.push(block)).ok()?;
        Some(numbering.finish())
    }

    /// The distinct blocks, by their numbers.
    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    /// The number of the block of each reference, in order.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The block of each reference, in order.
    pub fn references(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
        self.numbers.iter().map(|number| self.blocks[*number as usize])
    }

    /// [`fixed_set_misses`](super::fixed_set_misses) of this string.
    pub fn fixed_set_misses(&self, sizes: &[usize]) -> Vec<u64> {
        let mut uses = vec![0; self.blocks.len()];
        self.numbers.iter().for_each(|number| uses[*number as usize] += 1);
        fixed_set::of_uses(sizes, uses)
    }

    /// Misses of a policy with these parameters (see [`PolicyKind::build_with`]) and so many buffers: those
    /// that [`simulate`](super::simulate) counts, in less time. `progress` is told now and then how many
    /// references were made.
    ///
    /// ```
    /// use libos_fs::PolicyKind;
    /// use libos_fs::cache::ReferenceString;
    ///
    /// let string = ReferenceString::of([1, 2, 3, 1, 2, 3]).unwrap();
    /// assert_eq!(string.misses(PolicyKind::Mru, &[], 2, &mut |_| ()), 4);
    /// ```
    pub fn misses(
        &self,
        kind: PolicyKind,
        values: &[Option<Share>],
        capacity: usize,
        progress: &mut dyn FnMut(u64),
    ) -> u64 {
        if capacity >= self.blocks.len() {
            // Nothing is ever replaced. Policies size their tables by the cache, which may be larger than the
            // memory there is.
            progress(self.numbers.len() as u64);
            return self.blocks.len() as u64;
        }
        kind.build_for(values, capacity, Replay { string: self, capacity, progress })
    }
}

/// Numbers the blocks of a reference string while it is read.
#[derive(Default)]
pub struct Numbering {
    number_of: HashMap<u64, u32>,
    string: ReferenceString,
}

/// A reference string has more references than can be numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Numbering {
    /// References that a string can have: positions are kept in 32 bits, of which some mean "never".
    pub const MOST: usize = u32::MAX as usize - 1;

    /// Appends a reference.
    ///
    /// # Errors
    ///
    /// [`TooLong`]: there are [`Numbering::MOST`] already.
    pub fn push(&mut self, block: u64) -> Result<(), TooLong> {
        if self.string.numbers.len() >= Numbering::MOST {
            return Err(TooLong);
        }
        let next = self.string.blocks.len() as u32;
        let number = *self.number_of.entry(block).or_insert(next);
        if number == next {
            self.string.blocks.push(block);
        }
        self.string.numbers.push(number);
        Ok(())
    }

    /// The string so far.
    pub fn string(&self) -> &ReferenceString {
        &self.string
    }

    /// Leaves out all references to blocks of which this does not hold.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let kept: Vec<bool> = self.string.blocks.iter().map(|block| keep(*block)).collect();
        let mut next = 0;
        let renumbered: Vec<u32> = kept
            .iter()
            .map(|kept| {
                next += u32::from(*kept);
                next.wrapping_sub(1)
            })
            .collect();
        self.string.numbers.retain(|number| kept[*number as usize]);
        self.string.numbers.iter_mut().for_each(|number| *number = renumbered[*number as usize]);
        let mut position = kept.iter();
        self.string.blocks.retain(|_| position.next() == Some(&true));
        self.number_of.clear();
        self.number_of.extend((0..).zip(&self.string.blocks).map(|(number, block)| (*block, number)));
    }

    /// The string.
    pub fn finish(self) -> ReferenceString {
        let mut string = self.string;
        string.blocks.shrink_to_fit();
        string.numbers.shrink_to_fit();
        string
    }
}

/// References between two reports of progress.
const REPORT_EVERY: usize = 1 << 16;

/// Slot of a block that is not in the cache.
const ABSENT: u32 = u32::MAX;

/// Replays a string under the policy it is given.
struct Replay<'s> {
    string: &'s ReferenceString,
    capacity: usize,
    progress: &'s mut dyn FnMut(u64),
}

impl TakePolicy for Replay<'_> {
    type Output = u64;

    fn take<P: ReplacementPolicy + 'static>(self, mut policy: P) -> u64 {
        let ReferenceString { blocks, numbers } = self.string;
        let mut slot_of = vec![ABSENT; blocks.len()];
        let mut held: Vec<u32> = Vec::with_capacity(self.capacity);
        let mut misses = 0;
        policy.resized(self.capacity);
        for part in numbers.chunks(REPORT_EVERY) {
            for number in part {
                let slot = slot_of[*number as usize];
                if slot != ABSENT {
                    policy.accessed(Cached { slot: slot as usize, block: blocks[*number as usize] });
                    continue;
                }
                misses += 1;
                let block_of = |number: u32| blocks[number as usize];
                if let Some((slot, evicted)) = admit(&mut policy, &mut held, self.capacity, *number, block_of)
                {
                    if let Some(old) = evicted {
                        slot_of[old as usize] = ABSENT;
                    }
                    slot_of[*number as usize] = slot as u32;
                }
            }
            (self.progress)(part.len() as u64);
        }
        misses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_was_never_there() {
        let references: Vec<u64> = (0..500).map(|step| step * step % 97).collect();
        let mut numbering = Numbering::default();
        references.iter().for_each(|block| numbering.push(*block).unwrap());
        let few = |block: u64| block % 3 == 1;
        numbering.retain(few);
        (0..9).for_each(|block| numbering.push(block).unwrap());
        let left = references.into_iter().filter(|block| few(*block)).chain(0..9);
        assert_eq!(Some(numbering.finish()), ReferenceString::of(left));
    }
}
