//! How far to read ahead, by what an open file has been asked for.

use crate::cache::ReadAheadKind;
use crate::error::FsError;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The read-ahead policies that several cores can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    None,
    OneBlock,
    Sequential,
    Cluster,
}

impl Ahead {
    /// By its name elsewhere; what follows disclosures is refused.
    pub(super) fn of(kind: ReadAheadKind) -> Result<Ahead, FsError> {
        match kind {
            ReadAheadKind::None => Ok(Ahead::None),
            ReadAheadKind::OneBlock => Ok(Ahead::OneBlock),
            ReadAheadKind::Sequential => Ok(Ahead::Sequential),
            ReadAheadKind::Cluster => Ok(Ahead::Cluster),
            ReadAheadKind::Directed | ReadAheadKind::Aggressive => {
                Err(FsError::Unsupported("read-ahead by disclosures on several cores; take `sequential`"))
            }
        }
    }

    /// As a number.
    pub(super) fn number(self) -> u64 {
        self as u64
    }

    /// The one with this number.
    pub(super) fn numbered(number: u64) -> Ahead {
        [Ahead::None, Ahead::OneBlock, Ahead::Sequential]
            .into_iter()
            .find(|ahead| ahead.number() == number)
            .unwrap_or(Ahead::Cluster)
    }

    /// How many blocks should come ahead after so many that were asked for in order, `limit` at most.
    pub(super) fn blocks(self, run: u64, limit: u64) -> u64 {
        match self {
            Ahead::None => 0,
            Ahead::OneBlock => limit.min(1),
            Ahead::Sequential => limit.min(run),
            Ahead::Cluster => limit,
        }
    }
}

/// What an open file has been asked for: on cache lines of its own, so that a core that counts disturbs no
/// other. Of two cores that use the same open file, one may overlook what the other has noted.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct Tally {
    hits: AtomicU64,
    /// The block that comes next if the file is read in order, and how many have been.
    expected: AtomicU64,
    run: AtomicU64,
}

impl Tally {
    /// Hits so far.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// A block was found.
    #[inline]
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    /// A block is asked for. Returns how many were in order before it.
    #[inline]
    pub(super) fn follow(&self, block: u64) -> u64 {
        let expected = self.expected.load(Relaxed);
        let next = block.wrapping_add(1);
        let run = self.run.load(Relaxed);
        if next == expected {
            return run;
        }
        let run = if block == expected { run.saturating_add(1) } else { 0 };
        self.run.store(run, Relaxed);
        self.expected.store(next, Relaxed);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_noticed() {
        let tally = Tally::default();
        let runs: Vec<u64> = [5, 6, 7, 7, 7, 8, 3, 4, 4, 5].map(|block| tally.follow(block)).into();
        assert_eq!(runs, [0, 1, 2, 2, 2, 3, 0, 1, 1, 2]);
    }

    #[test]
    fn policies_survive_as_numbers() {
        for kind in ReadAheadKind::ALL {
            if let Ok(ahead) = Ahead::of(kind) {
                assert_eq!(Ahead::numbered(ahead.number()), ahead, "{}", kind.name());
            }
        }
        assert!(Ahead::of(ReadAheadKind::Aggressive).is_err());
    }
}
