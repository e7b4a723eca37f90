//! What a guest's processor looks like when it starts, and the one table of who keeps each part of it apart
//! from guest to guest. Both backends make their masks and permission maps from it.
//!
//! Whatever the table does not name, no guest has: a bit or a register that a later processor adds is refused
//! until somebody says here who keeps it. What is refused is also hidden by [`crate::virt::cpuid`].
#![forbid(unsafe_code)]

/// `EFER`: `SYSCALL`.
pub const EFER_SYSCALL: u64 = 1 << 0;
/// `EFER`: pages may be not executable.
pub const EFER_NO_EXECUTE: u64 = 1 << 11;
/// `EFER`: long mode, enabled and active.
pub const EFER_LONG: u64 = 1 << 8 | 1 << 10;

/// `CR0` at the start: paging, write protection, numeric errors, extension type, monitoring, protection.
pub const CR0_START: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1;
/// `CR4` at the start: physical address extension, `FXSAVE`, SSE exceptions.
pub const CR4_START: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// `CR4`: machine checks are exceptions. Without it, a machine check stops the processor and does not come to
/// the kernel.
pub const CR4_MACHINE_CHECK: u64 = 1 << 6;
/// `CR4`: `XSAVE` is used.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// `CR4`: user pages have protection keys.
pub const CR4_PROTECTION_KEYS: u64 = 1 << 22;
/// `RFLAGS`: the bit that is always 1.
pub const RFLAGS_RESERVED: u64 = 1 << 1;
/// `RFLAGS`: interrupts are taken.
pub const RFLAGS_INTERRUPT: u64 = 1 << 9;
/// The page attribute table after reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// `DR7` after reset.
pub const DR7_RESET: u64 = 0x400;
/// Selector of the code segment at the start.
pub const CODE_SELECTOR: u16 = 0x08;
/// Selector of the data segments at the start.
pub const DATA_SELECTOR: u16 = 0x10;

/// Who keeps a part of the processor's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Every entry and exit exchanges it (VMCB, VMCS): each guest has its own.
    Entry,
    /// It is exchanged when another environment gets the core: each guest has its own.
    Core,
    /// The kernel. A guest may write it and reads what it wrote, without any effect.
    Kernel,
    /// Nobody: a guest can't change it, and where it can read it, all read the same.
    Refused,
}

use Keeper::{Core, Entry, Kernel, Refused};

/// A backend, as a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// AMD's.
    Svm,
    /// Intel's.
    Vmx,
}

/// Bits of one register.
#[derive(Clone, Copy, Debug)]
pub struct Bits {
    /// Names, as the manuals have them.
    pub names: &'static str,
    /// The bits.
    pub mask: u64,
    /// Who keeps them on SVM.
    pub svm: Keeper,
    /// Who keeps them on VMX.
    pub vmx: Keeper,
}

const fn bits(names: &'static str, mask: u64, svm: Keeper, vmx: Keeper) -> Bits {
    Bits { names, mask, svm, vmx }
}

/// `CR0`. VMX wants numeric errors set. There the bits of the cache would outlive the guest; SVM exchanges
/// them.
pub const CR0: &[Bits] = &[
    bits("PE MP EM TS ET", 0b1_1111, Entry, Entry),
    bits("NE", 1 << 5, Entry, Kernel),
    bits("WP AM", 1 << 16 | 1 << 18, Entry, Entry),
    bits("NW CD", 1 << 29 | 1 << 30, Entry, Kernel),
    bits("PG", 1 << 31, Entry, Entry),
];

/// `CR4`. On SVM it is the guest's own, and the kernel hears of no write. So `PKRU`, which `PKE` makes
/// usable, is exchanged there; most of the other bits that are refused AMD's processors do not have. A guest
/// that has one of them set at an exit is ended.
pub const CR4: &[Bits] = &[
    bits("VME PVI TSD DE PSE PAE", 0b11_1111, Entry, Entry),
    bits("MCE", CR4_MACHINE_CHECK, Entry, Kernel),
    bits("PGE PCE OSFXSR OSXMMEXCPT UMIP", 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11, Entry, Entry),
    bits("LA57", 1 << 12, Refused, Refused),
    bits("VMXE SMXE", 1 << 13 | 1 << 14, Refused, Refused),
    bits("FSGSBASE PCIDE OSXSAVE", 1 << 16 | 1 << 17 | CR4_OSXSAVE, Entry, Entry),
    bits("KL", 1 << 19, Refused, Refused),
    bits("SMEP SMAP", 1 << 20 | 1 << 21, Entry, Entry),
    bits("PKE", CR4_PROTECTION_KEYS, Core, Refused),
    bits("CET PKS UINTR", 1 << 23 | 1 << 24 | 1 << 25, Refused, Refused),
    bits("LASS LAM_SUP FRED", 1 << 27 | 1 << 28 | 1 << 32, Refused, Refused),
];

