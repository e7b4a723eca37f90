//! A mark-and-sweep collector over a heap of objects: marking follows pointers, sweeping goes over all.

use crate::memory::{Array, Draw, Memory};

/// Objects, of [`OBJECT`] words each, at scale 1.
const OBJECTS: usize = 24 << 10;
/// Words of an object: mark, two pointers, a value.
const OBJECT: usize = 4;
/// Collections.
const ROUNDS: usize = 5;
/// Entries of the stack among which the next object is chosen.
const CHOICE: usize = 1024;

/// Words of the heap and of the stack of what is to be marked.
pub(super) fn arrays(scale: usize) -> [usize; 2] {
    [OBJECTS * OBJECT * scale, 2 * OBJECTS * scale]
}

/// Pointers are numbers of objects plus 1; 0 points nowhere.
fn fill(heap: &impl Array) {
    let objects = heap.words() / OBJECT;
    let mut draw = Draw::new(5);
    for object in 0..objects {
        // Objects made together point to each other: mostly near, one in eight far away.
        for pointer in 1..=2 {
            let near = object + draw.below(64) as usize;
            let far = draw.below(objects as u64) as usize;
            let target = if draw.below(8) == 0 { far } else { near % objects };
            heap.set(object * OBJECT + pointer, target as u64 + 1);
        }
        heap.set(object * OBJECT + 3, draw.number());
    }
}

/// Each round drops some pointers, marks from the root, and sweeps; returns a digest of what was found.
pub(super) fn collect(memory: &impl Memory, scale: usize) -> u64 {
    let [heap, stack] = arrays(scale).map(|words| memory.array(words));
    let objects = OBJECTS * scale;
    fill(&heap);
    let mut found = 0u64;
    let mut draw = Draw::new(6);
    for _ in 0..ROUNDS {
        for _ in 0..objects / 64 {
            let object = draw.below(objects as u64) as usize;
            heap.set(object * OBJECT + 1 + draw.below(2) as usize, 0);
        }
        heap.normal(0..heap.words());
        mark(&heap, &stack);
        stack.discard(0..stack.words());
        // A sweep comes by each page once; marking begins at the first ones.
        heap.looping(0..heap.words());
        for object in 0..objects {
            let at = object * OBJECT;
            if heap.get(at) == 0 {
                continue;
            }
            heap.set(at, 0);
            found = found.wrapping_mul(31).wrapping_add(heap.get(at + 3));
        }
    }
    found
}

/// Marks what can be reached from object 0. Whether an object is marked already is asked when it is taken
/// from the stack, so each link is on it once.
fn mark(heap: &impl Array, stack: &impl Array) {
    stack.set(0, 0);
    let mut depth = 1;
    while depth > 0 {
        let object = take(heap, stack, depth);
        depth -= 1;
        if heap.get(object * OBJECT) != 0 {
            continue;
        }
        heap.set(object * OBJECT, 1);
        for pointer in 1..=2 {
            if let Some(target) = (heap.get(object * OBJECT + pointer) as usize).checked_sub(1) {
                stack.set(depth, target as u64);
                depth += 1;
            }
        }
    }
}

/// Takes an object from the stack, which has `depth`. Any order marks the same. So who knows what is in
/// memory takes such an object first, if there is one among those that came last.
fn take(heap: &impl Array, stack: &impl Array, depth: usize) -> usize {
    let top = depth - 1;
    let last = stack.get(top) as usize;
    if heap.is_in_memory(last * OBJECT) != Some(false) {
        return last;
    }
    for at in (depth.saturating_sub(CHOICE)..top).rev() {
        let other = stack.get(at) as usize;
        if heap.is_in_memory(other * OBJECT) == Some(true) {
            stack.set(at, last as u64);
            return other;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;
    use alloc::vec;

    #[test]
    fn marks_are_what_can_be_reached() {
        let memory = Recording::default();
        let [heap, stack] = arrays(1).map(|words| memory.array(words));
        fill(&heap);
        mark(&heap, &stack);
        let mut reached = vec![false; OBJECTS];
        reached[0] = true;
        let mut todo = vec![0];
        while let Some(object) = todo.pop() {
            for pointer in 1..=2 {
                let target = heap.get(object * OBJECT + pointer) as usize - 1;
                if !core::mem::replace(&mut reached[target], true) {
                    todo.push(target);
                }
            }
        }
        assert!((0..OBJECTS).all(|object| (heap.get(object * OBJECT) == 1) == reached[object]));
        assert!(reached.iter().filter(|reached| **reached).count() > OBJECTS / 2);
    }
}
