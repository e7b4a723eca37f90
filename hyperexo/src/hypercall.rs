//! The one table from call number to function. Each function is an ownership check and a table update.

use crate::cores::After;
use crate::disk::Ring;
use crate::env::{Ending, Environment, NestedMemory, VirtualCpu};
use crate::fault::FaultTarget;
use crate::kernel::{Kernel, VcpuId};
use crate::net::{Rings, calls as net};
use crate::resource::page::{EnvironmentId, Owner};
use crate::view::Place;
use crate::virt::nested::{NestedTable, TableMemory};
use crate::virt::{Entry, Guest, Registers, Vcpu};
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Claim, Resource, Rights};
use hyperexo_abi::hypercall::{Arguments, CONSOLE_MAX_BYTES, Call, MAX_ALLOCATION_FRAMES, Results, Status};
use hyperexo_abi::net::NET_RING_FRAMES;
use hyperexo_abi::ring::RING_FRAMES;
use hyperexo_abi::upcall::Cause;
use hyperexo_abi::{ANY, FRAME_BYTES, FRAME_SHIFT};

/// What a call gives back.
type Outcome = Result<Results, Status>;

const DONE: Outcome = Ok([0; 4]);

/// Carries out the hypercall in the registers of a virtual CPU, if that concerns nothing else; returns
/// whether it was so.
pub fn answer(vcpu: &mut dyn Vcpu) -> bool {
    let registers = vcpu.registers();
    let outcome = match Call::from_number(registers.rax) {
        Some(Call::Null) => DONE,
        Some(Call::ViewSwitch) => {
            let entry = registers.rdi;
            if vcpu.switch_view(entry) { DONE } else { Err(Status::NoSuch) }
        }
        None => Err(Status::UnknownCall),
        Some(_) => return false,
    };
    give(vcpu.registers(), outcome);
    true
}

/// Leaves the outcome in the caller's registers.
fn give(registers: &mut Registers, outcome: Outcome) {
    match outcome {
        Ok([r0, r1, r2, r3]) => {
            registers.rax = Status::Ok as u64;
            [registers.rdi, registers.rsi, registers.rdx, registers.r8] = [r0, r1, r2, r3];
        }
        Err(status) => registers.rax = status as u64,
    }
}

/// Carries out the hypercall in the registers of a virtual CPU, after [`answer`] has not.
pub fn dispatch(kernel: &mut Kernel, who: VcpuId) -> After {
    let registers = kernel.vcpu(who).registers();
    let number = registers.rax;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r8, registers.r9, registers.r10];
    let (outcome, after) = match Call::from_number(number) {
        Some(Call::Yield) => (DONE, After::Yield(yield_target(kernel, who, arguments[0]))),
        Some(call @ Call::ConsoleWrite) => (perform(kernel, who, call, &arguments), After::Continue),
        Some(call) => (perform(kernel, who, call, &arguments), After::Look),
        None => (Err(Status::UnknownCall), After::Continue),
    };
    give(kernel.vcpu(who).registers(), outcome);
    after
}

