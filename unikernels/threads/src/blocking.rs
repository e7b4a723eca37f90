//! Who waits lets others compute: for the clock, and for a disk.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::disk::{Disk, Request};
use libos_core::thread::{self, JoinHandle, SpawnError};
use libos_core::{println, time};

/// One thread computes, three sleep, and one reads `blocks` blocks one by one. Returns whether the one that
/// computes got on while each of the others waited.
pub fn check(blocks: u64) -> Result<bool, SpawnError> {
    let (end, count) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
    let (until, counted) = (Arc::clone(&end), Arc::clone(&count));
    let computes = thread::spawn("computes", move || {
        while !until.load(Ordering::Relaxed) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let sleeper = |number: u64| {
        let count = Arc::clone(&count);
        thread::spawn("sleeps", move || {
            let before = count.load(Ordering::Relaxed);
            let slept = (0..5).all(|_| {
                let (start, sleep) = (time::now_ns(), Duration::from_millis(1 + number));
                time::sleep(sleep);
                time::now_ns() - start >= sleep.as_nanos() as u64
            });
            slept && count.load(Ordering::Relaxed) > before
        })
    };
    let sleepers = [sleeper(0)?, sleeper(1)?, sleeper(2)?];
    let counted = Arc::clone(&count);
    let reader = thread::spawn("reads", move || read(blocks, &counted))?;
    let slept = sleepers.into_iter().map(JoinHandle::join).filter(|right| *right).count();
    let (read, waits) = reader.join();
    end.store(true, Ordering::Relaxed);
    computes.join();
    println!("{{\"blocking\":{{\"slept\":{slept},\"read\":{read},\"others_ran_meanwhile\":{waits}}}}}");
    Ok(slept == 3 && read == blocks && (blocks == 0 || waits > 0))
}

/// Reads blocks one after the other. Returns how many, and during how many of them others ran.
fn read(blocks: u64, count: &AtomicU64) -> (u64, u64) {
    if blocks == 0 {
        return (0, 0);
    }
    let mut disk = match Disk::open() {
        Ok(disk) => disk,
        Err(error) => {
            println!("error: {error}");
            return (0, 0);
        }
    };
    let (mut read, mut waits) = (0, 0);
    for block in 0..blocks {
        let before = count.load(Ordering::Relaxed);
        let buffers = vec![Box::new(Page([0; FRAME_BYTES]))];
        let operation = libos_core::disk::Operation::Read;
        if disk.submit(Request { tag: block, operation, block, buffers }).is_err() {
            break;
        }
        while disk.in_flight() > 0 {
            disk.wait();
            read += u64::from(disk.poll().is_some_and(|done| done.result.is_ok()));
        }
        waits += u64::from(count.load(Ordering::Relaxed) > before);
    }
    (read, waits)
}
