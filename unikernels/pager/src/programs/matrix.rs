//! Products of square matrices of numbers that wrap.

use crate::memory::{Array, Draw, Memory, digest};
use alloc::vec;

/// Rows and columns.
const N: usize = 192;
/// Rows and columns of a block: a divisor of [`N`].
const BLOCK: usize = 48;
/// Rows of the second matrix that are worth keeping when going by blocks.
const KEPT_ROWS: usize = 44;
/// Words of the three matrices.
pub(super) const ARRAYS: [usize; 3] = [N * N; 3];

/// Two matrices with numbers, and one without.
fn matrices<M: Memory>(memory: &M) -> [M::Array<'_>; 3] {
    let made = [memory.array(N * N), memory.array(N * N), memory.array(N * N)];
    let mut draw = Draw::new(1);
    for matrix in &made[..2] {
        (0..N * N).for_each(|at| matrix.set(at, draw.number() >> 40));
    }
    made
}

/// For each row of the first matrix all of the second, from its first row to its last: a loop over more pages
/// than there are frames.
pub(super) fn by_rows(memory: &impl Memory) -> u64 {
    let [a, b, c] = matrices(memory);
    a.sequential(0..N * N);
    b.looping(0..N * N);
    c.sequential(0..N * N);
    let mut row = vec![0u64; N];
    for i in 0..N {
        row.fill(0);
        for k in 0..N {
            let factor = a.get(i * N + k);
            for (j, sum) in row.iter_mut().enumerate() {
                *sum = sum.wrapping_add(factor.wrapping_mul(b.get(k * N + j)));
            }
        }
        row.iter().enumerate().for_each(|(j, sum)| c.set(i * N + j, *sum));
    }
    digest(&c)
}

/// By blocks: for each block of the product, a row of blocks times a column of blocks.
pub(super) fn by_blocks(memory: &impl Memory) -> u64 {
    let [a, b, c] = matrices(memory);
    c.sequential(0..N * N);
    let mut block = vec![0u64; BLOCK * BLOCK];
    for bi in (0..N).step_by(BLOCK) {
        // The rows of blocks before are not used again.
        a.done_with(0..bi * N);
        for bj in (0..N).step_by(BLOCK) {
            block.fill(0);
            for bk in (0..N).step_by(BLOCK) {
                for i in 0..BLOCK {
                    for k in 0..BLOCK {
                        let factor = a.get((bi + i) * N + bk + k);
                        for j in 0..BLOCK {
                            let product = factor.wrapping_mul(b.get((bk + k) * N + bj + j));
                            let sum = &mut block[i * BLOCK + j];
                            *sum = sum.wrapping_add(product);
                        }
                    }
                }
                // All of the second matrix is used again for the next column of blocks, in the same order.
                // Most of the first row of blocks is worth keeping; the rest would only push each other out.
                b.done_with(bk.max(KEPT_ROWS) * N..(bk + BLOCK) * N);
            }
            for (i, row) in block.chunks(BLOCK).enumerate() {
                row.iter().enumerate().for_each(|(j, sum)| c.set((bi + i) * N + bj + j, *sum));
            }
        }
    }
    digest(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recording;

    #[test]
    fn both_ways_make_the_same_product() {
        let product = by_rows(&Recording::default());
        assert_eq!(product, by_blocks(&Recording::default()));
        // Against the definition, at some places.
        let [a, b, _] = matrices(&Recording::default());
        let at = |i: usize, j: usize| {
            (0..N).fold(0u64, |sum, k| sum.wrapping_add(a.get(i * N + k).wrapping_mul(b.get(k * N + j))))
        };
        let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        let expected = (0..N * N).map(|place| at(place / N, place % N)).fold(0xcbf2_9ce4_8422_2325, step);
        assert_eq!(product, expected);
    }
}
