//! `exo compare`: the same workloads on the same disk image under several cache policies, one boot each.
//!
//! | module | what |
//! |---|---|
//! | [`arguments`] | what the user asks for, judged |
//! | [`boot`] | one boot, and whether all counts of its block reads agree |
//! | [`peer`] | one boot of the same workload on Linux |
//! | [`optimum`] | the two limits for the recorded references |
//! | [`policy_lines`] | how much code a policy is |
//! | [`summary`] | from samples to the rows |
//! | [`matrix`] | blocks read by policy and size of the cache |
//! | [`table`] | the rows as text, and what to say below them |
//! | [`point_reads`] | requests of a store for one record each, by themselves |
//! | [`analysis`], [`history`] | misses at other sizes, hits over time, ages of evicted blocks |
//! | [`report`], [`charts`] | the page |
//! | [`spreadsheet`] | comma-separated values |
//! | [`pager`] | programs that page their own memory |
//! | [`kv`] | a store of keys with too little memory |
//! | [`httpd`] | the web server in its two builds |

mod analysis;
mod arguments;
mod boot;
mod charts;
mod history;
mod httpd;
mod kv;
mod matrix;
mod optimum;
mod pager;
mod peer;
mod point_reads;
mod policy_lines;
mod report;
mod spreadsheet;
mod summary;
mod table;
mod verify;

use crate::build::{Built, Freshness, Source, images};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::disk_image;
use crate::host::output::{expect, write_atomically, write_lines};
use crate::machine::args::MachineArgs;
use crate::machine::conditions::Conditions;
use analysis::{Analysis, HostProgram};
use arguments::{cache_words, check_cores, check_direct, check_names};
use boot::{Sample, Setting};
use filecache::linux::PeerPolicy;
use filecache::{DataFamily, Workload};
use optimum::Optimum;
use peer::Peer;
use results::Role;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Arguments of `exo compare`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  exo compare filecache\n  exo compare filecache --workloads din --cache 60% --policies \
                        default,own,clock\n  exo compare filecache --disk-mbps 20 --runs 5 --json out.json --html out.html\n  exo compare filecache \
                        --workloads cs1,cs2,cs3 --cache paper --peer linux\n  exo compare filecache --policies own \
                        --read-ahead none,aggressive --disk-mbps 20 --runs 5\n  exo compare filecache --direct --machine \
                        microvm\n  exo compare filecache --cores 2\n  exo compare pager\n  exo compare pager --workloads matmul,sort --cache 25%,40% \
                        --policies default,own,lru --peer linux --json out.json\n  exo compare pager --scale 4 --peer linux\n  exo \
                        compare httpd --peer linux\n  exo compare httpd --workloads popular --cache 10%,20% --direct\n  exo compare kv \
                        --policies default,own,s3-fifo --cache 5%,20%"
)]
pub struct CompareArgs {
    /// Application to measure: filecache, or one that prints the same result lines; or pager, whose programs
    /// have more data than frames; or httpd, the web server in its two builds; or kv, a
    /// store with more data than memory
    app: String,
    /// Workloads, separated by commas (default: cs,din,sort; of pager, httpd and kv all)
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Sizes of the cache, separated by commas: a share of the workload's data (80%), a size (4M), or the
    /// share that so many megabytes were of the data in the paper (paper:6.4); "paper" stands for its four
    /// (default: 80%). Of pager: a share of the program's pages (25%, the default) or a number of frames; of
    /// httpd: a share of the site (20%, the default) or a size;
    /// of kv: a share of the data (10%)
    #[arg(long, value_delimiter = ',')]
    cache: Vec<String>,
    /// For pager: so many times the usual data, up to 32
    #[arg(long, value_name = "N", default_value = "1")]
    scale: String,
    /// Policies, separated by commas: default, own, or the name of one of the library's; changes are given
    /// against the first
    #[arg(long, value_delimiter = ',', default_value = "default,own")]
    policies: Vec<String>,
    /// Runs the same workloads on another operating system, too
    #[arg(long, value_enum)]
    peer: Option<PeerSystem>,
    /// Ways to read ahead, separated by commas: none, one-block, sequential, cluster; directed and aggressive
    /// fetch what the application discloses (default: the library's)
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    read_ahead: Vec<String>,
    /// Runs the unikernel without HyperExo: the same image, directly on QEMU
    #[arg(long)]
    direct: bool,
    /// Measures nothing, but checks that each workload under each policy reads, without read-ahead, block by
    /// block what the same run on the host reads, and misses as often as the simulator
    #[arg(long)]
    verify: bool,
    /// Boots of each policy with each read-ahead, interleaved (A B B A ...)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// A tenth of the requests; of httpd and kv
    #[arg(long)]
    quick: bool,
    /// Writes one JSON line for each boot
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the same as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes a page with table and charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// Shows the QEMU command of every boot, and all lines
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Operating systems to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerSystem {
    /// Linux, in Debian's kernel for virtual machines: with its two replacements, and with posix_fadvise.
    Linux,
}

/// The policies of Linux that are compared with unless others are named.
const PEER_POLICIES: [&str; 3] = ["linux", "linux-mglru", "linux-fadvise"];

/// What all boots of a comparison share.
struct Comparison<'a> {
    args: &'a CompareArgs,
    checkout: Checkout,
    source: Source,
    built: Built,
    /// The machine's arguments; without a disk, each workload has that of its data.
    machine: MachineArgs,
    /// The disks with the data of the workloads.
    disks: BTreeMap<DataFamily, PathBuf>,
    /// Sizes of the cache, as the guest understands them.
    caches: Vec<String>,
    /// Names of the policies, those of the peer included.
    policies: Vec<String>,
}

