//! Bridges of PCI: the buses behind them, and the addresses that they pass on.
//!
//! ```text
//! bus 0 ─┬─ device
//!        └─ bridge: bus number, window of addresses ─── bus 1 ── device
//! ```
//!
//! SeaBIOS and UEFI firmware number the buses. qboot leaves that out, and [`number_buses`] makes up for it.
//! libvirt puts every device behind a bridge of its own, a root port of PCI Express.
#![forbid(unsafe_code)]

use core::ops::Range;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, HeaderType, PciRoot};

/// Numbers of the buses on both sides (PCI-to-PCI bridge 1.2 §3.2.5): own, behind, highest behind.
const BUS_NUMBERS: u8 = 0x18;
/// Base and limit of addresses passed on, in units of 1 MiB.
const WINDOW: u8 = 0x20;
/// The same for addresses that may be read ahead.
const PREFETCHABLE_WINDOW: u8 = 0x24;
/// Upper halves of base and limit of those.
const PREFETCHABLE_UPPER: [u8; 2] = [0x28, 0x2c];
/// A window whose base is above its limit.
const CLOSED: u32 = 0x0000_fff0;

/// The buses of a machine, in the order of their numbers. A bus is known once its bridge has been
/// [met](Buses::meet), and all bridges of a bus are to be met before the next is asked for.
pub struct Buses {
    /// The bridge that leads to each bus.
    bridges: [Option<DeviceFunction>; 256],
    /// Lowest number of a bus still to be looked at.
    first_left: usize,
}

impl Buses {
    /// Bus 0, with which the search begins.
    pub const fn from_bus_0() -> Buses {
        Buses { bridges: [None; 256], first_left: 0 }
    }

    /// Notes the bus behind a function that may be a bridge. One that firmware did not number leads nowhere,
    /// and one whose number is not above its own bus can't be right.
    pub fn meet(&mut self, access: &impl ConfigurationAccess, function: DeviceFunction, header: &HeaderType) {
        if *header == HeaderType::PciPciBridge {
            let behind = bus_behind(access, function);
            if behind > function.bus {
                self.bridges[usize::from(behind)] = Some(function);
            }
        }
    }

    /// Number of the next bus.
    pub fn next_bus(&mut self) -> Option<u8> {
        let bus = (self.first_left..256).find(|bus| *bus == 0 || self.bridges[*bus].is_some())?;
        self.first_left = bus + 1;
        Some(bus as u8)
    }

    /// The bridges on the way from a bus to bus 0.
    pub fn way_from(&self, bus: u8) -> impl Iterator<Item = DeviceFunction> {
        core::iter::successors(self.bridges[usize::from(bus)], |bridge| self.bridges[usize::from(bridge.bus)])
    }
}

/// Number of the bus behind a bridge; 0 if it has none.
pub fn bus_behind(access: &impl ConfigurationAccess, bridge: DeviceFunction) -> u8 {
    (access.read_word(bridge, BUS_NUMBERS) >> 8) as u8
}

/// Numbers the buses behind the bridges of bus 0, if firmware has numbered none. Bridges behind bridges stay
/// without.
pub fn number_buses<C: ConfigurationAccess>(root: &PciRoot<C>, access: &mut C) {
    let bridges = || {
        root.enumerate_bus(0).filter(|(_, information)| information.header_type == HeaderType::PciPciBridge)
    };
    if bridges().any(|(bridge, _)| bus_behind(access, bridge) != 0) {
        return;
    }
    for (number, (bridge, _)) in (1..=u32::from(u8::MAX)).zip(bridges()) {
        let timer = access.read_word(bridge, BUS_NUMBERS) & 0xff00_0000;
        access.write_word(bridge, BUS_NUMBERS, timer | number << 16 | number << 8);
    }
}

/// The windows of addresses below 4 GiB that a bridge passes on.
pub fn windows(
    access: &impl ConfigurationAccess,
    bridge: DeviceFunction,
) -> impl Iterator<Item = Range<u64>> {
    [WINDOW, PREFETCHABLE_WINDOW].map(|at| window(access.read_word(bridge, at))).into_iter().flatten()
}

/// Has a bridge pass on these addresses, whole MiB below 4 GiB, and no others.
pub fn set_window(access: &mut impl ConfigurationAccess, bridge: DeviceFunction, window: &Range<u64>) {
    let (base, limit) = (window.start >> 16 & 0xfff0, (window.end - 1) >> 16 & 0xfff0);
    access.write_word(bridge, WINDOW, (limit << 16 | base) as u32);
    access.write_word(bridge, PREFETCHABLE_WINDOW, CLOSED);
    PREFETCHABLE_UPPER.into_iter().for_each(|at| access.write_word(bridge, at, 0));
}

/// Base and limit of a bridge's window, as its register holds them; `None` if it passes nothing on.
fn window(word: u32) -> Option<Range<u64>> {
    let base = u64::from(word & 0xfff0) << 16;
    let limit = u64::from(word >> 16 & 0xfff0) << 16 | 0xf_ffff;
    (base != 0 && base < limit).then_some(base..limit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_that_pass_nothing_on() {
        assert_eq!(window(0xfeb0_fe00), Some(0xfe00_0000..0xfec0_0000));
        assert_eq!(window(0), None);
        assert_eq!(window(CLOSED), None);
    }
}
