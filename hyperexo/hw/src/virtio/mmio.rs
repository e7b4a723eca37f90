//! virtio devices whose registers are in memory (virtio 1.1 §4.2): where they are. Machines without PCI, such
//! as QEMU's `microvm` and Firecracker, say so on the command line, in the words that Linux reads, or in the
//! ACPI tables.
#![forbid(unsafe_code)]

/// A place where there may be a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Physical address of its registers.
    pub address: u64,
    /// Their length.
    pub bytes: u64,
    /// Its interrupt line.
    pub line: u32,
}

/// Key of the words on the command line.
const KEY: &str = "virtio_mmio.device=";
/// Name of the devices in the ACPI tables (`_HID`).
const HARDWARE_ID: &[u8] = b"LNRO0005\0";
/// Bytes behind the name in which the description of the resources must begin; QEMU has 29, Firecracker
/// fewer.
const NEAR: usize = 96;
/// Small-window resource: Memory32Fixed (ACPI 6.5 §6.4.3.4), 9 bytes: rights, address, length.
const MEMORY: [u8; 3] = [0x86, 9, 0];
/// Extended interrupt (ACPI 6.5 §6.4.3.6) with one line: flags, count, line.
pub(crate) const INTERRUPT: [u8; 3] = [0x89, 6, 0];

/// Windows named on a command line: `virtio_mmio.device=SIZE@ADDRESS:LINE`. Words that make no sense are left
/// out.
pub fn on_command_line(line: &str) -> impl Iterator<Item = Window> + '_ {
    line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(KEY)).filter_map(parse)
}

/// Whether a word of a command line names a window.
pub fn is_window(word: &str) -> bool {
    word.starts_with(KEY)
}

fn parse(text: &str) -> Option<Window> {
    let (bytes, place) = text.split_once('@')?;
    let (address, line) = place.split_once(':')?;
    // A further part is the number that Linux gives the device.
    let line = line.split(':').next()?;
    let bytes = match bytes.strip_suffix(['K', 'k']) {
        Some(kibibytes) => number(kibibytes)?.checked_mul(1024)?,
        None => number(bytes)?,
    };
    Some(Window { address: number(address)?, bytes, line: u32::try_from(number(line)?).ok()? })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Windows described by the bytes of an ACPI table: each is a device of that name, followed by its resources.
/// This reads what is written down, and does not interpret the language in which a table could compute it.
pub fn in_table(table: &[u8]) -> impl Iterator<Item = Window> + '_ {
    let names = table.windows(HARDWARE_ID.len()).enumerate().filter(|(_, bytes)| *bytes == HARDWARE_ID);
    names.filter_map(|(at, _)| {
        let rest = &table[at + HARDWARE_ID.len()..];
        let memory = behind(rest, MEMORY)?;
        let interrupt = behind(rest, INTERRUPT)?;
        Some(Window {
            address: word(memory, 1)?.into(),
            bytes: word(memory, 5)?.into(),
            line: word(interrupt, 2)?,
        })
    })
}

/// What follows the first few bytes of a resource.
pub(crate) fn behind(bytes: &[u8], start: [u8; 3]) -> Option<&[u8]> {
    let at = bytes.windows(start.len()).take(NEAR).position(|window| window == start)?;
    bytes.get(at + start.len()..)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn words_name_windows() {
        let line = "a=1 virtio_mmio.device=512@0xfeb00e00:12 x virtio_mmio.device=4K@0xd0000000:5:0";
        let found: Vec<Window> = on_command_line(line).collect();
        assert_eq!(
            found,
            [
                Window { address: 0xfeb0_0e00, bytes: 512, line: 12 },
                Window { address: 0xd000_0000, bytes: 4096, line: 5 }
            ]
        );
    }

    #[test]
    fn words_that_make_no_sense_are_left_out() {
        for word in
            ["512", "512@", "512@1", "x@1:2", "512@0xzz:1", "512@1:99999999999", "999999999999999999K@1:2"]
        {
            let line = std::format!("{KEY}{word}");
            assert_eq!(on_command_line(&line).count(), 0, "{word}");
        }
    }

    /// A device as QEMU describes it: name, `_UID`, `_CRS` with both resources.
    fn device(address: u32, line: u32) -> Vec<u8> {
        let mut bytes = b"\x08_HID\x0dLNRO0005\0\x08_UID\x00\x08_CCA\x01\x08_CRS\x11\x1a\x0a\x17".to_vec();
        bytes.extend([0x86, 9, 0, 1]);
        bytes.extend(address.to_le_bytes());
        bytes.extend(512u32.to_le_bytes());
        bytes.extend([0x89, 6, 0, 1, 1]);
        bytes.extend(line.to_le_bytes());
        bytes.extend([0x79, 0]);
        bytes
    }

    #[test]
    fn tables_describe_windows() {
        let table = [device(0xfeb0_0000, 24), device(0xfeb0_0200, 25)].concat();
        let found: Vec<Window> = in_table(&table).collect();
        assert_eq!(found.iter().map(|window| window.address).collect::<Vec<_>>(), [0xfeb0_0000, 0xfeb0_0200]);
        assert_eq!(found[1], Window { address: 0xfeb0_0200, bytes: 512, line: 25 });
    }

    #[test]
    fn a_table_cut_off_anywhere_is_no_danger() {
        let table = device(0xfeb0_0000, 24);
        for end in 0..table.len() - 2 {
            assert_eq!(in_table(&table[..end]).count(), 0, "cut at {end}");
        }
    }
}
