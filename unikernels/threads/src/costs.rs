//! What threads cost: one line for each operation, in the form of the unikernel `primitives`, so that
//! `-icount shift=0` and Bochs count instructions.

use alloc::vec::Vec;
use libos_core::sync::channel;
use libos_core::thread::{self, JoinHandle, SpawnError};
use libos_core::{println, time};

const BATCHES: u64 = 5;

/// Prints the ticks of each operation, of the fastest of some batches. Nothing can be wrong: returns `true`.
pub fn measure(rounds: u64) -> Result<bool, SpawnError> {
    report("thread-yield-alone", rounds, || {
        (0..rounds).for_each(|_| thread::yield_now());
        Ok(())
    })?;
    // Two threads give way to each other: two switches a round, each by way of the scheduler.
    report("thread-switch", 2 * rounds, || {
        let other = thread::spawn("other", move || (0..rounds).for_each(|_| thread::yield_now()))?;
        (0..rounds).for_each(|_| thread::yield_now());
        other.join();
        Ok(())
    })?;
    report("thread-pipe-round-trip", rounds, || {
        let (there, comes) = channel::<u64>(1);
        let (back, returns) = channel::<u64>(1);
        let other = thread::spawn("echo", move || comes.iter().all(|value| back.send(value).is_ok()))?;
        (0..rounds).for_each(|value| {
            let _ = there.send(value);
            returns.receive();
        });
        drop(there);
        other.join();
        Ok(())
    })?;
    report("thread-unpark-round-trip", rounds, || {
        let main = thread::current().ok_or(SpawnError::NotStarted)?;
        let other = thread::spawn("parker", move || {
            (0..rounds).for_each(|_| {
                thread::park();
                main.unpark();
            });
        })?;
        (0..rounds).for_each(|_| {
            other.thread().unpark();
            thread::park();
        });
        other.join();
        Ok(())
    })?;
    report("thread-spawn-join", rounds, || {
        (0..rounds).try_for_each(|_| thread::spawn("short", || ()).map(JoinHandle::join))
    })?;
    Ok(true)
}

fn report(
    name: &str,
    operations: u64,
    mut batch: impl FnMut() -> Result<(), SpawnError>,
) -> Result<(), SpawnError> {
    let ticks = (0..BATCHES)
        .map(|_| {
            let start = time::ticks();
            batch()?;
            Ok(time::ticks() - start)
        })
        .collect::<Result<Vec<u64>, SpawnError>>()?;
    let least = ticks.into_iter().min().unwrap_or_default() as f64 / operations as f64;
    println!("{{\"primitive\":\"{name}\",\"operations\":{operations},\"ticks\":{least:.2},\"exits\":{{}}}}");
    Ok(())
}
