//! What is in the file: commands as Redis's append-only file has them, and between them lines that Redis
//! skips.
//!
//! ```text
//!  #KV:1\r\n                               the file is one of sealed groups
//!  *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n       commands of the first group
//!  *3\r\n$3\r\nSET\r\n…
//!  #TS:1796000000\r\n                      the time, where it is another second than before
//!  #GROUP:64 8d1f02ab\r\n                  its seal: its bytes, and their CRC-32
//!  *3\r\n…
//! ```
//!
//! A line that begins with `#` is an annotation, which Redis 7 and `redis-check-aof` read over. A group is
//! what one commit made durable, or a part of it of about a megabyte; a transaction never lies in two.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The first line of a file of sealed groups.
pub const HEAD: &[u8] = b"#KV:1\r\n";
/// How a seal begins.
const SEAL: &[u8] = b"#GROUP:";
/// Most bytes of an annotation, line end included.
const MOST_ANNOTATION: usize = 1024;
/// Most arguments of a command, as in Redis.
const MOST_ARGUMENTS: usize = 1024 * 1024;
/// Most bytes of an argument, as in Redis.
const MOST_BYTES: usize = 512 * 1024 * 1024;

/// The seal of these commands.
pub fn seal(commands: &[u8]) -> String {
    format!("#GROUP:{} {:08x}\r\n", commands.len(), crc32fast::hash(commands))
}

/// An annotation with a time, in seconds since 1970: as Redis writes it if `aof-timestamp-enabled` is set.
pub fn time(seconds: u64) -> String {
    format!("#TS:{seconds}\r\n")
}

/// Reads an annotation with a time; `None` if it is another one.
pub fn parse_time(line: &[u8]) -> Option<u64> {
    core::str::from_utf8(line.strip_prefix(b"#TS:")?.trim_ascii_end()).ok()?.parse().ok()
}

/// What a seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Bytes of the group, without the seal.
    pub bytes: u64,
    /// Their CRC-32.
    pub checksum: u32,
}

impl Seal {
    /// Reads an annotation; `None` if it is another one.
    pub fn parse(line: &[u8]) -> Option<Seal> {
        let text = core::str::from_utf8(line.strip_prefix(SEAL)?.strip_suffix(b"\r\n")?).ok()?;
        let (bytes, checksum) = text.split_once(' ')?;
        let bytes = bytes.parse().ok()?;
        Some(Seal { bytes, checksum: u32::from_str_radix(checksum, 16).ok()? })
    }
}

/// What stands at the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A command of so many arguments; where each lies.
    Command(Vec<(usize, usize)>),
    /// A line that begins with `#`.
    Annotation,
}

/// Why nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The bytes end before it does.
    Short,
    /// This is wrong, so many bytes from the start.
    Malformed(usize, &'static str),
}

/// Reads what stands at the start, and how many bytes it has.
///
/// # Errors
///
/// [`Stop`].
pub fn item(bytes: &[u8]) -> Result<(Item, usize), Stop> {
    match bytes.first() {
        None => Err(Stop::Short),
        Some(b'#') => annotation(bytes),
        Some(b'*') => command(bytes),
        Some(_) => Err(Stop::Malformed(0, "neither a command nor an annotation begins here")),
    }
}

fn annotation(bytes: &[u8]) -> Result<(Item, usize), Stop> {
    let within = &bytes[..bytes.len().min(MOST_ANNOTATION)];
    match within.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok((Item::Annotation, end + 1)),
        None if within.len() == MOST_ANNOTATION => Err(Stop::Malformed(0, "an annotation without end")),
        None => Err(Stop::Short),
    }
}

fn command(bytes: &[u8]) -> Result<(Item, usize), Stop> {
    let (count, mut at) = number(bytes, 0, b'*', MOST_ARGUMENTS)?;
    if count == 0 {
        return Err(Stop::Malformed(0, "a command without arguments"));
    }
    let mut arguments = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let (length, start) = number(bytes, at, b'$', MOST_BYTES)?;
        let end = start + length;
        match bytes.get(end..end + 2) {
            None => return Err(Stop::Short),
            Some(b"\r\n") => {}
            Some(_) => return Err(Stop::Malformed(end, "an argument does not end where it should")),
        }
        arguments.push((start, end));
        at = end + 2;
    }
    Ok((Item::Command(arguments), at))
}

