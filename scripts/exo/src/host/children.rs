//! Child processes that never outlive this tool.
//!
//! Every child leads a process group of its own. The group is ended when its [`Group`] is dropped, and all
//! groups are ended when the tool is interrupted (Ctrl-C, SIGTERM, SIGHUP). Against a SIGKILL of the tool,
//! `setpriv` (where installed) asks the system to end the child with its parent.

use crate::host::programs::program_path;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static GROUPS: Mutex<Vec<(Pid, Signal)>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static LEFT_TO_OTHERS: AtomicBool = AtomicBool::new(false);
static WAITS_FOR_ORDER: AtomicBool = AtomicBool::new(false);
static ASKED_TO_END: AtomicBool = AtomicBool::new(false);

/// How long a group may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Makes Ctrl-C, SIGTERM and SIGHUP end all groups.
pub fn end_with_this_process() {
    let installed = ctrlc::set_handler(|| {
        if LEFT_TO_OTHERS.load(Ordering::SeqCst) {
            return;
        }
        let first = !ASKED_TO_END.swap(true, Ordering::SeqCst);
        if !(first && WAITS_FOR_ORDER.load(Ordering::SeqCst)) {
            interrupt();
        }
    });
    if let Err(error) = installed {
        eprintln!("exo: warning: Ctrl-C will not be caught: {error}");
    }
}

/// Ends all groups, as Ctrl-C does.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    for (pid, signal) in groups().iter() {
        // A group that has just ended is no failure.
        let _ = kill_process_group(*pid, *signal);
    }
}

/// While the value that this returns lives, the first Ctrl-C (or SIGTERM, or SIGHUP) is only noted: somebody
/// looks at [`asked_to_end`], and sees to an orderly end. The next ends all groups.
pub fn wait_for_orderly_end() -> impl Drop {
    struct Wait;
    impl Drop for Wait {
        fn drop(&mut self) {
            WAITS_FOR_ORDER.store(false, Ordering::SeqCst);
        }
    }
    WAITS_FOR_ORDER.store(true, Ordering::SeqCst);
    Wait
}

/// Whether the tool has been asked to end.
pub fn asked_to_end() -> bool {
    ASKED_TO_END.load(Ordering::SeqCst)
}

/// From now on Ctrl-C is for a program that shares the terminal with this tool.
pub fn leave_interrupts_to_others() {
    LEFT_TO_OTHERS.store(true, Ordering::SeqCst);
}

/// Whether the tool has been interrupted.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

fn groups() -> std::sync::MutexGuard<'static, Vec<(Pid, Signal)>> {
    GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What becomes of a child's standard error. Its standard output is always piped, its input always empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The user sees it.
    Shown,
    /// It is piped, for the caller to read.
    Piped,
}

/// How a group is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndBy {
    /// It is asked to, and after a while made to.
    Asking,
    /// At once: it would not listen, and has nothing to save.
    Killing,
}

/// A child process and its process group; dropping it ends them.
#[derive(Debug)]
pub struct Group {
    /// The child. Its pipes may be taken; it must be waited for through [`Group::wait`] or [`Group::poll`].
    pub child: Child,
    pid: Pid,
    signal: Signal,
    reaped: bool,
}

impl Group {
    /// Starts `command` in a group of its own, which will be asked to end.
    pub fn spawn(command: &Command, progress: Progress) -> std::io::Result<Group> {
        Group::spawn_to_end(command, progress, EndBy::Asking)
    }

    /// Starts `command` in a group of its own, which will be ended that way.
    pub fn spawn_to_end(command: &Command, progress: Progress, end: EndBy) -> std::io::Result<Group> {
        use std::os::unix::process::CommandExt;
        let mut guarded = guarded(command);
        guarded.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(match progress {
            Progress::Shown => Stdio::inherit(),
            Progress::Piped => Stdio::piped(),
        });
        // Held over the start, so that an interruption can't slip in between start and registration.
        let mut groups = groups();
        let child = guarded.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        let signal = if end == EndBy::Asking { Signal::TERM } else { Signal::KILL };
        groups.push((pid, signal));
        drop(groups);
        Ok(Group { child, pid, signal, reaped: false })
    }

    /// Waits for the child's end.
    pub fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.forget();
        Ok(status)
    }

    /// Waits for the child's end, but not longer than `limit`; `None` if it is still there.
    pub fn wait_for(&mut self, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        loop {
            let status = self.poll()?;
            if status.is_some() || Instant::now() >= end {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The child's status if it has ended.
    pub fn poll(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    fn forget(&mut self) {
        groups().retain(|(pid, _)| *pid != self.pid);
        self.reaped = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let _ = kill_process_group(self.pid, self.signal);
        let limit = Instant::now() + GRACE;
        while Instant::now() < limit {
            if !matches!(self.poll(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.wait();
    }
}

/// `command`, by way of `setpriv --pdeathsig` where that exists.
fn guarded(command: &Command) -> Command {
    let mut guarded = if program_path("setpriv").is_some() {
        let mut with = Command::new("setpriv");
        with.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program());
        with
    } else {
        Command::new(command.get_program())
    };
    guarded.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(key, value),
            None => guarded.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        guarded.current_dir(directory);
    }
    guarded
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
