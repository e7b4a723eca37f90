//! A core: the loop that gives it to environments, slice by slice, and takes it back.
//!
//! Each core runs this loop on its own. What cores share is in the [`Kernel`], behind one lock, which is
//! never held while a guest runs. Exits are dealt with at one of three places, the nearest that can:
//!
//! | where | what | needs |
//! |---|---|---|
//! | the backend ([`crate::virt::switch`]) | quick calls | a few registers |
//! | [`emulate::answer`] | what concerns nothing but the virtual CPU: CPUID, MSRs, refused instructions and calls | the virtual CPU, which the core holds |
//! | `act` | the rest | the lock |

use crate::emulate;
use crate::env::{Death, Ending, VirtualCpu, count};
use crate::fault;
use crate::hypercall;
use crate::interrupt;
use crate::kernel::{Kernel, VcpuId};
use crate::resource::page::EnvironmentId;
use crate::view;
use crate::virt::{Backend, ViewChange, VmExit};
use core::sync::atomic::{AtomicU32, Ordering};
use hyperexo_abi::accounting::Exit;
use hyperexo_abi::upcall::VECTOR;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::time::ticks;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// How a core waits for another: it looks often, and executes `PAUSE` rarely, which under emulation stops the
/// core that waits so long that others, on as few processors, get on.
pub struct Patience;

impl RelaxStrategy for Patience {
    fn relax() {
        /// Turns of all cores.
        static TURNS: AtomicU32 = AtomicU32::new(0);
        /// Turns between two `PAUSE`s: some 4,000 instructions.
        const PAUSE_AFTER: u32 = 256;
        for _ in 0..16 {
            core::hint::black_box(());
        }
        if TURNS.fetch_add(1, Ordering::Relaxed).is_multiple_of(PAUSE_AFTER) {
            core::hint::spin_loop();
        }
    }
}

/// What all cores share.
pub type SharedKernel = SpinMutex<Kernel, Patience>;
type Guard<'k> = SpinMutexGuard<'k, Kernel, Patience>;

/// What follows from an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The slice goes on, and nothing has changed but the guest's registers.
    Continue,
    /// The slice goes on; a timer, a request or a binding may have changed, or something asks for attention.
    Look,
    /// The environment gives up its slice, perhaps to a successor.
    Yield(Option<EnvironmentId>),
}

/// One core.
pub struct Core {
    /// Number, from 0.
    number: usize,
    apic: LocalApic,
    backend: &'static dyn Backend,
    /// The TSC value for which the timer is set.
    armed: Option<u64>,
    /// Whose extended state is in the core's registers.
    holder: Option<EnvironmentId>,
    /// Who was named as successor by a yield.
    successor: Option<EnvironmentId>,
    /// TSC value at which the slice that is being used ends; a successor gets no more than the rest.
    slice_end: u64,
}

impl Core {
    /// Core number `number`, the one that calls this.
    pub fn new(number: usize, apic: LocalApic, backend: &'static dyn Backend) -> Core {
        Core { number, apic, backend, armed: None, holder: None, successor: None, slice_end: 0 }
    }

    /// Runs environments until all have ended.
    pub fn run(&mut self, kernel: &SharedKernel) {
        loop {
            let mut guard = kernel.lock();
            guard.retire_vcpus(self.number);
            if guard.finished() {
                return;
            }
            let now = self.attend(&mut guard);
            let number = self.number;
            let can_run = |kernel: &Kernel, id: EnvironmentId| {
                kernel.environments[usize::from(id) - 1].runnable_on(number)
            };
            let named = self.successor.take().filter(|id| now < self.slice_end && can_run(&guard, *id));
            let chosen = named.or_else(|| {
                let length = guard.clock.ticks_of_us(guard.settings.slice_us);
                self.slice_end = now.saturating_add(length);
                guard.next_slice(number)
            });
            match chosen {
                Some(id) => self.slice(kernel, guard, id),
                None => self.idle(guard),
            }
        }
    }

    /// Raises the timer interrupt at a TSC value; `None`: never.
    fn wake_at(&mut self, kernel: &Kernel, deadline: Option<u64>, now: u64) {
        // Setting the timer costs more than most exits: it is left alone while it is right.
        if !interrupt::timer_fired(self.number) && deadline == self.armed {
            return;
        }
        self.armed = deadline;
        let steps = deadline.map_or(0, |deadline| kernel.clock.timer_steps(deadline.saturating_sub(now)));
        self.apic.one_shot(interrupt::TIMER_VECTOR, steps);
    }

    /// Halts until an interrupt.
    fn idle(&mut self, guard: Guard<'_>) {
        self.wake_at(&guard, guard.next_deadline(self.number), ticks());
        drop(guard);
        self.backend.prepare_halt();
        interrupt::wait(self.number);
    }

