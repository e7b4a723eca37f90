//! `exo compare httpd`: the web server in its two builds, and nginx on Linux, asked for the same files of the
//! same site, more than their caches hold.
//!
//! | module | what |
//! |---|---|
//! | [`traffic`] | the site, and what is asked of it |
//! | [`limits`] | the best policy that is shipped, and Belady's optimum |
//! | [`boot`] | one boot, asked and counted |
//! | [`table`] | the rows as text |

mod boot;
mod limits;
mod table;
mod traffic;

use super::{CompareArgs, PeerSystem, order};
use crate::build::{Built, Freshness, Source, images};
use crate::error::{Error, Result};
use crate::fs::{FsVerb, files};
use crate::host::checkout::Checkout;
use crate::host::output::{write_atomically, write_lines};
use crate::host::tap::TapNetwork;
use crate::linux::servers::{Server, guest};
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::machine::conditions::Conditions;
use crate::units::parse_size;
use boot::Measured;
use hyperexo_abi::BLOCK_BYTES;
use limits::{Found, Limits};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tempfile::TempDir;
use traffic::{Request, Site, Workload};

/// Name of the application.
pub const APP: &str = "httpd";

/// Where the sizes of the files and the requests come from.
const TRAFFIC_SEED: u64 = 1;
/// Blocks that a server may have unless it is asked for: a fifth of the site.
const CACHE: &str = "20%";

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Build {
    /// `httpd` on the libOS as it is.
    Default,
    /// `httpd` with `stack=own`.
    Own,
    /// nginx in a Linux guest, with the site in its memory.
    Linux,
}

impl Build {
    fn name(self) -> &'static str {
        match self {
            Build::Default => "default",
            Build::Own => "own",
            Build::Linux => "nginx on Linux",
        }
    }
}

impl FromStr for Build {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Build, ()> {
        match name {
            "default" => Ok(Build::Default),
            "own" => Ok(Build::Own),
            _ => Err(()),
        }
    }
}

/// What is measured at once.
struct Setting<'a> {
    workload: Workload,
    requests: &'a [Request],
    blocks: u64,
    build: Build,
}

impl Setting<'_> {
    /// What it is, for messages.
    fn what(&self) -> String {
        format!("{} of {} with {} blocks", self.workload.name(), self.build.name(), self.blocks)
    }
}

/// What all boots share.
struct Comparison<'a> {
    args: &'a CompareArgs,
    checkout: Checkout,
    built: Built,
    machine: MachineArgs,
    site: Site,
    /// The site as a directory, and as a disk beside it. Removed at the end.
    scratch: TempDir,
    workloads: Vec<Workload>,
    builds: Vec<Build>,
    /// Blocks that a server may have.
    caches: Vec<u64>,
}

/// What one build came to.
#[derive(Serialize)]
struct Sample {
    workload: &'static str,
    build: Build,
    run: u32,
    cache_blocks: u64,
    site_blocks: u64,
    requests_asked: u64,
    /// Bytes of the bodies.
    body_bytes: u64,
    #[serde(flatten)]
    measured: Measured,
    instructions_per_request: f64,
    exits_per_request: Option<f64>,
    frames_sent_per_request: Option<f64>,
    bytes_copied_per_byte: Option<f64>,
    best_shipped: &'static str,
    best_shipped_misses: u64,
    opt_misses: u64,
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
        let mut workloads = Vec::new();
        for name in &args.workloads {
            workloads.push(name.parse().map_err(|why| wrong(format!("workload {name:?}"), why))?);
        }
        if workloads.is_empty() {
            workloads = Workload::ALL.into();
        }
        let mut builds = Vec::new();
        for name in &args.policies {
            let fix = || "httpd has two builds: default, own".to_owned();
            builds.push(name.parse().map_err(|()| wrong(format!("policy {name:?}"), fix()))?);
        }
        let site = Site::new();
        let words = if args.cache.is_empty() { vec![CACHE.to_owned()] } else { args.cache.clone() };
        let caches = words.iter().map(|word| blocks(word, site.blocks())).collect::<Result<Vec<_>>>()?;
        for (what, list) in [("workload", &args.workloads), ("policy", &args.policies), ("size", &words)] {
            super::arguments::check_once(what, list)?;
        }
        let checkout = Checkout::find()?;
        let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
        let built = images(&checkout, &[Source::Member(APP.into())], freshness)?;
        // Of this comparison alone: another one may run at the same time.
        let place = checkout.artefacts(APP)?;
        let scratch = TempDir::new_in(&place).map_err(Error::io("make a directory in", &place))?;
        let (folder, image) = laid_out(scratch.path(), &site)?;
        if args.peer == Some(PeerSystem::Linux) {
            // What it needs is fetched here: the namespace has no way out.
            guest(&checkout, Server::Nginx { site: &folder }, &TapNetwork::machine())?.initrd(&checkout)?;
            builds.push(Build::Linux);
        }
        let net = TapNetwork::net().parse().map_err(Error::Measurement)?;
        let machine = MachineArgs { net, disk: Some(image), ..args.machine.clone() };
        Ok(Comparison { args, checkout, built, machine, site, scratch, workloads, builds, caches })
    }

    /// All boots.
    fn run_all(&self) -> Result<Vec<Sample>> {
        let network = TapNetwork::new()?;
        network.within(|| {
            let mut samples = Vec::new();
            for workload in &self.workloads {
                samples.extend(self.run(*workload)?);
            }
            Ok(samples)
        })
    }

    /// All boots of a workload.
    fn run(&self, workload: Workload) -> Result<Vec<Sample>> {
        let requests = &Site::requests(workload, self.args.quick)[..];
        let mut samples = Vec::new();
        eprintln!("exo: {}: recording references", workload.name());
        let setting = |build, blocks| Setting { workload, requests, blocks, build };
        let limits = Limits::of(&self.recorded(&setting(Build::Default, self.caches[0]))?)?;
        for blocks in &self.caches {
            for (run, build) in order(&self.builds, self.args.runs) {
                let setting = setting(build, *blocks);
                eprintln!("exo: {}", setting.what());
                let measured = self.measure(&setting)?;
                samples.push(self.sample(&setting, run, measured, limits.with(*blocks)));
            }
        }
        Ok(samples)
    }

    fn sample(&self, setting: &Setting<'_>, run: u32, measured: Measured, limits: Found) -> Sample {
        let requests = setting.requests.len() as f64;
        let counted = measured.counted;
        let each =
            |count: fn(&boot::Counted) -> u64| counted.as_ref().map(|all| count(all) as f64 / requests);
        Sample {
            workload: setting.workload.name(),
            build: setting.build,
            run,
            cache_blocks: setting.blocks,
            site_blocks: self.site.blocks(),
            requests_asked: setting.requests.len() as u64,
            body_bytes: self.site.bytes(setting.requests),
            instructions_per_request: measured.instructions as f64 / requests,
            exits_per_request: each(|all| all.exits),
            frames_sent_per_request: each(|all| all.frames_sent),
            bytes_copied_per_byte: counted.map(|all| all.bytes_copied as f64 / all.bytes_sent.max(1) as f64),
            best_shipped: limits.best.name(),
            best_shipped_misses: limits.best_misses,
            opt_misses: limits.opt_misses,
            measured,
        }
    }
}

