//! The policies of the file cache, for keys.

use super::policy::{Eviction, Held};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use libos_fs::cache::{Cached, PolicyKind, ReplacementPolicy};

/// A replacement policy of [`libos_fs`], whose blocks are keys: the very code that decides which block of a
/// file leaves the buffer cache. It sees neither sizes nor ends.
pub struct OfBlocks {
    name: String,
    policy: Box<dyn ReplacementPolicy>,
}

impl OfBlocks {
    /// A policy that comes with the library.
    pub fn new(kind: PolicyKind) -> OfBlocks {
        OfBlocks { name: format!("allkeys-{}", kind.name()), policy: kind.build(0) }
    }
}

fn block(key: Held) -> Cached {
    Cached { slot: key.slot, block: key.hash }
}

impl Eviction for OfBlocks {
    fn name(&self) -> &str {
        &self.name
    }

    fn inserted(&mut self, key: Held, _: u64) {
        self.policy.inserted(block(key));
    }

    fn accessed(&mut self, key: Held, _: u64) {
        self.policy.accessed(block(key));
    }

    fn removed(&mut self, key: Held) {
        self.policy.removed(block(key));
    }

    fn evicted(&mut self, key: Held) {
        self.policy.evicted(block(key));
    }

    fn resized(&mut self, keys: usize) {
        self.policy.resized(keys);
    }

    fn victim(&mut self, _: u64) -> Option<usize> {
        self.policy.victim(None)
    }
}
