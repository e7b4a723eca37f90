//! From an image in the bundle to an environment that is ready to run.

use crate::env::{Environment, VirtualCpu};
use crate::image::{ImageError, ImagePlan};
use crate::kernel::Kernel;
use crate::resource::page::{EnvironmentId, Owner};
use crate::startup::{Layout, write_tables};
use crate::virt::nested::{NestedTable, OutOfTables};
use crate::virt::{Entry, Guest};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use hyperexo_abi::accounting::{Accounting, MAX_ENVIRONMENTS};
use hyperexo_abi::bundle::Image;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::start::{COMMAND_LINE_BYTES, MAGIC, NAME_BYTES, StartInfo};
use hyperexo_abi::upcall::Doorbell;
use hyperexo_abi::{ANY, BLOCK_BYTES, FRAME_BYTES, FRAME_SHIFT, LARGE_FRAMES, STACK_TOP};
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
                f.write_str("its manifest names a disk extent, but the machine has neither a virtio disk nor a module for a RAM disk")
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

/// Frames of the kernel that an environment can see.
struct Windows {
    accounting: u64,
    doorbell: u64,
}

impl Kernel {
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
        let id = self.environments.len() as EnvironmentId + 1;
        let limit = self.backend.max_guests().min(MAX_ENVIRONMENTS as u64 - 1);
        if u64::from(id) > limit {
            return Err(LaunchError::TooMany { limit });
        }
        let (core, cores) = (entry.core as usize, self.slices.len());
        if core >= cores {
            return Err(LaunchError::NoCore { core: core as u64, cores: cores as u64 });
        }
        let layout = Layout::new(&plan, entry.stack_bytes, self.frames.len());
        let needed = layout.total();
        if needed > entry.quota_frames {
            return Err(LaunchError::Quota { needed, quota: entry.quota_frames });
        }
        let align = if needed >= LARGE_FRAMES { LARGE_FRAMES } else { 1 };
        let out_of_memory =
            |kernel: &Kernel| LaunchError::Memory { needed, free: kernel.frames.free_frames() };
        let claim = self
            .frames
            .allocate(Owner::Environment(id), ANY, needed, align)
            .map_err(|_| out_of_memory(self))?;
        let run = claim.first;
        (run..claim.end()).for_each(|frame| self.memory.clear(frame));
        let disk_capability = self.grant_extent(id, image)?;
        let windows = self.windows().ok_or_else(|| out_of_memory(self))?;
        self.load(image, &plan, &layout, run);
        let mut start = self.start_info(image, &plan, &layout, run, &windows);
        start.environment = u64::from(id);
        start.image_capability = self.authority.seal(&claim);
        start.disk_capability = disk_capability;
        if entry.network != 0 {
            start.net_address = self.net.address_of(id).to_bits();
            start.net_shared_address = self.net.address().to_bits();
        }
        self.memory.write(run + layout.start_info(), 0, start.as_bytes());

