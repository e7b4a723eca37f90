//! Cores that share heap, console and clock at the same time, and look for damage.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use libos_core::cores::StartError;
use libos_core::time;

/// Blocks that a core holds in a round.
const BLOCKS: u64 = 200;
/// Words of a block, at most.
const WORDS: u64 = 700;
const NAP: Duration = Duration::from_micros(300);

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static DAMAGED: AtomicU64 = AtomicU64::new(0);

/// What came of it.
pub struct Shared {
    /// Rounds of all cores together.
    pub rounds: u64,
    /// Blocks that did not hold what their core had written, and naps that were too short.
    pub damaged: u64,
}

/// So many rounds on each of so many cores.
pub fn rounds(rounds: u64, cores: u64) -> Result<Shared, StartError> {
    ROUNDS.store(rounds, Ordering::Relaxed);
    super::on_all(cores, work)?;
    Ok(Shared { rounds: DONE.load(Ordering::Relaxed), damaged: DAMAGED.load(Ordering::Relaxed) })
}

fn work(place: u64) {
    for round in 0..ROUNDS.load(Ordering::Relaxed) {
        let mark = |block: u64| place << 48 | round << 24 | block;
        let mut blocks: Vec<Box<[u64]>> = Vec::new();
        for block in 0..BLOCKS {
            // Of all sizes, a page among them.
            let words = 1 + block * 37 % WORDS;
            blocks.push(vec![mark(block); words as usize].into_boxed_slice());
            if block % 3 == 0 {
                blocks.swap_remove((block * 7 % blocks.len() as u64) as usize);
            }
        }
        let is_ours = |word: &u64| word >> 24 == mark(0) >> 24;
        let damaged = blocks
            .iter()
            .filter(|block| !block.iter().all(|word| *word == block[0] && is_ours(word)))
            .count();
        let before = time::ticks();
        time::sleep(NAP);
        let short =
            u128::from(time::ticks() - before) * 1_000_000_000 < NAP.as_nanos() * u128::from(time::tsc_hz());
        DAMAGED.fetch_add(damaged as u64 + u64::from(short), Ordering::Relaxed);
        libos_core::println!("place {place} round {round}: {} blocks", blocks.len());
        DONE.fetch_add(1, Ordering::Relaxed);
    }
}
