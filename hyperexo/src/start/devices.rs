//! What devices the machine has: the disk, the network.
//!
//! Only at the start, by one core, one device after the other.

use super::settings::Settings;
use crate::device::block::BlockDevice;
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
use alloc::boxed::Box;
use core::fmt;
use hyperexo_hw::apic::LocalApic;
use hyperexo_hw::boot::BootInfo;
use hyperexo_hw::linear;
use hyperexo_hw::pci::{self, Msix, OutOfReach, PortAccess};
use hyperexo_hw::virtio::LinearHal;
use hyperexo_hw::virtio::block::{Indirect, VirtioBlock};
use hyperexo_hw::virtio::net::{RECEIVE_QUEUE, TRANSMIT_QUEUE, VirtioNet};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{DeviceFunction, PciRoot};

/// Finds the disk: the first virtio disk, or else the module after the bundle.
pub fn find_disk(
    boot: &BootInfo,
    frames: &mut FrameTable,
    memory: PhysicalMemory,
    clock: &Clock,
    apic: &LocalApic,
    settings: &Settings,
) -> Option<Disk> {
    let (device, place): (Box<dyn BlockDevice>, _) = match find_virtio_disk(apic) {
        Some((device, function)) => (Box::new(device), Place::Pci(function)),
        None => (Box::new(module_disk(boot, memory)?), Place::Memory),
    };
    let scrap = frames.take_any()?;
    let patience = clock.ticks_of_us(settings.disk_timeout_ms.saturating_mul(1000));
    let read_only = if device.read_only() { ", read-only" } else { "" };
    log!("disk of {} blocks {place}{read_only}", device.blocks());
    Some(Disk::new(device, scrap, patience))
}

/// Where a disk is.
enum Place {
    Pci(DeviceFunction),
    Memory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pci(function) => write!(f, "at {function}"),
            Place::Memory => f.write_str("in memory"),
        }
    }
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
    Net::new(device.unwrap_or_else(|| Box::new(Loopback)), secret, clock)
}

/// Finds the first virtio network device and routes its interrupts here.
fn find_virtio_net(apic: &LocalApic) -> Option<(VirtioNet<PciTransport>, DeviceFunction)> {
    let queues = [RECEIVE_QUEUE, TRANSMIT_QUEUE];
    let kind =
        VirtioKind { device: DeviceType::Network, name: "network device", vector: interrupt::NET_VECTOR };
    find_virtio(apic, &kind, &queues, VirtioNet::new)
}

/// Finds the first virtio disk and routes its interrupt here.
fn find_virtio_disk(apic: &LocalApic) -> Option<(VirtioBlock<PciTransport>, DeviceFunction)> {
    let kind = VirtioKind { device: DeviceType::Block, name: "disk", vector: interrupt::DISK_VECTOR };
    find_virtio(apic, &kind, &[0], |transport| VirtioBlock::new(transport, Indirect::Required))
}

/// What to look for.
struct VirtioKind {
    device: DeviceType,
    name: &'static str,
    /// Of its interrupts.
    vector: u8,
}

/// Finds the first virtio device of a kind, starts it, and routes the interrupts of its queues here.
fn find_virtio<D, E: fmt::Display>(
    apic: &LocalApic,
    kind: &VirtioKind,
    queues: &[u16],
    start: impl FnOnce(PciTransport) -> Result<D, E>,
) -> Option<(D, DeviceFunction)> {
    // SAFETY: ring 0, and the kernel is the only one to use configuration space.
    let mut root = PciRoot::new(unsafe { PortAccess::new() });
    let found = pci::find_virtio(&mut root, kind.device, &linear::DEVICE_REGISTERS)?;
    let (Ok(function) | Err(OutOfReach(function))) = found;
    let unused = |why: &dyn fmt::Display| log!("warning: virtio {} at {function} not used: {why}", kind.name);
    if let Err(error) = found {
        unused(&error);
        return None;
    }
    let transport = match PciTransport::new::<LinearHal, _>(&mut root, function) {
        Ok(transport) => transport,
        Err(error) => {
            unused(&error);
            return None;
        }
    };
    let device = match start(transport) {
        Ok(device) => device,
        Err(error) => {
            unused(&error);
            return None;
        }
    };
    // SAFETY: `find_virtio` saw that the BARs lie below 4 GiB, mapped by identity; nobody else uses the
    // table.
    let routed = unsafe {
        Msix::enable(&mut root, function).is_ok_and(|mut table| {
            table.route(0, apic.id(), kind.vector)
                && queues.iter().all(|queue| pci::route_virtio_queue(&mut root, function, *queue, 0))
        })
    };
    if !routed {
        unused(&"it has no working MSI-X interrupt");
        return None;
    }
    Some((device, function))
}
