//! Virtual CPUs: the processor's virtualization extensions as the mechanism of protection.
//!
//! [`Vcpu`] is what the rest of the kernel sees of them. A backend runs the guest until something needs the
//! kernel and says what; what that means is decided once, in [`crate::kernel`], for all backends.

pub mod cpuid;
pub mod nested;
pub mod processor;
pub mod state;
pub mod svm;
pub mod switch;
pub mod vmx;
pub mod xstate;

use crate::resource::page::EnvironmentId;
use crate::resource::view::List;
use crate::view::ViewChange;
use alloc::boxed::Box;
use core::fmt;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::start::{HYPERCALL_VMCALL, HYPERCALL_VMMCALL};
use nested::EntryFormat;
use svm::{Svm, SvmError, SvmVcpu};
use vmx::vcpu::VmxVcpu;
use vmx::{Vmx, VmxError};

/// Why there is no virtualization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtualizationError {
    /// The processor has neither Intel VMX nor AMD SVM.
    Absent,
    /// What is missing of AMD's.
    Svm(SvmError),
    /// What is missing of Intel's.
    Vmx(VmxError),
}

impl fmt::Display for VirtualizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VirtualizationError::Absent => f.write_str("the processor offers neither Intel VMX nor AMD SVM"),
            VirtualizationError::Svm(error) => error.fmt(f),
            VirtualizationError::Vmx(error) => error.fmt(f),
        }
    }
}

/// The processor's virtualization extension, turned on.
pub enum Backend {
    /// AMD's.
    Svm(Svm),
    /// Intel's.
    Vmx(Vmx),
}

impl Backend {
    /// Turns on what the processor has, on this core.
    ///
    /// # Errors
    ///
    /// [`VirtualizationError`].
    ///
    /// # Safety
    ///
    /// As for [`Svm::enable`] and [`Vmx::enable`].
    pub unsafe fn enable() -> Result<Backend, VirtualizationError> {
        // SAFETY: passed on to the caller.
        unsafe {
            state_of_core();
            if Vmx::is_offered() {
                Vmx::enable().map(Backend::Vmx).map_err(VirtualizationError::Vmx)
            } else if Svm::is_offered() {
                Svm::enable().map(Backend::Svm).map_err(VirtualizationError::Svm)
            } else {
                Err(VirtualizationError::Absent)
            }
        }
    }

    /// How entries of nested page tables look.
    pub fn entry_format(&self) -> EntryFormat {
        match self {
            Backend::Svm(_) => EntryFormat::Npt,
            Backend::Vmx(_) => EntryFormat::Ept,
        }
    }

    /// How many guests the processor can tell apart.
    pub fn max_guests(&self) -> u64 {
        match self {
            // Identifier 0 is the host's.
            Backend::Svm(svm) => u64::from(svm.features.asids) - 1,
            Backend::Vmx(_) => u64::from(u16::MAX),
        }
    }

    /// Which instruction is a hypercall, as [`hyperexo_abi::start::StartInfo::hypercall`] says it.
    pub fn hypercall_instruction(&self) -> u64 {
        match self {
            Backend::Svm(_) => HYPERCALL_VMMCALL,
            Backend::Vmx(_) => HYPERCALL_VMCALL,
        }
    }

    /// How the list of an environment's views names the nested table with its top in this frame.
    pub fn view_entry(&self, root: u64) -> u64 {
        match self {
            Backend::Svm(_) => root << hyperexo_abi::FRAME_SHIFT,
            Backend::Vmx(_) => vmx::fill::eptp(root),
        }
    }

    /// Whether guests change to another view without an exit.
    pub fn switches_views(&self) -> bool {
        match self {
            Backend::Svm(_) => false,
            Backend::Vmx(vmx) => vmx.processor.features.eptp_switching,
        }
    }

    /// Prepares this core to halt with interrupts disabled.
    pub fn prepare_halt(&self) {
        if let Backend::Svm(svm) = self {
            svm.prepare_halt();
        }
    }

    /// A virtual CPU for environment number `id`, whose nested page table has its top in frame `nested_root`.
    /// Quick calls are counted in `accounting`.
    ///
    /// # Safety
    ///
    /// As for [`SvmVcpu::new`] and [`VmxVcpu::new`]; `id` is at most [`Backend::max_guests`], and no other
    /// environment has it.
    pub unsafe fn new_vcpu(
        &self,
        nested_root: u64,
        id: EnvironmentId,
        entry: &Entry,
        accounting: &'static Accounting,
    ) -> Box<dyn Vcpu> {
        // SAFETY: passed on to the caller.
        unsafe {
            match self {
                Backend::Svm(svm) => {
                    Box::new(SvmVcpu::new(svm, nested_root, u32::from(id), entry, accounting))
                }
                Backend::Vmx(vmx) => Box::new(VmxVcpu::new(vmx, nested_root, id, entry, accounting)),
            }
        }
    }
}

/// Puts what guests can read of this core, and the kernel does not use, into the same state on every core: the
/// number that `RDTSCP` reads, of which firmware may have made something.
///
/// # Safety
///
/// Ring 0.
unsafe fn state_of_core() {
    let cpuid = raw_cpuid::CpuId::new();
    if cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|info| info.has_rdtscp()) {
        // SAFETY: the register exists with the instruction, and nobody else uses it.
        unsafe { x86::msr::wrmsr(state::TSC_AUX, 0) };
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Svm(svm) => svm.features.fmt(f)?,
            Backend::Vmx(vmx) => vmx.processor.features.fmt(f)?,
        }
        write!(f, "; {}", processor::Features::probe())
    }
}