/// A sign, a number, and the end of the line. Returns the number and where the next line begins.
fn number(bytes: &[u8], at: usize, sign: u8, most: usize) -> Result<(usize, usize), Stop> {
    match bytes.get(at) {
        None => return Err(Stop::Short),
        Some(byte) if *byte != sign => {
            return Err(Stop::Malformed(at, "the sign of a command or an argument is missing"));
        }
        Some(_) => {}
    }
    let mut value = 0_usize;
    let mut digits = 0;
    loop {
        let place = at + 1 + digits;
        match bytes.get(place) {
            None => return Err(Stop::Short),
            Some(digit @ b'0'..=b'9') if digits < 10 => value = value * 10 + usize::from(digit - b'0'),
            Some(b'\r') if digits > 0 => break,
            Some(_) => return Err(Stop::Malformed(place, "a length is no number")),
        }
        digits += 1;
    }
    let end = at + 1 + digits;
    match bytes.get(end + 1) {
        None => Err(Stop::Short),
        Some(b'\n') if value <= most => Ok((value, end + 2)),
        Some(b'\n') => Err(Stop::Malformed(at, "a length beyond what a command can have")),
        Some(_) => Err(Stop::Malformed(end, "a line does not end as it should")),
    }
}

/// Whether a sealed group lies somewhere in these bytes: one whose seal is right. Its seal's place.
pub fn find_sealed(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = bytes.get(from..)?.windows(SEAL.len()).position(|window| window == SEAL) {
        let at = from + found;
        if let Ok((Item::Annotation, length)) = annotation(&bytes[at..])
            && let Some(seal) = Seal::parse(&bytes[at..at + length])
            && let Some(start) = usize::try_from(seal.bytes).ok().and_then(|bytes| at.checked_sub(bytes))
            && seal.bytes > 0
            && crc32fast::hash(&bytes[start..at]) == seal.checksum
        {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::write_command;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        write_command(&mut bytes, [&b"SET"[..], b"k\r\n", b"", &[0xff; 300]].into_iter());
        let (item, length) = item(&bytes).unwrap();
        let Item::Command(arguments) = item else { panic!("no command") };
        let read: Vec<&[u8]> = arguments.iter().map(|(start, end)| &bytes[*start..*end]).collect();
        assert_eq!(read, [&b"SET"[..], b"k\r\n", b"", &[0xff; 300]]);
        assert_eq!(length, bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(super::item(&bytes[..cut]), Err(Stop::Short), "{cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_found_where_it_is() {
        for (text, at) in [
            (&b"+OK\r\n"[..], 0),
            (b"*0\r\n", 0),
            (b"*1\r\n+3\r\nGET\r\n", 4),
            (b"*1\r\n$x\r\nGET\r\n", 5),
            (b"*1\r\n$\r\nGET\r\n", 5),
            (b"*1\r\n$3\r\nGETS\r\n", 11),
            (b"*1\r\n$99999999999\r\n", 15),
            (b"*1\r\n$999999999\r\n", 4),
            (b"*1\rx", 2),
        ] {
            let stop = item(text).unwrap_err();
            assert!(matches!(stop, Stop::Malformed(place, _) if place == at), "{text:?}: {stop:?}");
        }
        assert!(matches!(item(&[b'#'; 2000]), Err(Stop::Malformed(0, _))));
    }

    #[test]
    fn a_seal_tells_whether_the_group_is_whole() {
        let mut bytes = Vec::new();
        write_command(&mut bytes, [&b"DEL"[..], b"k"].into_iter());
        let text = seal(&bytes);
        let parsed = Seal::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed, Seal { bytes: bytes.len() as u64, checksum: crc32fast::hash(&bytes) });
        let at = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        assert_eq!(find_sealed(&bytes), Some(at));
        bytes[5] ^= 1;
        assert_eq!(find_sealed(&bytes), None);
        assert_eq!(Seal::parse(b"#TS:12\r\n"), None);
    }
}
