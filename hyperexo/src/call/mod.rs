//! The one table from call number to function. Each function is an ownership check and a table update.
//!
//! A call goes down once: from here to the file of its resource, from there to the resource's table. A call
//! that names many frames, bytes or requests is done in pieces ([`crate::environment::underway`]).
#![forbid(unsafe_code)]

pub mod console;
pub mod disk;
pub mod frame;
pub mod net;
pub mod release;
pub mod vcpu;
pub mod view;

use crate::environment::ending::Ending;
use crate::environment::underway::Underway;
use crate::kernel::Kernel;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::resource::Resource;
use crate::resource::Work;
use crate::resource::capability::Verified;
use crate::virt::{Entry, Registers, Vcpu};
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Claim, Resource as Kind, Rights};
use hyperexo_abi::hypercall::{Arguments, Call, Results, Status};
use hyperexo_abi::upcall::Cause;

/// What a call gives back.
pub type Outcome = Result<Results, Status>;

/// The outcome of a call that has none but success.
pub const DONE: Outcome = Ok([0; 4]);

/// What has become of a call after a piece of it.
pub enum Step {
    /// It is over.
    Over(Outcome),
    /// There is more.
    More(Underway),
}

impl From<Outcome> for Step {
    fn from(outcome: Outcome) -> Step {
        Step::Over(outcome)
    }
}

impl From<Status> for Step {
    fn from(status: Status) -> Step {
        Step::Over(Err(status))
    }
}

/// What follows from an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The slice goes on, and nothing has changed but the guest's registers.
    Continue,
    /// The slice goes on; a timer, a request or a binding may have changed, or something asks for attention.
    Look,
    /// The call is not over: others get the lock, then it goes on.
    Again,
    /// The environment gives up its slice, perhaps to a successor.
    Yield(Option<EnvironmentId>),
}

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

/// Begins the hypercall in the registers of a virtual CPU, after [`answer`] has not.
pub fn dispatch(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu) -> After {
    let registers = vcpu.registers();
    let number = registers.rax;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r8, registers.r9, registers.r10];
    match Call::from_number(number) {
        Some(Call::Yield) => {
            let successor = vcpu::yield_target(kernel, who, arguments[0]);
            give(vcpu.registers(), DONE);
            After::Yield(successor)
        }
        Some(call) => {
            let step = begin(kernel, who, vcpu, call, &arguments);
            match conclude(kernel, who, vcpu, step) {
                After::Look if changes_bindings_only(call) => After::Continue,
                after => after,
            }
        }
        None => {
            give(vcpu.registers(), Err(Status::UnknownCall));
            After::Continue
        }
    }
}

/// Whether a call changes nothing that the core looks at before it goes on: timers, devices, who can run.
fn changes_bindings_only(call: Call) -> bool {
    matches!(
        call,
        Call::ConsoleWrite
            | Call::PageAlloc
            | Call::PageBind
            | Call::PageUnbind
            | Call::Derive
            | Call::DiskBind
            | Call::DiskUnbind
            | Call::FilterAlloc
            | Call::FilterBind
            | Call::FilterUnbind
    )
}

/// Does the next piece of the call that a virtual CPU has made and that is not over.
pub fn go_on(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu) -> After {
    let underway = kernel.vcpu_slot(who).and_then(|slot| slot.underway.take());
    let Some(underway) = underway else { return After::Continue };
    let step = piece(kernel, who, underway);
    conclude(kernel, who, vcpu, step)
}

fn conclude(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu, step: Step) -> After {
    match step {
        Step::Over(outcome) => {
            if outcome.is_err() {
                // What it took and gave back again may have been published meanwhile.
                kernel.pages.publish(who.environment);
            }
            give(vcpu.registers(), outcome);
            After::Look
        }
        Step::More(underway) => {
            if let Some(slot) = kernel.vcpu_slot(who) {
                slot.underway = Some(underway);
            }
            After::Again
        }
    }
}

