//! PCI configuration space through ports 0xcf8 and 0xcfc, and MSI-X.
//!
//! Ports rather than the memory-mapped window: every machine type that has PCI has them, and only slow paths
//! come here.

use crate::bridges::Buses;
use crate::{bars, linear};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::virtio_device_type;
use x86::io::{inl, outl};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const CAPABILITY_MSIX: u8 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_FUNCTION_MASK: u32 = 1 << 30;

/// Configuration space, as the crate `virtio-drivers` wants it.
pub struct PortAccess(());

impl PortAccess {
    /// # Safety
    ///
    /// The caller has I/O privilege and is the only one to use configuration space.
    pub unsafe fn new() -> PortAccess {
        PortAccess(())
    }

    fn select(&self, device: DeviceFunction, offset: u8) {
        let address = 1 << 31
            | u32::from(device.bus) << 16
            | u32::from(device.device) << 11
            | u32::from(device.function) << 8
            | u32::from(offset & 0xfc);
        // SAFETY: `self` shows that configuration space is ours.
        unsafe { outl(ADDRESS, address) };
    }
}

impl ConfigurationAccess for PortAccess {
    fn read_word(&self, device: DeviceFunction, offset: u8) -> u32 {
        self.select(device, offset);
        // SAFETY: as in `select`.
        unsafe { inl(DATA) }
    }

    fn write_word(&mut self, device: DeviceFunction, offset: u8, data: u32) {
        self.select(device, offset);
        // SAFETY: as in `select`.
        unsafe { outl(DATA, data) }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        PortAccess(())
    }
}

/// A function's registers lie where nobody maps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfReach(pub DeviceFunction);

impl core::fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("its registers lie outside the fourth GiB of physical memory")
    }
}

/// The first virtio function of a kind, on bus 0 or behind bridges. It answers memory accesses and may do DMA
/// from now on, and its bridges pass both on; some firmware leaves that off. `None` if there is none.
///
/// The first call, before any function is in use, gives registers that have no address in `reach` one there
/// ([`crate::bars`]).
///
/// # Errors
///
/// [`OutOfReach`] if some of its registers are elsewhere all the same: then it is left as it is.
pub fn find_virtio(
    root: &mut PciRoot<PortAccess>,
    kind: DeviceType,
    reach: &Range<u64>,
) -> Option<Result<DeviceFunction, OutOfReach>> {
    static FIRST: AtomicBool = AtomicBool::new(true);
    // SAFETY: configuration accesses are single-threaded: `root` is borrowed exclusively.
    let mut access = unsafe { PortAccess::new() };
    if FIRST.swap(false, Ordering::Relaxed) {
        bars::bring_into_reach(root, &mut access, reach);
    }
    let mut buses = Buses::from_bus_0();
    while let Some(bus) = buses.next_bus() {
        for (function, information) in root.enumerate_bus(bus) {
            buses.meet(&access, function, &information.header_type);
            if virtio_device_type(&information) != Some(kind) {
                continue;
            }
            if !bars::are_in_reach(root, function, &information.header_type, reach) {
                return Some(Err(OutOfReach(function)));
            }
            for part in core::iter::once(function).chain(buses.way_from(bus)) {
                let (_, command) = root.get_status_command(part);
                root.set_command(part, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
            }
            return Some(Ok(function));
        }
    }
    None
}

/// The interrupt line that the firmware gave to a function's pin (PCI local bus 3.0 §6.2.4), on an I/O APIC
/// of the same numbering; `None` if it has no pin or no line.
pub fn interrupt_line(_root: &mut PciRoot<PortAccess>, device: DeviceFunction) -> Option<u32> {
    const LINE_AND_PIN: u8 = 0x3c;
    /// "Unknown", and beyond what a line of this kind can be.
    const UNKNOWN: u32 = 0xff;
    // SAFETY: configuration accesses are single-threaded: `_root` is borrowed exclusively.
    let word = unsafe { PortAccess::new() }.read_word(device, LINE_AND_PIN);
    let (line, pin) = (word & 0xff, word >> 8 & 0xff);
    (pin != 0 && line != UNKNOWN).then_some(line)
}

/// Why MSI-X could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsixError {
    /// The function does not have it.
    Absent,
    /// Its table is not in memory space.
    BadTable,
}

/// The MSI-X table of a function (PCI local bus 3.0 §6.8.2).
pub struct Msix {
    table: *mut u32,
    entries: u16,
}