        // SAFETY: both are pages of atomics, in frames that the kernel keeps for ever.
        let (accounting, doorbell) = unsafe {
            (
                self.memory.shared::<Accounting>(windows.accounting),
                self.memory.shared::<Doorbell>(windows.doorbell),
            )
        };
        self.environments.push(Environment {
            id,
            name: String::from(image.name),
            ending: None,
            vcpus: Vec::with_capacity(self.slices.len()),
            nested: None,
            quota: entry.quota_frames.min(self.frames.len()),
            tables: 0,
            view_list: None,
            peak_frames: 0,
            disk_quota: u64::from(entry.disk_quota_mib) * BLOCKS_PER_MIB,
            extents: Vec::new(),
            ring: None,
            network: entry.network != 0,
            net_rings: None,
            line: Default::default(),
            accounting,
        });
        let root = self.bind_first(id, run..claim.end(), &windows).map_err(|_| out_of_memory(self))?;
        let entry_state = Entry {
            rip: plan.entry,
            // As after a call: the ABI wants rsp + 8 to be a multiple of 16 at a function's first
            // instruction.
            rsp: STACK_TOP - 8,
            cr3: (run + layout.tables()) << FRAME_SHIFT,
            rdi: (run + layout.start_info()) << FRAME_SHIFT,
            rsi: MAGIC,
        };
        let frames = self.tables(id, true).1.allocate_vcpu().map_err(|_| out_of_memory(self))?;
        let guest = Guest { nested_root: root, identifier: id, entry: &entry_state, accounting };
        // SAFETY: the frames are fresh, and the kernel's until `Kernel::retire_vcpus`. The nested table was
        // just made, binds what belongs to the environment, and lives until its end.
        let vcpu = unsafe { self.backend.new_vcpu(frames, &guest) };
        self.environment(id).vcpus.push(VirtualCpu::new(core, vcpu, doorbell));
        self.slices[core].add(id, entry.slices.min(MAX_SLICES) as usize);
        self.update_frames(id);
        self.update_blocks(id);
        Ok(id)
    }

    /// Makes an environment's nested page table, in which it has bound its image and what the kernel shows
    /// it; returns the table's top frame.
    fn bind_first(
        &mut self,
        id: EnvironmentId,
        run: Range<u64>,
        windows: &Windows,
    ) -> Result<u64, OutOfTables> {
        let (format, free_map, owners) = (self.backend.entry_format(), self.free_map, self.owners_frame);
        let (place, mut memory) = self.tables(id, true);
        let nested = place.insert(NestedTable::new(format, &mut memory)?);
        for (first, count, rights) in [
            (run.start, run.end - run.start, Rights::ALL),
            (windows.accounting, 1, Rights::READ),
            (windows.doorbell, 1, Rights::READ_WRITE),
            (free_map.first_frame, free_map.frames, Rights::READ),
            (owners, 1, Rights::READ),
        ] {
            nested.map(&mut memory, first, count, rights)?;
        }
        Ok(nested.root())
    }

    /// The extent that the manifest names.
    fn grant_extent(&mut self, id: EnvironmentId, image: &Image<'_>) -> Result<Capability, LaunchError> {
        let entry = image.entry;
        if entry.disk_count == 0 {
            return Ok(Capability::default());
        }
        let disk = self.disk.as_mut().ok_or(LaunchError::NoDisk)?;
        let blocks = disk.extents.blocks();
        let first = entry.disk_first;
        let count = if entry.disk_count == ANY { blocks.saturating_sub(first) } else { entry.disk_count };
        let mut rights = Rights(entry.disk_rights as u8).intersection(Rights::READ_WRITE);
        if disk.read_only() {
            rights = rights.intersection(Rights::READ);
        }
        match disk.extents.grant(id, first, count, rights) {
            Ok(claim) => Ok(self.authority.seal(&claim)),
            Err(status) => Err(LaunchError::Extent { first, count, disk: blocks, status }),
        }
    }

    /// Frames for the pages through which the kernel shows an environment its accounts and calls it.
    fn windows(&mut self) -> Option<Windows> {
        let mut frame = || {
            let claim = self.frames.allocate(Owner::Kernel, ANY, 1, 1).ok()?;
            self.memory.clear(claim.first);
            Some(claim.first)
        };
        Some(Windows { accounting: frame()?, doorbell: frame()? })
    }

    /// Copies the segments and writes the start-up page tables.
    fn load(&self, image: &Image<'_>, plan: &ImagePlan, layout: &Layout, run: u64) {
        let base = plan.first_page << FRAME_SHIFT;
        for segment in plan.segments() {
            let offset = segment.address - base;
            let frame = run + (offset >> FRAME_SHIFT);
            self.memory.write(frame, offset as usize % FRAME_BYTES, &image.elf[segment.file.clone()]);
        }
        let memory = self.memory;
        write_tables(layout, plan, run, self.frames.len(), |frame, index, entry| {
            memory.set_word(frame, index, entry);
        });
    }

    /// What the environment is told, but for its number and capabilities.
    fn start_info(
        &self,
        image: &Image<'_>,
        plan: &ImagePlan,
        layout: &Layout,
        run: u64,
        windows: &Windows,
    ) -> StartInfo {
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
            memory_end_frame: self.frames.len(),
            quota_frames: image.entry.quota_frames,
            image_first_frame: run,
            image_frames: layout.total(),
            image_address: bytes(run),
            image_virtual: bytes(plan.first_page),
            image_bytes: bytes(plan.pages),
            stack_address: bytes(run + layout.stack()),
            stack_bytes: bytes(layout.stack_frames),
            accounting_frame: windows.accounting,
            doorbell_frame: windows.doorbell,
            free_map_first_frame: self.free_map.first_frame,
            free_map_frames: self.free_map.frames,
            owners_frame: self.owners_frame,
            disk_blocks: self.disk.as_ref().map_or(0, |disk| disk.extents.blocks()),
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