/// `EFER`. Every write exits, and long mode must be kept as it is. SVM wants `SVME` set, and hides it.
pub const EFER: &[Bits] = &[
    bits("SCE LME LMA NXE", EFER_SYSCALL | EFER_LONG | EFER_NO_EXECUTE, Entry, Entry),
    bits("SVME", 1 << 12, Refused, Refused),
    bits("LMSLE FFXSR TCE MCOMMIT INTWB UAIE AIBRSE", 0x3f_e000 & !(1 << 16 | 1 << 19), Refused, Refused),
];

/// `XCR0`: what each bit stands for moves when another environment gets the core, SSE at every exit. Every
/// write exits, but under QEMU's TCG, where [`super::xstate`] moves what a guest could turn on besides.
pub const XCR0: &[Bits] = &[
    bits("x87 AVX", 0b101, Core, Core),
    bits("SSE", 0b010, Entry, Entry),
    bits("AVX-512", 0b111 << 5, Core, Core),
    bits("MPX PT PKRU PASID CET HDC UINTR LBR HWP AMX APX LWP", 1 << 62 | 0xf_ff18, Refused, Refused),
];

/// `IA32_XSS` is 0 for all: state of supervisors is not for guests.
pub const XSS: &[Bits] = &[bits("PT PASID CET HDC UINTR LBR HWP", 0x1_fd00, Refused, Refused)];

/// Debug registers: 0 to 3, 6 and 7, a bit each. Every move to or from one exits. Those of the guest in the
/// control structure are as after reset.
pub const DEBUG: &[Bits] = &[bits("DR0 DR1 DR2 DR3 DR6 DR7", 0b1100_1111, Refused, Refused)];

/// Model-specific registers, `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub struct Msrs {
    /// Name, as the manuals have it.
    pub names: &'static str,
    /// Number of the first.
    pub first: u32,
    /// Number of the last.
    pub last: u32,
    /// Who keeps them on SVM.
    pub svm: Keeper,
    /// Who keeps them on VMX.
    pub vmx: Keeper,
}

const fn msrs(names: &'static str, first: u32, last: u32, svm: Keeper, vmx: Keeper) -> Msrs {
    Msrs { names, first, last, svm, vmx }
}

/// Model-specific registers that guests use, and those whose contents would tell of others. A guest reads and
/// writes those of [`Keeper::Entry`] and [`Keeper::Core`] without an exit; all others exit.
///
/// `TSC_AUX` can be read by `RDTSCP` and `RDPID` as well, which do not exit: the kernel keeps it 0.
pub const MSRS: &[Msrs] = &[
    msrs("APIC_BASE", 0x1b, 0x1b, Refused, Refused),
    msrs("TSC_ADJUST", 0x3b, 0x3b, Refused, Refused),
    msrs("SPEC_CTRL PRED_CMD", 0x48, 0x49, Refused, Refused),
    msrs("UMWAIT_CONTROL", 0xe1, 0xe1, Refused, Refused),
    msrs("FLUSH_CMD", 0x10b, 0x10b, Refused, Refused),
    msrs("SYSENTER_CS SYSENTER_ESP SYSENTER_EIP", 0x174, 0x176, Entry, Entry),
    msrs("XFD XFD_ERR", 0x1c4, 0x1c5, Refused, Refused),
    msrs("DEBUGCTL", 0x1d9, 0x1d9, Refused, Refused),
    msrs("PAT", 0x277, 0x277, Refused, Refused),
    msrs("U_CET S_CET PL0_SSP PL1_SSP PL2_SSP PL3_SSP INTERRUPT_SSP_TABLE", 0x6a0, 0x6a8, Refused, Refused),
    msrs("TSC_DEADLINE PKRS", 0x6e0, 0x6e1, Refused, Refused),
    msrs("BNDCFGS", 0xd90, 0xd90, Refused, Refused),
    msrs("PASID", 0xd93, 0xd93, Refused, Refused),
    msrs("XSS", 0xda0, 0xda0, Refused, Refused),
    msrs("STAR LSTAR CSTAR SFMASK", 0xc000_0081, 0xc000_0084, Entry, Core),
    msrs("FS_BASE GS_BASE", 0xc000_0100, 0xc000_0101, Entry, Entry),
    msrs("KERNEL_GS_BASE", 0xc000_0102, 0xc000_0102, Entry, Core),
    msrs("TSC_AUX", TSC_AUX, TSC_AUX, Refused, Refused),
    msrs("VIRT_SPEC_CTRL", 0xc001_011f, 0xc001_011f, Refused, Refused),
];

/// `TSC_AUX`.
pub const TSC_AUX: u32 = 0xc000_0103;

const fn is(a: Keeper, b: Keeper) -> bool {
    a as u8 == b as u8
}

/// The bits of a register that one keeper has.
pub const fn kept(register: &[Bits], column: Column, keeper: Keeper) -> u64 {
    let (mut mask, mut row) = (0, 0);
    while row < register.len() {
        let whose = match column {
            Column::Svm => register[row].svm,
            Column::Vmx => register[row].vmx,
        };
        if is(whose, keeper) {
            mask |= register[row].mask;
        }
        row += 1;
    }
    mask
}

