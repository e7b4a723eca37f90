//! Which of a machine's disks is meant, and what is said where it is none.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use virtio_drivers::transport::pci::bus::DeviceFunction;

/// Which virtio disk is meant: `disk=` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The only one.
    Only,
    /// `disk=N`: the one with this number, from 0, in the order in which they are found.
    Number(usize),
    /// `disk=BB:DD.F`: the one at this place on PCI, in hexadecimal numbers, as `lspci` writes it.
    At(DeviceFunction),
}

impl Wanted {
    /// Reads the value of the option; `None` if it makes no sense.
    pub fn parse(text: &str) -> Option<Wanted> {
        if let Ok(number) = text.parse() {
            return Some(Wanted::Number(number));
        }
        let (bus, rest) = text.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let number = |digits: &str| u8::from_str_radix(digits, 16).ok();
        let place =
            DeviceFunction { bus: number(bus)?, device: number(device)?, function: number(function)? };
        place.valid().then_some(Wanted::At(place))
    }

    /// Index of the disk that is meant; `disks` are their places on PCI, `None` for those elsewhere.
    pub fn among(self, disks: &[Option<DeviceFunction>]) -> Option<usize> {
        match self {
            Wanted::Only => Some(0).filter(|_| disks.len() == 1),
            Wanted::Number(number) => Some(number).filter(|number| *number < disks.len()),
            Wanted::At(place) => disks.iter().position(|disk| *disk == Some(place)),
        }
    }

    /// Why none is, in words: what the disks are, and what else there is that leads to disks.
    pub fn why_none(self, disks: &[impl Display], others: &[(&str, DeviceFunction)]) -> String {
        let others = list(others.iter().map(|(kind, place)| format!("{kind} at {place}")));
        let found = list(disks.iter().enumerate().map(|(number, place)| format!("{number} at {place}")));
        match (disks.len(), others.is_empty(), self) {
            (0, true, _) => "the machine has no disk".into(),
            (0, false, _) => {
                format!("the machine has no virtio-blk disk, which is needed; of other kinds it has {others}")
            }
            (count, _, Wanted::Only) => {
                format!("the machine has {count} virtio disks ({found}): name one, such as disk=0")
            }
            (_, _, Wanted::Number(number)) => format!("there is no virtio disk {number}, only {found}"),
            (_, _, Wanted::At(place)) => format!("there is no virtio disk at {place}, only {found}"),
        }
    }
}

fn list(names: impl Iterator<Item = impl ToString>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(device: u8) -> DeviceFunction {
        DeviceFunction { bus: 0, device, function: 0 }
    }

    #[test]
    fn words_name_disks() {
        assert_eq!(Wanted::parse("1"), Some(Wanted::Number(1)));
        assert_eq!(Wanted::parse("00:1f.2"), Some(Wanted::At(DeviceFunction { function: 2, ..at(0x1f) })));
        for wrong in ["", "x", "-1", "0:", "00:20.0", "00:1.8", "0000:00:01.0", "1.0", "100:00.0"] {
            assert_eq!(Wanted::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_of_several_must_be_named() {
        let disks = [Some(at(3)), None, Some(at(5))];
        assert_eq!(Wanted::Only.among(&disks), None);
        assert_eq!(Wanted::Only.among(&disks[1..2]), Some(0));
        assert_eq!(Wanted::Only.among(&[]), None);
        assert_eq!((Wanted::Number(1).among(&disks), Wanted::Number(3).among(&disks)), (Some(1), None));
        assert_eq!((Wanted::At(at(5)).among(&disks), Wanted::At(at(4)).among(&disks)), (Some(2), None));
    }

    #[test]
    fn what_there_is_is_said() {
        let nothing: [DeviceFunction; 0] = [];
        assert_eq!(Wanted::Only.why_none(&nothing, &[]), "the machine has no disk");
        let other = Wanted::Only.why_none(&nothing, &[("AHCI", at(0x1f)), ("NVMe", at(4))]);
        assert!(other.ends_with("of other kinds it has AHCI at 00:1f.0, NVMe at 00:04.0"), "{other}");
        let several = Wanted::Only.why_none(&[at(3), at(5)], &[]);
        assert!(several.contains("2 virtio disks (0 at 00:03.0, 1 at 00:05.0)"), "{several}");
        let absent = Wanted::At(at(4)).why_none(&[at(3)], &[("AHCI", at(0x1f))]);
        assert_eq!(absent, "there is no virtio disk at 00:04.0, only 0 at 00:03.0");
    }
}
