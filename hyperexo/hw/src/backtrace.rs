//! Return addresses by walking frame pointers.
//!
//! The walk trusts nothing: every frame pointer must be aligned, lie in the stack, and be higher than the one
//! before; every return address must lie in the program. So it ends on any damage, and always ends.

use core::arch::asm;
use core::ops::Range;

/// Walks from frame to frame; yields return addresses, innermost first.
#[derive(Clone, Debug)]
pub struct Backtrace<R> {
    frame_pointer: u64,
    stack: Range<u64>,
    text: Range<u64>,
    read: R,
}

impl<R: Fn(u64) -> u64> Backtrace<R> {
    /// A walk that starts with the frame at `frame_pointer`. `read` gets only addresses of words that lie in
    /// `stack` entirely and are multiples of 8.
    pub fn new(frame_pointer: u64, stack: Range<u64>, text: Range<u64>, read: R) -> Backtrace<R> {
        Backtrace { frame_pointer, stack, text, read }
    }
}

impl<R: Fn(u64) -> u64> Iterator for Backtrace<R> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let frame = self.frame_pointer;
        let end = frame.checked_add(16)?;
        if !frame.is_multiple_of(8) || frame < self.stack.start || end > self.stack.end {
            return None;
        }
        let return_address = (self.read)(frame + 8);
        if !self.text.contains(&return_address) {
            return None;
        }
        self.stack.start = end;
        self.frame_pointer = (self.read)(frame);
        Some(return_address)
    }
}

/// A [`Backtrace`] over the memory of the running image.
///
/// # Safety
///
/// `stack` must be mapped readable during the walk.
pub unsafe fn of_memory(
    frame_pointer: u64,
    stack: Range<u64>,
    text: Range<u64>,
) -> Backtrace<impl Fn(u64) -> u64> {
    // SAFETY: a `Backtrace` reads aligned words of `stack` only, and the caller vouches for those.
    Backtrace::new(frame_pointer, stack, text, |address| unsafe { (address as *const u64).read_volatile() })
}

/// The frame pointer of the calling function (if it is not inlined; else of the function it is part of).
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const BASE: u64 = 0x7000;

    /// Walks a stack of the given words at `BASE`, of a program at 0x1000..0x2000.
    fn walk(start: u64, words: &[u64]) -> Vec<u64> {
        let stack = BASE..BASE + 8 * words.len() as u64;
        Backtrace::new(start, stack, 0x1000..0x2000, |address| words[(address - BASE) as usize / 8]).collect()
    }

    #[test]
    fn follows_the_chain_to_its_end() {
        let words = [BASE + 24, 0x1001, 77, BASE + 40, 0x1002, 0, 0x1fff];
        assert_eq!(walk(BASE, &words), [0x1001, 0x1002, 0x1fff]);
    }

    #[test]
    fn ends_on_a_loop_and_on_a_step_back() {
        assert_eq!(walk(BASE, &[BASE, 0x1001]), [0x1001]);
        assert_eq!(walk(BASE + 16, &[0, 0x1002, BASE, 0x1001]), [0x1001]);
    }

    #[test]
    fn ends_outside_the_stack_and_off_alignment() {
        assert_eq!(walk(BASE - 8, &[0, 0x1001]), []);
        assert_eq!(walk(BASE + 8, &[0, 0x1001]), []);
        assert_eq!(walk(u64::MAX - 7, &[0, 0x1001]), []);
        assert_eq!(walk(BASE + 4, &[0, 0x1001, 0]), []);
        assert_eq!(walk(BASE, &[BASE + 9, 0x1001, 0, 0]), [0x1001]);
    }

    #[test]
    fn ends_at_a_return_address_outside_the_program() {
        assert_eq!(walk(BASE, &[BASE + 16, 0x2000, 0, 0x1001]), []);
        assert_eq!(walk(BASE, &[BASE + 16, 0x1001, 0, 0xfff]), [0x1001]);
    }
}
