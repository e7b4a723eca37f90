//! Signals to this tool while a command is recorded.
//!
//! Ctrl-C and its like reach the command by themselves: it shares the terminal. What is sent to this tool
//! alone is passed on. Either way the tool stays until the command has ended, and writes the record.

use super::report;
use crate::error::{Error, Result};
use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Signals that end a program, and that a user or an administrator sends.
const SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// How often is looked whether there are any.
const LOOK: Duration = Duration::from_millis(50);
/// After the command's end, how long its children may go on before the user is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the recorder and the thread that takes signals both know.
#[derive(Debug)]
pub struct Running {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The command, until it has ended.
    command: Option<Pid>,
    ended: Option<Instant>,
    told: bool,
    /// Threads that are recorded.
    threads: HashSet<i32>,
}

impl Running {
    /// Takes signals for a command from now on.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor to read signals from.
    pub fn begin(command: Pid) -> Result<Arc<Running>> {
        let failed =
            |error: nix::Error| Error::Tracing { what: "taking signals".into(), source: error.into() };
        let signals: SigSet = SIGNALS.into_iter().collect();
        // Threads inherit it, so nobody in this process takes them but the descriptor's reader.
        signals.thread_block().map_err(failed)?;
        let queue = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        let queue = queue.map_err(failed)?;
        let state = State { command: Some(command), ended: None, told: false, threads: HashSet::new() };
        let running = Arc::new(Running { state: Mutex::new(state) });
        let own = Arc::clone(&running);
        std::thread::spawn(move || {
            loop {
                while let Ok(Some(signal)) = queue.read_signal() {
                    own.pass_on(signal.ssi_signo, signal.ssi_code);
                }
                own.tell();
                std::thread::sleep(LOOK);
            }
        });
        Ok(running)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread has begun.
    pub fn insert(&self, thread: i32) {
        self.state().threads.insert(thread);
    }

    /// A thread has ended.
    pub fn remove(&self, thread: i32) {
        self.state().threads.remove(&thread);
    }

    /// The command has ended; what it started may go on.
    pub fn command_ended(&self) {
        let mut state = self.state();
        state.command = None;
        state.ended = Some(Instant::now());
    }

    /// Passes a signal on to the command. After that has ended, ends what is left of it.
    fn pass_on(&self, number: u32, code: i32) {
        let state = self.state();
        // Whoever has just ended needs no signal.
        match (state.command, Signal::try_from(number.cast_signed())) {
            // What the terminal sends has the code of the kernel, and goes to the command as well.
            (Some(command), Ok(signal)) if code != libc::SI_KERNEL => {
                let _ = kill(command, signal);
            }
            (Some(_), _) => {}
            (None, _) => state.threads.iter().for_each(|thread| {
                let _ = kill(Pid::from_raw(*thread), Signal::SIGKILL);
            }),
        }
    }

    /// Tells the user, once, why the tool does not end.
    fn tell(&self) {
        let mut state = self.state();
        let late = state.ended.is_some_and(|ended| ended.elapsed() > PATIENCE);
        if late && !state.told && !state.threads.is_empty() {
            state.told = true;
            report::say(&format!(
                "exo: the command has ended, but {} threads that it started have not; Ctrl-C ends them\n",
                state.threads.len()
            ));
        }
    }
}
