//! What the kernel's lock guards: resources and environments, and what concerns several of them.
//!
//! There is one [`Kernel`]. Cores ([`crate::cores`]) share it behind one lock. Nothing under the lock waits
//! for a device, and nothing takes long because a guest named much: long work is done in pieces.

use crate::environment::ending::Ending;
use crate::environment::vcpu::VirtualCpu;
use crate::environment::{Environment, Environments, Remains};
use crate::log;
use crate::machine::clock::Clock;
use crate::machine::console::Console;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::machine::interrupt::Signals;
use crate::resource::capability::Authority;
use crate::resource::disk::Disk;
use crate::resource::frame::account::Account;
use crate::resource::frame::binding::Everywhere;
use crate::resource::frame::stale::{Settled, Stale};
use crate::resource::frame::table::Owner;
use crate::resource::frame::views::{Left, ViewId};
use crate::resource::frame::{Pages, Place};
use crate::resource::net::Net;
use crate::resource::slice::SliceVector;
use crate::resource::{Calls, Resource, Work};
use crate::virt::Backend;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::button;

/// Frames of a dead environment that are given back at once.
const FRAMES_AT_ONCE: u64 = 64;
/// Nested tables in which their bindings are looked for at once.
const TABLES_AT_ONCE: usize = 8;

/// What all cores share.
pub struct Kernel {
    /// Frames and their bindings.
    pub pages: Pages,
    /// The disk, if there is one.
    pub disk: Option<Disk>,
    /// The network.
    pub net: Net,
    /// Slices of each core that has come up.
    pub slices: Vec<SliceVector>,
    /// Environments.
    pub environments: Environments,
    /// Maker of capabilities.
    pub authority: Authority,
    /// Time.
    pub clock: Clock,
    /// The processor's virtualization extension, as the first core turned it on.
    pub backend: &'static dyn Backend,
    /// What interrupts have brought, and who runs where.
    pub signals: &'static Signals,
    /// Ticks of a time slice.
    pub slice_ticks: u64,
    /// Where lines of environments go.
    pub console: &'static Console,
}

impl Kernel {
    /// A virtual CPU with all that belongs to it; `None` if its environment is no more.
    pub fn vcpu_slot(&mut self, who: VcpuId) -> Option<&mut VirtualCpu> {
        self.environments.vcpu_slot(who)
    }

    /// The same; `None`, too, if its environment has ended.
    pub fn live_vcpu_slot(&mut self, who: VcpuId) -> Option<&mut VirtualCpu> {
        let environment = self.environments.get_mut(who.environment)?;
        if environment.ended() { None } else { environment.vcpus.get_mut(who.index) }
    }

    /// Whether an environment has something to do on a core.
    pub fn runnable_on(&self, id: EnvironmentId, core: usize) -> bool {
        self.environments.get(id).is_some_and(|environment| environment.runnable_on(core))
    }

    /// Whether all environments have ended, and nothing of them is left.
    pub fn finished(&self) -> bool {
        self.environments.iter().all(|environment| environment.remains == Remains::Nothing)
    }

    /// The owner of a core's next slice that has something to do.
    pub fn next_slice(&mut self, core: usize) -> Option<EnvironmentId> {
        let Kernel { slices, environments, .. } = self;
        let runnable =
            |id| environments.get(id).is_some_and(|environment: &Environment| environment.runnable_on(core));
        slices[core].advance(runnable)
    }

    /// Whether anyone besides `id` wants a core.
    pub fn contended(&self, core: usize, id: EnvironmentId) -> bool {
        self.slices[core].contended(id, |other| self.runnable_on(other, core))
    }

    /// Shoots down what processors remember of bindings that were taken away: no core uses them any more.
    pub fn settle(&mut self, stale: Stale) -> Settled {
        for number in stale.flush.union(stale.lists).numbers() {
            let Some(id) = self.environments.named(number) else { continue };
            let (flush, lists) = (stale.flush.contains(id), stale.lists.contains(id));
            if lists {
                self.write_view_list(id);
            }
            let Some(environment) = self.environments.get_mut(id) else { continue };
            for slot in &mut environment.vcpus {
                slot.flush |= flush;
                slot.views_changed |= lists;
            }
            self.signals.shoot_down(id);
        }
        Settled::new(stale)
    }

    /// Writes an environment's list of views as the processor reads it.
    fn write_view_list(&mut self, id: EnvironmentId) {
        let Some(list) = self.pages.view_list(id) else { return };
        for (entry, root) in self.pages.view_roots(id).into_iter().enumerate() {
            let word = if root == 0 { 0 } else { self.backend.view_entry(root) };
            self.pages.memory.set_word(list, entry, word);
        }
    }

    /// Calls virtual CPUs.
    pub fn deliver(&mut self, calls: &Calls) {
        for (number, vcpu) in calls.iter() {
            if let Some(id) = self.environments.named(number)
                && let Some(environment) = self.environments.get_mut(id)
            {
                environment.upcall(vcpu, calls.cause, self.signals);
            }
        }
    }

