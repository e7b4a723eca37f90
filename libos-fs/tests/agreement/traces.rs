//! Reference strings from whole numbers only, so that `oracle.py` makes the very same.

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Zipf's law with exponent 1 over `blocks` blocks: the block of rank r is asked for in proportion to 1/r.
pub fn zipf(seed: u64, blocks: u64, references: usize) -> Vec<u64> {
    let mut sum = 0;
    let cumulative: Vec<u64> = (1..=blocks)
        .map(|rank| {
            sum += (1 << 32) / rank;
            sum
        })
        .collect();
    let mut random = Random(seed);
    let draw = |_| {
        let point = random.below(sum);
        cumulative.partition_point(|bound| *bound <= point) as u64
    };
    (0..references).map(draw).collect()
}

/// By turns: a loop over 700 blocks, three times; a scan of 400 blocks that never come back; 1,500 references
/// to 300 hot blocks.
pub fn loops_and_scans(seed: u64, rounds: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let mut references = Vec::new();
    for round in 0..rounds {
        for _ in 0..3 {
            references.extend(0..700);
        }
        references.extend((0..400).map(|block| 1_000_000 + round * 400 + block));
        references.extend((0..1500).map(|_| 10_000 + random.below(300)));
    }
    references
}

/// A working set of 500 blocks that moves on by 40 every 1,000 references, with one reference in eight to any
/// of 20,000 blocks, and one in sixteen to the block just used.
pub fn drift(seed: u64, references: usize) -> Vec<u64> {
    let mut random = Random(seed);
    let mut last = 0;
    (0..references as u64)
        .map(|position| {
            last = match random.below(16) {
                0 => last,
                1 | 2 => 100_000 + random.below(20_000),
                _ => position / 1000 * 40 + random.below(500),
            };
            last
        })
        .collect()
}
