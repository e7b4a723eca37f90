//! Where devices may be, as the firmware and the command line tell.
#![forbid(unsafe_code)]

use hyperexo_hw::acpi::{self, MAX_IO_APICS, MAX_WINDOWS};
use hyperexo_hw::ioapic::IoApic;
use hyperexo_hw::virtio::mmio::{self, Window};

/// What the firmware and the command line tell of devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    io_apics: [IoApic; MAX_IO_APICS],
    io_apic_count: usize,
    windows: [Window; MAX_WINDOWS],
    window_count: usize,
}

/// The I/O APIC of a machine that does not describe any.
const USUAL_IO_APIC: IoApic = IoApic { address: 0xfec0_0000, first_line: 0 };

impl Places {
    /// What the tables describe, and what the command line does.
    pub fn new(tables: Option<&acpi::Machine>, command_line: &str) -> Places {
        let mut places = Places {
            io_apics: [USUAL_IO_APIC; MAX_IO_APICS],
            io_apic_count: 1,
            windows: [Window::default(); MAX_WINDOWS],
            window_count: 0,
        };
        let chips = tables.map_or(&[][..], acpi::Machine::io_apics);
        if !chips.is_empty() {
            places.io_apics[..chips.len()].copy_from_slice(chips);
            places.io_apic_count = chips.len();
        }
        let told = tables.map_or(&[][..], acpi::Machine::virtio_windows).iter().copied();
        for (slot, window) in places.windows.iter_mut().zip(mmio::on_command_line(command_line).chain(told)) {
            *slot = window;
            places.window_count += 1;
        }
        places
    }

    /// The I/O APICs.
    pub fn io_apics(&self) -> &[IoApic] {
        &self.io_apics[..self.io_apic_count]
    }

    /// The windows in memory in which a device may be.
    pub fn windows(&self) -> &[Window] {
        &self.windows[..self.window_count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_windows() {
        let places = Places::new(None, "a virtio_mmio.device=512@0xfeb00e00:12");
        assert_eq!(places.windows(), [Window { address: 0xfeb0_0e00, bytes: 512, line: 12 }]);
        assert_eq!(places.io_apics(), [USUAL_IO_APIC]);
    }
}
