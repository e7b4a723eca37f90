//! The disk from every core: each opens it, reads, sleeps until the blocks are there, and closes it.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::{FRAME_BYTES, Page};
use libos_core::cores::StartError;
use libos_core::disk::{Disk, Operation, Request};
use libos_core::println;

static BLOCKS: AtomicU64 = AtomicU64::new(0);
static TURN: AtomicU64 = AtomicU64::new(0);
static FIRST_SUM: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Reads `blocks` blocks on each of the cores, one after the other; whether all read the same.
pub fn on_each(blocks: u64, cores: u64) -> Result<bool, StartError> {
    BLOCKS.store(blocks, Ordering::Relaxed);
    for place in 0..cores {
        TURN.store(place, Ordering::Relaxed);
        super::on_all(cores, read_in_turn)?;
    }
    Ok(WRONG.load(Ordering::Relaxed) == 0)
}

fn read_in_turn(place: u64) {
    if TURN.load(Ordering::Relaxed) != place {
        return;
    }
    let sum = match sum(BLOCKS.load(Ordering::Relaxed)) {
        Some(sum) => sum,
        None => {
            WRONG.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    println!("place {place}: sum {sum}");
    match place {
        0 => FIRST_SUM.store(sum, Ordering::Relaxed),
        _ if sum != FIRST_SUM.load(Ordering::Relaxed) => drop(WRONG.fetch_add(1, Ordering::Relaxed)),
        _ => (),
    }
}

/// The sum of all bytes of the first `count` blocks (or of all, if there are fewer), one block at a time.
fn sum(count: u64) -> Option<u64> {
    let mut disk = Disk::open().inspect_err(|error| println!("error: {error}")).ok()?;
    let mut sum = 0;
    for block in 0..count.min(disk.blocks()) {
        let buffers = vec![Box::new(Page([0; FRAME_BYTES]))];
        let request = Request { tag: block, operation: Operation::Read, block, buffers };
        disk.submit(request).inspect_err(|rejected| println!("error: {}", rejected.reason)).ok()?;
        let completion = loop {
            disk.wait();
            if let Some(completion) = disk.poll() {
                break completion;
            }
        };
        completion.result.inspect_err(|outcome| println!("error: block {block}: {outcome}")).ok()?;
        sum += completion.buffers.iter().flat_map(|page| &page.0).map(|byte| u64::from(*byte)).sum::<u64>();
    }
    Some(sum)
}
