//! `exo run`: images into a bundle, the bundle into a machine, the machine's lines to the user.

use crate::accel::Accel;
use crate::bench::write_lines;
use crate::bochs;
use crate::build::{Freshness, Source, images};
use crate::bundle::{self, Manifest};
use crate::checkout::{Checkout, write_atomically};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::machine::{EndBy, Machine};
use crate::machine_args::MachineArgs;
use crate::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::symbols::{self, Symbols};
use crate::units::{Extent, human_bytes, parse_size, thousands};
use hyperexo_abi::FRAME_BYTES;
use std::path::PathBuf;

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
