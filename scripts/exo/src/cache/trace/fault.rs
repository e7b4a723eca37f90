//! What can be wrong with a trace, and where.

use crate::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// Where in a file something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// A byte, from 0, after decompression.
    Byte(u64),
    /// Nowhere in particular.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number) => write!(f, ", line {number}"),
            Place::Byte(offset) => write!(f, ", byte {offset}"),
            Place::File => Ok(()),
        }
    }
}

/// What is wrong with a trace, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    place: Place,
    reason: String,
    fix: String,
}

/// Result of reading a part of a trace.
pub(super) type Read<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(super) fn new(place: Place, reason: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault { place, reason: reason.into(), fix: fix.into() }
    }

    /// For what the operating system or the decompressor refused.
    pub(super) fn unreadable(place: Place, error: &io::Error) -> Fault {
        Fault::new(place, format!("cannot be read: {error}"), UNREADABLE)
    }

    /// The error that names the file.
    pub(super) fn of(self, path: &Path) -> Error {
        Error::Trace {
            path: path.to_path_buf(),
            place: self.place.to_string(),
            reason: self.reason,
            fix: self.fix,
        }
    }
}

/// What to do about a file that can't be read. It need not be damaged: it may need more memory to unpack than
/// is offered.
const UNREADABLE: &str =
    "fetch or record the file again; if its compression's own program unpacks it, do that first";

/// The beginning of bytes, for a message.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    format!("{:?}", String::from_utf8_lossy(bytes).chars().take(MOST).collect::<String>())
}
