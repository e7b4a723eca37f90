//! Where tests can run, and what each place offers.

use super::libvirt;
use crate::host::checkout::Checkout;
use crate::host::load;
use crate::host::programs::program_path;
use crate::host::tap::TapNetwork;
use crate::linux;
use crate::machine::{bochs, iso};
use std::process::{Command, Stdio};

/// A platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Platform {
    /// HyperExo on QEMU, on SVM (emulated or real).
    QemuSvm,
    /// HyperExo on Bochs, on VMX.
    BochsVmx,
    /// No HyperExo: the unikernel directly on QEMU, with PCI.
    Direct,
    /// The same on a machine without PCI.
    DirectMicrovm,
}

/// What a test needs of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// HyperExo itself: several environments, bundles, its options.
    Exokernel,
    /// A machine without HyperExo.
    Alone,
    /// A disk.
    Disk,
    /// A disk whose image is written.
    KeptWrites,
    /// A disk that fails on demand.
    DiskFaults,
    /// A disk that can be slowed down.
    DiskThrottling,
    /// A network between environments.
    Network,
    /// A network device, and somebody beyond it.
    NetworkDevice,
    /// A tap device in a network namespace, and a machine that has such a network.
    Tap,
    /// So many cores.
    Cores(u32),
    /// QEMU itself: its machine types, its ways to boot.
    Qemu,
    /// A machine of QEMU, of whatever type.
    QemuMachine,
    /// Boot images can be made.
    BootImages,
    /// Minutes of work on QEMU, hence too many minutes elsewhere.
    Speed,
    /// VMX processors of several generations.
    VmxModels,
    /// A Linux kernel to compare with.
    LinuxKernel,
    /// A host on which others do next to nothing: what is left to a victim is measured in time.
    QuietHost,
    /// libvirt's driver for QEMU.
    Libvirt,
    /// A program of the host.
    Program(&'static str),
    /// Python on the host, with a module.
    PythonModule(&'static str),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Need::Exokernel => f.write_str("HyperExo"),
            Need::Alone => f.write_str("a machine without HyperExo"),
            Need::Disk => f.write_str("a disk"),
            Need::KeptWrites => f.write_str("a disk that keeps what is written"),
            Need::DiskFaults => f.write_str("a disk that fails on demand"),
            Need::DiskThrottling => f.write_str("a disk that can be slowed down"),
            Need::Network => f.write_str("a network between environments"),
            Need::NetworkDevice => f.write_str("a network device"),
            Need::Tap => f.write_str("a tap device in a network namespace (root, and ip on the host)"),
            Need::Cores(count) => write!(f, "{count} cores"),
            Need::QemuMachine => f.write_str("a machine of QEMU"),
            Need::Qemu => f.write_str("QEMU"),
            Need::BootImages => f.write_str("GRUB to make boot images with"),
            Need::Speed => f.write_str("an emulator that is fast enough"),
            Need::VmxModels => f.write_str("VMX processors of several generations"),
            Need::LinuxKernel => f.write_str("a Linux kernel of Debian's"),
            Need::QuietHost => f.write_str("a host that others leave alone"),
            Need::Libvirt => f.write_str("libvirt with its driver for QEMU on the host"),
            Need::Program(name) => write!(f, "{name} on the host"),
            Need::PythonModule(name) => write!(f, "python3 with its module {name} on the host"),
        }
    }
}