    /// Does what devices and expired timers ask for; returns whether there is more to do at once.
    pub fn attend(&mut self, core: usize, now: u64) -> Work {
        let due = |resource: &dyn Resource| resource.next_deadline().is_some_and(|deadline| deadline <= now);
        let mut work = Work::Done;
        let disk_said = self.signals.take_disk();
        if let Some(disk) = &mut self.disk
            && (disk_said || due(disk))
        {
            let (calls, more) = disk.attend(&mut self.pages, now);
            if disk.take_done_already() || more == Work::More {
                self.signals.note_disk();
                work = Work::More;
            }
            self.deliver(&calls);
        }
        if self.signals.take_net() || due(&self.net) {
            let (calls, more) = self.net.attend(&mut self.pages, now);
            if more == Work::More {
                self.signals.note_net();
                work = Work::More;
            }
            self.deliver(&calls);
        }
        self.attend_timers(core, now);
        if button::take_press() {
            self.environments.iter_mut().for_each(|one| one.upcall(0, Cause::Power, self.signals));
        }
        work
    }

    fn attend_timers(&mut self, core: usize, now: u64) {
        let signals = self.signals;
        for environment in self.environments.iter_mut() {
            let Some(index) = environment.on_core(core) else { continue };
            if environment.vcpus[index].timer.is_some_and(|deadline| deadline <= now) {
                environment.vcpus[index].timer = None;
                environment.upcall(index, Cause::Timer, signals);
            }
        }
    }

    /// The next moment at which something is due on a core, besides the end of a slice.
    pub fn next_deadline(&self, core: usize) -> Option<u64> {
        let vcpus = self.environments.iter().flat_map(|environment| &environment.vcpus);
        let timers = vcpus.filter(|slot| slot.core == core).filter_map(|slot| slot.timer);
        // The first core, where devices' interrupts arrive, minds their deadlines too.
        let first = core == 0;
        let disk = self.disk.as_ref().filter(|_| first).and_then(Disk::next_deadline);
        let net = Some(&self.net).filter(|_| first).and_then(Net::next_deadline);
        // A disk in memory finishes what it is given without an interrupt to say so.
        let said = self.signals.devices_pending().then_some(0);
        timers.chain(disk).chain(net).chain(said).min()
    }

    /// Ends an environment: it never runs again. What it had is given back by [`Kernel::take_apart`].
    pub fn end(&mut self, id: EnvironmentId, ending: Ending) {
        let Some(environment) = self.environments.get_mut(id).filter(|environment| !environment.ended())
        else {
            return;
        };
        let Environment { name, line, .. } = environment;
        line.flush(|text| self.console.environment_line(id.number(), name, text));
        self.console.leave_to_all(id.number());
        log!("{} ended: {ending}", environment.name);
        environment.ending = Some(ending);
        environment.remains = Remains::Net;
        environment.vcpus.iter_mut().for_each(|slot| (slot.timer, slot.underway) = (None, None));
        self.slices.iter_mut().for_each(|slices| slices.remove(id));
        // Nothing is taken apart while another core still runs on it.
        self.signals.shoot_down(id);
        let Some(environment) = self.environments.get_mut(id) else { return };
        for slot in &mut environment.vcpus {
            if let Some(target) = slot.faults.take() {
                self.pages.unpin(core::iter::once(target.frame));
            }
        }
    }

    /// Whether there is an environment that has ended, of which something can be given back now.
    pub fn has_remains(&self) -> bool {
        self.environments.iter().any(can_be_taken_apart)
    }

    /// Gives back a piece of what an environment had that has ended.
    pub fn take_apart(&mut self) {
        let next = self.environments.iter().find(|environment| can_be_taken_apart(environment));
        let Some((id, remains)) = next.map(|environment| (environment.id, environment.remains)) else {
            return;
        };
        let remains = self.take_piece(id, remains);
        self.pages.publish(id);
        if let Some(environment) = self.environments.get_mut(id) {
            environment.remains = remains;
        }
        if self.finished() {
            (0..self.slices.len()).for_each(|core| self.signals.wake(core));
        }
    }

    /// One piece; what is left then.
    fn take_piece(&mut self, id: EnvironmentId, remains: Remains) -> Remains {
        match remains {
            Remains::Alive | Remains::Nothing => remains,
            Remains::Net => {
                if self.net.end(id, &mut self.pages) {
                    Remains::Views
                } else {
                    Remains::Net
                }
            }
            Remains::Views => self.leave_next_view(id),
            Remains::View { view, mut cursor } => {
                let last = self.pages.take_view_apart(view, &mut cursor);
                if last { Remains::Views } else { Remains::View { view, cursor } }
            }
            Remains::Frames { view, last } => match self.leave_frames(id, view, last) {
                Some(last) => Remains::Frames { view, last: Some(last) },
                None => Remains::Views,
            },
            Remains::Table { mut cursor } => {
                let last = self.pages.take_own_apart(id, &mut cursor);
                if !last {
                    return Remains::Table { cursor };
                }
                self.end_doorbells(id);
                Remains::Memory
            }
            Remains::Vcpus => self.end_vcpus(id),
            Remains::Memory => self.free_some(id),
            Remains::Bindings { first, end, progress } => self.end_bindings(id, first..end, progress),
            Remains::Disk => self.end_disk(id),
        }
    }

