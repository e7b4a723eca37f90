//! A whole machine on the host: the kernel as it is, on memory in a vector, with devices and guests that
//! tests play.
//!
//! | module | what |
//! |---|---|
//! | [`processor`] | virtual CPUs that never run; what processors remember |
//! | [`device`] | devices whose every move a test decides |
//! | [`audit`] | what must hold of the whole kernel after each piece of work |
//!
//! A guest's call goes the way it goes on a machine: registers, [`call::dispatch`], pieces. Between the
//! pieces a test can let others in, as cores do that wait for the lock.

mod audit;
mod device;
mod guest;
mod processor;
mod tests;

use crate::call::{self, After};
use crate::environment::{Environment, Remains};
use crate::kernel::Kernel;
use crate::launch::{LaunchError, Share as KernelShare};
use crate::machine::clock::Clock;
use crate::machine::console::Console;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::machine::memory::PhysicalMemory;
use crate::machine::{interrupt, memory};
use crate::resource::capability::Authority;
use crate::resource::disk::Disk;
use crate::resource::frame::account::Account;
use crate::resource::frame::nested::EntryFormat;
use crate::resource::frame::table::{FrameEntry, FrameTable, Region, regions};
use crate::resource::frame::{FreeMap, Pages, Public};
use crate::resource::net::Net;
use crate::resource::slice::SliceVector;
use crate::virt::{Entry, Vcpu};

use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use device::{DiskControl, NetControl};
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::accounting::{Accounting, Owners};
use hyperexo_abi::bundle::Image;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Results, Status};
use processor::{ModelBackend, Processors};

/// Ticks in which a device has to answer.
const PATIENCE: u64 = 1 << 40;

/// What a machine has.
#[derive(Clone, Copy)]
pub struct Parts {
    /// Frames of memory.
    pub frames: u64,
    /// Cores.
    pub cores: usize,
    /// Blocks of the disk; 0: there is none.
    pub blocks: u64,
    /// Environments that it is made for.
    pub environments: usize,
    /// How entries of nested tables look.
    pub format: EntryFormat,
    /// Whether environments may use the network.
    pub network: bool,
}

impl Default for Parts {
    fn default() -> Parts {
        let format = EntryFormat::Npt;
        Parts { frames: 2048, cores: 2, blocks: 64, environments: 3, format, network: true }
    }
}

/// What an environment gets.
#[derive(Clone, Copy)]
pub struct Share {
    /// Frames.
    pub quota: u64,
    /// Blocks.
    pub blocks: u64,
    /// Core of its first virtual CPU.
    pub core: usize,
    /// Cores that it may use besides.
    pub cores: u64,
}

impl Default for Share {
    fn default() -> Share {
        Share { quota: 1024, blocks: 32, core: 0, cores: u64::MAX }
    }
}

/// A machine.
pub struct Machine {
    /// The kernel.
    pub kernel: Kernel,
    /// Its disk.
    pub disk: DiskControl,
    /// Its network device.
    pub net: NetControl,
    parts: Parts,
    processors: Processors,
    /// Frames of the kernel that are nobody's account.
    kernel_frames: u64,
    /// Frames of the kernel that guests may see, doorbells apart.
    shown: Vec<u64>,
    /// Whether everything is checked after each piece.
    pub audited: bool,
    /// Words that were touched in the longest piece of work, since somebody set this to 0.
    pub longest: u64,
}

thread_local! {
    /// Memory of machines that are no more.
    static MEMORIES: RefCell<Vec<PhysicalMemory>> = const { RefCell::new(Vec::new()) };
}

/// Memory in which something lies that nobody should see.
fn take_memory(frames: u64) -> PhysicalMemory {
    let used = MEMORIES.with_borrow_mut(|memories| {
        let place = memories.iter().position(|memory| memory.frames() == frames)?;
        Some(memories.swap_remove(place))
    });
    let Some(memory) = used else { return memory::model(frames) };
    (0..frames).for_each(|frame| memory.write(frame, 0, &[0xa5; FRAME_BYTES]));
    memory
}

impl Drop for Machine {
    fn drop(&mut self) {
        MEMORIES.with_borrow_mut(|memories| memories.push(self.kernel.pages.memory));
    }
}

