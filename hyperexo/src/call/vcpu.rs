//! Calls of virtual CPUs: their timers, upcalls and faults, and new ones.
#![forbid(unsafe_code)]

use super::{DONE, Outcome};
use crate::environment::fault::FaultTarget;
use crate::environment::vcpu::VirtualCpu;
use crate::kernel::Kernel;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::resource::frame::account::Account;
use crate::virt::{self, Entry, Vcpu};
use hyperexo_abi::ANY;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;

/// `TimerSet`.
pub fn set_timer(kernel: &mut Kernel, who: VcpuId, deadline: u64) -> Outcome {
    kernel.vcpu_slot(who).ok_or(Status::NoSuch)?.timer = (deadline != 0).then_some(deadline);
    DONE
}

/// `VcpuWake`.
pub fn wake(kernel: &mut Kernel, id: EnvironmentId, index: u64, cause: Cause) -> Outcome {
    let signals = kernel.signals;
    let environment = kernel.environments.get_mut(id).ok_or(Status::NoSuch)?;
    let index = usize::try_from(index).ok().filter(|index| *index < environment.vcpus.len());
    environment.upcall(index.ok_or(Status::NoSuch)?, cause, signals);
    DONE
}

/// Whom a `Yield` names, if that environment has something to do on the caller's core.
pub fn yield_target(kernel: &Kernel, who: VcpuId, number: u64) -> Option<EnvironmentId> {
    let target = kernel.environments.numbered(number)?;
    (target.id != who.environment && target.runnable_on(who.core)).then_some(target.id)
}

/// `FaultPage`.
pub fn fault_page(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu, frame: u64) -> Outcome {
    let target = if frame == ANY {
        None
    } else {
        // Its own, as the processor writes it whatever the nested page table says.
        let end = frame.checked_add(1).ok_or(Status::NotBound)?;
        kernel.pages.pin_own(who.environment, frame..end)?;
        Some(FaultTarget::new(frame, &kernel.pages))
    };
    let slot = kernel.vcpu_slot(who).ok_or(Status::NoSuch)?;
    let old = core::mem::replace(&mut slot.faults, target);
    vcpu.deliver_faults(target.map(|target| target.frame));
    kernel.pages.unpin(old.into_iter().map(|target| target.frame));
    DONE
}

/// `VcpuStart`.
pub fn start(kernel: &mut Kernel, id: EnvironmentId, core: u64, entry: &Entry) -> Outcome {
    let core = usize::try_from(core).ok().filter(|core| *core < kernel.slices.len()).ok_or(Status::NoSuch)?;
    let environment = kernel.environments.get(id).ok_or(Status::NoSuch)?;
    if environment.cores >> core & 1 == 0 {
        return Err(Status::NoRight);
    }
    if environment.on_core(core).is_some() {
        return Err(Status::InUse);
    }
    let index = add(kernel, id, core, 1, entry, Account::Environment)?;
    kernel.pages.publish(id);
    kernel.signals.wake(core);
    let doorbell = kernel.environments.get(id).map_or(0, |this| this.vcpus[index].doorbell_frame);
    Ok([index as u64, doorbell, 0, 0])
}

/// Gives an environment a virtual CPU on a core, with so many slices there, and the page through which it is
/// called; all of that is on the environment's account. Returns its index.
///
/// # Errors
///
/// [`Status::QuotaExceeded`], [`Status::Exhausted`]: nothing has changed then.
pub fn add(
    kernel: &mut Kernel,
    id: EnvironmentId,
    core: usize,
    slices: usize,
    entry: &Entry,
    account: Account,
) -> Result<usize, Status> {
    let confinement = kernel.pages.confinement(id).ok_or(Status::NotBound)?;
    let accounting = kernel.environments.get(id).ok_or(Status::NoSuch)?.accounting;
    kernel.slices[core].reserve(slices)?;
    let frames = kernel.pages.charge_many(id, account)?;
    let doorbell_frame = match add_doorbell(kernel, id, account) {
        Ok(frame) => frame,
        Err(status) => {
            frames.into_frames().into_iter().for_each(|frame| kernel.pages.discharge(id, frame));
            return Err(status);
        }
    };
    let doorbell = VirtualCpu::doorbell_at(doorbell_frame, &kernel.pages);
    let vcpu = virt::new_vcpu(kernel.backend, frames, confinement, entry, accounting);
    kernel.slices[core].add(id, slices);
    let environment = kernel.environments.get_mut(id).ok_or(Status::NoSuch)?;
    environment.vcpus.push(VirtualCpu::new(core, vcpu, doorbell, doorbell_frame));
    Ok(environment.vcpus.len() - 1)
}

/// A frame for a doorbell, bound in the environment's own table.
fn add_doorbell(kernel: &mut Kernel, id: EnvironmentId, account: Account) -> Result<u64, Status> {
    let frame = kernel.pages.charge(id, account)?;
    let shown = kernel.pages.show(id, frame..frame + 1, Rights::READ_WRITE, account);
    match shown.map(|stale| kernel.settle(stale)) {
        Ok(_) => Ok(frame),
        Err(status) => {
            kernel.pages.discharge(id, frame);
            Err(status)
        }
    }
}
