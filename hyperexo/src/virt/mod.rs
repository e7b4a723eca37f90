//! Virtual CPUs: the processor's virtualization extensions as the mechanism of protection.
//!
//! | module | what |
//! |---|---|
//! | [`vcpu`], [`backend`] | what the rest of the kernel sees of them |
//! | [`svm`], [`vmx`] | the backends |
//! | [`switch`] | what their ways into the guest and back have in common |
//! | [`state`], [`xstate`], [`cpuid`] | the processor's state: who keeps it, what moves, what a guest is told |
//!
//! A backend runs the guest until something needs the kernel, and says what. The callers of [`Vcpu::run`]
//! decide what that means, once for all backends.

pub mod backend;
pub mod cpuid;
pub mod state;
pub mod svm;
pub mod switch;
pub mod vcpu;
pub mod vmx;
pub mod xstate;

pub use backend::Backend;
pub use vcpu::{
    Access, Entry, Exception, Frames, Guest, HostPage, NestedFault, Registers, Roots, VCPU_FRAMES, Vcpu,
    VcpuBox, ViewChange, VmExit,
};

use crate::resource::frame::Confinement;
use crate::resource::frame::account::Charged;
use alloc::boxed::Box;
use core::fmt;
use hyperexo_abi::accounting::Accounting;
use svm::{Svm, SvmError};
use vmx::{Vmx, VmxError};
use xstate::Support;

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

/// Turns on what the processor has, on this core: virtualization, and extended state.
///
/// # Errors
///
/// [`VirtualizationError`].
///
/// # Safety
///
/// As for [`Svm::enable`] and [`Vmx::enable`].
pub unsafe fn enable() -> Result<&'static dyn Backend, VirtualizationError> {
    // SAFETY: passed on to the caller.
    unsafe {
        reset_tsc_aux();
        let support = Support::enable();
        if Vmx::is_offered() {
            let vmx = Vmx::enable(support).map_err(VirtualizationError::Vmx)?;
            Ok(Box::leak(Box::new(vmx)))
        } else if Svm::is_offered() {
            let svm = Svm::enable(support).map_err(VirtualizationError::Svm)?;
            Ok(Box::leak(Box::new(svm)))
        } else {
            Err(VirtualizationError::Absent)
        }
    }
}

/// A virtual CPU in frames that are on its environment's account, confined to what the environment has bound.
pub fn new_vcpu(
    backend: &dyn Backend,
    frames: Charged<VCPU_FRAMES>,
    confinement: Confinement,
    entry: &Entry,
    accounting: &'static Accounting,
) -> VcpuBox {
    let (nested_root, identifier) = (confinement.root(), confinement.id().number());
    let guest = Guest { nested_root, identifier, entry, accounting };
    // SAFETY: the frames are the kernel's, zeroed, and nobody else's (`Charged`); the table confines the
    // guest and stays until its virtual CPUs are gone (`Confinement`); numbers of environments are at most
    // the backend's limit (`launch`).
    unsafe { backend.new_vcpu(frames.into_frames(), &guest) }
}

/// Which entries of two lists of identities are the same view: bit `n` for entry `n`.
pub fn kept(old: &Roots, new: &Roots) -> u64 {
    (0..old.len()).filter(|entry| old[*entry] == new[*entry]).fold(0, |bits, entry| bits | 1 << entry)
}

/// Makes the number that `RDTSCP` reads 0 on this core: guests can read it, and firmware may have made
/// something of it.
///
/// # Safety
///
/// Ring 0.
unsafe fn reset_tsc_aux() {
    let cpuid = raw_cpuid::CpuId::new();
    if cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|info| info.has_rdtscp()) {
        // SAFETY: the register exists with the instruction, and nobody else uses it.
        unsafe { x86::msr::wrmsr(state::TSC_AUX, 0) };
    }
}
