//! `exo bench boot`: how long until the application speaks, how large it is, how little memory suffices:
//! directly on the machine, under HyperExo, and a Linux guest beside them, in the same QEMU.
//!
//! The Linux guest is Debian's kernel for virtual machines with an initial file system that holds one static
//! program, which prints a line (see [`crate::linux`]). All times are the host's; every round starts every
//! candidate once, so that what else the host does meets all of them.

use super::start::{From, start};
use crate::build::symbols::Symbols;
use crate::build::{Built, Freshness, Source, images};
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use crate::linux::{Kernel, LinuxGuest, Step};
use crate::machine::args::MachineArgs;
use crate::machine::direct;
use crate::machine::{Board, Machine};
use crate::session;
use crate::session::serial::{Line, parse};
use crate::units::{human_bytes, median};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `exo bench boot`.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// Application to boot
    #[arg(default_value = "hello")]
    app: String,
    /// Rounds: in each, every candidate is started twice
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Without the Linux guest
    #[arg(long)]
    no_linux: bool,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Time limit of one boot unless the user gives one.
const LIMIT: Duration = Duration::from_secs(60);
/// Largest memory that the search for the smallest begins with.
const MOST: u64 = 256 << 20;
/// What the Linux guest prints.
const LINUX_LINE: &str = "Hello from Linux";

/// Without what, or with what, the application runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Direct,
    HyperExo,
    Linux,
}

impl Mode {
    /// Whether a line is the application's.
    fn is_first(self, line: &str) -> bool {
        match self {
            Mode::Direct | Mode::HyperExo => matches!(parse(line), Line::Guest { .. }),
            // The console may put something in front of it.
            Mode::Linux => line.contains(LINUX_LINE),
        }
    }

    /// Longest that a machine with little memory may take before that counts as a failure.
    fn patience(self) -> Duration {
        match self {
            Mode::Direct | Mode::HyperExo => Duration::from_secs(5),
            Mode::Linux => Duration::from_secs(20),
        }
    }

    /// Grain of the search for the smallest memory, in bytes.
    fn grain(self) -> u64 {
        match self {
            Mode::Direct | Mode::HyperExo => 256 << 10,
            Mode::Linux => 1 << 20,
        }
    }
}

/// Something to be booted.
struct Candidate {
    mode: Mode,
    machine: Machine,
    /// Bytes of all files that are booted.
    image_bytes: u64,
    /// Of each round: milliseconds from QEMU's start, and from the first instruction.
    process_ms: Vec<f64>,
    guest_ms: Vec<f64>,
    resident_kib: Vec<f64>,
}

/// A line of the JSON file: medians of a candidate.
#[derive(Debug, Serialize)]
struct BootLine<'a> {
    app: &'a str,
    mode: Mode,
    machine: &'static str,
    /// From the start of QEMU's process to the application's first line.
    process_ms: f64,
    /// From the guest's first instruction, the firmware's, to that line.
    guest_ms: f64,
    /// Resident memory of QEMU's process at that line.
    rss_kib: u64,
    /// Bytes of all files that are booted.
    image_bytes: u64,
    /// What the machine starts with, if not what its type has.
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<&'static str>,
    /// Smallest memory of the machine with which everything ran to its end.
    min_mem_mib: f64,
}

/// The verb.
pub fn boot(args: &BootArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    let checkout = Checkout::find()?;
    let source = Source::of(&args.app, &checkout)?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let built = images(&checkout, std::slice::from_ref(&source), freshness)?;
    let mut candidates = candidates(args, &checkout, &built, &source)?;
    let limit = args.machine.limit().unwrap_or(LIMIT);
    for run in 0..args.runs {
        for one in &mut candidates {
            eprintln!("exo: [{}/{}] {} on {}", run + 1, args.runs, one.name(), one.machine.board.name());
            let is_first = |line: &str| one.mode.is_first(line);
            let process = start(&one.machine, From::Process, limit, &is_first)?;
            let guest = start(&one.machine, From::Instruction, limit, &is_first)?;
            one.process_ms.push(process.elapsed.as_secs_f64() * 1e3);
            one.guest_ms.push(guest.elapsed.as_secs_f64() * 1e3);
            one.resident_kib.push(process.resident_kib as f64);
        }
    }
    let app = source.name();
    let lines = candidates.iter().map(|one| one.line(&app)).collect::<Result<Vec<_>>>()?;
    print!("{}", table(&candidates, &lines));
    args.json.as_deref().map_or(Ok(()), |path| write_lines(path, lines.iter()))
}