    /// Gives the core to an environment until its slice ends or it has nothing to do.
    fn slice<'k>(&mut self, kernel: &'k SharedKernel, mut guard: Guard<'k>, id: EnvironmentId) {
        let Some(index) = guard.environment(id).on_core(self.number) else { return };
        let who = VcpuId { environment: id, index, core: self.number };
        self.switch_to(&mut guard, who);
        count(&guard.environment(id).accounting.slices, 1);
        // `run` has just attended.
        let mut now = ticks();
        loop {
            if !self.goes_on(&mut guard, who, now) {
                return;
            }
            let mut after = After::Continue;
            while after == After::Continue && !interrupt::noticed(self.number) {
                let exit;
                (guard, exit) = self.enter(kernel, guard, who);
                // Another core may have ended it.
                if guard.environment(id).ended() {
                    return;
                }
                after = exit.map_or(After::Continue, |exit| act(&mut guard, who, exit));
            }
            if let After::Yield(successor) = after {
                self.successor = successor;
                return;
            }
            now = self.attend(&mut guard);
        }
    }

    /// Attends to devices and time; what interrupts bring from now on is new. Returns the time.
    ///
    /// Everything that there is to attend to comes with an interrupt (device, timer, another core's call) or
    /// by the guest's own doing, so it is not looked for at every exit.
    fn attend(&self, kernel: &mut Kernel) -> u64 {
        interrupt::take_notice(self.number);
        let now = ticks();
        kernel.attend(self.number, now);
        now
    }

    /// Whether an environment goes on: it has something to do, and its slice is not over. If so, posts its
    /// upcall and sets the timer for what comes next.
    fn goes_on(&mut self, kernel: &mut Kernel, who: VcpuId, now: u64) -> bool {
        if !kernel.environment(who.environment).runnable_on(self.number) {
            return false;
        }
        // While nobody else wants the core, the slice goes on.
        let contended = kernel.contended(self.number, who.environment);
        if contended && now >= self.slice_end {
            return false;
        }
        let accounting = kernel.environment(who.environment).accounting;
        let posted = core::mem::take(&mut kernel.slot(who).posted);
        let vcpu = kernel.vcpu(who);
        if posted && !vcpu.upcall_posted() {
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
    fn enter<'k>(
        &mut self,
        kernel: &'k SharedKernel,
        mut guard: Guard<'k>,
        who: VcpuId,
    ) -> (Guard<'k>, Option<VmExit>) {
        let accounting = guard.environment(who.environment).accounting;
        let change = self.view_change(&mut guard, who);
        let slot = guard.slot(who);
        let mut vcpu = slot.vcpu.take().expect("a core takes its own virtual CPU, and it is there");
        if let Some(change) = change {
            vcpu.change_views(&change);
        }
        if core::mem::take(&mut slot.flush) {
            vcpu.flush_nested();
        }
        interrupt::entering(self.number, who.environment);
        drop(guard);
        let host = self.backend.host_page();
        let start = ticks();
        let exit = loop {
            let exit = vcpu.run(host);
            count(&accounting.exits[kind(&exit) as usize], 1);
            if !emulate::answer(&mut *vcpu, exit) {
                break Some(exit);
            }
            if interrupt::noticed(self.number) {
                break None;
            }
        };
        let cycles = ticks().wrapping_sub(start);
        interrupt::left(self.number);
        let mut guard = kernel.lock();
        count(&accounting.guest_cycles, cycles);
        guard.slot(who).vcpu = Some(vcpu);
        (guard, exit)
    }

    /// What a virtual CPU must be told of its environment's views, if they have changed since it ran.
    fn view_change(&self, kernel: &mut Kernel, who: VcpuId) -> Option<ViewChange> {
        if !core::mem::take(&mut kernel.slot(who).views_changed) {
            return None;
        }
        let (roots, new) = (kernel.views.roots(who.environment), kernel.views.identities(who.environment));
        let old = core::mem::replace(&mut kernel.slot(who).views_seen, new);
        let list = kernel.environment(who.environment).view_list?;
        Some(ViewChange { list, roots, kept: view::kept(&old, &new) })
    }

    /// Exchanges what stays on the core while one environment goes in and out of the kernel.
    fn switch_to(&mut self, kernel: &mut Kernel, who: VcpuId) {
        if self.holder == Some(who.environment) {
            return;
        }
        if let Some(old) = self.holder {
            let core = self.number;
            let slot = kernel.environment(old).vcpus.iter_mut().find(|slot| slot.core == core);
            if let Some(vcpu) = slot.and_then(|slot| slot.vcpu.as_mut()) {
                vcpu.leave_core();
            }
        }
        kernel.vcpu(who).take_core();
        self.holder = Some(who.environment);
    }
}

/// Acts on an exit.
fn act(kernel: &mut Kernel, who: VcpuId, exit: VmExit) -> After {
    let vcpu = kernel.vcpu(who);
    let rip = vcpu.rip();
    let death = match exit {
        VmExit::Interrupt | VmExit::Window => return After::Look,
        VmExit::Hypercall => return hypercall::dispatch(kernel, who),
        VmExit::Halt if !vcpu.interrupts_enabled() => Death::HaltedForever { rip },
        VmExit::Halt => {
            let posted = vcpu.upcall_posted();
            let slot = kernel.slot(who);
            slot.waiting = !posted && !slot.posted;
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
            let VirtualCpu { vcpu: Some(vcpu), faults, .. } = kernel.slot(who) else {
                unreachable!("between exit and entry the state is here")
            };
            if faults.is_some_and(|target| fault::deliver(&target, &fault, &mut **vcpu)) {
                return After::Continue;
            }
            Death::NestedFault { address: fault.address, access: fault.access, rip }
        }
        VmExit::MachineCheck => panic!("machine check while an environment was running"),
        VmExit::TripleFault => Death::TripleFault { rip },
        VmExit::InvalidState => Death::InvalidState { rip },
        VmExit::Unknown(code) => Death::UnknownExit { code, rip },
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
