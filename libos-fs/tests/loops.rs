//! The cache against arithmetic: on loops over a file every count is known.

use libos_fs::cache::{optimal_misses, simulate};
use libos_fs::device::fault::Dice;
use libos_fs::{
    BLOCK_BYTES, CacheOptions, CacheStatistics, PolicyKind, RamDisk, ReadAheadKind, Volume, extent_fs,
};

/// A volume with one file of `blocks` blocks, each filled with its number.
fn disk_with_file(blocks: u64) -> RamDisk {
    let disk = RamDisk::new(blocks + 64);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    let file = volume.create("/file").unwrap();
    for block in 0..blocks {
        file.write_at(block * BLOCK_BYTES as u64, &[block as u8; BLOCK_BYTES]).unwrap();
    }
    volume.unmount().unwrap();
    disk
}

fn read_loop(disk: &RamDisk, passes: u64, options: CacheOptions) -> (CacheStatistics, Vec<u64>) {
    let options = CacheOptions { record_references: true, ..options };
    let volume = Volume::mount(Box::new(disk.clone()), options).unwrap();
    let file = volume.open("/file").unwrap();
    let blocks = file.len().unwrap() / BLOCK_BYTES as u64;
    let mut page = vec![0; BLOCK_BYTES];
    for _ in 0..passes {
        for block in 0..blocks {
            assert_eq!(file.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap(), BLOCK_BYTES);
            assert!(page.iter().all(|byte| *byte == block as u8));
        }
    }
    (volume.cache().statistics(), volume.cache().take_references())
}

#[test]
fn loops_miss_exactly_as_often_as_arithmetic_says() {
    for (n, c, k) in [(100, 80, 9), (64, 63, 5), (64, 1, 1), (50, 10, 4), (96, 48, 8)] {
        let disk = disk_with_file(n);
        let run = |policy: PolicyKind| {
            let read_ahead = ReadAheadKind::None;
            read_loop(
                &disk,
                k,
                CacheOptions { blocks: c, policy: policy.into(), read_ahead, ..CacheOptions::default() },
            )
        };
        let (lru, references) = run(PolicyKind::Lru);
        let (mru, same) = run(PolicyKind::Mru);
        let best = n + (k - 1) * (n - c as u64);
        assert_eq!(references, same);
        assert_eq!((lru.misses, lru.blocks_read), (k * n, k * n), "LRU n={n} c={c} k={k}");
        assert_eq!((mru.misses, mru.blocks_read), (best, best), "MRU n={n} c={c} k={k}");
        assert_eq!(optimal_misses(c, &references), best, "OPT n={n} c={c} k={k}");
        for kind in PolicyKind::ALL {
            let (cache, _) = run(kind);
            assert_eq!(simulate(&mut *kind.build(c), c, &references), cache.misses, "{}", kind.name());
        }
    }
}

#[test]
fn read_ahead_changes_requests_and_hardly_anything_else() {
    let (n, k) = (1024, 9);
    let disk = disk_with_file(n);
    for read_ahead in [ReadAheadKind::Sequential, ReadAheadKind::Cluster] {
        for c in [819, 100, 4] {
            let run = |policy: PolicyKind| {
                let options =
                    CacheOptions { blocks: c, policy: policy.into(), read_ahead, ..CacheOptions::default() };
                read_loop(&disk, k, options)
            };
            let (lru, references) = run(PolicyKind::Lru);
            let (mru, _) = run(PolicyKind::Mru);
            let best = optimal_misses(c, &references);
            println!("{read_ahead:?} c={c} best={best} lru={lru:?} mru={mru:?}");
            assert_eq!(mru.staged_wasted, 0);
            assert_eq!(mru.blocks_read, mru.misses);
            assert_eq!(lru.blocks_read, k * n);
            assert!(mru.blocks_read * 100 <= best * 102, "{read_ahead:?} {c}: {} of {best}", mru.blocks_read);
            assert!(c < 100 || mru.read_requests * 4 < mru.blocks_read, "{read_ahead:?} {c}: {mru:?}");
        }
    }
}

#[test]
fn loops_over_many_small_files_come_within_two_percent_of_the_optimum() {
    let disk = RamDisk::new(3000);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    let mut data_blocks = 0;
    let mut dice = Dice::new(1);
    for number in 0..300 {
        let bytes = 1 + dice.below(12 * BLOCK_BYTES as u64);
        volume.create(&format!("{number:03}")).unwrap().append(&vec![number as u8; bytes as usize]).unwrap();
        data_blocks += bytes.div_ceil(BLOCK_BYTES as u64);
    }
    volume.unmount().unwrap();
    for read_bytes in [BLOCK_BYTES, 16 * BLOCK_BYTES] {
        let blocks = (data_blocks * 8 / 10) as usize;
        let options = CacheOptions {
            blocks,
            policy: PolicyKind::Mru.into(),
            record_references: true,
            ..CacheOptions::default()
        };
        let volume = Volume::mount(Box::new(disk.clone()), options).unwrap();
        let mut buffer = vec![0; read_bytes];
        for _ in 0..6 {
            for entry in volume.list("/").unwrap() {
                let file = volume.open(&entry.name).unwrap();
                for offset in (0..entry.bytes).step_by(read_bytes) {
                    assert!(file.read_at(offset, &mut buffer).unwrap() > 0);
                }
            }
        }
        let counted = volume.cache().statistics();
        let best = optimal_misses(blocks, &volume.cache().take_references());
        println!("{data_blocks} blocks, {blocks} buffers: optimum {best}, {counted:?}");
        assert_eq!(counted.references, 6 * data_blocks);
        assert!(counted.blocks_read * 100 <= best * 102, "{} of {best}", counted.blocks_read);
        assert!(counted.blocks_read * 10 <= 6 * data_blocks * 4, "LRU reads everything every time");
    }
}
