//! Figure 3 of the exokernel paper (SOSP 1995): three threads of weights 3, 2, 1 under a stride scheduler of
//! the application.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use libos_core::sync::Barrier;
use libos_core::thread::{Builder, JoinHandle, SpawnError, Thread};
use libos_core::{println, time};

const WEIGHTS: [u64; 3] = [3, 2, 1];

/// Lets the threads compute, and prints how many quanta each has had after each sixth of the time. Returns
/// whether all of them ran.
pub fn measure(quantum: u64, quanta: u64) -> Result<bool, SpawnError> {
    /// Looks at the shares.
    const LOOKS: u64 = 6;
    let (end, start) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(WEIGHTS.len())));
    let all: Arc<AtomicU64> = Arc::default();
    let spawn = |weight: u64| -> Result<JoinHandle<()>, SpawnError> {
        let (end, start, all) = (Arc::clone(&end), Arc::clone(&start), Arc::clone(&all));
        Builder::named("computes").weight(weight as u32).spawn(move || {
            start.wait();
            while !end.load(Ordering::Relaxed) {
                all.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let threads = WEIGHTS.iter().map(|weight| spawn(*weight)).collect::<Result<Vec<_>, _>>()?;
    let ran = |threads: &[JoinHandle<()>]| -> Vec<u64> {
        threads.iter().map(JoinHandle::thread).map(Thread::ran_ticks).collect()
    };
    // The first thread sleeps meanwhile: it is not in the race.
    let mut right = true;
    let begin = time::ticks();
    for look in 1..=LOOKS {
        time::sleep_until(begin + look * quanta * quantum / LOOKS);
        let ran = ran(&threads);
        let sum: u64 = ran.iter().sum();
        let weights: u64 = WEIGHTS.iter().sum();
        let thousandths = |ticks: u64| ticks * 1000 / quantum;
        let error = |(ticks, weight): (&u64, &u64)| ticks.abs_diff(sum * weight / weights);
        let most = ran.iter().zip(&WEIGHTS).map(error).max().unwrap_or_default();
        println!(
            "{{\"shares\":{{\"thousandths_of_quanta\":[{},{},{}],\"most_error_thousandths\":{}}}}}",
            thousandths(ran[0]),
            thousandths(ran[1]),
            thousandths(ran[2]),
            thousandths(most)
        );
        right &= ran.iter().all(|ticks| *ticks > 0);
    }
    end.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(JoinHandle::join);
    Ok(right && all.load(Ordering::Relaxed) > 0)
}
