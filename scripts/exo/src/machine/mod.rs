//! A machine as data, and the QEMU command line it becomes. What Bochs makes of it: [`bochs`].

pub mod accel;
pub mod args;
pub mod bochs;
pub mod conditions;
pub mod direct;
mod firmware;
pub mod iso;
mod network;
pub mod publish;

use crate::machine::accel::Accel;
use crate::machine::network::Network;
use crate::units::shell_quote;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Path or name of QEMU.
    pub qemu: String,
    /// QEMU's machine type.
    pub board: Board,
    /// Value of QEMU's `-bios`; QEMU's choice if `None`, and where a boot image is booted.
    pub firmware: Option<&'static str>,
    /// What executes it.
    pub accel: Accel,
    /// Processor model, if not the accelerator's usual one.
    pub cpu: Option<String>,
    /// Cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// ELF of the kernel.
    pub kernel: PathBuf,
    /// The bundle; none if `kernel` is a unikernel that runs without HyperExo.
    pub bundle: Option<PathBuf>,
    /// That unikernel.
    pub direct: Option<Direct>,
    /// CD to boot from instead, with kernel, command line and bundle on it. QEMU only: Bochs always has one.
    pub boot_image: Option<PathBuf>,
    /// What the kernel does when it is done.
    pub end: EndBy,
    /// Further words of the kernel's command line.
    pub kernel_args: Vec<String>,
    /// The whole command line, for a kernel that is not HyperExo.
    pub command_line: Option<String>,
    /// The disk.
    pub disk: Option<Disk>,
    /// The network.
    pub network: Network,
    /// Takes every packet of the network device, in the format of libpcap.
    pub pcap: Option<PathBuf>,
    /// Whether there is a random-number device.
    pub rng: bool,
    /// The console, if it was asked for; else the serial port.
    pub console: Option<Console>,
    /// File that takes what is written to a virtio console; none: standard output does.
    pub console_file: Option<PathBuf>,
    /// Value of QEMU's `-icount`.
    pub icount: Option<String>,
    /// TCP port of a gdb stub; the machine waits for the debugger.
    pub gdb: Option<u16>,
    /// Path of the control socket.
    pub qmp: Option<PathBuf>,
    /// How long it may say nothing at all from its start; for ever if `None`.
    pub silence: Option<Duration>,
    /// Further arguments for QEMU, as they are.
    pub extra: Vec<String>,
}

/// Machine types of QEMU that HyperExo knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    /// PCI Express.
    Q35,
    /// PCI.
    Pc,
    /// No PCI, devices in memory; only for `--direct`.
    Microvm,
}

impl Board {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Board::Q35 => "q35",
            Board::Pc => "pc",
            Board::Microvm => "microvm",
        }
    }

    /// Its random-number device.
    fn rng(self) -> &'static str {
        match self {
            Board::Q35 | Board::Pc => "virtio-rng-pci",
            Board::Microvm => "virtio-rng-device",
        }
    }

    /// The device that holds its virtio consoles. On PCI QEMU would have another thread see to each request,
    /// which for a line takes longer than the request: 50,000 lines took 4.1 s that way under TCG, 1.1 s
    /// without, and 2.6 s on the serial port.
    fn console(self) -> &'static str {
        match self {
            Board::Q35 | Board::Pc => "virtio-serial-pci,ioeventfd=off",
            Board::Microvm => "virtio-serial-device",
        }
    }
}

/// The console of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Console {
    /// The first serial port.
    Serial,
    /// virtio-console, with the serial port for what can't go there.
    Virtio,
}

impl Console {
    /// The word for it on the command line of a unikernel.
    fn word(self) -> &'static str {
        match self {
            Console::Serial => "console=serial",
            Console::Virtio => "console=virtio",
        }
    }
}

/// A unikernel that runs directly on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Its name.
    pub name: String,
    /// Its command line.
    pub words: String,
    /// Whether its lines bear its name, so that this tool can tell them from those about the run.
    pub labelled: bool,
}

/// What the kernel does when all environments have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndBy {
    /// Ends QEMU with status 2S + 1.
    Exit,
    /// Halts, so that QEMU's counters can be read.
    Halt,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Raw image.
    pub image: PathBuf,
    /// Whether the machine may write it, and whether writes reach the image.
    pub writes: Writes,
    /// Limit of requests a second.
    pub iops: Option<u64>,
    /// Limit of megabytes (10⁶ bytes) a second.
    pub megabytes_per_second: Option<u64>,
    /// Rules of QEMU's `blkdebug` filter, which makes chosen requests fail.
    pub faults: Option<PathBuf>,
    /// Further properties of the device, as QEMU takes them.
    pub device_options: Option<String>,
}

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// To a temporary overlay: the image stays as it was.
    Discarded,
    /// To the image.
    Kept,
    /// Nowhere: the disk is read-only.
    Refused,
}

/// Name of the virtio console's character device in QEMU.
const CONSOLE: &str = "console";

