//! `exo bench overhead`: what HyperExo costs a workload of `filecache`: the same image, the same disk,
//! directly on the machine and under HyperExo.
//!
//! Block counts are exact, and must be the same. Instructions are those that QEMU counts (`-icount shift=0`)
//! for the whole machine, kernel included and halted processors not, less those of a machine that boots the
//! same image and does no work. They repeat to some 0.1 %, and are no measure of time: an exit costs a
//! processor more than its instructions.

use crate::build::symbols::Symbols;
use crate::build::{Built, Freshness, Source, images};
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use crate::machine::Machine;
use crate::machine::args::{AccelChoice, MachineArgs};
use crate::machine::direct;
use crate::session::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::units::{Extent, thousands};
use results::CompareLine;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `exo bench overhead`.
#[derive(Debug, clap::Args)]
pub struct OverheadArgs {
    /// Workloads of filecache
    #[arg(long, default_value = "din", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Cache policy
    #[arg(long, default_value = "own")]
    policy: String,
    /// Size of the cache
    #[arg(long, default_value = "80%")]
    cache: String,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Time limit of one run unless the user gives one.
const LIMIT: Duration = Duration::from_secs(600);

/// What one run counted. A line of the JSON file.
#[derive(Clone, Debug, Serialize)]
struct Counted {
    bench: &'static str,
    workload: String,
    mode: &'static str,
    blocks_read: u64,
    read_requests: u64,
    blocks_written: u64,
    write_requests: u64,
    /// Exits into HyperExo; none directly.
    exits: u64,
    exits_per_block_read: f64,
    /// Instructions of the workload.
    instructions: u64,
    instructions_per_block_read: f64,
}

/// The verb.
pub fn overhead(args: &OverheadArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let source = Source::Member("filecache".into());
    let built = images(&checkout, std::slice::from_ref(&source), freshness)?;
    let disk = match &args.machine.disk {
        Some(disk) => disk.clone(),
        None => crate::data::prepare(&checkout, filecache::DataFamily::Texts, false)?,
    };
    let mut machine = MachineArgs { disk: Some(disk), ..args.machine.clone() };
    // Only the emulator counts instructions.
    machine.accel = AccelChoice::Tcg;
    machine.icount.get_or_insert_with(|| "shift=0".into());
    let limit = machine.limit().unwrap_or(LIMIT);
    let idle = machines(&checkout, &built, &source, NO_WORK.into(), &machine)?;
    let mut all = Vec::new();
    for workload in &args.workloads {
        let words = format!("workload={workload} policy={} cache={}", args.policy, args.cache);
        let [alone, under] = machines(&checkout, &built, &source, words, &machine)?;
        let [idle_alone, idle_under] = &idle;
        let pair = [
            one(&alone, "direct", workload, instructions(idle_alone, limit)?, limit)?,
            one(&under, "hyperexo", workload, instructions(idle_under, limit)?, limit)?,
        ];
        agree(&pair)?;
        print!("{}", table(&pair));
        all.extend(pair);
    }
    args.json.as_deref().map_or(Ok(()), |path| write_lines(path, all.iter()))
}

/// Words with which `filecache` ends as soon as it has begun, for there is no such workload.
const NO_WORK: &str = "workload=none";

/// The machines without HyperExo and with it, for these words.
fn machines(
    checkout: &Checkout,
    built: &Built,
    source: &Source,
    words: String,
    args: &MachineArgs,
) -> Result<[Machine; 2]> {
    let environment = Environment::new("filecache".into(), source.clone(), words);
    let alone = direct::machine(checkout, &built.apps[0], &environment, args)?;
    let environment = Environment { extent: Some(Extent::ALL), ..environment };
    let supply = args.supply();
    let bundle =
        pack(checkout, &built.kernel, &built.apps, &[environment], &supply, &mut Symbols::default())?;
    Ok([alone, args.machine(&built.kernel_file, &bundle)?])
}

/// Instructions of a machine from its first to its end, whatever its status.
fn instructions(machine: &Machine, limit: Duration) -> Result<u64> {
    counted(&session::run(machine, Some(limit), &mut |_, _| {})?)
}

fn counted(outcome: &Outcome) -> Result<u64> {
    outcome.instructions.ok_or_else(|| Error::Measurement("QEMU counted no instructions".into()))
}

/// Runs the workload once. `idle` is what the machine executes without it.
fn one(machine: &Machine, mode: &'static str, workload: &str, idle: u64, limit: Duration) -> Result<Counted> {
    eprintln!("exo: {workload}, {mode}");
    let mut said = None;
    let outcome = session::run(machine, Some(limit), &mut |line, _| {
        if let Line::Guest { text, .. } = parse(line)
            && let Ok(found) = CompareLine::parse(text)
        {
            said = Some(found);
        }
    })?;
    outcome.check()?;
    let missing = |what: &str| Error::Measurement(format!("{workload}, {mode}: no {what}"));
    let line = said.ok_or_else(|| missing("result line"))?;
    if !line.verified {
        let (expected, actual) = (&line.expected, &line.actual);
        return Err(Error::Measurement(format!("{workload}, {mode}: {actual} instead of {expected}")));
    }
    let stats = outcome.block_stats.ok_or_else(|| missing("counters of the disk"))?;
    let (blocks_read, block) = (line.reads + line.mount_reads, line.block_bytes);
    if stats.rd_bytes != blocks_read * block {
        let why = format!(
            "{workload}, {mode}: {blocks_read} blocks read, but QEMU counts {} bytes",
            stats.rd_bytes
        );
        return Err(Error::Measurement(why));
    }
    let exits = outcome.accounting.first().map_or(0, |counted| counted.exits.values().sum());
    let instructions = counted(&outcome)?.saturating_sub(idle);
    Ok(Counted {
        bench: "overhead",
        workload: workload.to_owned(),
        mode,
        blocks_read,
        read_requests: stats.rd_operations,
        blocks_written: stats.wr_bytes / block,
        write_requests: stats.wr_operations,
        exits,
        exits_per_block_read: exits as f64 / blocks_read.max(1) as f64,
        instructions,
        instructions_per_block_read: instructions as f64 / blocks_read.max(1) as f64,
    })
}

/// The transfers must be the same.
fn agree([alone, under]: &[Counted; 2]) -> Result<()> {
    let transfers =
        |one: &Counted| [one.blocks_read, one.read_requests, one.blocks_written, one.write_requests];
    if transfers(alone) == transfers(under) {
        return Ok(());
    }
    let (alone, under) = (transfers(alone), transfers(under));
    let why = format!(
        "blocks read, requests, blocks written, requests: {alone:?} directly, {under:?} under HyperExo"
    );
    Err(Error::Measurement(why))
}

fn table(pair: &[Counted; 2]) -> String {
    let mut text = format!(
        "{:<9} {:<9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>14} {:>14}\n",
        "workload", "mode", "reads", "requests", "writes", "exits", "a block", "instructions", "a block"
    );
    for one in pair {
        text += &format!(
            "{:<9} {:<9} {:>8} {:>8} {:>8} {:>8} {:>8.3} {:>14} {:>14.1}\n",
            one.workload,
            one.mode,
            thousands(one.blocks_read),
            thousands(one.read_requests),
            thousands(one.blocks_written),
            thousands(one.exits),
            one.exits_per_block_read,
            thousands(one.instructions),
            one.instructions_per_block_read
        );
    }
    let more = pair[1].instructions as f64 / pair[0].instructions.max(1) as f64;
    text + &format!("The same transfers. Under HyperExo {:+.2} % instructions.\n\n", (more - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mode: &'static str, blocks_read: u64) -> Counted {
        Counted {
            bench: "overhead",
            workload: "din".into(),
            mode,
            blocks_read,
            read_requests: 9,
            blocks_written: 0,
            write_requests: 0,
            exits: 50,
            exits_per_block_read: 0.5,
            instructions: 1000,
            instructions_per_block_read: 10.0,
        }
    }

    #[test]
    fn transfers_that_differ_are_an_error() {
        assert!(agree(&[sample("direct", 100), sample("hyperexo", 100)]).is_ok());
        let error = agree(&[sample("direct", 100), sample("hyperexo", 101)]).unwrap_err().to_string();
        assert!(error.contains("[100, 9, 0, 0] directly, [101, 9, 0, 0] under HyperExo"), "{error}");
    }

    #[test]
    fn the_table_tells_the_difference() {
        let mut under = sample("hyperexo", 100);
        under.instructions = 1030;
        let text = table(&[sample("direct", 100), under]);
        assert!(text.contains("+3.00 % instructions"), "{text}");
    }
}
