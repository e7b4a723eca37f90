//! A Linux guest in the same machine: what HyperExo and its unikernels are compared with.
//!
//! The guest is Debian's kernel for virtual machines, as packaged ([`kernel`]), and an initial file system
//! ([`initramfs`]) that holds nothing but a static program of ours as `/init` (`scripts/linux-init`), the
//! modules it loads ([`modules`]), and the files the caller adds. It runs through [`crate::session`] like any
//! other machine, with the same arguments for memory, cores, disk and throttling.
//!
//! ```text
//! let kernel = Kernel::fetch(&checkout)?;                       // apt-get download, once; Error::NotOffered elsewhere
//! let program = static_program(&checkout, "filecache", &["data"])?; // any package of the workspace
//! let mut guest = LinuxGuest::new(kernel);
//! guest.modules = DISK_MODULES.to_vec();                        // what these need is added
//! guest.files = vec![("/program".into(), program)];
//! guest.steps = vec![
//!     Step::Mount { kind: "ext4".into(), source: "/dev/vda".into(), target: "/data".into(), options: "ro".into() },
//!     Step::Run { path: "/program".into(), words: vec!["workload=din".into()] },
//! ];
//! let machine = guest.machine(&checkout, &arguments)?;          // arguments: MachineArgs
//! let outcome = session::run(&machine, limit, &mut |line, at| ...)?; // lines of the program are Line::Other
//! outcome.check()?;                                             // status of the program; outcome.block_stats as ever
//! ```
//!
//! `/proc`, `/sys`, `/dev`, `/sys/fs/cgroup` (version 2) and `/tmp` are mounted if
//! [`LinuxGuest::file_systems`] is set.

mod initramfs;
mod kernel;
mod modules;
pub mod packages;
pub mod servers;

use crate::build::cargo;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::machine::{EndBy, Machine};
pub use kernel::Kernel;
pub use linux_init::Step;
use linux_init::{END, PLAN_PATH};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Modules for a disk on virtio, by PCI. ext4 is built into the kernel.
pub const DISK_MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// The kernel's words that every guest gets. All but the first make it start sooner: no messages, no checks
/// of timers and cryptography, no search for mice; an end without firmware.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=0 panic=-1 reboot=t no_timer_check tsc=reliable \
                            cryptomgr.notests random.trust_cpu=on i8042.noaux i8042.nomux mitigations=off";

/// A Linux guest.
#[derive(Clone, Debug)]
pub struct LinuxGuest {
    /// Its kernel.
    pub kernel: Kernel,
    /// Kernel modules to load, by name; those they need are added.
    pub modules: Vec<&'static str>,
    /// Whether to mount the file systems that programs expect.
    pub file_systems: bool,
    /// Files of the host in the guest's initial file system: path there, path here.
    pub files: Vec<(String, PathBuf)>,
    /// What `/init` does after that.
    pub steps: Vec<Step>,
    /// Further words of the kernel's command line.
    pub kernel_args: Vec<String>,
}

impl LinuxGuest {
    /// A guest that does nothing.
    pub fn new(kernel: Kernel) -> LinuxGuest {
        let (modules, files, steps, kernel_args) = Default::default();
        LinuxGuest { kernel, modules, file_systems: false, files, steps, kernel_args }
    }

    /// Makes the initial file system; returns its path. It is named after its content.
    pub fn initrd(&self, checkout: &Checkout) -> Result<PathBuf> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(Error::io("read", path));
        let mut files = vec![("/init".to_owned(), read(&init(checkout)?)?)];
        let mut steps = if self.file_systems { file_systems() } else { Vec::new() };
        for module in self.kernel.modules(&self.modules)? {
            let path = format!("/modules/{}.ko", module.name);
            steps.push(Step::Module(path.clone()));
            files.push((path, read(&module.file)?));
        }
        steps.extend(self.steps.iter().cloned());
        for (path, file) in &self.files {
            files.push((path.clone(), read(file)?));
        }
        files.push((PLAN_PATH.to_owned(), linux_init::write(&steps).into_bytes()));
        let bytes = initramfs::write(&files);
        // The modules in it are for this kernel only.
        let name = format!("{}-{:08x}.cpio", self.kernel.version, crc32fast::hash(&bytes));
        let path = checkout.artefacts("linux")?.join(name);
        write_atomically(&path, &bytes)?;
        Ok(path)
    }

    /// The machine that runs it. It halts when the guest is done, so that QEMU's counters can be read.
    pub fn machine(&self, checkout: &Checkout, arguments: &MachineArgs) -> Result<Machine> {
        let mut machine = arguments.machine(&self.kernel.image, &self.initrd(checkout)?)?;
        if machine.accel == Accel::Bochs {
            let fix = "--on qemu".to_owned();
            return Err(Error::Argument { what: "Linux guests run on QEMU only".into(), fix });
        }
        machine.end = EndBy::Halt;
        machine.command_line = Some(self.command_line(machine.end));
        Ok(machine)
    }

    /// The kernel's command line.
    fn command_line(&self, end: EndBy) -> String {
        let end = if end == EndBy::Exit { "exit" } else { "halt" };
        let mut words = vec![COMMAND_LINE.to_owned(), format!("{END}={end}")];
        words.extend(self.kernel_args.iter().cloned());
        words.join(" ")
    }
}

/// What programs on Linux expect to be there.
fn file_systems() -> Vec<Step> {
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("tmpfs", "/tmp"),
    ];
    let mount = |(kind, target): (&str, &str)| Step::Mount {
        kind: kind.into(),
        source: "none".into(),
        target: target.into(),
        options: String::new(),
    };
    mounts.map(mount).into()
}

/// The first program of a guest: built once, however many guests there are.
fn init(checkout: &Checkout) -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    Ok(built.insert(static_program(checkout, "linux-init", &[])?).clone())
}

/// Builds the binary of a package of the workspace that has the package's name, optimised, statically linked
/// and without symbols, with these features of it.
pub fn static_program(checkout: &Checkout, package: &str, features: &[&str]) -> Result<PathBuf> {
    let target = checkout.target.to_string_lossy();
    let features = features.join(",");
    let arguments = [
        "build",
        "--release",
        "--package",
        package,
        "--features",
        &features,
        "--target-dir",
        &target,
        // With a target named, its flags leave build scripts and procedural macros alone.
        "--target",
        TARGET,
        "--config",
        &format!(
            "target.{TARGET}.rustflags=['-Ctarget-feature=+crt-static','-Crelocation-model=static','-Cstrip=symbols']"
        ),
    ];
    let mut made = cargo(&checkout.root, &arguments, package)?;
    let none = || Error::Cargo { what: package.to_owned(), status: "it has no binary of that name".into() };
    made.remove(package).ok_or_else(none)
}

/// The target of static programs: the host's own.
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_guest_follow_those_of_all() {
        let kernel = Kernel { image: "/k".into(), folder: "/m".into(), version: "6.1".into() };
        let guest = LinuxGuest { kernel_args: vec!["lru_gen=y".into()], ..LinuxGuest::new(kernel) };
        let line = guest.command_line(EndBy::Halt);
        assert!(line.starts_with("console=ttyS0 ") && line.ends_with(" end=halt lru_gen=y"), "{line}");
    }
}
