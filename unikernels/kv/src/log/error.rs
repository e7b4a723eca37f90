//! Why a log can't be read or written.

use alloc::string::String;
use core::fmt;
use libos_fs::FsError;

/// Why a log can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The volume says so.
    Volume {
        /// The file.
        path: String,
        /// What it says.
        error: FsError,
    },
    /// Bytes in the middle are not what was written: groups that are whole follow.
    Damaged {
        /// The file.
        path: String,
        /// Offset in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
        /// End of what is whole before it.
        whole: u64,
    },
    /// A command in it fails.
    Command {
        /// The file.
        path: String,
        /// Offset in bytes.
        offset: u64,
        /// The command, and the error that it gives.
        what: String,
    },
    /// It begins with a snapshot in a format of Redis that is not read here.
    Snapshot {
        /// The file.
        path: String,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Volume { path, error } => write!(f, "{path}: {error}"),
            LogError::Damaged { path, offset, what, whole } => write!(
                f,
                "{path}: damaged at offset {offset}: {what}, and whole groups follow; fix: take the file of a \
                 backup, or give up all from there on: exo fs get IMAGE {path} FILE, truncate -s {whole} FILE, \
                 exo fs put IMAGE FILE --to {path}"
            ),
            LogError::Command { path, offset, what } => write!(
                f,
                "{path}: the command at offset {offset} fails: {what}; fix: take it out of the file, or use a \
                 version that knows it"
            ),
            LogError::Snapshot { path } => write!(
                f,
                "{path}: begins with a snapshot in Redis's RDB format, which is not read here; fix: in that \
                 Redis, CONFIG SET aof-use-rdb-preamble no, then BGREWRITEAOF, and take the new file"
            ),
        }
    }
}

impl core::error::Error for LogError {}
