//! Doubly linked lists over small numbers, all of whose operations take constant time.

use alloc::vec::Vec;

/// In no list.
const NONE: u32 = u32::MAX;

/// Of an item, or of a list: what is before its front and after its back is the list itself.
#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
    /// The list it is in.
    list: u32,
}

const UNLINKED: Links = Links { before: NONE, after: NONE, list: NONE };

/// Several lists of small numbers, such as slots. An item is in at most one of the lists. They take 12 bytes
/// for each item up to the largest there has been, and 12 for each list.
///
/// Items and lists together must be fewer than 2³² − 1. Operations on items that are in no list do nothing.
pub struct Lists {
    /// First of the lists, then of the items.
    links: Vec<Links>,
    lengths: Vec<u32>,
}

impl Lists {
    /// Bytes that an item takes.
    pub const ITEM_BYTES: usize = size_of::<Links>();

    /// So many lists, all empty. They are known by their numbers, from 0.
    pub fn new(lists: usize) -> Lists {
        let empty = |list: usize| Links { before: list as u32, after: list as u32, list: list as u32 };
        Lists { links: (0..lists).map(empty).collect(), lengths: (0..lists).map(|_| 0).collect() }
    }

    /// Where the links of an item are, or would be. Saturates: no item has a number that large.
    #[inline]
    fn at(&self, item: usize) -> usize {
        item.saturating_add(self.lengths.len())
    }

    #[inline]
    fn links(&self, item: usize) -> Links {
        self.links.get(self.at(item)).copied().unwrap_or(UNLINKED)
    }

    /// The item whose links are there, if they are not a list's.
    #[inline]
    fn item(&self, at: u32) -> Option<usize> {
        (at as usize).checked_sub(self.lengths.len())
    }

    /// Makes a place for the links of an item.
    #[inline]
    fn reach(&mut self, item: usize) {
        let at = self.at(item);
        if at >= self.links.len() {
            self.grow(at);
        }
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        self.links.resize(at + 1, UNLINKED);
    }

    /// Takes links out of those before and after them.
    #[inline]
    fn unlink(&mut self, Links { before, after, list }: Links) {
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
        self.lengths[list as usize] -= 1;
    }

    /// Takes an item out of the list it is in.
    #[inline]
    pub fn remove(&mut self, item: usize) {
        let links = self.links(item);
        if links.list == NONE {
            return;
        }
        self.unlink(links);
        let at = self.at(item);
        self.links[at] = UNLINKED;
    }

    /// Puts an item that is in no list, and has a place for its links, before what is at `next`.
    #[inline]
    fn put_before(&mut self, item: usize, next: usize) {
        let at = self.at(item);
        let Links { before, list, .. } = self.links[next];
        self.links[at] = Links { before, after: next as u32, list };
        self.links[next].before = at as u32;
        self.links[before as usize].after = at as u32;
        self.lengths[list as usize] += 1;
    }

    /// Puts an item at the back of a list, from wherever it was.
    ///
    /// # Panics
    ///
    /// If there is no such list.
    #[inline]
    pub fn push_back(&mut self, list: usize, item: usize) {
        assert!(list < self.lengths.len(), "no list {list}");
        self.reach(item);
        let links = self.links[self.at(item)];
        if links.list != NONE {
            self.unlink(links);
        }
        self.put_before(item, list);
    }

    /// Puts an item before another one, into the same list.
    pub fn insert_before(&mut self, item: usize, next: usize) {
        if item == next || self.links(next).list == NONE {
            return;
        }
        self.remove(item);
        self.reach(item);
        self.put_before(item, self.at(next));
    }

    /// Puts an item where another one is, which leaves its list.
    pub fn replace(&mut self, item: usize, by: usize) {
        self.insert_before(by, item);
        if item != by {
            self.remove(item);
        }
    }

    /// The list an item is in.
    #[inline]
    pub fn list_of(&self, item: usize) -> Option<usize> {
        Some(self.links(item).list).filter(|list| *list != NONE).map(|list| list as usize)
    }

    /// Whether an item is in this list.
    #[inline]
    pub fn contains(&self, list: usize, item: usize) -> bool {
        self.list_of(item) == Some(list)
    }

    /// The links of a list.
    #[inline]
    fn ends(&self, list: usize) -> Option<&Links> {
        self.links.get(list).filter(|_| list < self.lengths.len())
    }

    /// The item at the front of a list.
    #[inline]
    pub fn front(&self, list: usize) -> Option<usize> {
        self.item(self.ends(list)?.after)
    }

    /// The item at the back of a list.
    #[inline]
    pub fn back(&self, list: usize) -> Option<usize> {
        self.item(self.ends(list)?.before)
    }

    /// The item after another one in its list.
    #[inline]
    pub fn after(&self, item: usize) -> Option<usize> {
        let Links { after, list, .. } = self.links(item);
        if list == NONE { None } else { self.item(after) }
    }

    /// The item before another one in its list.
    pub fn before(&self, item: usize) -> Option<usize> {
        let Links { before, list, .. } = self.links(item);
        if list == NONE { None } else { self.item(before) }
    }

