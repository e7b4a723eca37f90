//! A core: the loop that gives it to environments, slice by slice, and takes it back.
//!
//! Each core runs this loop on its own. What cores share is in the [`Kernel`], behind one lock, which is
//! taken only here and never held while a guest runs. Exits are dealt with at one of three places, the
//! nearest that can:
//!
//! | where | what | needs |
//! |---|---|---|
//! | the backend ([`crate::virt::switch`]) | quick calls | a few registers |
//! | [`emulate::answer`] | what concerns nothing but the virtual CPU | the virtual CPU, which the core holds |
//! | `act` | the rest | the lock |

pub mod emulate;
pub mod held;

use crate::call::{self, After};
use crate::environment::ending::{Death, Ending};
use crate::environment::fault;
use crate::kernel::Kernel;
use crate::machine::console::{Console, Written};
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::machine::interrupt::{self, Signals};
use crate::resource::{Work, count};
use crate::virt::{self, Backend, Vcpu, VcpuBox, ViewChange, VmExit};
use held::{Held, SharedKernel};
use hyperexo_abi::accounting::{Accounting, Exit};
use hyperexo_abi::upcall::VECTOR;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::time::ticks;

/// How long a port of the console that took no more is left alone.
const CONSOLE_REST_US: u64 = 500;
/// Pieces of an environment that has ended which are given back before others have a turn on the core.
const PIECES_AT_ONCE: usize = 64;

/// One core.
pub struct Core {
    /// Number, from 0.
    number: usize,
    apic: LocalApic,
    backend: &'static dyn Backend,
    signals: &'static Signals,
    console: &'static Console,
    /// Ticks of a slice.
    slice_ticks: u64,
    /// The TSC value for which the timer is set.
    armed: Option<u64>,
    /// The virtual CPU whose extended state is in the core's registers.
    holder: Option<Holder>,
    /// Who was named as successor by a yield.
    successor: Option<EnvironmentId>,
    /// TSC value at which the slice that is being used ends; a successor gets no more than the rest.
    slice_end: u64,
    /// TSC value at which the console is tried again.
    console_due: Option<u64>,
    /// Ticks for which it is left alone.
    console_rest: u64,
}

/// A virtual CPU that a core holds.
struct Holder {
    who: VcpuId,
    vcpu: VcpuBox,
    accounting: &'static Accounting,
}

impl Core {
    /// Core number `number`, the one that calls this.
    pub fn new(number: usize, apic: LocalApic, backend: &'static dyn Backend, kernel: &SharedKernel) -> Core {
        let kernel = kernel.lock();
        Core {
            number,
            apic,
            backend,
            signals: kernel.signals,
            console: kernel.console,
            slice_ticks: kernel.slice_ticks,
            armed: None,
            holder: None,
            successor: None,
            slice_end: 0,
            console_due: None,
            console_rest: kernel.clock.ticks_of_us(CONSOLE_REST_US),
        }
    }

    /// Runs environments until all have ended and nothing is left of them.
    pub fn run(&mut self, kernel: &SharedKernel) {
        loop {
            let mut held = kernel.lock();
            self.let_go(&mut held);
            held = self.take_apart(held);
            if held.finished() {
                return;
            }
            let now;
            (held, now) = self.attend(held);
            let named =
                self.successor.take().filter(|id| now < self.slice_end && held.runnable_on(*id, self.number));
            let chosen = named.or_else(|| {
                self.slice_end = now.saturating_add(self.slice_ticks);
                held.next_slice(self.number)
            });
            match chosen {
                Some(id) => self.slice(held, id),
                None => self.idle(held),
            }
        }
    }

