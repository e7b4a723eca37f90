//! What the ACPI tables say about the machine, read by the crate `acpi`.

use crate::button::{Button, Register};
use crate::ioapic::{IoApic, Signal};
use crate::linear;
use crate::sleep::{self, PowerOff, SoftOff};
use crate::virtio::mmio::{self, Window};
use ::acpi::address::{AddressSpace, GenericAddress};
use ::acpi::fadt::Fadt;
use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use core::pin::Pin;
use core::ptr::NonNull;

/// Most processors that [`Machine`] keeps.
pub const MAX_PROCESSORS: usize = 64;

/// Most I/O APICs that [`Machine`] keeps.
pub const MAX_IO_APICS: usize = 4;
/// Most windows of virtio devices that [`Machine`] keeps: QEMU's `microvm` has 24.
pub const MAX_WINDOWS: usize = 32;

/// Processors, by their local APIC numbers, I/O APICs, virtio devices that are not on PCI, and the way to
/// switch it off.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    apic_ids: [u8; MAX_PROCESSORS],
    count: usize,
    io_apics: [IoApic; MAX_IO_APICS],
    io_apic_count: usize,
    windows: [Window; MAX_WINDOWS],
    window_count: usize,
    /// How it is switched off, if its tables say so in a way that we read.
    pub power_off: Option<PowerOff>,
    /// Its power button, if its tables describe one in a way that we read.
    pub button: Option<Button>,
}

impl Machine {
    /// Local APIC numbers of the usable processors, in the order of the table.
    pub fn apic_ids(&self) -> &[u8] {
        &self.apic_ids[..self.count]
    }

    /// I/O APICs.
    pub fn io_apics(&self) -> &[IoApic] {
        &self.io_apics[..self.io_apic_count]
    }

    /// Windows in which there may be virtio devices.
    pub fn virtio_windows(&self) -> &[Window] {
        &self.windows[..self.window_count]
    }
}

/// Tables are reached where physical memory is mapped.
#[derive(Clone)]
struct Linear;

