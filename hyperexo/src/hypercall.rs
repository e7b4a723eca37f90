//! The one table from call number to function. Each function is an ownership check and a table update.

use crate::disk::Ring;
use crate::env::{Ending, Environment, State};
use crate::kernel::Kernel;
use crate::resource::page::{EnvironmentId, Owner};
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Claim, Resource, Rights};
use hyperexo_abi::hypercall::{Arguments, CONSOLE_MAX_BYTES, Call, Results, Status};
use hyperexo_abi::ring::RING_FRAMES;
use hyperexo_abi::{ANY, FRAME_BYTES, FRAME_SHIFT};

/// What a call gives back.
type Outcome = Result<Results, Status>;

const DONE: Outcome = Ok([0; 4]);

/// Carries out the hypercall in the registers of environment number `id`.
pub fn dispatch(kernel: &mut Kernel, id: EnvironmentId) {
    let registers = kernel.environment(id).vcpu.registers();
    let number = registers.rax;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r8, registers.r9, registers.r10];
    let outcome = match Call::from_number(number) {
        Some(call) => perform(kernel, id, call, &arguments),
        None => Err(Status::UnknownCall),
    };
    let registers = kernel.environment(id).vcpu.registers();
    match outcome {
        Ok([r0, r1, r2, r3]) => {
            registers.rax = Status::Ok as u64;
            [registers.rdi, registers.rsi, registers.rdx, registers.r8] = [r0, r1, r2, r3];
        }
        Err(status) => registers.rax = status as u64,
    }
}

fn perform(kernel: &mut Kernel, id: EnvironmentId, call: Call, arguments: &Arguments) -> Outcome {
    let [a0, a1, a2, a3, a4, a5] = *arguments;
    let capability = Capability([a0, a1, a2, a3]);
    match call {
        Call::Null => DONE,
        Call::ConsoleWrite => console_write(kernel, id, a0, a1),
        Call::Exit => {
            kernel.end(id, Ending::Exited(a0));
            DONE
        }
        Call::PageAlloc => page_alloc(kernel, id, a0, a1, a2),
        Call::PageFree => page_free(kernel, &capability),
        Call::PageBind => page_bind(kernel, id, &capability, a4),
        Call::PageUnbind => page_unbind(kernel, id, a0, a1),
        Call::Derive => derive(kernel, &capability, a4, a5),
        Call::Revoke => revoke(kernel, id, &capability),
        Call::DiskAlloc => disk_alloc(kernel, id, a0, a1),
        Call::DiskFree => disk_free(kernel, &capability),
        Call::DiskBind => disk_bind(kernel, id, &capability, a4),
        Call::DiskUnbind => disk_unbind(kernel, id, a0, a1),
        Call::RingBind => ring_bind(kernel, id, a0),
        Call::RingKick => kernel.serve_ring(id).and(DONE),
        Call::TimerSet => {
            kernel.environment(id).timer = (a0 != 0).then_some(a0);
            DONE
        }
        Call::Yield => {
            kernel.yield_to(a0);
            DONE
        }
    }
}

/// A set of rights in a register.
fn rights(register: u64) -> Result<Rights, Status> {
    match u8::try_from(register) {
        Ok(bits) if Rights::ALL.contains(Rights(bits)) => Ok(Rights(bits)),
        _ => Err(Status::BadArgument),
    }
}

/// A run of frames or blocks in two registers.
fn run(first: u64, count: u64) -> Result<Range<u64>, Status> {
    match first.checked_add(count) {
        Some(end) if count != 0 => Ok(first..end),
        _ => Err(Status::BadArgument),
    }
}