fn perform(kernel: &mut Kernel, who: VcpuId, call: Call, arguments: &Arguments) -> Outcome {
    let id = who.environment;
    let [a0, a1, a2, a3, a4, a5] = *arguments;
    let capability = Capability([a0, a1, a2, a3]);
    match call {
        // `answer` and `dispatch` have seen to these.
        Call::Null | Call::ViewSwitch | Call::Yield => DONE,
        Call::ConsoleWrite => console_write(kernel, id, a0, a1),
        Call::Exit => {
            kernel.end(id, Ending::Exited(a0));
            DONE
        }
        Call::PageAlloc => page_alloc(kernel, id, a0, a1, a2),
        Call::PageFree => page_free(kernel, &capability),
        Call::PageBind => page_bind(kernel, id, &capability, a4),
        Call::PageUnbind => page_unbind(kernel, id, a0, a1, a2),
        Call::Derive => derive(kernel, &capability, a4, a5),
        Call::Revoke => revoke(kernel, id, &capability),
        Call::DiskAlloc => disk_alloc(kernel, id, a0, a1),
        Call::DiskFree => disk_free(kernel, &capability),
        Call::DiskBind => disk_bind(kernel, id, &capability, a4),
        Call::DiskUnbind => disk_unbind(kernel, id, a0, a1),
        Call::RingBind => ring_bind(kernel, who, a0),
        Call::RingKick => kernel.serve_ring(id).and(DONE),
        Call::TimerSet => {
            kernel.slot(who).timer = (a0 != 0).then_some(a0);
            DONE
        }
        Call::VcpuStart => vcpu_start(kernel, id, a0, &Entry { rip: a1, rsp: a2, cr3: a3, rdi: a4, rsi: 0 }),
        Call::FaultPage => fault_page(kernel, who, a0),
        Call::ViewCreate => kernel.view_create(id, a0).map(|entry| view_results(kernel, entry)),
        Call::ViewOffer => kernel.views.offer(id, a0, a1).and(DONE),
        Call::ViewAccept => kernel.view_accept(id, a0, a1).map(|entry| view_results(kernel, entry)),
        Call::ViewEnd => kernel.view_end(id, a0).and(DONE),
        Call::VcpuWake => {
            let environment = kernel.environment(id);
            let index = usize::try_from(a0).ok().filter(|index| *index < environment.vcpus.len());
            environment.upcall(index.ok_or(Status::NoSuch)?, Cause::Wake);
            DONE
        }
        Call::FilterAlloc => net::filter_alloc(kernel, id, [a0, a1]).map(|capability| capability.0),
        Call::FilterFree => net::filter_free(kernel, &capability).and(DONE),
        Call::FilterBind => net::filter_bind(kernel, id, &capability, rights(a4)?).and(DONE),
        Call::FilterUnbind => kernel.net.filters.unbind(id, a0).and(DONE),
        Call::NetRingBind => net_ring_bind(kernel, who, a0),
        Call::NetKick => net::kick(kernel, id).and(DONE),
    }
}

/// A set of rights in a register.
fn rights(register: u64) -> Result<Rights, Status> {
    match u8::try_from(register) {
        Ok(bits) if Rights::ALL.contains(Rights(bits)) => Ok(Rights(bits)),
        _ => Err(Status::BadArgument),
    }
}

/// A set of rights in the low byte of a register, the number of a view above.
fn rights_and_view(register: u64) -> Result<(Rights, u64), Status> {
    Ok((rights(register & 0xff)?, register >> 8))
}

/// A view's number, and whether `VMFUNC` knows it.
fn view_results(kernel: &Kernel, entry: usize) -> Results {
    [entry as u64, kernel.backend.switches_views().into(), 0, 0]
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
    if count > MAX_ALLOCATION_FRAMES && count <= environment.quota {
        return Err(Status::BadArgument);
    }
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
    require_split_room(kernel, Place::Own(owner), claim.first, claim.count, true)?;
    kernel.end_bindings(claim.first..claim.end(), None);
    kernel.frames.free(&claim)?;
    kernel.update_frames(owner);
    DONE
}

fn page_bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Outcome {
    let (wanted, view) = rights_and_view(wanted)?;
    if !wanted.contains(Rights::READ) {
        return Err(Status::BadArgument);
    }
    let claim = kernel.authority.verify(capability, Resource::Page, wanted)?;
    kernel.frames.check(&claim)?;
    let place = kernel.place(id, view)?;
    let (nested, mut memory) = kernel.nested_at(place, false).ok_or(Status::NotBound)?;
    // All or nothing: once there is room for the tables, nothing can go wrong.
    let needed = nested.tables_needed(&memory, claim.first, claim.count, wanted);
    if needed > memory.room {
        return Err(Status::QuotaExceeded);
    }
    if needed > memory.frames.free_frames() {
        return Err(Status::Exhausted);
    }
    let mapped = nested.map(&mut memory, claim.first, claim.count, wanted);
    debug_assert!(mapped.is_ok(), "tables were counted");
    kernel.settle_at(place);
    kernel.update_frames(id);
    DONE
}

fn page_unbind(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64, view: u64) -> Outcome {
    let frames = run(first, count)?;
    if frames.end > kernel.frames.len() {
        return Err(Status::NoSuch);
    }
    let place = kernel.place(id, view)?;
    // What devices use is what is bound in the environment's own table.
    if place == Place::Own(id) && kernel.frames.any_pinned(frames.clone()) {
        return Err(Status::Busy);
    }
    if !kernel.may_unbind(id, place, frames.clone()) {
        return Err(Status::NoRight);
    }
    let (nested, memory) = kernel.nested_at(place, false).ok_or(Status::NotBound)?;
    if frames.clone().any(|frame| nested.lookup(&memory, frame).is_none()) {
        return Err(Status::NotBound);
    }
    require_split_room(kernel, place, first, count, false)?;
    let (nested, mut memory) = kernel.nested_at(place, false).ok_or(Status::NotBound)?;
    nested.unmap(&mut memory, first, count);
    kernel.settle_at(place);
    kernel.update_frames(id);
    DONE
}

