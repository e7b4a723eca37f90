//! Descriptor tables of the kernel's cores, and the stacks of their traps.

use alloc::boxed::Box;
use hyperexo_hw::descriptor::{CoreTables, TrapStacks};

/// Bytes of each of the stacks on which interrupts and exceptions of the kernel run.
const TRAP_STACK_BYTES: u64 = 16 << 10;

/// Loads the descriptor tables of this core.
///
/// # Safety
///
/// Ring 0; the stacks are this core's alone, for ever.
pub unsafe fn load_tables(stacks: TrapStacks) {
    let tables = Box::leak(Box::new(CoreTables::new()));
    // SAFETY: leaked, hence static; the stacks are nobody else's (caller).
    unsafe { tables.load(stacks) };
}

/// Stacks for the traps of the first core.
pub fn trap_stacks() -> TrapStacks {
    let stack = || {
        let words = alloc::vec![0u128; (TRAP_STACK_BYTES / 16) as usize].leak();
        words.as_ptr_range().end as u64
    };
    TrapStacks { exception: stack(), interrupt: stack(), critical: stack() }
}