/// General registers of a guest, in the order the switching code knows. `rip`, `rsp`, `rflags` are with the
/// backend.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs)] // the names are those of the processor
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// How a guest reached for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Instruction fetch.
    Execute,
}

/// An access that the nested page table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// Physical address.
    pub address: u64,
    /// What it wanted.
    pub access: Access,
    /// Virtual address, if the processor tells it.
    pub linear: Option<u64>,
    /// It happened while an event was being delivered, which would be lost if another came in its place.
    pub in_delivery: bool,
    /// Number of the view that was in use.
    pub view: u16,
}

/// Why a guest stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmExit {
    /// A hypercall; the instruction has been passed.
    Hypercall,
    /// An interrupt for the host; it has been handled by the time the exit is reported.
    Interrupt,
    /// `HLT`; passed.
    Halt,
    /// `CPUID`; passed.
    Cpuid,
    /// `RDMSR` of this register; not passed.
    MsrRead(u32),
    /// `WRMSR` to this register; not passed.
    MsrWrite(u32),
    /// `IN` or `OUT`; not passed.
    Port(u16),
    /// An access that the nested page table does not allow.
    NestedFault(NestedFault),
    /// An instruction (its name) that is not the guest's to use, and for which the processor would raise #UD
    /// without virtualization extensions; not passed.
    Undefined(&'static str),
    /// An instruction (its name) that wants more privilege than a guest has; not passed.
    Privileged(&'static str),
    /// `XSETBV`; not passed.
    Xsetbv,
    /// An instruction that the backend has dealt with.
    Handled,
    /// The guest became able to take the upcall that was waiting.
    Window,
    /// The machine reports that it is broken.
    MachineCheck,
    /// Triple fault.
    TripleFault,
    /// The processor refused to run the guest.
    InvalidState,
    /// The backend does not know this exit (its number).
    Unknown(u64),
}

/// The top frame of the table behind an entry of a list of views.
fn listed(roots: &List, entry: u64) -> Option<u64> {
    roots.get(usize::try_from(entry).ok()?).copied().filter(|root| *root != 0)
}

/// A new guest's first state.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Physical address of the top page table.
    pub cr3: u64,
    /// First argument (`rdi`).
    pub rdi: u64,
    /// Second argument (`rsi`).
    pub rsi: u64,
}

/// Exceptions that the kernel raises in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// #UD.
    InvalidOpcode,
    /// #GP with error code 0.
    GeneralProtection,
    /// #AC with error code 0.
    AlignmentCheck,
    /// #VE, of which the guest is told in its [`hyperexo_abi::fault::FaultPage`].
    Virtualization,
}

/// A virtual CPU of one backend. Between its first [`Vcpu::run`] on a core and [`Vcpu::leave_core`], methods
/// are called on that core only.
pub trait Vcpu: Send {
    /// Runs the guest until the next exit that is no quick call ([`switch`]), on the core whose `backend`
    /// this is: always the same.
    fn run(&mut self, backend: &Backend) -> VmExit;
    /// General registers.
    fn registers(&mut self) -> &mut Registers;
    /// Instruction pointer.
    fn rip(&self) -> u64;
    /// Passes an instruction of this many bytes that the kernel has carried out.
    fn skip(&mut self, bytes: u64);
    /// Raises an exception at the next entry.
    fn raise(&mut self, exception: Exception);
    /// Makes the upcall vector wait for the guest's interrupt flag; several before it is taken count as one.
    fn post_upcall(&mut self, vector: u8);
    /// Whether an upcall is waiting.
    fn upcall_posted(&self) -> bool;
    /// How many microseconds the guest may run before it should be taken out, for the sake of an upcall that
    /// waits or was requested; `None`: as long as it likes.
    fn patience_us(&self) -> Option<u64> {
        None
    }
    /// Whether the guest's interrupt flag is set.
    fn interrupts_enabled(&self) -> bool;
    /// Whether the guest has set `CR4.OSXSAVE`.
    fn uses_xsave(&self) -> bool;
    /// Extended feature enable register, as the guest sees it.
    fn efer(&self) -> u64;
    /// Sets the guest's view of the register. Returns whether the value is one a guest may have.
    fn set_efer(&mut self, value: u64) -> bool;
    /// Has the processor deliver nested faults to the guest by itself, with this frame for its report, if it
    /// can; `None`: not any more. Otherwise they remain exits.
    fn deliver_faults(&mut self, _page: Option<u64>) {}
    /// Tells of a change in the list of views, before the guest runs again. If the view that it is in is not
    /// the same any more, it goes on in its own table with a general-protection exception.
    fn change_views(&mut self, change: &ViewChange);
    /// Goes on in the view with this number. Returns whether there is one.
    fn switch_view(&mut self, entry: u64) -> bool;
    /// Forgets cached translations of the nested tables before the guest runs again.
    fn flush_nested(&mut self);
    /// Takes from this core what entries and exits do not switch. Before another virtual CPU runs on the
    /// core, and before this one runs on another, the kernel calls this on the core where it ran last.
    fn leave_core(&mut self);
}