/// A policy with a way to read ahead: what is booted in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant<'a> {
    policy: &'a str,
    /// The guest's default if `None`.
    read_ahead: Option<&'a str>,
}

/// The verb.
pub fn compare(args: &CompareArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.csv.as_deref(), args.html.as_deref()])?;
    if args.app == pager::APP {
        return pager::compare(args);
    }
    if args.app == kv::APP {
        return kv::compare(args);
    }
    if args.app == httpd::APP {
        return httpd::compare(args);
    }
    let mut args = args.clone();
    if args.workloads.is_empty() {
        args.workloads = WORKLOADS.map(str::to_owned).into();
    }
    if args.cache.is_empty() {
        args.cache = vec![CACHE.to_owned()];
    }
    compare_caches(&args)
}

/// The workloads and the size of the cache unless others are named.
const WORKLOADS: [&str; 3] = ["cs", "din", "sort"];
const CACHE: &str = "80%";

/// The verb for applications with files.
fn compare_caches(args: &CompareArgs) -> Result<()> {
    if args.scale != "1" {
        let what = "--scale is for exo compare pager".to_owned();
        return Err(Error::Argument {
            what,
            fix: "leave it out: the data of a workload are what they are".into(),
        });
    }
    if args.quick {
        return Err(arguments::not_quick(&args.app));
    }
    let comparison = Comparison::prepare(args)?;
    if args.verify {
        return verify::verify(&comparison);
    }
    let conditions = Conditions::look(&comparison.checkout, &comparison.machine);
    let machine = &comparison.machine;
    let (accel, why) = if args.direct { machine.direct_accelerator()? } else { machine.accelerator()? };
    eprintln!("exo: accelerator {}: {why}; {}", accel.name(), conditions.disk());
    let (samples, optima) = comparison.run_all()?;
    let rows = summary::rows(&samples);
    print!("{}", table::table(&rows));
    if let Some(matrix) = matrix::matrix(&rows) {
        print!("{}", matrix.text());
    }
    if let Some(point_reads) = point_reads::table(&rows, &samples) {
        print!("{point_reads}");
    }
    print!("{}", table::remarks(&rows, &samples, &optima));
    if let Some(path) = &args.json {
        write_lines(path, json_lines(&samples, &conditions))?;
    }
    if let Some(path) = &args.csv {
        spreadsheet::write(path, &samples, &conditions)?;
    }
    if let Some(path) = &args.html {
        let analyses = comparison.analyses(&rows, &optima)?;
        let text = report::page(&rows, &samples, &conditions, &analyses);
        write_atomically(path, text.as_bytes())?;
        eprintln!("exo: report in {}", path.display());
    }
    judge(&samples, &optima)
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>> {
        let checkout = Checkout::find()?;
        let source = Source::of(&args.app, &checkout)?;
        args.machine.disk.as_deref().map_or(Ok(()), disk_image::check_raw)?;
        if args.direct {
            check_direct(&args.machine, args.peer)?;
        }
        check_cores(args.machine.cores, args.peer, args.verify, &args.read_ahead)?;
        let caches = cache_words(&args.cache)?;
        let mut policies = args.policies.clone();
        if args.peer == Some(PeerSystem::Linux) {
            let named = policies.iter().any(|name| PeerPolicy::named(name).is_some());
            policies.extend(PEER_POLICIES.iter().filter(|_| !named).map(|name| (*name).to_owned()));
        }
        for (what, list) in [
            ("workload", &args.workloads),
            ("policy", &policies),
            ("size of the cache", &caches),
            ("read-ahead", &args.read_ahead),
        ] {
            arguments::check_once(what, list)?;
        }
        if source == Source::Member("filecache".into()) {
            check_names(&args.workloads, &policies, &args.read_ahead)?;
        }
        let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
        let built = images(&checkout, std::slice::from_ref(&source), freshness)?;
        if args.machine.disk.is_none() && source != Source::Member("filecache".into()) {
            let fix = "name its disk image with --disk IMG".to_owned();
            return Err(Error::Argument { what: format!("{} has no data of its own", args.app), fix });
        }
        let mut disks = BTreeMap::new();
        if args.machine.disk.is_none() {
            for family in families(&args.workloads) {
                disks.insert(family, crate::data::prepare(&checkout, family, false)?);
            }
        }
        let machine = args.machine.clone();
        Ok(Comparison { args, checkout, source, built, machine, disks, caches, policies })
    }

    /// How many cores run a workload, if it is more than one. References are recorded on one, for the curves
    /// of the page; the limits of several cores are those of the references of each boot, which it finds out
    /// itself.
    fn cores_of(&self, setting: &Setting<'_>) -> Option<u32> {
        let several = self.source_is_filecache() && self.machine.cores > 1 && !setting.record;
        several.then_some(self.machine.cores)
    }

    /// The machine for a workload: with the disk that holds its data.
    fn machine_of(&self, workload: &str) -> MachineArgs {
        let mut machine = self.machine.clone();
        let own = families(&[workload.to_owned()]).next().and_then(|family| self.disks.get(&family).cloned());
        machine.disk = machine.disk.or(own);
        machine
    }

    /// What is booted of each workload with each size of the cache. A peer reads ahead in its own way, once.
    fn variants(&self) -> Vec<Variant<'_>> {
        let chosen = self.args.read_ahead.iter().map(|name| Some(name.as_str()));
        let chosen: Vec<Option<&str>> =
            if self.args.read_ahead.is_empty() { vec![None] } else { chosen.collect() };
        let of_policy = |policy| {
            let chosen = if PeerPolicy::named(policy).is_some() { &[None] } else { &*chosen };
            chosen
                .iter()
                .map(move |read_ahead| Variant { policy, read_ahead: *read_ahead })
                .collect::<Vec<_>>()
        };
        self.policies.iter().flat_map(|policy| of_policy(policy)).collect()
    }

    /// All boots: samples, and the optimum of each workload.
    fn run_all(&self) -> Result<(Vec<Sample>, BTreeMap<String, Optimum>)> {
        let peers = self.policies.iter().filter_map(|name| PeerPolicy::named(name)).count();
        let peer = (peers > 0).then(|| Peer::prepare(self)).transpose()?;
        let mut optima = BTreeMap::new();
        let mut samples = Vec::new();
        let variants = self.variants();
        let boots = self.caches.len() * variants.len() * self.args.runs as usize;
        let total = self.args.workloads.len() * (1 + boots);
        let mut done = 0;
        for workload in &self.args.workloads {
            done += 1;
            eprintln!("exo: [{done}/{total}] {workload}: recording references");
            let optimum = self.optimum(workload)?;
            for cache in &self.caches {
                for (run, Variant { policy, read_ahead }) in order(&variants, self.args.runs) {
                    done += 1;
                    let ahead = read_ahead.map(|name| format!(", read-ahead {name}")).unwrap_or_default();
                    eprintln!("exo: [{done}/{total}] {workload}, cache {cache}: {policy}{ahead}");
                    let setting = Setting { workload, cache, policy, record: false, read_ahead };
                    let mut sample = match (PeerPolicy::named(policy), &peer) {
                        (Some(wanted), Some(peer)) if peer.offers(wanted) => {
                            peer.boot(self, &setting, run)?
                        }
                        (Some(_), _) => {
                            eprintln!("exo: {policy} is left out: the kernel does not have it");
                            continue;
                        }
                        (None, _) => boot::boot(self, &setting, run)?,
                    };
                    let blocks = sample.line.cache_blocks;
                    let (least, fixed) = (&mut sample.line.opt_misses, &mut sample.line.fixed_misses);
                    least.get_or_insert_with(|| optimum.misses(blocks));
                    fixed.get_or_insert_with(|| optimum.fixed_misses(blocks));
                    if self.source_is_filecache() {
                        sample.policy_lines = policy_lines::of(&self.checkout, workload, policy)?;
                    }
                    samples.push(sample);
                }
            }
            optima.insert(workload.clone(), optimum);
        }
        Ok((samples, optima))
    }

    /// What the page shows beside the rows.
    fn analyses(
        &self,
        rows: &[summary::Row],
        optima: &BTreeMap<String, Optimum>,
    ) -> Result<BTreeMap<String, Analysis>> {
        // Of several ways to read ahead, the first: misses hardly depend on them.
        let first = rows.iter().find(|row| row.line.role != Role::Peer);
        let first = first.map_or("", |row| &row.line.read_ahead);
        let read_ahead = first.parse().unwrap_or_default();
        let mut analyses = BTreeMap::new();
        for (name, optimum) in optima {
            eprintln!("exo: {name}: curves for the page");
            let of_this = |row: &&summary::Row| row.line.workload == *name && row.line.read_ahead == first;
            let rows: Vec<&summary::Row> = rows.iter().filter(of_this).collect();
            let workload = self.source_is_filecache().then(|| name.parse().ok()).flatten();
            let machine = self.machine_of(name);
            let program = workload.zip(machine.disk.as_deref());
            let program = program.map(|(workload, image)| HostProgram { workload, image, read_ahead });
            if let Some(analysis) = analysis::analyse(optimum, &rows, program.as_ref())? {
                analyses.insert(name.clone(), analysis);
            }
        }
        Ok(analyses)
    }

    fn source_is_filecache(&self) -> bool {
        self.source == Source::Member("filecache".into())
    }

    /// Boots once with recording, on a disk that is not slowed down.
    fn optimum(&self, workload: &str) -> Result<Optimum> {
        let read_ahead = self.args.read_ahead.first().map(String::as_str);
        let cache = &self.caches[0];
        let setting = Setting { workload, cache, policy: "default", record: true, read_ahead };
        let sample = boot::boot(self, &setting, 0)?;
        Ok(Optimum::of(sample.references))
    }
}

