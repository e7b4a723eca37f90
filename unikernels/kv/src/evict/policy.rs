//! The contract between the store and a policy that chooses which key leaves.

/// A key as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// A small number, which no other key has that is in the policy's care.
    pub slot: usize,
    /// What key it is, the same number whenever it comes back: for policies that remember keys which have
    /// left.
    pub hash: u64,
    /// Bytes of memory that it takes, with its value.
    pub bytes: usize,
    /// When it expires, in milliseconds of the clock that the others are told by.
    pub expires_ms: Option<u64>,
    /// Whether the command that uses it names several keys: then it may be part of a scan.
    pub among_many: bool,
}

/// Chooses which key leaves when memory runs out. All methods are called as things happen; `now_ms` is a
/// clock that never goes back.
///
/// It is the contract of [`libos_fs::ReplacementPolicy`] with what a key has and a block has not: a size and
/// an end. Every policy of that library is one of these by [`OfBlocks`](super::OfBlocks).
pub trait Eviction {
    /// Its name, as `maxmemory-policy` has it.
    fn name(&self) -> &str;

    /// A key has come into the policy's care.
    fn inserted(&mut self, key: Held, now_ms: u64);

    /// It was read or changed: it may have another size or another end than before.
    fn accessed(&mut self, key: Held, now_ms: u64);

    /// It was deleted, or has expired.
    fn removed(&mut self, key: Held);

    /// It has left to make room.
    fn evicted(&mut self, key: Held) {
        self.removed(key);
    }

    /// How many keys fit, roughly: told when it has changed a good deal.
    fn resized(&mut self, keys: usize) {
        let _ = keys;
    }

    /// The slot of the key that should leave. `None` if there is none in its care.
    fn victim(&mut self, now_ms: u64) -> Option<usize>;
}
