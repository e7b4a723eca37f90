//! The kernel: its resources, and the loop that gives the core to environments and acts on their exits.

use crate::capability::Authority;
use crate::disk::Disk;
use crate::env::{Death, Ending, Environment, NestedMemory, State, count};
use crate::hypercall;
use crate::interrupt;
use crate::log;
use crate::memory::PhysicalMemory;
use crate::resource::core::SliceVector;
use crate::resource::page::{EnvironmentId, FrameTable};
use crate::settings::Settings;
use crate::virt::nested::NestedTable;
use crate::virt::xstate::Support;
use crate::virt::{Backend, Exception, VmExit, cpuid};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::{Exit, Owners};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::time::ticks;

const MSR_TSC: u32 = 0x10;
const MSR_EFER: u32 = 0xc000_0080;

/// How long an upcall may be deferred by an interrupt shadow (see [`crate::virt::Vcpu::upcall_deferred`]).
const DEFERRED_UPCALL_US: u64 = 50;

/// What time it is, and how to be woken.
pub struct Clock {
    /// Ticks of the TSC in a second.
    pub tsc_hz: u64,
    /// TSC value when the kernel was entered.
    pub boot_tsc: u64,
    /// The timer.
    pub apic: LocalApic,
    /// Steps of the timer in a second.
    apic_hz: u64,
    /// The TSC value for which the timer is set.
    armed: Option<u64>,
}

impl Clock {
    /// A clock whose timer is stopped.
    pub fn new(tsc_hz: u64, boot_tsc: u64, apic: LocalApic, apic_hz: u64) -> Clock {
        Clock { tsc_hz, boot_tsc, apic, apic_hz, armed: None }
    }

    /// Ticks in a number of microseconds.
    pub fn ticks_of_us(&self, us: u64) -> u64 {
        scale(us, self.tsc_hz, 1_000_000)
    }

    /// Raises the timer interrupt at a TSC value, as far ahead as the timer can count; `None`: never.
    fn wake_at(&mut self, deadline: Option<u64>, now: u64) {
        // Setting the timer costs more than most exits: it is left alone while it is right.
        if !interrupt::take(interrupt::TIMER) && deadline == self.armed {
            return;
        }
        self.armed = deadline;
        let steps = deadline.map_or(0, |deadline| {
            let steps = scale(deadline.saturating_sub(now), self.apic_hz, self.tsc_hz);
            u32::try_from(steps).unwrap_or(u32::MAX).max(1)
        });
        self.apic.one_shot(interrupt::TIMER_VECTOR, steps);
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

/// The kernel of a core.
pub struct Kernel {
    /// Physical memory.
    pub memory: PhysicalMemory,
    /// Who owns which frame.
    pub frames: FrameTable,
    /// Maker of capabilities.
    pub authority: Authority,
    /// The disk, if there is one.
    pub disk: Option<Disk>,
    /// Environments; number `n` has index `n - 1`.
    pub environments: Vec<Environment>,
    /// Slices of the core.
    pub slices: SliceVector,
    /// Time.
    pub clock: Clock,
    /// Settings from the command line.
    pub settings: Settings,
    /// The processor's virtualization extension.
    pub backend: Backend,
    /// What extended state the processor has.
    pub extended_support: Support,
    /// The free-frame bitmap that everybody can read.
    pub free_map: FreeMap,
    /// The page of owners that everybody can read.
    pub owners: &'static Owners,
    /// Frame of that page.
    pub owners_frame: u64,
    /// Who has the core's extended state.
    pub on_core: Option<EnvironmentId>,
    /// Who was named as successor by a yield.
    pub successor: Option<EnvironmentId>,
    /// Whether the environment that has the core gave up its slice.
    pub yielded: bool,
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

    /// An environment's nested page table with the memory to change it, charged to its quota unless `forced`.
    pub fn nested(
        &mut self,
        id: EnvironmentId,
        forced: bool,
    ) -> Option<(&mut NestedTable, NestedMemory<'_>)> {
        let environment = &mut self.environments[usize::from(id) - 1];
        let quota = if forced { u64::MAX } else { environment.quota };
        let memory = NestedMemory {
            frames: &mut self.frames,
            memory: self.memory,
            owner: id,
            quota,
            tables: &mut environment.tables,
        };
        Some((environment.nested.as_mut()?, memory))
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
            }
        }
    }

    /// Brings the readable counts of an environment's frames up to date.
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
    /// [`Status::NoDevice`], [`Status::NotBound`] without a ring, [`Status::BadArgument`] when its index makes no sense.
    pub fn serve_ring(&mut self, id: EnvironmentId) -> Result<(), Status> {
        let Kernel { disk, environments, frames, memory, .. } = self;
        let disk = disk.as_mut().ok_or(Status::NoDevice)?;
        disk.serve(&mut environments[usize::from(id) - 1], frames, *memory, ticks())
    }

    /// Ends the slice of the environment that has the core, naming a successor or not.
    pub fn yield_to(&mut self, number: u64) {
        self.successor = hypercall::yield_target(&self.environments, number);
        self.yielded = true;
    }

