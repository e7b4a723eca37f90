//! A virtual CPU of an environment, and what belongs to it besides its processor state.

use super::fault::FaultTarget;
use super::underway::Underway;
use crate::resource::frame::Pages;
use crate::resource::frame::views::List;
use crate::virt::VcpuBox;
use hyperexo_abi::hypercall::VIEWS;
use hyperexo_abi::upcall::Doorbell;

/// A virtual CPU of an environment, placed on a core for good. An environment has at most one on each core.
pub struct VirtualCpu {
    /// The core that runs it.
    pub core: usize,
    /// The processor state; `None` while its core holds it, where part of it is in the registers.
    pub vcpu: Option<VcpuBox>,
    /// It halted and waits for an upcall.
    pub waiting: bool,
    /// An upcall has come: its core posts it before it runs again.
    pub posted: bool,
    /// Cached translations of the nested page table must go before it runs again.
    pub flush: bool,
    /// The environment's list of views is not what it was when this ran last.
    pub views_changed: bool,
    /// The views that were in the list when this ran last.
    pub views_seen: List,
    /// Where it is told of nested faults, if it takes them itself.
    pub faults: Option<FaultTarget>,
    /// TSC value at which it wants a timer upcall.
    pub timer: Option<u64>,
    /// The call that it has made and that is not over.
    pub underway: Option<Underway>,
    /// Causes of its upcalls, in a page that the environment can write.
    pub doorbell: &'static Doorbell,
    /// Frame of that page, on the environment's account.
    pub doorbell_frame: u64,
}

impl VirtualCpu {
    /// The doorbell in a frame of the kernel's that stays its use as long as the virtual CPU is there.
    pub fn doorbell_at(frame: u64, pages: &Pages) -> &'static Doorbell {
        // SAFETY: a `Doorbell` is atomics only; its frame is given back only after the virtual CPU is gone.
        unsafe { pages.memory.shared(frame) }
    }

    /// A virtual CPU that has not run yet.
    pub fn new(core: usize, vcpu: VcpuBox, doorbell: &'static Doorbell, doorbell_frame: u64) -> VirtualCpu {
        VirtualCpu {
            core,
            vcpu: Some(vcpu),
            waiting: false,
            posted: false,
            flush: false,
            views_changed: true,
            views_seen: [0; VIEWS],
            faults: None,
            timer: None,
            underway: None,
            doorbell,
            doorbell_frame,
        }
    }
}
