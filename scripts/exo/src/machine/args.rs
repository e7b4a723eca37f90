//! The machine as the user describes it: arguments that several verbs share.

use crate::build::image::memory_end;
use crate::bundle::Writable;
use crate::bundle::environments::Supply;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::disk_image;
use crate::machine::accel::{Accel, Host};
use crate::machine::bochs;
use crate::machine::firmware::Firmware;
use crate::machine::iso;
use crate::machine::network::Network;
use crate::machine::publish::Publish;
use crate::machine::{Board, Console, Direct, Disk, EndBy, Machine, Writes};
use crate::units::{human_bytes, parse_size};
use hyperexo_abi::FRAME_BYTES;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The machine that everything runs on; common to several verbs.
#[derive(Clone, Debug, clap::Args)]
pub struct MachineArgs {
    /// Memory of the machine
    #[arg(long, default_value = "256M", value_parser = parse_size, value_name = "SIZE")]
    pub memory: u64,
    /// Raw disk image
    #[arg(long, value_name = "IMG")]
    pub disk: Option<PathBuf>,
    /// Lets writes reach the image; without this they go to a temporary snapshot
    #[arg(long, requires = "disk")]
    pub keep_writes: bool,
    /// A snapshot takes the writes and is dropped at the end (the default)
    #[arg(long, conflicts_with = "keep_writes")]
    pub snapshot: bool,
    /// A disk that refuses writes
    #[arg(long, requires = "disk", conflicts_with = "keep_writes")]
    pub disk_read_only: bool,
    /// Slows the disk down to so many requests a second
    #[arg(long, value_name = "N")]
    pub disk_iops: Option<u64>,
    /// Slows the disk down to so many megabytes (10^6 bytes) a second
    #[arg(long, value_name = "N")]
    pub disk_mbps: Option<u64>,
    /// Makes chosen disk requests fail, by rules of QEMU's blkdebug filter
    #[arg(long, requires = "disk", value_name = "RULES")]
    pub disk_faults: Option<PathBuf>,
    /// Further properties of the disk's device, as QEMU takes them, such as queue-size=64
    #[arg(long, requires = "disk", value_name = "KEY=VALUE,...")]
    pub disk_device: Option<String>,
    /// Network: none, loopback (environments among each other), user (QEMU's own host 10.0.2.2, cut off from
    /// the world but for --publish), tap:NAME (a tap device of the host) or dgram:LOCAL:REMOTE (another
    /// program, by UNIX datagram sockets). Each environment gets a hardware address
    #[arg(long, default_value_t, value_name = "NET")]
    pub net: Network,
    /// With --net user: a port of 127.0.0.1 that leads to one of the machine, such as 8080:80 or 5353:53/udp;
    /// port 0 takes a free one. May be repeated
    #[arg(long, value_name = "HOST:MACHINE")]
    pub publish: Vec<Publish>,
    /// Writes every packet of the network device to a file that tshark and Wireshark read
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// A random-number device, for a unikernel that runs with --direct
    #[arg(long)]
    pub rng: bool,
    /// Console of a unikernel that runs with --direct: the first serial port (the default), or virtio-console
    #[arg(long, value_enum, value_name = "CONSOLE")]
    pub console: Option<Console>,
    /// Emulator: bochs has Intel VMX, and the disk is a copy in memory there
    #[arg(long, value_enum, value_name = "EMULATOR")]
    pub on: Option<Emulator>,
    /// What executes the machine (default: what suits the emulator best)
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// Cores of the machine
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: u32,
    /// Machine type of QEMU
    #[arg(long, value_enum, default_value = "q35")]
    pub machine: Board,
    /// How QEMU starts the kernel: by PVH, or by GRUB from a CD (as Bochs always does)
    #[arg(long, value_enum, default_value = "pvh")]
    pub boot: Boot,
    /// What QEMU's q35 and pc start with
    #[arg(long, value_enum, default_value = "auto")]
    pub firmware: Firmware,
    /// Processor model of QEMU (default: max under tcg, host under kvm)
    #[arg(long)]
    pub cpu: Option<String>,
    /// Processor model of Bochs
    #[arg(long, default_value = bochs::DEFAULT_CPU, value_name = "MODEL")]
    pub bochs_cpu: String,
    /// Counts instructions instead of time: value of QEMU's -icount, such as shift=0,sleep=off
    #[arg(long, value_name = "SPEC")]
    pub icount: Option<String>,
    /// Ends the machine after so many seconds, as a failure
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Ends the machine, as a failure, if it has not written a single byte to any console after so many
    /// seconds from its start; 0 lets it be silent for ever, as --gdb does
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub silence: u64,
    /// Waits for a debugger on this TCP port of the local host
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "1234")]
    pub gdb: Option<u16>,
    /// Words for the kernel's command line, such as slice-us=1000
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub kernel_args: Vec<String>,
    /// QEMU to use
    #[arg(long, default_value = "qemu-system-x86_64", value_name = "PATH")]
    pub qemu: String,
    /// One argument passed to QEMU as it is; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
}

