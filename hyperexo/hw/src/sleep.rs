//! How a machine is switched off by ACPI (ACPI 6.5 §16.1, §7.4): what to write, and where.
//!
//! The values stand in the object `\_S5_` of the DSDT, the registers in the FADT. The object is looked for in
//! the table's bytes: at the time the tables are read there is no heap for an interpreter, and every machine
//! that we know writes it down as a constant.
#![forbid(unsafe_code)]

/// Types of the sleep state S5, "soft off": what the two registers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftOff {
    /// `SLP_TYPa`: for PM1a_CNT, or the sleep control register. At most 7.
    pub a: u8,
    /// `SLP_TYPb`: for PM1b_CNT. At most 7.
    pub b: u8,
}

/// A register of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// At an I/O port.
    Port(u16),
    /// At a physical address in the fourth GiB.
    Memory(u64),
}

/// How the machine is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// The usual hardware: PM1 control registers (ACPI 6.5 §4.8.3.2), at I/O ports.
    Control {
        /// PM1a_CNT.
        a: u16,
        /// PM1b_CNT, where there is one.
        b: Option<u16>,
        /// What they are told.
        types: SoftOff,
        /// Port and value by which the firmware hands the registers over, if it has not yet.
        handover: Option<(u16, u8)>,
    },
    /// Hardware-reduced: the sleep control register (§4.8.3.7).
    Reduced {
        /// The register.
        register: Register,
        /// What it is told.
        types: SoftOff,
    },
}

/// Name of the object, in front of its value.
const NAME: &[u8; 4] = b"_S5_";
/// `DefName`, which makes an object of a name and a value (§20.2.5.1).
const NAME_OP: u8 = 0x08;
/// `RootChar`, with which the name may begin.
const ROOT: u8 = b'\\';
/// `DefPackage` (§20.2.5.4).
const PACKAGE_OP: u8 = 0x12;

impl SoftOff {
    /// The first object `_S5_` among the bytes of a table that is a package of constants.
    pub fn in_table(table: &[u8]) -> Option<SoftOff> {
        let names = table.windows(NAME.len()).enumerate().filter(|(_, bytes)| bytes == NAME);
        names.filter_map(|(at, _)| SoftOff::named(table, at)).next()
    }

    /// The object whose name stands at `at`.
    fn named(table: &[u8], at: usize) -> Option<SoftOff> {
        let before = |count: usize| at.checked_sub(count).and_then(|place| table.get(place)).copied();
        let is_object = before(1) == Some(NAME_OP) || before(1) == Some(ROOT) && before(2) == Some(NAME_OP);
        let rest = table.get(at + NAME.len()..)?;
        let (&PACKAGE_OP, rest) = rest.split_first()? else { return None };
        let (&count, elements) = package(rest)?.split_first()?;
        let (first, rest) = integer(elements)?;
        let (a, b) = match count {
            0 => return None,
            // Some firmware writes both into one number; where there is one register only, nobody looks at
            // the second.
            1 => (first & 0xff, first >> 8 & 0xff),
            _ => (first, integer(rest)?.0),
        };
        (is_object && a < 8 && b < 8).then_some(SoftOff { a: a as u8, b: b as u8 })
    }
}

/// What a package holds, behind its length (`PkgLength`, §20.2.4), which counts its own bytes.
fn package(bytes: &[u8]) -> Option<&[u8]> {
    let lead = *bytes.first()?;
    let more = usize::from(lead >> 6);
    let length = match more {
        0 => usize::from(lead & 0x3f),
        _ => {
            bytes.get(1..=more)?.iter().rev().fold(0, |high, byte| high << 8 | usize::from(*byte)) << 4
                | usize::from(lead & 0xf)
        }
    };
    bytes.get(1 + more..length)
}

/// A constant (§20.2.3) of at most 32 bits, and what follows it.
fn integer(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (prefix, rest) = bytes.split_first()?;
    let width = match prefix {
        0x00 => return Some((0, rest)),
        0x01 => return Some((1, rest)),
        0x0a => 1,
        0x0b => 2,
        0x0c => 4,
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    Some((number.iter().rev().fold(0, |high, byte| high << 8 | u32::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// As QEMU's q35 has it: `Name (_S5_, Package (4) {0, 0, 0, 0})`.
    const Q35: &[u8] = b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00";

    fn found(bytes: &[u8]) -> Option<(u8, u8)> {
        SoftOff::in_table(bytes).map(|types| (types.a, types.b))
    }

    #[test]
    fn packages_of_constants_are_read() {
        assert_eq!(found(Q35), Some((0, 0)));
        // QEMU's microvm, with a byte constant, and other objects around it.
        assert_eq!(
            found(b"\x5b\x82\x08DEV_\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00\x14\x06_S5_"),
            Some((5, 0))
        );
        assert_eq!(found(b"\x08\\_S5_\x12\x07\x02\x0b\x07\x00\x0a\x05"), Some((7, 5)));
        // A length in two bytes, and one number for both.
        assert_eq!(found(b"\x08_S5_\x12\x46\x00\x01\x0b\x05\x03"), Some((5, 3)));
        assert_eq!(found(b"\x08_S5_\x12\x04\x01\x0a\x05"), Some((5, 0)));
    }

    #[test]
    fn what_is_no_such_package_is_passed_over() {
        // A reference to the name, a method, no elements, an element that is computed, a type that does not
        // exist.
        for bytes in [
            &b"\x70_S5_\x12\x06\x04\x00\x00\x00\x00"[..],
            b"\x14\x0c_S5_\x00\xa4\x12\x05\x02\x00\x00",
            b"\x08_S5_\x12\x02\x00",
            b"\x08_S5_\x12\x0a\x02SLPA\x0a\x05",
            b"\x08_S5_\x12\x06\x02\x0a\x08\x0a\x05",
            b"\x08_S5_\x0a\x05",
        ] {
            assert_eq!(found(bytes), None, "{bytes:?}");
            // The right one behind it is found all the same.
            assert_eq!(found(&[bytes, Q35].concat()), Some((0, 0)), "{bytes:?}");
        }
    }

    #[test]
    fn a_table_cut_off_anywhere_is_no_danger() {
        for end in 0..Q35.len() {
            assert_eq!(found(&Q35[..end]), None, "cut at {end}");
        }
    }

    /// Bytes drawn from a fixed sequence, mostly such as make the parser go on.
    #[test]
    fn any_bytes_are_judged() {
        const LIKELY: [u8; 16] =
            [0x08, b'\\', 0x12, 0x00, 0x01, 0x0a, 0x0b, 0x0c, 0x04, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff, 0x06];
        let mut seed = 11u64;
        let mut draw = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> = Vec::from(&b"\x08_S5_\x12"[..]);
            for _ in 0..draw() % 16 {
                let byte = if draw() % 4 == 0 { draw() as u8 } else { LIKELY[draw() % LIKELY.len()] };
                bytes.push(byte);
            }
            if let Some(types) = SoftOff::in_table(&bytes) {
                assert!(types.a < 8 && types.b < 8, "{bytes:?}");
                read += 1;
            }
        }
        assert!(read > 100, "only {read} were packages: the draws do not reach the parser's end");
    }
}