impl Machine {
    /// A machine with these parts and no environments.
    pub fn new(parts: Parts) -> Machine {
        let Parts { frames, cores, blocks, environments, format, network } = parts;
        let memory = take_memory(frames);
        let map_frames = frames.div_ceil(8 * FRAME_BYTES as u64);
        let (owners_frame, scrap_frame) = (map_frames, map_frames + 1);
        (0..map_frames + 2).for_each(|frame| memory.clear(frame));
        let entries = vec![FrameEntry::ABSENT; frames as usize].leak();
        let region_entries = vec![Region::default(); regions(frames) as usize].leak();
        let words = map_frames as usize * FRAME_BYTES / 8;
        // SAFETY: frames of the model that are the kernel's for ever, zeroed, and atomics only.
        let (map, owners) = unsafe {
            let map = core::slice::from_raw_parts(memory.pointer(0) as *const AtomicU64, words);
            (map, memory.shared::<Owners>(owners_frame))
        };
        let mut table = FrameTable::new(entries, region_entries, map);
        table.reserve(0..frames);
        table.release_kernel(scrap_frame + 1..frames);
        let public =
            Public { free_map: FreeMap { first_frame: 0, frames: map_frames }, owners, owners_frame };
        let backend: &'static ModelBackend = Box::leak(Box::new(ModelBackend(format)));
        let clock = Clock { tsc_hz: 1 << 30, boot_tsc: 0, apic_hz: 1 << 30 };
        let (disk_device, disk) = device::disk(blocks, memory);
        let (net_device, net) = device::net();
        let mut kernel = Kernel {
            pages: Pages::new(memory, table, public, format),
            disk: (blocks != 0).then(|| Disk::new(Box::new(disk_device), scrap_frame, PATIENCE)),
            net: Net::new(Box::new(net_device), [3; 16], &clock),
            slices: (0..cores).map(|_| SliceVector::default()).collect(),
            environments: Default::default(),
            authority: Authority::new(*b"sixteen bytes ok"),
            clock,
            backend,
            signals: interrupt::model(cores),
            slice_ticks: 1 << 20,
            console: Box::leak(Box::new(Console::new())),
        };
        let networked = if network { environments } else { 0 };
        kernel.expect(environments, networked, KernelShare { filter_bytes: 1 << 20 }).unwrap();
        let kernel_frames = kernel.pages.frames.kernel_frames();
        let shown = (0..map_frames).chain([owners_frame]).collect();
        let processors = Processors::default();
        Machine { kernel, disk, net, parts, processors, kernel_frames, shown, audited: true, longest: 0 }
    }

    /// A machine with the usual parts and this many environments, on core 0.
    pub fn with(environments: u16) -> Machine {
        let mut machine = Machine::new(Parts { environments: environments.into(), ..Parts::default() });
        for _ in 0..environments {
            machine.add(Share::default());
        }
        machine
    }

    /// Adds an environment with nothing but what the kernel shows it.
    pub fn add(&mut self, share: Share) -> VcpuId {
        let Machine { kernel, .. } = self;
        let id = kernel.environments.next_id();
        let frame = kernel.pages.frames.take_any().expect("a frame for accounting");
        kernel.pages.memory.clear(frame);
        // SAFETY: atomics only, in a frame that stays the kernel's.
        let accounting: &'static Accounting = unsafe { kernel.pages.memory.shared(frame) };
        kernel.pages.admit(id, share.quota, accounting).unwrap();
        if let Some(disk) = &mut kernel.disk {
            disk.admit(id, share.blocks, accounting).unwrap();
        }
        if self.parts.network {
            kernel.net.admit(id, accounting);
        }
        for shown in self.shown.iter().copied().filter(|shown| *shown < self.kernel_frames).chain([frame]) {
            let stale = kernel.pages.show(id, shown..shown + 1, Rights::READ, Account::Kernel).unwrap();
            let _ = kernel.settle(stale);
        }
        self.shown.push(frame);
        self.kernel_frames += 1;
        let console = kernel.pages.charge(id, Account::Kernel).unwrap();
        // SAFETY: a frame of the model that is used for nothing else.
        unsafe { kernel.console.attach(id.number(), kernel.pages.memory.pointer(console)) };
        kernel.environments.add(Environment {
            id,
            name: format!("model{}", id.number()),
            ending: None,
            remains: Remains::Alive,
            vcpus: Vec::with_capacity(kernel.slices.len()),
            cores: share.cores | 1 << share.core,
            line: Default::default(),
            accounting,
        });
        let entry = Entry { rip: 0, rsp: 0, cr3: 0, rdi: 0, rsi: 0 };
        let index = call::vcpu::add(kernel, id, share.core, 1, &entry, Account::Kernel).unwrap();
        kernel.pages.publish(id);
        self.check();
        VcpuId { environment: id, index, core: share.core }
    }

    /// Makes an environment from an image, as at the start.
    pub fn launch(&mut self, image: &Image<'_>) -> Result<VcpuId, LaunchError> {
        let id = self.kernel.launch(image)?;
        let environment = self.kernel.environments.get(id).expect("launched");
        let memory = self.kernel.pages.memory;
        let offset = environment.accounting as *const Accounting as usize - memory.pointer(0) as usize;
        self.shown.push((offset / FRAME_BYTES) as u64);
        self.kernel_frames += 1;
        self.check();
        Ok(VcpuId { environment: id, index: 0, core: image.entry.core as usize })
    }

    /// The first virtual CPU of environment number `number`.
    pub fn vcpu(&self, number: u16) -> VcpuId {
        let id = EnvironmentId::new(number, 0);
        let core = self.kernel.environments.get(id).map_or(0, |environment| environment.vcpus[0].core);
        VcpuId { environment: id, index: 0, core }
    }