    /// Gives back some pieces of what environments had that have ended.
    fn take_apart<'k>(&self, mut held: Held<'k>) -> Held<'k> {
        for _ in 0..PIECES_AT_ONCE {
            if !held.has_remains() {
                break;
            }
            held.take_apart();
            held = held.let_others();
        }
        held
    }

    /// Lets go of the virtual CPU of an environment that has ended.
    fn let_go(&mut self, kernel: &mut Kernel) {
        let ended = |id| kernel.environments.get(id).is_none_or(|environment| environment.ended());
        if self.holder.as_ref().is_some_and(|holder| ended(holder.who.environment)) {
            self.put_away(kernel);
        }
    }

    /// Lets go of the virtual CPU that the core holds: takes its state off the core.
    fn put_away(&mut self, kernel: &mut Kernel) {
        let Some(Holder { who, mut vcpu, .. }) = self.holder.take() else { return };
        vcpu.leave_core();
        // Its environment is not taken apart before it has it back.
        if let Some(slot) = kernel.vcpu_slot(who) {
            slot.vcpu = Some(vcpu);
        }
    }

    /// Takes an environment's virtual CPU on this core. Its state comes onto the core if it is not there.
    fn take(&mut self, kernel: &mut Kernel, id: EnvironmentId) -> Option<Holder> {
        if let Some(holder) = self.holder.take_if(|holder| holder.who.environment == id) {
            return Some(holder);
        }
        self.put_away(kernel);
        let environment = kernel.environments.get_mut(id)?;
        let index = environment.on_core(self.number)?;
        let mut vcpu = environment.vcpus[index].vcpu.take()?;
        vcpu.take_core();
        let who = VcpuId { environment: id, index, core: self.number };
        Some(Holder { who, vcpu, accounting: environment.accounting })
    }

    /// Raises the timer interrupt at a TSC value; `None`: never.
    fn wake_at(&mut self, kernel: &Kernel, deadline: Option<u64>, now: u64) {
        let deadline = deadline.into_iter().chain(self.console_due).min();
        // Setting the timer costs more than most exits: it is left alone while it is right.
        if !self.signals.timer_fired(self.number) && deadline == self.armed {
            return;
        }
        self.armed = deadline;
        let steps = deadline.map_or(0, |deadline| kernel.clock.timer_steps(deadline.saturating_sub(now)));
        self.apic.one_shot(interrupt::TIMER_VECTOR, steps);
    }

    /// Writes what waits for the console and is for a core that runs an environment, or (`None`) is idle. The
    /// lock is not held.
    fn write_out(&mut self, of: Option<EnvironmentId>) {
        let of = of.map(EnvironmentId::number);
        if self.console_due.is_some_and(|due| ticks() < due) && self.console.is_waiting(of) {
            return;
        }
        // If another core has written what was left, there is nothing to come back for.
        self.console_due = match self.console.write_out(of) {
            Written::All => None,
            Written::NotYet => Some(ticks().saturating_add(self.console_rest)),
        };
    }

    /// Halts until an interrupt.
    fn idle(&mut self, held: Held<'_>) {
        if held.has_remains() {
            return;
        }
        let held = held.without(|| self.write_out(None));
        let now = ticks();
        // Whatever came while the lock was not held is looked at first.
        if self.signals.pending(self.number) || self.number == 0 && self.signals.devices_pending() {
            return;
        }
        let deadline = held.next_deadline(self.number);
        self.wake_at(&held, deadline, now);
        drop(held);
        self.backend.prepare_halt();
        interrupt::halt();
    }

    /// Gives the core to an environment until its slice ends or it has nothing to do.
    fn slice(&mut self, mut held: Held<'_>, id: EnvironmentId) {
        let Some(mut holder) = self.take(&mut held, id) else { return };
        held.on_behalf_of(holder.accounting);
        count(&holder.accounting.slices, 1);
        self.run_slice(held, &mut holder);
        self.holder = Some(holder);
    }

    fn run_slice<'k>(&mut self, mut held: Held<'k>, holder: &mut Holder) {
        // `run` has just attended.
        let mut now = ticks();
        while self.goes_on(&mut held, holder, now) {
            let mut after = After::Continue;
            while after == After::Continue {
                (held, after) = self.step(held, holder);
            }
            match after {
                After::Yield(successor) => {
                    self.successor = successor;
                    return;
                }
                After::Again => held = held.let_others(),
                After::Continue | After::Look => {}
            }
            (held, now) = self.attend(held);
        }
    }

    /// Goes on with the call that a virtual CPU has made, or else runs it until its next exit.
    fn step<'k>(&mut self, mut held: Held<'k>, holder: &mut Holder) -> (Held<'k>, After) {
        let Holder { who, vcpu, .. } = holder;
        // Another core may have ended it; or something has come that `run_slice` must look at.
        let Some(slot) = held.live_vcpu_slot(*who).filter(|slot| !slot.posted) else {
            return (held, After::Look);
        };
        if self.signals.pending(self.number) {
            return (held, After::Look);
        }
        if slot.underway.is_some() {
            let after = call::go_on(&mut held, *who, &mut **vcpu);
            return (held, after);
        }
        if core::mem::take(&mut slot.flush) {
            vcpu.flush_nested();
        }
        if core::mem::take(&mut slot.views_changed)
            && let Some(change) = view_change(&mut held, *who)
        {
            vcpu.change_views(&change);
        }
        let exit;
        (held, exit) = self.enter(held, holder);
        let Some(exit) = exit else { return (held, After::Continue) };
        let after = act(&mut held, holder.who, &mut *holder.vcpu, exit);
        (held, after)
    }

    /// Attends to devices and time; what interrupts bring from now on is new. Returns the time.
    ///
    /// Everything that there is to attend to comes with an interrupt (device, timer, another core's call) or
    /// by the guest's own doing, so it is not looked for at every exit.
    fn attend<'k>(&self, mut held: Held<'k>) -> (Held<'k>, u64) {
        self.signals.take_pending(self.number);
        loop {
            let now = ticks();
            if held.attend(self.number, now) == Work::Done {
                return (held, now);
            }
            held = held.let_others();
        }
    }

    /// Whether an environment goes on: it has something to do, and its slice is not over. If so, posts its
    /// upcall and sets the timer for what comes next.
    fn goes_on(&mut self, kernel: &mut Kernel, holder: &mut Holder, now: u64) -> bool {
        let Holder { who, vcpu, accounting } = holder;
        if !kernel.runnable_on(who.environment, self.number) {
            return false;
        }
        // While nobody else wants the core, the slice goes on.
        let contended = kernel.contended(self.number, who.environment);
        if contended && now >= self.slice_end {
            return false;
        }
        let Some(slot) = kernel.vcpu_slot(*who) else { return false };
        if core::mem::take(&mut slot.posted) && !vcpu.upcall_posted() {
            vcpu.post_upcall(VECTOR);
            count(&accounting.upcalls, 1);
        }
        let patience = vcpu.patience_us();
        // The next of moments that lie that far apart: the timer is set once for all upcalls until then.
        let soon = patience.map(|us| kernel.clock.ticks_of_us(us).max(1)).map(|step| (now / step + 1) * step);
        let end = contended.then_some(self.slice_end);
        let deadlines = kernel.next_deadline(self.number).into_iter().chain(end).chain(soon);
        self.wake_at(kernel, deadlines.min(), now);
        true
    }

    /// Runs a virtual CPU, without the lock, until an exit that wants it; `None` if the last exit has been
    /// answered, and something else asks for attention.
    fn enter<'k>(&mut self, held: Held<'k>, holder: &mut Holder) -> (Held<'k>, Option<VmExit>) {
        let Holder { who, vcpu, accounting } = holder;
        self.signals.entering(self.number, who.environment);
        let host = self.backend.host_page();
        let (released, start) = held.release();
        self.write_out(Some(who.environment));
        let exit = loop {
            let exit = vcpu.run(host);
            count(&accounting.exits[kind(&exit) as usize], 1);
            if !emulate::answer(&mut **vcpu, exit) {
                break Some(exit);
            }
            if self.signals.pending(self.number) {
                break None;
            }
        };
        count(&accounting.guest_cycles, ticks().wrapping_sub(start));
        self.signals.left(self.number);
        (released.lock(), exit)
    }
}

