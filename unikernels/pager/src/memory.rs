//! What a program needs of memory: arrays of words, and somebody who listens to what it knows.

use core::ops::Range;

/// Where arrays come from.
pub trait Memory {
    /// An array of words.
    type Array<'m>: Array
    where
        Self: 'm;

    /// An array of so many words, all 0. It begins a page.
    fn array(&self, words: usize) -> Self::Array<'_>;

    /// Pages that may be in memory at a time. `None` if nobody says.
    fn frames(&self) -> Option<usize> {
        None
    }
}

/// Words that may be in memory or outside, and what a program says of them. Ranges are of words; advice is
/// for the pages that they touch, but [`Array::discard`] for those that lie within.
pub trait Array {
    /// Reads a word.
    fn get(&self, at: usize) -> u64;
    /// Writes a word.
    fn set(&self, at: usize, word: u64);
    /// How many words there are.
    fn words(&self) -> usize;

    /// These will be used soon.
    fn will_need(&self, _words: Range<usize>) {}
    /// These will not be used soon.
    fn done_with(&self, _words: Range<usize>) {}
    /// These are used in order, once.
    fn sequential(&self, _words: Range<usize>) {}
    /// These are used in order, again and again.
    fn looping(&self, _words: Range<usize>) {}
    /// Nothing is known of these any more.
    fn normal(&self, _words: Range<usize>) {}
    /// Nobody wants to see again what is in these.
    fn discard(&self, _words: Range<usize>) {}

    /// All uses of these are foretold, as far as the program knows them: by [`Array::will_use`].
    fn tells_all_of(&self, _words: Range<usize>) {}
    /// This word will be used, after all that was foretold so far.
    fn will_use(&self, _at: usize) {}
    /// A foretold use of this word is over.
    fn has_used(&self, _at: usize) {}

    /// Whether a word is in memory. `None` if nobody says.
    fn is_in_memory(&self, _at: usize) -> Option<bool> {
        None
    }
}

/// The pages that words touch.
pub fn pages_touched(words: &Range<usize>) -> Range<u64> {
    (words.start / crate::PAGE_WORDS) as u64..words.end.div_ceil(crate::PAGE_WORDS) as u64
}

/// The pages that lie within words.
pub fn pages_within(words: &Range<usize>) -> Range<u64> {
    let start = words.start.div_ceil(crate::PAGE_WORDS) as u64;
    start..((words.end / crate::PAGE_WORDS) as u64).max(start)
}

/// A digest of an array (FNV-1a over words).
pub fn digest(array: &impl Array) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    (0..array.words()).map(|at| array.get(at)).fold(0xcbf2_9ce4_8422_2325, step)
}

/// Numbers from a fixed sequence.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    /// The next number (splitmix64, S. Vigna, public domain).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_words_are_pages() {
        assert_eq!((pages_touched(&(0..512)), pages_within(&(0..512))), (0..1, 0..1));
        assert_eq!((pages_touched(&(511..1025)), pages_within(&(511..1025))), (0..3, 1..2));
        assert!(pages_within(&(513..600)).is_empty() && pages_touched(&(7..7)).end <= 1);
    }
}
