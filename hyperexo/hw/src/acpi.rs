//! What the ACPI tables say about the machine, read by the crate `acpi`.

use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;

/// Most processors that [`Machine`] keeps.
pub const MAX_PROCESSORS: usize = 64;

/// Processors, by their local APIC numbers.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    apic_ids: [u8; MAX_PROCESSORS],
    count: usize,
}

impl Machine {
    /// Local APIC numbers of the usable processors, in the order of the table.
    pub fn apic_ids(&self) -> &[u8] {
        &self.apic_ids[..self.count]
    }
}

/// Tables are reached where they lie: memory is mapped by identity.
#[derive(Clone)]
struct Identity;

impl AcpiHandler for Identity {
    unsafe fn map_physical_region<T>(&self, address: usize, bytes: usize) -> PhysicalMapping<Self, T> {
        let start = NonNull::new(address as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the region is mapped by identity for as long as anyone reads tables (`Machine::read`).
        unsafe { PhysicalMapping::new(address, start, bytes, bytes, Identity) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

impl Machine {
    /// Reads the MADT. Without ACPI, or with tables that make no sense, there is the boot processor alone (`None`).
    ///
    /// # Safety
    ///
    /// All ACPI tables are mapped by identity; `rsdp`, if given, is the address of a root pointer. If it is not given,
    /// the BIOS area below 1 MiB is searched, which must be readable.
    pub unsafe fn read(rsdp: Option<u64>) -> Option<Machine> {
        // SAFETY: passed on to the caller.
        let tables = unsafe {
            match rsdp {
                Some(address) => AcpiTables::from_rsdp(Identity, address as usize),
                None => AcpiTables::search_for_rsdp_bios(Identity),
            }
        }
        .ok()?;
        let madt = tables.find_table::<Madt>().ok()?;
        let mut machine = Machine { apic_ids: [0; MAX_PROCESSORS], count: 0 };
        for entry in madt.get().entries() {
            // Flag bit 0: enabled.
            if let MadtEntry::LocalApic(processor) = entry
                && { processor.flags } & 1 != 0
                && machine.count < MAX_PROCESSORS
            {
                machine.apic_ids[machine.count] = processor.apic_id;
                machine.count += 1;
            }
        }
        Some(machine)
    }
}
