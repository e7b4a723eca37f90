//! A sequence in which elements are found, added and removed by their rank, in logarithmic time: a B-tree
//! whose keys are positions.
//!
//! Whoever keeps it sorted finds where something belongs by [`Ranked::partition_point`].

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Elements of a leaf at most.
const LEAF: usize = 64;
/// Children of an inner node at most.
const CHILDREN: usize = 32;

/// A sequence.
#[derive(Clone, Debug)]
pub struct Ranked<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Vec<T>),
    Inner(Box<Inner<T>>),
}

#[derive(Clone, Debug)]
struct Inner<T> {
    /// Elements below.
    length: usize,
    /// None is empty.
    children: Vec<Node<T>>,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()) }
    }
}

impl<T: Copy> Ranked<T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element of a rank, counted from 0.
    pub fn get(&self, rank: usize) -> Option<T> {
        let (mut node, mut rank) = (&self.root, rank);
        loop {
            match node {
                Node::Leaf(elements) => return elements.get(rank).copied(),
                Node::Inner(inner) => {
                    if rank >= inner.length {
                        return None;
                    }
                    let child = inner.child_of(&mut rank);
                    node = &inner.children[child];
                }
            }
        }
    }

    /// The rank of the first element for which `is_before` is false; all before it must be true.
    pub fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(elements) => return rank + elements.partition_point(is_before),
                Node::Inner(inner) => {
                    let last = inner.children.len() - 1;
                    let child = inner.children[..last].partition_point(|child| is_before(child.last()));
                    rank += inner.children[..child].iter().map(Node::len).sum::<usize>();
                    node = &inner.children[child];
                }
            }
        }
    }

    /// Adds an element, before the one that has its rank now.
    ///
    /// # Panics
    ///
    /// If there are fewer elements than `rank`.
    pub fn insert(&mut self, rank: usize, element: T) {
        assert!(rank <= self.len(), "no rank {rank} among {}", self.len());
        if let Some(right) = self.root.insert(rank, element) {
            let left = core::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let length = left.len() + right.len();
            self.root = Node::Inner(Box::new(Inner { length, children: vec![left, right] }));
        }
    }

    /// Takes an element out.
    ///
    /// # Panics
    ///
    /// If there is none of that rank.
    pub fn remove(&mut self, rank: usize) -> T {
        let element = self.root.remove(rank);
        while let Node::Inner(inner) = &mut self.root
            && inner.children.len() <= 1
        {
            self.root = inner.children.pop().unwrap_or(Node::Leaf(Vec::new()));
        }
        element
    }

    /// Visits elements by rank.
    pub fn visit(&self, ranks: Range<usize>, mut visit: impl FnMut(&T)) {
        self.root.visit(0, &ranks, false, &mut visit);
    }

    /// Visits elements by rank, the last first.
    pub fn visit_back(&self, ranks: Range<usize>, mut visit: impl FnMut(&T)) {
        self.root.visit(0, &ranks, true, &mut visit);
    }

    /// Bytes of memory, about: leaves are between half full and full.
    pub fn heap_bytes(&self) -> usize {
        self.len() * size_of::<T>() * 3 / 2
    }
}

impl<T> Inner<T> {
    /// The child in which a rank is; `rank` becomes its rank there.
    fn child_of(&self, rank: &mut usize) -> usize {
        for (index, child) in self.children.iter().enumerate() {
            match rank.checked_sub(child.len()) {
                Some(rest) => *rank = rest,
                None => return index,
            }
        }
        panic!("an inner node has fewer elements than its length says")
    }
}

impl<T> Node<T> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(elements) => elements.len(),
            Self::Inner(inner) => inner.length,
        }
    }

    /// Elements of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(elements) => elements.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }
}

impl<T: Copy> Node<T> {
    fn last(&self) -> &T {
        match self {
            Self::Leaf(elements) => &elements[elements.len() - 1],
            Self::Inner(inner) => inner.children[inner.children.len() - 1].last(),
        }
    }

    /// The right half, if the node had to be split.
    fn insert(&mut self, rank: usize, element: T) -> Option<Self> {
        match self {
            Self::Leaf(elements) => {
                if elements.len() < LEAF {
                    elements.insert(rank, element);
                    return None;
                }
                // What grows at its end, as most things do, leaves full leaves behind.
                let middle = if rank == LEAF { LEAF } else { LEAF / 2 };
                let mut right = Vec::with_capacity(LEAF);
                right.extend(elements.drain(middle..));
                if rank <= middle && middle < LEAF {
                    elements.insert(rank, element);
                } else {
                    right.insert(rank - middle, element);
                }
                Some(Self::Leaf(right))
            }
            Self::Inner(inner) => {
                inner.length += 1;
                let mut rank = rank;
                let last = inner.children.len() - 1;
                let mut child = 0;
                while child < last && rank > inner.children[child].len() {
                    rank -= inner.children[child].len();
                    child += 1;
                }
                let right = inner.children[child].insert(rank, element)?;
                inner.children.insert(child + 1, right);
                if inner.children.len() <= CHILDREN {
                    return None;
                }
                let middle = if child == last { CHILDREN } else { CHILDREN / 2 };
                let children: Vec<Self> = inner.children.drain(middle..).collect();
                let length = children.iter().map(Self::len).sum();
                inner.length -= length;
                Some(Self::Inner(Box::new(Inner { length, children })))
            }
        }
    }