    /// Begins a call: the first piece of it.
    pub fn begin(&mut self, who: VcpuId, call: Call, arguments: &[u64]) -> After {
        if self.audited {
            self.processors.enter(&mut self.kernel, who);
        }
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let slot = self.kernel.vcpu_slot(who).expect("a virtual CPU");
        let registers = slot.vcpu.as_mut().expect("a virtual CPU at rest").registers();
        registers.rax = call as u64;
        [registers.rdi, registers.rsi, registers.rdx, registers.r8, registers.r9, registers.r10] = all;
        self.kernel.signals.entering(who.core, who.environment);
        self.kernel.signals.left(who.core);
        let after = self.piece(who, call::dispatch);
        self.check();
        after
    }

    /// Does the next piece of a call that is underway.
    pub fn go_on(&mut self, who: VcpuId) -> After {
        let after = self.piece(who, call::go_on);
        self.check();
        after
    }

    /// Does something for a virtual CPU that a core holds.
    fn piece<T>(&mut self, who: VcpuId, work: fn(&mut Kernel, VcpuId, &mut dyn Vcpu) -> T) -> T {
        let mut vcpu = self.kernel.vcpu_slot(who).and_then(|slot| slot.vcpu.take()).expect("at rest");
        let result = self.under_lock(|kernel| work(kernel, who, &mut *vcpu));
        self.kernel.vcpu_slot(who).expect("a virtual CPU").vcpu = Some(vcpu);
        result
    }

    /// Does something with the kernel as under its lock, and counts what is touched.
    fn under_lock<T>(&mut self, work: impl FnOnce(&mut Kernel) -> T) -> T {
        memory::work::take();
        let result = work(&mut self.kernel);
        self.longest = self.longest.max(memory::work::take());
        result
    }

    /// Whether a virtual CPU waits for its call to be over.
    pub fn is_underway(&mut self, who: VcpuId) -> bool {
        self.kernel.vcpu_slot(who).is_some_and(|slot| slot.underway.is_some())
    }

    /// What the last call of a virtual CPU has come to.
    pub fn outcome(&mut self, who: VcpuId) -> Result<Results, Status> {
        let slot = self.kernel.vcpu_slot(who).expect("a virtual CPU");
        let registers = slot.vcpu.as_mut().expect("a virtual CPU at rest").registers();
        match Status::from_number(registers.rax).expect("a status") {
            Status::Ok => Ok([registers.rdi, registers.rsi, registers.rdx, registers.r8]),
            status => Err(status),
        }
    }

    /// Makes a call, all of it.
    pub fn call(&mut self, who: VcpuId, call: Call, arguments: &[u64]) -> Result<Results, Status> {
        let mut after = self.begin(who, call, arguments);
        while after == After::Again {
            after = self.go_on(who);
        }
        self.outcome(who)
    }

    /// Makes a call that has a capability as its first four arguments.
    pub fn call_with(
        &mut self,
        who: VcpuId,
        call: Call,
        capability: Capability,
        rest: &[u64],
    ) -> Result<Results, Status> {
        let arguments: Vec<u64> = capability.0.iter().chain(rest).copied().collect();
        self.call(who, call, &arguments)
    }

    /// Allocates frames.
    pub fn allocate(&mut self, who: VcpuId, first: u64, count: u64) -> Result<Capability, Status> {
        self.call(who, Call::PageAlloc, &[first, count, 1]).map(Capability)
    }

    /// Binds frames in the caller's own table.
    pub fn bind(&mut self, who: VcpuId, capability: Capability, rights: Rights) -> Result<Results, Status> {
        self.call_with(who, Call::PageBind, capability, &[rights.0.into()])
    }

    /// Allocates frames and binds them read-write; returns the first of them.
    pub fn frames(&mut self, who: VcpuId, count: u64) -> (u64, Capability) {
        let capability = self.allocate(who, hyperexo_abi::ANY, count).unwrap();
        self.bind(who, capability, Rights::READ_WRITE).unwrap();
        (capability.claim().unwrap().first, capability)
    }

    /// Ends an environment, and gives back all that can be.
    pub fn end(&mut self, who: VcpuId) {
        self.begin(who, Call::Exit, &[0]);
        self.bury();
    }

    /// Takes what has ended apart.
    pub fn bury(&mut self) {
        for _ in 0..100_000 {
            if !self.kernel.has_remains() {
                return;
            }
            self.under_lock(Kernel::take_apart);
            self.check();
        }
        panic!("an end without end");
    }

    /// Has the device finish so many requests, and the kernel look.
    pub fn finish(&mut self, requests: usize) {
        let mut device = self.disk.state();
        (0..requests).for_each(|_| {
            device.finish(hyperexo_hw::virtio::block::Outcome::Done);
        });
        drop(device);
        self.kernel.signals.note_disk();
        self.attend(0);
    }

    /// Has the kernel attend to devices at a time.
    pub fn attend(&mut self, now: u64) {
        for _ in 0..10_000 {
            let work = self.under_lock(|kernel| kernel.attend(0, now));
            self.check();
            if work == crate::resource::Work::Done {
                return;
            }
        }
        panic!("there is always more to do");
    }

    /// Checks everything, if that is wanted.
    fn check(&mut self) {
        if self.audited {
            self.audit();
        }
    }
}
