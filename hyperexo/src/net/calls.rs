//! The hypercalls of the network. Each is an ownership check and a table update.
#![forbid(unsafe_code)]

use crate::kernel::Kernel;
use crate::resource::page::EnvironmentId;
use hyperexo_abi::capability::{Capability, Resource, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{Filter, RING_PACKETS};
use hyperexo_hw::time::ticks;

/// An environment that its manifest keeps off the network has none.
pub fn require_network(kernel: &mut Kernel, id: EnvironmentId) -> Result<(), Status> {
    if kernel.environment(id).network { Ok(()) } else { Err(Status::NoDevice) }
}

/// `FilterAlloc`.
pub fn filter_alloc(kernel: &mut Kernel, id: EnvironmentId, words: [u64; 2]) -> Result<Capability, Status> {
    require_network(kernel, id)?;
    let filter = Filter::from_words(words).ok_or(Status::BadArgument)?;
    let claim = kernel.net.filters.allocate(id, &filter)?;
    Ok(kernel.authority.seal(&claim))
}

/// `FilterFree`.
pub fn filter_free(kernel: &mut Kernel, capability: &Capability) -> Result<(), Status> {
    let claim = kernel.authority.verify(capability, Resource::Filter, Rights::GRANT)?;
    kernel.net.filters.free(&claim)
}

/// `FilterBind`.
pub fn filter_bind(
    kernel: &mut Kernel,
    id: EnvironmentId,
    capability: &Capability,
    rights: Rights,
) -> Result<(), Status> {
    require_network(kernel, id)?;
    let claim = kernel.authority.verify(capability, Resource::Filter, rights)?;
    kernel.net.filters.bind(id, &claim, rights)
}

/// `NetKick`.
pub fn kick(kernel: &mut Kernel, id: EnvironmentId) -> Result<(), Status> {
    let Kernel { net, environments, memory, .. } = kernel;
    net.serve(environments, id, RING_PACKETS, *memory, ticks())
}
