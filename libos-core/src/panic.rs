//! The end of a unikernel that can't go on: a report on the console, and an exit code.
//!
//! ```text
//! panic at src/main.rs:12:5: message
//!   #0 0x101234
//!   #1 0x100777
//! ```
//!
//! The addresses are return addresses. The host tool turns them into names. A trap that nobody handles is
//! reported with its registers, and `#0` is the instruction itself.

use crate::cpu::cores;
use crate::cpu::lock::{self, Claimed, Holder};
use crate::cpu::trap::{self, PAGE_FAULT, TrapFrame, UNHANDLED_EXIT_CODE};
use crate::io::console;
use crate::memory::{self, heap};
use crate::{platform, println, thread};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};
use hyperexo_hw::descriptor::core_number;
use hyperexo_hw::{backtrace, trap as hw};

/// Exit code of a unikernel that panics.
pub const PANIC_EXIT_CODE: u32 = 101;

/// Most lines of a report's backtrace.
const LINES_MAX: usize = 48;

/// Reports that have begun on the reporting core. It stops reports that fail and report themselves.
static REPORTS: AtomicU32 = AtomicU32::new(0);
/// The core that reports: the first to fail.
static REPORTER: Holder = Holder::nobody();

/// Begins a report. Does not return if a report within a report has failed, or if another core reports.
fn begin(code: u32) {
    hw::disable_interrupts();
    if REPORTER.claim(core_number()) == Claimed::ByAnother {
        console::give_up_turn();
        loop {
            // The other core is about to end the unikernel. Halting here with interrupts disabled would end
            // it before the other has said why.
            lock::relax();
        }
    }
    match REPORTS.fetch_add(1, Ordering::Relaxed) {
        0 => console::start_line(),
        1 => {
            println!("a second failure while reporting the first");
            exit_now(code)
        }
        _ => exit_now(code),
    }
}

/// Ends the unikernel without touching the console.
fn exit_now(code: u32) -> ! {
    platform::current().exit(code)
}

/// Ends the unikernel when all text is out.
fn exit(code: u32) -> ! {
    console::flush();
    exit_now(code)
}

/// The panic handler of an image: reports, and ends it with [`PANIC_EXIT_CODE`].
#[doc(hidden)]
pub fn report(information: &PanicInfo<'_>) -> ! {
    let frame_pointer = backtrace::frame_pointer();
    begin(PANIC_EXIT_CODE);
    match information.location() {
        Some(location) => println!("panic at {location}: {}", information.message()),
        None => println!("panic: {}", information.message()),
    }
    if let Some((frames, status)) = heap::last_refusal() {
        println!(
            "the heap could not grow by {frames} frames: {status} (quota {} frames, {} of them taken since the start)",
            memory::quota_frames(),
            memory::acquired_frames()
        );
    }
    print_core(frame_pointer);
    print_backtrace(0, frame_pointer);
    exit(PANIC_EXIT_CODE)
}

/// Reports a trap that nobody handles, and ends the unikernel with [`UNHANDLED_EXIT_CODE`].
pub(crate) fn unhandled_trap(frame: &TrapFrame) -> ! {
    let fault_address = trap::fault_address();
    begin(UNHANDLED_EXIT_CODE);
    let vector = frame.vector as u8;
    let name = trap::vector_name(vector);
    if u64::from(vector) == u64::from(PAGE_FAULT) {
        describe_page_fault(frame, fault_address);
    } else {
        println!(
            "unhandled {name} (vector {vector}, error code {:#x}) at {:#x}",
            frame.error_code, frame.rip
        );
    }
    if hw::on_trap_stack(frame) && memory::overflowed_stack(fault_address).is_none() {
        println!(
            "the interrupted stack has no room for a handler, or the exception is one that none may handle"
        );
    }
    print_core(frame.rsp);
    print_registers(frame, fault_address);
    println!("  #0 {:#x}", frame.rip);
    print_backtrace(1, frame.rbp);
    exit(UNHANDLED_EXIT_CODE)
}

fn describe_page_fault(frame: &TrapFrame, address: u64) {
    let access = match frame.error_code {
        code if code & 1 << 4 != 0 => "execution of",
        code if code & 1 << 1 != 0 => "write to",
        _ => "read of",
    };
    let why = if frame.error_code & 1 != 0 { "not allowed" } else { "not mapped" };
    println!("unhandled page fault: {access} {address:#x} ({why}) at {:#x}", frame.rip);
    if let Some(reason) = memory::window::failure() {
        println!("paged memory: {reason}");
    }
    if let Some((stack, bytes)) = memory::overflowed_stack(address) {
        let thread = thread::named_at(address);
        let name = thread.as_ref().map_or("", |thread| thread.name());
        let of = if name.is_empty() { "" } else { " of thread " };
        println!("stack overflow: the {stack}{of}{name} is full (it has {} KiB)", bytes >> 10);
    }
}

/// Says in which thread and on which core it happened, if that is not the core of `main`. `stack`: an address
/// in the stack.
fn print_core(stack: u64) {
    if let Some(thread) = thread::named_at(stack) {
        println!("  (in thread {:?})", thread.name());
    }
    if core_number() != 0 {
        println!("  (on core {})", cores::current());
    }
}

fn print_registers(frame: &TrapFrame, fault_address: u64) {
    let f = frame;
    println!("  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", f.rax, f.rbx, f.rcx, f.rdx);
    println!("  rsi {:016x}  rdi {:016x}  rbp {:016x}  rsp {:016x}", f.rsi, f.rdi, f.rbp, f.rsp);
    println!("  r8  {:016x}  r9  {:016x}  r10 {:016x}  r11 {:016x}", f.r8, f.r9, f.r10, f.r11);
    println!("  r12 {:016x}  r13 {:016x}  r14 {:016x}  r15 {:016x}", f.r12, f.r13, f.r14, f.r15);
    println!(
        "  rip {:016x}  flags {:08x}  cr2 {fault_address:016x}  error {:x}",
        f.rip, f.rflags, f.error_code
    );
}

/// Prints the return addresses from a frame on, numbered from `first`. Prints a run of equal ones, as
/// recursion leaves them, once.
fn print_backtrace(first: usize, frame_pointer: u64) {
    let Some(stack) = memory::stack_of(frame_pointer) else {
        println!("  (frame pointer {frame_pointer:#x} lies in no stack)");
        return;
    };
    // SAFETY: the stacks are mapped as long as the unikernel runs.
    let mut frames = unsafe { backtrace::of_memory(frame_pointer, stack, memory::text()) }.peekable();
    let (mut number, mut lines) = (first, 0);
    while let Some(address) = frames.next() {
        if lines == LINES_MAX {
            println!("  (more follow)");
            return;
        }
        println!("  #{number} {address:#x}");
        let mut repeated = 0;
        while frames.next_if_eq(&address).is_some() {
            repeated += 1;
        }
        if repeated > 0 {
            println!("  (the same {repeated} times more)");
        }
        number += 1 + repeated;
        lines += 1;
    }
}
