//! Bochs: an emulator that implements Intel VMX, nested paging included.
//!
//! A machine is a directory with a boot image and a configuration. Debian's build has a debugger, which waits
//! at its prompt unless it is given commands: `c` starts the machine, and when the kernel returns to the
//! debugger at a good end, `q` ends Bochs with status 0. Everything else (a shutdown asked for, a triple
//! fault, a panic of Bochs) ends it with another.

use crate::error::{Error, Result};
use crate::host::output::write_atomically;
use crate::host::programs::program_path;
use crate::machine::iso;
use crate::machine::network::Network;
use crate::machine::{Machine, Writes};
use crate::units::shell_quote;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program.
pub const PROGRAM: &str = "bochs";
/// The processor model unless the user names one.
pub const DEFAULT_CPU: &str = "corei7_haswell_4770";
/// Emulated instructions in a second of the machine's time. Fewer make time pass faster for a guest that
/// waits or spins.
const INSTRUCTIONS_PER_SECOND: u32 = 10_000_000;
/// Largest memory that Bochs gives a machine, in MiB.
const MOST_MEMORY_MIB: u64 = 2048;

/// Mark of the message with which Bochs gives up.
pub const PANIC: &str = ">>PANIC<<";

/// Files besides the program that a machine needs: name, directories to look in, Debian package.
const FIRMWARE: [(&str, &[&str], &str); 2] = [
    ("BIOS-bochs-latest", &["/usr/share/bochs", "/usr/local/share/bochs"], "bochsbios"),
    ("VGABIOS-lgpl-latest", &["/usr/share/bochs", "/usr/local/share/bochs"], "vgabios"),
];
/// Where Bochs keeps its plugins, if it has any.
const PLUGINS: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/bochs/plugins", "/usr/lib/bochs/plugins", "/usr/local/lib/bochs/plugins"];

/// A machine made ready in a directory.
pub struct Prepared {
    folder: PathBuf,
    /// Grows while the machine runs.
    pub serial: PathBuf,
    /// What Bochs itself says.
    pub log: PathBuf,
}

/// The first thing that Bochs lacks on this host: what, and the Debian package that has it.
pub fn missing() -> Option<(&'static str, &'static str)> {
    if program_path(PROGRAM).is_none() {
        return Some((PROGRAM, "bochs"));
    }
    let absent = FIRMWARE.iter().find(|(name, folders, _)| find(name, folders).is_none());
    if let Some((name, _, package)) = absent {
        return Some((name, package));
    }
    match display() {
        Some(_) => iso::missing(),
        None => Some(("Bochs's display library term", "bochs-term")),
    }
}

/// Where the display library is; a build without plugins has its displays built in.
fn display() -> Option<PathBuf> {
    let Some(folder) = PLUGINS.iter().map(Path::new).find(|folder| folder.is_dir()) else {
        return program_path(PROGRAM);
    };
    Some(folder.join("libbx_term_gui.so")).filter(|path| path.exists())
}

/// Files besides the program: name, Debian package, and where it is if it is there.
pub fn files() -> Vec<(&'static str, &'static str, Option<PathBuf>)> {
    let firmware = FIRMWARE.iter().map(|(name, folders, package)| (*name, *package, find(name, folders)));
    firmware.chain([("display library term", "bochs-term", display())]).collect()
}

fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// What Bochs says about its version. It has no option for that alone.
pub fn version() -> Option<String> {
    let output = Command::new(PROGRAM).args(["--help", "cpu"]).output().ok()?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = text.lines().find(|line| line.contains("Emulator") && line.contains("Bochs"))?;
    Some(line.trim().to_owned())
}

/// Refuses what Bochs can't do.
pub fn check(machine: &Machine) -> Result<()> {
    let refuse = |what: &str, fix: &str| {
        Err(Error::Argument { what: format!("{what} is not possible on Bochs"), fix: fix.to_owned() })
    };
    if machine.direct.is_some() && machine.disk.is_some() {
        return refuse("a disk without HyperExo", "Bochs has no virtio; use --on qemu");
    }
    if let Some(disk) = &machine.disk {
        // The disk is a copy in memory, read whole before the kernel starts.
        let slowed = disk.iops.is_some() || disk.megabytes_per_second.is_some();
        if slowed || disk.faults.is_some() {
            return refuse("a disk that is slowed down or fails", "leave it out, or use --on qemu");
        }
        if disk.writes == Writes::Kept {
            return refuse("--keep-writes", "the disk is a copy in memory; use --on qemu to keep writes");
        }
    }
    if !matches!(machine.network, Network::None | Network::Loopback) {
        return refuse("a network device", "use --net loopback, or --on qemu");
    }
    if machine.icount.is_some() || machine.gdb.is_some() || !machine.extra.is_empty() {
        return refuse("--icount, --gdb or --qemu-arg", "leave it out, or use --on qemu");
    }
    if memory_mib(machine) > MOST_MEMORY_MIB {
        return refuse("that much memory", "--memory 2G is the most");
    }
    Ok(())
}

