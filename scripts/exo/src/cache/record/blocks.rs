//! A set of block numbers of one file.

use std::collections::HashMap;

/// Blocks of a piece of the set.
const PIECE: u32 = 4096;

/// The set: a bit for each block, in pieces of 16 MiB of file, so that a sparse file takes little.
#[derive(Debug, Default)]
pub struct Blocks {
    pieces: HashMap<u32, Box<[u64; PIECE as usize / 64]>>,
    count: u64,
}

impl Blocks {
    /// Adds a block.
    pub fn insert(&mut self, block: u32) {
        let piece = self.pieces.entry(block / PIECE).or_insert_with(|| Box::new([0; PIECE as usize / 64]));
        let word = &mut piece[(block % PIECE / 64) as usize];
        let bit = 1 << (block % 64);
        self.count += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_once() {
        let mut blocks = Blocks::default();
        [0, 1, 63, 64, 4095, 4096, u32::MAX, 64, 0].into_iter().for_each(|block| blocks.insert(block));
        assert_eq!(blocks.count(), 7);
    }
}
