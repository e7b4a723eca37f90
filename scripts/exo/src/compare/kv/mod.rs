//! `exo compare kv`: a key-value store with more data than memory, under several policies of eviction.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | one boot with one kind of traffic |
//! | [`table`] | the rows as text |

mod boot;
mod table;

use super::{CompareArgs, order};
use crate::build::{Built, Freshness, Source, images};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_lines;
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::machine::conditions::Conditions;
use kv::evict::PolicyName;
use kv::traffic::{Traffic, data_bytes, optimal_misses};
use results::{KvLine, Role};
use serde::Serialize;

/// Name of the application.
pub const APP: &str = "kv";

/// Memory unless it is asked for: a tenth of the data.
const MEMORY: &str = "10%";

/// What all boots share.
struct Comparison<'a> {
    args: &'a CompareArgs,
    checkout: Checkout,
    built: Built,
    machine: MachineArgs,
    traffic: Vec<Traffic>,
    policies: Vec<Policy>,
    /// Shares of the data, in percent.
    shares: Vec<u64>,
}

/// A policy as it was asked for, and as the store calls it.
struct Policy {
    name: String,
    of_store: PolicyName,
    role: Role,
}

impl Policy {
    fn parse(name: &str) -> Result<Policy> {
        let (of_store, role) = match name {
            "default" => ("allkeys-lru".to_owned(), Role::Default),
            other => (format!("allkeys-{other}"), if other == "own" { Role::Own } else { Role::Other }),
        };
        let of_store = of_store.parse().map_err(|why: kv::evict::UnknownPolicy| Error::Argument {
            what: format!("policy {name:?}"),
            fix: format!("default, own or another of the store's without allkeys-: {why}"),
        })?;
        Ok(Policy { name: name.to_owned(), of_store, role })
    }
}

/// A boot's result line, and which boot of its policy it was.
#[derive(Serialize)]
struct Sample {
    #[serde(flatten)]
    line: KvLine,
    run: u32,
}

/// A result line with what the guest could not know.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    sample: &'a Sample,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

/// The verb, for this application.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let comparison = Comparison::prepare(args)?;
    let conditions = Conditions::look(&comparison.checkout, &comparison.machine);
    let (accel, why) = comparison.accelerator()?;
    eprintln!("exo: accelerator {}: {why}", accel.name());
    let samples = comparison.run_all()?;
    print!("{}", table::table(&samples));
    print!("{}", table::remarks(&samples));
    if let Some(path) = &args.json {
        write_lines(path, samples.iter().map(|sample| JsonLine { sample, conditions: &conditions }))?;
    }
    judge(&samples)
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>> {
        refuse(args)?;
        let wrong = |what: String, fix: String| Error::Argument { what, fix };
        let mut traffic = Vec::new();
        for name in &args.workloads {
            traffic.push(name.parse().map_err(|why| wrong(format!("traffic {name:?}"), format!("{why}")))?);
        }
        if traffic.is_empty() {
            traffic = Traffic::ALL.into();
        }
        let policies = args.policies.iter().map(|name| Policy::parse(name)).collect::<Result<_>>()?;
        let memories = if args.cache.is_empty() { vec![MEMORY.to_owned()] } else { args.cache.clone() };
        let mut shares = Vec::new();
        for memory in &memories {
            let share = memory.strip_suffix('%').and_then(|share| share.parse().ok());
            let share = share.filter(|share| (1..=100).contains(share));
            let why = || wrong(format!("memory {memory:?}"), "a share of the data from 1% to 100%".into());
            shares.push(share.ok_or_else(why)?);
        }
        let checkout = Checkout::find()?;
        let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
        let built = images(&checkout, &[Source::Member(APP.into())], freshness)?;
        let mut comparison =
            Comparison { args, checkout, built, machine: args.machine.clone(), traffic, policies, shares };
        if comparison.accelerator()?.0 == Accel::Tcg && comparison.machine.icount.is_none() {
            // Instructions, which repeat, instead of times, which don't.
            comparison.machine.icount = Some(boot::COUNTED.into());
        }
        Ok(comparison)
    }

    fn accelerator(&self) -> Result<(Accel, String)> {
        if self.args.direct { self.machine.direct_accelerator() } else { self.machine.accelerator() }
    }

    /// One in so many of the requests is made.
    fn part(&self) -> u64 {
        if self.args.quick { 10 } else { 1 }
    }

    /// All boots.
    fn run_all(&self) -> Result<Vec<Sample>> {
        let policies: Vec<&Policy> = self.policies.iter().collect();
        let total = self.traffic.len() * self.shares.len() * policies.len() * self.args.runs as usize;
        let (mut samples, mut done) = (Vec::new(), 0);
        for traffic in &self.traffic {
            for share in &self.shares {
                let memory = data_bytes(*traffic) * share / 100;
                let least = optimal_misses(*traffic, self.part(), memory);
                for (run, policy) in order(&policies, self.args.runs) {
                    done += 1;
                    let Policy { name, .. } = policy;
                    eprintln!("exo: [{done}/{total}] {}, memory {share}%: {name}", traffic.name());
                    let line = boot::boot(self, *traffic, *share, policy)?;
                    samples.push(Sample { line: KvLine { least_misses: Some(least), ..line }, run });
                }
            }
        }
        Ok(samples)
    }
}

/// Refuses what only other applications have.
fn refuse(args: &CompareArgs) -> Result<()> {
    let given = [
        (args.scale != "1", "--scale", "leave it out: --cache says how much memory there is for the data"),
        (args.peer.is_some(), "--peer", "--policies default,own,random names those of Redis"),
        (args.verify, "--verify", "every reply is always checked"),
        (!args.read_ahead.is_empty(), "--read-ahead", "a store of keys reads nothing ahead"),
        (args.html.is_some(), "--html", "--json FILE has all figures"),
        (args.csv.is_some(), "--csv", "--json FILE has all figures"),
        (args.machine.disk.is_some(), "--disk", "leave it out: the store keeps all in memory"),
        (args.machine.cores > 1, "--cores", "the store runs on one core"),
    ];
    super::arguments::check_options(APP, &given)?;
    if args.direct { super::arguments::check_direct(&args.machine, args.peer) } else { Ok(()) }
}

/// Results that make the comparison worthless are errors.
fn judge(samples: &[Sample]) -> Result<()> {
    for KvLine { traffic, policy, misses, least_misses, .. } in samples.iter().map(|sample| &sample.line) {
        if least_misses.is_some_and(|least| *misses < least) {
            let text = format!("{traffic} under {policy}: {misses} misses are fewer than there can be");
            return Err(Error::Measurement(text));
        }
    }
    Ok(())
}
