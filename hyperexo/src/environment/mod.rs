//! Environments: protection domains with their virtual CPUs.
//!
//! What an environment has of a resource is kept by the resource, as its holding.

pub mod ending;
pub mod fault;
pub mod underway;
pub mod vcpu;

use crate::machine::console::LineBuffer;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::machine::interrupt::Signals;
use crate::resource::frame::binding::Everywhere;
use crate::resource::frame::views::ViewId;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ending::Ending;
use hyperexo_abi::accounting::{Accounting, MAX_ENVIRONMENTS};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;
use vcpu::VirtualCpu;

/// How far an environment that has ended has been taken apart. What it had is given back in this order, a
/// piece at a time, so that nobody waits for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// It has not ended.
    Alive,
    /// Its packets and filters.
    Net,
    /// Its views, and its place in those of others.
    Views,
    /// A view of its own that nobody has any more, as far as `cursor`.
    View {
        /// Which.
        view: ViewId,
        /// How far.
        cursor: u64,
    },
    /// Its own frames in somebody else's view, behind `last`.
    Frames {
        /// Whose.
        view: ViewId,
        /// The last frame taken out.
        last: Option<u64>,
    },
    /// Its virtual CPUs, some of which cores may still hold.
    Vcpus,
    /// Its nested page table.
    Table {
        /// How far.
        cursor: u64,
    },
    /// Its frames.
    Memory,
    /// Some of its frames, which others have bound.
    Bindings {
        /// First of them.
        first: u64,
        /// One past the last.
        end: u64,
        /// Nested tables that have been looked at.
        progress: Everywhere,
    },
    /// Its blocks.
    Disk,
    /// Nothing is left.
    Nothing,
}

/// An environment.
pub struct Environment {
    /// Its name for the kernel.
    pub id: EnvironmentId,
    /// Its name for people.
    pub name: String,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// What is left of it then.
    pub remains: Remains,
    /// Its virtual CPUs.
    pub vcpus: Vec<VirtualCpu>,
    /// Cores that it may use: bit `n` for core `n`.
    pub cores: u64,
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
    ///
    /// The core is interrupted only if that changes what it should do: if the virtual CPU begins to have
    /// something to do, or if it is running there and does not know yet. A core that runs somebody else is
    /// not disturbed again and again.
    pub fn upcall(&mut self, index: usize, cause: Cause, signals: &Signals) {
        if self.ended() {
            return;
        }
        let id = self.id;
        let Some(target) = self.vcpus.get_mut(index) else { return };
        target.doorbell.pending.fetch_or(cause as u64, Ordering::Release);
        let begins = core::mem::take(&mut target.waiting);
        let news = !core::mem::replace(&mut target.posted, true);
        if begins || news && signals.runs(target.core, id) {
            signals.wake(target.core);
        }
    }
}

/// All environments: slots by number, each of which can serve several environments, one after the other.
#[derive(Default)]
pub struct Environments {
    /// Slot of number `n` at index `n - 1`.
    slots: Vec<Slot>,
}

/// A place for an environment.
struct Slot {
    generation: u16,
    environment: Environment,
}

impl Environments {
    /// Makes room for so many environments.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory, or if there can't be that many.
    pub fn expect(&mut self, environments: usize) -> Result<(), Status> {
        if self.slots.len() + environments >= MAX_ENVIRONMENTS {
            return Err(Status::Exhausted);
        }
        self.slots.try_reserve_exact(environments).map_err(|_| Status::Exhausted)
    }

    /// The name that the next environment will have.
    pub fn next_id(&self) -> EnvironmentId {
        EnvironmentId::new(self.slots.len() as u16 + 1, 0)
    }

    /// Adds the environment that has the [next name](Environments::next_id).
    ///
    /// # Panics
    ///
    /// If it has another name.
    pub fn add(&mut self, environment: Environment) {
        assert_eq!(environment.id, self.next_id());
        self.slots.push(Slot { generation: 0, environment });
    }

    /// The environment with this name; `None` if it is no more.
    pub fn get(&self, id: EnvironmentId) -> Option<&Environment> {
        let slot = self.slots.get(id.index() - 1)?;
        (slot.generation == id.generation()).then_some(&slot.environment)
    }

    /// The environment with this name, to be changed.
    pub fn get_mut(&mut self, id: EnvironmentId) -> Option<&mut Environment> {
        let slot = self.slots.get_mut(id.index() - 1)?;
        (slot.generation == id.generation()).then_some(&mut slot.environment)
    }

    /// The environment that has this number now.
    pub fn numbered(&self, number: u64) -> Option<&Environment> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Some(&self.slots.get(index)?.environment)
    }

    /// The name of the environment that has this number now.
    pub fn named(&self, number: u16) -> Option<EnvironmentId> {
        Some(self.numbered(number.into())?.id)
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Environment> {
        self.slots.iter().map(|slot| &slot.environment)
    }

    /// All, by number, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Environment> {
        self.slots.iter_mut().map(|slot| &mut slot.environment)
    }

    /// A virtual CPU with all that belongs to it; `None` if its environment is no more.
    pub fn vcpu_slot(&mut self, who: VcpuId) -> Option<&mut VirtualCpu> {
        self.get_mut(who.environment)?.vcpus.get_mut(who.index)
    }
}