/// Name of the disk's block device in QEMU.
pub const DRIVE: &str = "d0";

impl Machine {
    /// The program that runs it.
    pub fn emulator(&self) -> &str {
        match self.accel {
            Accel::Bochs => crate::machine::bochs::PROGRAM,
            Accel::Kvm | Accel::Tcg => &self.qemu,
        }
    }

    /// The words of the kernel's command line.
    pub fn kernel_command_line(&self) -> String {
        if let Some(line) = &self.command_line {
            return line.clone();
        }
        let end = match self.end {
            EndBy::Exit => "end=exit",
            EndBy::Halt => "end=halt",
        };
        let mut words = vec![end.to_owned()];
        if !self.kernel_args.iter().any(|word| word.starts_with("disk-timeout-ms=")) {
            words.push("disk-timeout-ms=30000".into());
        }
        words.extend(self.kernel_args.iter().cloned());
        if let Some(Direct { name, words: program, labelled }) = &self.direct {
            words.insert(0, format!("name={name}"));
            words.extend(self.console.map(|console| console.word().to_owned()));
            words.extend(labelled.then(|| "lines=labelled".to_owned()));
            words.extend(["--".to_owned(), program.clone()]);
        }
        words.join(" ").trim_end().to_owned()
    }

    /// What it is called: after the bundle, or after the unikernel that runs on it.
    pub fn label(&self) -> String {
        let file = self.bundle.as_ref().unwrap_or(&self.kernel);
        file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The arguments for QEMU.
    pub fn arguments(&self) -> Vec<String> {
        let cpu = self.cpu.as_deref().unwrap_or(self.accel.default_cpu());
        let mut args: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
        add("-M", self.board.name().into());
        add("-accel", self.accel.name().into());
        add("-cpu", cpu.into());
        add("-m", format!("size={}K", self.memory_bytes.div_ceil(1024)));
        if self.cores > 1 {
            add("-smp", self.cores.to_string());
        }
        match &self.boot_image {
            Some(image) => add("-cdrom", text(image)),
            None => {
                if let Some(file) = self.firmware {
                    add("-bios", file.into());
                }
                add("-kernel", text(&self.kernel));
                if let Some(bundle) = &self.bundle {
                    add("-initrd", text(bundle));
                }
                add("-append", self.kernel_command_line());
            }
        }
        add("-device", "isa-debug-exit,iobase=0xf4".into());
        match (self.console, &self.console_file) {
            (None | Some(Console::Serial), _) => add("-serial", "stdio".into()),
            // Both write to standard output, whoever has something to say.
            (Some(Console::Virtio), None) => {
                add("-chardev", format!("stdio,mux=on,id={CONSOLE}"));
                add("-serial", format!("chardev:{CONSOLE}"));
            }
            // QEMU drops what a pipe does not take at once; a file takes all.
            (Some(Console::Virtio), Some(file)) => {
                add("-serial", "stdio".into());
                add("-chardev", format!("file,id={CONSOLE},path={}", escape(file)));
            }
        }
        if self.console == Some(Console::Virtio) {
            add("-device", self.board.console().into());
            add("-device", format!("virtconsole,chardev={CONSOLE}"));
        }
        add("-display", "none".into());
        if let Some(disk) = &self.disk {
            add("-drive", disk.drive());
            add("-device", disk.device(self.board));
        }
        args.extend(self.network.arguments(self.board, self.pcap.is_some()));
        args.extend(self.pcap.iter().flat_map(|file| network::dump(file)));
        let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
        if self.rng {
            add("-device", self.board.rng().into());
        }
        if let Some(icount) = &self.icount {
            add("-icount", icount.clone());
        }
        if let Some(port) = self.gdb {
            add("-gdb", format!("tcp:127.0.0.1:{port}"));
        }
        if let Some(socket) = &self.qmp {
            add("-qmp", format!("unix:{},server=on,wait=off", text(socket)));
        }
        args.extend(["-nodefaults".into(), "-no-reboot".into()]);
        if self.gdb.is_some() {
            args.push("-S".into());
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// The command as a user can paste it into a shell.
    pub fn shell_command(&self) -> String {
        let words = std::iter::once(self.qemu.clone()).chain(self.arguments());
        words.map(|word| shell_quote(&word)).collect::<Vec<_>>().join(" ")
    }
}

impl Disk {
    /// The device in the machine.
    fn device(&self, board: Board) -> String {
        let bus = match board {
            Board::Q35 | Board::Pc => "virtio-blk-pci",
            Board::Microvm => "virtio-blk-device",
        };
        let mut device = format!("{bus},drive={DRIVE},rerror=report,werror=report");
        if let Some(options) = &self.device_options {
            device.push_str(&format!(",{options}"));
        }
        device
    }

    fn drive(&self) -> String {
        let file = match &self.faults {
            Some(rules) => format!("blkdebug:{}:{}", escape(rules), escape(&self.image)),
            None => escape(&self.image),
        };
        let mut drive = format!("if=none,id={DRIVE},file={file},format=raw");
        drive.push_str(match self.writes {
            Writes::Discarded => ",snapshot=on",
            Writes::Kept => "",
            Writes::Refused => ",readonly=on",
        });
        if let Some(iops) = self.iops {
            drive.push_str(&format!(",throttling.iops-total={iops}"));
        }
        if let Some(rate) = self.megabytes_per_second {
            drive.push_str(&format!(",throttling.bps-total={}", rate * 1_000_000));
        }
        drive
    }
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as a value in QEMU's option syntax, where a comma is doubled.
pub fn escape(path: &Path) -> String {
    text(path).replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            qemu: "qemu-system-x86_64".into(),
            board: Board::Q35,
            firmware: None,
            accel: Accel::Tcg,
            cpu: None,
            cores: 1,
            memory_bytes: 64 << 20,
            kernel: "k.elf".into(),
            bundle: Some("a b.bundle".into()),
            direct: None,
            boot_image: None,
            end: EndBy::Halt,
            kernel_args: vec![],
            command_line: None,
            disk: None,
            network: Network::None,
            pcap: None,
            rng: false,
            console: None,
            console_file: None,
            icount: None,
            gdb: None,
            qmp: None,
            silence: None,
            extra: vec![],
        }
    }

    #[test]
    fn the_printed_command_can_be_pasted() {
        let command = machine().shell_command();
        assert_eq!(
            command,
            "qemu-system-x86_64 -M q35 -accel tcg -cpu max -m size=65536K -kernel k.elf -initrd 'a b.bundle' \
             -append 'end=halt disk-timeout-ms=30000' -device isa-debug-exit,iobase=0xf4 -serial stdio \
             -display none -nodefaults -no-reboot"
        );
    }

    #[test]
    fn cores_and_boot_image_are_passed_on() {
        let machine =
            Machine { cores: 2, boot_image: Some("/b.iso".into()), firmware: Some("f.rom"), ..machine() };
        let command = machine.shell_command();
        assert!(command.contains("-smp 2 -cdrom /b.iso -device"), "{command}");
        let absent = ["-kernel", "-append", "-bios"];
        assert!(!absent.iter().any(|option| command.contains(option)), "{command}");
    }

    #[test]
    fn disks_are_described() {
        let mut disk = Disk {
            image: "/d,1.img".into(),
            writes: Writes::Discarded,
            iops: Some(100),
            megabytes_per_second: Some(20),
            faults: None,
            device_options: None,
        };
        assert_eq!(
            disk.drive(),
            "if=none,id=d0,file=/d,,1.img,format=raw,snapshot=on,throttling.iops-total=100,\
             throttling.bps-total=20000000"
        );
        disk = Disk { writes: Writes::Refused, iops: None, megabytes_per_second: None, ..disk };
        disk.faults = Some("/rules".into());
        assert_eq!(disk.drive(), "if=none,id=d0,file=blkdebug:/rules:/d,,1.img,format=raw,readonly=on");
    }

    #[test]
    fn a_unikernel_alone_gets_its_words_behind_a_mark() {
        let direct = Direct { name: "a".into(), words: "x=1 y".into(), labelled: true };
        let machine = Machine { board: Board::Microvm, bundle: None, direct: Some(direct), ..machine() };
        assert_eq!(
            machine.kernel_command_line(),
            "name=a end=halt disk-timeout-ms=30000 lines=labelled -- x=1 y"
        );
        let command = machine.shell_command();
        assert!(command.contains("-M microvm") && !command.contains("-initrd"), "{command}");
    }

    #[test]
    fn a_virtio_console_has_the_serial_port_beside_it() {
        let direct = Direct { name: "a".into(), words: String::new(), labelled: false };
        let console = Some(Console::Virtio);
        let mut machine = Machine { bundle: None, direct: Some(direct), console, ..machine() };
        let command = machine.shell_command();
        assert!(command.contains("disk-timeout-ms=30000 console=virtio --'"), "{command}");
        assert!(
            command.contains(
                "-chardev stdio,mux=on,id=console -serial chardev:console -device virtio-serial-pci,ioeventfd=off \
                 -device virtconsole,chardev=console"
            ),
            "{command}"
        );
        machine = Machine { board: Board::Microvm, console_file: Some("/a,b".into()), ..machine };
        let command = machine.shell_command();
        assert!(
            command.contains(
                "-serial stdio -chardev file,id=console,path=/a,,b -device virtio-serial-device -device virtconsole"
            ),
            "{command}"
        );
    }

    #[test]
    fn the_users_word_replaces_the_default() {
        let machine = Machine { kernel_args: vec!["disk-timeout-ms=5".into()], ..machine() };
        assert_eq!(machine.kernel_command_line(), "end=halt disk-timeout-ms=5");
    }
}
