//! The relations of `pjn`, the index on the inner one, and the result, computed with a hash join in memory.

use super::image::{ImageFile, json};
use super::{Collected, DataError, METADATA_BYTES, Sizes};
use crate::btree;
use crate::pjn::{self, ENTRY_BYTES, Joined, TUPLE_BYTES, Task, Tuple, file_of};
use std::collections::HashMap;

/// Tuples of the inner relation to one of the outer, as in the paper.
const INNER_PER_OUTER: u64 = 10;

/// Relations, index and task.
pub(super) fn collect(sizes: &Sizes) -> Result<Collected, DataError> {
    let count = sizes.relation_bytes / TUPLE_BYTES as u64;
    let inner = relation(count, count, 1);
    // Keys from a range a tenth longer: not every tuple has a partner.
    let outer = relation(count / INNER_PER_OUTER, count + count / 10, 2);
    let index = btree::build(&entries(&inner), 100);
    let task = Task { result: join(&outer, &inner) };
    let files = vec![
        json(pjn::TASK_PATH, &task)?,
        ImageFile { path: pjn::OUTER_PATH.into(), bytes: file_of(&outer) },
        ImageFile { path: pjn::INNER_PATH.into(), bytes: file_of(&inner) },
        ImageFile { path: pjn::INDEX_PATH.into(), bytes: index.index },
        ImageFile { path: pjn::INDEX_LEAVES_PATH.into(), bytes: index.leaves },
    ];
    Ok(Collected { files, spare_bytes: METADATA_BYTES, notes: Vec::new() })
}

/// A relation of `count` tuples whose keys are different numbers below `range`, in no order.
fn relation(count: u64, range: u64, seed: u64) -> Vec<Tuple> {
    let mut keys: Vec<u64> = (0..range).collect();
    let mut state = seed;
    for last in (1..keys.len()).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        keys.swap(last, (state >> 33) as usize % (last + 1));
    }
    (0..count).zip(keys).map(|(place, key)| Tuple::new(key, place)).collect()
}

/// The records of the index: for each key the number of its tuple, and the first letters of its string.
fn entries(inner: &[Tuple]) -> Vec<(u64, Vec<u8>)> {
    let mut entries: Vec<(u64, Vec<u8>)> = (0u64..)
        .zip(inner)
        .map(|(number, tuple)| {
            let mut entry = number.to_le_bytes().to_vec();
            entry.extend_from_slice(&tuple.bytes()[24..24 + ENTRY_BYTES - 8]);
            (tuple.unique1(), entry)
        })
        .collect();
    entries.sort_unstable();
    entries
}

fn join(outer: &[Tuple], inner: &[Tuple]) -> Joined {
    let by_key: HashMap<u64, &Tuple> = inner.iter().map(|tuple| (tuple.unique1(), tuple)).collect();
    let mut joined = Joined { outer: outer.len() as u64, ..Joined::default() };
    for tuple in outer {
        if let Some(partner) = by_key.get(&tuple.unique1()) {
            joined.add(tuple, partner);
        }
    }
    joined
}
