//! In an environment of HyperExo: arguments from its command line, the disk is the extent it was given.

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use filecache::Options;
use filecache::cores::{Cores, Work, run_on_cores};
use libos_core::cores::{self, CoreHandle};
use libos_core::{argument, println, time};
use libos_fs::{RingDevice, shared};
use spin::Mutex;

/// Runs the workload. The exit code is 0 if its result was right. An error is printed, and the exit code is
/// 1.
pub fn main() -> Result<i32, String> {
    let options = Options::parse(argument).map_err(|error| format!("filecache: {error}"))?;
    let device = RingDevice::open().map_err(|error| format!("filecache: {error}"))?;
    let outcome = match options.cores {
        None => filecache::run(Box::new(device), &options, &time::now_ns),
        Some(_) => run_on_cores(device, &options, time::now_ns, shared::Cores, &OtherCores),
    };
    let outcome = outcome.map_err(|error| format!("filecache: {}: {error}", options.workload.name()))?;
    outcome.report(&mut |line| println!("{line}"));
    Ok(if outcome.line.verified { 0 } else { 1 })
}

/// The cores of the machine but this one.
struct OtherCores;

/// What they do.
static WORK: Mutex<Option<Work>> = Mutex::new(None);

fn work_at(place: u64) {
    let work = WORK.lock().as_ref().map(Arc::clone);
    if let Some(work) = work {
        work(place);
    }
}

impl Cores for OtherCores {
    fn start(&self, count: u64, work: Work) -> Result<Box<dyn FnOnce()>, String> {
        if count > cores::count() {
            return Err(format!("{count}, but the machine has {}; --cores N gives it more", cores::count()));
        }
        *WORK.lock() = Some(work);
        let others = (0..cores::count()).filter(|core| *core != cores::current()).zip(1..count);
        let started: Result<Vec<CoreHandle>, _> =
            others.map(|(core, place)| cores::start(core, work_at, place)).collect();
        let started = started.map_err(|error| error.to_string())?;
        Ok(Box::new(move || {
            started.iter().for_each(CoreHandle::join);
            // It holds the volume.
            *WORK.lock() = None;
        }))
    }
}
