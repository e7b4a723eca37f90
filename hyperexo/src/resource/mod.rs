//! What is protected: who owns what, who has bound what, and what follows from that.
//!
//! A resource never sees an environment. It keeps a *holding* for each. When guests are to be called, it
//! returns [`Calls`], and the kernel delivers them.

pub mod capability;
pub mod disk;
pub mod frame;
pub mod net;
pub mod ring;
pub mod slice;

use crate::machine::id::{EnvironmentId, EnvironmentSet};
use alloc::vec::Vec;
use capability::{Current, Verified};
use core::sync::atomic::{AtomicU64, Ordering};
use frame::Pages;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;

/// What the kernel does with a resource that has a device behind it.
pub trait Resource {
    /// Whether a claim is current.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    fn check(&self, claim: &Verified) -> Result<Current, Status>;

    /// Makes all capabilities for what is claimed worthless; returns the generation of new ones. Bindings of
    /// others are void from now on.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for a part of what can only be revoked whole.
    fn revoke(&mut self, current: Current, keeper: EnvironmentId) -> Result<u64, Status>;

    /// Takes a piece of what an environment has that has ended: none of its guests runs, and none will.
    /// Returns whether that was the last piece.
    fn end(&mut self, id: EnvironmentId, pages: &mut Pages) -> bool;

    /// Does what the device and expired deadlines ask for. Returns which virtual CPUs to call, and whether
    /// there is more to do at once.
    fn attend(&mut self, pages: &mut Pages, now: u64) -> (Calls, Work);

    /// When something is due.
    fn next_deadline(&self) -> Option<u64>;
}

/// Whether a piece of work was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There is no more.
    Done,
    /// There is more: others get the lock in between.
    More,
}

/// Which virtual CPUs are to be called, all for the same cause.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// Why.
    pub cause: Cause,
    environments: EnvironmentSet,
    vcpus: [u8; MAX_ENVIRONMENTS],
}

impl Calls {
    /// Nobody yet.
    pub fn new(cause: Cause) -> Calls {
        Calls { cause, environments: EnvironmentSet::EMPTY, vcpus: [0; MAX_ENVIRONMENTS] }
    }

    /// Adds the virtual CPU of an environment that looks after this resource.
    pub fn add(&mut self, id: EnvironmentId, vcpu: usize) {
        self.environments.insert(id);
        self.vcpus[id.index()] = vcpu as u8;
    }

    /// The numbers of the environments to call, and which of their virtual CPUs.
    pub fn iter(&self) -> impl Iterator<Item = (u16, usize)> + '_ {
        self.environments.numbers().map(|number| (number, self.vcpus[usize::from(number)].into()))
    }
}

/// Adds to a counter that only the kernel writes, perhaps from several cores at once.
pub fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// What a table has for an environment. `whose` says it: the place may still be its predecessor's.
fn holding_of<T>(
    table: &mut [Option<T>],
    id: EnvironmentId,
    whose: impl Fn(&T) -> EnvironmentId,
) -> Option<&mut T> {
    table.get_mut(id.index())?.as_mut().filter(|holding| whose(holding) == id)
}

/// Makes a table with a place for each of this many environments, and one for the kernel.
fn resize<T>(table: &mut Vec<Option<T>>, environments: usize) -> Result<(), Status> {
    table.try_reserve_exact(environments + 1).map_err(|_| Status::Exhausted)?;
    table.resize_with(environments + 1, || None);
    Ok(())
}
