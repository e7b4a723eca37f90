//! `exo compare pager`: programs with more data than frames, under several policies for pages.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | one boot of a program, judged |
//! | [`limits`] | what the program computes and touches, and the two limits for that |
//! | [`linux`] | one boot of the same program on Linux, with swap |
//! | [`table`] | the rows as text |

mod boot;
mod limits;
mod linux;
mod table;

use super::{CompareArgs, PeerSystem, order};
use crate::build::{Built, Freshness, Source, images};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_lines;
use crate::machine::args::MachineArgs;
use crate::machine::conditions::Conditions;
use limits::Limits;
use linux::Peer;
use pager::Program;
use pager::options::{Policy, frames, scale};
use results::{PagingLine, Role};
use serde::Serialize;
use std::path::PathBuf;

/// Name of the application.
pub const APP: &str = "pager";

/// The policies of Linux: told nothing, with `madvise`, and without reading ahead from swap.
const PEER_POLICIES: [&str; 3] = ["linux", "linux-madvise", "linux-single"];

/// What all boots share.
struct Comparison<'a> {
    args: &'a CompareArgs,
    checkout: Checkout,
    built: Built,
    machine: MachineArgs,
    programs: Vec<Program>,
    policies: Vec<String>,
    /// How many times the usual data.
    scale: usize,
    /// Frames, as the program understands them; none: what each program usually has.
    memories: Vec<String>,
}

/// A boot's result line, and which boot of its policy it was.
#[derive(Serialize)]
struct Sample {
    #[serde(flatten)]
    line: PagingLine,
    run: u32,
}

/// The verb, for this application.
pub fn compare(args: &CompareArgs) -> Result<()> {
    let comparison = Comparison::prepare(args)?;
    let conditions = Conditions::look(&comparison.checkout, &comparison.machine);
    let machine = &comparison.machine;
    let (accel, why) = if args.direct { machine.direct_accelerator()? } else { machine.accelerator()? };
    eprintln!("exo: accelerator {}: {why}; {}", accel.name(), conditions.disk());
    let samples = comparison.run_all()?;
    print!("{}", table::table(&samples));
    print!("{}", table::remarks(&samples));
    if let Some(path) = &args.json {
        write_lines(path, samples.iter().map(|sample| JsonLine { sample, conditions: &conditions }))?;
    }
    judge(&samples)
}

/// A result line with what the guest could not know.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(flatten)]
    sample: &'a Sample,
    #[serde(flatten)]
    conditions: &'a Conditions,
}