fn console_write(kernel: &mut Kernel, id: EnvironmentId, address: u64, bytes: u64) -> Outcome {
    if bytes > CONSOLE_MAX_BYTES || address.checked_add(bytes).is_none() {
        return Err(Status::BadArgument);
    }
    let memory = kernel.memory;
    let Environment { name, line, nested, .. } = kernel.environment(id);
    let nested = nested.as_ref().ok_or(Status::NotBound)?;
    let (mut at, end) = (address, address + bytes);
    // All of it before any of it: a refused call has no effect.
    let mut frames = at >> FRAME_SHIFT..end.div_ceil(FRAME_BYTES as u64);
    if !frames.all(|frame| nested.lookup(&memory, frame).is_some()) {
        return Err(Status::NotBound);
    }
    while at < end {
        let (frame, offset) = (at >> FRAME_SHIFT, at as usize % FRAME_BYTES);
        let mut copy = [0; 256];
        let part = (FRAME_BYTES - offset).min((end - at) as usize).min(copy.len());
        memory.read(frame, offset, &mut copy[..part]);
        line.add(&copy[..part], |text| crate::console::environment_line(name, text));
        at += part as u64;
    }
    DONE
}

fn page_alloc(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64, align: u64) -> Outcome {
    let environment = kernel.environment(id);
    let (quota, tables) = (environment.quota, environment.tables);
    let owned = kernel.frames.owned_by(id);
    if count > quota.saturating_sub(owned + tables) {
        return Err(Status::QuotaExceeded);
    }
    let claim = kernel.frames.allocate(Owner::Environment(id), first, count, align)?;
    // Cleared before it goes to another owner: whoever had it last.
    (claim.first..claim.end()).for_each(|frame| kernel.memory.clear(frame));
    kernel.update_frames(id);
    Ok(kernel.authority.seal(&claim).0)
}

fn page_free(kernel: &mut Kernel, capability: &Capability) -> Outcome {
    let claim = kernel.authority.verify(capability, Resource::Page, Rights::GRANT)?;
    let Owner::Environment(owner) = kernel.frames.check(&claim)? else { return Err(Status::NoRight) };
    if kernel.frames.any_pinned(claim.first..claim.end()) {
        return Err(Status::Busy);
    }
    kernel.end_bindings(claim.first..claim.end(), None);
    kernel.frames.free(&claim)?;
    kernel.update_frames(owner);
    DONE
}

fn page_bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Outcome {
    let wanted = rights(wanted)?;
    if !wanted.contains(Rights::READ) {
        return Err(Status::BadArgument);
    }
    let claim = kernel.authority.verify(capability, Resource::Page, wanted)?;
    kernel.frames.check(&claim)?;
    let (nested, mut memory) = kernel.nested(id, false).ok_or(Status::NotBound)?;
    if nested.map(&mut memory, claim.first, claim.count, wanted).is_err() {
        // All or nothing. What was bound before with other rights goes as well: the caller asked to change it.
        nested.unmap(&mut memory, claim.first, claim.count);
        return Err(Status::QuotaExceeded);
    }
    DONE
}

fn page_unbind(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64) -> Outcome {
    let frames = run(first, count)?;
    if frames.end > kernel.frames.len() {
        return Err(Status::NoSuch);
    }
    if kernel.frames.any_pinned(frames.clone()) {
        return Err(Status::Busy);
    }
    let (nested, mut memory) = kernel.nested(id, false).ok_or(Status::NotBound)?;
    if frames.clone().any(|frame| nested.lookup(&memory, frame).is_none()) {
        return Err(Status::NotBound);
    }
    // Each end of the run can cut one large entry.
    if nested.needs_split(&memory, first, count)
        && *memory.tables + memory.frames.owned_by(id) + 2 > memory.quota
    {
        return Err(Status::QuotaExceeded);
    }
    nested.unmap(&mut memory, first, count);
    DONE
}

fn derive(kernel: &mut Kernel, capability: &Capability, first: u64, count_and_rights: u64) -> Outcome {
    const COUNT_BITS: u32 = 48;
    let count = count_and_rights & ((1 << COUNT_BITS) - 1);
    let wanted = rights(count_and_rights >> 56)?;
    let claim = kernel.authority.verify_any(capability)?;
    check_current(kernel, &claim)?;
    Ok(kernel.authority.derive(&claim, first, count, wanted)?.0)
}