    fn leave_next_view(&mut self, id: EnvironmentId) -> Remains {
        let Some(entry) = self.pages.views_of(id).next() else {
            // The end may have come in the midst of `ViewEnd`.
            if let Some(view) = self.pages.ended_view_of(id) {
                return Remains::View { view, cursor: 0 };
            }
            self.pages.end_view_list(id);
            return self.call_holders(id);
        };
        match self.pages.leave_view(id, entry) {
            Ok((left, stale)) => {
                let _ = self.settle(stale);
                match left {
                    Left::Ended(view, _) => Remains::View { view, cursor: 0 },
                    Left::Remains(view) => Remains::Frames { view, last: None },
                }
            }
            Err(_) => self.call_holders(id),
        }
    }

    /// Takes some of an environment's own frames out of a view of somebody else's; returns the last of them,
    /// or `None` if there are no more.
    pub fn leave_frames(&mut self, id: EnvironmentId, view: ViewId, last: Option<u64>) -> Option<u64> {
        // If the last one has gone to somebody else meanwhile, what follows it is that one's: from the first
        // again.
        let still = |frame: &u64| self.pages.frames.owner(*frame) == Owner::Environment(id);
        let (mut at, mut stale) = (last.filter(still), Stale::none());
        for _ in 0..FRAMES_AT_ONCE {
            at = self.pages.frames.next_owned(id, at);
            let Some(frame) = at else { break };
            stale = stale.and(self.pages.unmap(Place::View(view), frame..frame + 1, Account::Kernel));
        }
        let _ = self.settle(stale);
        at
    }

    /// Frees some frames of an environment that has ended, or begins to.
    fn free_some(&mut self, id: EnvironmentId) -> Remains {
        let Some(frames) = self.pages.frames.some_owned(id, FRAMES_AT_ONCE) else { return Remains::Disk };
        // Nobody binds them any more.
        let generation = self.pages.frames.fresh_generation();
        self.pages.frames.stamp(frames.clone(), generation);
        let Range { start, end } = frames;
        self.end_bindings(id, start..end, Everywhere::default())
    }

    /// Ends bindings that others have of frames of an environment that has ended, in some of the tables there
    /// are, and frees them after the last.
    fn end_bindings(&mut self, id: EnvironmentId, frames: Range<u64>, mut progress: Everywhere) -> Remains {
        let (stale, last) =
            self.pages.unbind_everywhere(frames.clone(), Some(id), &mut progress, TABLES_AT_ONCE);
        let settled = self.settle(stale);
        if last {
            self.pages.free(frames, &settled);
            return Remains::Memory;
        }
        Remains::Bindings { first: frames.start, end: frames.end, progress }
    }

    /// Has cores let go of the virtual CPUs of an environment that has ended.
    fn call_holders(&mut self, id: EnvironmentId) -> Remains {
        if let Some(environment) = self.environments.get(id) {
            environment
                .vcpus
                .iter()
                .filter(|slot| slot.vcpu.is_none())
                .for_each(|slot| self.signals.wake(slot.core));
        }
        Remains::Vcpus
    }

    /// Takes the virtual CPUs of an environment apart. No core holds one any more.
    fn end_vcpus(&mut self, id: EnvironmentId) -> Remains {
        let Some(environment) = self.environments.get_mut(id) else { return Remains::Table { cursor: 0 } };
        for vcpu in environment.vcpus.iter_mut().filter_map(|slot| slot.vcpu.take()) {
            let frames = vcpu.dismantle();
            frames.into_iter().for_each(|frame| self.pages.discharge(id, frame));
        }
        Remains::Table { cursor: 0 }
    }

    /// Gives back the frames through which virtual CPUs are called. No table shows them any more.
    fn end_doorbells(&mut self, id: EnvironmentId) {
        let Some(environment) = self.environments.get_mut(id) else { return };
        for slot in environment.vcpus.drain(..) {
            self.pages.discharge(id, slot.doorbell_frame);
        }
    }

    fn end_disk(&mut self, id: EnvironmentId) -> Remains {
        let over = self.disk.as_mut().is_none_or(|disk| disk.end(id, &mut self.pages));
        if !over {
            return Remains::Disk;
        }
        Remains::Nothing
    }
}

/// Whether something of an environment can be given back now. Its virtual CPUs can only when no core holds
/// one any more; a core lets go when it next looks.
fn can_be_taken_apart(environment: &Environment) -> bool {
    match environment.remains {
        Remains::Alive | Remains::Nothing => false,
        Remains::Vcpus => environment.vcpus.iter().all(|slot| slot.vcpu.is_some()),
        _ => true,
    }
}