/// The families of data of these workloads, as far as they are filecache's.
fn families(workloads: &[String]) -> impl Iterator<Item = DataFamily> {
    let families = workloads.iter().filter_map(|name| Some(name.parse::<Workload>().ok()?.family()));
    families.collect::<BTreeSet<_>>().into_iter()
}

/// Variants in the order of their boots: forwards, backwards, forwards, ...
fn order<V: Copy>(variants: &[V], runs: u32) -> Vec<(u32, V)> {
    (0..runs)
        .flat_map(|run| {
            let mut turn: Vec<(u32, V)> = variants.iter().map(|variant| (run, *variant)).collect();
            if run % 2 == 1 {
                turn.reverse();
            }
            turn
        })
        .collect()
}

/// A result line with what the guest could not know.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    line: &'a results::CompareLine,
    /// Number of the boot among those of its policy and read-ahead, from 0.
    run: u32,
    /// Lines of code of the policy, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_lines: Option<u64>,
    /// Block reads that HyperExo's accounting (only where it runs) and QEMU (not on Bochs) counted, mounting
    /// included.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounted_reads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emulator_reads: Option<u64>,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

fn json_lines<'a>(samples: &'a [Sample], conditions: &'a Conditions) -> impl Iterator<Item = JsonLine<'a>> {
    samples.iter().map(move |sample| JsonLine {
        line: &sample.line,
        run: sample.run,
        policy_lines: sample.policy_lines,
        accounted_reads: sample.counts.hyperexo.map(|[reads, _]| reads),
        emulator_reads: sample.counts.qemu.map(|[reads, _]| reads),
        conditions,
    })
}

/// Results that make the comparison worthless are errors.
fn judge(samples: &[Sample], optima: &BTreeMap<String, Optimum>) -> Result<()> {
    for Sample { line, counts, .. } in samples {
        let what = format!("{} under {}", line.workload, line.policy);
        if !line.verified {
            let (expected, actual) = (&line.expected, &line.actual);
            return Err(Error::Measurement(format!(
                "{what}: wrong result: expected {expected}, found {actual}"
            )));
        }
        counts.check(&what)?;
        if line.role == Role::Peer {
            // It has no counter of references that could agree, and its budget is not exact to the block.
            continue;
        }
        if line.opt_misses.is_some_and(|least| line.misses < least) {
            return Err(Error::Measurement(format!(
                "{what}: {} misses are fewer than Belady's optimum: the references were not the same",
                line.misses
            )));
        }
        let recorded = optima.get(&line.workload).map_or(0, Optimum::references);
        if line.cores.is_none() && line.references != 0 && recorded != line.references {
            eprintln!(
                "exo: warning: {what}: {} references, but {recorded} were recorded: Belady's optimum is for those",
                line.references
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_interleaved() {
        let names: Vec<&str> = order(&["a", "b"], 3).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["a", "b", "b", "a", "a", "b"]);
    }
}
