//! The kernel: its resources, and what is done to them.
//!
//! There is one [`Kernel`]; cores ([`crate::cores`]) share it behind one lock.
//!
//! Invariant: whoever takes a binding out of a nested page table calls [`Kernel::settle`] before the lock is
//! released, so that no core goes on with a translation that is no more.

use crate::capability::Authority;
use crate::disk::Disk;
use crate::env::{Ending, Environment, NestedMemory, VirtualCpu};
use crate::interrupt;
use crate::log;
use crate::memory::PhysicalMemory;
use crate::net::Net;
use crate::resource::core::SliceVector;
use crate::resource::page::{EnvironmentId, FrameTable};
use crate::resource::view::ViewTable;
use crate::settings::Settings;
use crate::view::Place;
use crate::virt::nested::{NestedTable, TableMemory};
use crate::virt::{Backend, Vcpu};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::Owners;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::acpi::Machine;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::time::ticks;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// TSC value when the kernel was entered.
    pub boot_tsc: u64,
    /// Steps of the local APIC timers in a second.
    pub apic_hz: u64,
}

impl Clock {
    /// Ticks in a number of microseconds.
    pub fn ticks_of_us(&self, us: u64) -> u64 {
        scale(us, self.tsc_hz, 1_000_000)
    }

    /// Steps of a local APIC timer in a number of ticks, as many as the timer can count, at least one.
    pub fn timer_steps(&self, ticks: u64) -> u32 {
        u32::try_from(scale(ticks, self.apic_hz, self.tsc_hz)).unwrap_or(u32::MAX).max(1)
    }
}

/// `value * numerator / denominator` without overflow on the way.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Frames of the free-frame bitmap.
#[derive(Clone, Copy)]
pub struct FreeMap {
    /// First frame.
    pub first_frame: u64,
    /// Frames.
    pub frames: u64,
}

/// A virtual CPU, where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuId {
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its index there.
    pub index: usize,
    /// Its core.
    pub core: usize,
}

/// What all cores share.
pub struct Kernel {
    /// Physical memory.
    pub memory: PhysicalMemory,
    /// Who owns which frame.
    pub frames: FrameTable,
    /// Maker of capabilities.
    pub authority: Authority,
    /// The disk, if there is one.
    pub disk: Option<Disk>,
    /// The network.
    pub net: Net,
    /// Environments; number `n` has index `n - 1`.
    pub environments: Vec<Environment>,
    /// Nested tables besides those of the environments.
    pub views: ViewTable,
    /// Index of the environment whose ring is looked at first when the disk has room.
    pub first_served: usize,
    /// Slices of each core that has come up.
    pub slices: Vec<SliceVector>,
    /// Processors of the machine, as its tables tell.
    pub processors: Option<Machine>,
    /// The local APIC, at the same address on every core.
    pub apic: LocalApic,
    /// Time.
    pub clock: Clock,
    /// Settings from the command line.
    pub settings: Settings,
    /// The processor's virtualization extension, as the first core turned it on.
    pub backend: &'static dyn Backend,
    /// Cores that have virtual CPUs of environments that have ended, a bit each: [`Kernel::retire_vcpus`].
    pub retiring: u32,
    /// The free-frame bitmap that everybody can read.
    pub free_map: FreeMap,
    /// The page of owners that everybody can read.
    pub owners: &'static Owners,
    /// Frame of that page.
    pub owners_frame: u64,
}

impl Kernel {
    /// Environment number `id`.
    ///
    /// # Panics
    ///
    /// If there is no such environment: numbers come from the kernel itself.
    pub fn environment(&mut self, id: EnvironmentId) -> &mut Environment {
        &mut self.environments[usize::from(id) - 1]
    }

    /// A virtual CPU with all that belongs to it.
    pub fn slot(&mut self, who: VcpuId) -> &mut VirtualCpu {
        &mut self.environment(who.environment).vcpus[who.index]
    }

    /// The processor state of a virtual CPU between an exit and the next entry on its own core.
    ///
    /// # Panics
    ///
    /// If it is running: only its own core asks.
    pub fn vcpu(&mut self, who: VcpuId) -> &mut dyn Vcpu {
        &mut **self.slot(who).vcpu.as_mut().expect("between exit and entry the state is here")
    }

    /// The place of an environment's nested page table, and memory for tables on the environment's account,
    /// up to its quota unless `forced`.
    pub fn tables(
        &mut self,
        id: EnvironmentId,
        forced: bool,
    ) -> (&mut Option<NestedTable>, NestedMemory<'_>) {
        let environment = &mut self.environments[usize::from(id) - 1];
        let used = self.frames.owned_by(id) + environment.tables;
        let memory = NestedMemory {
            frames: &mut self.frames,
            memory: self.memory,
            room: if forced { u64::MAX } else { environment.quota.saturating_sub(used) },
            tables: &mut environment.tables,
        };
        (&mut environment.nested, memory)
    }

