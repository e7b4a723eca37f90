//! Standard output and standard error.
//!
//! The macros of the standard library panic where nobody reads any more, as after `| head`. Those of the
//! same names in `main.rs` lead here instead: the first failure ends the work quietly, as SIGPIPE ends
//! other tools. SIGPIPE itself stays ignored, for it would also end the tool where a child closes its pipe,
//! and leave the other children behind.

use super::children;
use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Result, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell shows for a tool that SIGPIPE has ended: 128 and the signal's number.
pub const READER_GONE: u8 = 128 + 13;

/// Why nothing more can be written to standard output.
static FAILURE: OnceLock<Error> = OnceLock::new();
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// From now on standard output is for a file that the user has named `-`: what would else be printed there
/// goes to standard error.
pub fn claim() {
    CLAIMED.store(true, Ordering::SeqCst);
}

/// What `print!` and `println!` do.
pub fn print(text: Arguments<'_>) {
    if cfg!(test) {
        // The harness captures what goes this way.
        std::print!("{text}");
    } else if CLAIMED.load(Ordering::SeqCst) {
        complain(text);
    } else if FAILURE.get().is_none() {
        // A failure is kept, and is what the tool ends with.
        let _ = seen(std::io::stdout().lock().write_fmt(text));
    }
}

/// What `eprintln!` does. Where standard error fails, there is nobody to be told.
pub fn complain(text: Arguments<'_>) {
    if cfg!(test) {
        std::eprint!("{text}");
    } else {
        let _ = std::io::stderr().lock().write_fmt(text);
    }
}

/// Writes bytes of a file that the user has named `-`.
pub fn write(bytes: &[u8]) -> Result<usize> {
    seen(std::io::stdout().lock().write(bytes))
}

/// Writes what is still in the buffer of standard output.
pub fn flush() -> Result<()> {
    seen(std::io::stdout().lock().flush())
}

/// Writes what is left, and says whether all that was printed has been written.
pub fn finish() -> Result<()> {
    flush()?;
    FAILURE.get().map_or(Ok(()), |error| Err(copy(error)))
}

/// Whether nothing more can be written to standard output.
pub fn failed() -> bool {
    FAILURE.get().is_some()
}

/// Whether the reader of standard output has gone.
pub fn reader_is_gone() -> bool {
    FAILURE.get().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Keeps the first failure, and ends what runs: nobody would see its lines.
fn seen<T>(result: Result<T>) -> Result<T> {
    result.inspect_err(|error| {
        if error.kind() != ErrorKind::Interrupted && FAILURE.set(copy(error)).is_ok() {
            children::interrupt();
        }
    })
}

fn copy(error: &Error) -> Error {
    error.raw_os_error().map_or_else(|| Error::from(error.kind()), Error::from_raw_os_error)
}
