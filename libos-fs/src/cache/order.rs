//! Doubly linked lists over small numbers, all of whose operations take constant time.

use alloc::vec::Vec;
use core::mem::size_of;

/// No item; also: in no list.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
    /// The list it is in.
    list: u32,
}

const UNLINKED: Links = Links { before: NONE, after: NONE, list: NONE };

#[derive(Clone, Copy)]
struct Ends {
    front: u32,
    back: u32,
    length: u32,
}

/// Several lists over one range of items: an item, a small number such as a slot, is in at most one of them. 12 bytes
/// for each item up to the largest there has been, whatever the number of lists.
///
/// Items are below 2³² − 1. Operations on items that are in no list do nothing.
pub struct Lists {
    links: Vec<Links>,
    ends: Vec<Ends>,
}

impl Lists {
    /// Bytes that an item takes.
    pub const ITEM_BYTES: usize = size_of::<Links>();

    /// So many lists, all empty. They are known by their numbers, from 0.
    pub fn new(lists: usize) -> Lists {
        let empty = Ends { front: NONE, back: NONE, length: 0 };
        Lists { links: Vec::new(), ends: (0..lists).map(|_| empty).collect() }
    }

    fn links(&self, item: usize) -> Links {
        self.links.get(item).copied().unwrap_or(UNLINKED)
    }

    fn some(item: u32) -> Option<usize> {
        (item != NONE).then_some(item as usize)
    }

    /// Takes an item out of the list it is in.
    pub fn remove(&mut self, item: usize) {
        let Links { before, after, list } = self.links(item);
        let Some(ends) = self.ends.get_mut(list as usize) else { return };
        match self.links.get_mut(before as usize) {
            Some(links) => links.after = after,
            None => ends.front = after,
        }
        match self.links.get_mut(after as usize) {
            Some(links) => links.before = before,
            None => ends.back = before,
        }
        ends.length -= 1;
        self.links[item] = UNLINKED;
    }

    /// Puts an item at the back of a list, from wherever it was.
    ///
    /// # Panics
    /// If there is no such list.
    pub fn push_back(&mut self, list: usize, item: usize) {
        if self.ends[list].back == item as u32 {
            return;
        }
        self.remove(item);
        if item >= self.links.len() {
            self.links.resize(item + 1, UNLINKED);
        }
        let ends = &mut self.ends[list];
        let before = core::mem::replace(&mut ends.back, item as u32);
        ends.length += 1;
        match self.links.get_mut(before as usize) {
            Some(links) => links.after = item as u32,
            None => ends.front = item as u32,
        }
        self.links[item] = Links { before, after: NONE, list: list as u32 };
    }

    /// Puts an item before another one, into the same list.
    pub fn insert_before(&mut self, item: usize, next: usize) {
        let list = self.links(next).list;
        if item == next || list == NONE {
            return;
        }
        self.remove(item);
        if item >= self.links.len() {
            self.links.resize(item + 1, UNLINKED);
        }
        let before = core::mem::replace(&mut self.links[next].before, item as u32);
        let ends = &mut self.ends[list as usize];
        ends.length += 1;
        match self.links.get_mut(before as usize) {
            Some(links) => links.after = item as u32,
            None => ends.front = item as u32,
        }
        self.links[item] = Links { before, after: next as u32, list };
    }

    /// Puts an item where another one is, which leaves its list.
    pub fn replace(&mut self, item: usize, by: usize) {
        self.insert_before(by, item);
        if item != by {
            self.remove(item);
        }
    }

    /// The list an item is in.
    pub fn list_of(&self, item: usize) -> Option<usize> {
        Lists::some(self.links(item).list)
    }

    /// Whether an item is in this list.
    pub fn contains(&self, list: usize, item: usize) -> bool {
        self.list_of(item) == Some(list)
    }

    /// The item at the front of a list.
    pub fn front(&self, list: usize) -> Option<usize> {
        self.ends.get(list).and_then(|ends| Lists::some(ends.front))
    }

    /// The item at the back of a list.
    pub fn back(&self, list: usize) -> Option<usize> {
        self.ends.get(list).and_then(|ends| Lists::some(ends.back))
    }