    /// An environment's nested page table, unless it has ended, with the memory to change it: see
    /// [`Kernel::tables`].
    pub fn nested(
        &mut self,
        id: EnvironmentId,
        forced: bool,
    ) -> Option<(&mut NestedTable, NestedMemory<'_>)> {
        let (nested, memory) = self.tables(id, forced);
        Some((nested.as_mut()?, memory))
    }

    /// Makes a change of an environment's nested page table final: no core runs it, or will, with old
    /// translations.
    pub fn settle(&mut self, id: EnvironmentId) {
        let environment = self.environment(id);
        if environment.nested.as_mut().is_some_and(NestedTable::take_flush) {
            environment.vcpus.iter_mut().for_each(|slot| slot.flush = true);
            interrupt::fetch_back(id);
        }
    }

    /// Ends all bindings of a run of frames, but for those of `except`.
    pub fn end_bindings(&mut self, frames: Range<u64>, except: Option<EnvironmentId>) {
        if !self.frames.any_bound(frames.clone()) {
            return;
        }
        for index in 0..self.environments.len() {
            let id = self.environments[index].id;
            if Some(id) == except {
                continue;
            }
            if let Some((nested, mut memory)) = self.nested(id, true) {
                nested.unmap(&mut memory, frames.start, frames.end - frames.start);
                self.settle(id);
            }
        }
        for view in self.views.ids() {
            let spared = |id| self.views.get(view).is_some_and(|view| view.is_private_to(id));
            if except.is_some_and(spared) {
                continue;
            }
            if let Some((nested, mut memory)) = self.nested_at(Place::View(view), true) {
                nested.unmap(&mut memory, frames.start, frames.end - frames.start);
                self.settle_at(Place::View(view));
            }
        }
    }

    /// Brings the readable counts of an environment's frames, tables and the kernel's up to date.
    pub fn update_frames(&mut self, id: EnvironmentId) {
        let owned = self.frames.owned_by(id);
        self.owners.frames[usize::from(id)].store(owned, Ordering::Relaxed);
        self.owners.frames[0].store(self.frames.owned_by(0), Ordering::Relaxed);
        self.owners.free_frames.store(self.frames.free_frames(), Ordering::Relaxed);
        let environment = self.environment(id);
        environment.accounting.frames.store(owned, Ordering::Relaxed);
        environment.peak_frames = environment.peak_frames.max(owned + environment.tables);
    }

    /// Brings the readable count of an environment's disk blocks up to date.
    pub fn update_blocks(&mut self, id: EnvironmentId) {
        if let Some(disk) = &self.disk {
            self.owners.blocks[usize::from(id)].store(disk.extents.owned_by(id), Ordering::Relaxed);
        }
    }

    /// Takes what is in an environment's ring.
    ///
    /// # Errors
    ///
    /// [`Status::NoDevice`], [`Status::NotBound`] without a ring, [`Status::BadArgument`] when its index
    /// makes no sense.
    pub fn serve_ring(&mut self, id: EnvironmentId) -> Result<(), Status> {
        let Kernel { disk, environments, frames, memory, .. } = self;
        let disk = disk.as_mut().ok_or(Status::NoDevice)?;
        disk.serve(&mut environments[usize::from(id) - 1], frames, *memory, ticks())
    }

    /// Ends an environment and takes back all it had.
    pub fn end(&mut self, id: EnvironmentId, ending: Ending) {
        let environment = self.environment(id);
        if environment.ended() {
            return;
        }
        let Environment { name, line, .. } = environment;
        line.flush(|text| crate::console::environment_line(name, text));
        environment.ending = Some(ending);
        log!("{} ended: {ending}", environment.name);
        environment.vcpus.iter_mut().for_each(|slot| slot.timer = None);
        let cores = environment.vcpus.iter().fold(0, |cores, slot| cores | 1 << slot.core);
        environment.extents.clear();
        let ring = environment.ring.take();
        let net_rings = environment.net_rings.take();
        self.retiring |= cores;
        self.slices.iter_mut().for_each(|slices| slices.remove(id));
        // Nothing is taken apart while another core still runs on it.
        interrupt::fetch_back(id);
        if let Some(ring) = ring {
            let frames = ring.first_frame..ring.first_frame + hyperexo_abi::ring::RING_FRAMES;
            frames.for_each(|frame| self.frames.unpin(frame));
        }
        for index in 0..self.environment(id).vcpus.len() {
            if let Some(target) = self.environment(id).vcpus[index].faults.take() {
                self.frames.unpin(target.frame);
            }
        }
        if let Some(rings) = net_rings {
            let frames = rings.first_frame..rings.first_frame + hyperexo_abi::net::NET_RING_FRAMES;
            frames.for_each(|frame| self.frames.unpin(frame));
        }
        self.net.filters.release_all(id);
        self.end_views(id);
        let (nested, mut memory) = self.tables(id, true);
        if let Some(nested) = nested.take() {
            nested.destroy(&mut memory);
        }
        // After its own bindings are gone, so that only frames that others have bound cost a look at the
        // others.
        self.end_foreign_bindings(id);
        self.frames.release_all(id);
        if let Some(disk) = &mut self.disk {
            disk.release_all(id);
        }
        self.update_frames(id);
        self.update_blocks(id);
        // Each core gives the memory of its virtual CPU back.
        let finished = self.finished();
        (0..self.slices.len()).filter(|core| finished || cores >> core & 1 != 0).for_each(interrupt::wake);
    }