fn check_current(kernel: &Kernel, claim: &Claim) -> Result<(), Status> {
    match claim.resource {
        Resource::Page => kernel.frames.check(claim).map(drop),
        Resource::Disk => kernel.disk.as_ref().ok_or(Status::NoDevice)?.extents.check(claim).map(drop),
    }
}

fn revoke(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability) -> Outcome {
    let claim = kernel.authority.verify_any(capability)?;
    if !claim.rights.contains(Rights::GRANT) {
        return Err(Status::NoRight);
    }
    let fresh = match claim.resource {
        Resource::Page => {
            let fresh = kernel.frames.revoke(&claim)?;
            kernel.end_bindings(claim.first..claim.end(), Some(id));
            fresh
        }
        Resource::Disk => kernel.disk.as_mut().ok_or(Status::NoDevice)?.extents.revoke(&claim)?,
    };
    Ok(kernel.authority.seal(&fresh).0)
}

fn disk_alloc(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64) -> Outcome {
    let disk = kernel.disk.as_mut().ok_or(Status::NoDevice)?;
    let claim = disk.extents.allocate(id, first, count)?;
    kernel.update_blocks(id);
    Ok(kernel.authority.seal(&claim).0)
}

fn disk_free(kernel: &mut Kernel, capability: &Capability) -> Outcome {
    let claim = kernel.authority.verify(capability, Resource::Disk, Rights::GRANT)?;
    let disk = kernel.disk.as_mut().ok_or(Status::NoDevice)?;
    if disk.uses(claim.first, claim.count) {
        return Err(Status::Busy);
    }
    let owner = disk.extents.check(&claim)?;
    disk.extents.free(&claim)?;
    kernel.update_blocks(owner);
    DONE
}

fn disk_bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Outcome {
    let wanted = rights(wanted)?;
    let claim = kernel.authority.verify(capability, Resource::Disk, wanted)?;
    let Kernel { disk, environments, .. } = kernel;
    let disk = disk.as_mut().ok_or(Status::NoDevice)?;
    let environment = &mut environments[usize::from(id) - 1];
    // Bindings that a revocation has made void only take room.
    disk.extents.drop_stale(&mut environment.extents);
    disk.extents.bind(&mut environment.extents, &claim, wanted)?;
    DONE
}

fn disk_unbind(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64) -> Outcome {
    let extents = &mut kernel.environment(id).extents;
    let place = extents.iter().position(|binding| binding.first == first && binding.count == count);
    extents.remove(place.ok_or(Status::NotBound)?);
    DONE
}

fn ring_bind(kernel: &mut Kernel, id: EnvironmentId, first: u64) -> Outcome {
    if kernel.disk.is_none() {
        return Err(Status::NoDevice);
    }
    let frames = run(first, RING_FRAMES)?;
    if kernel.environment(id).ring.is_some() {
        return Err(Status::InUse);
    }
    let memory = kernel.memory;
    for frame in frames.clone() {
        let environment = kernel.environment(id);
        let nested = environment.nested.as_ref().ok_or(Status::NotBound)?;
        let bound = nested.lookup(&memory, frame).is_some_and(|rights| rights.contains(Rights::READ_WRITE));
        // Its own, not just shared with it: pinned for as long as it lives, it must not hold somebody else's.
        if !bound || kernel.frames.owner(frame) != Owner::Environment(id) {
            return Err(Status::NotBound);
        }
    }
    for frame in frames.clone() {
        if !kernel.frames.pin(frame) {
            (first..frame).for_each(|frame| kernel.frames.unpin(frame));
            return Err(Status::Busy);
        }
    }
    // SAFETY: a `DiskRing` is atomics only; the frames are the environment's and pinned until it ends.
    kernel.environment(id).ring = Some(unsafe { Ring::new(memory.shared(first), first) });
    DONE
}

/// Whether the environment number in a `Yield` names somebody who can run.
pub fn yield_target(environments: &[Environment], number: u64) -> Option<EnvironmentId> {
    if number == ANY {
        return None;
    }
    environments
        .iter()
        .find(|environment| u64::from(environment.id) == number && environment.state == State::Runnable)
        .map(|environment| environment.id)
}
