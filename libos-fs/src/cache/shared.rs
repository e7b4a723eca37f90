//! A cache that several cores use at once.

use super::chains::mix;
use super::policies::{Cached, Clock, ReplacementPolicy, S3Fifo, SharedMarks, Sieve};
use crate::lock::{Mutex, MutexGuard};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Marks are counted up to here, which is what the most demanding policy, [`S3Fifo`], asks for.
const MOST_USES: u8 = 3;

/// Looks at a lock before a thread of the host lets others go on.
#[cfg(feature = "std")]
const SPINS: u32 = 64;

/// Slots of a shard are numbered in so many bits.
const SLOT_BITS: u32 = 31;

/// Finds a word (a buffer's number, an address) by the number of a block, under any [`ReplacementPolicy`], on
/// several cores.
///
/// Blocks are divided among *shards* by their hash, each with its part of the capacity and a policy of its
/// own.
///
/// * **A hit takes no lock.** It reads a shard's table between two looks at a version number; if they differ,
///   or are odd, another core was changing the table, and the hit is looked up again under the shard's lock.
///   Under the *marking* policies ([`SharedCache::clock`], [`SharedCache::sieve`], [`SharedCache::s3_fifo`])
///   a hit then raises a mark: one plain store, and none if the mark is there already. Any other policy
///   ([`SharedCache::new`]) is told of the hit if nobody holds the shard's lock at the moment; else it is
///   not, which costs precision, not time.
/// * **A miss** takes the lock of one shard, a spin lock, for a constant time: nothing waits for a device
///   under it.
/// * **Memory**: from 8 to 16 bytes a block for the table, 24 for its number and word, 1 for its mark, and
///   what the policy takes: 8 for LRU, CLOCK and SIEVE, 12 for S3-FIFO. No allocation after the start but for
///   the policies' ghosts.
///
/// With one shard, used by one core, it misses exactly as [`simulate`](crate::cache::simulate) says.
///
/// ```
/// use libos_fs::cache::SharedCache;
///
/// let cache = SharedCache::sieve(1000, 8);
/// assert_eq!(cache.get(17), None);
/// cache.insert(17, 4096);
/// assert_eq!(cache.get(17), Some(4096));
/// ```
pub struct SharedCache<P> {
    shards: Box<[Shard<P>]>,
}

/// Apart from its neighbours, so that cores at different shards do not share cache lines.
#[repr(align(128))]
struct Shard<P> {
    /// Odd while the holder of the lock changes `heads` or `slots`.
    version: AtomicU64,
    /// By bits of the hash: the first slot of the chain + 1, or 0 if there is none. A power of two of them.
    heads: Box<[AtomicU32]>,
    slots: Box<[Slot]>,
    /// Where hits are marked; `None`: the policy itself is told.
    marks: Option<SharedMarks>,
    keeper: Mutex<Keeper<P>>,
}

struct Slot {
    block: AtomicU64,
    word: AtomicU64,
    /// The next slot of its chain + 1, or 0 if it is the last.
    next: AtomicU32,
}

/// What only the holder of a shard's lock sees.
struct Keeper<P> {
    policy: P,
    /// Slots in use are those below.
    used: usize,
    /// Slots below `used` that hold nothing.
    free: Vec<usize>,
}

impl<P> Keeper<P> {
    /// Slots that hold a block.
    #[inline]
    fn in_use(&self) -> usize {
        self.used - self.free.len()
    }
}

impl SharedCache<Clock<SharedMarks>> {
    /// Under [`Clock`].
    ///
    /// # Panics
    ///
    /// As [`SharedCache::new`].
    pub fn clock(capacity: usize, shards: usize) -> Self {
        SharedCache::marking(capacity, shards, Clock::with_marks)
    }
}

impl SharedCache<Sieve<SharedMarks>> {
    /// Under [`Sieve`].
    ///
    /// # Panics
    ///
    /// As [`SharedCache::new`].
    pub fn sieve(capacity: usize, shards: usize) -> Self {
        SharedCache::marking(capacity, shards, Sieve::with_marks)
    }
}