impl<'a> Comparison<'a> {
    fn prepare(args: &'a CompareArgs) -> Result<Comparison<'a>> {
        refuse(args)?;
        let wrong = |what: String, fix: String| Error::Argument { what, fix };
        let mut programs = Vec::new();
        for name in &args.workloads {
            programs.push(name.parse().map_err(|why| wrong(format!("program {name:?}"), format!("{why}")))?);
        }
        if programs.is_empty() {
            programs = Program::ALL.into();
        }
        let mut policies = args.policies.clone();
        if args.peer == Some(PeerSystem::Linux) {
            // First, as the others get as many frames as they had.
            policies.splice(0..0, PEER_POLICIES.map(str::to_owned));
        }
        let scale = scale(&args.scale).map_err(|why| wrong(format!("--scale {}", args.scale), why))?;
        for name in policies.iter().filter(|name| !PEER_POLICIES.contains(&name.as_str())) {
            Policy::parse(name).map_err(|why| wrong(format!("policy {name:?}"), why))?;
        }
        let memories = args.cache.clone();
        for memory in &memories {
            frames(memory, programs[0].pages(scale))
                .map_err(|why| wrong(format!("memory {memory:?}"), why))?;
        }
        for (what, list) in [("program", &args.workloads), ("policy", &policies), ("size", &memories)] {
            super::arguments::check_once(what, list)?;
        }
        let checkout = Checkout::find()?;
        let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
        let built = images(&checkout, &[Source::Member(APP.into())], freshness)?;
        let machine = args.machine.clone();
        let machine = MachineArgs { disk: Some(blank_disk(&checkout, &programs, scale)?), ..machine };
        Ok(Comparison { args, checkout, built, machine, programs, policies, scale, memories })
    }

    /// All boots.
    fn run_all(&self) -> Result<Vec<Sample>> {
        let peers = self.policies.iter().any(|name| PEER_POLICIES.contains(&name.as_str()));
        let peer = peers.then(|| Peer::prepare(&self.checkout, &self.programs, self.scale)).transpose()?;
        let policies: Vec<&str> = self.policies.iter().map(String::as_str).collect();
        let total =
            self.programs.len() * self.memories.len().max(1) * policies.len() * self.args.runs as usize;
        let (mut samples, mut done) = (Vec::new(), 0);
        for program in &self.programs {
            eprintln!("exo: {}: recording its page references on this host", program.name());
            let limits = Limits::of(*program, self.scale);
            let usual = [program.usual_frames().to_owned()];
            for memory in if self.memories.is_empty() { &usual } else { &self.memories[..] } {
                // Linux has some more frames than it is to have: the others get no more than it had.
                let (asked, mut memory) = (memory.clone(), memory.clone());
                let mut held = u64::MAX;
                for (run, policy) in order(&policies, self.args.runs) {
                    done += 1;
                    eprintln!("exo: [{done}/{total}] {}, memory {memory}: {policy}", program.name());
                    let is_peer = PEER_POLICIES.contains(&policy);
                    if run == 0 && !is_peer && held < u64::MAX {
                        memory = held.to_string();
                    }
                    let asked = if is_peer { &asked } else { &memory };
                    let setting =
                        boot::Setting { program: *program, scale: self.scale, memory: asked, policy };
                    let mut line = match &peer {
                        Some(peer) if is_peer => peer.boot(self, &setting)?,
                        _ => boot::boot(self, &setting)?,
                    };
                    if is_peer && run == 0 {
                        held = held.min(line.frames);
                    }
                    line.verified = line.digest == limits.digest();
                    line.opt_misses = Some(limits.opt_misses(line.frames));
                    line.fixed_misses = Some(limits.fixed_misses(line.frames));
                    samples.push(Sample { line, run });
                }
            }
        }
        Ok(samples)
    }
}

/// Refuses what only other applications have.
fn refuse(args: &CompareArgs) -> Result<()> {
    if args.quick {
        return Err(super::arguments::not_quick(APP));
    }
    let given = [
        (args.verify, "--verify", "the digest of each result is always compared"),
        (!args.read_ahead.is_empty(), "--read-ahead", "pages come ahead where the program says will_need"),
        (args.html.is_some(), "--html", "--json FILE has all figures"),
        (args.csv.is_some(), "--csv", "--json FILE has all figures"),
        (args.machine.disk.is_some(), "--disk", "leave it out: pages go to a blank disk that exo makes"),
        (args.machine.cores > 1, "--cores", "the programs run on one core"),
    ];
    super::arguments::check_options(APP, &given)?;
    if args.direct { super::arguments::check_direct(&args.machine, args.peer) } else { Ok(()) }
}

/// A disk with nothing on it, large enough for all pages of any of the programs.
fn blank_disk(checkout: &Checkout, programs: &[Program], scale: usize) -> Result<PathBuf> {
    /// Disks have whole mebibytes.
    const MEBIBYTE: u64 = 1 << 20;
    let pages = programs.iter().map(|program| program.pages(scale)).max().unwrap_or(0);
    let bytes = (pages * pager::PAGE_BYTES as u64).next_multiple_of(MEBIBYTE) + MEBIBYTE;
    let path = checkout.artefacts("pager")?.join(format!("blank-{bytes}.img"));
    // Boots write to a snapshot.
    let file = std::fs::File::create(&path).map_err(Error::io("create", &path))?;
    file.set_len(bytes).map_err(Error::io("write", &path))?;
    Ok(path)
}

/// Results that make the comparison worthless are errors.
fn judge(samples: &[Sample]) -> Result<()> {
    for PagingLine { program, policy, digest, verified, misses, opt_misses, role, .. } in
        samples.iter().map(|sample| &sample.line)
    {
        if !verified {
            let text = format!("{program} under {policy}: the result {digest} is wrong");
            return Err(Error::Measurement(text));
        }
        // Who forgets pages on the program's word may do with less than who may not.
        let bound = *role != Role::Peer && policy != "own";
        if bound && opt_misses.is_some_and(|least| *misses < least) {
            let text = format!("{program} under {policy}: {misses} misses are fewer than Belady's optimum");
            return Err(Error::Measurement(text));
        }
    }
    Ok(())
}
