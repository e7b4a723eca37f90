//! Which system calls are looked at, and what they ask for.

use nix::libc::{self, c_long, user_regs_struct};

/// A file that a call names, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The descriptor.
    pub descriptor: i32,
    /// Where the transfer begins.
    pub at: At,
    /// What is done to the file.
    pub access: Access,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Bytes come from it.
    Read,
    /// Bytes go into it; where, if it was opened to be appended to, is for `Append` to say.
    Write(Append),
}

/// Whether a write goes to the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// If the file was opened so (`O_APPEND`).
    AsOpened,
    /// The call says so (`RWF_APPEND`).
    Always,
    /// The call says that it does not (`RWF_NOAPPEND`).
    Never,
}

/// Where a transfer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At the descriptor's own offset.
    Position,
    /// At this byte.
    Offset(u64),
    /// At the byte whose number is in memory at this address.
    Pointer(u64),
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Bytes between a file and memory.
    Transfer(End),
    /// Bytes from one file (or pipe, or socket) to another.
    Copy(End, End),
    /// A file to be mapped.
    Map {
        /// The file.
        descriptor: i32,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Whether it holds code.
        executable: bool,
    },
    /// A ring to be made (`io_uring`), through which requests pass that no system call shows.
    Ring,
    /// A context for asynchronous requests (`io_submit`), which are not followed.
    Asynchronous,
}

/// Numbers of the calls that are looked at, the frequent ones first. `mmap` is not among them: of that,
/// only some are ([`MAP`]).
pub const LOOKED_AT: [c_long; 15] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_splice,
    libc::SYS_io_uring_setup,
    libc::SYS_io_setup,
];

/// Number of `mmap`: looked at if it maps a file.
pub const MAP: c_long = libc::SYS_mmap;

/// Flag of `pwritev2` that overrules `O_APPEND`; newer than the headers of some systems.
const RWF_NOAPPEND: i32 = 0x20;

/// What the call asks for whose registers these are, at its entry; `None` if it is not looked at.
pub fn request(registers: &user_regs_struct) -> Option<Request> {
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    let read = |at| Some(Request::Transfer(end(arguments[0], at, Access::Read)));
    let write = |at, append| Some(Request::Transfer(end(arguments[0], at, Access::Write(append))));
    let appends = Append::AsOpened;
    match registers.orig_rax.cast_signed() {
        libc::SYS_read | libc::SYS_readv => read(At::Position),
        libc::SYS_write | libc::SYS_writev => write(At::Position, appends),
        libc::SYS_pread64 | libc::SYS_preadv => read(At::Offset(arguments[3])),
        libc::SYS_pwrite64 | libc::SYS_pwritev => write(At::Offset(arguments[3]), appends),
        libc::SYS_preadv2 => read(offset_or_position(arguments[3])),
        libc::SYS_pwritev2 => write(offset_or_position(arguments[3]), append(arguments[5] as i32)),
        libc::SYS_sendfile => Some(Request::Copy(
            end(arguments[1], pointer(arguments[2]), Access::Read),
            end(arguments[0], At::Position, Access::Write(appends)),
        )),
        libc::SYS_copy_file_range | libc::SYS_splice => Some(Request::Copy(
            end(arguments[0], pointer(arguments[1]), Access::Read),
            end(arguments[2], pointer(arguments[3]), Access::Write(appends)),
        )),
        libc::SYS_mmap => map(arguments),
        libc::SYS_io_uring_setup => Some(Request::Ring),
        libc::SYS_io_setup => Some(Request::Asynchronous),
        _ => None,
    }
}

/// Descriptors are 32 bits wide: the kernel looks at no more of the register.
fn end(descriptor: u64, at: At, access: Access) -> End {
    End { descriptor: descriptor as i32, at, access }
}

/// `preadv2` and `pwritev2` take -1 for the descriptor's own offset.
fn offset_or_position(offset: u64) -> At {
    if offset == u64::MAX { At::Position } else { At::Offset(offset) }
}

fn pointer(address: u64) -> At {
    if address == 0 { At::Position } else { At::Pointer(address) }
}

fn append(flags: i32) -> Append {
    match flags {
        flags if flags & libc::RWF_APPEND != 0 => Append::Always,
        flags if flags & RWF_NOAPPEND != 0 => Append::Never,
        _ => Append::AsOpened,
    }
}

fn map([_, length, protection, flags, descriptor, offset]: [u64; 6]) -> Option<Request> {
    if flags as i32 & libc::MAP_ANONYMOUS != 0 {
        return None;
    }
    let executable = protection as i32 & libc::PROT_EXEC != 0;
    Some(Request::Map { descriptor: descriptor as i32, offset, length, executable })
}
