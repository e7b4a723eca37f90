//! How few misses there could be, for somebody who knows the future.

use super::plan::{Plan, Step, Traffic};
use super::run::{AT_ONCE, bytes_in_store};
use alloc::vec::Vec;
use hashbrown::HashMap;

/// A use of a state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The state: another number after each change, and when it was good no longer.
    pub state: u64,
    /// Bytes in the store.
    pub bytes: u64,
    /// Whether it was put there, instead of read.
    pub is_write: bool,
}

/// The uses of a traffic with one in `part` of its requests, in order.
pub fn references(traffic: Traffic, part: u64) -> Vec<Use> {
    let mut plan = Plan::new(traffic, part);
    let mut uses = Vec::new();
    while let Some(step) = plan.next() {
        let mut add = |number: u64, is_write| {
            let record = plan.record(number);
            let state = record.version << 32 | number;
            uses.push(Use { state, bytes: bytes_in_store(record), is_write });
        };
        match step {
            Step::Read(numbers) => numbers.into_iter().for_each(|number| add(number, false)),
            Step::Write(number) => add(number, true),
        }
    }
    uses
}

/// Fewer misses than these no policy can have in `memory` bytes, with one in `part` of the requests.
///
/// Where all records have the same size it is Belady's optimum. Else that is not known how to find: here it
/// is what the bound of D. S. Berger et al., "Practical Bounds on Optimal Caching with Variable Object
/// Sizes", SIGMETRICS 2018, allows (PFOO-L). To keep a record from one use to the next takes its bytes for
/// that long; the cheapest are kept, up to the product of all bytes and all time.
pub fn optimal_misses(traffic: Traffic, part: u64, memory: u64) -> u64 {
    let uses = references(traffic, part);
    let largest = uses.iter().map(|one| one.bytes).max().unwrap_or(1);
    // A command may exceed the memory by what it puts there.
    let memory = memory + largest * if traffic.scans() { AT_ONCE as u64 } else { 1 };
    if traffic.is_uniform() {
        let states: Vec<u64> = uses.iter().map(|one| one.state).collect();
        let writes = uses.iter().filter(|one| one.is_write).count() as u64;
        // A write is the first use of a state, and no miss.
        return libos_fs::cache::optimal_misses((memory / largest) as usize, &states) - writes;
    }
    let mut last: HashMap<u64, usize> = HashMap::new();
    let mut prices = Vec::new();
    for (now, one) in uses.iter().enumerate() {
        let before = last.insert(one.state, now);
        if let Some(before) = before.filter(|_| !one.is_write) {
            prices.push((now - before) as u128 * u128::from(one.bytes));
        }
    }
    prices.sort_unstable();
    let mut room = u128::from(memory) * uses.len() as u128;
    let kept = prices.iter().take_while(|price| match room.checked_sub(**price) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    });
    let reads = uses.iter().filter(|one| !one.is_write).count();
    (reads - kept.count()) as u64
}
