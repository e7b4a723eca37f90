//! Views: memory that only code entered through a gate reaches.
//!
//! ```text
//!                     own table        view
//!  code, constants    RX               RX      ← the gate and the functions called through it
//!  gate's frames      RW               RW      ← page tables and stack for the time inside
//!  shown frames       nothing          RW      ← the view's secret, or what another environment shares
//!  all the rest       RW               nothing
//! ```
//!
//! A [`View`] has a nested page table of its own ([`hyperexo_abi::hypercall::Call::ViewSwitch`]). So the
//! hardware keeps the rest of the program from the frames shown inside, and the function inside from all that
//! is outside. Entering and leaving cost no exit on a processor with `VMFUNC`. Elsewhere they are hypercalls,
//! and the program is the same.
//!
//! A view does not protect from its own program's code: that is bound on both sides. Code outside can enter
//! the view anywhere in it, and can write the page tables and the stack that are used inside. Against a
//! program that is hostile as a whole, show in the view only code that may be entered anywhere, and bind the
//! tables read-only outside.

use super::hypercall::{self, NewView};
use super::information::start_info;
use crate::memory;
use crate::memory::frames::Frames;
use crate::memory::paging::{Access, Mapping, PageSize, Table, Tables};
use core::arch::naked_asm;
use core::mem::offset_of;
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::start::HYPERCALL_VMMCALL;
use hyperexo_abi::{ANY, FRAME_SHIFT, Page};

/// Page tables for the time inside.
const TABLES: u64 = 16;
/// Frames of the stack for the time inside.
const STACK_FRAMES: u64 = 4;
/// Frames for the view's nested table.
const NESTED_TABLES: u64 = 24;

/// How a virtual CPU changes to a view. The gate looks at the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Way {
    /// By the hypercall, with Intel's instruction.
    Vmcall = 0,
    /// By the hypercall, with AMD's instruction.
    Vmmcall = 1,
    /// By `VMFUNC`, without an exit.
    Vmfunc = 2,
}

/// What [`gate`] needs.
#[repr(C)]
struct Gate {
    /// The view's number.
    number: u64,
    way: Way,
    /// Physical address of the top page table inside.
    root: u64,
    /// Address just above the stack inside.
    stack: u64,
    /// Address of the first shown frame.
    shown: u64,
}

/// What [`gate`] returns, in `rax` and `rdx`.
#[repr(C)]
struct Answer {
    value: u64,
    status: u64,
}

/// A function that can be called inside. It gets the first of the frames shown there, and an argument.
pub type Function = extern "C" fn(*mut Page, u64) -> u64;

/// A view in which functions can be called. Dropping it ends the view.
pub struct View {
    gate: Gate,
    /// Page tables, then the stack.
    _inside: Frames,
    /// Frames that are bound nowhere but inside.
    private: Option<Capability>,
}

impl View {
    /// A view with `count` frames that are bound nowhere else. They hold zeros.
    ///
    /// # Errors
    ///
    /// The kernel's [`Status`].
    pub fn new(count: u64) -> Result<View, Status> {
        let private = hypercall::page_alloc(ANY, count, 1)?;
        match View::showing(&private) {
            Ok(mut view) => {
                view.private = Some(private);
                Ok(view)
            }
            Err(status) => {
                // SAFETY: the frames are bound nowhere.
                let _ = unsafe { hypercall::page_free(&private) };
                Err(status)
            }
        }
    }

    /// A view that shows these frames of the caller. They may be bound elsewhere, too.
    ///
    /// # Errors
    ///
    /// The kernel's [`Status`].
    pub fn showing(frames: &Capability) -> Result<View, Status> {
        let claim = frames.claim().ok_or(Status::BadArgument)?;
        let new = hypercall::view_create(NESTED_TABLES)?;
        // SAFETY: only functions called by `View::call` use the frames here, and its caller answers for them.
        let bound = unsafe { hypercall::page_bind_in(new.number, frames, Rights::READ_WRITE) };
        ended_on_error(new, bound.and_then(|()| View::with_gate(new, claim.first..claim.end())))
    }

    /// Takes another environment's offer of a view. It shows these frames, which the other has bound in it.
    ///
    /// # Errors
    ///
    /// The kernel's [`Status`].
    pub fn join(environment: u64, number: u64, shown: Range<u64>) -> Result<View, Status> {
        let new = hypercall::view_accept(environment, number)?;
        ended_on_error(new, View::with_gate(new, shown))
    }