/// The first piece of a call; of most, the only one.
fn begin(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu, call: Call, arguments: &Arguments) -> Step {
    let id = who.environment;
    let [a0, a1, a2, a3, a4, a5] = *arguments;
    let capability = Capability([a0, a1, a2, a3]);
    match call {
        // `answer` and `dispatch` have seen to these.
        Call::Null | Call::ViewSwitch | Call::Yield => DONE.into(),
        Call::ConsoleWrite => console::write(kernel, id, a0, a1),
        Call::Exit => {
            kernel.end(id, Ending::Exited(a0));
            DONE.into()
        }
        Call::PageAlloc => frame::allocate(kernel, id, a0, a1, a2),
        Call::PageFree => release::free(kernel, id, &capability),
        Call::PageBind => frame::bind(kernel, id, &capability, a4),
        Call::PageUnbind => frame::unbind(kernel, id, a0, a1, a2),
        Call::Derive => derive(kernel, &capability, a4, a5),
        Call::Revoke => revoke(kernel, id, &capability),
        Call::DiskAlloc => disk::allocate(kernel, id, a0, a1).into(),
        Call::DiskFree => disk::free(kernel, &capability).into(),
        Call::DiskBind => disk::bind(kernel, id, &capability, a4).into(),
        Call::DiskUnbind => disk::unbind(kernel, id, a0, a1).into(),
        Call::RingBind => disk::bind_ring(kernel, who, a0).into(),
        Call::RingKick => disk::serve(kernel, id),
        Call::TimerSet => vcpu::set_timer(kernel, who, a0).into(),
        Call::VcpuStart => {
            let entry = Entry { rip: a1, rsp: a2, cr3: a3, rdi: a4, rsi: 0 };
            vcpu::start(kernel, id, a0, &entry).into()
        }
        Call::VcpuWake => vcpu::wake(kernel, id, a0, Cause::Wake).into(),
        Call::FaultPage => vcpu::fault_page(kernel, who, vcpu, a0).into(),
        Call::ViewCreate => view::create(kernel, id, a0).into(),
        Call::ViewOffer => view::offer(kernel, id, a0, a1).into(),
        Call::ViewAccept => view::accept(kernel, id, a0, a1).into(),
        Call::ViewEnd => view::end(kernel, id, a0),
        Call::FilterAlloc => net::allocate(kernel, id, *arguments).into(),
        Call::FilterFree => net::free(kernel, &capability).into(),
        Call::FilterBind => net::bind(kernel, id, &capability, a4).into(),
        Call::FilterUnbind => net::unbind(kernel, id, a0).into(),
        Call::NetRingBind => net::bind_rings(kernel, who, a0).into(),
        Call::NetKick => net::serve(kernel, id),
    }
}

/// A further piece of a call.
fn piece(kernel: &mut Kernel, who: VcpuId, underway: Underway) -> Step {
    let id = who.environment;
    match underway {
        Underway::Console(write) => console::piece(kernel, id, write),
        Underway::Allocate(call) => frame::allocate_piece(kernel, id, call),
        Underway::Bind(call) => frame::bind_piece(kernel, id, call),
        Underway::Unbind(call) => frame::unbind_piece(kernel, id, call),
        Underway::Derive(call) => frame::derive_piece(kernel, call),
        Underway::Free(call) => release::free_piece(kernel, id, call),
        Underway::Revoke(call) => release::revoke_piece(kernel, id, call),
        Underway::ServeDisk => disk::serve(kernel, id),
        Underway::ServeNet => net::serve(kernel, id),
        Underway::EndView(call) => view::end_piece(kernel, id, call),
    }
}

/// The resource that a kind of capability is for.
fn resource(kernel: &mut Kernel, kind: Kind) -> Result<&mut dyn Resource, Status> {
    match kind {
        Kind::Page => Err(Status::BadArgument),
        Kind::Disk => Ok(kernel.disk.as_mut().ok_or(Status::NoDevice)?),
        Kind::Filter => Ok(&mut kernel.net),
    }
}

/// `Derive`.
fn derive(kernel: &mut Kernel, capability: &Capability, first: u64, count_and_rights: u64) -> Step {
    const COUNT_BITS: u32 = 48;
    let count = count_and_rights & ((1 << COUNT_BITS) - 1);
    let judged = rights(count_and_rights >> 56)
        .and_then(|wanted| Ok((wanted, kernel.authority.verify_any(capability)?)));
    match judged {
        Err(status) => status.into(),
        Ok((wanted, claim)) if claim.resource() == Kind::Page => {
            frame::derive(kernel, claim, first, count, wanted)
        }
        Ok((wanted, claim)) => derive_whole(kernel, &claim, first, count, wanted).into(),
    }
}

fn derive_whole(kernel: &mut Kernel, claim: &Verified, first: u64, count: u64, wanted: Rights) -> Outcome {
    resource(kernel, claim.resource())?.check(claim)?;
    Ok(kernel.authority.derive(claim, first, count, wanted)?.0)
}

/// `Revoke`.
fn revoke(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability) -> Step {
    match kernel.authority.verify_any(capability) {
        Err(status) => status.into(),
        Ok(claim) if !claim.rights().contains(Rights::GRANT) => Status::NoRight.into(),
        Ok(claim) if claim.resource() == Kind::Page => release::revoke(kernel, id, claim),
        Ok(claim) => revoke_whole(kernel, id, &claim).into(),
    }
}

fn revoke_whole(kernel: &mut Kernel, id: EnvironmentId, claim: &Verified) -> Outcome {
    let resource = resource(kernel, claim.resource())?;
    let current = resource.check(claim)?;
    let generation = resource.revoke(current, id)?;
    Ok(kernel.authority.seal(&Claim { generation, ..claim.claim() }).0)
}

/// The step that a piece of serving a ring makes.
fn served(work: Result<Work, Status>, underway: Underway) -> Step {
    match work {
        Ok(Work::Done) => DONE.into(),
        Ok(Work::More) => Step::More(underway),
        Err(status) => status.into(),
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

/// A run of frames or blocks in two registers.
fn run(first: u64, count: u64) -> Result<Range<u64>, Status> {
    match first.checked_add(count) {
        Some(end) if count != 0 => Ok(first..end),
        _ => Err(Status::BadArgument),
    }
}
