//! Exceptions and interrupts of the unikernel: handlers by vector, called inside the image without any exit.
//!
//! A handler runs on the interrupted stack, below the red zone, with interrupts disabled. It may change every
//! register of its [`TrapFrame`]. If nobody handles an exception, or the interrupted stack has no room for a
//! handler, the unikernel ends with a report and [`UNHANDLED_EXIT_CODE`].
//!
//! Where that takes too long: [`super::quick`].
//!
//! Handlers are common to all cores. One runs on the core whose trap it is, perhaps on several at the same
//! time.

use super::{quick, upcall};
use crate::platform;
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, Ordering};
use hyperexo_hw::descriptor::{CoreTables, TrapStacks};
use hyperexo_hw::trap as hw;
use spin::Once;

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

/// Reports a trap that nobody handles, and ends the unikernel.
pub(crate) type Report = fn(&TrapFrame) -> !;

/// The report in force, set before the first trap.
static REPORT: Once<Report> = Once::new();

/// Looks at a page fault before the program's handler does. `None`: it is the program's.
pub(crate) type PageFaults = fn(&mut TrapFrame) -> Option<Handled>;

/// Who looks, set before the first trap.
static PAGE_FAULTS: Once<PageFaults> = Once::new();

/// Makes `handler` responsible for a vector. The handler before stays allocated, as it may be running.
///
/// The vectors from [`hyperexo_abi::upcall::VECTOR`] on that interrupt for the platform are the library's:
/// handlers for them are never called.
pub fn set_handler(vector: u8, handler: impl Fn(&mut TrapFrame) -> Handled + Send + Sync + 'static) {
    let stored: Stored = Box::new(handler);
    HANDLERS[usize::from(vector)].store(Box::into_raw(Box::new(stored)), Ordering::Release);
}

/// Leaves a vector without a handler: its traps end the unikernel.
pub fn clear_handler(vector: u8) {
    HANDLERS[usize::from(vector)].store(core::ptr::null_mut(), Ordering::Release);
}

/// Loads the descriptor tables of the first virtual CPU and enables interrupts. Traps that nobody handles go
/// to `report`; `page_faults` looks at page faults first.
///
/// # Safety
///
/// Called once. All stacks are mapped for good; `stack` is the one in use, and `traps` have no other use.
pub(crate) unsafe fn start(traps: TrapStacks, stack: Range<u64>, report: Report, page_faults: PageFaults) {
    static mut TABLES: CoreTables = CoreTables::new();
    REPORT.call_once(|| report);
    PAGE_FAULTS.call_once(|| page_faults);
    hw::set_dispatcher(dispatch);
    // SAFETY: this is the only use of the static, as the function is called once. The rest is the caller's
    // promise.
    unsafe {
        let tables = &raw mut TABLES;
        load(&mut *tables, traps, 0, stack);
        platform::current().core_runs(0);
        hw::enable_interrupts();
    }
}

/// Loads the descriptor tables of the calling virtual CPU, which has this number. Handlers will run on
/// `stack`.
///
/// # Safety
///
/// All stacks are mapped for good and belong to this virtual CPU.
pub(crate) unsafe fn load(
    tables: &'static mut CoreTables,
    traps: TrapStacks,
    number: usize,
    stack: Range<u64>,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        tables.load_numbered(traps, number);
        quick::note_gates();
        hw::set_interrupted_stack(stack.start, stack.end, HANDLER_ROOM_BYTES);
    }
}

fn dispatch(frame: &mut TrapFrame) {
    if frame.vector >= FIRST_INTERRUPT
        && let Some(causes) = platform::current().interrupt(frame.vector as u8)
    {
        upcall::dispatch(causes);
        return upcall::end(hw::on_trap_stack(frame));
    }
    if frame.vector < FIRST_INTERRUPT && hw::on_trap_stack(frame) {
        // The interrupted stack is full, or the vector is one that can come at any time: a handler has no
        // place to run.
        report(frame);
    }
    if frame.vector == u64::from(PAGE_FAULT)
        && let Some(handled) = PAGE_FAULTS.get().and_then(|answer| answer(frame))
    {
        return if handled == Handled::No {
            report(frame)
        };
    }
    let stored = HANDLERS[frame.vector as usize & 255].load(Ordering::Acquire);
    // SAFETY: only `set_handler` stores a pointer that is not null, to a box that is never freed.
    let handler = unsafe { stored.as_ref() };
    match handler.map_or(Handled::No, |handler| handler(frame)) {
        Handled::Yes => (),
        Handled::No => report(frame),
    }
}

fn report(frame: &TrapFrame) -> ! {
    match REPORT.get() {
        Some(report) => report(frame),
        None => platform::current().exit(UNHANDLED_EXIT_CODE),
    }
}
