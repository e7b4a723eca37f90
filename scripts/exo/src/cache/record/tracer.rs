//! The recorder's loop: one stop of a thread after the other (ptrace(2)).
//!
//! A call that is looked at stops twice: at its entry, where is asked what it is about to do, and at its
//! exit, where its result is known. If it has nothing to do with files, it does not stop a second time.

use super::calls::{Request, request};
use super::files::FileIndex;
use super::filter::FOREIGN;
use super::interrupt::Running;
use super::launch::{FILTERED, UNFILTERED};
use super::log::Log;
use super::report;
use super::stopped::Stopped;
use super::underway::Underway;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// How often is looked whether stopped threads may go on, while there are any.
const LOOK: Duration = Duration::from_millis(2);
/// `__WALL`: threads are waited for, too.
const THREADS_TOO: WaitOptions = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
/// What a stop at a system call has beside `SIGTRAP` (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: i32 = libc::SIGTRAP | 0x80;
/// `PTRACE_SYSCALL_INFO_ENTRY`
const ENTRY: u8 = 1;
/// Code segment of 64-bit programs.
const NATIVE_CODE: u64 = 0x33;

/// How calls are picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picked {
    /// Not yet known.
    Unknown,
    /// By the kernel, with a filter.
    ByFilter,
    /// Here: every call stops.
    Here,
}

/// The recorder.
#[derive(Debug)]
pub struct Tracer<'a> {
    log: &'a mut Log,
    running: &'a Running,
    command: i32,
    picked: Picked,
    /// The command itself is running: from here on is recorded.
    begun: bool,
    status: Option<WaitStatus>,
    threads: HashSet<i32>,
    /// Calls that are between entry and exit, by thread.
    underway: HashMap<i32, Underway>,
    /// Whose turn it is at a file.
    turns: HashMap<FileIndex, i32>,
    /// Threads at the entry of a call, whose turn it is not.
    waiting: VecDeque<i32>,
    stopped: Stopped,
    /// Real-time signals that could not be passed on.
    lost: HashSet<i32>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How the command ended.
    pub status: Option<WaitStatus>,
    /// Whether it ran at all.
    pub begun: bool,
    /// Whether the kernel picked the calls.
    pub filtered: bool,
}

