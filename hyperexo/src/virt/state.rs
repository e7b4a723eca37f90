//! What a guest's processor looks like when it starts, whatever the backend: the constants and the state that
//! both backends need.
#![forbid(unsafe_code)]

/// `EFER`: `SYSCALL`.
pub const EFER_SYSCALL: u64 = 1 << 0;
/// `EFER`: pages may be not executable.
pub const EFER_NO_EXECUTE: u64 = 1 << 11;
/// `EFER`: long mode, enabled and active.
pub const EFER_LONG: u64 = 1 << 8 | 1 << 10;
/// What a guest may set in `EFER`; long mode it must keep.
pub const EFER_GUEST: u64 = EFER_SYSCALL | EFER_LONG | EFER_NO_EXECUTE;

/// `CR0` at the start: paging, write protection, numeric errors, extension type, monitoring, protection.
pub const CR0_START: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1;
/// `CR4` at the start: physical address extension, `FXSAVE`, SSE exceptions.
pub const CR4_START: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// `CR4`: `XSAVE` is used.
pub const CR4_OSXSAVE: u64 = 1 << 18;
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

/// Registers that a guest may read and write without an exit: SYSENTER, STAR, LSTAR, CSTAR, SFMASK, FS base,
/// GS base, kernel GS base. Each backend sees to it that every guest has its own.
pub const PASSED_MSRS: [u32; 10] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];
