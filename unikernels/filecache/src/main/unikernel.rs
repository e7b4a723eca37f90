//! In an environment of HyperExo: arguments from its command line, the disk is the extent it was given.

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use filecache::Options;
use libos_core::{argument, println, time};
use libos_fs::RingDevice;

/// Runs the workload. The exit code is 0 if its result was right. An error is printed, and the exit code is
/// 1.
pub fn main() -> Result<i32, String> {
    let options = Options::parse(argument).map_err(|error| format!("filecache: {error}"))?;
    let device = RingDevice::open().map_err(|error| format!("filecache: {error}"))?;
    let outcome = filecache::run(Box::new(device), &options, &time::now_ns)
        .map_err(|error| format!("filecache: {}: {error}", options.workload.name()))?;
    outcome.report(&mut |line| println!("{line}"));
    Ok(if outcome.line.verified { 0 } else { 1 })
}
