//! On the host: the first argument is a disk image, which is read into memory and left as it is; the others
//! are the words of the command line.
//!
//! With the feature `linux` it can also be `/FOLDER@DISK`: then the workload runs over the files there, on
//! that disk, under the kernel's page cache; see [`filecache::linux`].

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
    #[cfg(feature = "linux")]
    if let Some((folder, disk)) = image.split_once('@') {
        return run_on_linux(folder, disk, value);
    }
    let options = Options::parse(value).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(&image).map_err(|error| format!("{image}: {error}"))?;
    let start = Instant::now();
    let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if options.cores.is_some() {
        return Err("cores=: several cores are for the unikernel; the tests run them as threads".to_owned());
    }
    let outcome = filecache::run(Box::new(RamDisk::from_bytes(bytes)), &options, &now_ns)
        .map_err(|error| format!("{}: {error}", options.workload.name()))?;
    outcome.report(&mut |line| println!("{line}"));
    Ok(outcome.line.verified)
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