/// Whether the bindings of a run in one place can be ended without losing others: large entries at its ends
/// may have to be split, for which there must be frames. `forced`: on the kernel's account.
fn require_split_room(
    kernel: &mut Kernel,
    place: Place,
    first: u64,
    count: u64,
    forced: bool,
) -> Result<(), Status> {
    /// One for each end of the run.
    const TABLES: u64 = 2;
    let Some((nested, memory)) = kernel.nested_at(place, forced) else { return Ok(()) };
    if !nested.needs_split(&memory, first, count) {
        return Ok(());
    }
    if memory.frames.free_frames() < TABLES {
        return Err(Status::Exhausted);
    }
    if memory.room < TABLES { Err(Status::QuotaExceeded) } else { Ok(()) }
}

fn derive(kernel: &mut Kernel, capability: &Capability, first: u64, count_and_rights: u64) -> Outcome {
    const COUNT_BITS: u32 = 48;
    let count = count_and_rights & ((1 << COUNT_BITS) - 1);
    let wanted = rights(count_and_rights >> 56)?;
    let claim = kernel.authority.verify_any(capability)?;
    check_current(kernel, &claim)?;
    Ok(kernel.authority.derive(&claim, first, count, wanted)?.0)
}

fn check_current(kernel: &mut Kernel, claim: &Claim) -> Result<(), Status> {
    match claim.resource {
        Resource::Page => kernel.frames.check(claim).map(drop),
        Resource::Disk => kernel.disk.as_ref().ok_or(Status::NoDevice)?.extents.check(claim).map(drop),
        Resource::Filter => kernel.net.filters.check(claim).map(drop),
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
        Resource::Filter => kernel.net.filters.revoke(&claim, id)?,
    };
    Ok(kernel.authority.seal(&fresh).0)
}

