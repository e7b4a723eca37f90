//! The Linux guest that others are compared with.

use super::context::{Context, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::linux::{DISK_MODULES, Kernel, LinuxGuest, Step};
use crate::machine::args::MachineArgs;
use crate::session;
use crate::session::serial::{Line, parse};
use std::process::Command;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Qemu, Need::Disk, Need::LinuxKernel, Need::Program("mke2fs")];
    vec![Test::new("linux-guest", &needs, linux_guest)]
}

/// How long a guest may take, on a busy host.
const LIMIT: Duration = Duration::from_secs(120);

/// Modules are loaded, a disk is mounted, a program is run; its status and the disk's counters come out.
fn linux_guest(context: &Context) -> Verdict {
    let image = context.scratch.path().join("linux.img");
    let program = crate::host::programs::program_path("mke2fs").ok_or("mke2fs is gone")?;
    let made = Command::new(program).args(["-q", "-t", "ext4", "-b", "4096"]).arg(&image).arg("8M").output();
    if !made.map_err(|error| error.to_string())?.status.success() {
        return Err("mke2fs failed".into());
    }
    let kernel = Kernel::fetch(&context.checkout).map_err(|error| error.to_string())?;
    let mut guest = LinuxGuest::new(kernel);
    guest.file_systems = true;
    guest.modules = DISK_MODULES.to_vec();
    let mount = Step::Mount {
        kind: "ext4".into(),
        source: "/dev/vda".into(),
        target: "/data".into(),
        options: "ro".into(),
    };
    // The first program, run as a second one, says that it is not the first, with status 2.
    guest.files = vec![("/data.txt".into(), context.file("data.txt", b"data")?)];
    guest.steps = vec![mount, Step::Say("mounted".into()), Step::Run { path: "/init".into(), words: vec![] }];
    let arguments = MachineArgs::of(&["--on", "qemu", "--disk", &text(&image)]);
    let machine = arguments.and_then(|arguments| guest.machine(&context.checkout, &arguments));
    let machine = machine.map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    let outcome = session::run(&machine, Some(LIMIT), &mut |line, _| {
        if let Line::Other(text) = parse(line) {
            lines.push(text.to_owned());
        }
    });
    let outcome = outcome.map_err(|error| format!("{error}; it said {lines:?}"))?;
    if outcome.status != Some(2) || !lines.iter().any(|line| line.ends_with("mounted")) {
        return Err(format!("status {:?}, {:?}, {lines:?}", outcome.status, outcome.kernel_error));
    }
    match outcome.block_stats {
        Some(stats) if stats.rd_bytes >= 4096 => Ok(()),
        other => Err(format!("QEMU counted {other:?} for a disk that was mounted")),
    }
}