    /// Binds what the gate needs in the view, and builds the page tables for the time inside.
    fn with_gate(new: NewView, shown: Range<u64>) -> Result<View, Status> {
        let inside = Frames::allocate(TABLES + STACK_FRAMES, 1)?;
        let (constants, text) = (memory::constants(), memory::text());
        let image = memory::physical_address(constants.start).ok_or(Status::NotBound)? >> FRAME_SHIFT;
        let count = (text.end - constants.start) >> FRAME_SHIFT;
        let readable = Rights::READ.union(Rights::EXECUTE);
        let image = hypercall::derive(&start_info().image_capability, image, count, readable)?;
        let gate_frames = inside.capability().ok_or(Status::NotBound)?;
        // SAFETY: nobody writes code and constants. The gate's frames hold tables and a stack that it alone
        // uses.
        unsafe {
            hypercall::page_bind_in(new.number, &image, readable)?;
            hypercall::page_bind_in(new.number, gate_frames, Rights::READ_WRITE)?;
        }
        let first = inside.first();
        let stack = first + TABLES..first + TABLES + STACK_FRAMES;
        // SAFETY: the frames were just allocated, may hold any bits, and nothing else leads to them.
        let memory = unsafe {
            core::slice::from_raw_parts_mut(memory::linear_address(first) as *mut Table, TABLES as usize)
        };
        let mut tables = Tables::new(memory, first);
        let frames =
            |frames: &Range<u64>| memory::linear_address(frames.start)..memory::linear_address(frames.end);
        for (virtuals, access) in [
            (constants, Access::Read),
            (text, Access::Execute),
            (frames(&stack), Access::Write),
            (frames(&shown), Access::Write),
        ] {
            let mapping = Mapping {
                virtual_start: virtuals.start,
                physical_start: memory::physical_address(virtuals.start).ok_or(Status::NotBound)?,
                bytes: virtuals.end - virtuals.start,
                access,
                size: PageSize::Small,
            };
            tables.map(mapping).map_err(|_| Status::Exhausted)?;
        }
        let way = match new.by_function {
            true => Way::Vmfunc,
            false if start_info().hypercall == HYPERCALL_VMMCALL => Way::Vmmcall,
            false => Way::Vmcall,
        };
        let gate = Gate {
            number: new.number,
            way,
            root: tables.root_frame() << FRAME_SHIFT,
            stack: memory::linear_address(stack.end),
            shown: memory::linear_address(shown.start),
        };
        Ok(View { gate, _inside: inside, private: None })
    }

    /// The view's number in this environment's list.
    pub fn number(&self) -> u64 {
        self.gate.number
    }

    /// How the view is entered.
    pub fn way(&self) -> Way {
        self.gate.way
    }

    /// The first of the frames that are shown inside.
    pub fn first_shown(&self) -> u64 {
        (self.gate.shown - hyperexo_abi::LINEAR_BASE) >> FRAME_SHIFT
    }

    /// Calls a function inside, with interrupts disabled.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`] if the maker has ended the view.
    ///
    /// # Safety
    ///
    /// The function touches only its stack (of 16 KiB), the frames shown and constants. It does not panic:
    /// there is neither a heap nor a handler inside, and a fault there ends the program. One call runs at a
    /// time.
    pub unsafe fn call(&self, function: Function, argument: u64) -> Result<u64, Status> {
        // SAFETY: the gate is complete (`with_gate`); the rest is the caller's promise.
        let answer = unsafe { gate(&raw const self.gate, function, argument) };
        match Status::from_number(answer.status) {
            Some(Status::Ok) => Ok(answer.value),
            Some(status) => Err(status),
            None => Err(Status::UnknownCall),
        }
    }
}

/// Ends a view if it could not be made complete.
fn ended_on_error(new: NewView, made: Result<View, Status>) -> Result<View, Status> {
    if made.is_err() {
        // The caller learns of the first error.
        let _ = hypercall::view_end(new.number);
    }
    made
}

impl Drop for View {
    fn drop(&mut self) {
        // The maker may have ended the view already.
        let _ = hypercall::view_end(self.gate.number);
        if let Some(private) = &self.private {
            // SAFETY: the frames are bound nowhere.
            let _ = unsafe { hypercall::page_free(private) };
        }
    }
}

/// Changes page tables and stack, enters the view, calls the function, and comes back. Interrupts are
/// disabled meanwhile, as their handlers are outside.
#[unsafe(naked)]
unsafe extern "C" fn gate(gate: *const Gate, function: Function, argument: u64) -> Answer {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "cli",
        "mov r12, cr3",
        "mov r13, rsp",
        "mov r14, [rdi + {way}]",
        "mov r15, rsi",
        "mov rbx, rdx",
        "mov rbp, [rdi + {shown}]",
        "mov rcx, [rdi + {number}]",
        "mov rax, [rdi + {stack}]",
        "mov rdx, [rdi + {root}]",
        // From here on only the code and the stack inside are mapped, before and after the change.
        "mov cr3, rdx",
        "mov rsp, rax",
        "mov rdi, rcx",
        "call {change}",
        "mov rdx, rax",
        "test rax, rax",
        "jnz 2f",
        "mov rdi, rbp",
        "mov rsi, rbx",
        "call r15",
        "mov rbx, rax",
        "xor edi, edi",
        "call {change}",
        "xor edx, edx",
        "2:",
        "mov cr3, r12",
        "mov rsp, r13",
        "mov rax, rbx",
        "popfq",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        number = const offset_of!(Gate, number),
        way = const offset_of!(Gate, way),
        root = const offset_of!(Gate, root),
        stack = const offset_of!(Gate, stack),
        shown = const offset_of!(Gate, shown),
        change = sym change,
    )
}

/// Changes to the view in `rdi` by the way in `r14`; returns the status.
#[unsafe(naked)]
unsafe extern "C" fn change() {
    naked_asm!(
        "cmp r14, {vmfunc}",
        "je 3f",
        "mov eax, {call}",
        "cmp r14, {vmmcall}",
        "je 2f",
        "vmcall",
        "ret",
        "2:",
        "vmmcall",
        "ret",
        // VMFUNC takes the function in eax and the number in ecx. eax stays 0 (`Ok`) unless the kernel puts a
        // status there.
        "3:",
        "mov ecx, edi",
        "xor eax, eax",
        ".byte 0x0f, 0x01, 0xd4",
        "ret",
        call = const Call::ViewSwitch as u64,
        vmfunc = const Way::Vmfunc as u64,
        vmmcall = const Way::Vmmcall as u64,
    )
}
