//! Lists: a ring of strings.

use crate::bytes::Bytes;
use alloc::collections::VecDeque;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first element.
    Left,
    /// The last one.
    Right,
}

/// A sequence of strings. Both ends and any index are reached in constant time; what is in the middle moves.
#[derive(Clone, Debug, Default)]
pub struct List {
    elements: VecDeque<Bytes>,
    /// Bytes that elements have beside themselves.
    heap: usize,
}

impl List {
    /// How many elements there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Adds an element at an end.
    pub fn push(&mut self, end: End, element: Bytes) {
        self.heap += element.heap_bytes();
        match end {
            End::Left => self.elements.push_front(element),
            End::Right => self.elements.push_back(element),
        }
    }

    /// Takes an element from an end.
    pub fn pop(&mut self, end: End) -> Option<Bytes> {
        let element = match end {
            End::Left => self.elements.pop_front(),
            End::Right => self.elements.pop_back(),
        }?;
        self.heap -= element.heap_bytes();
        // A list that was long once does not keep the memory of that.
        if self.elements.len() * 4 < self.elements.capacity() && self.elements.capacity() > 64 {
            self.elements.shrink_to(self.elements.len() * 2);
        }
        Some(element)
    }

    /// The element of an index.
    pub fn get(&self, index: usize) -> Option<&Bytes> {
        self.elements.get(index)
    }

    /// Replaces the element of an index, which is there.
    pub fn set(&mut self, index: usize, element: Bytes) {
        self.heap += element.heap_bytes();
        let before = core::mem::replace(&mut self.elements[index], element);
        self.heap -= before.heap_bytes();
    }

    /// Adds an element before the one that has the index now.
    pub fn insert(&mut self, index: usize, element: Bytes) {
        self.heap += element.heap_bytes();
        self.elements.insert(index, element);
    }

    /// Keeps the elements of a range of indices.
    pub fn trim(&mut self, start: usize, end: usize) {
        self.elements.truncate(end);
        self.elements.drain(..start);
        self.recount();
    }

    /// Removes elements that are equal to one: so many, from an end. How many were removed.
    pub fn remove(&mut self, element: &[u8], most: usize, from: End) -> usize {
        let equal = self.elements.iter().filter(|other| other.as_slice() == element).count();
        let removed = equal.min(most);
        // From the right end, those at the left stay.
        let mut stay = if from == End::Right { equal - removed } else { 0 };
        let mut go = removed;
        self.elements.retain(|other| {
            if other.as_slice() != element {
                return true;
            }
            if stay > 0 {
                stay -= 1;
                return true;
            }
            go = match go {
                0 => return true,
                go => go - 1,
            };
            false
        });
        self.recount();
        removed
    }

    /// The elements.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Bytes> + ExactSizeIterator + Clone {
        self.elements.iter()
    }

    /// Bytes of memory beside the list itself.
    pub fn heap_bytes(&self) -> usize {
        self.elements.capacity() * size_of::<Bytes>() + self.heap
    }

    fn recount(&mut self) {
        self.elements.shrink_to(self.elements.len() * 2);
        self.heap = self.elements.iter().map(Bytes::heap_bytes).sum();
    }
}
