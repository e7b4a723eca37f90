//! How a machine ends that has no port for it: it is switched off, not reset.

use super::context::{Context, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::host::children::{Group, Progress};
use crate::session::qmp::Qmp;
use std::process::Command;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("switched-off-at-the-end", &[Need::QemuMachine], switched_off),
        Test::new("switched-off-after-a-panic", &[Need::QemuMachine], switched_off_after_a_panic),
        Test::new("reset-without-tables", &[Need::QemuMachine, Need::Alone], reset_without_tables),
    ]
}

/// The device that [`exo run`](crate::run) adds so that QEMU's status is the kernel's.
const EXIT_DEVICE: &str = "-device isa-debug-exit,iobase=0xf4 ";

/// Why QEMU ends if the machine of `exo run ARGUMENTS` has no port to end it by, in QEMU's words. It is told
/// not to start anew: only the reason shows whether the machine was switched off.
fn reason(context: &Context, arguments: &[&str]) -> Result<String, String> {
    let command = context.run(&[&["--print-command"], arguments].concat())?.succeeded()?.out;
    let command = command.trim_end();
    let without = command.replacen(EXIT_DEVICE, "", 1);
    if without == command || !command.contains("-no-reboot") {
        return Err(format!("no such machine as expected: {command}"));
    }
    let folder = tempfile::tempdir_in(context.scratch.path()).map_err(|error| error.to_string())?;
    let socket = folder.path().join("qmp");
    let control = format!("unix:{},server=on,wait=off", text(&socket));
    let mut shell = Command::new("sh");
    let limit = context.platform.seconds();
    shell
        .arg("-c")
        .arg(format!("exec timeout {limit} {without} -S -qmp {control} >{}/out", text(folder.path())));
    let mut group =
        Group::spawn(&shell, Progress::Piped).map_err(|error| format!("starting QEMU: {error}"))?;
    let seconds = limit.parse().map_err(|_| format!("no number of seconds: {limit}"))?;
    let reason = follow(&socket, Duration::from_secs(seconds));
    // It ends after the event, or by the limit.
    group.wait().map_err(|error| format!("waiting for QEMU: {error}"))?;
    let said = std::fs::read_to_string(folder.path().join("out")).map_err(|error| error.to_string())?;
    if !said.contains("Hello from hello") {
        return Err(format!("the program did not run: {said:?}, {reason:?}"));
    }
    reason
}

/// Lets the machine run from its first instruction to its end.
fn follow(socket: &std::path::Path, limit: Duration) -> Result<String, String> {
    let followed = Qmp::connect_when_ready(socket).and_then(|mut qmp| {
        qmp.run()?;
        qmp.shutdown_reason(limit)
    });
    followed.map_err(|error| error.to_string())
}

fn is_switched_off(context: &Context, arguments: &[&str]) -> Verdict {
    match reason(context, arguments)?.as_str() {
        "guest-shutdown" => Ok(()),
        other => Err(format!("QEMU ended by {other:?}: {arguments:?}")),
    }
}

/// By the control registers of PC hardware, on both of its chip sets, or by the sleep control register of
/// `microvm`.
fn switched_off(context: &Context) -> Verdict {
    is_switched_off(context, &["hello"])?;
    match context.platform {
        Platform::DirectMicrovm => Ok(()),
        _ => is_switched_off(context, &["hello", "--machine", "pc"]),
    }
}

fn switched_off_after_a_panic(context: &Context) -> Verdict {
    is_switched_off(context, &["hello", "--", "panic=1"])
}

/// Without ACPI there is nothing but a reset: the other tests would notice one.
fn reset_without_tables(context: &Context) -> Verdict {
    let machine = match context.platform {
        Platform::DirectMicrovm => "microvm,acpi=off",
        _ => "q35,acpi=off",
    };
    // The last of several `-M` counts.
    let arguments = ["hello", "--qemu-arg=-M", &format!("--qemu-arg={machine}")];
    match reason(context, &arguments)?.as_str() {
        "guest-reset" => Ok(()),
        other => Err(format!("QEMU ended by {other:?}")),
    }
}
