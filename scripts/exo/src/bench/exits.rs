//! `exo bench exits`: what a crossing into the exokernel costs, and how many crossings real work takes.
//!
//! Costs are counted where they repeat: instructions under QEMU's `-icount shift=0`, ticks (one an
//! instruction, and what virtualization adds) on Bochs. Neither is time.

use crate::build::symbols::Symbols;
use crate::build::{Built, Freshness, Source, images};
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use crate::machine::accel::Accel;
use crate::machine::args::{Emulator, MachineArgs};
use crate::machine::conditions::Conditions;
use crate::session;
use crate::session::serial::{Accounting, Line, parse};
use crate::units::{Extent, thousands};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `exo bench exits`.
#[derive(Debug, clap::Args)]
pub struct ExitsArgs {
    /// Operations in a batch; the fastest of five batches counts
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Workload of filecache whose exits are counted
    #[arg(long, default_value = "din")]
    workload: String,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// Emulators and their machines; without --on, QEMU and then Bochs
    #[command(flatten)]
    machine: MachineArgs,
}

/// Time limit of a boot unless the user gives one.
const LIMIT: Duration = Duration::from_secs(600);
/// Cores for the primitives: one calls, another answers.
const CORES: u32 = 2;

/// What the unikernel `primitives` prints for each primitive.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Primitive {
    primitive: String,
    operations: u64,
    /// Ticks of the TSC for one operation.
    ticks: f64,
    /// Exits for one operation, by kind.
    exits: BTreeMap<String, f64>,
}

/// A workload's exits.
#[derive(Clone, Debug, Serialize)]
struct Work {
    workload: String,
    blocks_read: u64,
    read_requests: u64,
    exits: BTreeMap<String, u64>,
    exits_per_block_read: f64,
}

/// What was found on one platform.
struct Found {
    accel: Accel,
    primitives: Vec<Primitive>,
    work: Work,
    conditions: Conditions,
}

/// A line of the JSON file.
#[derive(Serialize)]
struct JsonLine<'a, T: Serialize> {
    bench: &'static str,
    platform: &'static str,
    accel: &'static str,
    /// What a tick is.
    unit: &'static str,
    #[serde(flatten)]
    found: &'a T,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

/// The verb.
pub fn exits(args: &ExitsArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let sources = ["primitives", "filecache"].map(|name| Source::Member(name.to_owned()));
    let built = images(&checkout, &sources, freshness)?;
    let data = crate::data::prepare(&checkout, filecache::DataFamily::Texts, false)?;
    let emulators = match args.machine.on {
        Some(one) => vec![one],
        None => vec![Emulator::Qemu, Emulator::Bochs],
    };
    let mut found = Vec::new();
    for emulator in emulators {
        let mut machine = MachineArgs { on: Some(emulator), ..args.machine.clone() };
        if machine.accelerator()?.0 == Accel::Tcg && machine.icount.is_none() {
            machine.icount = Some("shift=0".into());
        }
        found.push(examine(args, &checkout, &built, &machine, &data)?);
    }
    for one in &found {
        print!("{}", table(one));
    }
    let Some(path) = &args.json else { return Ok(()) };
    let mut lines = Vec::new();
    for one in &found {
        for primitive in &one.primitives {
            lines.push(json(one, primitive)?);
        }
        lines.push(json(one, &one.work)?);
    }
    write_lines(path, lines.iter())
}