impl<'a> Tracer<'a> {
    /// A recorder of a command that has been seized.
    pub fn new(command: Pid, log: &'a mut Log, running: &'a Running) -> Tracer<'a> {
        Tracer {
            log,
            running,
            command: command.as_raw(),
            picked: Picked::Unknown,
            begun: false,
            status: None,
            threads: HashSet::new(),
            underway: HashMap::new(),
            turns: HashMap::new(),
            waiting: VecDeque::new(),
            stopped: Stopped::default(),
            lost: HashSet::new(),
        }
    }

    /// Records until the command and all it started have ended.
    ///
    /// # Errors
    ///
    /// If the system refuses what it has granted before.
    pub fn run(mut self) -> Result<Ended> {
        loop {
            let now = if self.stopped.any() { WaitOptions::NOHANG } else { WaitOptions::empty() };
            match wait(THREADS_TOO | now) {
                Ok(Some((pid, status))) => self.take(pid.as_raw_nonzero().get(), status)?,
                Ok(None) => {
                    for thread in self.stopped.take_continued() {
                        self.resume(thread, None)?;
                    }
                    std::thread::sleep(LOOK);
                }
                Err(rustix::io::Errno::CHILD) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Tracing { what: "waiting".into(), source: error.into() }),
            }
        }
        let filtered = self.picked == Picked::ByFilter;
        Ok(Ended { status: self.status, begun: self.begun, filtered })
    }

    /// Deals with one event.
    fn take(&mut self, thread: i32, status: WaitStatus) -> Result<()> {
        let Some(signal) = status.stopping_signal() else {
            if thread == self.command {
                self.status = Some(status);
                self.running.command_ended();
            }
            return self.forget(thread);
        };
        if self.threads.insert(thread) {
            self.running.insert(thread);
        }
        let event = status.as_raw() >> 16;
        if signal == AT_CALL {
            self.call(thread)
        } else if event == Event::PTRACE_EVENT_SECCOMP as i32 {
            self.entry(thread)
        } else if event == Event::PTRACE_EVENT_EXEC as i32 {
            self.executed(thread)
        } else if event == Event::PTRACE_EVENT_STOP as i32 && signal != libc::SIGTRAP {
            self.stopped.insert(thread);
            Ok(())
        } else if event != 0 {
            self.resume(thread, None)
        } else {
            self.signal(thread, signal)
        }
    }

    /// A thread is about to get a signal.
    fn signal(&mut self, thread: i32, number: i32) -> Result<()> {
        if number == libc::SIGCONT {
            for sibling in self.stopped.take_siblings(thread) {
                self.resume(sibling, None)?;
            }
        }
        let signal = Signal::try_from(number).ok();
        if !self.begun {
            // What `launch` says by it is for here alone.
            match signal {
                Some(FILTERED) => self.picked = Picked::ByFilter,
                Some(UNFILTERED) => self.picked = Picked::Here,
                other => return self.resume(thread, other),
            }
            return self.resume(thread, None);
        }
        if signal.is_none() && self.lost.insert(number) {
            report::say(&format!(
                "exo: warning: real-time signal {number} to thread {thread} is lost: a command that is recorded \
                 gets none; if it hangs now (in pthread_cancel, or setuid with threads), that is why\n"
            ));
        }
        self.resume(thread, signal)
    }

    /// A thread has become another program.
    fn executed(&mut self, thread: i32) -> Result<()> {
        // If it was not the first thread of its process, it is from now on; the number it had is gone.
        let before = ptrace::getevent(Pid::from_raw(thread)).map_or(thread, |number| number as i32);
        if before != thread {
            self.forget(before)?;
        }
        self.finish(thread, -1)?;
        self.begun |= thread == self.command;
        self.resume(thread, None)
    }

    /// A thread is at the entry or at the exit of a call.
    fn call(&mut self, thread: i32) -> Result<()> {
        let pid = Pid::from_raw(thread);
        if self.picked == Picked::Here {
            match ptrace::syscall_info(pid) {
                Ok(info) if info.op == ENTRY => return self.entry(thread),
                Ok(_) => {}
                Err(error) => return gone_or(error, "looking at a call"),
            }
        }
        match ptrace::getregs(pid) {
            Ok(registers) => self.finish(thread, registers.rax.cast_signed())?,
            Err(error) => gone_or(error, "reading a result")?,
        }
        self.resume(thread, None)
    }

    /// A thread is at the entry of a call.
    fn entry(&mut self, thread: i32) -> Result<()> {
        if !self.begun {
            return self.resume(thread, None);
        }
        match self.asked(thread) {
            Ok(Some(asked)) => {
                self.log.tally.calls += 1;
                match asked {
                    Request::Ring => self.log.tally.rings += 1,
                    Request::Asynchronous => self.log.tally.contexts += 1,
                    Request::Transfer(_) | Request::Copy(..) | Request::Map { .. } => {}
                }
                self.begin(thread, &asked)
            }
            Ok(None) => self.resume(thread, None),
            Err(error) => gone_or(error, "reading a call"),
        }
    }

    /// What the call asks for at whose entry a thread is.
    fn asked(&mut self, thread: i32) -> std::result::Result<Option<Request>, Errno> {
        let pid = Pid::from_raw(thread);
        if self.picked == Picked::ByFilter && ptrace::getevent(pid)? == i64::from(FOREIGN) {
            self.log.tally.foreign += 1;
            return Ok(None);
        }
        let registers = ptrace::getregs(pid)?;
        if registers.cs != NATIVE_CODE {
            self.log.tally.foreign += 1;
            return Ok(None);
        }
        Ok(request(&registers))
    }

    /// Lets a thread into a call, if it is its turn.
    fn begin(&mut self, thread: i32, asked: &Request) -> Result<()> {
        if let Some(underway) = Underway::begin(&mut self.log.files, thread, asked) {
            if underway.turn().any(|file| self.turns.contains_key(&file)) {
                self.waiting.push_back(thread);
                return Ok(());
            }
            self.turns.extend(underway.turn().map(|file| (file, thread)));
            self.underway.insert(thread, underway);
        }
        self.resume(thread, None)
    }

    /// A thread's call is over.
    fn finish(&mut self, thread: i32, result: i64) -> Result<()> {
        let Some(underway) = self.underway.remove(&thread) else { return Ok(()) };
        let had_turn = underway.turn().next().is_some();
        underway.end(self.log, thread, result);
        if !had_turn {
            return Ok(());
        }
        self.turns.retain(|_, other| *other != thread);
        // Each of them asks anew where it would begin: that has just changed.
        for waiting in std::mem::take(&mut self.waiting) {
            match self.asked(waiting) {
                Ok(Some(asked)) => self.begin(waiting, &asked)?,
                Ok(None) => self.resume(waiting, None)?,
                Err(error) => gone_or(error, "reading a call")?,
            }
        }
        Ok(())
    }

    /// A thread has ended.
    fn forget(&mut self, thread: i32) -> Result<()> {
        self.threads.remove(&thread);
        self.running.remove(thread);
        self.stopped.remove(thread);
        self.waiting.retain(|other| *other != thread);
        self.finish(thread, -1)
    }

    /// Lets a thread run to its next stop.
    fn resume(&self, thread: i32, signal: Option<Signal>) -> Result<()> {
        let pid = Pid::from_raw(thread);
        let to_call = self.picked == Picked::Here || self.underway.contains_key(&thread);
        let resumed = if to_call { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
        resumed.or_else(|error| gone_or(error, "letting a thread run"))
    }
}

/// A thread that has been killed meanwhile is no failure: its end is the next event.
fn gone_or(error: Errno, what: &str) -> Result<()> {
    match error {
        Errno::ESRCH => Ok(()),
        error => Err(Error::Tracing { what: what.into(), source: error.into() }),
    }
}
