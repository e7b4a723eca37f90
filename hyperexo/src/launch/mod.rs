//! From an image in the bundle to an environment that is ready to run.

pub mod image;
pub mod tables;

use crate::call::vcpu;
use crate::device::block::WITHOUT_DISK;
use crate::environment::{Environment, Remains};
use crate::kernel::Kernel;
use crate::machine::id::EnvironmentId;
use crate::resource::frame::account::Account;
use crate::resource::frame::table::Owner;
use crate::virt::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use hyperexo_abi::accounting::{Accounting, MAX_ENVIRONMENTS};
use hyperexo_abi::bundle::Image;
use hyperexo_abi::capability::{Capability, Claim, Resource as Kind, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::start::{COMMAND_LINE_BYTES, MAGIC, NAME_BYTES, StartInfo};
use hyperexo_abi::{ANY, BLOCK_BYTES, FRAME_BYTES, FRAME_SHIFT, LARGE_FRAMES, STACK_TOP};
use image::{ImageError, ImagePlan};
use tables::{Layout, write_tables};
use zerocopy::IntoBytes;

/// Disk blocks in a MiB.
const BLOCKS_PER_MIB: u64 = (1 << 20) / BLOCK_BYTES as u64;
/// Most slices of one environment in a core's vector.
pub const MAX_SLICES: u32 = 64;
/// Largest start-up stack.
pub const MAX_STACK_BYTES: u64 = 64 << 20;

/// Why an image did not become an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// The ELF file is no good.
    Image(ImageError),
    /// The start-up stack is larger than [`MAX_STACK_BYTES`].
    Stack {
        /// Bytes that the manifest asks for.
        bytes: u64,
    },
    /// The image does not fit the quota of its manifest.
    Quota {
        /// Frames that it takes.
        needed: u64,
        /// Frames it may have.
        quota: u64,
    },
    /// The machine has too little memory, or none in one piece.
    Memory {
        /// Frames that are needed.
        needed: u64,
        /// Frames that are free.
        free: u64,
    },
    /// The manifest wants a disk and there is none.
    NoDisk,
    /// The disk extent of the manifest can't be had.
    Extent {
        /// First block.
        first: u64,
        /// Blocks.
        count: u64,
        /// Blocks of the disk.
        disk: u64,
        /// Why.
        status: Status,
    },
    /// The manifest names a core that the machine does not have.
    NoCore {
        /// The core.
        core: u64,
        /// Cores there are.
        cores: u64,
    },
    /// The processor can't tell that many environments apart.
    TooMany {
        /// How many it can.
        limit: u64,
    },
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |frames: u64| frames as f64 * FRAME_BYTES as f64 / f64::from(1 << 20);
        match *self {
            LaunchError::Image(error) => write!(f, "bad image: {error}"),
            LaunchError::Stack { bytes } => {
                write!(
                    f,
                    "its manifest wants a stack of {bytes} bytes; at most {MAX_STACK_BYTES} are possible"
                )
            }
            LaunchError::Quota { needed, quota } => write!(
                f,
                "the image needs {needed} frames ({:.1} MiB) and its quota is {quota} ({:.1} MiB)",
                mib(needed),
                mib(quota)
            ),
            LaunchError::Memory { needed, free } => write!(
                f,
                "the image needs {needed} adjacent frames ({:.1} MiB); the machine has {free} free ({:.1} MiB)",
                mib(needed),
                mib(free)
            ),
            LaunchError::NoDisk => {
                let why =
                    WITHOUT_DISK.get().map_or("the machine has no disk that can be used", String::as_str);
                write!(f, "its manifest names a disk extent, but {why}")
            }
            LaunchError::Extent { first, count, disk, status } => write!(
                f,
                "disk extent of {count} blocks from block {first} can't be given (the disk has {disk} blocks): {status}"
            ),
            LaunchError::NoCore { core, cores } => {
                write!(
                    f,
                    "its manifest places it on core {core}, but there are {cores} (QEMU's -smp), counted from 0"
                )
            }
            LaunchError::TooMany { limit } => {
                write!(f, "at most {limit} environments on this processor (address space identifiers)")
            }
        }
    }
}

impl From<ImageError> for LaunchError {
    fn from(error: ImageError) -> Self {
        LaunchError::Image(error)
    }
}

/// Bytes of the kernel's heap for the filters of all environments: a part of what it has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Bytes for filters.
    pub filter_bytes: usize,
}