/// Everything that is compared.
fn candidates(
    args: &BootArgs,
    checkout: &Checkout,
    built: &Built,
    source: &Source,
) -> Result<Vec<Candidate>> {
    let image = &built.apps[0];
    let alone = Environment::new(source.name(), source.clone(), String::new());
    let mut found = Vec::new();
    for board in [Board::Microvm, Board::Q35] {
        let on = MachineArgs { machine: board, ..args.machine.clone() };
        found.push((Mode::Direct, direct::machine(checkout, image, &alone, &on)?));
    }
    // A limit of the environment's own would get into the way of the search for the smallest memory.
    let with_all = Environment { quota_bytes: Some(args.machine.memory), ..alone };
    let supply = args.machine.supply();
    let bundle = pack(checkout, &built.kernel, &built.apps, &[with_all], &supply, &mut Symbols::default())?;
    let on = MachineArgs { machine: Board::Q35, ..args.machine.clone() };
    found.push((Mode::HyperExo, on.machine(&built.kernel_file, &bundle)?));
    if !args.no_linux {
        match Kernel::fetch(checkout) {
            Ok(kernel) => {
                let mut guest = LinuxGuest::new(kernel);
                guest.steps = vec![Step::Say(LINUX_LINE.into())];
                found.push((Mode::Linux, guest.machine(checkout, &on)?));
            }
            Err(error @ Error::NotOffered { .. }) => eprintln!("exo: without Linux: {error}"),
            Err(error) => return Err(error),
        }
    }
    found.into_iter().map(|(mode, machine)| Candidate::new(mode, machine)).collect()
}

impl Candidate {
    fn new(mode: Mode, machine: Machine) -> Result<Candidate> {
        if machine.accel == crate::machine::accel::Accel::Bochs {
            let fix = "leave --on out; exo bench exits counts ticks on Bochs".to_owned();
            return Err(Error::Argument { what: "boots are compared on QEMU only".into(), fix });
        }
        let bytes = |path: &Path| Ok(path.metadata().map_err(Error::io("read", path))?.len());
        let image_bytes = bytes(&machine.kernel)? + machine.bundle.as_deref().map_or(Ok(0), bytes)?;
        let (process_ms, guest_ms, resident_kib) = Default::default();
        Ok(Candidate { mode, machine, image_bytes, process_ms, guest_ms, resident_kib })
    }

    fn name(&self) -> &'static str {
        match self.mode {
            Mode::Direct => "direct",
            Mode::HyperExo => "hyperexo",
            Mode::Linux => "linux",
        }
    }

    /// Medians, and the smallest memory.
    fn line<'a>(&self, app: &'a str) -> Result<BootLine<'a>> {
        Ok(BootLine {
            app,
            mode: self.mode,
            machine: self.machine.board.name(),
            process_ms: median(&mut self.process_ms.clone()),
            guest_ms: median(&mut self.guest_ms.clone()),
            rss_kib: median(&mut self.resident_kib.clone()) as u64,
            image_bytes: self.image_bytes,
            firmware: self.machine.firmware,
            min_mem_mib: self.smallest_memory()? as f64 / f64::from(1 << 20),
        })
    }

    /// Least memory, to a grain, in which the machine still does its work to the end.
    fn smallest_memory(&self) -> Result<u64> {
        let grain = self.mode.grain();
        let works = |grains: u64| -> Result<bool> {
            let memory_bytes = grains * grain;
            eprintln!(
                "exo: {} on {} in {}",
                self.name(),
                self.machine.board.name(),
                human_bytes(memory_bytes)
            );
            let smaller = Machine { memory_bytes, ..self.machine.clone() };
            match session::run(&smaller, Some(self.mode.patience()), &mut |_, _| {}) {
                Ok(outcome) => Ok(outcome.check().is_ok()),
                Err(Error::Interrupted) => Err(Error::Interrupted),
                Err(_) => Ok(false),
            }
        };
        let most = self.machine.memory_bytes.min(MOST) / grain;
        if !works(most)? {
            let why = format!("{} does not end as it should in {}", self.name(), human_bytes(most * grain));
            return Err(Error::Measurement(why));
        }
        Ok(least(most, works)? * grain)
    }
}

