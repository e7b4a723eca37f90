//! Exceptions and interrupts of the unikernel: handlers by vector, dispatched inside the image without any
//! exit.
//!
//! A handler runs on the interrupted stack, below the red zone, with interrupts disabled, and may change
//! every register of its [`TrapFrame`]. If nobody handles an exception, or the interrupted stack has no room
//! for a handler, the unikernel ends with a report and [`UNHANDLED_EXIT_CODE`].
//!
//! Handlers are common to all cores; one runs on the core whose trap it is, perhaps on several at the same
//! time.

use crate::{memory, panic, platform, upcall};
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, Ordering};
use hyperexo_hw::descriptor::{CoreTables, TrapStacks};
use hyperexo_hw::trap as hw;

pub use hyperexo_hw::trap::{
    BREAKPOINT, DIVIDE, DOUBLE_FAULT, GENERAL_PROTECTION, INVALID_OPCODE, PAGE_FAULT, TrapFrame,
    fault_address, vector_name,
};

/// Exit code of a unikernel that ends by an exception nobody handles.
pub const UNHANDLED_EXIT_CODE: u32 = 102;

/// Bytes of the interrupted stack that must be left for a handler to run on it.
const HANDLER_ROOM_BYTES: u64 = 4096;

/// Vectors from here on are interrupts, below it exceptions.
const FIRST_INTERRUPT: u64 = 32;

/// Whether a handler has dealt with a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Execution goes on with the registers of the frame.
    Yes,
    /// The unikernel ends with a report.
    No,
}

/// What is stored for a vector: a fat pointer behind a thin one, so that it can be replaced atomically.
type Stored = Box<dyn Fn(&mut TrapFrame) -> Handled + Send + Sync>;

static HANDLERS: [AtomicPtr<Stored>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];

/// Makes `handler` responsible for a vector, instead of the one before, which stays allocated: it may be
/// running.
///
/// The vectors of the platform's interrupts, from [`hyperexo_abi::upcall::VECTOR`] on, are the library's;
/// handlers for them are never called.
pub fn set_handler(vector: u8, handler: impl Fn(&mut TrapFrame) -> Handled + Send + Sync + 'static) {
    let stored: Stored = Box::new(handler);
    HANDLERS[usize::from(vector)].store(Box::into_raw(Box::new(stored)), Ordering::Release);
}

/// Leaves a vector without a handler: its traps end the unikernel.
pub fn clear_handler(vector: u8) {
    HANDLERS[usize::from(vector)].store(core::ptr::null_mut(), Ordering::Release);
}

/// Loads the descriptor tables and enables interrupts.
///
/// # Safety
/// To be called once, in the address space that [`memory::start`] has built, with the stacks it returned.
pub(crate) unsafe fn start(stacks: TrapStacks) {
    static mut TABLES: CoreTables = CoreTables::new();
    hw::set_dispatcher(dispatch);
    // SAFETY: this is the only use of the static, as the function is called once. The stacks are mapped for
    // good and have no other use; the start-up stack is mapped for good too.
    unsafe {
        let tables = &raw mut TABLES;
        load(&mut *tables, stacks, 0, memory::main_stack());
        platform::current().core_runs(0);
        hw::enable_interrupts();
    }
}

/// Loads the descriptor tables of the calling virtual CPU, whose number this is; handlers will run on
/// `stack`.
///
/// # Safety
/// In the address space that [`memory::start`] has built; all stacks are mapped for good and are this virtual
/// CPU's.
pub(crate) unsafe fn load(
    tables: &'static mut CoreTables,
    traps: TrapStacks,
    number: usize,
    stack: Range<u64>,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        tables.load_numbered(traps, number);
        hw::set_interrupted_stack(stack.start, stack.end, HANDLER_ROOM_BYTES);
    }
}

fn dispatch(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT
        && let Some(causes) = platform::current().interrupt(frame.vector as u8)
    {
        return upcall::dispatch(causes);
    }
    if frame.vector < FIRST_INTERRUPT && hw::on_trap_stack(frame) {
        // The interrupted stack is full, or the vector one that can come at any time: no place for a handler.
        panic::unhandled_trap(frame);
    }
    let stored = HANDLERS[frame.vector as usize & 255].load(Ordering::Acquire);
    // SAFETY: only `set_handler` stores a pointer that is not null, to a box that is never freed.
    let handler = unsafe { stored.as_ref() };
    match handler.map_or(Handled::No, |handler| handler(frame)) {
        Handled::Yes => (),
        Handled::No => panic::unhandled_trap(frame),
    }
}