impl Kernel {
    /// Makes room for what `environments` environments may have, of which `networked` use the network, as
    /// much for each: whatever one of them does later, it takes nothing of the others' part.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn expect(&mut self, environments: usize, networked: usize, share: Share) -> Result<(), Status> {
        self.environments.expect(environments)?;
        self.pages.expect(environments)?;
        if let Some(disk) = &mut self.disk {
            disk.expect(environments)?;
        }
        // Without anybody on the network nobody needs filters.
        self.net.expect(if networked > 0 { environments } else { 0 }, share.filter_bytes)
    }

    /// Makes an environment from an image.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]. What was taken for the environment stays taken: the kernel starts nothing when one
    /// image is bad.
    pub fn launch(&mut self, image: &Image<'_>) -> Result<EnvironmentId, LaunchError> {
        let plan = ImagePlan::parse(image.elf)?;
        let entry = image.entry;
        if entry.stack_bytes > MAX_STACK_BYTES {
            return Err(LaunchError::Stack { bytes: entry.stack_bytes });
        }
        let limit = self.backend.max_guests().min(MAX_ENVIRONMENTS as u64 - 1);
        if self.environments.iter().count() as u64 >= limit {
            return Err(LaunchError::TooMany { limit });
        }
        let id = self.environments.next_id();
        let (core, cores) = (entry.core as usize, self.slices.len());
        if core >= cores {
            return Err(LaunchError::NoCore { core: core as u64, cores: cores as u64 });
        }
        let layout = Layout::new(&plan, entry.stack_bytes, self.pages.frames.len());
        let needed = layout.total();
        if needed > entry.quota_frames {
            return Err(LaunchError::Quota { needed, quota: entry.quota_frames });
        }
        self.populate(id, image, &plan, &layout).map_err(|error| {
            error.unwrap_or(LaunchError::Memory { needed, free: self.pages.frames.free_frames() })
        })?;
        Ok(id)
    }

    /// Fills an environment; `None` for an error: there is too little memory.
    fn populate(
        &mut self,
        id: EnvironmentId,
        image: &Image<'_>,
        plan: &ImagePlan,
        layout: &Layout,
    ) -> Result<(), Option<LaunchError>> {
        let claim = self.take_run(id, layout.total()).ok_or(None)?;
        let run = claim.first..claim.end();
        let accounting_frame = self.pages.frames.take_any().ok_or(None)?;
        self.pages.memory.clear(accounting_frame);
        // SAFETY: atomics only, in a frame that the kernel keeps for ever.
        let accounting: &'static Accounting = unsafe { self.pages.memory.shared(accounting_frame) };
        let entry = image.entry;
        let out_of_memory = |_: Status| None;
        self.pages.admit(id, entry.quota_frames, accounting).map_err(out_of_memory)?;
        if let Some(disk) = &mut self.disk {
            let quota = u64::from(entry.disk_quota_mib) * BLOCKS_PER_MIB;
            disk.admit(id, quota, accounting).map_err(out_of_memory)?;
        }
        if entry.network != 0 {
            self.net.admit(id, accounting);
        }
        let disk_capability = self.grant_extent(id, image)?;
        self.show_first(id, run.clone(), accounting_frame).map_err(out_of_memory)?;
        self.attach_console(id).map_err(out_of_memory)?;
        self.load(image, plan, layout, run.start);
        let own_core = 1 << entry.core;
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(self.slices.len()).map_err(|_| None)?;
        self.environments.add(Environment {
            id,
            name: String::from(image.name),
            ending: None,
            remains: Remains::Alive,
            vcpus,
            cores: if entry.cores == 0 { own_core } else { u64::from(entry.cores) | own_core },
            line: Default::default(),
            accounting,
        });
        let state = Entry {
            rip: plan.entry,
            // As after a call: the ABI wants rsp + 8 to be a multiple of 16 at a function's first
            // instruction.
            rsp: STACK_TOP - 8,
            cr3: (run.start + layout.tables()) << FRAME_SHIFT,
            rdi: (run.start + layout.start_info()) << FRAME_SHIFT,
            rsi: MAGIC,
        };
        let slices = entry.slices.clamp(1, MAX_SLICES) as usize;
        let index = vcpu::add(self, id, entry.core as usize, slices, &state, Account::Kernel)
            .map_err(out_of_memory)?;
        let mut start = self.start_info(image, plan, layout, run.start);
        start.environment = id.number().into();
        start.accounting_frame = accounting_frame;
        start.doorbell_frame =
            self.environments.get(id).map_or(0, |environment| environment.vcpus[index].doorbell_frame);
        start.image_capability = self.authority.seal(&claim);
        start.disk_capability = disk_capability;
        if entry.network != 0 {
            start.net_address = self.net.address_of(id).to_bits();
            start.net_shared_address = self.net.address().to_bits();
        }
        self.pages.memory.write(run.start + layout.start_info(), 0, start.as_bytes());
        self.pages.publish(id);
        if let Some(disk) = &self.disk {
            disk.publish(id, &self.pages);
        }
        Ok(())
    }

    /// A run of zeroed frames for an environment; large ones can have large entries.
    fn take_run(&mut self, id: EnvironmentId, frames: u64) -> Option<Claim> {
        let align = if frames >= LARGE_FRAMES { LARGE_FRAMES } else { 1 };
        let table = &mut self.pages.frames;
        let first = table.find(frames, align)?;
        let (run, generation) = (first..first + frames, table.fresh_generation());
        table.take(Owner::Environment(id), run.clone(), generation).ok()?;
        table.note_uniform(run.clone(), generation);
        run.for_each(|frame| self.pages.memory.clear(frame));
        Some(Claim { resource: Kind::Page, rights: Rights::ALL, generation, first, count: frames })
    }

    /// Binds an environment's image, and what the kernel shows everybody.
    fn show_first(
        &mut self,
        id: EnvironmentId,
        run: Range<u64>,
        accounting_frame: u64,
    ) -> Result<(), Status> {
        let public = self.pages.public;
        let map = public.free_map.first_frame..public.free_map.first_frame + public.free_map.frames;
        let one = |frame: u64| frame..frame + 1;
        for (frames, rights) in [
            (run, Rights::ALL),
            (one(accounting_frame), Rights::READ),
            (map, Rights::READ),
            (one(public.owners_frame), Rights::READ),
        ] {
            let stale = self.pages.show(id, frames, rights, Account::Kernel)?;
            let _ = self.settle(stale);
        }
        Ok(())
    }

    /// Gives an environment's lines a queue, on its account.
    fn attach_console(&mut self, id: EnvironmentId) -> Result<(), Status> {
        let frame = self.pages.charge(id, Account::Kernel)?;
        // SAFETY: the frame is the kernel's, and the console's for ever: lines outlive who wrote them.
        unsafe { self.console.attach(id.number(), self.pages.memory.pointer(frame)) };
        Ok(())
    }

    /// The extent that the manifest names.
    fn grant_extent(
        &mut self,
        id: EnvironmentId,
        image: &Image<'_>,
    ) -> Result<Capability, Option<LaunchError>> {
        let entry = image.entry;
        if entry.disk_count == 0 {
            return Ok(Capability::default());
        }
        let disk = self.disk.as_mut().ok_or(Some(LaunchError::NoDisk))?;
        let blocks = disk.blocks();
        let first = entry.disk_first;
        let count = if entry.disk_count == ANY { blocks.saturating_sub(first) } else { entry.disk_count };
        let mut rights = Rights(entry.disk_rights as u8).intersection(Rights::READ_WRITE);
        if disk.read_only() {
            rights = rights.intersection(Rights::READ);
        }
        match disk.grant(id, first, count, rights) {
            Ok(claim) => Ok(self.authority.seal(&claim)),
            Err(status) => Err(Some(LaunchError::Extent { first, count, disk: blocks, status })),
        }
    }

    /// Copies the segments and writes the start-up page tables.
    fn load(&self, image: &Image<'_>, plan: &ImagePlan, layout: &Layout, run: u64) {
        let base = plan.first_page << FRAME_SHIFT;
        for segment in plan.segments() {
            let offset = segment.address - base;
            let frame = run + (offset >> FRAME_SHIFT);
            self.pages.memory.write(frame, offset as usize % FRAME_BYTES, &image.elf[segment.file.clone()]);
        }
        let memory = self.pages.memory;
        write_tables(layout, plan, run, self.pages.frames.len(), |frame, index, entry| {
            memory.set_word(frame, index, entry);
        });
    }

    /// What the environment is told, but for its number and capabilities.
    fn start_info(&self, image: &Image<'_>, plan: &ImagePlan, layout: &Layout, run: u64) -> StartInfo {
        let bytes = |frames: u64| frames << FRAME_SHIFT;
        let mut name = [0; NAME_BYTES];
        name[..image.name.len()].copy_from_slice(image.name.as_bytes());
        let mut command_line = [0; COMMAND_LINE_BYTES];
        command_line[..image.command_line.len()].copy_from_slice(image.command_line.as_bytes());
        StartInfo {
            magic: MAGIC,
            environment: 0,
            hypercall: self.backend.hypercall_instruction(),
            tsc_hz: self.clock.tsc_hz,
            boot_tsc: self.clock.boot_tsc,
            memory_end_frame: self.pages.frames.len(),
            quota_frames: image.entry.quota_frames,
            image_first_frame: run,
            image_frames: layout.total(),
            image_address: bytes(run),
            image_virtual: bytes(plan.first_page),
            image_bytes: bytes(plan.pages),
            stack_address: bytes(run + layout.stack()),
            stack_bytes: bytes(layout.stack_frames),
            accounting_frame: 0,
            doorbell_frame: 0,
            free_map_first_frame: self.pages.public.free_map.first_frame,
            free_map_frames: self.pages.public.free_map.frames,
            owners_frame: self.pages.public.owners_frame,
            disk_blocks: self.disk.as_ref().map_or(0, |disk| disk.blocks()),
            net_address: 0,
            net_shared_address: 0,
            core: image.entry.core.into(),
            cores: self.slices.len() as u64,
            image_capability: Capability::default(),
            disk_capability: Capability::default(),
            name,
            command_line_bytes: image.command_line.len() as u64,
            command_line,
        }
    }
}
