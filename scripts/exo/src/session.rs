//! One run of a machine, from QEMU's start to its end.

use crate::children::{Group, Progress, interrupted, program_path};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::qmp::{BlockStats, Qmp};
use crate::serial::{Accounting, End, Line, Lines, parse};
use std::io::Read;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What came out of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How each environment ended, in that order.
    pub ends: Vec<(String, End)>,
    /// Counters of each environment, in the order of their ends.
    pub accounting: Vec<Accounting>,
    /// The kernel's error, if it had one.
    pub kernel_error: Option<String>,
    /// The kernel's final status.
    pub status: Option<u32>,
    /// QEMU's counters of the disk.
    pub block_stats: Option<BlockStats>,
    /// From QEMU's start to the kernel's last line.
    pub elapsed: Duration,
}

impl Outcome {
    /// Success, or the error that says best what went wrong.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = &self.kernel_error {
            return Err(Error::Kernel(error.clone()));
        }
        if let Some((name, end)) = self.ends.iter().find(|(_, end)| !end.is_success()) {
            return Err(Error::Environment { name: name.clone(), end: end.to_string() });
        }
        match self.status {
            Some(0) => Ok(()),
            Some(status) => Err(Error::Status(status)),
            None => Err(Error::Measurement("the kernel reported no status".into())),
        }
    }

    /// Counters of the environment `name`.
    pub fn accounting_of(&self, name: &str) -> Option<&Accounting> {
        self.accounting.iter().find(|entry| entry.accounting == name)
    }
}

/// Starts the machine and follows it to its end. `on_line` gets every line with the time since QEMU's start.
pub fn run(
    machine: &Machine,
    limit: Option<Duration>,
    on_line: &mut dyn FnMut(&str, Duration),
) -> Result<Outcome> {
    let scratch = tempfile::Builder::new()
        .prefix("exo-")
        .tempdir()
        .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let socket = scratch.path().join("qmp");
    let machine = Machine { qmp: Some(socket.clone()), ..machine.clone() };
    if program_path(&machine.qemu).is_none() {
        return Err(Error::NotInstalled { program: machine.qemu.clone(), package: "qemu-system-x86" });
    }
    let mut command = Command::new(&machine.qemu);
    command.args(machine.arguments());
    let start = Instant::now();
    let mut group = Group::spawn(&command, Progress::Piped).map_err(|source| Error::Io {
        action: "start",
        path: machine.qemu.clone().into(),
        source,
    })?;
    let serial = follow(group.child.stdout.take());
    let complaints = follow(group.child.stderr.take());

    let mut outcome = Outcome::default();
    let mut last = String::from("(none)");
    while outcome.status.is_none() {
        match next(&serial, &mut group, start, limit) {
            Next::Line(at, line) => {
                on_line(&line, at - start);
                note(&mut outcome, &line)?;
                outcome.elapsed = at - start;
                last = line;
            }
            Next::TooLate(limit) => return Err(Error::Timeout { seconds: limit.as_secs(), last }),
            Next::Ended => return Err(ended_early(&mut group, &complaints, last)),
        }
    }
    let mut qmp = Qmp::connect(&socket)?;
    outcome.block_stats = qmp.block_stats()?;
    qmp.quit()?;
    group.wait().map_err(|source| Error::Io { action: "wait for", path: machine.qemu.into(), source })?;
    Ok(outcome)
}

/// Takes from a line what the outcome keeps.
fn note(outcome: &mut Outcome, line: &str) -> Result<()> {
    match parse(line) {
        Line::Ended { name, end } => outcome.ends.push((name.to_owned(), end)),
        Line::Error(text) => {
            outcome.kernel_error.get_or_insert_with(|| text.to_owned());
        }
        Line::Finished(status) => outcome.status = Some(status),
        Line::Accounting(json) => {
            let entry = serde_json::from_str(json)
                .map_err(|error| Error::Measurement(format!("accounting line {json}: {error}")))?;
            outcome.accounting.push(entry);
        }
        Line::Guest { .. } | Line::Kernel(_) | Line::Other(_) => {}
    }
    Ok(())
}

/// QEMU's end without the kernel's last line, as an error.
fn ended_early(group: &mut Group, complaints: &Receiver<(Instant, String)>, last: String) -> Error {
    let status = group.wait().map_or_else(|error| error.to_string(), describe);
    if interrupted() {
        return Error::Interrupted;
    }
    let lines = std::iter::from_fn(|| complaints.recv_timeout(GLANCE).ok());
    let said = lines.map(|(_, line)| line).filter(|line| !line.contains("warning:")).last();
    Error::Qemu { status, said: said.unwrap_or(format!("its last line was: {last}")) }
}

/// An exit status in words.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

enum Next {
    Line(Instant, String),
    TooLate(Duration),
    Ended,
}

/// How often to look whether QEMU is still there. Its pipes alone do not tell: something it started may hold them.
const GLANCE: Duration = Duration::from_millis(200);

fn next(
    serial: &Receiver<(Instant, String)>,
    group: &mut Group,
    start: Instant,
    limit: Option<Duration>,
) -> Next {
    loop {
        let left = limit.map_or(GLANCE, |limit| limit.saturating_sub(start.elapsed()));
        match (serial.recv_timeout(left.min(GLANCE)), limit) {
            (Ok((at, line)), _) => return Next::Line(at, line),
            (Err(RecvTimeoutError::Disconnected), _) => return Next::Ended,
            (Err(RecvTimeoutError::Timeout), Some(limit)) if start.elapsed() >= limit => {
                return Next::TooLate(limit);
            }
            (Err(RecvTimeoutError::Timeout), _) if !matches!(group.poll(), Ok(None)) => {
                // What it said last may still be on its way.
                return serial.recv_timeout(GLANCE).map_or(Next::Ended, |(at, line)| Next::Line(at, line));
            }
            (Err(RecvTimeoutError::Timeout), _) => {}
        }
    }
}

/// Reads a pipe in a thread of its own and passes its lines on, each with the time it arrived. The channel ends with
/// the pipe.
fn follow(pipe: Option<impl Read + Send + 'static>) -> Receiver<(Instant, String)> {
    let (sender, receiver) = channel();
    let Some(mut pipe) = pipe else { return receiver };
    std::thread::spawn(move || {
        let mut lines = Lines::default();
        let mut buffer = [0; 65536];
        loop {
            let count = match pipe.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let now = Instant::now();
            for line in lines.push(&buffer[..count]) {
                if sender.send((now, line)).is_err() {
                    return;
                }
            }
        }
        if let Some(line) = lines.rest() {
            let _ = sender.send((Instant::now(), line));
        }
    });
    receiver
}
