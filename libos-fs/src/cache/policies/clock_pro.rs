//! CLOCK-Pro.

use super::ghosts::{Entry, GhostQueue};
use super::per_slot::PerSlot;
use super::replacement::{Cached, ReplacementPolicy};
use crate::cache::order::Order;

/// A block in the cache.
#[derive(Clone, Copy, Default)]
struct Page {
    hot: bool,
    /// Cold and in its test period: used again now, it becomes hot.
    in_test: bool,
    /// Used since a hand last looked at it.
    used: bool,
}

/// LIRS by a clock (S. Jiang, F. Chen, X. Zhang, "CLOCK-Pro: an effective improvement of the CLOCK
/// replacement", USENIX ATC 2005, section 4). Hot blocks, cold blocks, and cold blocks that have left during
/// their test period are on one ring. The cold hand looks for a victim; a cold block used in its test period
/// becomes hot; the hot hand makes hot blocks cold again and ends the test periods that it passes; the test
/// hand keeps the number of ghosts to that of blocks in the cache. How many cold blocks there should be
/// adapts: one more when a test period ends by a use, one fewer when it ends without. It starts at 1 % of the
/// cache, as in LIRS; the cache fills with hot blocks.
///
/// 27 bytes a slot, and up to 52 for each of as many ghosts. Constant time on average: a hit sets a mark.
#[derive(Default)]
pub struct ClockPro {
    /// Items are those of [`Entry`]. A hand moves from front to back, and from the back to the front.
    ring: Order,
    pages: PerSlot<Page>,
    ghosts: GhostQueue,
    /// The items the hands are at; `None`: the front.
    cold_hand: Option<usize>,
    hot_hand: Option<usize>,
    test_hand: Option<usize>,
    hot: usize,
    resident: usize,
    /// The paper's m_c: how many blocks in the cache should be cold.
    cold_target: usize,
    capacity: usize,
}

impl ClockPro {
    fn max_hot(&self) -> usize {
        self.capacity.saturating_sub(self.cold_target)
    }

    /// A test period has ended, with a use or without.
    fn test_ended(&mut self, used: bool) {
        let target = if used { self.cold_target + 1 } else { self.cold_target.saturating_sub(1) };
        self.cold_target = target.clamp(1, self.capacity.saturating_sub(1).max(1));
    }

    /// Moves the hands that are at an item to the next one.
    fn move_hands_from(&mut self, item: usize) {
        let next = self.ring.after(item);
        for hand in [&mut self.cold_hand, &mut self.hot_hand, &mut self.test_hand] {
            if *hand == Some(item) {
                *hand = next;
            }
        }
    }

    fn unlink(&mut self, item: usize) {
        self.move_hands_from(item);
        self.ring.remove(item);
    }

    /// Puts a block where the hot hand comes to last.
    fn put_at_head(&mut self, slot: usize) {
        let item = Entry::Slot(slot).item();
        self.unlink(item);
        self.ring.push_back(item);
        if let Some(hand) = self.hot_hand {
            self.ring.insert_before(item, hand);
        }
    }

    fn forget_ghost(&mut self, number: usize) {
        self.unlink(Entry::Ghost(number).item());
        self.ghosts.forget_number(number);
    }

    fn make_hot(&mut self, slot: usize) {
        self.pages.set(slot, Page { hot: true, in_test: false, used: false });
        self.hot += 1;
        self.put_at_head(slot);
        while self.hot > self.max_hot() && self.step_hot_hand() {}
    }

    /// What a hand that ends test periods does at an entry that is not hot.
    fn end_test(&mut self, entry: Entry) {
        match entry {
            Entry::Ghost(number) => {
                self.forget_ghost(number);
                self.test_ended(false);
            }
            Entry::Slot(slot) => {
                let page = self.pages.get(slot);
                if page.in_test && !page.hot {
                    self.pages.set(slot, Page { in_test: false, ..page });
                    if !page.used {
                        self.test_ended(false);
                    }
                }
            }
        }
    }

    /// `false` if there is nothing to look at.
    fn step_hot_hand(&mut self) -> bool {
        let Some(item) = self.hot_hand.or(self.ring.front()) else { return false };
        self.hot_hand = self.ring.after(item);
        match Entry::of(item) {
            Entry::Slot(slot) if self.pages.get(slot).hot => {
                let used = self.pages.get(slot).used;
                self.pages.set(slot, Page { hot: used, in_test: false, used: false });
                self.hot -= usize::from(!used);
            }
            entry => self.end_test(entry),
        }
        true
    }

    /// Ends test periods until there are no more ghosts than there is room for blocks.
    fn limit_ghosts(&mut self) {
        while self.ghosts.len() > self.capacity {
            let Some(item) = self.test_hand.or(self.ring.front()) else { return };
            self.test_hand = self.ring.after(item);
            self.end_test(Entry::of(item));
        }
    }

    fn leave(&mut self, slot: usize) {
        let page = self.pages.get(slot);
        self.hot -= usize::from(page.hot);
        self.resident -= 1;
        self.pages.set(slot, Page::default());
    }
}

impl ReplacementPolicy for ClockPro {
    fn name(&self) -> &'static str {
        "clock-pro"
    }

    fn resized(&mut self, blocks: usize) {
        self.capacity = blocks;
        // With nothing in its care it has learned nothing yet.
        let target = if self.resident == 0 { blocks / 100 } else { self.cold_target };
        self.cold_target = target.clamp(1, blocks.saturating_sub(1).max(1));
        while self.hot > self.max_hot() && self.step_hot_hand() {}
    }

    fn inserted(&mut self, block: Cached) {
        self.resident += 1;
        if let Some(number) = self.ghosts.find(block.block) {
            self.forget_ghost(number);
            self.test_ended(true);
            self.make_hot(block.slot);
        } else if self.hot + 1 == self.resident && self.hot < self.max_hot() {
            self.make_hot(block.slot);
        } else {
            self.pages.set(block.slot, Page { hot: false, in_test: true, used: false });
            self.put_at_head(block.slot);
        }
        self.limit_ghosts();
    }

    fn accessed(&mut self, block: Cached) {
        self.pages.set(block.slot, Page { used: true, ..self.pages.get(block.slot) });
    }

    fn removed(&mut self, block: Cached) {
        self.unlink(Entry::Slot(block.slot).item());
        self.leave(block.slot);
    }

    fn evicted(&mut self, block: Cached) {
        let page = self.pages.get(block.slot);
        let item = Entry::Slot(block.slot).item();
        if page.hot || !page.in_test {
            return self.removed(block);
        }
        let ghost = Entry::Ghost(self.ghosts.push(block.block)).item();
        self.move_hands_from(item);
        self.ring.replace(item, ghost);
        self.leave(block.slot);
    }

    /// The cold hand.
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        while self.resident > 0 {
            if self.hot == self.resident {
                // Blocks that are not in this policy's care take room: there may be none that are cold.
                self.step_hot_hand();
                continue;
            }
            let item = self.cold_hand.or(self.ring.front())?;
            self.cold_hand = Some(item);
            let Entry::Slot(slot) = Entry::of(item) else {
                self.cold_hand = self.ring.after(item);
                continue;
            };
            let page = self.pages.get(slot);
            match page {
                Page { hot: true, .. } => self.cold_hand = self.ring.after(item),
                Page { used: false, .. } => return Some(slot),
                Page { in_test: true, .. } => {
                    self.test_ended(true);
                    self.make_hot(slot);
                }
                _ => {
                    self.pages.set(slot, Page { hot: false, in_test: true, used: false });
                    self.put_at_head(slot);
                }
            }
        }
        None
    }
}