/// What a virtual CPU must be told of its environment's views, which have changed since it ran.
fn view_change(kernel: &mut Kernel, who: VcpuId) -> Option<ViewChange> {
    let new = kernel.pages.view_identities(who.environment);
    let slot = kernel.vcpu_slot(who)?;
    let old = core::mem::replace(&mut slot.views_seen, new);
    let list = kernel.pages.view_list(who.environment)?;
    let roots = kernel.pages.view_roots(who.environment);
    Some(ViewChange { list, roots, kept: virt::kept(&old, &new) })
}

/// Acts on an exit, unless another core has ended the environment.
fn act(kernel: &mut Kernel, who: VcpuId, vcpu: &mut dyn Vcpu, exit: VmExit) -> After {
    let Some(slot) = kernel.live_vcpu_slot(who) else { return After::Look };
    let death = match exit {
        VmExit::Hypercall => return call::dispatch(kernel, who, vcpu),
        VmExit::Interrupt | VmExit::Window => return After::Look,
        VmExit::Halt if !vcpu.interrupts_enabled() => Death::HaltedForever { rip: vcpu.rip() },
        VmExit::Halt => {
            slot.waiting = !vcpu.upcall_posted() && !slot.posted;
            return After::Look;
        }
        VmExit::Handled
        | VmExit::Cpuid
        | VmExit::MsrRead(_)
        | VmExit::MsrWrite(_)
        | VmExit::Port
        | VmExit::Privileged
        | VmExit::Undefined
        | VmExit::Xsetbv => unreachable!("`emulate::answer` has seen to it"),
        VmExit::NestedFault(fault) => {
            if slot.faults.is_some_and(|target| fault::deliver(&target, &fault, vcpu)) {
                return After::Continue;
            }
            Death::NestedFault { address: fault.address, access: fault.access, rip: vcpu.rip() }
        }
        VmExit::MachineCheck => panic!("machine check while an environment was running"),
        VmExit::TripleFault => Death::TripleFault { rip: vcpu.rip() },
        VmExit::InvalidState => Death::InvalidState { rip: vcpu.rip() },
        VmExit::Unknown(code) => Death::UnknownExit { code, rip: vcpu.rip() },
    };
    kernel.end(who.environment, Ending::Killed(death));
    After::Look
}

/// Under which heading an exit is counted.
fn kind(exit: &VmExit) -> Exit {
    match exit {
        VmExit::Hypercall => Exit::Hypercall,
        VmExit::Interrupt => Exit::Interrupt,
        VmExit::Halt => Exit::Halt,
        VmExit::Cpuid => Exit::Cpuid,
        VmExit::MsrRead(_) | VmExit::MsrWrite(_) => Exit::Msr,
        VmExit::Port => Exit::Port,
        VmExit::NestedFault(_) => Exit::NestedFault,
        VmExit::Window => Exit::Window,
        VmExit::Undefined | VmExit::Privileged | VmExit::Xsetbv | VmExit::Handled => Exit::Privileged,
        VmExit::MachineCheck | VmExit::TripleFault | VmExit::InvalidState | VmExit::Unknown(_) => Exit::Other,
    }
}
