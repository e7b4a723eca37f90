//! The best fixed set of blocks: the limit of those who know how often blocks are used, but not when.

use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Misses of the best fixed set, size by size: the blocks most used in the whole run stay once they have been
/// read, all others are read each time. These take one block of the cache to pass through, unless all fit.
///
/// Where references are independent of each other, no policy that sees only the past misses less in the long
/// run (E. G. Coffman and P. J. Denning, *Operating Systems Theory*, 1973, §6.6: the algorithm A0). Belady's
/// optimum does, by knowing the very order. Where references are not independent, as in a loop, a policy can
/// be better than any fixed set.
///
/// ```
/// use libos_fs::cache::fixed_set_misses;
///
/// // Block 1 is used three times, block 2 twice, block 3 once.
/// assert_eq!(fixed_set_misses(&[0, 1, 2, 9], [1, 2, 3, 2, 1, 1]), [6, 6, 4, 3]);
/// ```
pub fn fixed_set_misses(sizes: &[usize], references: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut uses: HashMap<u64, u64> = HashMap::new();
    for block in references {
        *uses.entry(block).or_default() += 1;
    }
    of_uses(sizes, uses.into_values().collect())
}

/// The same where every block was used so often.
pub(super) fn of_uses(sizes: &[usize], mut uses: Vec<u64>) -> Vec<u64> {
    let total: u64 = uses.iter().sum();
    uses.sort_unstable_by(|one, other| other.cmp(one));
    // Hits of the `n` most used blocks: all their uses but the first.
    let mut hits = vec![0];
    hits.extend(uses.iter().scan(0, |sum, uses| {
        *sum += uses - 1;
        Some(*sum)
    }));
    let kept = |size: usize| if size < uses.len() { size.saturating_sub(1) } else { uses.len() };
    sizes.iter().map(|size| total - hits[kept(*size)]).collect()
}
