//! What can go wrong while the data are made.

use crate::data::trace::TraceError;
use crate::workload::RunError;
use libos_fs::FsError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the data could not be made.
#[derive(Debug)]
pub enum DataError {
    /// A file of the host could not be used.
    Host {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A program of the host could not be run, or failed.
    Program {
        /// The command.
        command: String,
        /// What happened.
        reason: String,
    },
    /// A package of Debian's can't be had.
    Package {
        /// Which.
        package: String,
        /// What happened.
        reason: String,
    },
    /// Objects can't be linked.
    Objects {
        /// What is wrong with them.
        reason: String,
    },
    /// The sources of the locked dependencies have fewer bytes than wanted.
    TooFewSources {
        /// Bytes found.
        found: u64,
        /// Bytes wanted.
        wanted: u64,
    },
    /// No memory-reference trace could be made.
    Trace(TraceError),
    /// The volume on the image failed.
    Volume {
        /// Path in the volume; empty for the volume itself.
        path: String,
        /// What happened.
        error: FsError,
    },
    /// A task could not be written down.
    Task(serde_json::Error),
    /// A workload that was run for its statistics failed.
    Run(RunError),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataError::Host { path, error } => write!(f, "{}: {error}", path.display()),
            DataError::Program { command, reason } => write!(f, "`{command}`: {reason}"),
            DataError::Package { package, reason } => write!(f, "Debian's package {package}: {reason}"),
            DataError::Objects { reason } => write!(f, "objects to link: {reason}"),
            DataError::TooFewSources { found, wanted } => {
                write!(f, "the sources of the locked dependencies have {found} bytes, {wanted} are needed")
            }
            DataError::Trace(error) => write!(f, "memory-reference trace: {error}"),
            DataError::Volume { path, error } => write!(f, "image: {path}: {error}"),
            DataError::Task(error) => write!(f, "expected results: {error}"),
            DataError::Run(error) => write!(f, "earlier runs: {error}"),
        }
    }
}

impl std::error::Error for DataError {}

impl From<TraceError> for DataError {
    fn from(error: TraceError) -> DataError {
        DataError::Trace(error)
    }
}

impl From<RunError> for DataError {
    fn from(error: RunError) -> DataError {
        DataError::Run(error)
    }
}

impl DataError {
    pub(crate) fn host(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DataError {
        let path = path.into();
        move |error| DataError::Host { path, error }
    }
}
