//! One start of a machine, up to the first line of its application.

use crate::error::{Error, Result};
use crate::host::children::{Group, Progress, describe};
use crate::machine::Machine;
use crate::session::follow;
use crate::session::qmp::Qmp;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// From when on time is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The start of QEMU's process.
    Process,
    /// The guest's first instruction, which is the firmware's: QEMU is started with its processors stopped
    /// (`-S`), and the clock with the command that lets them run.
    Instruction,
}

/// What was seen of a start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Time to the application's first line, as the host sees it.
    pub elapsed: Duration,
    /// Memory of QEMU's process that was resident then, in KiB.
    pub resident_kib: u64,
}

/// Starts the machine, waits for a line for which `is_first` says so, and ends it.
pub fn start(
    machine: &Machine,
    from: From,
    limit: Duration,
    is_first: &dyn Fn(&str) -> bool,
) -> Result<Start> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let socket = scratch.path().join("qmp");
    let mut machine = Machine { qmp: Some(socket.clone()), ..machine.clone() };
    if from == From::Instruction {
        machine.extra.push("-S".into());
    }
    let mut command = Command::new(&machine.qemu);
    command.args(machine.arguments());
    let mut began = Instant::now();
    let mut group = Group::spawn(&command, Progress::Piped).map_err(|source| Error::Io {
        action: "start",
        path: machine.qemu.clone().into(),
        source,
    })?;
    let lines = follow(group.child.stdout.take());
    let _complaints = follow(group.child.stderr.take());
    if from == From::Instruction {
        let mut control = Qmp::connect_when_ready(&socket)?;
        began = Instant::now();
        control.run()?;
    }
    let mut last = String::from("(none)");
    loop {
        match lines.recv_timeout(limit.saturating_sub(began.elapsed())) {
            Ok((at, line)) if is_first(&line) => {
                let resident_kib = resident_kib(group.child.id())?;
                return Ok(Start { elapsed: at - began, resident_kib });
            }
            Ok((_, line)) => last = line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::Timeout { seconds: limit.as_secs(), last });
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = group.wait().map_or_else(|error| error.to_string(), describe);
                let said = format!("its last line was: {last}");
                return Err(Error::Emulator { emulator: "QEMU", status, said });
            }
        }
    }
}

/// Resident memory of a process, in KiB (`VmRSS`, proc(5)).
fn resident_kib(process: u32) -> Result<u64> {
    let path = std::path::PathBuf::from(format!("/proc/{process}/status"));
    let status = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    resident(&status).ok_or_else(|| Error::Measurement(format!("{} tells no VmRSS", path.display())))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident("Name:\tqemu\nVmRSS:\t   51234 kB\nVmData:\t1 kB\n"), Some(51234));
        assert_eq!(resident("Name:\tqemu\n"), None);
        assert!(resident_kib(std::process::id()).unwrap() > 0);
    }
}
