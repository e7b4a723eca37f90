//! Features of an image that reading has to understand, looked at before anything else is read.
//!
//! Numbers and names: the kernel's `fs/ext4/ext4.h`, and `mke2fs`, which takes the names after `-O`.
//! Features that only writing has to understand (`bigalloc`, `quota`, `verity`, ...) are no reason to
//! refuse an image.

use super::superblock::{Superblock, WIDE};
use crate::error::FsError;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// `COMPAT_HAS_JOURNAL`.
const HAS_JOURNAL: u32 = 0x4;
/// `INCOMPAT_FILETYPE`: names in directories come with what they stand for.
const FILETYPE: u32 = 0x2;
/// `INCOMPAT_RECOVER`: what the journal holds has not reached its place.
const NEEDS_RECOVERY: u32 = 0x4;
/// `INCOMPAT_JOURNAL_DEV`.
const JOURNAL_DEVICE: u32 = 0x8;
/// `INCOMPAT_MMP`.
const MULTIPLE_MOUNT: u32 = 0x100;

/// Features that are read: `filetype`, `extents`, `64bit`, `flex_bg`, `metadata_csum_seed`; `encrypt` as
/// long as nothing that is encrypted is asked for.
const READ: u32 = FILETYPE | 0x40 | WIDE | 0x200 | 0x2000 | 0x1_0000;

/// Names of the others.
const NAMES: [(u32, &str); 10] = [
    (0x1, "compression"),
    (NEEDS_RECOVERY, "needs_recovery"),
    (JOURNAL_DEVICE, "journal_dev"),
    (0x10, "meta_bg"),
    (MULTIPLE_MOUNT, "mmp"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x2_0000, "casefold"),
];

/// Refuses an image with features that are not read, by their names.
pub(super) fn check(superblock: &Superblock<'_>) -> Result<(), FsError> {
    let present = superblock.incompatible_features();
    let strange = present & !READ;
    let refuse = |names: &[&str], fix: &str| {
        Err(FsError::UnsupportedFeatures { names: names.join(", "), fix: fix.to_string() })
    };
    if present & FILETYPE == 0 && strange == 0 {
        let fix = "`tune2fs -O filetype IMAGE` and then `e2fsck -fy IMAGE` add it";
        return refuse(&["no filetype"], fix);
    }
    match strange {
        0 => Ok(()),
        NEEDS_RECOVERY if superblock.compatible_features() & HAS_JOURNAL == 0 => {
            refuse(&["needs_recovery, and no journal"], "`e2fsck -fy IMAGE` mends it")
        }
        NEEDS_RECOVERY => refuse(
            &["needs_recovery: its journal was not replayed"],
            "`e2fsck -fy IMAGE` replays it; so does Linux, which mounts and unmounts it",
        ),
        JOURNAL_DEVICE => refuse(&["journal_dev"], "it is the journal of another image: name that one"),
        MULTIPLE_MOUNT => refuse(&["mmp"], "`tune2fs -O ^mmp IMAGE` switches it off"),
        _ => {
            let named =
                NAMES.iter().filter(|(bit, _)| strange & bit != 0).map(|(_, name)| (*name).to_string());
            let unnamed = strange & !NAMES.iter().fold(0, |all, (bit, _)| all | bit);
            let unnamed = (unnamed != 0).then(|| format!("features {unnamed:#x} that have no name here"));
            let names: Vec<String> = named.chain(unnamed).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            refuse(
                &names,
                "copy its files to one that `mke2fs -t ext4 -d FOLDER IMAGE SIZE` makes without them",
            )
        }
    }
}
