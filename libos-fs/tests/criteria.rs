//! The three criteria of two-level replacement, with figures: LRU-SP keeps all of them, and the allocations
//! that lack one of its parts fail where they should.

use libos_fs::cache::Allocation;
use libos_fs::cache::criteria::{CACHE_BLOCKS, Case, Criterion};

fn cases(criterion: Criterion, allocation: Allocation) -> Vec<Case> {
    let cases: Vec<Case> =
        CACHE_BLOCKS.iter().flat_map(|blocks| criterion.judge(allocation, *blocks)).collect();
    let worst = cases.iter().max_by(|a, b| a.change_percent().total_cmp(&b.change_percent())).unwrap();
    let failed = cases.iter().filter(|case| !case.passes()).count();
    println!(
        "{} under {}: {failed} of {} fail; worst {:+.1} %: {} in {} at {}",
        criterion.name(),
        allocation.name(),
        cases.len(),
        worst.change_percent(),
        worst.program,
        worst.mix,
        worst.cache_blocks,
    );
    cases
}

fn failures(criterion: Criterion, allocation: Allocation) -> Vec<Case> {
    cases(criterion, allocation).into_iter().filter(|case| !case.passes()).collect()
}

#[test]
fn lru_sp_keeps_all_three_criteria() {
    for criterion in Criterion::ALL {
        assert_eq!(failures(criterion, Allocation::LruSp).len(), 0, "{criterion:?}");
    }
}

#[test]
fn without_placeholders_foolish_programs_hurt_others() {
    let failed = failures(Criterion::Foolish, Allocation::LruS);
    assert!(failed.iter().any(|case| case.change_percent() > 100.0), "{failed:?}");
    // Only where the room is tight: 490 or 500 blocks and 300 in a cache of 819.
    assert!(failed.iter().all(|case| case.cache_blocks == 819));
    assert!(failed.iter().all(|case| ["Read490", "Read500"].contains(&case.program.as_str())));
    // The other two criteria don't need them.
    assert_eq!(failures(Criterion::Oblivious, Allocation::LruS).len(), 0);
    assert_eq!(failures(Criterion::Smart, Allocation::LruS).len(), 0);
}

#[test]
fn without_swapping_smart_programs_can_lose() {
    let failed = failures(Criterion::Smart, Allocation::AllocLru);
    assert!(failed.iter().any(|case| case.change_percent() > 10.0), "{failed:?}");
}

#[test]
fn smart_programs_save_what_arithmetic_says() {
    // din: 9 passes over 1024 blocks, cs2: 4 over 2304; alone, with 819 and 2048 blocks. MRU is N +
    // (k−1)(N−C).
    let alone = |name: &str, blocks| {
        let cases = Criterion::Smart.judge(Allocation::LruSp, blocks);
        let case = cases.into_iter().find(|case| case.mix == format!("{name} smart")).unwrap();
        (case.before.reads, case.after.reads)
    };
    assert_eq!(alone("din", 819), (9216, 1024 + 8 * (1024 - 819)));
    assert_eq!(alone("cs2", 819), (9216, 2304 + 3 * (2304 - 819)));
    assert_eq!(alone("cs2", 2048), (9216, 2304 + 3 * (2304 - 2048)));
}