impl AcpiHandler for Linear {
    unsafe fn map_physical_region<T>(&self, address: usize, bytes: usize) -> PhysicalMapping<Self, T> {
        let start = NonNull::new(linear::pointer(address as u64)).unwrap_or(NonNull::dangling());
        // SAFETY: the region is mapped for as long as anyone reads tables (`Machine::read`).
        unsafe { PhysicalMapping::new(address, start, bytes, bytes, Linear) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

impl Machine {
    /// Reads MADT, FADT and DSDT. Without ACPI, or with tables that make no sense, there is the boot
    /// processor alone (`None`).
    ///
    /// # Safety
    ///
    /// All ACPI tables are mapped ([`crate::linear`]); `rsdp`, if given, is the address of a root pointer. If
    /// it is not given, the BIOS area below 1 MiB is searched, which must be readable.
    pub unsafe fn read(rsdp: Option<u64>) -> Option<Machine> {
        // SAFETY: passed on to the caller.
        let tables = unsafe {
            match rsdp {
                Some(address) => AcpiTables::from_rsdp(Linear, address as usize),
                None => AcpiTables::search_for_rsdp_bios(Linear),
            }
        }
        .ok()?;
        let madt = tables.find_table::<Madt>().ok()?;
        let mut machine = Machine {
            apic_ids: [0; MAX_PROCESSORS],
            count: 0,
            io_apics: [IoApic::default(); MAX_IO_APICS],
            io_apic_count: 0,
            windows: [Window::default(); MAX_WINDOWS],
            window_count: 0,
            power_off: None,
            button: None,
        };
        for entry in madt.get().entries() {
            match entry {
                // Flag bit 0: enabled.
                MadtEntry::LocalApic(processor) if { processor.flags } & 1 != 0 => {
                    push(&mut machine.apic_ids, &mut machine.count, processor.apic_id);
                }
                MadtEntry::IoApic(chip) => {
                    let chip = IoApic {
                        address: { chip.io_apic_address }.into(),
                        first_line: chip.global_system_interrupt_base,
                    };
                    push(&mut machine.io_apics, &mut machine.io_apic_count, chip);
                }
                _ => {}
            }
        }
        if let Ok(code) = tables.dsdt() {
            // SAFETY: the table is where the FADT says, mapped like all of them (caller), and nobody writes
            // it.
            let bytes = unsafe {
                core::slice::from_raw_parts(linear::pointer::<u8>(code.address as u64), code.length as usize)
            };
            for window in mmio::in_table(bytes) {
                push(&mut machine.windows, &mut machine.window_count, window);
            }
            let fixed = tables.find_table::<Fadt>().ok();
            machine.button = fixed.as_ref().and_then(|fixed| fixed_button(fixed, madt.get()));
            machine.button = machine.button.or_else(|| generic_button(bytes));
            machine.power_off =
                fixed.zip(SoftOff::in_table(bytes)).and_then(|(table, types)| power_off(&table, types));
        }
        Some(machine)
    }
}

/// The power button of PC hardware (ACPI 6.5 §4.8.2.2.1), unless it is a device of its own.
fn fixed_button(table: &Fadt, madt: Pin<&Madt>) -> Option<Button> {
    let flags = { table.flags };
    if flags.system_is_hw_reduced_acpi() || flags.power_button_is_control_method() {
        return None;
    }
    let PowerOff::Control { a: control, handover, .. } = power_off(table, SoftOff { a: 0, b: 0 })? else {
        return None;
    };
    let a = table.pm1a_event_block().ok()?;
    let status = [port(a), table.pm1b_event_block().ok().flatten().and_then(port)];
    let apart = Some(u16::from(a.bit_width) / 16).filter(|bytes| *bytes > 0)?;
    let register = Register::Fixed { status, apart, control, handover };
    /// In an override's flags: active high (ACPI 6.5 §5.2.12.5). The default of this line is low.
    const HIGH: u16 = 1;
    let source = { table.sci_interrupt };
    let moved = madt.entries().find_map(|entry| match entry {
        MadtEntry::InterruptSourceOverride(moved) if u16::from(moved.irq) == source => {
            Some(({ moved.global_system_interrupt }, { moved.flags } & 3 == HIGH))
        }
        _ => None,
    });
    let (line, high) = moved.unwrap_or((source.into(), false));
    Some(Button { register, line, signal: if high { Signal::High } else { Signal::Low } })
}

/// The power button of QEMU's hardware-reduced machines: line and register of the generic event device.
fn generic_button(code: &[u8]) -> Option<Button> {
    /// Name of the device (`_HID`), and its register as QEMU declares it: an operation region of memory whose
    /// address is a constant of 32 bits.
    const DEVICE: &[u8] = b"ACPI0013\0";
    const REGISTER: &[u8] = b"\x5b\x80EREG\x00\x0c";
    let at = |bytes: &[u8], name: &[u8]| {
        bytes.windows(name.len()).position(|part| part == name).map(|at| at + name.len())
    };
    let device = code.get(at(code, DEVICE)?..)?;
    let line = mmio::word(mmio::behind(device, mmio::INTERRUPT)?, 2)?;
    let address = u64::from(mmio::word(device, at(device, REGISTER)?)?);
    let register = linear::DEVICE_REGISTERS.contains(&address).then_some(Register::Generic(address))?;
    Some(Button { register, line, signal: Signal::Edge })
}

/// The I/O port of a register that is at one.
fn port(address: GenericAddress) -> Option<u16> {
    let sleep::Register::Port(port) = register(address)? else { return None };
    Some(port)
}

/// The registers with which the machine is switched off (ACPI 6.5 §5.2.9).
fn power_off(table: &Fadt, types: SoftOff) -> Option<PowerOff> {
    /// Where the sleep control register ends in the table.
    const SLEEP_CONTROL_END: usize = 256;
    if { table.flags }.system_is_hw_reduced_acpi() {
        // The crate goes by the table's revision alone, and some tables are shorter than theirs.
        let length = { table.header().length } as usize;
        let address =
            table.sleep_control_register().ok().flatten().filter(|_| length >= SLEEP_CONTROL_END)?;
        return Some(PowerOff::Reduced { register: register(address)?, types });
    }
    /// Where the extended addresses of the control registers end in the table, and the first revision that
    /// the crate reads them in.
    const CONTROL_END: usize = 196;
    const EXTENDED: u8 = 2;
    let header = table.header();
    if header.revision >= EXTENDED && ({ header.length } as usize) < CONTROL_END {
        return None;
    }
    let smi_command = u16::try_from(table.smi_cmd_port).unwrap_or_default();
    Some(PowerOff::Control {
        a: port(table.pm1a_control_block().ok()?)?,
        b: table.pm1b_control_block().ok().flatten().and_then(port),
        types,
        handover: (smi_command != 0 && table.acpi_enable != 0).then_some((smi_command, table.acpi_enable)),
    })
}

/// A register that is there and that we can reach.
fn register(address: GenericAddress) -> Option<sleep::Register> {
    match address.address_space {
        AddressSpace::SystemIo => {
            u16::try_from(address.address).ok().filter(|port| *port != 0).map(sleep::Register::Port)
        }
        AddressSpace::SystemMemory => Some(address.address)
            .filter(|address| linear::DEVICE_REGISTERS.contains(address))
            .map(sleep::Register::Memory),
        _ => None,
    }
}

/// Adds to an array of which `count` items are in use, if there is room.
fn push<T>(items: &mut [T], count: &mut usize, item: T) {
    if let Some(slot) = items.get_mut(*count) {
        *slot = item;
        *count += 1;
    }
}