    /// Items in a list.
    #[inline]
    pub fn len(&self, list: usize) -> usize {
        self.lengths.get(list).map_or(0, |length| *length as usize)
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

/// What is before and after a slot in an [`Order`], as places: 0 is the order itself, a slot is at its number
/// + 1.
#[derive(Clone, Copy)]
struct Neighbours {
    /// [`NONE`]: the slot is not in.
    before: u32,
    after: u32,
}

const OUT: Neighbours = Neighbours { before: NONE, after: NONE };

/// An order of slots, from front to back. A slot is in it at most once. Operations on slots that are not in
/// it do nothing. 8 bytes a slot, up to the largest there has been; slots are below 2³² − 2.
pub struct Order {
    places: Vec<Neighbours>,
    length: usize,
}

impl Default for Order {
    fn default() -> Order {
        Order { places: Vec::from([Neighbours { before: 0, after: 0 }]), length: 0 }
    }
}

impl Order {
    #[inline]
    fn neighbours(&self, slot: usize) -> Option<Neighbours> {
        self.places.get(slot.saturating_add(1)).copied().filter(|found| found.before != NONE)
    }

    #[inline]
    fn slot_at(place: u32) -> Option<usize> {
        (place as usize).checked_sub(1)
    }

    #[cold]
    fn reach(&mut self, place: usize) {
        self.places.resize(place + 1, OUT);
    }

    /// Takes a place that is in out of its neighbours' links. Its own stay.
    #[inline]
    fn unlink(&mut self, Neighbours { before, after }: Neighbours) {
        self.places[before as usize].after = after;
        self.places[after as usize].before = before;
    }

    /// Puts a place between two neighbours.
    #[inline]
    fn link(&mut self, place: usize, between: Neighbours) {
        self.places[place] = between;
        self.places[between.before as usize].after = place as u32;
        self.places[between.after as usize].before = place as u32;
    }

    /// Puts a slot at the back; moves it there if it was elsewhere.
    #[inline]
    pub fn push_back(&mut self, slot: usize) {
        self.put_before(slot, 0);
    }

    #[inline]
    fn put_before(&mut self, slot: usize, next: usize) {
        let place = slot + 1;
        if place >= self.places.len() {
            self.reach(place);
        }
        let old = self.places[place];
        if old.before == NONE {
            self.length += 1;
        } else if old.after as usize == next {
            return;
        } else {
            self.unlink(old);
        }
        let before = self.places[next].before;
        self.link(place, Neighbours { before, after: next as u32 });
    }

    /// Takes a slot out, if it is in.
    #[inline]
    pub fn remove(&mut self, slot: usize) {
        if let Some(neighbours) = self.neighbours(slot) {
            self.unlink(neighbours);
            self.places[slot + 1] = OUT;
            self.length -= 1;
        }
    }

    /// Puts a slot before another one, towards the front.
    pub fn insert_before(&mut self, slot: usize, next: usize) {
        if slot != next && self.contains(next) {
            self.put_before(slot, next + 1);
        }
    }

    /// Puts a slot where another one is, which goes out.
    pub fn replace(&mut self, slot: usize, by: usize) {
        self.insert_before(by, slot);
        if slot != by {
            self.remove(slot);
        }
    }

    /// Whether a slot is in.
    #[inline]
    pub fn contains(&self, slot: usize) -> bool {
        self.neighbours(slot).is_some()
    }

    /// The slot at the front.
    #[inline]
    pub fn front(&self) -> Option<usize> {
        Order::slot_at(self.places[0].after)
    }

    /// The slot at the back.
    #[inline]
    pub fn back(&self) -> Option<usize> {
        Order::slot_at(self.places[0].before)
    }

    /// The slot after another one, towards the back.
    #[inline]
    pub fn after(&self, slot: usize) -> Option<usize> {
        Order::slot_at(self.neighbours(slot)?.after)
    }

    /// Slots in the order.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no slot is in.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The slots, from front to back.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.front(), |slot| self.after(*slot))
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

        /// Against a vector.
        #[test]
        fn an_order_is_an_order(steps in prop::collection::vec((0u8..4, 0usize..12, 0usize..12), 0..200)) {
            let mut order = Order::default();
            let mut model: Vec<usize> = Vec::new();
            for (step, slot, other) in steps {
                match step {
                    0 => order.remove(slot),
                    1 => order.push_back(slot),
                    2 => order.insert_before(slot, other),
                    _ => order.replace(other, slot),
                }
                let moves = step < 2 || slot != other && model.contains(&other);
                if moves {
                    model.retain(|at| *at != slot);
                    match step {
                        0 => {}
                        1 => model.push(slot),
                        _ => {
                            let at = model.iter().position(|at| *at == other).unwrap();
                            model.insert(at, slot);
                        }
                    }
                }
                if step == 3 && slot != other {
                    model.retain(|at| *at != other);
                }
                prop_assert_eq!(&order.iter().collect::<Vec<_>>(), &model);
                prop_assert_eq!((order.len(), order.back()), (model.len(), model.last().copied()));
                prop_assert_eq!(order.front(), model.first().copied());
                prop_assert!((0..12).all(|slot| order.contains(slot) == model.contains(&slot)));
            }
        }
    }
}
