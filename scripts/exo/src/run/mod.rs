//! `exo run`: images into a bundle, the bundle into a machine, the machine's lines to the user.

mod recording;
mod services;

use crate::build::image::Image;
use crate::build::symbols::{self, Symbols};
use crate::build::{Freshness, Source, images};
use crate::bundle;
use crate::bundle::environments::{EnvironmentArgs, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::children;
use crate::host::disk_image;
use crate::host::output::{expect, write_lines};
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::machine::bochs;
use crate::machine::direct;
use crate::machine::{EndBy, Machine};
use crate::run::recording::Recording;
use crate::run::services::Services;
use crate::session::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::units::{human_bytes, thousands};
use std::path::PathBuf;

/// Arguments of `exo run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ctrl-C or SIGTERM presses the machine's power button: volumes are committed, the program ends, and the status is \
                        its own. Asked once more, or after 10 s, the machine is taken away, with status 130.\n\nExamples:\n  exo run hello\n  exo run hello hostile -- attempt=list\n  exo run --app \
                        'a=hello:greeting=1' --app 'b=hello' --memory 64M\n  exo run filecache --disk data/filecache.img \
                        --disk-mbps 20 -- workload=cs policy=own cache=80%\n  exo run hello --on bochs\n  exo run --direct hello \
                        --machine microvm\n  exo run \
                        --cores 2 --app a=hello:spin-ms=200 --app b=hello:spin-ms=200 --core b=1"
)]
pub struct RunArgs {
    #[command(flatten)]
    environments: EnvironmentArgs,
    /// Runs a bundle made before, as it is
    #[arg(long, conflicts_with_all = ["apps", "labelled", "quota", "disk_extent", "disk_quota", "core"], value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Runs one unikernel without HyperExo: the same image, directly on the machine
    #[arg(long, conflicts_with_all = ["bundle", "quota", "disk_extent", "disk_quota", "core"])]
    direct: bool,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// Features to build with, such as httpd/tls; may be repeated
    #[arg(long, value_name = "PACKAGE/FEATURE", value_delimiter = ',', conflicts_with = "no_build")]
    features: Vec<String>,
    /// Says less: no command line, no lines of the kernel, no summary
    #[arg(long, short)]
    quiet: bool,
    /// Writes the counters of each environment as a JSON line, and one for each published port and for each
    /// server that has said where it listens
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the references of the unikernel to blocks of its files, for `exo cache simulate`
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    record_references: Option<PathBuf>,
    /// Prints the emulator's command, for use without exo, and does not run it
    #[arg(long)]
    print_command: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// The verb.
pub fn run(args: &RunArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.record_references.as_deref()])?;
    args.machine.disk.as_deref().map_or(Ok(()), disk_image::check_raw)?;
    let checkout = Checkout { features: args.features.clone(), ..Checkout::find()? };
    let mut symbols = Symbols::default();
    let Prepared { mut machine, count, why } = prepare(args, &checkout, &mut symbols)?;
    if args.print_command {
        machine.end = EndBy::Exit;
        machine.direct.iter_mut().for_each(|direct| direct.labelled = false);
    }
    args.machine.make_boot_image(&mut machine, &checkout)?;
    if args.print_command {
        println!("{}", command_to_keep(&machine, &checkout)?);
        return Ok(());
    }
    if !args.quiet {
        announce(&machine, &why);
    }
    let mut print = Printer { symbols, several: count > 1, quiet: args.quiet };
    let mut recording = args.record_references.as_ref().map(|_| Recording::default());
    let mut services = Services::new(machine.network.published());
    let _orderly = children::wait_for_orderly_end();
    let outcome = session::run(&machine, args.machine.limit(), &mut |line, _| {
        if !recording.as_mut().is_some_and(|recording| recording.line(line)) {
            print.line(line);
        }
        if let Line::Guest { name, text } = parse(line)
            && let Some(told) = services.line(name, text)
            && !args.quiet
        {
            eprintln!("exo: {told}");
        }
    })?;
    if !args.quiet {
        summary(&outcome);
    }
    if let Some(path) = &args.json {
        let counters = outcome.accounting.iter().map(serde_json::to_value);
        let ports = services.published.iter().map(serde_json::to_value);
        let servers = services.listening.iter().map(serde_json::to_value);
        let lines: std::result::Result<Vec<_>, _> = counters.chain(ports).chain(servers).collect();
        write_lines(path, lines.map_err(|error| Error::Measurement(error.to_string()))?.iter())?;
    }
    outcome.check()?;
    match (&recording, &args.record_references) {
        (Some(recording), Some(path)) => recording.write(path, args.machine.disk.as_deref()),
        _ => Ok(()),
    }
}

/// What is about to run.
struct Prepared {
    machine: Machine,
    /// Environments.
    count: usize,
    /// Why this accelerator.
    why: String,
}

/// Builds, packs, and describes the machine.
fn prepare(args: &RunArgs, checkout: &Checkout, symbols: &mut Symbols) -> Result<Prepared> {
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    if let Some(path) = &args.bundle {
        let built = images(checkout, &[], freshness)?;
        symbols.add(symbols::KERNEL, &built.kernel.elf);
        let bytes = std::fs::read(path).map_err(Error::io("read bundle", path))?;
        let count = bundle::names(path, &bytes).map(|names| names.len()).unwrap_or_else(|error| {
            eprintln!("exo: warning: {error}; booting it all the same");
            1
        });
        let machine = args.machine.machine(&built.kernel_file, path)?;
        return Ok(Prepared { machine, count, why: args.machine.accelerator()?.1 });
    }
    let mut environments = args.environments.environments(&args.machine.supply(), checkout)?;
    if args.record_references.is_some() {
        Recording::prepare(&mut environments)?;
    }
    let sources: Vec<Source> = environments.iter().map(|one| one.source.clone()).collect();
    let built = images(checkout, &sources, freshness)?;
    if !args.quiet {
        built.apps.iter().for_each(tell_image);
    }
    let (machine, why) = if args.direct {
        let environment = direct::single(&environments)?;
        let image = &built.apps[0];
        symbols.add(&environment.label, &image.elf);
        let machine = direct::machine(checkout, image, environment, &args.machine)?;
        (machine, args.machine.direct_accelerator()?.1)
    } else {
        let supply = args.machine.supply();
        let bundle = pack(checkout, &built.kernel, &built.apps, &environments, &supply, symbols)?;
        (args.machine.machine(&built.kernel_file, &bundle)?, args.machine.accelerator()?.1)
    };
    Ok(Prepared { machine, count: environments.len(), why })
}

/// Says which image runs: the same bytes have the same checksum, whatever they run on.
fn tell_image(image: &Image) {
    eprintln!(
        "exo: image {}: {} bytes, CRC-32 {:08x}",
        image.name,
        thousands(image.bytes.len() as u64),
        image.checksum()
    );
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

/// A command that runs the machine without this tool. For Bochs, its files are made in a directory that
/// stays.
fn command_to_keep(machine: &Machine, checkout: &Checkout) -> Result<String> {
    if machine.accel != Accel::Bochs {
        return Ok(machine.shell_command());
    }
    let folder = checkout.artefacts("bochs")?.join(machine.label());
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    Ok(bochs::prepare(machine, &folder)?.shell_command())
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
                let speaker = line.split_once(':').map_or(symbols::KERNEL, |(speaker, _)| speaker);
                eprintln!("{speaker}: {}", self.symbols.annotate(symbols::KERNEL, text));
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
