//! Which read-ahead policy suits a plan: each is run by the cache itself, over a disk without contents whose
//! time is calculated.

use super::character::Reference;
use super::plan::Plan;
use super::units::Unit;
use crate::cache::replay::in_parallel;
use crate::recorded::{self, Named};
use crate::units::{signed_percent, thousands};
use libos_fs::cache::Replay;
use libos_fs::device::DiskTime;
use libos_fs::{BLOCK_BYTES, CacheOptions, FileId, FsError, ReadAheadKind};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;

/// Policies that look at references only. The others need to be told what will be read.
pub const KINDS: [ReadAheadKind; 4] =
    [ReadAheadKind::None, ReadAheadKind::OneBlock, ReadAheadKind::Sequential, ReadAheadKind::Cluster];

/// A larger cache is not run: each of its blocks takes a page of memory, on every thread.
const MOST_BLOCKS: u64 = 1 << 17;
/// A gain of less time than this share is not worth a line.
const WORTH: f64 = 0.01;

/// What the program asked for, call by call, and how long its files are.
pub struct Calls {
    calls: Vec<(FileId, u64, u64)>,
    lengths: BTreeMap<FileId, u64>,
}

impl Calls {
    /// Those of a record. Traces of other kinds do not tell calls: each block is one. A file whose length is
    /// not recorded ends with the last block that was referred to.
    pub fn new(file: &Path, references: &[Reference], names: &BTreeMap<u64, Named>) -> Calls {
        let calls = recorded::calls(file)
            .unwrap_or_else(|| references.iter().map(|(file, block)| (*file, *block, 1)).collect());
        let mut lengths: BTreeMap<FileId, u64> = BTreeMap::new();
        for (file, first, blocks) in &calls {
            let length = lengths.entry(*file).or_default();
            *length = (*length).max(first.saturating_add(*blocks));
        }
        for (file, length) in &mut lengths {
            let recorded = names.get(&file.0).and_then(|named| named.bytes).unwrap_or_default();
            *length = (*length).max(recorded.div_ceil(BLOCK_BYTES as u64));
        }
        Calls { calls, lengths }
    }

    /// References that all policies take together.
    pub fn work(&self) -> u64 {
        let references: u64 = self.calls.iter().map(|(.., blocks)| blocks).sum();
        references.saturating_mul(KINDS.len() as u64)
    }

    /// What each policy makes of a plan, for a cache of so many blocks. `None` if that is too large a cache.
    pub fn foretell(
        &self,
        plan: &Plan,
        units: &[Unit],
        blocks: u64,
        time: DiskTime,
        threads: NonZero<usize>,
    ) -> Option<Vec<Ahead>> {
        // A cache that holds all files has no use for more.
        let blocks = blocks.min(self.lengths.values().sum::<u64>().max(1));
        let buffers = usize::try_from(blocks).ok().filter(|_| blocks <= MOST_BLOCKS)?;
        in_parallel(KINDS.to_vec(), threads, |kind| self.run(plan, units, buffers, time, kind).ok())
            .into_iter()
            .collect()
    }

    fn run(
        &self,
        plan: &Plan,
        units: &[Unit],
        blocks: usize,
        time: DiskTime,
        kind: ReadAheadKind,
    ) -> Result<Ahead, FsError> {
        let options = CacheOptions { blocks, read_ahead: kind, ..CacheOptions::default() };
        let lengths = self.lengths.iter().map(|(file, blocks)| (*file, *blocks));
        let replay = Replay::new(options, lengths, time);
        for (priority, policy) in &plan.policies {
            replay.manager().set_policy(*priority, *policy);
        }
        for (unit, priority) in plan.raised() {
            for file in &units[unit].files {
                replay.manager().set_priority(*file, priority)?;
            }
        }
        for (file, first, blocks) in &self.calls {
            replay.call(*file, *first..*first + *blocks)?;
        }
        let counted = replay.statistics();
        Ok(Ahead {
            kind,
            blocks_read: counted.blocks_read,
            requests: counted.read_requests,
            wait_ns: replay.elapsed_ns(),
        })
    }
}

