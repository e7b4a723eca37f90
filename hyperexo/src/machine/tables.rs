//! Descriptor tables of the kernel's cores.

use alloc::boxed::Box;
use hyperexo_hw::descriptor::{CoreTables, TrapStacks};

/// Frames of each of the stacks on which interrupts and exceptions of the kernel run, the guard page below
/// included.
pub const TRAP_STACK_FRAMES: u64 = 5;

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
