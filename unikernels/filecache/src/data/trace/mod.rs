//! A real memory-reference trace: what a program of this host fetches, loads and stores.
//!
//! The program is `sort`, sorting text. Two ways to watch it:
//!
//! * `step`: one instruction at a time under `ptrace`; each instruction is decoded, and its memory operands
//!   are computed from the registers;
//! * `lackey`: valgrind's tool of that name, where `ptrace` is forbidden and valgrind is installed.
//!
//! Address-space randomization is off and environment and arguments are fixed, so on one machine the trace
//! repeats.

mod lackey;
mod step;

use super::Progress;
use crate::din::Kind;
use std::fmt::{self, Write};
use std::io;
use std::path::{Path, PathBuf};

/// How a trace was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Single steps under `ptrace`.
    SingleStep,
    /// Valgrind's tool `lackey`.
    Lackey,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::SingleStep => "single steps under ptrace",
            Method::Lackey => "valgrind --tool=lackey",
        })
    }
}

/// Why there is no trace.
#[derive(Debug)]
pub enum TraceError {
    /// The program to trace is not on the search path.
    NoProgram(&'static str),
    /// An operation on the traced program failed.
    Failed {
        /// Which.
        operation: &'static str,
        /// What happened.
        error: io::Error,
    },
    /// The program ended, or behaved in a way that gives no trace.
    Unexpected {
        /// What it did.
        what: String,
    },
    /// Neither way works.
    NoMethod {
        /// What was wrong with single steps.
        single_step: Box<TraceError>,
        /// What was wrong with valgrind.
        lackey: Box<TraceError>,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceError::NoProgram(name) => write!(f, "there is no program `{name}` on the search path"),
            TraceError::Failed { operation, error } => write!(f, "{operation}: {error}"),
            TraceError::Unexpected { what } => f.write_str(what),
            TraceError::NoMethod { single_step, lackey } => write!(
                f,
                "no way to trace a program works here. ptrace: {single_step}. valgrind: {lackey}. \
                 Allow ptrace (in containers: --cap-add=SYS_PTRACE) or install valgrind"
            ),
        }
    }
}

impl std::error::Error for TraceError {}

/// The program that is traced.
const PROGRAM: &str = "sort";
/// Its input, in the directory in which it runs.
const INPUT: &str = "input.txt";
/// Bytes of its input: little enough that a trace of a few megabytes gets beyond reading it.
const INPUT_BYTES: usize = 48 << 10;
/// Fewer bytes than this from a whole run of the program are no trace of it.
const LEAST_BYTES: usize = 64 << 10;

/// A trace, and how it was made.
#[derive(Debug)]
pub struct Recorded {
    /// The trace, in the format of [`crate::din`].
    pub trace: String,
    /// How it was made.
    pub method: Method,
    /// Why it was not made by single steps.
    pub single_step_error: Option<TraceError>,
}

/// Makes a trace of `bytes` bytes, in whole lines, of the program sorting the start of `text`.
pub fn record(text: &str, bytes: usize, progress: &mut dyn FnMut(Progress)) -> Result<Recorded, TraceError> {
    let program = find_program(PROGRAM)?;
    let directory = WorkDirectory::new(text.as_bytes().get(..INPUT_BYTES).unwrap_or(text.as_bytes()))?;
    let single_step = match record_with(step::run, &program, &directory, bytes, progress) {
        Ok(trace) => return Ok(Recorded { trace, method: Method::SingleStep, single_step_error: None }),
        Err(error) => error,
    };
    match record_with(lackey::run, &program, &directory, bytes, progress) {
        Ok(trace) => Ok(Recorded { trace, method: Method::Lackey, single_step_error: Some(single_step) }),
        Err(lackey) => {
            Err(TraceError::NoMethod { single_step: Box::new(single_step), lackey: Box::new(lackey) })
        }
    }
}

/// Runs a program in a directory and adds its references to the trace, until the trace is full or the program
/// ends.
type Tracer = fn(&Path, &Path, &mut Trace<'_>) -> Result<(), TraceError>;

fn record_with(
    tracer: Tracer,
    program: &Path,
    directory: &WorkDirectory,
    bytes: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<String, TraceError> {
    let mut trace = Trace { text: String::with_capacity(bytes + 64), bytes, reported: 0, progress };
    while !trace.is_full() {
        let before = trace.text.len();
        tracer(program, &directory.0, &mut trace)?;
        if !trace.is_full() && trace.text.len() - before < LEAST_BYTES {
            return Err(TraceError::Unexpected { what: format!("`{PROGRAM}` ended too early") });
        }
    }
    Ok(trace.text)
}

/// A trace that grows.
struct Trace<'p> {
    text: String,
    bytes: usize,
    reported: usize,
    progress: &'p mut dyn FnMut(Progress),
}

/// Bytes between reports of progress.
const REPORT_BYTES: usize = 128 << 10;

impl Trace<'_> {
    fn is_full(&self) -> bool {
        self.text.len() >= self.bytes
    }

    fn add(&mut self, kind: Kind, address: u64) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{} {address:x}", kind as u8);
        if self.text.len() >= self.reported + REPORT_BYTES || self.is_full() {
            self.reported = self.text.len();
            let done = self.text.len().min(self.bytes) as u64;
            (self.progress)(Progress { stage: "tracing a program", done, total: self.bytes as u64 });
        }
    }
}

/// The arguments of the program, the same for both ways.
fn arguments() -> [&'static str; 2] {
    ["--parallel=1", INPUT]
}

/// The environment of the program: the same on every machine.
const ENVIRONMENT: [(&str, &str); 1] = [("LC_ALL", "C")];

fn find_program(name: &'static str) -> Result<PathBuf, TraceError> {
    let paths = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&paths)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or(TraceError::NoProgram(name))
}

/// A directory that is removed with its input when it is dropped.
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn new(input: &[u8]) -> Result<WorkDirectory, TraceError> {
        let failed = |error| TraceError::Failed { operation: "making a directory to work in", error };
        let path = std::env::temp_dir().join(format!("hyperexo-trace-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(failed)?;
        let directory = WorkDirectory(path);
        std::fs::write(directory.0.join(INPUT), input).map_err(failed)?;
        Ok(directory)
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // Nothing can be done about what can't be removed, and it is in a directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
