//! What an application tells the cache of a shared volume: as it tells the ordinary one.

use super::SharedVolume;
use crate::cache::{Advice, Cached, Managed, ReplacementPolicy, reference};
use crate::device::BLOCK_BYTES;
use crate::file_id::FileId;
use alloc::boxed::Box;
use core::ops::Range;

impl SharedVolume<Managed> {
    /// Gives the blocks of a priority another policy. It is told of those in the cache. Each shard of the
    /// cache gets one from `make`.
    pub fn set_policy(&self, priority: i32, make: impl Fn() -> Box<dyn ReplacementPolicy>) {
        self.0.index.tell(|policy| policy.set_policy(priority, make()));
    }

    /// Gives a file a priority; files that were given none have 0. Blocks of lower priority are replaced
    /// first.
    pub fn set_priority(&self, file: FileId, priority: i32) {
        self.0.index.tell(|policy| policy.set_priority(file, priority));
    }

    /// Says that blocks of a file will not be needed soon: priority −1 until each is next referenced or
    /// replaced. Blocks that are not in the cache are not concerned.
    pub fn done_with(&self, file: FileId, blocks: Range<u64>) {
        // Of a range that is longer than the cache, what is there is looked for.
        let bytes = self.0.names.bytes(file).unwrap_or(0);
        let range = reference(file, blocks.start)
            ..reference(file, 0) + blocks.end.min(bytes.div_ceil(BLOCK_BYTES as u64));
        let low = |policy: &mut Managed, block: Cached| policy.set_temporary_priority(block.slot, -1);
        if range.end.saturating_sub(range.start) <= self.0.index.capacity() as u64 {
            range.for_each(|block| self.0.index.tell_of(block, low));
        } else {
            self.0.index.blocks_of(range).into_iter().for_each(|block| self.0.index.tell_of(block, low));
        }
    }

    /// Says something about blocks of a file to the policy of its priority. What comes of it is up to that
    /// policy; most ignore it.
    pub fn advise(&self, file: FileId, blocks: Range<u64>, advice: Advice) {
        self.0.index.tell(|policy| policy.advise(file, blocks.clone(), advice));
    }

    /// Blocks that the cache may hold, without staging.
    pub fn blocks(&self) -> usize {
        self.0.index.capacity()
    }
}
