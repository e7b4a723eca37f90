//! `exo bench boot`: how long until the application speaks, how large the images are, how little memory suffices.

use crate::build::{Freshness, Source, images};
use crate::checkout::{Checkout, write_atomically};
use crate::conditions::Conditions;
use crate::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::exits;
use crate::machine::Machine;
use crate::machine_args::MachineArgs;
use crate::run::announce;
use crate::serial::{Line, parse};
use crate::session;
use crate::symbols::Symbols;
use crate::units::{human_bytes, median};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `exo bench`.
#[derive(Debug, clap::Subcommand)]
pub enum BenchVerb {
    /// Time to the application's first line, image sizes, smallest memory
    Boot(BootArgs),
    /// What crossings into the exokernel cost, and how many a workload takes
    Exits(exits::ExitsArgs),
}

/// Arguments of `exo bench boot`.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// Application to boot
    #[arg(default_value = "hello")]
    app: String,
    /// Number of boots
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// The verb.
pub fn bench(verb: &BenchVerb) -> Result<()> {
    match verb {
        BenchVerb::Boot(args) => boot(args),
        BenchVerb::Exits(args) => exits::exits(args),
    }
}

/// Time limit of one boot unless the user gives one.
const LIMIT: Duration = Duration::from_secs(20);
/// Grain of the search for the smallest memory.
const GRAIN: u64 = 256 << 10;

/// Times of one boot, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    /// From the emulator's start to the application's first line on the serial port, as the host sees it.
    start_to_line_ms: f64,
    /// From the kernel's first instruction to the application's `main`, as the guest sees it; `None` if the
    /// application does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_to_main_ms: Option<f64>,
}

/// A line of the JSON file: one for each boot.
#[derive(Serialize)]
struct BootLine<'a> {
    bench: &'static str,
    app: &'a str,
    platform: &'static str,
    accel: &'a str,
    run: usize,
    #[serde(flatten)]
    times: Times,
    /// Bytes of the ELF that is booted.
    app_bytes: usize,
    kernel_bytes: usize,
    /// Smallest memory in which everything ran.
    smallest_memory_bytes: u64,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

fn boot(args: &BootArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let source = Source::of(&args.app, &checkout)?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let built = images(&checkout, std::slice::from_ref(&source), freshness)?;
    let label = source.name();
    // A limit of the environment's own would get into the way of the search for the smallest memory.
    let quota_bytes = Some(args.machine.memory);
    let environment = Environment { quota_bytes, ..Environment::new(label.clone(), source, String::new()) };
    let mut symbols = Symbols::default();
    let bundle =
        pack(&checkout, &built.kernel, &built.apps, &[environment], &args.machine.supply(), &mut symbols)?;
    let mut machine = args.machine.machine(&built.kernel_file, &bundle)?;
    args.machine.make_boot_image(&mut machine, &checkout)?;
    announce(&machine, &args.machine.accelerator()?.1);
    let limit = args.machine.limit().unwrap_or(LIMIT);
    let mut times = Vec::new();
    for run in 0..args.runs {
        eprintln!("exo: [{}/{}] boot", run + 1, args.runs);
        times.push(one_boot(&machine, limit)?);
    }
    let smallest = smallest_memory(&machine, limit)?;
    let (app_bytes, kernel_bytes) = (built.apps[0].bytes.len(), built.kernel.bytes.len());
    print_range("emulator's start to the first line", times.iter().map(|one| one.start_to_line_ms).collect());
    print_range(
        "kernel's first instruction to main",
        times.iter().filter_map(|one| one.entry_to_main_ms).collect(),
    );
    for (name, bytes) in [(label.as_str(), app_bytes), ("hyperexo", kernel_bytes)] {
        println!("{:<36} {:>10}", format!("image of {name}"), human_bytes(bytes as u64));
    }
    println!("{:<36} {:>10}", "smallest memory it runs in", human_bytes(smallest));
    let Some(path) = &args.json else { return Ok(()) };
    let conditions = Conditions::look(&checkout, &args.machine);
    let lines = times.iter().enumerate().map(|(run, times)| BootLine {
        bench: "boot",
        app: &label,
        platform: machine.accel.platform(),
        accel: machine.accel.name(),
        run,
        times: *times,
        app_bytes,
        kernel_bytes,
        smallest_memory_bytes: smallest,
        conditions: &conditions,
    });
    write_lines(path, lines)
}

/// Writes one JSON object a line.
pub fn write_lines(path: &Path, lines: impl Iterator<Item = impl Serialize>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(&line).map_err(|error| Error::Measurement(error.to_string()))?;
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}

fn print_range(what: &str, mut values: Vec<f64>) {
    let middle = median(&mut values);
    if let (Some(least), Some(most)) = (values.first(), values.last()) {
        println!("{what:<36} {middle:>7.1} ms  (median of {}; {least:.1} to {most:.1})", values.len());
    }
}

/// Boots once and takes the times.
fn one_boot(machine: &Machine, limit: Duration) -> Result<Times> {
    let mut first = None;
    let mut entry_to_main_ms = None;
    let outcome = session::run(machine, Some(limit), &mut |line, at| {
        if let Line::Guest { text, .. } = parse(line) {
            first.get_or_insert(at);
            entry_to_main_ms = entry_to_main_ms.or(since_boot_ms(text));
        }
    })?;
    outcome.check()?;
    let first = first.ok_or_else(|| Error::Measurement("the application printed nothing".into()))?;
    Ok(Times { start_to_line_ms: first.as_secs_f64() * 1e3, entry_to_main_ms })
}

/// The time that `hello` says it took from the kernel's first instruction, in milliseconds.
fn since_boot_ms(text: &str) -> Option<f64> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(value["hello"]["since_boot_us"].as_f64()? / 1e3)
}

/// Least memory, to a grain, in which the machine still does its work.
fn smallest_memory(machine: &Machine, limit: Duration) -> Result<u64> {
    let runs = |grains: u64| -> Result<bool> {
        eprintln!("exo: trying {}", human_bytes(grains * GRAIN));
        let smaller = Machine { memory_bytes: grains * GRAIN, ..machine.clone() };
        match session::run(&smaller, Some(limit.min(Duration::from_secs(5))), &mut |_, _| {}) {
            Ok(outcome) => Ok(outcome.check().is_ok()),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(_) => Ok(false),
        }
    };
    let (mut fails, mut works) = (3, machine.memory_bytes.min(32 << 20) / GRAIN);
    if !runs(works)? {
        return Ok(machine.memory_bytes);
    }
    while works - fails > 1 {
        let middle = (fails + works) / 2;
        if runs(middle)? {
            works = middle;
        } else {
            fails = middle;
        }
    }
    Ok(works * GRAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hello_says_is_understood() {
        assert_eq!(since_boot_ms(r#"{"hello":{"since_boot_us":41820,"hypercalls":6}}"#), Some(41.82));
        assert_eq!(since_boot_ms(r#"{"other":1}"#), None);
        assert_eq!(since_boot_ms("Hello"), None);
    }
}
