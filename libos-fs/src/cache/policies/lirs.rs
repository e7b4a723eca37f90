//! LIRS.

use super::ghosts::{Entry, GhostQueue};
use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use super::share::Share;
use crate::cache::order::Order;

/// Keeps blocks of low inter-reference recency (LIR): those between whose last two uses the fewest other
/// blocks were used; the others (HIR) share a hundredth of the cache (S. Jiang, X. Zhang, "LIRS: an efficient
/// low inter-reference recency set replacement policy to improve buffer cache performance", SIGMETRICS 2002,
/// section 3.3).
///
/// The stack S orders by recency LIR blocks, and HIR blocks used since the last use of the oldest LIR block,
/// in the cache or not; at its bottom is always a LIR block. The queue Q has the HIR blocks of the cache: its
/// front is the victim. A HIR block that is used while it is in S changes places with the LIR block at the
/// bottom.
///
/// Parameters: 1 % of the cache for HIR blocks, at least one (the paper's choice). S has at most twice as
/// many entries as fit into the cache (the paper leaves the limit open): then the ghosts that left longest
/// ago are forgotten. [`Lirs::with`] takes others.
///
/// 37 bytes a slot, and up to 52 for each ghost, of which there are at most a little more than slots.
/// Constant time on average: pruning takes out what was put in by a reference.
pub struct Lirs {
    /// S; back: top. Items are those of [`Entry`].
    stack: Order,
    /// Q; front: to be replaced first.
    queue: Order,
    is_lir: PerSlot<bool>,
    lir_blocks: usize,
    ghosts: GhostQueue,
    capacity: usize,
    hir_share: Share,
    stack_share: Share,
}

impl Default for Lirs {
    fn default() -> Lirs {
        Lirs::with(Share::percent(1), Share::percent(200))
    }
}

impl Lirs {
    /// A policy with this share of the cache for HIR blocks, at least one, and with a stack S of at most so
    /// many entries.
    pub fn with(hir: Share, stack: Share) -> Lirs {
        Lirs {
            stack: Order::default(),
            queue: Order::default(),
            is_lir: PerSlot::default(),
            lir_blocks: 0,
            ghosts: GhostQueue::default(),
            capacity: 0,
            hir_share: hir,
            stack_share: stack,
        }
    }

    fn max_lir(&self) -> usize {
        self.capacity - self.hir_share.of(self.capacity).max(1).min(self.capacity)
    }

    fn make_lir(&mut self, slot: usize) {
        self.queue.remove(slot);
        self.is_lir.set(slot, true);
        self.lir_blocks += 1;
        if self.lir_blocks > self.max_lir()
            && let Some(Entry::Slot(oldest)) = self.stack.front().map(Entry::of)
        {
            self.stack.remove(Entry::Slot(oldest).item());
            self.is_lir.set(oldest, false);
            self.lir_blocks -= 1;
            self.queue.push_back(oldest);
        }
        self.prune();
    }

    /// Takes HIR blocks off the bottom of S: no use of them could show a recency lower than that of a LIR
    /// block.
    fn prune(&mut self) {
        while let Some(item) = self.stack.front() {
            match Entry::of(item) {
                Entry::Slot(slot) if self.is_lir.get(slot) => return,
                Entry::Slot(_) => {}
                Entry::Ghost(number) => self.ghosts.forget_number(number),
            }
            self.stack.remove(item);
        }
    }

    fn push_top(&mut self, slot: usize) {
        self.stack.push_back(Entry::Slot(slot).item());
    }

    /// Keeps S to its limit.
    fn limit(&mut self) {
        while self.stack.len() > self.stack_share.of(self.capacity)
            && let Some(number) = self.ghosts.oldest()
        {
            self.stack.remove(Entry::Ghost(number).item());
            self.ghosts.forget_number(number);
        }
    }

    fn leave(&mut self, slot: usize) {
        self.queue.remove(slot);
        if self.is_lir.get(slot) {
            self.is_lir.set(slot, false);
            self.lir_blocks -= 1;
        }
    }
}

impl ReplacementPolicy for Lirs {
    fn name(&self) -> &'static str {
        "lirs"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
        while self.lir_blocks > self.max_lir()
            && let Some(Entry::Slot(oldest)) = self.stack.front().map(Entry::of)
        {
            self.leave(oldest);
            self.queue.push_back(oldest);
            self.prune();
        }
    }

    fn inserted(&mut self, block: Cached) {
        let ghost = self.ghosts.find(block.block);
        if let Some(number) = ghost {
            self.stack.remove(Entry::Ghost(number).item());
            self.ghosts.forget(block.block);
        }
        self.is_lir.set(block.slot, false);
        self.push_top(block.slot);
        if ghost.is_some() || self.lir_blocks < self.max_lir() {
            self.make_lir(block.slot);
        } else {
            self.queue.push_back(block.slot);
        }
        self.limit();
    }

    fn accessed(&mut self, block: Cached) {
        let slot = block.slot;
        let in_stack = self.stack.contains(Entry::Slot(slot).item());
        self.push_top(slot);
        if self.is_lir.get(slot) {
            self.prune();
        } else if in_stack {
            self.make_lir(slot);
        } else {
            self.queue.push_back(slot);
            self.limit();
        }
    }

    fn removed(&mut self, block: Cached) {
        self.leave(block.slot);
        self.stack.remove(Entry::Slot(block.slot).item());
        self.prune();
    }

    fn evicted(&mut self, block: Cached) {
        let entry = Entry::Slot(block.slot);
        if self.stack.contains(entry.item()) {
            let number = self.ghosts.push(block.block);
            self.stack.replace(entry.item(), Entry::Ghost(number).item());
        }
        self.leave(block.slot);
        self.prune();
    }

    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        self.queue.front().or_else(|| match self.stack.front().map(Entry::of) {
            Some(Entry::Slot(slot)) => Some(slot),
            _ => None,
        })
    }
}