/// What a program does under a read-ahead policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The policy.
    pub kind: ReadAheadKind,
    /// Blocks that it reads.
    pub blocks_read: u64,
    /// Requests that carry them.
    pub requests: u64,
    /// How long it waits for them, if it does nothing else.
    pub wait_ns: u64,
}

/// The policy to take: the one that waits least, but the library's own if that gains hardly anything.
pub fn best(all: &[Ahead]) -> Option<Ahead> {
    let default = all.iter().find(|ahead| ahead.kind == ReadAheadKind::default());
    let least = all.iter().min_by_key(|ahead| ahead.wait_ns)?;
    let worth = default.is_none_or(|default| least.wait_ns as f64 <= default.wait_ns as f64 * (1.0 - WORTH));
    Some(*if worth { least } else { default? })
}

/// The policies: heads, then a line for each.
pub fn table(all: &[Ahead]) -> Vec<Vec<String>> {
    let heads = ["read-ahead", "blocks read", "requests", "ms", "against the default"];
    let default = all.iter().find(|ahead| ahead.kind == ReadAheadKind::default());
    let line = |ahead: &Ahead| {
        let is_default = ahead.kind == ReadAheadKind::default();
        let against = default.filter(|default| !is_default && default.wait_ns > 0);
        vec![
            format!("{}{}", ahead.kind.name(), if is_default { " (default)" } else { "" }),
            thousands(ahead.blocks_read),
            thousands(ahead.requests),
            format!("{:.1}", ahead.wait_ns as f64 / 1e6),
            against.map_or_else(String::new, |default| {
                signed_percent(ahead.wait_ns as f64 / default.wait_ns as f64 - 1.0)
            }),
        ]
    };
    std::iter::once(heads.map(str::to_owned).to_vec()).chain(all.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libos_fs::PolicyKind;

    const TIME: DiskTime = DiskTime { request_ns: 100_000, block_ns: 20_000 };

    fn foretold(calls: Vec<(FileId, u64, u64)>, length: u64) -> Vec<Ahead> {
        let calls = Calls { calls, lengths: [(FileId(1), length)].into() };
        let plan = Plan::general(PolicyKind::Lru, 0);
        calls.foretell(&plan, &[], 100, TIME, NonZero::<usize>::MIN).expect("a small cache")
    }

    #[test]
    fn a_file_read_in_order_wants_large_requests() {
        let all = foretold((0..1000).map(|block| (FileId(1), block, 1)).collect(), 1000);
        assert!(all.iter().all(|ahead| ahead.blocks_read == 1000), "{all:?}");
        assert_eq!((all[0].requests, all[0].wait_ns), (1000, 1000 * TIME.of(1)));
        let best = best(&all).unwrap();
        assert!(best.requests < 300 && best.wait_ns < all[0].wait_ns / 2, "{all:?}");
    }

    #[test]
    fn blocks_here_and_there_want_no_read_ahead() {
        let all = foretold((0..1000).map(|at| (FileId(1), at * 7919 % 100_003, 1)).collect(), 100_003);
        assert_eq!((all[0].blocks_read, all[0].requests), (1000, 1000));
        // Little is wasted, as there is room for little beside what a full cache keeps.
        assert!(all[3].blocks_read > 1050 && all[3].wait_ns > all[0].wait_ns, "{all:?}");
        // The library's own follows what is read in order, so it costs hardly anything here, and stays.
        assert!(all[2].blocks_read <= 1001, "{all:?}");
        assert_eq!(best(&all).unwrap().kind, ReadAheadKind::Sequential);
    }

    #[test]
    fn blocks_of_one_call_come_together_without_read_ahead() {
        let all = foretold((0..125).map(|at| (FileId(1), at * 8, 8)).collect(), 1000);
        assert!(all[0].requests < 500 && all[0].blocks_read == 1000, "{all:?}");
    }
}
