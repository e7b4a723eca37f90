//! A hash join: a table of one relation, looked up for each tuple of the other.

use crate::memory::{Array, Draw, Memory};

/// Tuples of the relation that goes into the table, two words each.
const BUILD: usize = 16 << 10;
/// Tuples of the other relation, two words each.
const PROBE: usize = 48 << 10;
/// Places of the table, two words each: a power of two.
const PLACES: usize = 32 << 10;
/// Words of both relations and the table.
pub(super) const ARRAYS: [usize; 3] = [2 * BUILD, 2 * PROBE, 2 * PLACES];

/// A key of the relation in the table: not 0.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Where to look for a key first.
fn place(key: u64) -> usize {
    (key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as usize % PLACES
}

/// Sums the products of what belongs together.
pub(super) fn join(memory: &impl Memory) -> u64 {
    let (build, probe, table) = (memory.array(2 * BUILD), memory.array(2 * PROBE), memory.array(2 * PLACES));
    // Both relations are written and read once, in order.
    build.sequential(0..2 * BUILD);
    probe.sequential(0..2 * PROBE);
    let mut draw = Draw::new(4);
    for number in 0..BUILD {
        build.set(2 * number, key(number as u64));
        build.set(2 * number + 1, draw.number());
    }
    for number in 0..PROBE {
        // Half of them match; few keys are asked for often.
        let far = (draw.below(1 << 20) * draw.below(1 << 20)) >> 20;
        probe.set(2 * number, key((far * 2 * BUILD as u64) >> 20));
        probe.set(2 * number + 1, draw.number());
    }
    for number in 0..BUILD {
        let (key, value) = (build.get(2 * number), build.get(2 * number + 1));
        let mut at = place(key);
        while table.get(2 * at) != 0 {
            at = (at + 1) % PLACES;
        }
        table.set(2 * at, key);
        table.set(2 * at + 1, value);
    }
    build.discard(0..2 * BUILD);
    let mut sum = 0u64;
    for number in 0..PROBE {
        let (key, value) = (probe.get(2 * number), probe.get(2 * number + 1));
        let mut at = place(key);
        loop {
            match table.get(2 * at) {
                0 => break,
                found if found == key => {
                    sum = sum.wrapping_add(value.wrapping_mul(table.get(2 * at + 1)));
                    break;
                }
                _ => at = (at + 1) % PLACES,
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;
    use alloc::collections::BTreeMap;

    #[test]
    fn the_join_is_that_of_a_map() {
        let mut draw = Draw::new(4);
        let map: BTreeMap<u64, u64> = (0..BUILD as u64).map(|number| (key(number), draw.number())).collect();
        assert_eq!(map.len(), BUILD, "keys are distinct");
        let (mut sum, mut matches) = (0u64, 0);
        for _ in 0..PROBE {
            let far = (draw.below(1 << 20) * draw.below(1 << 20)) >> 20;
            let (key, value) = (key((far * 2 * BUILD as u64) >> 20), draw.number());
            if let Some(found) = map.get(&key) {
                sum = sum.wrapping_add(value.wrapping_mul(*found));
                matches += 1;
            }
        }
        assert!((PROBE / 3..PROBE).contains(&matches));
        assert_eq!(join(&Recording::default()), sum);
    }
}