    /// The item after another one in its list.
    pub fn after(&self, item: usize) -> Option<usize> {
        Lists::some(self.links(item).after)
    }

    /// The item before another one in its list.
    pub fn before(&self, item: usize) -> Option<usize> {
        Lists::some(self.links(item).before)
    }

    /// Items in a list.
    pub fn len(&self, list: usize) -> usize {
        self.ends.get(list).map_or(0, |ends| ends.length as usize)
    }

    /// Whether a list is empty.
    pub fn is_empty(&self, list: usize) -> bool {
        self.len(list) == 0
    }

    /// The items of a list, from front to back.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.front(list), |item| self.after(*item))
    }
}

/// An order of slots, from front to back. A slot is in it at most once; operations on slots that are not in it, or
/// that are in it already, do nothing wrong. 12 bytes a slot.
pub struct Order(Lists);

impl Default for Order {
    fn default() -> Order {
        Order(Lists::new(1))
    }
}

impl Order {
    /// Puts a slot at the back; moves it there if it was elsewhere.
    pub fn push_back(&mut self, slot: usize) {
        self.0.push_back(0, slot);
    }

    /// Takes a slot out, if it is in.
    pub fn remove(&mut self, slot: usize) {
        self.0.remove(slot);
    }

    /// Puts a slot before another one, towards the front.
    pub fn insert_before(&mut self, slot: usize, next: usize) {
        self.0.insert_before(slot, next);
    }

    /// Puts a slot where another one is, which goes out.
    pub fn replace(&mut self, slot: usize, by: usize) {
        self.0.replace(slot, by);
    }

    /// Whether a slot is in.
    pub fn contains(&self, slot: usize) -> bool {
        self.0.contains(0, slot)
    }

    /// The slot at the front.
    pub fn front(&self) -> Option<usize> {
        self.0.front(0)
    }

    /// The slot at the back.
    pub fn back(&self) -> Option<usize> {
        self.0.back(0)
    }

    /// The slot after another one, towards the back.
    pub fn after(&self, slot: usize) -> Option<usize> {
        self.0.after(slot)
    }

    /// Slots in the order.
    pub fn len(&self) -> usize {
        self.0.len(0)
    }

    /// Whether no slot is in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty(0)
    }

    /// The slots, from front to back.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against vectors.
        #[test]
        fn lists_are_lists(steps in prop::collection::vec((0u8..4, 0usize..3, 0usize..12, 0usize..12), 0..200)) {
            let mut lists = Lists::new(3);
            let mut model = vec![Vec::new(); 3];
            for (step, list, item, other) in steps {
                let place = |model: &[Vec<usize>], item: usize| {
                    let list = model.iter().position(|list| list.contains(&item))?;
                    Some((list, model[list].iter().position(|at| *at == item)?))
                };
                match step {
                    0 => lists.remove(item),
                    1 => lists.push_back(list, item),
                    2 => lists.insert_before(item, other),
                    _ => lists.replace(item, other),
                }
                let target = match step {
                    2 => place(&model, other).map(|_| (item, other)),
                    3 => place(&model, item).map(|_| (other, item)),
                    _ => None,
                };
                match (step, target) {
                    (0 | 1, _) => {
                        model.iter_mut().for_each(|list| list.retain(|at| *at != item));
                        if step == 1 {
                            model[list].push(item);
                        }
                    }
                    (_, Some((moved, next))) if moved != next => {
                        model.iter_mut().for_each(|list| list.retain(|at| *at != moved));
                        let (list, position) = place(&model, next).unwrap();
                        model[list].insert(position, moved);
                        if step == 3 {
                            model[list].remove(position + 1);
                        }
                    }
                    _ => {}
                }
                for (number, expected) in model.iter().enumerate() {
                    prop_assert_eq!(&lists.iter(number).collect::<Vec<_>>(), expected);
                    prop_assert_eq!(lists.back(number), expected.last().copied());
                    prop_assert_eq!(lists.len(number), expected.len());
                }
            }
        }
    }
}
