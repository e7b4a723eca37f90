//! Products of square matrices of numbers that wrap.

use crate::memory::{Array, Draw, Memory, digest};
use alloc::vec;

/// Rows and columns of a block.
const BLOCK: usize = 48;

/// Rows and columns: blocks in a row are four times the root of the scale, so that the words grow with it.
fn rows(scale: usize) -> usize {
    BLOCK * (16 * scale).isqrt()
}

/// Words of the three matrices.
pub(super) fn arrays(scale: usize) -> [usize; 3] {
    [rows(scale) * rows(scale); 3]
}

/// Two matrices with numbers, and one without.
fn matrices<M: Memory>(memory: &M, n: usize) -> [M::Array<'_>; 3] {
    let made = [memory.array(n * n), memory.array(n * n), memory.array(n * n)];
    let mut draw = Draw::new(1);
    for matrix in &made[..2] {
        (0..n * n).for_each(|at| matrix.set(at, draw.number() >> 40));
    }
    made
}

/// For each row of the first matrix all of the second, from its first row to its last: a loop over more pages
/// than there are frames.
pub(super) fn by_rows(memory: &impl Memory, scale: usize) -> u64 {
    let n = rows(scale);
    let [a, b, c] = matrices(memory, n);
    a.sequential(0..n * n);
    b.looping(0..n * n);
    c.sequential(0..n * n);
    let mut row = vec![0u64; n];
    for i in 0..n {
        row.fill(0);
        for k in 0..n {
            let factor = a.get(i * n + k);
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = sum.wrapping_add(factor.wrapping_mul(b.get(k * n + j)));
            }
        }
        row.iter().enumerate().for_each(|(j, sum)| c.set(i * n + j, *sum));
    }
    digest(&c)
}

/// By blocks: for each block of the product, a row of blocks times a column of blocks.
pub(super) fn by_blocks(memory: &impl Memory, scale: usize) -> u64 {
    let n = rows(scale);
    let [a, b, c] = matrices(memory, n);
    c.sequential(0..n * n);
    // Rows of blocks of the second matrix are used one after the other, and all again for the next block of
    // the product. One after the next is foretold: then the last one is the farthest.
    b.tells_all_of(0..n * n);
    let of_row = |block: usize| (block % n * n..(block % n + BLOCK) * n).step_by(crate::PAGE_WORDS);
    (0..n).step_by(BLOCK).for_each(|block| of_row(block).for_each(|at| b.will_use(at)));
    let mut block = vec![0u64; BLOCK * BLOCK];
    for bi in (0..n).step_by(BLOCK) {
        // The rows of blocks before are not used again.
        a.done_with(0..bi * n);
        for bj in (0..n).step_by(BLOCK) {
            block.fill(0);
            for bk in (0..n).step_by(BLOCK) {
                for i in 0..BLOCK {
                    for k in 0..BLOCK {
                        let factor = a.get((bi + i) * n + bk + k);
                        for j in 0..BLOCK {
                            let product = factor.wrapping_mul(b.get((bk + k) * n + bj + j));
                            let sum = &mut block[i * BLOCK + j];
                            *sum = sum.wrapping_add(product);
                        }
                    }
                }
                of_row(bk).for_each(|at| b.has_used(at));
                of_row(bk).for_each(|at| b.will_use(at));
            }
            for (i, row) in block.chunks(BLOCK).enumerate() {
                row.iter().enumerate().for_each(|(j, sum)| c.set((bi + i) * n + bj + j, *sum));
            }
        }
    }
    digest(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;

    const N: usize = 192;

    #[test]
    fn both_ways_make_the_same_product() {
        let product = by_rows(&Recording::default(), 1);
        assert_eq!(product, by_blocks(&Recording::default(), 1));
        // Against the definition, at some places.
        let [a, b, _] = matrices(&Recording::default(), N);
        let at = |i: usize, j: usize| {
            (0..N).fold(0u64, |sum, k| sum.wrapping_add(a.get(i * N + k).wrapping_mul(b.get(k * N + j))))
        };
        let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        let expected = (0..N * N).map(|place| at(place / N, place % N)).fold(0xcbf2_9ce4_8422_2325, step);
        assert_eq!(product, expected);
    }
}
