//! One run of a machine, from the emulator's start to its end.

pub mod qmp;
pub mod serial;

use crate::error::{Error, Result};
use crate::host::children::{self, EndBy, Group, Progress, describe, interrupted};
use crate::host::programs::program_path;
use crate::machine::accel::Accel;
use crate::machine::bochs::{self, Prepared};
use crate::machine::{Console, Machine};
use crate::session::qmp::{BlockStats, Qmp};
use crate::session::serial::{Accounting, End, Line, Lines, parse};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
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
    /// QEMU's counters of the disk; Bochs has none.
    pub block_stats: Option<BlockStats>,
    /// Instructions executed, firmware included, by QEMU's count; `None` without `-icount`.
    pub instructions: Option<u64>,
    /// From the emulator's start to the kernel's last line.
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

/// An emulator at work.
struct Running {
    group: Group,
    /// Lines of the machine, with the times of their arrival.
    serial: Receiver<(Instant, String)>,
    /// Whether the machine has said anything, be it less than a line.
    heard: Arc<AtomicBool>,
    control: Control,
}

/// What can be had from an emulator besides the machine's lines.
enum Control {
    /// QEMU: its standard error, and its control socket. The file of a virtio console is read for as long as
    /// `_wanted` lives.
    Qemu { complaints: Receiver<(Instant, String)>, socket: PathBuf, _wanted: Arc<()> },
    /// Bochs: its files, and its standard error. The serial line is read likewise.
    Bochs { prepared: Prepared, complaints: Receiver<(Instant, String)>, _wanted: Arc<()> },
}

/// Starts the machine and follows it to its end. `on_line` gets every line with the time since the emulator's
/// start.
pub fn run(
    machine: &Machine,
    limit: Option<Duration>,
    on_line: &mut dyn FnMut(&str, Duration),
) -> Result<Outcome> {
    // Named after the bundle, so that a process list tells the runs apart.
    let label = machine.label();
    let scratch = tempfile::Builder::new()
        .prefix(&format!("exo-{label}-"))
        .tempdir()
        .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let start;
    let mut running = match machine.accel {
        Accel::Bochs => {
            let prepared = bochs::prepare(machine, scratch.path())?;
            start = Instant::now();
            start_bochs(prepared)?
        }
        Accel::Kvm | Accel::Tcg => {
            start = Instant::now();
            start_qemu(machine, scratch.path())?
        }
    };
    let mut outcome = Outcome::default();
    let mut last = None;
    let mut ending = Ending::NotAsked;
    while outcome.status.is_none() {
        ending.look(&running);
        match next(&mut running, start, limit, machine.silence) {
            Next::Nothing => {}
            Next::Line(at, line) => {
                on_line(&line, at - start);
                note(&mut outcome, &line)?;
                outcome.elapsed = at - start;
                last = Some(line);
            }
            Next::Silent(limit) => {
                return Err(Error::Silent { seconds: limit.as_secs(), state: state(&running.control) });
            }
            Next::TooLate(limit) => {
                return Err(Error::Timeout { seconds: limit.as_secs(), last: last_line(last) });
            }
            Next::Ended => return Err(ended_early(&mut running, last)),
        }
    }
    if let Control::Qemu { socket, .. } = &running.control {
        let mut control = Qmp::connect(socket)?;
        outcome.block_stats = control.block_stats()?;
        outcome.instructions = machine.icount.as_ref().map(|_| control.instructions()).transpose()?;
        control.quit()?;
    }
    // Bochs ends by itself: the kernel asks it to.
    running.group.wait_for(PATIENCE).map_err(|source| Error::Io {
        action: "wait for",
        path: machine.emulator().into(),
        source,
    })?;
    Ok(outcome)
}

