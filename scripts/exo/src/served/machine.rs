//! A machine with a server on it, for as long as it is asked.

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::session::qmp::Qmp;
use crate::session::serial::{Line, parse};
use crate::session::{self, Outcome};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How the machine's end comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, after what it was asked for.
    Itself,
    /// It is taken away.
    Taken,
}

/// Time limit of one boot with all that is asked.
const LIMIT: Duration = Duration::from_secs(900);
/// How long a server may take to be there: Linux unpacks what it serves first, and the host may be busy.
const START: Duration = Duration::from_secs(240);
/// How long one attempt to reach it may take.
const ATTEMPT: Duration = Duration::from_millis(300);

/// What was done.
pub struct Served<T> {
    /// What it came to.
    pub done: T,
    /// What the machine's programs printed.
    pub lines: Vec<String>,
    /// How the machine ended, if it did so by itself.
    pub outcome: Option<Outcome>,
}

/// Boots the machine, waits until somebody listens at `address`, calls `work`, and ends the machine. `work`
/// has QEMU's control socket. The calling thread must be where the machine's network is.
///
/// # Errors
///
/// What `work` says, or why the machine did not get so far.
pub fn serve<T>(
    machine: &Machine,
    address: SocketAddr,
    end: End,
    work: impl FnOnce(&mut Qmp) -> Result<T>,
) -> Result<Served<T>> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let socket = scratch.path().join("control");
    let mut machine = machine.clone();
    let control = format!("unix:{},server=on,wait=off", socket.display());
    machine.extra.extend(["-qmp".to_owned(), control]);
    let (lines, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (outcome, done) = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let outcome = session::run(&machine, Some(LIMIT), &mut |line, _| {
                if let Line::Guest { text, .. } | Line::Other(text) = parse(line) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
                }
            });
            over.store(true, Ordering::Release);
            outcome
        });
        let done = Qmp::connect_when_ready(&socket).and_then(|mut qmp| {
            let done = wait_until_served(address, &over).and_then(|()| work(&mut qmp));
            if done.is_err() || end == End::Taken {
                // It may have ended by itself, which is told by its outcome.
                let _ = qmp.quit();
            }
            done
        });
        let outcome = running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (outcome, done)
    });
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    let explained = |error: Error| {
        // What the machine said explains its end.
        lines.iter().rev().take(10).rev().for_each(|line| eprintln!("{line}"));
        error
    };
    match (done, outcome) {
        (Ok(done), Ok(outcome)) if end == End::Itself => {
            outcome.check().map_err(explained)?;
            Ok(Served { done, lines, outcome: Some(outcome) })
        }
        (Ok(done), _) if end == End::Taken => Ok(Served { done, lines, outcome: None }),
        (_, Err(Error::Interrupted)) => Err(Error::Interrupted),
        (Err(error), _) | (Ok(_), Err(error)) => Err(explained(error)),
        (Ok(_), Ok(_)) => Err(explained(Error::Measurement("the machine ended too early".into()))),
    }
}

/// Waits until somebody listens there.
fn wait_until_served(address: SocketAddr, over: &AtomicBool) -> Result<()> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, ATTEMPT) {
            Ok(_) => return Ok(()),
            Err(_) if over.load(Ordering::Acquire) => {
                return Err(Error::Measurement(format!("the machine ended before it listened at {address}")));
            }
            Err(error) if start.elapsed() >= START => {
                return Err(Error::Measurement(format!("nobody listens at {address}: {error}")));
            }
            // A refusal comes at once.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
