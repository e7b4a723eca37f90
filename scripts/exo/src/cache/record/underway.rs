//! Calls between their entry and their exit: what they are about to do, and, once the result is known, what
//! they did.
//!
//! Where a call begins that has no offset of its own is asked from `/proc` at its entry. Two threads can be
//! in calls that move the same offset, or append to the same file; so such calls are taken one after the
//! other ([`Underway::turn`]). An `lseek` of another thread in between is not seen. A program in which that
//! can happen does not know itself which bytes it reads.

use super::calls::{Access, Append, At, End, Request};
use super::files::{FileIndex, Files};
use super::log::Log;
use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// A call that may do something to a file.
#[derive(Debug)]
pub enum Underway {
    /// It moves bytes.
    Transfer(Vec<Transfer>),
    /// It maps a file.
    Map {
        /// The file.
        file: FileIndex,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Whether it holds code.
        executable: bool,
    },
}

/// One file's side of it.
#[derive(Debug)]
pub struct Transfer {
    file: FileIndex,
    access: Access,
    start: Start,
    /// Nobody else may move the file's offset or end meanwhile.
    alone: bool,
}

/// First byte of a transfer.
#[derive(Debug)]
enum Start {
    At(u64),
    /// Where the file ended at the entry, unless the descriptor's offset says it better afterwards.
    End {
        size: u64,
        descriptor: Option<i32>,
    },
}

impl Underway {
    /// What a call is about to do that asks for this; `None` if it has nothing to do with files.
    pub fn begin(files: &mut Files, thread: i32, request: &Request) -> Option<Underway> {
        match request {
            Request::Transfer(end) => Some(Underway::Transfer(vec![transfer(files, thread, end)?])),
            Request::Copy(from, to) => {
                let mut sides: Vec<Transfer> =
                    [from, to].into_iter().filter_map(|end| transfer(files, thread, end)).collect();
                // A pipe or a socket may make it wait for somebody whose turn would never come.
                let both = sides.len() == 2;
                sides.iter_mut().for_each(|side| side.alone &= both);
                (!sides.is_empty()).then_some(Underway::Transfer(sides))
            }
            Request::Map { descriptor, offset, length, executable } => Some(Underway::Map {
                file: files.find(thread, *descriptor)?.0,
                offset: *offset,
                length: *length,
                executable: *executable,
            }),
            Request::Ring | Request::Asynchronous => None,
        }
    }

    /// Files of which no other call may move an offset or the end, until this one is over.
    pub fn turn(&self) -> impl Iterator<Item = FileIndex> + '_ {
        let sides = match self {
            Underway::Transfer(sides) => sides.as_slice(),
            Underway::Map { .. } => &[],
        };
        sides.iter().filter(|side| side.alone).map(|side| side.file)
    }

    /// Takes down what a call did that gave this result.
    pub fn end(self, log: &mut Log, thread: i32, result: i64) {
        match self {
            // Errors are the last 4,095 numbers; addresses are never among them.
            Underway::Map { file, offset, length, executable } => {
                if !(-4095..0).contains(&result) {
                    log.map(file, offset, length, executable);
                }
            }
            Underway::Transfer(sides) if result > 0 => {
                log.tally.transfers += 1;
                let bytes = result.cast_unsigned();
                for Transfer { file, access, start, .. } in sides {
                    log.transfer(file, access, start.known(thread, bytes), bytes);
                }
            }
            Underway::Transfer(_) => {}
        }
    }
}

impl Start {
    /// The first byte, now that the call is over.
    fn known(self, thread: i32, bytes: u64) -> u64 {
        match self {
            Start::At(byte) => byte,
            Start::End { size, descriptor } => descriptor
                .and_then(|descriptor| Opened::look(thread, descriptor))
                .and_then(|opened| opened.position.checked_sub(bytes))
                .unwrap_or(size),
        }
    }
}

/// One side, if it is a file.
fn transfer(files: &mut Files, thread: i32, end: &End) -> Option<Transfer> {
    let (file, size) = files.find(thread, end.descriptor)?;
    let writes_at_end = |opened: &Opened| match end.access {
        Access::Read | Access::Write(Append::Never) => false,
        Access::Write(Append::Always) => true,
        Access::Write(Append::AsOpened) => opened.appends,
    };
    let side = |start, alone| Some(Transfer { file, access: end.access, start, alone });
    let needs_look = end.at == At::Position || end.access != Access::Read;
    if needs_look {
        let opened = Opened::look(thread, end.descriptor)?;
        if writes_at_end(&opened) {
            // Only a call at the descriptor's own offset leaves that at the new end.
            let descriptor = (end.at == At::Position).then_some(end.descriptor);
            return side(Start::End { size, descriptor }, true);
        }
        if end.at == At::Position {
            return side(Start::At(opened.position), true);
        }
    }
    match end.at {
        At::Offset(byte) => side(Start::At(byte), false),
        At::Pointer(address) => {
            let word = ptrace::read(Pid::from_raw(thread), address as ptrace::AddressType).ok()?;
            side(Start::At(word.cast_unsigned()), false)
        }
        At::Position => None,
    }
}

/// What `/proc` says of a descriptor.
#[derive(Debug, PartialEq, Eq)]
struct Opened {
    position: u64,
    appends: bool,
}

impl Opened {
    fn look(thread: i32, descriptor: i32) -> Option<Opened> {
        Opened::parse(&std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{descriptor}")).ok()?)
    }

    /// Reads the lines `pos:` and `flags:` (proc(5)).
    fn parse(text: &str) -> Option<Opened> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let flags = i32::from_str_radix(value("flags:")?, 8).ok()?;
        Some(Opened { position: value("pos:")?.parse().ok()?, appends: flags & libc::O_APPEND != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_understood() {
        let text = "pos:\t4097\nflags:\t0102002\nmnt_id:\t29\nino:\t12\n";
        assert_eq!(Opened::parse(text), Some(Opened { position: 4097, appends: true }));
        let text = "pos:\t0\nflags:\t0100000\n";
        assert_eq!(Opened::parse(text), Some(Opened { position: 0, appends: false }));
        assert_eq!(Opened::parse("flags:\t0\n"), None);
    }
}