fn start_qemu(machine: &Machine, scratch: &Path) -> Result<Running> {
    let socket = scratch.join("qmp");
    let mut machine = Machine { qmp: Some(socket.clone()), ..machine.clone() };
    let wanted = Arc::new(());
    let mut console = None;
    if machine.console == Some(Console::Virtio) {
        let path = scratch.join("console");
        let file = File::options().create(true).append(true).read(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        console = Some(Growing { file, wanted: Arc::downgrade(&wanted) });
        machine.console_file = Some(path);
    }
    if program_path(&machine.qemu).is_none() {
        return Err(Error::NotInstalled { program: machine.qemu.clone(), package: "qemu-system-x86" });
    }
    let mut command = Command::new(&machine.qemu);
    command.args(machine.arguments());
    let mut group = spawn(&command, EndBy::Asking)?;
    // A line is on one of them: on the serial port, if the virtio console can't have it.
    let (sender, serial) = channel();
    let heard = Arc::new(AtomicBool::new(false));
    pass_on(group.child.stdout.take().map(|pipe| Heard { pipe, heard: heard.clone() }), sender.clone());
    pass_on(console.map(|pipe| Heard { pipe, heard: heard.clone() }), sender);
    let complaints = follow(group.child.stderr.take());
    Ok(Running { group, serial, heard, control: Control::Qemu { complaints, socket, _wanted: wanted } })
}

fn start_bochs(prepared: Prepared) -> Result<Running> {
    // Bochs ignores SIGTERM while its machine runs.
    let mut group = spawn(&prepared.command(), EndBy::Killing)?;
    // The screen of the machine and the prompts of the debugger: nobody wants them, but somebody must take
    // them.
    discard(group.child.stdout.take());
    let complaints = follow(group.child.stderr.take());
    let file = File::open(&prepared.serial).map_err(Error::io("open", &prepared.serial))?;
    let wanted = Arc::new(());
    let heard = Arc::new(AtomicBool::new(false));
    let pipe = Growing { file, wanted: Arc::downgrade(&wanted) };
    let serial = follow(Some(Heard { pipe, heard: heard.clone() }));
    Ok(Running { group, serial, heard, control: Control::Bochs { prepared, complaints, _wanted: wanted } })
}

fn spawn(command: &Command, end: EndBy) -> Result<Group> {
    Group::spawn_to_end(command, Progress::Piped, end).map_err(|source| Error::Io {
        action: "start",
        path: command.get_program().into(),
        source,
    })
}

/// A file that is being written: its end is not the end, until nobody wants it any more.
struct Growing {
    file: File,
    wanted: Weak<()>,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.wanted.strong_count() > 0 {
            let count = self.file.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            std::thread::sleep(GLANCE / 20);
        }
        Ok(0)
    }
}

/// A pipe that tells others whether anything has come through it.
struct Heard<R> {
    pipe: R,
    heard: Arc<AtomicBool>,
}

impl<R: Read> Read for Heard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        self.heard.fetch_or(count > 0, Ordering::Relaxed);
        Ok(count)
    }
}

/// What the first processor of a machine does that says nothing.
fn state(control: &Control) -> String {
    let Control::Qemu { socket, .. } = control else { return "Bochs does not tell what it does".into() };
    let said =
        Qmp::connect(socket).and_then(|mut qmp| Ok((qmp.is_running()?, qmp.monitor("info registers")?)));
    match said {
        Ok((false, _)) => "it is stopped, as by QEMU's -S".into(),
        Ok((true, registers)) => processor(&registers),
        Err(error) => error.to_string(),
    }
}

/// What QEMU's list of registers tells of a processor: where it is, and whether it halts.
fn processor(registers: &str) -> String {
    let value = |names: [&str; 2]| {
        let words = registers.split_ascii_whitespace();
        words
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| names.contains(name))
            .map(|(_, value)| value)
    };
    let place = value(["RIP", "EIP"]).unwrap_or("an unknown place");
    let place = place.trim_start_matches('0');
    let does = if value(["HLT", "HLT"]) == Some("1") { "halts" } else { "runs" };
    format!("its first processor {does}, at {place:0>1}")
}

