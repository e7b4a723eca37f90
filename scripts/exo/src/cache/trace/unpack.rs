//! Compressed files as streams of what is in them, checked.
//!
//! | compression | what may follow one another | what is checked |
//! |---|---|---|
//! | zstd (RFC 8878) | frames, also skippable | content checksum and size of each frame that states them |
//! | gzip (RFC 1952) | members; zeros after the last | CRC-32 and size of each member |
//! | xz (its format 1.2.1) | streams, zeros between them | the check of each block, the index, the footer |
//!
//! A stream ends only where the file does: what follows the end and is none of these is an error.
//!
//! zstd and xz may leave their checks out. Then damage can go unnoticed, and what is unpacked of a damaged
//! file need not be what another program makes of it; the user is told ([`Unchecked`]).

mod gzip;
mod zstd;

use super::fault::{Fault, Place, Read};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader};

/// Bytes that are unpacked at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Most memory that unpacking xz may take: `xz -9` asks for 64 MiB.
const XZ_MEMORY_KIB: u32 = 1 << 20;

/// How a compressed file begins.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";

/// What can be told by its first bytes, but is not read: how it begins, its name, and what unpacks it.
const OTHERS: [(&[u8], &str, &str); 5] = [
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"PK\x03\x04", "zip", "unzip"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
];

/// A compression that a file's name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) name: &'static str,
    suffix: &'static str,
    magic: &'static [u8],
}

const PROMISES: [Promise; 3] = [
    Promise { name: "zstd", suffix: ".zst", magic: ZSTD },
    Promise { name: "gzip", suffix: ".gz", magic: GZIP },
    Promise { name: "xz", suffix: ".xz", magic: XZ },
];

impl Promise {
    /// Whether a file with these first bytes is neither compressed nor text, or too short to tell. Text it
    /// may well be: browsers unpack on the way.
    pub(super) fn is_broken(self, start: &[u8], is_text: bool) -> bool {
        let cut = !start.is_empty() && start.len() < self.magic.len();
        cut || !is_text && !is_packed(start)
    }
}

/// Whether a file begins as one of a compression that is known by its first bytes does.
fn is_packed(start: &[u8]) -> bool {
    let others = || OTHERS.iter().any(|(magic, _, _)| start.starts_with(magic));
    [ZSTD, GZIP, XZ].iter().any(|magic| start.starts_with(magic)) || zstd::is_skippable(start) || others()
}

/// Whether there was something without a checksum, as far as it has been unpacked.
pub(super) type Unchecked = Cell<bool>;

/// The check of an xz file's first stream, of which 0 is none (section 2.1.1.2).
fn xz_check(start: &[u8]) -> u8 {
    start.get(XZ.len() + 1).map_or(0, |flags| flags & 0xf)
}

/// The stream without its compression, which its first bytes show: `start`, which are still to come.
pub(super) fn unpacked<'r>(
    start: &[u8],
    input: impl BufRead + 'r,
    unchecked: &'r Unchecked,
) -> Read<Box<dyn BufRead + 'r>> {
    let other = OTHERS.iter().find(|(magic, _, _)| start.starts_with(magic));
    if let Some((_, name, command)) = other {
        let fix = format!("convert it first, with `{command}`");
        return Err(Fault::new(Place::Byte(0), format!("is {name}, which exo does not read"), fix));
    }
    Ok(match start {
        _ if start.starts_with(ZSTD) || zstd::is_skippable(start) => {
            buffered(zstd::Frames::new(input, unchecked))
        }
        _ if start.starts_with(GZIP) => buffered(gzip::Members::new(input)),
        _ if start.starts_with(XZ) => {
            unchecked.set(xz_check(start) == 0);
            buffered(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB))
        }
        _ => Box::new(input),
    })
}

fn buffered<'r>(input: impl io::Read + 'r) -> Box<dyn BufRead + 'r> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, input))
}

/// The compression that a file's name promises, and the name without it.
pub(super) fn promised(name: &str) -> (Option<Promise>, &str) {
    let found = PROMISES.iter().find_map(|promise| Some((*promise, name.strip_suffix(promise.suffix)?)));
    found.map_or((None, name), |(promise, rest)| (Some(promise), rest))
}

/// An error of the data.
fn damaged(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
