//! Transactions on records that fit into memory, and queries by indices of which all do not: an index that is
//! not there is paged in or made again (K. Harty & D. Cheriton, "Application-controlled physical memory using
//! external page-cache management", ASPLOS 1992, §3.3: who knows how much memory there is can make it again).

use crate::memory::{Array, Draw, Memory};

/// Records of [`RECORD`] words, at scale 1.
const RECORDS: usize = 4 << 10;
/// Words of a record: a key for each index, and values.
const RECORD: usize = 8;
/// Indices, each a hash table with the numbers of records plus 1.
const INDICES: usize = 4;
/// Places of an index for each record.
const PLACES: usize = 2;
/// Times that each index is queried.
const ROUNDS: usize = 6;

/// Words of the records and of the indices.
pub(super) fn arrays(scale: usize) -> [usize; 1 + INDICES] {
    let records = RECORDS * scale;
    let index = records * PLACES;
    [records * RECORD, index, index, index, index]
}

fn place(key: u64, places: usize) -> usize {
    (key.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as usize % places
}

/// Fills an index, all of whose words are 0, with all records by their key of that number.
fn make(index: &impl Array, data: &impl Array, number: usize) {
    let places = index.words();
    for record in 0..data.words() / RECORD {
        let mut at = place(data.get(record * RECORD + number), places);
        while index.get(at) != 0 {
            at = (at + 1) % places;
        }
        index.set(at, record as u64 + 1);
    }
}

/// The record with a key, by the index of that number.
fn find(index: &impl Array, data: &impl Array, number: usize, key: u64) -> Option<usize> {
    let places = index.words();
    let mut at = place(key, places);
    loop {
        let record = index.get(at).checked_sub(1)? as usize;
        if data.get(record * RECORD + number) == key {
            return Some(record);
        }
        at = (at + 1) % places;
    }
}

/// Transactions change records at random; in between an index is queried, each in its turn. Returns a digest
/// of what was found.
pub(super) fn transactions(memory: &impl Memory, scale: usize) -> u64 {
    let [data, indices @ ..] = arrays(scale).map(|words| memory.array(words));
    let records = RECORDS * scale;
    let mut draw = Draw::new(7);
    for record in 0..records {
        (0..INDICES).for_each(|number| data.set(record * RECORD + number, draw.number()));
    }
    indices.iter().enumerate().for_each(|(number, index)| make(index, &data, number));
    // Whether all is in memory at once. Who is not told leaves it to paging.
    let pages = |words: usize| words.div_ceil(crate::PAGE_WORDS);
    let all: usize = arrays(scale).into_iter().map(pages).sum();
    let fits = memory.frames().is_none_or(|frames| frames >= all);
    let forget = |index: &_| {
        if !fits {
            Array::discard(index, 0..records * PLACES)
        }
    };
    indices.iter().for_each(forget);
    let mut found = 0u64;
    for turn in 0..ROUNDS * INDICES {
        for _ in 0..records {
            let at = draw.below(records as u64) as usize * RECORD + RECORD - 1;
            data.set(at, data.get(at).wrapping_add(1));
        }
        let number = turn % INDICES;
        let index = &indices[number];
        if !fits {
            make(index, &data, number);
        }
        for _ in 0..records {
            let key = data.get(draw.below(records as u64) as usize * RECORD + number);
            let record = find(index, &data, number, key).unwrap_or(records);
            found = found.wrapping_mul(31).wrapping_add(data.get(record * RECORD + RECORD - 1));
        }
        forget(index);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;

    #[test]
    fn every_record_is_found_by_every_key() {
        let memory = Recording::default();
        let [data, indices @ ..] = arrays(1).map(|words| memory.array(words));
        let mut draw = Draw::new(1);
        (0..data.words()).for_each(|at| data.set(at, draw.number()));
        for (number, index) in indices.iter().enumerate() {
            make(index, &data, number);
            for record in (0..RECORDS).step_by(37) {
                let key = data.get(record * RECORD + number);
                assert_eq!(find(index, &data, number, key), Some(record));
            }
            assert_eq!(find(index, &data, number, 12345), None);
        }
    }
}
