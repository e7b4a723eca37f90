//! A mark-and-sweep collector over a heap of objects: marking follows pointers, sweeping goes over all.

use crate::memory::{Array, Draw, Memory};

/// Objects, of [`OBJECT`] words each.
const OBJECTS: usize = 24 << 10;
/// Words of an object: mark, two pointers, a value.
const OBJECT: usize = 4;
/// Collections.
const ROUNDS: usize = 5;
/// Words of the heap and of the stack of what is to be marked.
pub(super) const ARRAYS: [usize; 2] = [OBJECTS * OBJECT, OBJECTS];

/// Pointers are numbers of objects plus 1; 0 points nowhere.
fn fill(heap: &impl Array) {
    let mut draw = Draw::new(5);
    for object in 0..OBJECTS {
        // Objects made together point to each other: mostly near, one in eight far away.
        for pointer in 1..=2 {
            let near = object + draw.below(64) as usize;
            let far = draw.below(OBJECTS as u64) as usize;
            let target = if draw.below(8) == 0 { far } else { near % OBJECTS };
            heap.set(object * OBJECT + pointer, target as u64 + 1);
        }
        heap.set(object * OBJECT + 3, draw.number());
    }
}

/// Each round drops some pointers, marks from the root, and sweeps; returns a digest of what was found.
pub(super) fn collect(memory: &impl Memory) -> u64 {
    let (heap, stack) = (memory.array(OBJECTS * OBJECT), memory.array(OBJECTS));
    fill(&heap);
    let mut found = 0u64;
    let mut draw = Draw::new(6);
    for _ in 0..ROUNDS {
        for _ in 0..OBJECTS / 64 {
            let object = draw.below(OBJECTS as u64) as usize;
            heap.set(object * OBJECT + 1 + draw.below(2) as usize, 0);
        }
        heap.normal(0..OBJECTS * OBJECT);
        mark(&heap, &stack);
        stack.discard(0..OBJECTS);
        // A sweep comes by each page once; marking begins at the first ones.
        heap.looping(0..OBJECTS * OBJECT);
        for object in 0..OBJECTS {
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

/// Marks what can be reached from object 0.
fn mark(heap: &impl Array, stack: &impl Array) {
    heap.set(0, 1);
    stack.set(0, 0);
    let mut depth = 1;
    while depth > 0 {
        depth -= 1;
        let at = stack.get(depth) as usize * OBJECT;
        for pointer in 1..=2 {
            let Some(target) = (heap.get(at + pointer) as usize).checked_sub(1) else { continue };
            if heap.get(target * OBJECT) == 0 {
                heap.set(target * OBJECT, 1);
                stack.set(depth, target as u64);
                depth += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;
    use alloc::vec;

    #[test]
    fn marks_are_what_can_be_reached() {
        let memory = Recording::default();
        let (heap, stack) = (memory.array(OBJECTS * OBJECT), memory.array(OBJECTS));
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
