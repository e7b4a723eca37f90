//! Workloads on several cores, which are threads here: results and counts.

use super::*;
use filecache::cores::{HostThreads, run_on_cores};
use libos_fs::shared::Threads;

fn on_cores(image: &[u8], options: &Options) -> Outcome {
    let disk = RamDisk::from_bytes(image.to_vec());
    run_on_cores(disk, options, || 0, Threads, &HostThreads).expect("the workload runs to its end")
}

/// Without read-ahead, and with a cache whose size is known before, one core counts through the shared cache
/// what it counts through its own: reads, writes, hits, and the references themselves. Only requests are
/// fewer: blocks of one read come together.
#[test]
fn one_core_counts_the_same_through_either_cache() {
    for workload in Workload::ALL {
        let image = &data_of(workload).image;
        let blocks = run_on(image, &Options::new(workload)).line.cache_blocks;
        for policy in [Policy::Default, Policy::Own, Policy::Forced(PolicyKind::Arc)] {
            let alone = Options {
                cache: CacheSize::Blocks(blocks),
                read_ahead: ReadAheadKind::None,
                ..options(workload, policy)
            };
            let shared = Options { cores: Some(1), ..alone.clone() };
            let (one, other) = (run_on(image, &alone), on_cores(image, &shared));
            let what = format!("{} {}", workload.name(), policy.name());
            assert!(one.references == other.references, "{what}: other references");
            let counts = |outcome: &Outcome| {
                let line = &outcome.line;
                let moved = [line.reads, line.writes, line.write_requests, line.flushes];
                (line.verified, line.hits, line.misses, line.allocated, moved, line.mount_reads)
            };
            assert_eq!(counts(&one), counts(&other), "{what}");
            assert!(other.line.read_requests <= one.line.read_requests, "{what}");
            assert_eq!(
                other.line.opt_misses,
                Some(optimal_misses(blocks as usize, &one.references) as u64),
                "{what}"
            );
        }
    }
}

#[test]
fn several_cores_find_what_one_finds() {
    for workload in Workload::ALL {
        let image = &data_of(workload).image;
        for (cores, policy, read_ahead) in [
            (2, Policy::Default, ReadAheadKind::Sequential),
            (2, Policy::Own, ReadAheadKind::Sequential),
            (3, Policy::Forced(PolicyKind::Sieve), ReadAheadKind::None),
        ] {
            let wanted = Options { cores: Some(cores), read_ahead, ..options(workload, policy) };
            let outcome = on_cores(image, &wanted);
            let (what, line) = (format!("{} {}", workload.name(), policy.name()), &outcome.line);
            assert!(line.verified, "{what}: {:?}", outcome.differences);
            assert_eq!(line.references, outcome.references.len() as u64, "{what}");
            assert!(line.opt_misses.is_some_and(|least| least <= line.misses), "{what}: {line:?}");
            let one = run_on(image, &options(workload, policy)).line;
            assert!(line.references >= cores * one.references * 9 / 10, "{what}: {line:?}");
            // Blocks that one core has read serve the others.
            if workload.changes().is_empty() && workload != Workload::Sort {
                let most = cores * one.reads * 11 / 10 + 64;
                assert!(line.reads <= most, "{what}: {} reads, one core {}", line.reads, one.reads);
            }
        }
    }
}

#[test]
fn what_several_cores_can_not_have_is_refused() {
    let image = &data_of(Workload::Cs).image;
    for wanted in [
        Options { read_ahead: ReadAheadKind::Aggressive, ..Options::new(Workload::Cs) },
        Options { plan: Some("0=mru".parse().unwrap()), ..Options::new(Workload::Cs) },
    ] {
        let disk = RamDisk::from_bytes(image.clone());
        let refused = run_on_cores(disk, &wanted, || 0, Threads, &HostThreads);
        assert!(matches!(refused, Err(RunError::Argument { .. })), "{refused:?}");
    }
}
