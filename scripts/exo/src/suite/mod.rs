//! `exo test`: system tests. Each boots machines through this very tool, as a user would.
//!
//! | module | what |
//! |---|---|
//! | [`context`] | running the tool as a child, and judging what it says |
//! | [`work`] | what must work |
//! | [`hostile`] | what must not get through |
//! | [`faults`] | what must fail, with one clear line |
//!
//! A test names what it needs of a platform; a platform that does not offer it shows the test as "not offered".

mod context;
mod faults;
mod hostile;
mod work;

use crate::bench::write_lines;
use crate::build::{Freshness, Source, images};
use crate::checkout::Checkout;
use crate::children::interrupted;
use crate::error::{Error, Result};
use context::Context;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `exo test`.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Tests whose names contain one of these words; all if none is given
    names: Vec<String>,
    /// Platform; may be repeated
    #[arg(long, value_enum, default_value = "qemu-svm")]
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

/// Where tests can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Platform {
    /// HyperExo on QEMU, on SVM (emulated or real).
    QemuSvm,
}

impl Platform {
    fn name(self) -> &'static str {
        match self {
            Platform::QemuSvm => "qemu-svm",
        }
    }

    /// Whether it has something.
    fn offers(self, need: Need) -> bool {
        match (self, need) {
            (Platform::QemuSvm, Need::Disk | Need::DiskFaults | Need::DiskThrottling) => true,
            (Platform::QemuSvm, Need::Program(name)) => crate::children::program_path(name).is_some(),
        }
    }
}

/// What a test needs of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A disk.
    Disk,
    /// A disk that fails on demand.
    DiskFaults,
    /// A disk that can be slowed down.
    DiskThrottling,
    /// A program of the host.
    Program(&'static str),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Need::Disk => f.write_str("a disk"),
            Need::DiskFaults => f.write_str("a disk that fails on demand"),
            Need::DiskThrottling => f.write_str("a disk that can be slowed down"),
            Need::Program(name) => write!(f, "{name} on the host"),
        }
    }
}

/// The end of a test that failed: why.
pub type Verdict = std::result::Result<(), String>;

/// A system test.
pub struct Test {
    /// Its name.
    pub name: String,
    /// What it needs.
    pub needs: &'static [Need],
    /// The test.
    pub run: Box<dyn Fn(&Context) -> Verdict>,
}

impl Test {
    fn new(name: &str, needs: &'static [Need], run: fn(&Context) -> Verdict) -> Test {
        Test { name: name.to_owned(), needs, run: Box::new(run) }
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
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let names = ["hello", "hostile", "filecache"].map(|name| Source::Member(name.to_owned()));
    let built = images(&checkout, &names, freshness)?;
    let data = crate::data::prepare(&checkout, false)?;
    let context = Context::new(checkout, built, data)?;
    let mut tests = work::tests();
    tests.extend(faults::tests());
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
    let mut entries = Vec::new();
    for (number, test) in tests.iter().enumerate() {
        for platform in &args.platform {
            let entry = one(test, *platform, &context)?;
            let head = format!("[{}/{}] {} on {}", number + 1, tests.len(), test.name, platform.name());
            match &entry.outcome {
                Outcome::Passed => println!("{head}: passed ({:.1} s)", entry.seconds),
                Outcome::Failed(why) => println!("{head}: FAILED ({:.1} s)\n    {why}", entry.seconds),
                Outcome::NotOffered(what) => println!("{head}: not offered: needs {what}"),
            }
            entries.push(entry);
        }
    }
    report(&entries, args)
}

fn one(test: &Test, platform: Platform, context: &Context) -> Result<Entry> {
    let start = Instant::now();
    let outcome = match test.needs.iter().find(|need| !platform.offers(**need)) {
        Some(need) => Outcome::NotOffered(need.to_string()),
        None => (test.run)(context).map_or_else(Outcome::Failed, |()| Outcome::Passed),
    };
    if interrupted() {
        return Err(Error::Interrupted);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Entry { test: test.name.clone(), platform, outcome, seconds })
}

fn report(entries: &[Entry], args: &TestArgs) -> Result<()> {
    if args.platform.len() > 1 {
        print!("{}", matrix(entries, &args.platform));
    }
    if let Some(path) = &args.json {
        let lines = entries.iter().map(|entry| {
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
                reason,
            }
        });
        write_lines(path, lines)?;
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

/// Tests down, platforms across.
fn matrix(entries: &[Entry], platforms: &[Platform]) -> String {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.test.as_str()).collect();
    names.dedup();
    let mut text = format!("{:<36}", "");
    platforms.iter().for_each(|platform| text += &format!("{:>14}", platform.name()));
    for name in names {
        text += &format!("\n{name:<36}");
        for platform in platforms {
            let entry = entries.iter().find(|entry| entry.test == name && entry.platform == *platform);
            text += &format!(
                "{:>14}",
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
