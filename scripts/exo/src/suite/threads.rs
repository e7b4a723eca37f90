//! Threads of an image.

use super::context::{Context, Said};
use super::platform::{Need, Platform};
use super::{Test, Verdict};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("thread-shares", &[], shares),
        Test::new("thread-primitives", &[], primitives),
        Test::new("thread-primitives-on-two-cores", &[Need::Cores(2)], primitives_on_two_cores),
        Test::new("threads-wait-alone", &[Need::Disk], blocking),
        Test::new("thread-overflow", &[], overflow),
    ]
}

/// Runs the unikernel on a machine whose time is the number of its instructions: quanta end where they
/// should, however busy the host is.
fn counted(context: &Context, words: &[&str]) -> Result<Said, String> {
    let machine: &[&str] = match context.platform {
        // Its clock counts instructions anyway.
        Platform::BochsVmx => &[],
        _ => &["--icount", "shift=0"],
    };
    context.run(&[&["threads"], machine, &["--"], words].concat())
}

/// A line of `do=shares`.
#[derive(Debug, serde::Deserialize)]
struct Shares {
    thousandths_of_quanta: [u64; 3],
    most_error_thousandths: u64,
}

#[derive(serde::Deserialize)]
struct SharesLine {
    shares: Shares,
}

/// Figure 3 of the exokernel paper: weights of 3, 2, 1 over 120 quanta and more. At each of six times, nobody
/// is further from its share than a quantum and the time of the switches.
fn shares(context: &Context) -> Verdict {
    let said = counted(context, &["do=shares", "scheduler=stride", "quanta=120"])?.succeeded()?;
    let lines: Vec<SharesLine> =
        said.out.lines().filter_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).collect();
    let Some(SharesLine { shares: last }) = lines.last() else { return Err("no shares".to_owned()) };
    if lines.len() != 6 || last.thousandths_of_quanta.iter().sum::<u64>() < 110_000 {
        return Err(format!("{} lines, the last: {last:?}", lines.len()));
    }
    match lines.iter().map(|line| &line.shares).find(|shares| shares.most_error_thousandths >= 1050) {
        Some(shares) => Err(format!("a quantum away from 3:2:1: {shares:?}")),
        None => Ok(()),
    }
}

/// Everything that threads wait for one another with, with quanta that are so short that they end at every
/// place; under each scheduler, where the emulator is fast enough.
fn primitives(context: &Context) -> Verdict {
    let all = ["stride", "priorities", "round-robin", "lottery", "deadline", "feedback"];
    let (schedulers, rounds) = match context.platform {
        Platform::BochsVmx => (&all[..1], "rounds=20"),
        _ => (&all[..], "rounds=60"),
    };
    for scheduler in schedulers {
        let scheduler = format!("scheduler={scheduler}");
        let said = counted(context, &["do=primitives", &scheduler, "quantum-ticks=20000", rounds])?;
        said.succeeded()?.shows("\"all\":true")?;
    }
    Ok(())
}

/// The same on two cores, which take threads from each other.
fn primitives_on_two_cores(context: &Context) -> Verdict {
    let words = ["--", "do=primitives", "cores=2", "quantum-ticks=200000", "rounds=20"];
    context
        .run(&[&["threads", "--cores", "2"], &words[..]].concat())?
        .succeeded()?
        .shows("\"all\":true")
        .map(drop)
}

/// Threads that wait for the clock or the disk leave the core to one that computes.
fn blocking(context: &Context) -> Verdict {
    let disk = super::context::text(&context.small_disk()?);
    let said = context.run(&["threads", "--disk", &disk, "--", "do=blocking", "blocks=16"])?.succeeded()?;
    said.shows("\"slept\":3,\"read\":16,").map(drop)
}

/// Who overflows its stack, or panics, is named.
fn overflow(context: &Context) -> Verdict {
    let said = context.run(&["threads", "--", "do=overflow"])?;
    said.shows("stack overflow: the stack of thread deep is full (it has 63 KiB)")?.fails_with(&["102"])?;
    let said = context.run(&["threads", "--", "do=panic"])?;
    said.shows("(in thread \"hasty\")")?.shows("on purpose")?.fails_with(&["101"])
}