fn disk_alloc(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64) -> Outcome {
    let disk = kernel.disk.as_mut().ok_or(Status::NoDevice)?;
    let claim = disk.extents.allocate(id, first, count)?;
    if disk.extents.allocated_by(id) > kernel.environments[usize::from(id) - 1].disk_quota {
        disk.extents.free(&claim)?;
        return Err(Status::QuotaExceeded);
    }
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

fn ring_bind(kernel: &mut Kernel, who: VcpuId, first: u64) -> Outcome {
    let id = who.environment;
    if kernel.disk.is_none() {
        return Err(Status::NoDevice);
    }
    let frames = run(first, RING_FRAMES)?;
    if kernel.environment(id).ring.is_some() {
        return Err(Status::InUse);
    }
    pin_own(kernel, id, frames)?;
    // SAFETY: a `DiskRing` is atomics only; the frames are the environment's and pinned until it ends.
    kernel.environment(id).ring = Some(unsafe { Ring::new(kernel.memory.shared(first), first, who.index) });
    DONE
}

fn net_ring_bind(kernel: &mut Kernel, who: VcpuId, first: u64) -> Outcome {
    let id = who.environment;
    net::require_network(kernel, id)?;
    let frames = run(first, NET_RING_FRAMES)?;
    if kernel.environment(id).net_rings.is_some() {
        return Err(Status::InUse);
    }
    pin_own(kernel, id, frames)?;
    // SAFETY: `NetRings` are atomics only; the frames are the environment's and pinned until it ends.
    let shared = unsafe { kernel.memory.shared(first) };
    kernel.environment(id).net_rings = Some(Rings::new(shared, first, who.index));
    DONE
}

/// Pins frames that an environment owns and has bound read-write, all or none.
fn pin_own(kernel: &mut Kernel, id: EnvironmentId, frames: Range<u64>) -> Result<(), Status> {
    let memory = kernel.memory;
    for frame in frames.clone() {
        let nested = kernel.environment(id).nested.as_ref().ok_or(Status::NotBound)?;
        let bound = nested.lookup(&memory, frame).is_some_and(|rights| rights.contains(Rights::READ_WRITE));
        // Its own, not just shared with it: pinned for as long as it lives, it must not hold somebody else's.
        if !bound || kernel.frames.owner(frame) != Owner::Environment(id) {
            return Err(Status::NotBound);
        }
    }
    for frame in frames.clone() {
        if !kernel.frames.pin(frame) {
            (frames.start..frame).for_each(|frame| kernel.frames.unpin(frame));
            return Err(Status::Busy);
        }
    }
    Ok(())
}

fn fault_page(kernel: &mut Kernel, who: VcpuId, frame: u64) -> Outcome {
    let target = if frame == ANY { None } else { Some(fault_target(kernel, who.environment, frame)?) };
    let slot = kernel.slot(who);
    let old = core::mem::replace(&mut slot.faults, target);
    kernel.vcpu(who).deliver_faults(target.map(|target| target.frame));
    if let Some(old) = old {
        kernel.frames.unpin(old.frame);
    }
    DONE
}

/// A page for faults in a frame of an environment's own, which is pinned.
fn fault_target(kernel: &mut Kernel, id: EnvironmentId, frame: u64) -> Result<FaultTarget, Status> {
    // Its own, as the processor writes it whatever the nested page table says.
    pin_own(kernel, id, frame..frame + 1)?;
    // SAFETY: a `FaultPage` is atomics only; the frame is the environment's and pinned until it has this use
    // no more.
    Ok(FaultTarget { frame, page: unsafe { kernel.memory.shared(frame) } })
}

/// Whom a `Yield` names, if that environment has something to do on the caller's core.
fn yield_target(kernel: &Kernel, who: VcpuId, number: u64) -> Option<EnvironmentId> {
    let named = |environment: &&Environment| u64::from(environment.id) == number;
    let target = kernel.environments.iter().find(named)?;
    (target.id != who.environment && target.runnable_on(who.core)).then_some(target.id)
}

fn vcpu_start(kernel: &mut Kernel, id: EnvironmentId, core: u64, entry: &Entry) -> Outcome {
    let core = usize::try_from(core).ok().filter(|core| *core < kernel.slices.len()).ok_or(Status::NoSuch)?;
    if kernel.environment(id).on_core(core).is_some() {
        return Err(Status::InUse);
    }
    // Nothing is left behind by a call that is refused: all that can fail comes first.
    kernel.slices[core].reserve_one().map_err(|_| Status::Exhausted)?;
    kernel.environment(id).vcpus.try_reserve(1).map_err(|_| Status::Exhausted)?;
    let (nested, mut memory) = kernel.nested(id, false).ok_or(Status::NotBound)?;
    let nested_root = nested.root();
    let frames = memory.allocate_vcpu()?;
    let frame = match bind_doorbell(nested, &mut memory) {
        Ok(frame) => frame,
        Err(status) => {
            frames.iter().for_each(|frame| memory.release(*frame));
            return Err(status);
        }
    };
    kernel.settle(id);
    // SAFETY: a `Doorbell` is atomics only, in a frame that the kernel keeps for ever.
    let doorbell = unsafe { kernel.memory.shared(frame) };
    let accounting = kernel.environment(id).accounting;
    let guest = Guest { nested_root, identifier: id, entry, accounting };
    // SAFETY: the frames are fresh, and the kernel's until `Kernel::retire_vcpus`. The nested table is the
    // environment's and lives until its end; the number is its own.
    let vcpu = unsafe { kernel.backend.new_vcpu(frames, &guest) };
    kernel.slices[core].add(id, 1);
    kernel.update_frames(id);
    let environment = kernel.environment(id);
    environment.vcpus.push(VirtualCpu::new(core, vcpu, doorbell));
    let index = environment.vcpus.len() as u64 - 1;
    crate::interrupt::wake(core);
    Ok([index, frame, 0, 0])
}

/// A frame for a doorbell, bound in the environment's own table.
fn bind_doorbell(nested: &mut NestedTable, memory: &mut NestedMemory<'_>) -> Result<u64, Status> {
    let frame = memory.allocate().ok_or(Status::QuotaExceeded)?;
    if nested.map(memory, frame, 1, Rights::READ_WRITE).is_err() {
        nested.unmap(memory, frame, 1);
        memory.release(frame);
        return Err(Status::QuotaExceeded);
    }
    Ok(frame)
}
