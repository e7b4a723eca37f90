//! A merge sort: runs that fit, then several runs at a time become one, to and fro between two arrays.

use crate::memory::{Array, Draw, Memory, digest};
use alloc::vec::Vec;

/// Words to sort, at scale 1.
const WORDS: usize = 96 << 10;
/// Runs at the start, each of which is sorted in a buffer.
const RUNS: usize = 24;
/// Runs that become one.
const FAN_IN: usize = 5;

/// Words of the two arrays.
pub(super) fn arrays(scale: usize) -> [usize; 2] {
    [WORDS * scale; 2]
}

pub(super) fn sort(memory: &impl Memory, scale: usize) -> u64 {
    let words = WORDS * scale;
    let (mut from, mut to) = (memory.array(words), memory.array(words));
    fill(&from);
    let mut run = words / RUNS;
    let mut buffer = Vec::with_capacity(run);
    // What is written now is read in this order, and so again in each pass.
    from.looping(0..words);
    to.looping(0..words);
    for start in (0..words).step_by(run) {
        buffer.clear();
        buffer.extend((start..start + run).map(|at| from.get(at)));
        from.discard(start..start + run);
        buffer.sort_unstable();
        buffer.iter().enumerate().for_each(|(at, word)| to.set(start + at, *word));
    }
    (from, to) = (to, from);
    while run < words {
        for start in (0..words).step_by(run * FAN_IN) {
            merge(&from, &to, start, run);
        }
        (from, to) = (to, from);
        run *= FAN_IN;
    }
    digest(&from)
}

fn fill(array: &impl Array) {
    let mut draw = Draw::new(2);
    (0..array.words()).for_each(|at| array.set(at, draw.number()));
}

/// Merges [`FAN_IN`] runs from `start` on. Pages that have been read are not wanted any more.
fn merge(from: &impl Array, to: &impl Array, start: usize, run: usize) {
    /// Words in a page.
    const PAGE: usize = crate::PAGE_WORDS;
    let words = from.words();
    let ends = |number: usize| (start + (number + 1) * run).min(words);
    let starts: Vec<usize> =
        (0..FAN_IN).map(|number| start + number * run).filter(|at| *at < words).collect();
    // The next word of each run.
    let mut at = starts.clone();
    let mut heads: Vec<Option<u64>> = at.iter().map(|at| Some(from.get(*at))).collect();
    for place in start..ends(FAN_IN - 1) {
        let least = heads.iter().enumerate().filter_map(|(run, head)| Some(((*head)?, run))).min();
        let Some((word, number)) = least else { return };
        to.set(place, word);
        at[number] += 1;
        let next = at[number];
        if next.is_multiple_of(PAGE) {
            from.discard(next - PAGE..next);
        }
        heads[number] = (next < ends(number)).then(|| from.get(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;

    #[test]
    fn the_words_are_sorted() {
        let memory = Recording::default();
        let array = memory.array(WORDS);
        fill(&array);
        let mut words: Vec<u64> = (0..WORDS).map(|at| array.get(at)).collect();
        words.sort_unstable();
        words.iter().enumerate().for_each(|(at, word)| array.set(at, *word));
        assert_eq!(sort(&Recording::default(), 1), digest(&array));
    }
}
