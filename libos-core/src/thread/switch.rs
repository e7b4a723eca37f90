//! From one stack to another.
//!
//! A thread that is not running has six registers on its stack, and its stack pointer in its [`Control`]
//! (`saved`). These are the registers that a function must leave as they were (System V ABI); all others
//! are nobody's at a call. So they are saved by who calls, and for a thread that is interrupted by the entry
//! of the trap, SSE state included ([`hyperexo_hw::trap`]). `MXCSR`, the x87 state and MMX registers are not
//! touched: no Rust code changes them, and all threads have the same.
//!
//! [`Control`]: super::control::Control

use core::arch::naked_asm;

/// Words that [`switch`] pops: registers, then the address at which to go on.
const WORDS: usize = 7;

/// Keeps the caller's stack pointer at `from` and goes on where the owner of stack pointer `to` stopped.
/// Returns when somebody switches back. 16 instructions.
///
/// # Safety
///
/// `to` comes from a switch or from [`first_frame`], and is used once. The stack stays mapped, and nobody
/// switches to `from` before that has been written. Interrupts are disabled.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch(from: *mut u64, to: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Prepares a stack, so that a switch to the stack pointer that is returned goes on at `begin`.
///
/// # Safety
///
/// The words below `top`, a multiple of 16, are mapped and nobody's.
pub(super) unsafe fn first_frame(top: u64, begin: unsafe extern "C" fn() -> !) -> u64 {
    let first = top - 8 * (WORDS as u64 + 1);
    let frame: [u64; WORDS] = [0, 0, 0, 0, 0, 0, begin as *const () as u64];
    // SAFETY: by the caller's promise.
    unsafe { (first as *mut [u64; WORDS]).write(frame) };
    first
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::vec;

    static MAIN: AtomicU64 = AtomicU64::new(0);
    static OTHER: AtomicU64 = AtomicU64::new(0);
    static TURNS: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn other() -> ! {
        loop {
            TURNS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the other side waits in its own switch.
            unsafe { switch(OTHER.as_ptr(), MAIN.load(Ordering::Relaxed)) };
        }
    }

    #[test]
    fn two_stacks_take_turns_and_keep_their_registers() {
        let stack = vec![0_u128; 4096];
        let top = stack.as_ptr_range().end as u64;
        // SAFETY: the stack is ours, and large enough for what runs on it.
        OTHER.store(unsafe { first_frame(top, other) }, Ordering::Relaxed);
        let kept: [u64; 8] = core::hint::black_box([1, 2, 3, 4, 5, 6, 7, 8]);
        for turn in 1..=1000 {
            // SAFETY: the other side waits in a switch, or has not begun.
            unsafe { switch(MAIN.as_ptr(), OTHER.load(Ordering::Relaxed)) };
            assert_eq!(TURNS.load(Ordering::Relaxed), turn);
            assert_eq!(core::hint::black_box(kept).iter().sum::<u64>(), 36);
        }
    }
}
