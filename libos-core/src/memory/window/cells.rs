//! Words of paged memory, read and written one at a time.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Numbers that paged memory can be read and written as: `u8`, `u16`, `u32`, `u64`, `f64`.
///
/// The trait is sealed.
pub trait Word: Copy + sealed::Sealed {
    /// What it is in memory.
    #[doc(hidden)]
    type Atomic;
    #[doc(hidden)]
    fn load(from: &Self::Atomic) -> Self;
    #[doc(hidden)]
    fn store(self, to: &Self::Atomic);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! word {
    ($($word:ty, $atomic:ty, $from:expr, $to:expr;)*) => {$(
        impl sealed::Sealed for $word {}
        impl Word for $word {
            type Atomic = $atomic;
            #[inline(always)]
            fn load(from: &$atomic) -> $word {
                $from(from.load(Ordering::Relaxed))
            }
            #[inline(always)]
            fn store(self, to: &$atomic) {
                to.store($to(self), Ordering::Relaxed);
            }
        }
    )*};
}

word! {
    u8, AtomicU8, core::convert::identity, core::convert::identity;
    u16, AtomicU16, core::convert::identity, core::convert::identity;
    u32, AtomicU32, core::convert::identity, core::convert::identity;
    u64, AtomicU64, core::convert::identity, core::convert::identity;
    f64, AtomicU64, f64::from_bits, f64::to_bits;
}

/// Words of a [`Window`](super::Window). They stay on the core that has the window.
pub struct Cells<'w, W: Word> {
    words: &'w [W::Atomic],
    /// Other cores have translations of their own, which nobody would end.
    stays: PhantomData<*const ()>,
}

impl<W: Word> Clone for Cells<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: Word> Copy for Cells<'_, W> {}

impl<'w, W: Word> Cells<'w, W> {
    /// # Safety
    ///
    /// So many words are there, aligned, for as long as `'w`, and everybody uses them as atomics.
    pub(super) unsafe fn new(first: *const W::Atomic, words: usize) -> Cells<'w, W> {
        // SAFETY: by the caller's promise.
        Cells { words: unsafe { core::slice::from_raw_parts(first, words) }, stays: PhantomData }
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Reads a word.
    ///
    /// # Panics
    ///
    /// If there is no such word. So does [`Cells::set`].
    #[inline(always)]
    pub fn get(&self, at: usize) -> W {
        W::load(&self.words[at])
    }

    /// Writes a word.
    #[inline(always)]
    pub fn set(&self, at: usize, word: W) {
        word.store(&self.words[at]);
    }

    /// Some of them.
    ///
    /// # Panics
    ///
    /// If there are no such words.
    #[inline]
    pub fn part(&self, range: Range<usize>) -> Cells<'w, W> {
        Cells { words: &self.words[range], stays: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_was_written() {
        let memory = [const { AtomicU64::new(0) }; 8];
        // SAFETY: the words are there, as atomics.
        let (floats, words) = unsafe { (Cells::<f64>::new(&memory[0], 8), Cells::<u64>::new(&memory[0], 8)) };
        floats.set(3, -0.5);
        words.set(7, u64::MAX);
        assert_eq!((floats.get(3), words.get(3)), (-0.5, (-0.5f64).to_bits()));
        let part = words.part(6..8);
        assert_eq!((part.len(), part.get(1), part.is_empty()), (2, u64::MAX, false));
    }
}