    /// Gives back the memory of this core's virtual CPUs whose environments have ended. The core does it
    /// itself: the processor may hold parts of their state.
    pub fn retire_vcpus(&mut self, core: usize) {
        if self.retiring >> core & 1 == 0 {
            return;
        }
        self.retiring &= !(1 << core);
        for id in 1..=self.environments.len() as EnvironmentId {
            let environment = self.environment(id);
            let Some(index) = environment.on_core(core).filter(|_| environment.ended()) else { continue };
            let Some(mut vcpu) = environment.vcpus[index].vcpu.take() else { continue };
            vcpu.leave_core();
            let frames = vcpu.dismantle();
            let (_, mut memory) = self.tables(id, true);
            frames.iter().for_each(|frame| memory.release(*frame));
            self.update_frames(id);
        }
    }

    /// Ends what others have bound of an environment's frames.
    fn end_foreign_bindings(&mut self, id: EnvironmentId) {
        let mut frame = 0;
        while let Some(owned) = self.frames.next_owned(id, frame) {
            self.end_bindings(owned.clone(), Some(id));
            frame = owned.end;
        }
    }

    /// Whether all environments have ended.
    pub fn finished(&self) -> bool {
        self.environments.iter().all(Environment::ended)
    }

    /// The owner of a core's next slice that has something to do.
    pub fn next_slice(&mut self, core: usize) -> Option<EnvironmentId> {
        let Kernel { slices, environments, .. } = self;
        slices[core].advance(|id| environments[usize::from(id) - 1].runnable_on(core))
    }

    /// Whether anyone besides `id` wants a core.
    pub fn contended(&self, core: usize, id: EnvironmentId) -> bool {
        self.slices[core].contended(id, |other| self.environments[usize::from(other) - 1].runnable_on(core))
    }

    /// Does what devices ask for, and time on a core.
    pub fn attend(&mut self, core: usize, now: u64) {
        let disk_due =
            self.disk.as_ref().and_then(Disk::next_deadline).is_some_and(|deadline| deadline <= now);
        if interrupt::take_disk() || disk_due {
            self.attend_disk(now);
        }
        let net_due = self.net.next_deadline().is_some_and(|deadline| deadline <= now);
        if interrupt::take_net() || net_due {
            self.net.attend(&mut self.environments, self.memory, now);
        }
        for environment in &mut self.environments {
            let Some(index) = environment.on_core(core) else { continue };
            if environment.vcpus[index].timer.is_some_and(|deadline| deadline <= now) {
                environment.vcpus[index].timer = None;
                environment.upcall(index, Cause::Timer);
            }
        }
    }

    /// Takes what the disk has finished, and gives it more to do.
    fn attend_disk(&mut self, now: u64) {
        let Kernel { disk: Some(disk), environments, frames, memory, first_served, .. } = self else {
            return;
        };
        disk.collect(environments, frames, now);
        // Completions made room: rings that had to wait go on, another one first each time.
        *first_served = (*first_served + 1) % environments.len().max(1);
        let (later, sooner) = environments.split_at_mut(*first_served);
        for environment in sooner.iter_mut().chain(later).filter(|environment| environment.ring.is_some()) {
            // An index that makes no sense is the business of its owner's next kick.
            let _ = disk.serve(environment, frames, *memory, now);
        }
    }

    /// The next moment at which something is due on a core, besides the end of a slice.
    pub fn next_deadline(&self, core: usize) -> Option<u64> {
        let vcpus = self.environments.iter().flat_map(|environment| &environment.vcpus);
        let timers = vcpus.filter(|slot| slot.core == core).filter_map(|slot| slot.timer);
        // The first core, where devices' interrupts arrive, minds their deadlines too.
        let disk = self.disk.as_ref().filter(|_| core == 0).and_then(Disk::next_deadline);
        let net = Some(&self.net).filter(|_| core == 0).and_then(Net::next_deadline);
        // A disk in memory finishes what it is given without an interrupt to say so.
        let said = interrupt::disk_pending().then_some(0);
        timers.chain(disk).chain(net).chain(said).min()
    }
}