/// The user's choice of accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccelChoice {
    /// The best this host offers.
    Auto,
    /// The host's processor.
    Kvm,
    /// QEMU's emulator.
    Tcg,
    /// Bochs.
    Bochs,
}

/// Emulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Emulator {
    /// QEMU.
    Qemu,
    /// Bochs.
    Bochs,
}

/// How QEMU starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    /// Directly, by the PVH protocol.
    Pvh,
    /// By GRUB from a CD.
    Multiboot2,
}

impl MachineArgs {
    /// The machine that these words describe on the command line: for machines that this tool asks for
    /// itself.
    pub fn of(words: &[&str]) -> Result<MachineArgs> {
        let command =
            <MachineArgs as clap::Args>::augment_args(clap::Command::new("machine").no_binary_name(true));
        let wrong = |error: clap::Error| Error::Argument {
            what: format!("a machine of the words {}", words.join(" ")),
            fix: error.to_string(),
        };
        let matches = command.try_get_matches_from(words).map_err(wrong)?;
        clap::FromArgMatches::from_arg_matches(&matches).map_err(wrong)
    }

    /// The accelerator, and why it was taken.
    pub fn accelerator(&self) -> Result<(Accel, String)> {
        let asked = |accel| Ok((accel, "asked for".to_owned()));
        match (self.on, self.accel) {
            (Some(Emulator::Bochs), AccelChoice::Auto | AccelChoice::Bochs) | (None, AccelChoice::Bochs) => {
                asked(Accel::Bochs)
            }
            (Some(Emulator::Bochs), AccelChoice::Kvm | AccelChoice::Tcg)
            | (Some(Emulator::Qemu), AccelChoice::Bochs) => Err(Error::Argument {
                what: "--on and --accel contradict each other".into(),
                fix: "leave --accel out".into(),
            }),
            (_, AccelChoice::Auto) => Ok(Host::look().choose()),
            (_, AccelChoice::Kvm) => asked(Accel::Kvm),
            (_, AccelChoice::Tcg) => asked(Accel::Tcg),
        }
    }

    /// The accelerator for a unikernel without HyperExo, which needs no virtualization of its own, and why it
    /// was taken.
    pub fn direct_accelerator(&self) -> Result<(Accel, String)> {
        match (self.on, self.accel) {
            (None | Some(Emulator::Qemu), AccelChoice::Auto) => Ok(Host::look().choose_direct()),
            _ => self.accelerator(),
        }
    }

    /// The time limit.
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// The machine for a kernel and a bundle.
    pub fn machine(&self, kernel: &Path, bundle: &Path) -> Result<Machine> {
        if self.machine == Board::Microvm {
            return Err(Error::Argument {
                what: "HyperExo needs a machine with PCI, which microvm has not".into(),
                fix: "--machine q35, or --direct to run one unikernel without HyperExo".into(),
            });
        }
        self.booting(kernel, Some(bundle.to_path_buf()), None)
    }

    /// The machine for a unikernel without HyperExo.
    pub fn direct_machine(&self, image: &Path, direct: Direct) -> Result<Machine> {
        self.booting(image, None, Some(direct))
    }

