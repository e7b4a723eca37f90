//! Blocks that a cache lends.

use libos_fs::{BLOCK_BYTES, CacheOptions, RamDisk, Volume, extent_fs};

#[test]
fn a_lent_block_is_the_caches_page_and_outlives_its_place_there() {
    let disk = RamDisk::new(300);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume =
        Volume::mount(Box::new(disk), CacheOptions { blocks: 4, ..CacheOptions::default() }).unwrap();
    let file = volume.create("/file").unwrap();
    for block in 0..20_u8 {
        file.append(&[block; BLOCK_BYTES]).unwrap();
    }
    file.append(b"end").unwrap();
    volume.commit().unwrap();
    volume.cache().drop_clean();
    let before = volume.cache().statistics().blocks_read;
    let lent: Vec<_> = (0..21).map(|block| file.lend(block).unwrap().unwrap()).collect();
    assert_eq!(volume.cache().statistics().blocks_read - before, 21, "each was read once");
    assert_eq!(&lent[20].bytes()[..4], b"end\0");
    assert!(file.lend(21).unwrap().is_none(), "beyond the end");
    // What others hold is neither overwritten by what is read next nor by a write.
    file.write_at(0, &[99; 20 * BLOCK_BYTES]).unwrap();
    for (block, lent) in lent.iter().take(20).enumerate() {
        assert!(lent.bytes().iter().all(|byte| usize::from(*byte) == block), "block {block}");
    }
    let mut now = [0; 1];
    file.read_at(7 * BLOCK_BYTES as u64, &mut now).unwrap();
    assert_eq!(now, [99]);
    volume.commit().unwrap();
    let again = file.lend(19).unwrap().unwrap();
    let same = file.lend(19).unwrap().unwrap();
    assert_eq!(again.bytes().as_ptr(), same.bytes().as_ptr(), "no copy");
    drop(lent);
    volume.cache().drop_clean();
    assert_eq!(file.lend(3).unwrap().unwrap().bytes()[0], 99, "and it is what is on the disk");
}

#[test]
fn sums_of_blocks_are_those_of_their_contents_once_they_are_committed() {
    let disk = RamDisk::new(300);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    let file = volume.create("/file").unwrap();
    assert_eq!(file.block_sums().unwrap(), Some(vec![]));
    file.write_at(0, &[1; BLOCK_BYTES]).unwrap();
    file.write_at(2 * BLOCK_BYTES as u64, b"end").unwrap();
    assert_eq!(file.block_sums().unwrap(), None, "not written yet");
    volume.commit().unwrap();
    let mut last = [0; BLOCK_BYTES];
    last[..3].copy_from_slice(b"end");
    let [one, three] = [[1; BLOCK_BYTES], last].map(|block| crc32fast::hash(&block));
    let sums = file.block_sums().unwrap();
    assert!(
        matches!(sums.as_deref(), Some([first, _, third]) if [*first, *third] == [one, three]),
        "{sums:?}"
    );
    // Another mount reads no block for them.
    let again = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    assert_eq!(again.open("/file").unwrap().block_sums().unwrap(), sums);
    assert_eq!(again.cache().statistics().blocks_read, 0);
    file.truncate(BLOCK_BYTES as u64).unwrap();
    assert_eq!(file.block_sums().unwrap(), Some(vec![one]));
}