    fn remove(&mut self, rank: usize) -> T {
        match self {
            Self::Leaf(elements) => elements.remove(rank),
            Self::Inner(inner) => {
                inner.length -= 1;
                let mut rank = rank;
                let child = inner.child_of(&mut rank);
                let element = inner.children[child].remove(rank);
                inner.tidy(child);
                element
            }
        }
    }

    fn visit(&self, start: usize, ranks: &Range<usize>, back: bool, visit: &mut dyn FnMut(&T)) {
        let from = ranks.start.saturating_sub(start);
        let to = ranks.end.saturating_sub(start).min(self.len());
        if from >= to {
            return;
        }
        match self {
            Self::Leaf(elements) if back => elements[from..to].iter().rev().for_each(visit),
            Self::Leaf(elements) => elements[from..to].iter().for_each(visit),
            Self::Inner(inner) if back => {
                let mut end = start + inner.length;
                for child in inner.children.iter().rev() {
                    end -= child.len();
                    child.visit(end, ranks, back, visit);
                }
            }
            Self::Inner(inner) => {
                let mut start = start;
                for child in &inner.children {
                    child.visit(start, ranks, back, visit);
                    start += child.len();
                }
            }
        }
    }
}

impl<T: Copy> Inner<T> {
    /// Has a child that lost an element go, or join a neighbour, if it is small.
    fn tidy(&mut self, child: usize) {
        let width = self.children[child].width();
        let most = |node: &Node<T>| if matches!(node, Node::Leaf(_)) { LEAF } else { CHILDREN };
        if width == 0 || self.children[child].len() == 0 {
            self.children.remove(child);
            return;
        }
        if width > most(&self.children[child]) / 4 || self.children.len() == 1 {
            return;
        }
        let left = if child + 1 < self.children.len() { child } else { child - 1 };
        if self.children[left].width() + self.children[left + 1].width() > most(&self.children[left]) * 3 / 4
        {
            return;
        }
        let right = self.children.remove(left + 1);
        match (&mut self.children[left], right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.extend(right),
            (Node::Inner(left), Node::Inner(right)) => {
                left.length += right.length;
                left.children.extend(right.children);
            }
            _ => unreachable!("all leaves are at one depth"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn agrees_with_a_vector() {
        let mut random = Random::new(3);
        let mut ranked = Ranked::default();
        let mut plain: Vec<u64> = Vec::new();
        for step in 0..30_000 {
            let growing = step / 5000 % 2 == 0;
            if random.below(10) < if growing { 8 } else { 1 } || plain.is_empty() {
                let element = random.next_u64() % 1000;
                // In turn in order, at the end, and anywhere.
                let rank = match step / 2500 % 3 {
                    0 => random.below(plain.len() + 1),
                    _ => plain.len(),
                };
                ranked.insert(rank, element);
                plain.insert(rank, element);
            } else {
                let rank = random.below(plain.len());
                assert_eq!(ranked.remove(rank), plain.remove(rank));
            }
            let rank = random.below(plain.len() + 2);
            assert_eq!(ranked.get(rank), plain.get(rank).copied());
            assert_eq!(ranked.len(), plain.len());
            if step % 500 == 0 {
                let start = random.below(plain.len() + 1);
                let end = start + random.below(plain.len() + 1 - start);
                let (mut there, mut back) = (Vec::new(), Vec::new());
                ranked.visit(start..end, |element| there.push(*element));
                ranked.visit_back(start..end, |element| back.push(*element));
                back.reverse();
                assert_eq!((&there[..], &back[..]), (&plain[start..end], &plain[start..end]));
            }
        }
    }

    #[test]
    fn a_sorted_sequence_is_searched() {
        let mut ranked = Ranked::default();
        let mut random = Random::new(5);
        for _ in 0..5000 {
            let element = random.next_u64() % 3000;
            ranked.insert(ranked.partition_point(|other| *other < element), element);
        }
        let mut all = Vec::new();
        ranked.visit(0..5000, |element| all.push(*element));
        assert!(all.is_sorted());
        for element in 0..3001 {
            let point = all.partition_point(|other| *other < element);
            assert_eq!(ranked.partition_point(|other| *other < element), point);
        }
    }
}