    /// What QEMU starts with, if it is not what the machine type has.
    pub fn firmware_file(&self) -> Option<&'static str> {
        match self.boot {
            Boot::Pvh => self.firmware.file(&self.qemu, self.machine),
            Boot::Multiboot2 => None,
        }
    }

    fn booting(&self, kernel: &Path, bundle: Option<PathBuf>, direct: Option<Direct>) -> Result<Machine> {
        let accel = match direct {
            Some(_) => self.direct_accelerator()?.0,
            None => self.accelerator()?.0,
        };
        if self.rng && (direct.is_none() || accel == Accel::Bochs) {
            return Err(Error::Argument {
                what: "--rng: only a unikernel that runs directly on QEMU can use a random-number device"
                    .into(),
                fix:
                    "leave it out (the processor's generator is there for environments too), or add --direct"
                        .into(),
            });
        }
        if self.console == Some(Console::Virtio) {
            let refuse = |what: &str, fix: &str| {
                Err(Error::Argument { what: format!("--console virtio: {what}"), fix: fix.into() })
            };
            if direct.is_none() {
                return refuse(
                    "HyperExo writes to the serial port alone, for itself and for environments",
                    "leave it out, or add --direct to run one unikernel without HyperExo",
                );
            }
            if accel == Accel::Bochs {
                return refuse("Bochs has no virtio", "leave it out, or use --on qemu");
            }
        }
        self.check_room(kernel, bundle.as_deref())?;
        let by_pvh = accel != Accel::Bochs && self.boot == Boot::Pvh;
        if self.firmware == Firmware::Qboot && !by_pvh {
            return Err(Error::Argument {
                what: "--firmware qboot: it can boot nothing but what QEMU's -kernel names".into(),
                fix: "leave it out, or leave --on bochs and --boot multiboot2 out".into(),
            });
        }
        let machine = Machine {
            qemu: self.qemu.clone(),
            board: self.machine,
            firmware: if by_pvh { self.firmware_file() } else { None },
            accel,
            cpu: if accel == Accel::Bochs { Some(self.bochs_cpu.clone()) } else { self.cpu.clone() },
            cores: self.cores,
            memory_bytes: self.memory,
            kernel: kernel.to_path_buf(),
            bundle,
            direct,
            boot_image: None,
            // QEMU's counters are read after the kernel's end; Bochs has none, and is ended by the kernel.
            end: if accel == Accel::Bochs { EndBy::Exit } else { EndBy::Halt },
            kernel_args: self.kernel_args.clone(),
            command_line: None,
            disk: self.disk()?,
            network: self.network()?,
            pcap: self.pcap.clone(),
            rng: self.rng,
            console: self.console,
            console_file: None,
            icount: self.icount.clone(),
            gdb: self.gdb,
            qmp: None,
            // It waits for the debugger first.
            silence: Some(self.silence)
                .filter(|_| self.gdb.is_none())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            extra: self.qemu_arg.clone(),
        };
        if accel == Accel::Bochs {
            bochs::check(&machine)?;
        }
        Ok(machine)
    }

    /// Makes the CD from which QEMU boots the machine, if that is how.
    pub fn make_boot_image(&self, machine: &mut Machine, checkout: &Checkout) -> Result<()> {
        if self.boot == Boot::Pvh || machine.accel == Accel::Bochs {
            return Ok(());
        }
        let command_line = machine.kernel_command_line();
        let contents = iso::Contents {
            kernel: &machine.kernel,
            command_line: &command_line,
            modules: &machine.bundle.iter().map(PathBuf::as_path).collect::<Vec<_>>(),
        };
        let folder = checkout.artefacts("boot")?;
        let scratch = tempfile::tempdir_in(&folder).map_err(Error::io("create a directory in", &folder))?;
        let made = scratch.path().join("image.iso");
        iso::write(&made, &contents, scratch.path())?;
        let bytes = std::fs::read(&made).map_err(Error::io("read", &made))?;
        let image = folder.join(format!("{:08x}.iso", crc32fast::hash(&bytes)));
        std::fs::rename(&made, &image).map_err(Error::io("create", &image))?;
        machine.boot_image = Some(image);
        Ok(())
    }

    /// Refuses a machine in whose memory the kernel and the bundle would not lie side by side: it could not
    /// even say so.
    fn check_room(&self, kernel: &Path, bundle: Option<&Path>) -> Result<()> {
        let file = std::fs::read(kernel).map_err(Error::io("read", kernel))?;
        let behind = match bundle {
            None => 0,
            // The loader puts it on pages of its own.
            Some(path) => {
                path.metadata().map_err(Error::io("read", path))?.len().next_multiple_of(FRAME_BYTES as u64)
            }
        };
        let Some(end) = memory_end(&file).map(|end| end.next_multiple_of(FRAME_BYTES as u64) + behind) else {
            return Ok(());
        };
        if end <= self.memory {
            return Ok(());
        }
        let with = bundle.map_or("", |_| " with its bundle");
        Err(Error::Argument {
            what: format!(
                "--memory {}: {}{with} alone reaches up to {end} bytes",
                human_bytes(self.memory),
                kernel.display()
            ),
            fix: format!("give the machine more, such as --memory {}M", (end >> 20) + 8),
        })
    }

    fn network(&self) -> Result<Network> {
        let network = self.net.prepared(&self.publish)?;
        if self.pcap.is_some() && !network.has_device() {
            return Err(Error::Argument {
                what: format!("--pcap with --net {network}: there is no network device"),
                fix: "give it one, such as --net user".into(),
            });
        }
        if let Network::User(publish) = &network {
            publish.iter().for_each(|port| eprintln!("exo: {}", port.told()));
        }
        Ok(network)
    }

    fn disk(&self) -> Result<Option<Disk>> {
        let Some(image) = &self.disk else { return Ok(None) };
        disk_image::check_raw(image)?;
        let absolute = |path: &Path| path.canonicalize().map_err(Error::io("open disk image", path));
        Ok(Some(Disk {
            image: absolute(image)?,
            writes: match (self.disk_read_only, self.keep_writes) {
                (true, _) => Writes::Refused,
                (false, true) => Writes::Kept,
                (false, false) => Writes::Discarded,
            },
            iops: self.disk_iops,
            megabytes_per_second: self.disk_mbps,
            faults: self.disk_faults.as_deref().map(absolute).transpose()?,
            device_options: self.disk_device.clone(),
        }))
    }

    /// What the machine has to give to environments.
    pub fn supply(&self) -> Supply {
        let rights = if self.disk_read_only { Writable::No } else { Writable::Yes };
        Supply {
            memory_bytes: self.memory,
            cores: self.cores,
            disk: self.disk.as_ref().map(|_| rights),
            network: self.net.is_on(),
        }
    }
}
