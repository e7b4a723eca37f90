//! What libvirt makes of a domain: the command with which it would start QEMU.
//!
//! libvirt's driver for QEMU works inside `virsh` (`qemu:///embed`), in a directory of its own: no service is
//! needed, and none is asked.

use crate::host::children::{Group, Progress};
use crate::host::programs::program_path;
use crate::machine::text;
use crate::session::qmp::Qmp;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// `virsh` with the driver at work in `root`.
fn virsh(root: &Path) -> Command {
    // For the superuser the driver wants a user of the system that comes with libvirt's services. Anybody
    // else may use it as they are.
    let mut command = match rustix::process::geteuid().is_root() && program_path("unshare").is_some() {
        true => {
            let mut as_another = Command::new("unshare");
            as_another.args(["--user", "--map-user=1000", "--map-group=1000", "virsh"]);
            as_another
        }
        false => Command::new("virsh"),
    };
    command.arg("-c").arg(format!("qemu:///embed?root={}", text(root)));
    command.env("HOME", root).env("XDG_RUNTIME_DIR", root);
    command
}

/// Whether the driver is there and works.
pub fn is_there() -> bool {
    let works = |root: &Path| virsh(root).arg("uri").output().is_ok_and(|output| output.status.success());
    program_path("virsh").is_some() && tempfile::tempdir().is_ok_and(|root| works(root.path()))
}

/// A machine as libvirt would start it.
pub struct Started {
    /// The command, as libvirt gave it.
    pub command: String,
    /// What the machine wrote to its serial port.
    pub out: String,
    /// How QEMU ended.
    pub status: ExitStatus,
}

/// The value of an option of the command as libvirt would set it, and the value that it has here.
///
/// The processor is emulated, as no host of a test needs to have KVM. The console is the output, where
/// libvirt would make a terminal.
const HERE: [(&str, &str); 3] = [
    ("-accel kvm ", "-accel tcg "),
    ("-cpu host,migratable=on ", "-cpu max "),
    ("-chardev pty,id=charserial0 ", "-chardev stdio,id=charserial0 "),
];

/// Has libvirt make a command of a domain named `name`, does what libvirt would do before and after it, and
/// waits for the machine's end. `root` is an empty directory with a short path: a socket's is limited.
pub fn start(domain: &Path, name: &str, root: &Path, seconds: &str) -> Result<Started, String> {
    let mut convert = virsh(root);
    convert.args(["domxml-to-native", "qemu-argv"]).arg(domain);
    let made = convert.output().map_err(|error| format!("virsh: {error}"))?;
    if !made.status.success() {
        return Err(format!("virsh: {}: {}", made.status, String::from_utf8_lossy(&made.stderr)));
    }
    let command = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let mut adapted = command.clone();
    for (from, to) in HERE {
        if !adapted.contains(from) {
            return Err(format!("no such command as expected, without {from:?}: {command}"));
        }
        adapted = adapted.replacen(from, to, 1);
    }
    let folder = own_folder(root, name).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec timeout {seconds} env {adapted} >'{}/out'", text(&folder)));
    let mut group =
        Group::spawn(&shell, Progress::Piped).map_err(|error| format!("starting QEMU: {error}"))?;
    // It waits for a word (`-S`), as libvirt has it.
    let told = Qmp::connect_when_ready(&folder.join("monitor.sock")).and_then(|mut qmp| qmp.run());
    let status = group.wait().map_err(|error| format!("waiting for QEMU: {error}"))?;
    let mut err = String::new();
    if let Some(mut pipe) = group.child.stderr.take() {
        std::io::Read::read_to_string(&mut pipe, &mut err).map_err(|error| error.to_string())?;
    }
    told.map_err(|error| format!("{error}: {err}\n    {adapted}"))?;
    let out = std::fs::read_to_string(folder.join("out")).map_err(|error| error.to_string())?;
    Ok(Started { command, out, status })
}

/// Makes what libvirt keeps for a domain while it runs: a folder with a key of 32 bytes, and for a socket.
/// The number in its name is that of a domain that does not run.
fn own_folder(root: &Path, name: &str) -> std::io::Result<PathBuf> {
    let folder = root.join("lib/qemu").join(format!("domain--1-{name}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("master-key.aes"), [7; 32])?;
    Ok(folder)
}
