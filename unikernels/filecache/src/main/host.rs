//! On the host: the first argument is a disk image, which is read into memory and left as it is; the others are the words
//! of the command line.

use filecache::Options;
use libos_fs::RamDisk;
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
    let options = Options::parse(value).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(&image).map_err(|error| format!("{image}: {error}"))?;
    let start = Instant::now();
    let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let outcome = filecache::run(Box::new(RamDisk::from_bytes(bytes)), &options, &now_ns)
        .map_err(|error| format!("{}: {error}", options.workload.name()))?;
    outcome.report(&mut |line| println!("{line}"));
    Ok(outcome.line.verified)
}
