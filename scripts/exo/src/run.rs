//! `exo run`: images into a bundle, the bundle into a machine, the machine's lines to the user.

use crate::accel::{Accel, Host};
use crate::bench::write_lines;
use crate::bochs;
use crate::build::{Freshness, Source, images};
use crate::bundle::{self, Manifest, Writable};
use crate::checkout::{Checkout, write_atomically};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::iso;
use crate::machine::{Board, Disk, EndBy, Machine, Writes};
use crate::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::symbols::{self, Symbols};
use crate::units::{Extent, human_bytes, parse_size, thousands};
use hyperexo_abi::FRAME_BYTES;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `exo run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  exo run hello\n  exo run hello hostile -- attempt=list\n  exo run --app \
                        'a=hello:greeting=1' --app 'b=hello' --memory 64M\n  exo run filecache --disk data/filecache.img \
                        --disk-mbps 20 -- workload=cs policy=own cache=80%\n  exo run hello --on bochs\n  exo run \
                        --cores 2 --app a=hello:spin-ms=200 --app b=hello:spin-ms=200 --core b=1"
)]
pub struct RunArgs {
    /// Unikernels to run, each as one environment: names of the checkout, directories of applications, or ELF files
    apps: Vec<String>,
    /// Words for the command line of every environment of APPS
    #[arg(last = true)]
    args: Vec<String>,
    /// An environment with words of its own: LABEL=APP:WORDS, where LABEL= and :WORDS can be left out; may be repeated
    #[arg(long = "app", value_name = "APP:WORDS")]
    labelled: Vec<String>,
    /// Runs a bundle made before, as it is
    #[arg(long, conflicts_with_all = ["apps", "labelled", "quota", "disk_extent", "disk_quota", "core"], value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Memory an environment may own, LABEL=SIZE, or SIZE for all; may be repeated (default: an equal share)
    #[arg(long, value_name = "SIZE")]
    quota: Vec<String>,
    /// Blocks of the disk for an environment, LABEL=FIRST+COUNT, or FIRST+COUNT (default: all of it for the first)
    #[arg(long, value_name = "FIRST+COUNT")]
    disk_extent: Vec<String>,
    /// Disk space an environment may allocate besides its blocks, LABEL=SIZE, or SIZE for all, in whole MiB
    #[arg(long, value_name = "SIZE")]
    disk_quota: Vec<String>,
    /// Core of an environment's first virtual CPU, LABEL=N, or N for all (default: 0)
    #[arg(long, value_name = "N")]
    core: Vec<String>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// Says less: no command line, no lines of the kernel, no summary
    #[arg(long, short)]
    quiet: bool,
    /// Writes the counters of each environment as a JSON line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the emulator's command, for use without exo, and does not run it
    #[arg(long)]
    print_command: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

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

    /// The time limit.
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// The machine for a kernel and a bundle.
    pub fn machine(&self, kernel: &Path, bundle: &Path) -> Result<Machine> {
        let accel = self.accelerator()?.0;
        let machine = Machine {
            qemu: self.qemu.clone(),
            board: self.machine,
            accel,
            cpu: if accel == Accel::Bochs { Some(self.bochs_cpu.clone()) } else { self.cpu.clone() },
            cores: self.cores,
            memory_bytes: self.memory,
            kernel: kernel.to_path_buf(),
            bundle: bundle.to_path_buf(),
            boot_image: None,
            // QEMU's counters are read after the kernel's end; Bochs has none, and is ended by the kernel.
            end: if accel == Accel::Bochs { EndBy::Exit } else { EndBy::Halt },
            kernel_args: self.kernel_args.clone(),
            disk: self.disk()?,
            icount: self.icount.clone(),
            gdb: self.gdb,
            qmp: None,
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
            modules: &[&machine.bundle],
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

    fn disk(&self) -> Result<Option<Disk>> {
        let Some(image) = &self.disk else { return Ok(None) };
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
        }))
    }

    fn writable(&self) -> Writable {
        if self.disk_read_only { Writable::No } else { Writable::Yes }
    }
}

/// One environment to be.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name.
    pub label: String,
    /// What runs in it.
    pub source: Source,
    /// Its command line.
    pub words: String,
    /// Bytes it may own; an equal share of the machine's memory if `None`.
    pub quota_bytes: Option<u64>,
    /// Its part of the disk.
    pub extent: Option<Extent>,
    /// Disk space it may allocate besides, in MiB.
    pub disk_quota_mib: u32,
    /// Core of its first virtual CPU.
    pub core: u32,
}

impl Environment {
    /// An environment with all defaults: an equal share of the memory, no disk, the first core.
    pub fn new(label: String, source: Source, words: String) -> Environment {
        Environment { label, source, words, quota_bytes: None, extent: None, disk_quota_mib: 0, core: 0 }
    }
}

/// The verb.
pub fn run(args: &RunArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let mut symbols = Symbols::default();
    let (kernel_file, bundle_file, count) = match &args.bundle {
        Some(path) => {
            let built = images(&checkout, &[], freshness)?;
            symbols.add(symbols::KERNEL, &built.kernel.elf);
            let bytes = std::fs::read(path).map_err(Error::io("read bundle", path))?;
            let several = bundle::names(path, &bytes).map(|names| names.len()).unwrap_or_else(|error| {
                eprintln!("exo: warning: {error}; booting it all the same");
                1
            });
            (built.kernel_file, path.clone(), several)
        }
        None => {
            let environments = environments(args, &checkout)?;
            let sources: Vec<Source> = environments.iter().map(|one| one.source.clone()).collect();
            let built = images(&checkout, &sources, freshness)?;
            let bundle =
                pack(&checkout, &built.kernel, &built.apps, &environments, &args.machine, &mut symbols)?;
            (built.kernel_file, bundle, environments.len())
        }
    };
    let mut machine = args.machine.machine(&kernel_file, &bundle_file)?;
    if args.print_command {
        machine.end = EndBy::Exit;
    }
    args.machine.make_boot_image(&mut machine, &checkout)?;
    if args.print_command {
        println!("{}", command_to_keep(&machine, &checkout)?);
        return Ok(());
    }
    if !args.quiet {
        announce(&machine, &args.machine.accelerator()?.1);
    }
    let mut print = Printer { symbols, several: count > 1, quiet: args.quiet };
    let outcome = session::run(&machine, args.machine.limit(), &mut |line, _| print.line(line))?;
    if !args.quiet {
        summary(&outcome);
    }
    if let Some(path) = &args.json {
        write_lines(path, outcome.accounting.iter())?;
    }
    outcome.check()
}

/// Says which command is run, and on what.
pub fn announce(machine: &Machine, why: &str) {
    eprintln!("exo: accelerator {}: {why}", machine.accel.name());
    if machine.accel == Accel::Bochs {
        let cpu = machine.cpu.as_deref().unwrap_or(bochs::DEFAULT_CPU);
        let (memory, cores) = (human_bytes(machine.memory_bytes), machine.cores);
        eprintln!("exo: bochs, model {cpu}, cores {cores}, {memory} (--print-command: with files that stay)");
    } else {
        eprintln!("exo: {}", machine.shell_command());
    }
}

/// A command that runs the machine without this tool. For Bochs, its files are made in a directory that stays.
fn command_to_keep(machine: &Machine, checkout: &Checkout) -> Result<String> {
    if machine.accel != Accel::Bochs {
        return Ok(machine.shell_command());
    }
    let name = machine.bundle.file_stem().unwrap_or_default();
    let folder = checkout.artefacts("bochs")?.join(name);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    Ok(bochs::prepare(machine, &folder)?.shell_command())
}

/// The environments that the arguments describe.
fn environments(args: &RunArgs, checkout: &Checkout) -> Result<Vec<Environment>> {
    let common = args.args.join(" ");
    let mut list: Vec<Environment> = Vec::new();
    let plain = args.apps.iter().map(|app| (None, app.as_str(), common.as_str()));
    let labelled = args.labelled.iter().map(|text| split_label(text));
    for (label, app, words) in plain.chain(labelled) {
        let source = Source::of(app, checkout)?;
        let label = label.map_or_else(|| unused_label(&source.name(), &list), str::to_owned);
        if list.iter().any(|other| other.label == label) {
            let fix = "give each a name of its own: --app NAME=APP".to_owned();
            return Err(Error::Argument { what: format!("two environments named {label}"), fix });
        }
        list.push(Environment::new(label, source, words.to_owned()));
    }
    if list.is_empty() {
        let fix = format!("exo run hello; there are {}", checkout.unikernels()?.join(", "));
        return Err(Error::Argument { what: "no application to run".into(), fix });
    }
    for text in &args.quota {
        for one in addressed(&mut list, text)?.1 {
            let bytes = parse_size(text.rsplit('=').next().unwrap_or(text));
            one.quota_bytes =
                Some(bytes.map_err(|what| Error::Argument { what, fix: "--quota 64M".into() })?);
        }
    }
    for text in &args.disk_extent {
        let (extent, chosen) = addressed(&mut list, text)?;
        let extent: Extent = extent
            .parse()
            .map_err(|what| Error::Argument { what, fix: "--disk-extent LABEL=0+1024".into() })?;
        for one in chosen {
            one.extent = Some(extent);
        }
    }
    place(&mut list, args)?;
    if args.machine.disk.is_some() && args.disk_extent.is_empty() {
        list[0].extent = Some(Extent::ALL);
    }
    Ok(list)
}

/// Reads `--disk-quota` and `--core`.
fn place(list: &mut [Environment], args: &RunArgs) -> Result<()> {
    for text in &args.disk_quota {
        let (size, chosen) = addressed(list, text)?;
        let wrong = |what| Error::Argument { what, fix: "--disk-quota LABEL=16M".into() };
        let bytes = parse_size(size).map_err(wrong)?;
        let mib = u32::try_from(bytes >> 20).ok().filter(|mib| u64::from(*mib) << 20 == bytes);
        let mib = mib.ok_or_else(|| wrong(format!("{size} is not a number of whole MiB")))?;
        chosen.into_iter().for_each(|one| one.disk_quota_mib = mib);
    }
    let cores = args.machine.cores;
    for text in &args.core {
        let (number, chosen) = addressed(list, text)?;
        let core = number.parse().ok().filter(|core| *core < cores).ok_or_else(|| Error::Argument {
            what: format!("{number:?} is none of the machine's cores"),
            fix: format!("there are {cores}, from 0 on; --cores N gives it more"),
        })?;
        chosen.into_iter().for_each(|one| one.core = core);
    }
    Ok(())
}

/// `[LABEL=]APP[:WORDS]` into its parts.
fn split_label(text: &str) -> (Option<&str>, &str, &str) {
    let (left, words) = text.split_once(':').unwrap_or((text, ""));
    match left.split_once('=') {
        Some((label, app)) => (Some(label), app, words),
        None => (None, left, words),
    }
}

/// The value of `[LABEL=]VALUE` and the environments it is for: the one of that label, or all.
fn addressed<'t, 'l>(
    list: &'l mut [Environment],
    text: &'t str,
) -> Result<(&'t str, Vec<&'l mut Environment>)> {
    let Some((label, value)) = text.split_once('=') else {
        return Ok((text, list.iter_mut().collect()));
    };
    let labels: Vec<String> = list.iter().map(|one| one.label.clone()).collect();
    match list.iter_mut().find(|one| one.label == label) {
        Some(one) => Ok((value, vec![one])),
        None => Err(Error::Argument {
            what: format!("{text:?}: no environment named {label}"),
            fix: format!("there are {}", labels.join(", ")),
        }),
    }
}

fn unused_label(name: &str, taken: &[Environment]) -> String {
    let free = |label: &String| taken.iter().all(|other| other.label != *label);
    std::iter::once(name.to_owned())
        .chain((2..).map(|number| format!("{name}-{number}")))
        .find(free)
        .unwrap_or_default()
}

/// Packs the environments, whose images are `apps`, into a bundle file and tells `symbols` where their symbols are. The file is named after its
/// content, so that runs do not get into each other's way and a printed command stays valid.
pub fn pack(
    checkout: &Checkout,
    kernel: &Image,
    apps: &[Image],
    environments: &[Environment],
    machine: &MachineArgs,
    symbols: &mut Symbols,
) -> Result<PathBuf> {
    symbols.add(symbols::KERNEL, &kernel.elf);
    let share = machine.memory / environments.len().max(1) as u64;
    let mut parts = Vec::new();
    for (one, image) in environments.iter().zip(apps) {
        symbols.add(&one.label, &image.elf);
        let manifest = Manifest {
            name: one.label.clone(),
            command_line: one.words.clone(),
            quota_frames: one.quota_bytes.unwrap_or(share) / FRAME_BYTES as u64,
            disk: one.extent.map(|extent| (extent, machine.writable())),
            disk_quota_mib: one.disk_quota_mib,
            core: one.core,
        };
        parts.push((manifest, image.bytes.as_slice()));
    }
    let bytes = bundle::write(&parts)?;
    let name: Vec<&str> = environments.iter().map(|one| one.label.as_str()).take(3).collect();
    let file = format!("{}-{:08x}.bundle", name.join("+"), crc32fast::hash(&bytes));
    let path = checkout.artefacts("bundles")?.join(file);
    write_atomically(&path, &bytes)?;
    Ok(path)
}

/// Shows the lines of a machine: the environments' on standard output, the kernel's on standard error.
pub struct Printer {
    /// For backtraces.
    pub symbols: Symbols,
    /// Whether there are several environments, whose lines need their names.
    pub several: bool,
    /// Whether to leave out the kernel's lines.
    pub quiet: bool,
}

impl Printer {
    /// Shows one line.
    pub fn line(&mut self, line: &str) {
        match parse(line) {
            Line::Guest { name, text } => {
                let text = self.symbols.annotate(name, text);
                if self.several {
                    println!("{name}| {text}");
                } else {
                    println!("{text}");
                }
            }
            Line::Kernel(text) if !self.quiet => {
                eprintln!("hyperexo: {}", self.symbols.annotate(symbols::KERNEL, text));
            }
            Line::Other(text) if !self.quiet => eprintln!("{text}"),
            // Shown by the summary, or as the error.
            _ => {}
        }
    }
}

fn summary(outcome: &Outcome) {
    for (name, end) in &outcome.ends {
        let Some(counters) = outcome.accounting_of(name) else {
            eprintln!("exo: {name} ended: {end}");
            continue;
        };
        let exits: u64 = counters.exits.values().sum();
        eprintln!(
            "exo: {name} ended: {end}; {} exits, {} blocks read, {} written, at most {} frames",
            thousands(exits),
            thousands(counters.disk_blocks_read),
            thousands(counters.disk_blocks_written),
            thousands(counters.peak_frames),
        );
    }
    eprintln!(
        "exo: {:.2} s from the emulator's start to the kernel's last line",
        outcome.elapsed.as_secs_f64()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(split_label("hello"), (None, "hello", ""));
        assert_eq!(split_label("a=hello:x=1 y=2"), (Some("a"), "hello", "x=1 y=2"));
        assert_eq!(split_label("hello:x=1"), (None, "hello", "x=1"));
    }
}
