//! `exo test`: system tests. Each boots machines through this very tool, as a user would.
//!
//! | module | what |
//! |---|---|
//! | [`platform`] | where tests run, and what each place offers |
//! | [`lanes`] | which tests run at the same time |
//! | [`context`] | running the tool as a child, and judging what it says |
//! | [`work`] | what must work |
//! | [`compare`] | the main job: what is measured, and that others count the same |
//! | [`guide`] | what the guide to policies of one's own promises |
//! | [`network`] | packets between environments, and to the outside |
//! | [`servers`] | servers on a tap device, asked by the programs that people use |
//! | [`paging`] | memory that a program pages itself |
//! | [`threads`] | threads of an image, and their schedulers |
//! | [`hostile`] | what must not get through |
//! | [`deploy`] | what others are told, against their own checks |
//! | [`mod@bench`] | measurements that must hold whatever the host is |
//! | [`console`] | the console of a machine without HyperExo |
//! | [`end`] | the end of a machine without a port for it |
//! | [`power_button`] | who uses the machine asks for its end |
//! | [`gdb`] | the debugger on both levels |
//! | [`image`] | images that boot without this tool |
//! | [`libvirt`] | what libvirt makes of a domain |
//! | [`linux`] | the Linux guest to compare with |
//! | [`protection`] | one image everywhere, and its guards against its own mistakes |
//! | [`faults`] | what must fail, with one clear line |
//! | [`unfit`] | machines and loaders that do not give what is needed |
//! | [`devices`] | disks that are unlike the usual one |
//! | [`disks`] | machines with several disks, or with none that can be used |
//! | [`processor`] | processors that offer less than the usual one |
//!
//! A test names what it needs of a platform; a platform that does not offer it shows the test as "not
//! offered".

mod bench;
mod compare;
mod console;
mod context;
mod deploy;
mod devices;
mod disks;
mod end;
mod faults;
mod gdb;
mod guide;
mod hostile;
mod image;
mod lanes;
mod libvirt;
mod linux;
mod network;
mod paging;
mod platform;
mod power_button;
mod processor;
mod protection;
mod servers;
mod shares;
mod threads;
mod unfit;
mod web;
mod work;

use crate::build::{Freshness, Source, images};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use context::Context;
use platform::{Need, Platform};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `exo test`.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Tests whose names contain one of these words; all if none is given
    names: Vec<String>,
    /// Platform; may be repeated (default: all)
    #[arg(long, value_enum)]
    platform: Vec<Platform>,
    /// Writes one JSON line for each test
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Names the tests and runs nothing
    #[arg(long)]
    list: bool,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
}

/// The end of a test that failed: why.
pub type Verdict = std::result::Result<(), String>;

/// A system test.
pub struct Test {
    /// Its name.
    pub name: String,
    /// What it needs.
    pub needs: Vec<Need>,
    /// The test.
    pub run: Box<dyn Fn(&Context) -> Verdict + Sync>,
}

impl Test {
    fn new(name: &str, needs: &[Need], run: fn(&Context) -> Verdict) -> Test {
        Test { name: name.to_owned(), needs: needs.to_vec(), run: Box::new(run) }
    }
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    NotOffered(String),
}

/// A line of the JSON file.
#[derive(Serialize)]
struct TestLine<'a> {
    test: &'a str,
    platform: &'a str,
    outcome: &'a str,
    seconds: f64,
    /// Its place among the [`DEAREST`], from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_rank: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A test on a platform.
struct Entry {
    test: String,
    platform: Platform,
    outcome: Outcome,
    seconds: f64,
}

/// The verb.
pub fn test(args: &TestArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    // One image of the web server for all tests, those of HTTPS included.
    let checkout = Checkout { features: vec!["httpd/tls".into()], ..Checkout::find()? };
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let names = [
        "hello",
        "hostile",
        "filecache",
        "cores",
        "network",
        "primitives",
        "httpd",
        "kv",
        "pager",
        "heaps",
        "threads",
    ]
    .map(|name| Source::Member(name.to_owned()));
    let built = images(&checkout, &names, freshness)?;
    let data = crate::data::prepare(&checkout, filecache::DataFamily::Texts, false)?;
    let context = Context::new(checkout, built, data)?;
    let mut tests = work::tests();
    tests.extend(compare::tests());
    tests.extend(guide::tests());
    tests.extend(protection::tests());
    tests.extend(faults::tests());
    tests.extend(unfit::tests());
    tests.extend(devices::tests());
    tests.extend(disks::tests());
    tests.extend(processor::tests());
    tests.extend(shares::tests());
    tests.extend(end::tests());
    tests.extend(power_button::tests());
    tests.extend(console::tests());
    tests.extend(network::tests());
    tests.extend(paging::tests());
    tests.extend(threads::tests());
    tests.extend(web::tests());
    tests.extend(servers::tests());
    tests.extend(linux::tests());
    tests.extend(image::tests());
    tests.extend(bench::tests());
    tests.extend(deploy::tests());
    tests.extend(gdb::tests());
    tests.extend(hostile::tests(&context)?);
    tests.retain(|test| args.names.is_empty() || args.names.iter().any(|word| test.name.contains(word)));
    if tests.is_empty() {
        let fix = "exo test --list names them".to_owned();
        return Err(Error::Argument { what: format!("no test named {}", args.names.join(", ")), fix });
    }
    if args.list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return Ok(());
    }
    let platforms = if args.platform.is_empty() { Platform::ALL.to_vec() } else { args.platform.clone() };
    report(&lanes::run(&tests, &platforms, context)?, &platforms, args)
}

