//! Calls of the disk.
#![forbid(unsafe_code)]

use super::{DONE, Outcome, Step, rights, served};
use crate::environment::underway::Underway;
use crate::kernel::Kernel;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::resource::disk::Disk;
use crate::resource::frame::Pages;
use crate::resource::{Calls, Resource};
use hyperexo_abi::capability::{Capability, Resource as Kind, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;

fn disk(kernel: &mut Kernel) -> Result<(&mut Disk, &mut Pages), Status> {
    Ok((kernel.disk.as_mut().ok_or(Status::NoDevice)?, &mut kernel.pages))
}

/// `DiskAlloc`.
pub fn allocate(kernel: &mut Kernel, id: EnvironmentId, first: u64, blocks: u64) -> Outcome {
    let (disk, pages) = disk(kernel)?;
    let claim = disk.allocate(id, first, blocks, pages)?;
    disk.publish(id, pages);
    pages.publish(id);
    Ok(kernel.authority.seal(&claim).0)
}

/// `DiskFree`.
pub fn free(kernel: &mut Kernel, capability: &Capability) -> Outcome {
    let claim = kernel.authority.verify(capability, Kind::Disk, Rights::GRANT)?;
    let (disk, pages) = disk(kernel)?;
    let current = disk.check(&claim)?;
    let owner = disk.free(current, pages)?;
    disk.publish(owner, pages);
    pages.publish(owner);
    DONE
}

/// `DiskBind`.
pub fn bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Outcome {
    let wanted = rights(wanted)?;
    let claim = kernel.authority.verify(capability, Kind::Disk, wanted)?;
    let (disk, _) = disk(kernel)?;
    let current = disk.check(&claim)?;
    disk.bind(id, current, wanted).and(DONE)
}

/// `DiskUnbind`.
pub fn unbind(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64) -> Outcome {
    disk(kernel).map_err(|_| Status::NotBound)?.0.unbind(id, first, count).and(DONE)
}

/// `RingBind`.
pub fn bind_ring(kernel: &mut Kernel, who: VcpuId, first: u64) -> Outcome {
    let (disk, pages) = disk(kernel)?;
    disk.bind_ring(who.environment, who.index, first, pages).and(DONE)
}

/// `RingKick`.
pub fn serve(kernel: &mut Kernel, id: EnvironmentId) -> Step {
    let (now, mut calls) = (kernel.clock.now(), Calls::new(Cause::Disk));
    let work = disk(kernel).and_then(|(disk, pages)| disk.serve(id, pages, now, &mut calls));
    kernel.deliver(&calls);
    if kernel.disk.as_mut().is_some_and(Disk::take_done_already) {
        kernel.signals.note_disk();
    }
    served(work, Underway::ServeDisk)
}