/// Empties a pipe in a thread of its own.
fn discard(pipe: Option<impl Read + Send + 'static>) {
    if let Some(mut pipe) = pipe {
        // An error is the end of the pipe, too.
        std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
    }
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

/// The emulator's end without the kernel's last line, as an error.
fn ended_early(running: &mut Running, last: Option<String>) -> Error {
    let status = running.group.wait();
    let ended_well = status.as_ref().is_ok_and(ExitStatus::success);
    let status = status.map_or_else(|error| error.to_string(), describe);
    if interrupted() {
        return Error::Interrupted;
    }
    let (emulator, complaint) = match &running.control {
        Control::Qemu { complaints, .. } => {
            let lines = std::iter::from_fn(|| complaints.recv_timeout(GLANCE).ok());
            ("QEMU", lines.map(|(_, line)| line).filter(|line| !line.contains("warning:")).last())
        }
        Control::Bochs { prepared, complaints, .. } => {
            let lines = std::iter::from_fn(|| complaints.recv_timeout(GLANCE).ok());
            // What stops it before it has a log.
            let panic = lines.map(|(_, line)| line).filter(|line| line.contains(bochs::PANIC)).last();
            ("Bochs", panic.or_else(|| prepared.complaint()))
        }
    };
    match complaint {
        None if ended_well && matches!(running.control, Control::Qemu { .. }) => Error::Reset { last },
        complaint => {
            let said = complaint.unwrap_or_else(|| format!("its last line was: {}", last_line(last)));
            Error::Emulator { emulator, status, said }
        }
    }
}

/// The last line of a machine, in words.
fn last_line(line: Option<String>) -> String {
    line.unwrap_or_else(|| "(none)".into())
}

enum Next {
    Line(Instant, String),
    /// Nothing at the moment.
    Nothing,
    /// The whole run took too long.
    TooLate(Duration),
    /// Nothing has been said for so long, from the start on.
    Silent(Duration),
    Ended,
}

/// How often to look whether the emulator is still there. Its pipes alone do not tell: something it started
/// may hold them.
const GLANCE: Duration = Duration::from_millis(200);
/// How long the emulator may take to end after the kernel's last line.
const PATIENCE: Duration = Duration::from_secs(10);

fn next(running: &mut Running, start: Instant, limit: Option<Duration>, silence: Option<Duration>) -> Next {
    let Running { serial, group, heard, .. } = running;
    let left = limit.map_or(GLANCE, |limit| limit.saturating_sub(start.elapsed()));
    match serial.recv_timeout(left.min(GLANCE)) {
        Ok((at, line)) => return Next::Line(at, line),
        Err(RecvTimeoutError::Disconnected) => return Next::Ended,
        Err(RecvTimeoutError::Timeout) => {}
    }
    let passed = |limit: Option<Duration>| limit.filter(|limit| start.elapsed() >= *limit);
    if let Some(limit) = passed(limit) {
        return Next::TooLate(limit);
    }
    if !matches!(group.poll(), Ok(None)) {
        // What it said last may still be on its way.
        return serial.recv_timeout(GLANCE).map_or(Next::Ended, |(at, line)| Next::Line(at, line));
    }
    match passed(silence).filter(|_| !heard.load(Ordering::Relaxed)) {
        Some(limit) => Next::Silent(limit),
        None => Next::Nothing,
    }
}

/// What has been done about an end that was asked for while the machine runs ([`children::asked_to_end`]).
enum Ending {
    NotAsked,
    /// The power button was pressed: until then the machine may take its time.
    Until(Instant),
    /// All is over.
    AtOnce,
}

/// How long a machine may take to end after its power button was pressed.
const GRACE: Duration = Duration::from_secs(10);

impl Ending {
    /// Presses the machine's power button if an end was asked for. A machine that has none, or does not end
    /// in time, is taken away.
    fn look(&mut self, running: &Running) {
        *self = match self {
            Ending::NotAsked if children::asked_to_end() => match press(running) {
                Ok(()) => {
                    eprintln!(
                        "exo: pressed the machine's power button; it has {} s to end, and none if asked again",
                        GRACE.as_secs()
                    );
                    Ending::Until(Instant::now() + GRACE)
                }
                Err(_) => Ending::take_away(),
            },
            Ending::Until(end) if Instant::now() >= *end => Ending::take_away(),
            _ => return,
        };
    }

    fn take_away() -> Ending {
        children::interrupt();
        Ending::AtOnce
    }
}

/// Presses the power button. A machine that has said nothing yet has nothing to save.
fn press(running: &Running) -> Result<()> {
    match &running.control {
        Control::Qemu { socket, .. } if running.heard.load(Ordering::Relaxed) => {
            Qmp::connect(socket)?.press_power_button()
        }
        _ => Err(Error::Interrupted),
    }
}

/// Reads a pipe in a thread of its own and passes its lines on, each with the time it arrived. The channel
/// ends with the pipe.
pub fn follow(pipe: Option<impl Read + Send + 'static>) -> Receiver<(Instant, String)> {
    let (sender, receiver) = channel();
    pass_on(pipe, sender);
    receiver
}

/// The part of [`follow`] that several pipes can share a channel for.
fn pass_on(pipe: Option<impl Read + Send + 'static>, sender: Sender<(Instant, String)>) {
    let Some(mut pipe) = pipe else { return };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_where_its_registers_say() {
        let long = "CPU#0\r\nRAX=0 RBX=1\r\nRIP=0000000000100abc RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1";
        assert_eq!(processor(long), "its first processor halts, at 100abc");
        let real = "CPU#0\r\nEAX=0\r\nEIP=00000000 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0";
        assert_eq!(processor(real), "its first processor runs, at 0");
        assert_eq!(processor(""), "its first processor runs, at an unknown place");
    }
}
