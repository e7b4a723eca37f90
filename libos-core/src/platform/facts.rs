//! What a host tells at the start.
#![forbid(unsafe_code)]

use core::ops::Range;

/// What a unikernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// HyperExo.
    HyperExo {
        /// Number of the environment, from 1.
        environment: u64,
    },
    /// The machine itself, without an exokernel.
    Machine,
}

impl core::fmt::Display for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Host::HyperExo { environment } => write!(f, "environment {environment} of HyperExo"),
            Host::Machine => f.write_str("directly on the machine"),
        }
    }
}

/// What the host tells once, before anything else runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Name of the unikernel.
    pub name: &'static str,
    /// Command line.
    pub command_line: &'static str,
    /// Ticks of the TSC in a second; not 0.
    pub tsc_hz: u64,
    /// Value of the TSC when the machine was booted.
    pub boot_tsc: u64,
    /// One past the highest frame of RAM.
    pub memory_end_frame: u64,
    /// Frames that the unikernel may own.
    pub quota_frames: u64,
    /// Where the image lies.
    pub image: Area,
    /// Where the start-up stack lies.
    pub stack: Area,
    /// Physical addresses of device registers, multiples of a large page. Empty if there are no devices.
    pub devices: Range<u64>,
    /// Whether the page tables of the start are needed later.
    pub keeps_start_tables: bool,
    /// Frames of the image that nothing uses.
    pub unused_frames: Range<u64>,
}

/// A run of memory with its virtual and its physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// First virtual address.
    pub virtual_start: u64,
    /// First physical address.
    pub physical_start: u64,
    /// Length.
    pub bytes: u64,
}

impl Area {
    /// One past the last virtual address.
    pub fn virtual_end(&self) -> u64 {
        self.virtual_start + self.bytes
    }

    /// Whether all physical addresses of another area lie in this one.
    pub fn holds(&self, other: Area) -> bool {
        self.physical_start <= other.physical_start
            && other.physical_start + other.bytes <= self.physical_start + self.bytes
    }

    /// The physical address of a virtual address in the area.
    pub fn physical(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.virtual_start)?;
        (offset < self.bytes).then(|| self.physical_start + offset)
    }
}

#[cfg(test)]
impl Facts {
    /// Those of a small image with 16 MiB of RAM, for tests.
    pub const EXAMPLE: Facts = Facts {
        name: "test",
        command_line: "",
        tsc_hz: 1,
        boot_tsc: 0,
        memory_end_frame: 4096,
        quota_frames: 64,
        image: Area { virtual_start: 0x10_0000, physical_start: 0x30_0000, bytes: 0x4000 },
        stack: Area {
            virtual_start: hyperexo_abi::STACK_TOP - 0x1_0000,
            physical_start: 0x31_0000,
            bytes: 0x1_0000,
        },
        devices: 0..0,
        keeps_start_tables: false,
        unused_frames: 0..0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_translate_what_they_hold() {
        let area = Area { virtual_start: 0x1000, physical_start: 0x9000, bytes: 0x2000 };
        assert_eq!(area.physical(0xfff), None);
        assert_eq!(area.physical(0x1000), Some(0x9000));
        assert_eq!(area.physical(0x2fff), Some(0xafff));
        assert_eq!(area.physical(0x3000), None);
    }
}