impl Msix {
    /// Finds the table, masks nothing, and turns MSI-X on.
    ///
    /// # Safety
    ///
    /// The function's BARs must have been assigned by firmware and be mapped ([`crate::linear`]), and nobody
    /// else may use its MSI-X table.
    pub unsafe fn enable(root: &mut PciRoot<PortAccess>, device: DeviceFunction) -> Result<Msix, MsixError> {
        let offset = root
            .capabilities(device)
            .find(|capability| capability.id == CAPABILITY_MSIX)
            .map(|capability| capability.offset)
            .ok_or(MsixError::Absent)?;
        // SAFETY: configuration accesses are single-threaded: `root` is borrowed exclusively.
        let mut access = unsafe { PortAccess::new() };
        let control = access.read_word(device, offset);
        let location = access.read_word(device, offset + 4);
        let bar = root.bar_info(device, (location & 7) as u8).map_err(|_| MsixError::BadTable)?;
        let Some(BarInfo::Memory { address, size, .. }) = bar else { return Err(MsixError::BadTable) };
        let entries = (control >> 16 & 0x7ff) as u16 + 1;
        let within = u64::from(location & !7);
        if address == 0 || within + u64::from(entries) * 16 > size {
            return Err(MsixError::BadTable);
        }
        access.write_word(device, offset, control & !MSIX_FUNCTION_MASK | MSIX_ENABLE);
        Ok(Msix { table: linear::pointer(address + within), entries })
    }

    /// Sends table entry `index` to `vector` of the core with local APIC number `apic_id`. Returns whether
    /// there is such an entry.
    pub fn route(&mut self, index: u16, apic_id: u8, vector: u8) -> bool {
        if index >= self.entries {
            return false;
        }
        let words = [0xfee0_0000 | u32::from(apic_id) << 12, 0, u32::from(vector), 0];
        for (word, value) in words.into_iter().enumerate() {
            // SAFETY: within the table (`enable` checked its size, the test above the index).
            unsafe { self.table.add(usize::from(index) * 4 + word).write_volatile(value) };
        }
        true
    }
}

/// Structures of a modern virtio function's registers (virtio 1.1 §4.1.4): their numbers in its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioStructure {
    /// Common configuration.
    Common = 1,
    /// Configuration of the kind of device.
    Device = 4,
}

/// Physical address of a structure of a modern virtio function; `None` if it does not have it in memory.
pub fn virtio_structure(
    root: &mut PciRoot<PortAccess>,
    device: DeviceFunction,
    structure: VirtioStructure,
) -> Option<u64> {
    const VENDOR_CAPABILITY: u8 = 0x09;
    let found = root.capabilities(device).find(|capability| {
        capability.id == VENDOR_CAPABILITY && capability.private_header >> 8 == structure as u16
    })?;
    // SAFETY: configuration accesses are single-threaded: `root` is borrowed exclusively.
    let access = unsafe { PortAccess::new() };
    let bar = (access.read_word(device, found.offset + 4) & 0xff) as u8;
    let offset = access.read_word(device, found.offset + 8);
    // Greater numbers are reserved, and to be ignored.
    if bar > 5 {
        return None;
    }
    match root.bar_info(device, bar) {
        Ok(Some(BarInfo::Memory { address, .. })) if address != 0 => address.checked_add(u64::from(offset)),
        _ => None,
    }
}

/// Routes queue `queue` of a modern virtio function to entry `entry` of its MSI-X table (virtio 1.1
/// §4.1.4.3). Returns whether the device accepted it.
///
/// # Safety
///
/// As for [`Msix::enable`]; nobody else uses the function's common configuration at the same time.
pub unsafe fn route_virtio_queue(
    root: &mut PciRoot<PortAccess>,
    device: DeviceFunction,
    queue: u16,
    entry: u16,
) -> bool {
    const QUEUE_SELECT: u64 = 22;
    const QUEUE_MSIX_VECTOR: u64 = 26;
    let Some(base) = virtio_structure(root, device, VirtioStructure::Common) else { return false };
    // SAFETY: registers of the common configuration in an assigned, mapped BAR.
    unsafe {
        linear::pointer::<u16>(base + QUEUE_SELECT).write_volatile(queue);
        let vector = linear::pointer::<u16>(base + QUEUE_MSIX_VECTOR);
        vector.write_volatile(entry);
        vector.read_volatile() == entry
    }
}

/// Keeps a function from ever using its interrupt pin, which it may share with others.
pub fn silence_pin(root: &mut PciRoot<PortAccess>, device: DeviceFunction) {
    let (_, command) = root.get_status_command(device);
    root.set_command(device, command | Command::INTERRUPT_DISABLE);
}
