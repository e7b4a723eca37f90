//! A virtual CPU as the rest of the kernel sees it, whatever the backend, and the memory that it takes.
//!
//! All memory of a virtual CPU lies in [`VCPU_FRAMES`] frames that the kernel hands over, so that it is on
//! the account of the environment and can be refused.

use alloc::boxed::Box;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::hypercall::VIEWS;

/// Frames that a virtual CPU takes.
pub const VCPU_FRAMES: usize = 3;

/// Numbers of the frames of a virtual CPU.
pub type Frames = [u64; VCPU_FRAMES];

/// The top frames of the tables in a list of views, entry by entry; 0: none. Entry 0 is the environment's
/// own.
pub type Roots = [u64; VIEWS];

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
    Port,
    /// An access that the nested page table does not allow.
    NestedFault(NestedFault),
    /// An instruction that is not the guest's to use, and for which the processor would raise #UD without
    /// virtualization extensions; not passed.
    Undefined,
    /// An instruction that wants more privilege than a guest has; not passed.
    Privileged,
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

/// What a virtual CPU is told of its environment's views before it runs.
#[derive(Clone, Copy, Debug)]
pub struct ViewChange {
    /// Frame of the list, in the form that the processor reads.
    pub list: u64,
    /// Top frames of the tables behind its entries.
    pub roots: Roots,
    /// Entries that are still what they were when the virtual CPU ran last: bit `n` for entry `n`.
    pub kept: u64,
}

/// The top frame of the table behind an entry of a list of views.
pub fn listed(roots: &Roots, entry: u64) -> Option<u64> {
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

/// What a new virtual CPU is made of, besides its memory.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    /// Top frame of its nested page table.
    pub nested_root: u64,
    /// Its environment's identifier in the TLB: not 0, and no other environment's.
    pub identifier: u16,
    /// Its first state.
    pub entry: &'a Entry,
    /// Where its quick calls are counted.
    pub accounting: &'static Accounting,
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

/// A page of a core that the processor wants to know at every entry ([`super::Backend::host_page`]); 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPage(pub u64);

/// A virtual CPU of one backend. From [`Vcpu::take_core`] until [`Vcpu::leave_core`], methods are called on
/// that core only.
pub trait Vcpu: Send {
    /// Gives this core what entries and exits do not switch. No other virtual CPU has the core.
    fn take_core(&mut self);
    /// Runs the guest until the next exit that is no quick call ([`super::switch`]), on the core that it has
    /// taken.
    fn run(&mut self, host: HostPage) -> VmExit;
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
    /// Sets the guest's XCR0. Returns whether the value is one a guest may have.
    fn set_xcr0(&mut self, value: u64) -> bool;
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
    /// Takes from this core what [`Vcpu::take_core`] gave it, if it has it. Before another virtual CPU takes
    /// the core, and before this one is no more, the kernel calls this on that core.
    fn leave_core(&mut self);
}

/// A virtual CPU with its frames. Dropping it ends the virtual CPU; the frames are the kernel's again.
pub struct VcpuBox {
    /// In the frames, nobody else's.
    vcpu: NonNull<dyn Vcpu>,
    frames: Frames,
}

// SAFETY: it owns what it points to, and that is `Send`.
unsafe impl Send for VcpuBox {}

impl VcpuBox {
    /// The virtual CPU that lies in these frames.
    ///
    /// # Safety
    ///
    /// `vcpu` is valid and nobody else's. Its memory is left alone until the value is dropped.
    pub unsafe fn new(vcpu: NonNull<dyn Vcpu>, frames: Frames) -> VcpuBox {
        VcpuBox { vcpu, frames }
    }

    /// Any virtual CPU, in memory that is never given back: for doubles on the host.
    pub fn leaked(vcpu: Box<dyn Vcpu>, frames: Frames) -> VcpuBox {
        VcpuBox { vcpu: NonNull::from(Box::leak(vcpu)), frames }
    }

    /// Ends the virtual CPU. Returns the frames, which nobody uses any more.
    pub fn dismantle(self) -> Frames {
        self.frames
    }
}

impl Deref for VcpuBox {
    type Target = dyn Vcpu;

    fn deref(&self) -> &(dyn Vcpu + 'static) {
        // SAFETY: valid, and ours (`vcpu`).
        unsafe { self.vcpu.as_ref() }
    }
}

impl DerefMut for VcpuBox {
    fn deref_mut(&mut self) -> &mut (dyn Vcpu + 'static) {
        // SAFETY: valid, and ours (`vcpu`).
        unsafe { self.vcpu.as_mut() }
    }
}

impl Drop for VcpuBox {
    fn drop(&mut self) {
        // SAFETY: valid, ours (`vcpu`), and not used after this.
        unsafe { self.vcpu.drop_in_place() };
    }
}

impl fmt::Debug for VcpuBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtual CPU in frames {:x?}", self.frames)
    }
}

/// Puts a value at the beginning of a frame, and returns where it is.
///
/// # Safety
///
/// The frame is mapped by identity and nobody else's.
pub unsafe fn place<T>(frame: u64, value: T) -> NonNull<T> {
    const { assert!(size_of::<T>() <= 1 << FRAME_SHIFT && align_of::<T>() <= 1 << FRAME_SHIFT) };
    let place = (frame << FRAME_SHIFT) as *mut T;
    // SAFETY: the value fits into the frame, which is nobody else's (caller).
    unsafe {
        place.write(value);
        NonNull::new_unchecked(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_box_drops_the_virtual_cpu() {
        use std::sync::Arc;
        struct Double(Arc<()>);
        impl Vcpu for Double {
            fn take_core(&mut self) {}
            fn run(&mut self, _host: HostPage) -> VmExit {
                VmExit::Halt
            }
            fn registers(&mut self) -> &mut Registers {
                unreachable!("nobody asks")
            }
            fn rip(&self) -> u64 {
                Arc::strong_count(&self.0) as u64
            }
            fn skip(&mut self, _bytes: u64) {}
            fn raise(&mut self, _exception: Exception) {}
            fn post_upcall(&mut self, _vector: u8) {}
            fn upcall_posted(&self) -> bool {
                false
            }
            fn interrupts_enabled(&self) -> bool {
                true
            }
            fn uses_xsave(&self) -> bool {
                false
            }
            fn set_xcr0(&mut self, _value: u64) -> bool {
                false
            }
            fn efer(&self) -> u64 {
                0
            }
            fn set_efer(&mut self, _value: u64) -> bool {
                false
            }
            fn change_views(&mut self, _change: &ViewChange) {}
            fn switch_view(&mut self, _entry: u64) -> bool {
                false
            }
            fn flush_nested(&mut self) {}
            fn leave_core(&mut self) {}
        }
        let alive = Arc::new(());
        let mut vcpu = VcpuBox::leaked(Box::new(Double(alive.clone())), [1, 2, 3]);
        assert_eq!((vcpu.run(HostPage(0)), vcpu.rip()), (VmExit::Halt, 2));
        assert_eq!(vcpu.dismantle(), [1, 2, 3]);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