/// Blocks that a server may have: a share of the site, or a size.
fn blocks(word: &str, site_blocks: u64) -> Result<u64> {
    let wrong = |what: String| Error::Argument { what, fix: "--cache 20% or --cache 4M".into() };
    let blocks = match word.strip_suffix('%') {
        Some(share) => {
            let share = share.parse::<u64>().ok().filter(|share| (1..=100).contains(share));
            site_blocks * share.ok_or_else(|| wrong(format!("{word:?} is no share from 1% to 100%")))? / 100
        }
        None => parse_size(word).map_err(wrong)? / BLOCK_BYTES as u64,
    };
    if blocks == 0 {
        Err(wrong(format!("{word} is less than a block of {BLOCK_BYTES} bytes")))
    } else {
        Ok(blocks)
    }
}

/// Name of the directory of the site.
const SITE: &str = "site";

/// Writes the site into a directory, and that onto a disk.
fn laid_out(place: &Path, site: &Site) -> Result<(PathBuf, PathBuf)> {
    /// Room for the files' blocks and for what describes them.
    const BYTES: u64 = 40 << 20;
    let (folder, image) = (place.join(SITE), place.join("site.img"));
    for page in &site.pages {
        let path = folder.join(&page.path);
        let parent = path.parent().unwrap_or(&folder);
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        write_atomically(&path, &page.bytes)?;
    }
    files(&FsVerb::Make { image: image.clone(), size: BYTES, from: Some(folder.clone()) })?;
    Ok((folder, image))
}

/// Refuses what only other applications have.
fn refuse(args: &CompareArgs) -> Result<()> {
    let given = [
        (args.verify, "--verify", "every answer is always compared"),
        (!args.read_ahead.is_empty(), "--read-ahead", "leave it out"),
        (args.scale != "1", "--scale", "the site has one size"),
        (args.html.is_some(), "--html", "--json FILE has all figures"),
        (args.csv.is_some(), "--csv", "--json FILE has all figures"),
        (args.machine.disk.is_some(), "--disk", "leave it out: exo makes the site"),
        (args.machine.cores > 1, "--cores", "the server runs on one core"),
        (args.machine.icount.is_some(), "--icount", "instructions are always counted, in boots of their own"),
    ];
    super::arguments::check_options(APP, &given)?;
    if args.direct {
        return super::arguments::check_direct(&args.machine, args.peer);
    }
    match args.machine.accelerator()?.0 {
        Accel::Bochs => Err(Error::Argument {
            what: "the client asks over a tap, which Bochs has not".into(),
            fix: "--on qemu".into(),
        }),
        _ => Ok(()),
    }
}

/// Results that make the comparison worthless are errors.
fn judge(samples: &[Sample]) -> Result<()> {
    for Sample { workload, build, measured, opt_misses, .. } in samples {
        let misses = measured.counted.map(|counted| counted.block_misses);
        if *build == Build::Default && misses.is_some_and(|misses| misses < *opt_misses) {
            let text = format!("{workload}: {misses:?} misses are fewer than Belady's optimum, {opt_misses}");
            return Err(Error::Measurement(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shares_of_the_site_or_bytes() {
        assert_eq!((blocks("20%", 1000).unwrap(), blocks("4M", 1000).unwrap()), (200, 1024));
        for wrong in ["0%", "101%", "x%", "1000", "M"] {
            let fix = blocks(wrong, 1000).err().and_then(|error| error.fix());
            assert!(fix.is_some_and(|fix| fix.contains("--cache 20%")), "{wrong}");
        }
    }
}
