//! First program of a Linux guest: carries out the plan in the initial file system (see the library), reports
//! how it went, and ends the machine. Run by itself with the word `streams`, it takes and gives bytes. Linked
//! statically, so that nothing else is needed there.
#![forbid(unsafe_code)]

mod streams;

use linux_init::{END, ERROR, FINISHED, PLAN_PATH, STREAMS, Step};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::system::{RebootCommand, finit_module, reboot};
use std::ffi::CString;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Status if a step failed that is no program.
const FAILED: i32 = 255;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        let mut words = std::env::args().skip(1);
        if words.next().is_some_and(|word| word == STREAMS) {
            return streams::serve(words.next());
        }
        eprintln!(
            "linux-init is the first program of a Linux guest that exo starts; it does nothing elsewhere"
        );
        return ExitCode::from(2);
    }
    let status = carry_out().unwrap_or_else(|error| {
        println!("{ERROR}{error}");
        FAILED
    });
    println!("{FINISHED}{status}");
    if std::env::var(END).is_ok_and(|value| value == "exit") {
        // Under QEMU's -no-reboot this is the end of the emulator.
        if let Err(error) = reboot(RebootCommand::Restart) {
            println!("{ERROR}reboot: {error}");
        }
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Carries out the plan; returns the status of the program that failed, or 0.
fn carry_out() -> Result<i32, String> {
    let text = std::fs::read_to_string(PLAN_PATH).map_err(|error| format!("{PLAN_PATH}: {error}"))?;
    for step in linux_init::read(&text).map_err(|error| error.to_string())? {
        let status = perform(&step)?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}

/// Performs one step; returns the status of a program, else 0.
fn perform(step: &Step) -> Result<i32, String> {
    match step {
        Step::Say(line) => println!("{line}"),
        Step::Module(path) => load(path).map_err(|error| format!("module {path}: {error}"))?,
        Step::Mount { kind, source, target, options } => mount(kind, source, target, options)
            .map_err(|error| format!("mounting {source} on {target}: {error}"))?,
        Step::Run { path, words } => {
            let status = Command::new(path).args(words).status();
            let status = status.map_err(|error| format!("{path}: {error}"))?;
            // A program that a signal ended has no code.
            return status.code().ok_or_else(|| format!("{path} ended: {status}"));
        }
    }
    Ok(0)
}

fn load(path: &str) -> Result<(), rustix::io::Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match finit_module(&file, c"", 0) {
        // Built in, or brought along by another.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn mount(kind: &str, source: &str, target: &str, options: &str) -> Result<(), std::io::Error> {
    std::fs::create_dir_all(target)?;
    let mut flags = MountFlags::empty();
    let mut own = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            // The file system's own.
            other => own.push(other),
        }
    }
    Ok(rustix::mount::mount(source, target, kind, flags, CString::new(own.join(","))?.as_c_str())?)
}
