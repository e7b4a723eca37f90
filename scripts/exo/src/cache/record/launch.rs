//! How the command begins: this tool starts itself once more, and that process becomes the command.
//!
//! ```text
//! exo cache record                    exo cache record-command (hidden)
//!   starts ────────────────────────►  SIGSTOP to itself
//!   PTRACE_SEIZE, SIGCONT ─────────►  installs the filter
//!   knows whether there is one ◄────  SIGUSR1 (yes) or SIGUSR2 (no) to itself
//!   records from here ◄─────────────  execve: the command
//! ```
//!
//! So the filter is the command's and not this tool's, and no code runs between a fork and an exec.

use super::filter::program;
use crate::error::{Error, Result};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, waitpid};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Name of the hidden verb.
pub const VERB: &str = "record-command";
/// Says that the filter is installed.
pub const FILTERED: Signal = Signal::SIGUSR1;
/// Says that the system has none.
pub const UNFILTERED: Signal = Signal::SIGUSR2;

/// Arguments of the hidden verb.
#[derive(Debug, clap::Args)]
pub struct CommandArgs {
    /// Installs no filter
    #[arg(long)]
    every_call: bool,
    /// What to become
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// The hidden verb: becomes the command.
///
/// # Errors
///
/// If it can't be run.
pub fn become_command(args: &CommandArgs) -> Result<()> {
    let tell = |signal| raise(signal).map_err(failed("starting the command"));
    tell(Signal::SIGSTOP)?;
    let filtered = !args.every_call && seccompiler::apply_filter(&program()).is_ok();
    tell(if filtered { FILTERED } else { UNFILTERED })?;
    // There is one: the parser asks for it.
    let [program, arguments @ ..] = args.command.as_slice() else { return Ok(()) };
    let source = Command::new(program).args(arguments).exec();
    Err(Error::CannotRun { command: program.to_string_lossy().into_owned(), source })
}

/// Starts the command, traced from its first instruction on.
///
/// # Errors
///
/// If the system forbids it.
pub fn start(command: &[OsString], every_call: bool) -> Result<Pid> {
    let mut own = Command::new("/proc/self/exe");
    own.args(["cache", VERB]).args(every_call.then_some("--every-call")).arg("--").args(command);
    let child = own.spawn().map_err(|source| Error::Tracing { what: "starting exo again".into(), source })?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let waited = waitpid(Some(rustix::process::Pid::from_child(&child)), WaitOptions::UNTRACED);
    let stopped =
        waited.map_err(|error| Error::Tracing { what: "waiting for it".into(), source: error.into() })?;
    if !stopped.is_some_and(|(_, status)| status.stopped()) {
        return Err(Error::Measurement("exo ended before it became the command".into()));
    }
    let options = Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_EXITKILL;
    let seized = ptrace::seize(pid, options);
    if let Err(error) = seized {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(Some(rustix::process::Pid::from_child(&child)), WaitOptions::empty());
        return Err(Error::NoPtrace(error.into()));
    }
    kill(pid, Signal::SIGCONT).map_err(failed("starting the command"))?;
    Ok(pid)
}

fn failed(what: &'static str) -> impl Fn(nix::Error) -> Error {
    move |error| Error::Tracing { what: what.into(), source: error.into() }
}
