//! The contract between the cache and a replacement policy.

use core::ops::Range;

/// A block as a policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Number of the buffer it is in: small, dense from 0, unique among the blocks in the cache. Good as an
    /// index into a `Vec`, so that every operation can be O(1) without a hash table.
    pub slot: usize,
    /// What block it is, the same number every time it comes back: for policies that remember blocks which
    /// have left. See [`reference()`](crate::cache::reference()).
    pub block: u64,
}

/// What an application says about blocks of a file, see
/// [`BufferCache::advise`](crate::cache::BufferCache::advise). As with `posix_fadvise` it is no order: a
/// policy may ignore it, and wrong advice costs time, never data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Nothing is known any more: what was said before about these blocks no longer holds.
    Normal,
    /// They will be used soon.
    WillNeed,
    /// They will not be used soon.
    DoneWith,
    /// They are read in order, once.
    Sequential,
    /// They are read in order, again and again.
    Loop,
    /// They are read in no order.
    Random,
}

/// A replacement policy: it is told what happens to the blocks in its care, and asked for a victim.
///
/// To write one, keep whatever order you like over slot numbers. Four methods must be there:
///
/// * [`inserted`](ReplacementPolicy::inserted): a block came in (and has thereby been used once);
/// * [`accessed`](ReplacementPolicy::accessed): a block in your care was used again;
/// * [`removed`](ReplacementPolicy::removed): a block has gone, whatever the reason;
/// * [`victim`](ReplacementPolicy::victim): name the slot that should make room.
///
/// Four more do nothing else unless you write them: [`replaced`](ReplacementPolicy::replaced) tells of a
/// block that leaves and one that takes its slot, [`resized`](ReplacementPolicy::resized) tells how many
/// blocks fit, [`evicted`](ReplacementPolicy::evicted) tells a replaced block from one that was deleted, and
/// [`advised`](ReplacementPolicy::advised) passes on what the application says.
///
/// **The cache may ignore the victim it asked for.** Naming a victim removes nothing. A block leaves with
/// `evicted` or `removed`, and until then it is in your care as before. These are the reasons:
///
/// * The cache checks every answer. It does not take a slot that is not in your care, or that a device is
///   using, or `None`. It takes the block that was used longest ago instead, and counts that in
///   [`CacheStatistics::rejected_victims`](crate::cache::CacheStatistics::rejected_victims).
/// * A dirty victim is written first. If that fails, or if the block is used or removed meanwhile, it stays,
///   and you are asked again.
/// * Prefetching may ask which block you would give up, and then take one that it knows to be needed later.
///
/// So a wrong policy costs time, never data.
///
/// All methods should take constant time: they run on every access. A policy can be handed from core to core
/// (`Send`), as a cache that several use needs it.
///
/// ```
/// use libos_fs::cache::{Cached, ReplacementPolicy, simulate};
///
/// /// Replaces the block in the highest slot, for no good reason.
/// #[derive(Default)]
/// struct Highest(Vec<usize>);
///
/// impl ReplacementPolicy for Highest {
///     fn name(&self) -> &'static str { "highest" }
///     fn inserted(&mut self, block: Cached) { self.0.push(block.slot) }
///     fn accessed(&mut self, _: Cached) {}
///     fn removed(&mut self, block: Cached) { self.0.retain(|slot| *slot != block.slot) }
///     fn victim(&mut self, _: Option<u64>) -> Option<usize> { self.0.iter().max().copied() }
/// }
///
/// assert_eq!(simulate(&mut Highest::default(), 2, &[1, 2, 3, 1, 2, 3]), 5);
/// ```
pub trait ReplacementPolicy: Send {
    /// Name in reports: lower case, one word.
    fn name(&self) -> &'static str;

    /// A block has come into the policy's care.
    fn inserted(&mut self, block: Cached);

    /// A block in the policy's care has been used again.
    fn accessed(&mut self, block: Cached);

    /// A block has left the policy's care for a reason that says nothing about its worth: the file was
    /// deleted, or the block got another priority.
    fn removed(&mut self, block: Cached);

    /// A block has left the policy's care to make room, mostly because [`victim`](ReplacementPolicy::victim)
    /// named it. For policies that remember such blocks; the others need not write it.
    fn evicted(&mut self, block: Cached) {
        self.removed(block);
    }

    /// A block has made room, and another one has come into its slot: [`evicted`](ReplacementPolicy::evicted)
    /// and [`inserted`](ReplacementPolicy::inserted) at once, for policies that can do both in fewer steps.
    fn replaced(&mut self, old: Cached, new: Cached) {
        self.evicted(old);
        self.inserted(new);
    }

    /// The slot whose block should be replaced. The cache may ignore the answer; see
    /// [above](ReplacementPolicy).
    ///
    /// `missing` is the number of the block that needs the room, if there is one; `None` when the cache
    /// shrinks. It need not come into this policy's care: it may be of another priority, and reading it may
    /// fail. Asked again before anything else has happened, a policy should give the same answer.
    fn victim(&mut self, missing: Option<u64>) -> Option<usize>;

    /// How many blocks there is room for, in all: told before the first block, and whenever it changes. The
    /// blocks in the policy's care can be fewer (others have another priority) and, while a cache shrinks,
    /// more.
    fn resized(&mut self, blocks: usize) {
        let _ = blocks;
    }

    /// The application has said something about blocks, which need not be in the cache.
    fn advised(&mut self, blocks: Range<u64>, advice: Advice) {
        let _ = (blocks, advice);
    }
}
