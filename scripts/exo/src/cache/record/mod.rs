//! `exo cache record`: which blocks of files a program of this host reads and writes, by itself and by all
//! it starts.
//!
//! | module | what |
//! |---|---|
//! | [`blocks`] | a set of block numbers |
//! | [`files`] | files: which are the same, what was done to them |
//! | [`calls`] | which system calls are looked at, and what they ask for |
//! | [`filter`] | the program with which the kernel picks them |
//! | [`log`] | references as they come in, and the file they end up in |
//! | [`underway`] | calls between their entry and their exit |
//! | [`stopped`] | threads that job control has stopped |
//! | [`interrupt`] | signals to this tool |
//! | [`launch`] | how the command begins |
//! | [`tracer`] | the loop over all stops |
//! | [`report`] | what is said at the end |
//!
//! The program runs under `ptrace`, unchanged. Its descriptors are not followed: at the entry of a call
//! `/proc` says which file one is and where its offset stands. Blocks are those that the bytes touch which
//! were really moved, whether the system's own cache had them or not. What is mapped into memory shows no
//! calls; it is counted, and told.

mod blocks;
mod calls;
mod files;
mod filter;
mod interrupt;
mod launch;
mod log;
mod report;
mod stopped;
mod tracer;
mod underway;

pub use launch::{CommandArgs, become_command};

use crate::error::{Error, Result};
use crate::units::shell_quote;
use interrupt::Running;
use log::Log;
use rustix::process::WaitStatus;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;
use tracer::Tracer;

/// Arguments of `exo cache record`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command's output and exit status pass through; killed by signal N, it counts as 128 + N.
Programs that get more rights when they are run (sudo) get none here, and debuggers can't be recorded.

Examples:
  exo cache record -- tar cf /tmp/src.tar src
  exo cache record --output sql.refs -- sqlite3 my.db 'select count(*) from orders'
  exo cache simulate sql.refs"
)]
pub struct RecordArgs {
    /// The record, for `exo cache simulate`
    #[arg(long, value_name = "FILE", default_value = "refs")]
    output: PathBuf,
    /// Looks at every system call, as on a system without seccomp filters: slow
    #[arg(long)]
    every_call: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The verb. Ends the process with the command's status, but for errors of its own.
///
/// # Errors
///
/// If the command can't be traced, or the record not be written.
pub fn record(args: &RecordArgs) -> Result<()> {
    let mut log = Log::create(&args.output)?;
    let begin = Instant::now();
    let command = launch::start(&args.command, args.every_call)?;
    let running = Running::begin(command)?;
    let ended = Tracer::new(command, &mut log, &running).run()?;
    let status = exit_status(ended.status)?;
    if ended.begun {
        let words: Vec<String> =
            args.command.iter().map(|word| shell_quote(&word.to_string_lossy())).collect();
        let (files, tally) = log.finish(&words.join(" "))?;
        report::say(&report::report(&args.output, &files, &tally, ended.filtered, begin.elapsed()));
    }
    // A command that could not be run has said so itself (`become_command`).
    std::process::exit(status)
}

/// The status of a shell for a command that ended so.
fn exit_status(status: Option<WaitStatus>) -> Result<i32> {
    let lost = || Error::Measurement("the command's end was not seen".into());
    let status = status.ok_or_else(lost)?;
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(killed).ok_or_else(lost)
}