fn report(entries: &[Entry], platforms: &[Platform], args: &TestArgs) -> Result<()> {
    if platforms.len() > 1 {
        print!("{}", matrix(entries, platforms));
    }
    let dearest = dearest(entries);
    if let Some(path) = &args.json {
        let lines = entries.iter().enumerate().map(|(index, entry)| {
            let (outcome, reason) = match &entry.outcome {
                Outcome::Passed => ("passed", None),
                Outcome::Failed(why) => ("failed", Some(why.as_str())),
                Outcome::NotOffered(what) => ("not offered", Some(what.as_str())),
            };
            TestLine {
                test: &entry.test,
                platform: entry.platform.name(),
                outcome,
                seconds: entry.seconds,
                cost_rank: dearest.iter().position(|dear| *dear == index).map(|place| place + 1),
                reason,
            }
        });
        write_lines(path, lines)?;
    }
    if entries.len() > 1 {
        println!("tests that cost most:");
    }
    for entry in dearest.iter().filter(|_| entries.len() > 1).filter_map(|index| entries.get(*index)) {
        println!("{:>8.1} s  {} on {}", entry.seconds, entry.test, entry.platform.name());
    }
    let failed: Vec<&Entry> =
        entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Failed(_))).collect();
    let passed = entries.iter().filter(|entry| entry.outcome == Outcome::Passed).count();
    let not_offered = entries.len() - passed - failed.len();
    if not_offered > 0 {
        println!("{not_offered} not offered");
    }
    for entry in &failed {
        println!("failed: {} on {}", entry.test, entry.platform.name());
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() { Ok(()) } else { Err(Error::Tests(failed.len())) }
}

/// How many tests are named that cost most.
const DEAREST: usize = 20;

/// Indices of the tests that took longest, the longest first; without those that were not run.
fn dearest(entries: &[Entry]) -> Vec<usize> {
    let ran = |index: &usize| !matches!(entries[*index].outcome, Outcome::NotOffered(_));
    let mut indices: Vec<usize> = (0..entries.len()).filter(ran).collect();
    indices.sort_by(|a, b| entries[*b].seconds.total_cmp(&entries[*a].seconds));
    indices.truncate(DEAREST);
    indices
}

/// Tests down, platforms across.
fn matrix(entries: &[Entry], platforms: &[Platform]) -> String {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.test.as_str()).collect();
    names.dedup();
    let mut text = format!("{:<36}", "");
    platforms.iter().for_each(|platform| text += &format!("{:>16}", platform.name()));
    for name in names {
        text += &format!("\n{name:<36}");
        for platform in platforms {
            let entry = entries.iter().find(|entry| entry.test == name && entry.platform == *platform);
            text += &format!(
                "{:>16}",
                match entry.map(|entry| &entry.outcome) {
                    Some(Outcome::Passed) => "passed",
                    Some(Outcome::Failed(_)) => "FAILED",
                    Some(Outcome::NotOffered(_)) => "not offered",
                    None => "",
                }
            );
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_tests_are_named() {
        let entry =
            |seconds, outcome| Entry { test: String::new(), platform: Platform::Direct, outcome, seconds };
        let mut entries: Vec<Entry> = (0..25u8).map(|at| entry(f64::from(at), Outcome::Passed)).collect();
        entries.push(entry(99.0, Outcome::NotOffered("a disk".into())));
        entries.push(entry(50.0, Outcome::Failed("timeout".into())));
        let found = dearest(&entries);
        assert_eq!((found.len(), &found[..3]), (20, &[26, 24, 23][..]));
        assert!(dearest(&[]).is_empty());
    }
}