/// The least number for which `works` says so, if it says so for `most`: it is looked for below by doubling,
/// as most need little, and then between.
fn least(most: u64, works: impl Fn(u64) -> Result<bool>) -> Result<u64> {
    let (mut fails, mut good) = (0, most);
    let mut next = 4.min(most);
    while next < most {
        if works(next)? {
            good = next;
            break;
        }
        fails = next;
        next *= 2;
    }
    while good - fails > 1 {
        let middle = (fails + good) / 2;
        if works(middle)? { good = middle } else { fails = middle }
    }
    Ok(good)
}

/// The medians, and as ratios to the Linux guest, of the rounds one by one where there are rounds.
fn table(candidates: &[Candidate], lines: &[BootLine<'_>]) -> String {
    let mut text = format!(
        "{:<9} {:<8} {:>11} {:>11} {:>12} {:>11} {:>11}\n",
        "mode", "machine", "from start", "from instr.", "resident", "image", "memory"
    );
    for (one, line) in candidates.iter().zip(lines) {
        text += &format!(
            "{:<9} {:<8} {:>8.1} ms {:>8.1} ms {:>12} {:>11} {:>7.2} MiB\n",
            one.name(),
            line.machine,
            line.process_ms,
            line.guest_ms,
            human_bytes(line.rss_kib << 10),
            human_bytes(line.image_bytes),
            line.min_mem_mib
        );
    }
    let Some(linux) = candidates.iter().position(|one| one.mode == Mode::Linux) else { return text };
    text += "\nLinux's figure divided by (times: median of the rounds, least to most):\n";
    for (one, line) in candidates.iter().zip(lines).filter(|(one, _)| one.mode != Mode::Linux) {
        let peer = &candidates[linux];
        text += &format!(
            "{:<9} {:<8} from start {}, from instr. {}, resident {:.1}, image {:.1}, memory {:.1}\n",
            one.name(),
            line.machine,
            ratios(&peer.process_ms, &one.process_ms),
            ratios(&peer.guest_ms, &one.guest_ms),
            lines[linux].rss_kib as f64 / line.rss_kib as f64,
            lines[linux].image_bytes as f64 / line.image_bytes as f64,
            lines[linux].min_mem_mib / line.min_mem_mib
        );
    }
    text
}

/// Median and range of the quotients of two series, round by round.
fn ratios(above: &[f64], below: &[f64]) -> String {
    let mut quotients: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
    let middle = median(&mut quotients);
    let (least, most) = (quotients.first().unwrap_or(&middle), quotients.last().unwrap_or(&middle));
    format!("{middle:.1} ({least:.1} to {most:.1})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found_wherever_it_is() {
        for wanted in 1..70 {
            assert_eq!(least(70, |tried| Ok(tried >= wanted)).unwrap(), wanted);
        }
        assert_eq!(least(1, |_| Ok(true)).unwrap(), 1);
    }

    #[test]
    fn lines_of_the_application_are_told_from_others() {
        assert!(Mode::Direct.is_first("hello| Hello from hello"));
        assert!(!Mode::HyperExo.is_first("hyperexo: 100 frames free"));
        assert!(Mode::Linux.is_first("\u{fffd}c Hello from Linux") && !Mode::Linux.is_first("booting"));
    }

    #[test]
    fn ratios_are_of_rounds() {
        assert_eq!(ratios(&[10.0, 30.0, 80.0], &[1.0, 2.0, 2.0]), "15.0 (10.0 to 40.0)");
    }

    #[test]
    fn json_lines_have_the_documented_fields() {
        let line = BootLine {
            app: "hello",
            mode: Mode::HyperExo,
            machine: "q35",
            process_ms: 1.0,
            guest_ms: 1.0,
            rss_kib: 1,
            image_bytes: 1,
            firmware: None,
            min_mem_mib: 1.5,
        };
        let text = serde_json::to_string(&line).unwrap();
        let wanted = r#"{"app":"hello","mode":"hyperexo","machine":"q35","process_ms":1.0,"guest_ms":1.0,"rss_kib":1,"image_bytes":1,"min_mem_mib":1.5}"#;
        assert_eq!(text, wanted);
    }
}
