//! An environment: one protection domain with its virtual CPU, its bindings, and what it has used.

use crate::console::LineBuffer;
use crate::disk::Ring;
use crate::fault::FaultTarget;
use crate::memory::PhysicalMemory;
use crate::net::Rings;
use crate::resource::disk::Binding;
use crate::resource::page::{EnvironmentId, FrameTable, Owner};
use crate::resource::view::List;
use crate::virt::nested::{NestedTable, TableMemory, TableReader};
use crate::virt::{Access, Frames, VCPU_FRAMES, VcpuBox};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::ANY;
use hyperexo_abi::accounting::Accounting;
use hyperexo_abi::hypercall::{Status, VIEWS};
use hyperexo_abi::upcall::{Cause, Doorbell};

/// Why an environment was ended by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It touched memory that it has not bound.
    NestedFault {
        /// Physical address.
        address: u64,
        /// What it wanted.
        access: Access,
        /// Instruction pointer.
        rip: u64,
    },
    /// An exception while delivering an exception while delivering an exception.
    TripleFault {
        /// Instruction pointer.
        rip: u64,
    },
    /// It halted with interrupts disabled: nothing could ever wake it.
    HaltedForever {
        /// Instruction pointer.
        rip: u64,
    },
    /// Its registers were in a state that the processor refuses.
    InvalidState {
        /// Instruction pointer.
        rip: u64,
    },
    /// An exit that the kernel does not know.
    UnknownExit {
        /// Number of the exit.
        code: u64,
        /// Instruction pointer.
        rip: u64,
    },
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Death::NestedFault { address, access, rip } => {
                let verb = match access {
                    Access::Read => "read",
                    Access::Write => "write",
                    Access::Execute => "execute",
                };
                write!(
                    f,
                    "tried to {verb} physical address {address:#x}, which it has not bound so, at rip {rip:#x}"
                )
            }
            Death::TripleFault { rip } => write!(f, "triple fault at rip {rip:#x}"),
            Death::HaltedForever { rip } => write!(f, "halted with interrupts disabled at rip {rip:#x}"),
            Death::InvalidState { rip } => {
                write!(f, "processor state that the hardware refuses, at rip {rip:#x}")
            }
            Death::UnknownExit { code, rip } => write!(f, "unknown exit {code:#x} at rip {rip:#x}"),
        }
    }
}

/// How an environment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(u64),
    /// By the kernel.
    Killed(Death),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exit code {code}"),
            Ending::Killed(death) => write!(f, "killed: {death}"),
        }
    }
}

/// A virtual CPU of an environment, placed on a core for good. An environment has at most one on each core.
pub struct VirtualCpu {
    /// The core that runs it.
    pub core: usize,
    /// The processor state; with the core while it runs there.
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
    /// Causes of its upcalls, in a page that the environment can write.
    pub doorbell: &'static Doorbell,
}

impl VirtualCpu {
    /// A virtual CPU that has not run yet.
    pub fn new(core: usize, vcpu: VcpuBox, doorbell: &'static Doorbell) -> VirtualCpu {
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
            doorbell,
        }
    }
}

/// An environment.
pub struct Environment {
    /// Number, from 1.
    pub id: EnvironmentId,
    /// Name, for the console.
    pub name: String,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// Its virtual CPUs.
    pub vcpus: Vec<VirtualCpu>,
    /// Its nested page table; none once it has ended.
    pub nested: Option<NestedTable>,
    /// Frames that it may own, tables of its nested page table included.
    pub quota: u64,
    /// Frames of the kernel on its account: those of its nested page table, of its virtual CPUs, of doorbells
    /// of those that it has started, of its list of views, and those that it has paid for tables of views.
    pub tables: u64,
    /// Frame with the list of its views, once it has any.
    pub view_list: Option<u64>,
    /// Most frames it ever owned.
    pub peak_frames: u64,
    /// Disk blocks that it may allocate.
    pub disk_quota: u64,
    /// Disk extents it has bound.
    pub extents: Vec<Binding>,
    /// Its ring of disk requests.
    pub ring: Option<Ring>,
    /// Whether its manifest lets it use the network.
    pub network: bool,
    /// Its rings of packets.
    pub net_rings: Option<Rings>,
    /// What it has written to the console since its last line end.
    pub line: LineBuffer,
    /// Its counters, in a page that it can read.
    pub accounting: &'static Accounting,
}

impl Environment {
    /// Whether it is over.
    pub fn ended(&self) -> bool {
        self.ending.is_some()
    }

    /// The index of its virtual CPU on a core.
    pub fn on_core(&self, core: usize) -> Option<usize> {
        self.vcpus.iter().position(|vcpu| vcpu.core == core)
    }

    /// Whether it has something to do on a core.
    pub fn runnable_on(&self, core: usize) -> bool {
        !self.ended() && self.vcpus.iter().any(|vcpu| vcpu.core == core && !vcpu.waiting)
    }

    /// Calls a virtual CPU: sets the cause and wakes it.
    pub fn upcall(&mut self, index: usize, cause: Cause) {
        if self.ended() {
            return;
        }
        let Some(target) = self.vcpus.get_mut(index) else { return };
        target.doorbell.pending.fetch_or(cause as u64, Ordering::Release);
        target.waiting = false;
        target.posted = true;
        crate::interrupt::wake(target.core);
    }

    /// The accounting line of the final report.
    pub fn report(&self) -> impl fmt::Display + '_ {
        self.accounting.report(&self.name, self.peak_frames)
    }
}

/// Adds to a counter that only the kernel writes, perhaps from several cores at once.
pub fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Memory for nested page tables, on the account of one environment.
pub struct NestedMemory<'a> {
    /// All frames.
    pub frames: &'a mut FrameTable,
    /// Where they are.
    pub memory: PhysicalMemory,
    /// Frames that may be taken. `u64::MAX` when the kernel changes a table by force.
    pub room: u64,
    /// Frames taken, on the account of whoever pays for the tables.
    pub tables: &'a mut u64,
}

impl NestedMemory<'_> {
    /// Frames of zeros for a virtual CPU: all, or none.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`] if the account does not allow them, [`Status::Exhausted`] if there are none.
    pub fn allocate_vcpu(&mut self) -> Result<Frames, Status> {
        if self.room < VCPU_FRAMES as u64 {
            return Err(Status::QuotaExceeded);
        }
        let mut frames = [0; VCPU_FRAMES];
        for index in 0..VCPU_FRAMES {
            let Some(frame) = self.allocate() else {
                frames[..index].iter().for_each(|frame| self.release(*frame));
                return Err(Status::Exhausted);
            };
            frames[index] = frame;
        }
        Ok(frames)
    }
}

impl TableReader for NestedMemory<'_> {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.memory.word(table, index)
    }
}

impl TableMemory for NestedMemory<'_> {
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        self.memory.set_word(table, index, entry);
    }

    fn allocate(&mut self) -> Option<u64> {
        if self.room == 0 {
            return None;
        }
        let claim = self.frames.allocate(Owner::Kernel, ANY, 1, 1).ok()?;
        self.room -= 1;
        *self.tables += 1;
        self.memory.clear(claim.first);
        Some(claim.first)
    }

    fn release(&mut self, table: u64) {
        self.frames.release_kernel(table..table + 1);
        self.room = self.room.saturating_add(1);
        *self.tables -= 1;
    }

    fn bound(&mut self, frame: u64) {
        self.frames.bound(frame);
    }

    fn unbound(&mut self, frame: u64) {
        self.frames.unbound(frame);
    }
}

impl TableReader for PhysicalMemory {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.word(table, index)
    }
}
