//! A doubly linked list over slot numbers, all of whose operations take constant time.

use alloc::vec::Vec;

const NONE: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Links {
    before: usize,
    after: usize,
    linked: bool,
}

/// An order of slots, from front to back. A slot is in it at most once; operations on slots that are not in it, or
/// that are in it already, do nothing wrong.
pub struct Order {
    links: Vec<Links>,
    front: usize,
    back: usize,
    length: usize,
}

impl Default for Order {
    fn default() -> Order {
        Order { links: Vec::new(), front: NONE, back: NONE, length: 0 }
    }
}

impl Order {
    /// Puts a slot at the back; moves it there if it was elsewhere.
    pub fn push_back(&mut self, slot: usize) {
        self.remove(slot);
        if slot >= self.links.len() {
            self.links.resize(slot + 1, Links { before: NONE, after: NONE, linked: false });
        }
        self.links[slot] = Links { before: self.back, after: NONE, linked: true };
        match self.back {
            NONE => self.front = slot,
            back => self.links[back].after = slot,
        }
        self.back = slot;
        self.length += 1;
    }

    /// Takes a slot out, if it is in.
    pub fn remove(&mut self, slot: usize) {
        if !self.contains(slot) {
            return;
        }
        let Links { before, after, .. } = self.links[slot];
        match before {
            NONE => self.front = after,
            before => self.links[before].after = after,
        }
        match after {
            NONE => self.back = before,
            after => self.links[after].before = before,
        }
        self.links[slot].linked = false;
        self.length -= 1;
    }

    /// Whether a slot is in.
    pub fn contains(&self, slot: usize) -> bool {
        self.links.get(slot).is_some_and(|links| links.linked)
    }

    /// The slot at the front.
    pub fn front(&self) -> Option<usize> {
        (self.front != NONE).then_some(self.front)
    }

    /// The slot at the back.
    pub fn back(&self) -> Option<usize> {
        (self.back != NONE).then_some(self.back)
    }

    /// Slots in the order.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no slot is in.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The slots, from front to back.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.front(), |slot| {
            let after = self.links[*slot].after;
            (after != NONE).then_some(after)
        })
    }
}