    /// Ends an environment and takes back all it had.
    pub fn end(&mut self, id: EnvironmentId, ending: Ending) {
        let environment = self.environment(id);
        if environment.ended() {
            return;
        }
        let Environment { name, line, .. } = environment;
        line.flush(|text| crate::console::environment_line(name, text));
        environment.state = State::Ended(ending);
        log!("{} ended: {ending}", environment.name);
        environment.timer = None;
        environment.extents.clear();
        let ring = environment.ring.take();
        let nested = environment.nested.take();
        self.slices.remove(id);
        if let Some(ring) = ring {
            let frames = ring.first_frame..ring.first_frame + hyperexo_abi::ring::RING_FRAMES;
            frames.for_each(|frame| self.frames.unpin(frame));
        }
        self.end_foreign_bindings(id);
        if let Some(nested) = nested {
            let mut memory = NestedMemory {
                frames: &mut self.frames,
                memory: self.memory,
                owner: id,
                quota: u64::MAX,
                tables: &mut self.environments[usize::from(id) - 1].tables,
            };
            nested.destroy(&mut memory);
        }
        self.frames.release_all(id);
        if let Some(disk) = &mut self.disk {
            disk.extents.release_all(id);
        }
        self.update_frames(id);
        self.update_blocks(id);
    }

    /// Ends what others have bound of an environment's frames.
    fn end_foreign_bindings(&mut self, id: EnvironmentId) {
        let mut frame = 0;
        while let Some(owned) = self.frames.next_owned(id, frame) {
            self.end_bindings(owned.clone(), Some(id));
            frame = owned.end;
        }
    }

    /// Runs environments until all have ended.
    pub fn run(&mut self) {
        while self.environments.iter().any(|environment| !environment.ended()) {
            self.attend(ticks());
            let can_run = |id: EnvironmentId| self.environments[usize::from(id) - 1].runnable();
            let chosen = self.successor.take().filter(|id| can_run(*id));
            match chosen.or_else(|| self.slices.advance(can_run)) {
                Some(id) => self.slice(id),
                None => self.idle(),
            }
        }
    }

    /// Does what devices and time ask for.
    fn attend(&mut self, now: u64) {
        let disk_due =
            self.disk.as_ref().and_then(Disk::next_deadline).is_some_and(|deadline| deadline <= now);
        if interrupt::take(interrupt::DISK) || disk_due {
            let Kernel { disk, environments, frames, memory, .. } = self;
            if let Some(disk) = disk {
                disk.collect(environments, frames, now);
                // Completions made room: rings that had to wait go on.
                for environment in environments.iter_mut().filter(|environment| environment.ring.is_some()) {
                    // An index that makes no sense is the business of its owner's next kick.
                    let _ = disk.serve(environment, frames, *memory, now);
                }
            }
        }
        for environment in &mut self.environments {
            if environment.timer.is_some_and(|deadline| deadline <= now) {
                environment.timer = None;
                environment.upcall(Cause::Timer);
            }
        }
    }

    /// The next moment at which something is due besides the end of the slice.
    fn next_deadline(&self) -> Option<u64> {
        let timers = self.environments.iter().filter_map(|environment| environment.timer);
        timers.chain(self.disk.as_ref().and_then(Disk::next_deadline)).min()
    }

    /// Halts until an interrupt.
    fn idle(&mut self) {
        self.clock.wake_at(self.next_deadline(), ticks());
        interrupt::wait();
    }

    /// Gives the core to an environment until its slice ends or it has nothing to do.
    fn slice(&mut self, id: EnvironmentId) {
        self.switch_extended_state(id);
        count(&self.environment(id).accounting.slices, 1);
        self.yielded = false;
        let end = ticks().saturating_add(self.clock.ticks_of_us(self.settings.slice_us));
        loop {
            let now = ticks();
            // While nobody else wants the core, the slice goes on; that can change with every interrupt.
            let contended =
                self.slices.contended(id, |other| self.environments[usize::from(other) - 1].runnable());
            if contended && now >= end {
                return;
            }
            let slice_end = contended.then_some(end);
            let deferred = self.environment(id).vcpu.upcall_deferred();
            let soon = deferred.then(|| now.saturating_add(self.clock.ticks_of_us(DEFERRED_UPCALL_US)));
            let deadlines = self.next_deadline().into_iter().chain(slice_end).chain(soon);
            self.clock.wake_at(deadlines.min(), now);
            let exit = self.enter(id);
            self.act(id, exit);
            self.attend(ticks());
            if self.yielded || !self.environment(id).runnable() {
                return;
            }
        }
    }

    fn enter(&mut self, id: EnvironmentId) -> VmExit {
        let environment = &mut self.environments[usize::from(id) - 1];
        if environment.nested.as_mut().is_some_and(NestedTable::take_flush) {
            environment.vcpu.flush_nested();
        }
        let start = ticks();
        let exit = environment.vcpu.run();
        count(&environment.accounting.guest_cycles, ticks().wrapping_sub(start));
        exit
    }