/// Both boots on one platform.
fn examine(
    args: &ExitsArgs,
    checkout: &Checkout,
    built: &Built,
    machine: &MachineArgs,
    data: &std::path::Path,
) -> Result<Found> {
    let accel = machine.accelerator()?.0;
    eprintln!("exo: {}: primitives, then {} of filecache", accel.platform(), args.workload);
    let on_two = MachineArgs { cores: CORES, disk: None, ..machine.clone() };
    let words = format!("rounds={}", args.rounds);
    let environment = Environment::new("primitives".into(), Source::Member("primitives".into()), words);
    let (lines, _) = boot(checkout, built, 0, environment, &on_two)?;
    let primitives = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let with_disk = MachineArgs { disk: Some(data.to_path_buf()), ..machine.clone() };
    let words = format!("workload={} policy=own cache=80%", args.workload);
    let environment = Environment {
        extent: Some(Extent::ALL),
        ..Environment::new("filecache".into(), Source::Member("filecache".into()), words)
    };
    let (_, counted) = boot(checkout, built, 1, environment, &with_disk)?;
    let total: u64 = counted.exits.values().sum();
    let work = Work {
        workload: args.workload.clone(),
        blocks_read: counted.disk_blocks_read,
        read_requests: counted.disk_read_requests,
        exits_per_block_read: total as f64 / counted.disk_blocks_read.max(1) as f64,
        exits: counted.exits,
    };
    Ok(Found { accel, primitives, work, conditions: Conditions::look(checkout, &on_two) })
}

/// Boots image number `index` of `built`; returns what it printed, and its counters.
fn boot(
    checkout: &Checkout,
    built: &Built,
    index: usize,
    environment: Environment,
    machine: &MachineArgs,
) -> Result<(Vec<String>, Accounting)> {
    let label = environment.label.clone();
    let mut symbols = Symbols::default();
    let image = std::slice::from_ref(&built.apps[index]);
    let bundle = pack(checkout, &built.kernel, image, &[environment], &machine.supply(), &mut symbols)?;
    let limit = machine.limit().unwrap_or(LIMIT);
    let machine = machine.machine(&built.kernel_file, &bundle)?;
    let mut lines = Vec::new();
    let outcome = session::run(&machine, Some(limit), &mut |line, _| {
        if let Line::Guest { text, .. } = parse(line) {
            lines.push(text.to_owned());
        }
    })?;
    if let Err(error) = outcome.check() {
        // What the guest said explains its end.
        lines.iter().for_each(|line| eprintln!("{line}"));
        return Err(error);
    }
    let missing = || Error::Measurement(format!("no accounting line of {label}"));
    let counted = outcome.accounting_of(&label).cloned().ok_or_else(missing)?;
    Ok((lines, counted))
}

fn unit(accel: Accel) -> &'static str {
    match accel {
        Accel::Tcg => "instructions",
        Accel::Bochs | Accel::Kvm => "ticks",
    }
}

fn json<T: Serialize>(one: &Found, found: &T) -> Result<serde_json::Value> {
    let line = JsonLine {
        bench: "exits",
        platform: one.accel.platform(),
        accel: one.accel.name(),
        unit: unit(one.accel),
        found,
        conditions: &one.conditions,
    };
    serde_json::to_value(line).map_err(|error| Error::Measurement(error.to_string()))
}

fn table(found: &Found) -> String {
    let mut text =
        format!("{:<20} {:>14}  exits of one operation\n", found.accel.platform(), unit(found.accel));
    for one in &found.primitives {
        let exits: Vec<String> = one.exits.iter().map(|(kind, count)| format!("{count:.2} {kind}")).collect();
        let exits = if exits.is_empty() { "none".to_owned() } else { exits.join(", ") };
        text += &format!("{:<20} {:>14.1}  {exits}\n", one.primitive, one.ticks);
    }
    let work = &found.work;
    let kinds: Vec<String> = work
        .exits
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{} {kind}", thousands(*count)))
        .collect();
    text += &format!(
        "{} of filecache: {} blocks read in {} requests; exits: {}; {:.3} a block\n\n",
        work.workload,
        thousands(work.blocks_read),
        thousands(work.read_requests),
        kinds.join(", "),
        work.exits_per_block_read
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_unikernel_are_read() {
        let line = r#"{"primitive":"cpuid","operations":200,"ticks":91.50,"exits":{"cpuid":1.00}}"#;
        let one: Primitive = serde_json::from_str(line).unwrap();
        assert_eq!((one.primitive.as_str(), one.ticks, one.exits["cpuid"]), ("cpuid", 91.5, 1.0));
        let none = r#"{"primitive":"nothing","operations":200,"ticks":1.00,"exits":{}}"#;
        assert!(serde_json::from_str::<Primitive>(none).unwrap().exits.is_empty());
    }
}
