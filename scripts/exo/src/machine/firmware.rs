//! What a machine of QEMU's starts with.
//!
//! A kernel that is loaded by PVH wants little of the firmware: PCI set up, ACPI's tables in their place.
//! SeaBIOS does far more, and takes most of the time to the first line of a unikernel for it; qboot, which
//! QEMU brings for its `microvm`, does just that.

use crate::machine::Board;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The user's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// qboot where QEMU has it and the kernel is loaded by PVH, else SeaBIOS.
    Auto,
    /// SeaBIOS; on microvm, qboot all the same.
    Seabios,
    /// QEMU's small firmware, which starts sooner and can boot nothing but what -kernel names.
    Qboot,
}

/// The file of qboot, as QEMU's `-bios` finds it.
pub const QBOOT: &str = "qboot.rom";

impl Firmware {
    /// The value of `-bios` for a machine of this QEMU that loads a kernel by PVH, if it needs one.
    pub fn file(self, qemu: &str, board: Board) -> Option<&'static str> {
        let wanted = match self {
            // QEMU takes qboot by itself.
            _ if board == Board::Microvm => false,
            Firmware::Auto => brings_qboot(qemu),
            Firmware::Seabios => false,
            Firmware::Qboot => true,
        };
        wanted.then_some(QBOOT)
    }
}

/// Whether QEMU finds qboot in one of its folders of firmware. Each QEMU is asked once.
fn brings_qboot(qemu: &str) -> bool {
    static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    *known.entry(qemu.to_owned()).or_insert_with(|| {
        let asked =
            Command::new(qemu).args(["-L", "help"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
        asked.is_ok_and(|answer| has_qboot(&String::from_utf8_lossy(&answer.stdout)))
    })
}

/// Whether one of these folders, a line each, holds qboot.
fn has_qboot(folders: &str) -> bool {
    folders.lines().any(|folder| Path::new(folder.trim()).join(QBOOT).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let folders = format!("/nowhere\n{}\n", folder.path().display());
        assert!(!has_qboot(&folders) && !has_qboot(""));
        std::fs::write(folder.path().join(QBOOT), "x").unwrap();
        assert!(has_qboot(&folders));
    }

    #[test]
    fn the_choice_holds() {
        let none = "no-such-qemu";
        assert_eq!(Firmware::Auto.file(none, Board::Q35), None);
        assert_eq!(Firmware::Seabios.file(none, Board::Q35), None);
        assert_eq!(Firmware::Qboot.file(none, Board::Pc), Some(QBOOT));
        assert_eq!(Firmware::Qboot.file(none, Board::Microvm), None);
    }
}
