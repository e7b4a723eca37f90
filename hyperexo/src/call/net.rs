//! Calls of the network.
#![forbid(unsafe_code)]

use super::{DONE, Outcome, Step, rights, served};
use crate::environment::underway::Underway;
use crate::kernel::Kernel;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::resource::{Calls, Resource};
use hyperexo_abi::capability::{Capability, Resource as Kind, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::Filter;
use hyperexo_abi::upcall::Cause;

/// `FilterAlloc`.
pub fn allocate(kernel: &mut Kernel, id: EnvironmentId, words: [u64; 6]) -> Outcome {
    let filter = Filter::from_words(words).ok_or(Status::BadArgument)?;
    let claim = kernel.net.allocate(id, &filter)?;
    Ok(kernel.authority.seal(&claim).0)
}

/// `FilterFree`.
pub fn free(kernel: &mut Kernel, capability: &Capability) -> Outcome {
    let claim = kernel.authority.verify(capability, Kind::Filter, Rights::GRANT)?;
    let current = kernel.net.check(&claim)?;
    kernel.net.free(current);
    DONE
}

/// `FilterBind`.
pub fn bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Outcome {
    let wanted = rights(wanted)?;
    let claim = kernel.authority.verify(capability, Kind::Filter, wanted)?;
    let current = kernel.net.check(&claim)?;
    kernel.net.bind(id, current, wanted).and(DONE)
}

/// `FilterUnbind`.
pub fn unbind(kernel: &mut Kernel, id: EnvironmentId, number: u64) -> Outcome {
    kernel.net.unbind(id, number).and(DONE)
}

/// `NetRingBind`.
pub fn bind_rings(kernel: &mut Kernel, who: VcpuId, first: u64) -> Outcome {
    let offloads = kernel.net.bind_rings(who.environment, who.index, first, &mut kernel.pages)?;
    Ok([offloads.0.into(), 0, 0, 0])
}

/// `NetKick`.
pub fn serve(kernel: &mut Kernel, id: EnvironmentId) -> Step {
    let (now, mut calls) = (kernel.clock.now(), Calls::new(Cause::Net));
    let work = kernel.net.serve(id, &kernel.pages, now, &mut calls);
    kernel.deliver(&calls);
    served(work, Underway::ServeNet)
}
