//! Intel VMX with extended page tables (SDM vol. 3, ch. 24–31).
//!
//! | module | what |
//! |---|---|
//! | [`controls`] | what is wanted of the processor, and what it lets one have |
//! | [`features`] | what it offers beyond that |
//! | [`vmcs`] | the control structure: memory, fields, refusals |
//! | [`exit`] | exit reasons and coded fields |
//! | [`processor`] | turning VMX on |
//! | [`fill`] | what a guest's control structure holds at the start |
//! | [`views`] | the nested tables that it can change to |
//! | [`switch`] | into the guest and back |
//! | [`lazy`] | state that entries and exits leave alone |
//! | [`refusal`] | what is said of a refused entry |
//! | [`vcpu`] | the virtual CPU |
//!
//! Optional features are probed (CPUID, capability registers) and done without where they are missing; a
//! missing necessary one is named in [`VmxError`].

pub mod controls;
pub mod exit;
pub mod features;
pub mod fill;
pub mod lazy;
pub mod processor;
pub mod refusal;
pub mod switch;
pub mod vcpu;
pub mod views;
pub mod vmcs;

pub use processor::VmxError;

use super::backend::Backend;
use super::vcpu::{Frames, Guest, HostPage, VcpuBox};
use super::xstate::Support;
use crate::resource::frame::nested::EntryFormat;
use core::fmt;
use hyperexo_abi::start::HYPERCALL_VMCALL;
use processor::Processor;
use vcpu::VmxVcpu;

/// VMX, turned on, on the core that made this value.
pub struct Vmx {
    processor: Processor,
}

impl Vmx {
    /// Whether the processor has VMX at all.
    pub fn is_offered() -> bool {
        Processor::has_vmx()
    }

    /// Turns VMX on for this core.
    ///
    /// # Errors
    ///
    /// [`VmxError`].
    ///
    /// # Safety
    ///
    /// As for [`Processor::enable`].
    pub unsafe fn enable(support: Support) -> Result<Vmx, VmxError> {
        // SAFETY: passed on to the caller.
        Ok(Vmx { processor: unsafe { Processor::enable(support) }? })
    }
}

impl Backend for Vmx {
    fn entry_format(&self) -> EntryFormat {
        if self.processor.features.large_code { EntryFormat::Ept } else { EntryFormat::EptSmallCode }
    }

    fn max_guests(&self) -> u64 {
        u64::from(u16::MAX)
    }

    fn hypercall_instruction(&self) -> u64 {
        HYPERCALL_VMCALL
    }

    fn view_entry(&self, root: u64) -> u64 {
        fill::eptp(root)
    }

    fn switches_views(&self) -> bool {
        self.processor.features.eptp_switching
    }

    // The control structure names all of the host.
    fn host_page(&self) -> HostPage {
        HostPage(0)
    }

    unsafe fn new_vcpu(&self, frames: Frames, guest: &Guest<'_>) -> VcpuBox {
        // SAFETY: passed on to the caller.
        unsafe { VmxVcpu::in_frames(&self.processor, frames, guest) }
    }
}

impl fmt::Display for Vmx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.processor.features.fmt(f)
    }
}
