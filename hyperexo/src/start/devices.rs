//! What devices the machine has: the disk, the network.
//!
//! Only at the start, by one core, one device after the other.

use super::settings::Settings;
use crate::device::block::{BlockDevice, WITHOUT_DISK};
use crate::device::net::{Loopback, NetDevice};
use crate::device::ram::RamDisk;
use crate::device::wire::{WIRE_FRAMES, Wire};
use crate::log;
use crate::machine::clock::Clock;
use crate::machine::interrupt;
use crate::machine::memory::PhysicalMemory;
use crate::resource::disk::Disk;
use crate::resource::frame::table::{FrameTable, Owner};
use crate::resource::net::Net;
use alloc::{boxed::Box, format, vec::Vec};
use core::fmt;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::boot::BootInfo;
use hyperexo_hw::disks::Wanted;
use hyperexo_hw::linear;
use hyperexo_hw::pci::{self, Function, PortAccess};
use hyperexo_hw::virtio::block::{Indirect, VirtioBlock};
use hyperexo_hw::virtio::net::{Features, RECEIVE_QUEUE, TRANSMIT_QUEUE, VirtioNet};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{DeviceFunction, PciRoot};

/// Finds the disk: the virtio disk that is wanted, or else the module after the bundle.
pub fn find_disk(
    boot: &BootInfo,
    frames: &mut FrameTable,
    memory: PhysicalMemory,
    clock: &Clock,
    apic: &LocalApic,
    settings: &Settings,
) -> Option<Disk> {
    let (device, place): (Box<dyn BlockDevice>, _) = match find_virtio_disk(apic, settings.disk) {
        Some((device, function)) => (Box::new(device), format!("at {function}")),
        None => (Box::new(module_disk(boot, memory)?), "in memory".into()),
    };
    let scrap = frames.take_any()?;
    let patience = clock.ticks_of_us(settings.disk_timeout_ms.saturating_mul(1000));
    let read_only = if device.read_only() { ", read-only" } else { "" };
    log!("disk of {} blocks {place}{read_only}", device.blocks());
    Some(Disk::new(device, scrap, patience))
}

/// The second module as a disk; its frames are the kernel's for ever (`early_memory`).
fn module_disk(boot: &BootInfo, memory: PhysicalMemory) -> Option<RamDisk> {
    let module = boot.modules.as_slice().get(1)?;
    // SAFETY: the boot loader put the module there, mapped by identity; nobody else refers to it or is given
    // its frames.
    let bytes = unsafe {
        core::slice::from_raw_parts_mut(module.start as *mut u8, (module.end - module.start) as usize)
    };
    Some(RamDisk::new(bytes, memory))
}

/// Finds the network: the first virtio network device, or else none but the environments themselves. `secret`
/// keys the classifier.
pub fn find_network(
    frames: &mut FrameTable,
    memory: PhysicalMemory,
    clock: &Clock,
    apic: &LocalApic,
    secret: [u8; 16],
) -> Net {
    let device = find_virtio_net(apic).and_then(|(device, function)| {
        let buffers = frames.find(WIRE_FRAMES, 1)?;
        let generation = frames.fresh_generation();
        frames.take(Owner::Kernel, buffers..buffers + WIRE_FRAMES, generation).ok()?;
        let wire = Wire::new(device, memory, buffers);
        log!("network {} at {function}", wire.address());
        Some(Box::new(wire) as Box<dyn NetDevice>)
    });
    Net::new(device.unwrap_or_else(|| Box::new(Loopback::default())), secret, clock)
}

/// Finds the first virtio network device and routes its interrupts here.
fn find_virtio_net(apic: &LocalApic) -> Option<(VirtioNet<PciTransport>, DeviceFunction)> {
    let (mut root, functions) = functions();
    let function = functions.into_iter().find(|function| function.is_virtio(DeviceType::Network))?;
    let queues = [RECEIVE_QUEUE, TRANSMIT_QUEUE];
    open(&mut root, &function, (apic.id(), interrupt::NET_VECTOR), &queues, |transport| {
        VirtioNet::new(transport, Features::OFFLOADS)
    })
}

/// Finds the virtio disk that is wanted and routes its interrupt here. If there is none, [`WITHOUT_DISK`]
/// says why.
fn find_virtio_disk(apic: &LocalApic, wanted: Wanted) -> Option<(VirtioBlock<PciTransport>, DeviceFunction)> {
    let (mut root, functions) = functions();
    let others =
        functions.iter().filter_map(|one| Some((one.other_storage()?, one.place))).collect::<Vec<_>>();
    let disks: Vec<_> = functions.into_iter().filter(|one| one.is_virtio(DeviceType::Block)).collect();
    let places: Vec<_> = disks.iter().map(|disk| disk.place).collect();
    let Some(chosen) = wanted.among(&places.iter().copied().map(Some).collect::<Vec<_>>()) else {
        let why = WITHOUT_DISK.call_once(|| wanted.why_none(&places, &others));
        if !places.is_empty() {
            log!("warning: {why}");
        }
        return None;
    };
    let start = |transport| VirtioBlock::new(transport, Indirect::Required);
    open(&mut root, &disks[chosen], (apic.id(), interrupt::DISK_VECTOR), &[0], start)
}

/// Configuration space, and all functions there.
fn functions() -> (PciRoot<PortAccess>, Vec<Function>) {
    // SAFETY: ring 0, and the kernel is the only one to use configuration space.
    let mut root = PciRoot::new(unsafe { PortAccess::new() });
    let functions = pci::functions(&mut root, &linear::DEVICE_REGISTERS);
    (root, functions)
}

/// Starts a virtio device, or says why it is not used.
fn open<D, E: fmt::Display>(
    root: &mut PciRoot<PortAccess>,
    function: &Function,
    route: (u8, u8),
    queues: &[u16],
    start: impl FnOnce(PciTransport) -> Result<D, E>,
) -> Option<(D, DeviceFunction)> {
    // SAFETY: registers below 4 GiB are mapped by identity, and devices are the kernel's.
    let opened = unsafe { function.start(root, &linear::DEVICE_REGISTERS, route, queues, start) };
    let warn = |why: &_| log!("warning: virtio device at {} not used: {why}", function.place);
    opened.inspect_err(warn).ok().map(|device| (device, function.place))
}
