//! On the host: the first argument is a disk image, which is read into memory and left as it is; the others
//! are the words of the command line.
//!
//! With `disk_mbps=N` time is calculated, and so the same in every run: the disk moves N megabytes a second
//! and takes 50 µs a request besides, and the program computes `compute_us=N` microseconds for each block (15
//! unless given, about what an emulated machine takes).
//!
//! With the feature `linux` it can also be `/FOLDER@DISK`: then the workload runs over the files there, on
//! that disk, under the kernel's page cache; see [`filecache::linux`].

use filecache::{Options, Outcome, RunError};
use libos_fs::cache::{Event, Observer};
use libos_fs::device::{DiskTime, SimulatedClock, TimedDisk};
use libos_fs::{BLOCK_BYTES, RamDisk};
use std::process::ExitCode;
use std::time::Instant;

/// Runs the workload; errors go to standard error.
pub fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("filecache: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = std::env::args().skip(1);
    let image =
        arguments.next().ok_or("usage: filecache IMAGE workload=NAME [policy=NAME] [cache=SIZE] ...")?;
    let words: Vec<String> = arguments.collect();
    let value = |key: &str| words.iter().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    #[cfg(feature = "linux")]
    if let Some((folder, disk)) = image.split_once('@') {
        return run_on_linux(folder, disk, value);
    }
    let options = Options::parse(value).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(&image).map_err(|error| format!("{image}: {error}"))?;
    if options.cores.is_some() {
        return Err("cores=: several cores are for the unikernel; the tests run them as threads".to_owned());
    }
    let disk = RamDisk::from_bytes(bytes);
    let number = |key: &str| {
        let parse = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
        value(key).map(|text| parse(text).ok_or(format!("{key}=: {text:?} is no number above 0"))).transpose()
    };
    let outcome = match number("disk_mbps")? {
        Some(mbps) => run_calculated(disk, &options, mbps, number("compute_us")?.unwrap_or(COMPUTE_US)),
        None => {
            let start = Instant::now();
            let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            filecache::run(Box::new(disk), &options, &now_ns)
        }
    };
    let outcome = outcome.map_err(|error| format!("{}: {error}", options.workload.name()))?;
    outcome.report(&mut |line| println!("{line}"));
    Ok(outcome.line.verified)
}

/// Time that the program computes for a block, in microseconds.
const COMPUTE_US: u32 = 15;

/// Runs a workload in calculated time: on a disk of so many megabytes a second, computing so many
/// microseconds for each block.
fn run_calculated(disk: RamDisk, options: &Options, mbps: u32, compute_us: u32) -> Result<Outcome, RunError> {
    let block_ns = BLOCK_BYTES as u64 * 1000 / u64::from(mbps);
    let clock = SimulatedClock::default();
    let disk = TimedDisk::new(disk, DiskTime { request_ns: 50_000, block_ns }, clock.clone(), 16);
    let computing = clock.clone();
    let observer: Observer = Box::new(move |event| {
        if !matches!(event, Event::Evicted(_)) {
            computing.advance(u64::from(compute_us) * 1000);
        }
    });
    filecache::run_observed(Box::new(disk), options, &|| clock.now_ns(), Some(observer))
}

#[cfg(feature = "linux")]
fn run_on_linux<'a>(
    folder: &str,
    disk: &str,
    value: impl Fn(&str) -> Option<&'a str>,
) -> Result<bool, String> {
    use filecache::linux;
    let (options, peer) = linux::parse(value).map_err(|error| error.to_string())?;
    let (outcome, memory) = linux::run(std::path::Path::new(folder), disk, &options, peer)
        .map_err(|error| format!("{}: {error}", options.workload.name()))?;
    println!(
        "memory: {} bytes without page cache; {} blocks of that, at most {}",
        memory.own_bytes, memory.mean_cached, memory.most_cached
    );
    outcome.report(&mut |line| println!("{line}"));
    Ok(outcome.line.verified)
}