fn memory_mib(machine: &Machine) -> u64 {
    machine.memory_bytes.div_ceil(1 << 20)
}

/// Makes boot image and configuration in `folder`.
pub fn prepare(machine: &Machine, folder: &Path) -> Result<Prepared> {
    if let Some((program, package)) = missing() {
        return Err(Error::NotInstalled { program: program.into(), package });
    }
    check(machine)?;
    let image = folder.join("image.iso");
    let command_line = machine.kernel_command_line();
    let disk = machine.disk.as_ref().map(|disk| disk.image.as_path());
    let modules: Vec<&Path> = machine.bundle.as_deref().into_iter().chain(disk).collect();
    let contents = iso::Contents { kernel: &machine.kernel, command_line: &command_line, modules: &modules };
    iso::write(&image, &contents, folder)?;
    let prepared = Prepared {
        folder: folder.to_path_buf(),
        serial: folder.join("serial.txt"),
        log: folder.join("bochs.log"),
    };
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        write_atomically(&path, text.as_bytes())
    };
    write("bochsrc", &configuration(machine, &prepared)?)?;
    write("commands", "c\nq\n")?;
    // It is read from the start of the machine on.
    write("serial.txt", "")?;
    Ok(prepared)
}

impl Prepared {
    /// The command that runs the machine. Its paths are absolute.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-q").arg("-f").arg(self.folder.join("bochsrc"));
        command.arg("-rc").arg(self.folder.join("commands")).env("TERM", "vt100");
        command
    }

    /// The command as a user can paste it into a shell; it ends with the lines of the
    /// machine and with the status of Bochs.
    pub fn shell_command(&self) -> String {
        let quoted = |name: &str| shell_quote(&self.folder.join(name).to_string_lossy());
        format!(
            "(TERM=vt100 {PROGRAM} -q -f {} -rc {} </dev/null >{}; status=$?; cat {}; exit $status)",
            quoted("bochsrc"),
            quoted("commands"),
            quoted("screen.txt"),
            quoted("serial.txt")
        )
    }

    /// Why Bochs gave up, in its own words: the last panic or error in its log.
    pub fn complaint(&self) -> Option<String> {
        let bytes = std::fs::read(&self.log).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        // Lines look like `00049047587p[CPU0  ] >>PANIC<< text`.
        let serious = |line: &&str| {
            line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['p', 'e'])
                && line.contains('[')
        };
        text.lines().rev().find(serious).map(str::to_owned)
    }
}

/// The configuration file.
fn configuration(machine: &Machine, prepared: &Prepared) -> Result<String> {
    let cpu = machine.cpu.as_deref().unwrap_or(DEFAULT_CPU);
    let firmware = |index: usize| {
        let (name, folders, package) = FIRMWARE[index];
        let missing = || Error::NotInstalled { program: name.into(), package };
        find(name, folders).map(|path| path.display().to_string()).ok_or_else(missing)
    };
    let (bios, video) = (firmware(0)?, firmware(1)?);
    let image = prepared.folder.join("image.iso");
    let memory = memory_mib(machine);
    let (cores, serial, log) = (machine.cores, prepared.serial.display(), prepared.log.display());
    // The clock runs on instructions alone and starts at a fixed date: two runs are the same to the tick.
    Ok(format!(
        "config_interface: textconfig
display_library: term
plugin_ctrl: speaker=false, parallel=false, gameport=false
sound: driver=dummy
speaker: enabled=0
cpu: model={cpu}, count={cores}, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file=\"{bios}\", options=fastboot
vgaromimage: file=\"{video}\"
pci: enabled=1, chipset=i440fx
ata0-master: type=cdrom, path=\"{image}\", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=\"{serial}\"
port_e9_hack: enabled=1
clock: sync=none, time0=946684800
log: \"{log}\"
panic: action=fatal
error: action=report
",
        image = image.display()
    ))
}