/// Whether this host's Python can import a module.
fn has_python_module(name: &str) -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", &format!("import {name}")]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Platform {
    /// All platforms.
    pub const ALL: [Platform; 4] =
        [Platform::QemuSvm, Platform::BochsVmx, Platform::Direct, Platform::DirectMicrovm];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Platform::QemuSvm => "qemu-svm",
            Platform::BochsVmx => "bochs-vmx",
            Platform::Direct => "direct",
            Platform::DirectMicrovm => "direct-microvm",
        }
    }

    /// Why it can't be used on this host, if it can't.
    pub fn missing(self) -> Option<String> {
        match self {
            // Nothing works without QEMU, and the error that says so is clear.
            Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm => None,
            Platform::BochsVmx => bochs::missing()
                .map(|(what, package)| format!("{what} on the host (apt-get install {package})")),
        }
    }

    /// Whether it has something.
    pub fn offers(self, need: Need) -> bool {
        match (self, need) {
            (_, Need::Program(name)) => program_path(name).is_some(),
            (_, Need::PythonModule(name)) => has_python_module(name),
            (_, Need::Libvirt) => libvirt::is_there(),
            (Platform::BochsVmx, Need::Tap) => false,
            (_, Need::Tap) => TapNetwork::new().is_ok(),
            (_, Need::QuietHost) => load::is_quiet(),
            (Platform::QemuSvm, Need::LinuxKernel) => {
                Checkout::find().and_then(|checkout| linux::Kernel::fetch(&checkout)).is_ok()
            }
            (Platform::Direct | Platform::DirectMicrovm, Need::Exokernel | Need::LinuxKernel) => false,
            (Platform::QemuSvm | Platform::BochsVmx, Need::Alone) => false,
            // It has one machine type, and no CD.
            (Platform::DirectMicrovm, Need::Qemu | Need::BootImages) => false,
            (platform, Need::VmxModels) => platform == Platform::BochsVmx,
            (_, Need::BootImages) => iso::missing().is_none(),
            (_, Need::Cores(count)) => count <= 4,
            (Platform::Direct | Platform::DirectMicrovm, Need::Network) => false,
            (_, Need::Disk | Need::Network | Need::Exokernel) => true,
            (Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm, _) => true,
            (
                Platform::BochsVmx,
                Need::KeptWrites
                | Need::DiskFaults
                | Need::DiskThrottling
                | Need::NetworkDevice
                | Need::Qemu
                | Need::QemuMachine
                | Need::LinuxKernel
                | Need::Speed,
            ) => false,
        }
    }

    /// Arguments of the tool that choose it.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Platform::QemuSvm => &["--on", "qemu"],
            Platform::BochsVmx => &["--on", "bochs"],
            Platform::Direct => &["--direct"],
            Platform::DirectMicrovm => &["--direct", "--machine", "microvm"],
        }
    }

    /// Arguments of the tool for a processor without virtualization, and the word that the kernel then says.
    pub fn without_virtualization(self) -> (&'static [&'static str], &'static str) {
        match self {
            Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm => {
                (&["--accel", "tcg", "--cpu", "max,-svm"], "SVM")
            }
            Platform::BochsVmx => (&["--bochs-cpu", "athlon64_venice"], "SVM"),
        }
    }

    /// How the tool announces a run on it.
    pub fn announcement(self) -> &'static str {
        match self {
            Platform::QemuSvm | Platform::Direct => "qemu-system-x86_64 -M q35",
            Platform::DirectMicrovm => "qemu-system-x86_64 -M microvm",
            Platform::BochsVmx => "bochs, model ",
        }
    }

    /// Whether a unikernel runs without HyperExo there.
    pub fn is_direct(self) -> bool {
        matches!(self, Platform::Direct | Platform::DirectMicrovm)
    }

    /// Word in the name of the emulator's program.
    pub fn program(self) -> &'static str {
        match self {
            Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm => "qemu-system",
            Platform::BochsVmx => "bochs",
        }
    }

    /// Exit status of a printed command for a status of the kernel.
    pub fn command_status(self, kernel: i32) -> i32 {
        match self {
            Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm => 2 * kernel + 1,
            Platform::BochsVmx => kernel.min(1),
        }
    }

    /// Seconds that a machine may take unless a test says otherwise.
    pub fn seconds(self) -> &'static str {
        match self {
            Platform::QemuSvm | Platform::Direct | Platform::DirectMicrovm => "30",
            Platform::BochsVmx => "90",
        }
    }
}