    fn switch_extended_state(&mut self, id: EnvironmentId) {
        if self.on_core == Some(id) {
            return;
        }
        let support = self.extended_support;
        if let Some(old) = self.on_core {
            let environment = self.environment(old);
            environment.extended.save(&support);
            environment.vcpu.leave_core();
        }
        self.environment(id).extended.load(&support);
        self.on_core = Some(id);
    }

    /// Acts on an exit.
    fn act(&mut self, id: EnvironmentId, exit: VmExit) {
        let environment = self.environment(id);
        environment.count_exit(kind(&exit));
        let rip = environment.vcpu.rip();
        match exit {
            VmExit::Interrupt | VmExit::Window | VmExit::Handled => {}
            VmExit::Hypercall => hypercall::dispatch(self, id),
            VmExit::Halt => {
                if !environment.vcpu.interrupts_enabled() {
                    self.end(id, Ending::Killed(Death::HaltedForever { rip }));
                } else if !environment.vcpu.upcall_posted() {
                    environment.state = State::Waiting;
                }
            }
            VmExit::Cpuid => emulate_cpuid(environment),
            VmExit::MsrRead(msr) => emulate_msr_read(environment, msr),
            VmExit::MsrWrite(msr) => emulate_msr_write(environment, msr),
            VmExit::Xsetbv => self.set_xcr0(id),
            VmExit::Port(_) | VmExit::Privileged(_) => environment.vcpu.raise(Exception::GeneralProtection),
            VmExit::Undefined(_) => environment.vcpu.raise(Exception::InvalidOpcode),
            VmExit::NestedFault { address, access } => {
                self.end(id, Ending::Killed(Death::NestedFault { address, access, rip }));
            }
            VmExit::TripleFault => self.end(id, Ending::Killed(Death::TripleFault { rip })),
            VmExit::InvalidState => self.end(id, Ending::Killed(Death::InvalidState { rip })),
            VmExit::Unknown(code) => self.end(id, Ending::Killed(Death::UnknownExit { code, rip })),
        }
    }

    fn set_xcr0(&mut self, id: EnvironmentId) {
        let support = self.extended_support;
        let environment = self.environment(id);
        let registers = environment.vcpu.registers();
        let (index, value) = (registers.rcx as u32, registers.rax & 0xffff_ffff | registers.rdx << 32);
        if index == 0 && support.permits(value) {
            environment.extended.set_xcr0(value);
            environment.vcpu.skip(3);
        } else {
            environment.vcpu.raise(Exception::GeneralProtection);
        }
    }
}

/// Under which heading an exit is counted.
fn kind(exit: &VmExit) -> Exit {
    match exit {
        VmExit::Hypercall => Exit::Hypercall,
        VmExit::Interrupt => Exit::Interrupt,
        VmExit::Halt => Exit::Halt,
        VmExit::Cpuid => Exit::Cpuid,
        VmExit::MsrRead(_) | VmExit::MsrWrite(_) => Exit::Msr,
        VmExit::Port(_) => Exit::Port,
        VmExit::NestedFault { .. } => Exit::NestedFault,
        VmExit::Window => Exit::Window,
        VmExit::Undefined(_) | VmExit::Privileged(_) | VmExit::Xsetbv | VmExit::Handled => Exit::Privileged,
        VmExit::TripleFault | VmExit::InvalidState | VmExit::Unknown(_) => Exit::Other,
    }
}

fn emulate_cpuid(environment: &mut Environment) {
    // The guest's CR4 is its own; it learns OSXSAVE from there, so that the bit here is only a hint for libraries.
    let registers = environment.vcpu.registers();
    let (leaf, subleaf) = (registers.rax as u32, registers.rcx as u32);
    let raw = raw_cpuid::cpuid!(leaf, subleaf);
    let osxsave = environment.vcpu.uses_xsave();
    let [eax, ebx, ecx, edx] = cpuid::filter(leaf, subleaf, [raw.eax, raw.ebx, raw.ecx, raw.edx], osxsave);
    let registers = environment.vcpu.registers();
    (registers.rax, registers.rbx) = (eax.into(), ebx.into());
    (registers.rcx, registers.rdx) = (ecx.into(), edx.into());
}

fn emulate_msr_read(environment: &mut Environment, msr: u32) {
    let value = match msr {
        MSR_EFER => environment.vcpu.efer(),
        MSR_TSC => ticks(),
        _ => return environment.vcpu.raise(Exception::GeneralProtection),
    };
    let registers = environment.vcpu.registers();
    (registers.rax, registers.rdx) = (value & 0xffff_ffff, value >> 32);
    environment.vcpu.skip(2);
}

fn emulate_msr_write(environment: &mut Environment, msr: u32) {
    let registers = environment.vcpu.registers();
    let value = registers.rax & 0xffff_ffff | registers.rdx << 32;
    if msr == MSR_EFER && environment.vcpu.set_efer(value) {
        environment.vcpu.skip(2);
    } else {
        environment.vcpu.raise(Exception::GeneralProtection);
    }
}
