//! How an entry of a nested page table looks, for each vendor.
#![forbid(unsafe_code)]

use hyperexo_abi::capability::Rights;
use hyperexo_abi::{FRAME_SHIFT, LARGE_FRAMES};

/// How entries look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFormat {
    /// AMD's: that of ordinary page tables. Nested accesses count as user accesses, so the user bit is always
    /// set.
    Npt,
    /// Intel's: three bits of rights, a memory type in each leaf. That is always write-back, whatever the
    /// guest's own tables say: past the caches, a guest could read what a frame held before the kernel
    /// cleared it.
    Ept,
    /// The same without executable large entries. On many of Intel's processors, a guest that changes the
    /// size of a page it executes from can raise a machine check, which stops the machine (CVE-2018-12207).
    EptSmallCode,
}

const NPT_PRESENT: u64 = 1 << 0;
const NPT_WRITE: u64 = 1 << 1;
const NPT_USER: u64 = 1 << 2;
const NPT_NO_EXECUTE: u64 = 1 << 63;
const EPT_READ: u64 = 1 << 0;
const EPT_WRITE: u64 = 1 << 1;
const EPT_EXECUTE: u64 = 1 << 2;
const EPT_WRITE_BACK: u64 = 6 << 3;
const EPT_IGNORE_PAT: u64 = 1 << 6;
/// In both formats: the entry is a leaf although tables could follow.
const LARGE: u64 = 1 << 7;

impl EntryFormat {
    /// An entry that leads to a table in this frame.
    pub(super) fn table(self, frame: u64) -> u64 {
        frame << FRAME_SHIFT
            | match self {
                EntryFormat::Npt => NPT_PRESENT | NPT_WRITE | NPT_USER,
                EntryFormat::Ept | EntryFormat::EptSmallCode => EPT_READ | EPT_WRITE | EPT_EXECUTE,
            }
    }

    /// An entry that binds this frame (`large`: and the 511 after it). Reading always goes along.
    pub(super) fn leaf(self, frame: u64, rights: Rights, large: bool) -> u64 {
        let bit = |right, mask: u64| if rights.contains(right) { mask } else { 0 };
        let rights = match self {
            EntryFormat::Npt => {
                let no_execute = NPT_NO_EXECUTE ^ bit(Rights::EXECUTE, NPT_NO_EXECUTE);
                NPT_PRESENT | NPT_USER | bit(Rights::WRITE, NPT_WRITE) | no_execute
            }
            EntryFormat::Ept | EntryFormat::EptSmallCode => {
                let execute = bit(Rights::EXECUTE, EPT_EXECUTE);
                EPT_READ | EPT_WRITE_BACK | EPT_IGNORE_PAT | bit(Rights::WRITE, EPT_WRITE) | execute
            }
        };
        frame << FRAME_SHIFT | rights | if large { LARGE } else { 0 }
    }

    /// Whether a run that starts here and has these rights can begin with a large entry.
    pub(super) fn starts_large(self, frame: u64, count: u64, rights: Rights) -> bool {
        let possible = self != EntryFormat::EptSmallCode || !rights.contains(Rights::EXECUTE);
        possible && frame.is_multiple_of(LARGE_FRAMES) && count >= LARGE_FRAMES
    }

    /// Whether the entry is there at all.
    pub(super) fn is_present(self, entry: u64) -> bool {
        // Present (AMD) and readable (Intel) are the same bit, and nothing is bound without the right to
        // read.
        entry & NPT_PRESENT != 0
    }

    /// Whether a present entry of the second-lowest level is a leaf.
    pub(super) fn is_large(self, entry: u64) -> bool {
        entry & LARGE != 0
    }

    /// Rights of a leaf.
    pub(super) fn rights(self, entry: u64) -> Rights {
        let (write, execute) = match self {
            EntryFormat::Npt => (entry & NPT_WRITE != 0, entry & NPT_NO_EXECUTE == 0),
            EntryFormat::Ept | EntryFormat::EptSmallCode => {
                (entry & EPT_WRITE != 0, entry & EPT_EXECUTE != 0)
            }
        };
        let mut rights = Rights::READ;
        if write {
            rights = rights.union(Rights::WRITE);
        }
        if execute {
            rights = rights.union(Rights::EXECUTE);
        }
        rights
    }

    /// Frame that a present entry names.
    pub(super) fn frame(self, entry: u64) -> u64 {
        entry >> FRAME_SHIFT & ((1 << 40) - 1)
    }
}