/// The bits of a register that a guest may have set.
pub const fn allowed(register: &[Bits], column: Column) -> u64 {
    kept(register, column, Entry) | kept(register, column, Core) | kept(register, column, Kernel)
}

/// Registers that one keeper has.
pub fn msrs_kept(column: Column, keeper: Keeper) -> impl Iterator<Item = u32> {
    let whose = move |row: &&Msrs| match column {
        Column::Svm => row.svm == keeper,
        Column::Vmx => row.vmx == keeper,
    };
    MSRS.iter().filter(whose).flat_map(|row| row.first..=row.last)
}

/// Registers that a guest may read and write without an exit.
pub fn passed_msrs(column: Column) -> impl Iterator<Item = u32> {
    msrs_kept(column, Entry).chain(msrs_kept(column, Core))
}

/// What a guest may set in `EFER`; long mode it must keep.
pub const EFER_GUEST: u64 = allowed(EFER, Column::Svm);
const _: () = assert!(EFER_GUEST == allowed(EFER, Column::Vmx));

/// What a guest may set in XCR0, and so the parts of the extended state that it may use.
pub const XCR0_GUEST: u64 = allowed(XCR0, Column::Svm);
const _: () = assert!(XCR0_GUEST == allowed(XCR0, Column::Vmx) && kept(XSS, Column::Vmx, Refused) != 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virt::cpuid;

    const COLUMNS: [Column; 2] = [Column::Svm, Column::Vmx];

    /// All bits of a register, each of which must be in one row only.
    fn all(register: &[Bits]) -> u64 {
        register.iter().fold(0, |known, row| {
            assert_eq!(known & row.mask, 0, "{}: twice", row.names);
            assert_ne!(row.mask, 0, "{}", row.names);
            known | row.mask
        })
    }

    /// SDM vol. 3 §2.5, §2.2.1, §13.1; APM vol. 2 §3.1.
    #[test]
    fn every_bit_that_the_manuals_define_is_in_the_table() {
        assert_eq!(all(CR0), 0xe005_003f);
        assert_eq!(all(CR4), 0x1_1bff_7fff);
        assert_eq!(all(EFER), 0x36_fd01);
        assert_eq!(all(XCR0) & !(1 << 62), 0xf_ffff);
        assert_eq!(all(XSS), 1 << 8 | 1 << 10 | 0b11 << 11 | 0b111 << 13 | 1 << 16);
        assert_eq!(all(DEBUG), 0b1100_1111);
    }

    #[test]
    fn registers_are_in_the_table_once() {
        for pair in MSRS.windows(2) {
            assert!(pair[0].first <= pair[0].last && pair[0].last < pair[1].first, "{}", pair[1].names);
        }
        for column in COLUMNS {
            let passed: Vec<u32> = passed_msrs(column).collect();
            assert_eq!(passed.len(), 10, "{column:?}");
            assert!(!passed.contains(&TSC_AUX) && passed.contains(&0xc000_0102));
        }
    }

    #[test]
    fn a_new_guest_has_nothing_that_it_may_not_have() {
        for column in COLUMNS {
            assert_eq!(CR0_START & !allowed(CR0, column), 0);
            assert_eq!((CR4_START | CR4_MACHINE_CHECK) & !allowed(CR4, column), 0);
        }
        assert_eq!((EFER_LONG | EFER_NO_EXECUTE) & !EFER_GUEST, 0);
        assert_eq!(XCR0_GUEST, 0xe7);
    }

    /// Bits of CR4 and what tells of them in CPUID: leaf, register (0: `eax`), bit.
    #[test]
    fn what_is_refused_is_hidden() {
        let hidden = |leaf, register: usize, bit: u32| {
            let values = cpuid::filter(leaf, 0, [u32::MAX; 4], false);
            assert_eq!(values[register] >> bit & 1, 0, "leaf {leaf:#x}, register {register}, bit {bit}");
        };
        for (mask, leaf, register, bit) in [
            (1u64 << 12, 7, 2, 16),
            (1 << 13, 1, 2, 5),
            (1 << 14, 1, 2, 6),
            (1 << 19, 7, 2, 23),
            (1 << 22, 7, 2, 3),
            (1 << 23, 7, 2, 7),
            (1 << 23, 7, 3, 20),
            (1 << 25, 7, 3, 5),
        ] {
            assert_eq!(allowed(CR4, Column::Vmx) & mask, 0);
            hidden(leaf, register, bit);
        }
        assert_eq!(cpuid::filter(7, 1, [u32::MAX; 4], false), [0; 4], "LASS, LAM, FRED");
        assert_eq!(cpuid::filter(0xd, 1, [u32::MAX; 4], false), [0; 4], "XSAVES, XFD");
    }
}