impl SharedCache<S3Fifo<SharedMarks>> {
    /// Under [`S3Fifo`].
    ///
    /// # Panics
    ///
    /// As [`SharedCache::new`].
    pub fn s3_fifo(capacity: usize, shards: usize) -> Self {
        SharedCache::marking(capacity, shards, S3Fifo::with_marks)
    }
}

impl<P: ReplacementPolicy> SharedCache<P> {
    /// Room for `capacity` blocks in so many shards (rounded up to a power of two), each under a policy from
    /// `make`. A shard should have some hundreds of blocks: it cannot lend room to another.
    ///
    /// # Panics
    ///
    /// If a shard would have 2³¹ blocks or more, or none.
    pub fn new(capacity: usize, shards: usize, make: impl Fn() -> P) -> SharedCache<P> {
        SharedCache::build(capacity, shards, |_| (make(), None))
    }

    fn marking(capacity: usize, shards: usize, make: impl Fn(SharedMarks) -> P) -> SharedCache<P> {
        SharedCache::build(capacity, shards, |slots| {
            let marks = SharedMarks::new(slots);
            (make(marks.clone()), Some(marks))
        })
    }

    fn build(
        capacity: usize,
        shards: usize,
        make: impl Fn(usize) -> (P, Option<SharedMarks>),
    ) -> SharedCache<P> {
        let shards = shards.next_power_of_two();
        let slots = |shard: usize| capacity / shards + usize::from(shard < capacity % shards);
        assert!(capacity >= shards, "{capacity} blocks cannot be divided among {shards} shards");
        assert!(slots(0) < 1 << SLOT_BITS, "{} blocks are too many for a shard", slots(0));
        let shard = |number: usize| {
            let slots = slots(number);
            let (mut policy, marks) = make(slots);
            policy.resized(slots);
            let empty =
                |_| Slot { block: AtomicU64::new(0), word: AtomicU64::new(0), next: AtomicU32::new(0) };
            let heads = (0..2 * slots.next_power_of_two()).map(|_| AtomicU32::new(0));
            Shard {
                version: AtomicU64::new(0),
                heads: heads.collect(),
                slots: (0..slots).map(empty).collect(),
                marks,
                keeper: Mutex::new(Keeper { policy, used: 0, free: Vec::new() }),
            }
        };
        SharedCache { shards: (0..shards).map(shard).collect() }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<P> {
        &self.shards[hash as usize & (self.shards.len() - 1)]
    }

    /// The word of a block, if it is in the cache. Counts as a use.
    #[inline]
    pub fn get(&self, block: u64) -> Option<u64> {
        let hash = mix(block);
        let shard = self.shard(hash);
        match shard.find_unlocked(block, hash) {
            Ok((version, found)) => {
                let (slot, word) = found?;
                shard.note_use(Cached { slot, block }, version);
                Some(word)
            }
            Err(Changing) => shard.get_locked(block, hash),
        }
    }

    /// Puts a block in, with its word; if it is there already, it is used and gets another word. Returns the
    /// block that made room for it, and its word.
    // Not where a hit is looked for: that is a few instructions.
    #[inline(never)]
    pub fn insert(&self, block: u64, word: u64) -> Option<(u64, u64)> {
        let hash = mix(block);
        let shard = self.shard(hash);
        let head = shard.head(hash);
        let keeper = &mut *shard.lock();
        if let Some((slot, _)) = shard.find_from(head, block) {
            keeper.policy.accessed(Cached { slot, block });
            shard.change(|| shard.slots[slot].word.store(word, Ordering::Relaxed));
            return None;
        }
        let new = |slot| Cached { slot, block };
        if keeper.in_use() == shard.slots.len() {
            let slot = keeper.policy.victim(Some(block)).filter(|slot| *slot < keeper.used).unwrap_or(0);
            let (old, old_word) = shard.slots[slot].load();
            shard.change(|| {
                shard.unlink(mix(old), slot);
                shard.link(head, slot, block, word);
            });
            keeper.policy.replaced(Cached { slot, block: old }, new(slot));
            return Some((old, old_word));
        }
        let slot = keeper.free.pop().unwrap_or_else(|| {
            keeper.used += 1;
            keeper.used - 1
        });
        shard.change(|| shard.link(head, slot, block, word));
        keeper.policy.inserted(new(slot));
        None
    }

    /// Takes a block out. Returns its word.
    pub fn remove(&self, block: u64) -> Option<u64> {
        let hash = mix(block);
        let shard = self.shard(hash);
        let keeper = &mut *shard.lock();
        let (slot, word) = shard.find(block, hash)?;
        shard.change(|| shard.unlink(hash, slot));
        keeper.policy.removed(Cached { slot, block });
        keeper.free.push(slot);
        Some(word)
    }

    /// Whether a block is in the cache. Does not count as a use.
    pub fn contains(&self, block: u64) -> bool {
        self.peek(block).is_some()
    }

    /// The word of a block, if it is in the cache. Does not count as a use.
    pub fn peek(&self, block: u64) -> Option<u64> {
        let hash = mix(block);
        let shard = self.shard(hash);
        let found = match shard.find_unlocked(block, hash) {
            Ok((_, found)) => found,
            Err(Changing) => {
                let _keeper = shard.lock();
                shard.find(block, hash)
            }
        };
        found.map(|(_, word)| word)
    }

    /// Gives a block another word, if it is in the cache. Does not count as a use.
    pub fn set(&self, block: u64, word: u64) {
        let hash = mix(block);
        let shard = self.shard(hash);
        let _keeper = shard.lock();
        if let Some((slot, _)) = shard.find(block, hash) {
            shard.change(|| shard.slots[slot].word.store(word, Ordering::Relaxed));
        }
    }

    /// Tells the policy of each shard something, under the shard's lock.
    pub fn tell(&self, mut what: impl FnMut(&mut P)) {
        self.shards.iter().for_each(|shard| what(&mut shard.lock().policy));
    }

    /// Tells the policy something of a block, if it is in the cache.
    pub fn tell_of(&self, block: u64, what: impl FnOnce(&mut P, Cached)) {
        let hash = mix(block);
        let shard = self.shard(hash);
        let keeper = &mut *shard.lock();
        if let Some((slot, _)) = shard.find(block, hash) {
            what(&mut keeper.policy, Cached { slot, block });
        }
    }

    /// The blocks of a range that are in the cache, in their order. Looks at each slot.
    pub fn blocks_of(&self, range: Range<u64>) -> Vec<u64> {
        let mut blocks = Vec::new();
        for shard in &self.shards {
            let keeper = shard.lock();
            let in_use = (0..keeper.used).filter(|slot| !keeper.free.contains(slot));
            blocks
                .extend(in_use.map(|slot| shard.slots[slot].load().0).filter(|block| range.contains(block)));
        }
        blocks.sort_unstable();
        blocks
    }

    /// Blocks it has room for.
    pub fn capacity(&self) -> usize {
        self.shards.iter().map(|shard| shard.slots.len()).sum()
    }

    /// Blocks in the cache. Takes the lock of each shard in turn.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().in_use()).sum()
    }

