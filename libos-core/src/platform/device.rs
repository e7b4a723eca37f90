//! What can be wrong with a device, whatever kind it is.
#![forbid(unsafe_code)]

/// Why a device that is there can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// Its registers lie outside the part of physical memory that is mapped for devices.
    OutOfReach,
    /// It does not speak version 1.0 of the virtio protocol.
    Transport,
    /// It has neither MSI-X nor an interrupt pin.
    NoInterrupt,
    /// Its queue is too short.
    ShortQueue {
        /// Entries that it has.
        entries: u32,
        /// Entries that are needed.
        needed: u32,
    },
    /// It holds no blocks: nothing is behind it, or not any more.
    Empty,
    /// It refuses to be started.
    Refused,
}

impl core::fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DeviceFault::OutOfReach => {
                f.write_str("its registers lie outside the fourth GiB of physical memory")
            }
            DeviceFault::Transport => f.write_str("it does not offer virtio 1.0 (QEMU: disable-modern=off)"),
            DeviceFault::NoInterrupt => f.write_str("it has neither MSI-X nor an interrupt pin"),
            DeviceFault::ShortQueue { entries, needed } => {
                write!(f, "its queue has {entries} entries, {needed} are needed (QEMU: queue-size={needed})")
            }
            DeviceFault::Empty => f.write_str("it holds no blocks: nothing is behind it, or not any more"),
            DeviceFault::Refused => f.write_str("it refuses to be started"),
        }
    }
}
