//! PCI configuration space through ports 0xcf8 and 0xcfc, and MSI-X.
//!
//! Ports rather than the memory-mapped window: every machine type that has PCI has them, and only slow paths
//! come here.

use crate::bridges::Buses;
use crate::virtio::LinearHal;
use crate::{bars, linear};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display, Formatter};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
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
pub struct OutOfReach;

impl Display for OutOfReach {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("its registers lie outside the fourth GiB of physical memory")
    }
}

/// A function, on bus 0 or behind bridges.
pub struct Function {
    /// Where it is.
    pub place: DeviceFunction,
    information: DeviceFunctionInfo,
    /// The bridges on the way to it.
    bridges: Vec<DeviceFunction>,
}

/// All functions there are, the first bus first.
///
/// The first call, before any function is in use, gives registers that have no address in `reach` one there
/// ([`crate::bars`]).
pub fn functions(root: &mut PciRoot<PortAccess>, reach: &Range<u64>) -> Vec<Function> {
    static FIRST: AtomicBool = AtomicBool::new(true);
    // SAFETY: configuration accesses are single-threaded: `root` is borrowed exclusively.
    let mut access = unsafe { PortAccess::new() };
    if FIRST.swap(false, Ordering::Relaxed) {
        bars::bring_into_reach(root, &mut access, reach);
    }
    let mut all = Vec::new();
    let mut buses = Buses::from_bus_0();
    while let Some(bus) = buses.next_bus() {
        for (place, information) in root.enumerate_bus(bus) {
            buses.meet(&access, place, &information.header_type);
            all.push(Function { place, information, bridges: buses.way_from(bus).collect() });
        }
    }
    all
}

impl Function {
    /// Whether it is a virtio device of this kind.
    pub fn is_virtio(&self, kind: DeviceType) -> bool {
        virtio_device_type(&self.information) == Some(kind)
    }

    /// What it is called if it leads to disks, but is no virtio-blk device: by class and subclass (PCI code
    /// and ID assignment 1.11 §1.2).
    pub fn other_storage(&self) -> Option<&'static str> {
        const STORAGE: u8 = 1;
        match (virtio_device_type(&self.information), self.information.class, self.information.subclass) {
            (Some(DeviceType::ScsiHost), ..) => Some("virtio-scsi"),
            (Some(_), ..) => None,
            (None, STORAGE, 0x00) => Some("SCSI"),
            (None, STORAGE, 0x01) => Some("IDE"),
            (None, STORAGE, 0x06) => Some("AHCI"),
            (None, STORAGE, 0x07) => Some("SAS"),
            (None, STORAGE, 0x08) => Some("NVMe"),
            (None, STORAGE, _) => Some("storage"),
            _ => None,
        }
    }

    /// Has it answer memory accesses and do DMA from now on, and its bridges pass both on; some firmware
    /// leaves that off.
    ///
    /// # Errors
    ///
    /// [`OutOfReach`] if some of its registers are outside `reach`: then it is left as it is.
    pub fn enable(&self, root: &mut PciRoot<PortAccess>, reach: &Range<u64>) -> Result<(), OutOfReach> {
        if !bars::are_in_reach(root, self.place, &self.information.header_type, reach) {
            return Err(OutOfReach);
        }
        for part in core::iter::once(&self.place).chain(&self.bridges) {
            let (_, command) = root.get_status_command(*part);
            root.set_command(*part, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
        }
        Ok(())
    }

    /// Starts the driver of a virtio function, and has `queues` interrupt by MSI-X: with `vector`, at the
    /// core with local APIC number `apic_id`.
    ///
    /// # Errors
    ///
    /// Why it can't be used.
    ///
    /// # Safety
    ///
    /// `reach` is mapped ([`crate::linear`]), and nobody else uses the function.
    pub unsafe fn start<D, E: Display>(
        &self,
        root: &mut PciRoot<PortAccess>,
        reach: &Range<u64>,
        (apic_id, vector): (u8, u8),
        queues: &[u16],
        start: impl FnOnce(PciTransport) -> Result<D, E>,
    ) -> Result<D, String> {
        self.enable(root, reach).map_err(|error| error.to_string())?;
        let transport =
            PciTransport::new::<LinearHal, _>(root, self.place).map_err(|error| error.to_string())?;
        let device = start(transport).map_err(|error| error.to_string())?;
        // SAFETY: the registers are in reach, mapped (caller); nobody else uses the table.
        let routed = unsafe {
            Msix::enable(root, self.place).is_ok_and(|mut table| {
                table.route(0, apic_id, vector)
                    && queues.iter().all(|queue| route_virtio_queue(root, self.place, *queue, 0))
            })
        };
        routed.then_some(device).ok_or_else(|| "it has no working MSI-X interrupt".into())
    }
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