    /// Whether no block is in the cache.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The table is being changed.
struct Changing;

impl Slot {
    #[inline]
    fn load(&self) -> (u64, u64) {
        (self.block.load(Ordering::Relaxed), self.word.load(Ordering::Relaxed))
    }
}

impl<P: ReplacementPolicy> Shard<P> {
    /// The lock. Who holds it needs it for some hundred instructions; a core of a unikernel waits for it, a
    /// thread of the host, whose holder may have been taken off its processor, lets others go on after a
    /// while.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Keeper<P>> {
        self.keeper.try_lock().unwrap_or_else(|| self.lock_when_free())
    }

    #[cold]
    fn lock_when_free(&self) -> MutexGuard<'_, Keeper<P>> {
        #[cfg(feature = "std")]
        loop {
            for _ in 0..SPINS {
                if let Some(keeper) = self.keeper.try_lock() {
                    return keeper;
                }
                core::hint::spin_loop();
            }
            std::thread::yield_now();
        }
        #[cfg(not(feature = "std"))]
        self.keeper.lock()
    }

    /// Where the chain of a hash begins. The lower half of the hash divides blocks among shards.
    #[inline(always)]
    fn head(&self, hash: u64) -> &AtomicU32 {
        &self.heads[(hash >> 32) as usize & (self.heads.len() - 1)]
    }

    /// Slot and word of a block, as long as nobody else changes the table.
    #[inline(always)]
    fn find(&self, block: u64, hash: u64) -> Option<(usize, u64)> {
        self.find_from(self.head(hash), block)
    }

    /// The same from the head of its chain on.
    #[inline(always)]
    fn find_from(&self, head: &AtomicU32, block: u64) -> Option<(usize, u64)> {
        let mut link = head.load(Ordering::Relaxed);
        // A chain that changes under a reader can look as if it had no end.
        let mut left = self.slots.len();
        while link != 0 && left > 0 {
            // While the table changes a place can hold any slot, but none that there is not.
            let number = link as usize - 1;
            let slot = self.slots.get(number)?;
            if slot.block.load(Ordering::Relaxed) == block {
                return Some((number, slot.word.load(Ordering::Relaxed)));
            }
            link = slot.next.load(Ordering::Relaxed);
            left -= 1;
        }
        None
    }

    /// Puts a block, with its word, into a slot that is in no chain, at the head of this one. The caller
    /// holds the lock.
    #[inline]
    fn link(&self, head: &AtomicU32, number: usize, block: u64, word: u64) {
        let slot = &self.slots[number];
        slot.block.store(block, Ordering::Relaxed);
        slot.word.store(word, Ordering::Relaxed);
        slot.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
        head.store(number as u32 + 1, Ordering::Relaxed);
    }

    /// Takes a slot out of the chain of this hash. The caller holds the lock.
    #[inline]
    fn unlink(&self, hash: u64, number: usize) {
        let after = self.slots[number].next.load(Ordering::Relaxed);
        let mut before = self.head(hash);
        loop {
            match before.load(Ordering::Relaxed) as usize {
                0 => return,
                found if found == number + 1 => return before.store(after, Ordering::Relaxed),
                other => before = &self.slots[other - 1].next,
            }
        }
    }

    /// The same without the lock (H.-J. Boehm, "Can seqlocks get along with programming language memory
    /// models?", MSPC 2012, figure 6): what was read counts if the version has not moved meanwhile.
    #[inline(always)]
    fn find_unlocked(&self, block: u64, hash: u64) -> Result<(u64, Option<(usize, u64)>), Changing> {
        let before = self.version.load(Ordering::Acquire);
        let found = self.find(block, hash);
        fence(Ordering::Acquire);
        let after = self.version.load(Ordering::Relaxed);
        if before == after && before.is_multiple_of(2) { Ok((before, found)) } else { Err(Changing) }
    }

    /// The word of a block while others change the table all the time.
    #[cold]
    fn get_locked(&self, block: u64, hash: u64) -> Option<u64> {
        let mut keeper = self.lock();
        let (slot, word) = self.find(block, hash)?;
        match &self.marks {
            Some(marks) => marks.raise(slot, MOST_USES),
            None => keeper.policy.accessed(Cached { slot, block }),
        }
        Some(word)
    }

    /// Tells the policy of a use: by a mark, or under the lock if that is free and nothing has changed since
    /// the version at which the block was found.
    #[inline]
    fn note_use(&self, block: Cached, version: u64) {
        if let Some(marks) = &self.marks {
            marks.raise(block.slot, MOST_USES);
        } else if let Some(mut keeper) = self.keeper.try_lock()
            && self.version.load(Ordering::Relaxed) == version
        {
            keeper.policy.accessed(block);
        }
    }

    /// Changes table or slots; the caller holds the lock.
    #[inline(always)]
    fn change(&self, how: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        how();
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}
