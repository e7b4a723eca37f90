//! Managers of a real cache over real files: they do what the simulation says, and keep to their own files.

use libos_fs::cache::{Allocation, ManagedSimulation, ManagerId, Referenced};
use libos_fs::device::fault::Dice;
use libos_fs::{
    BLOCK_BYTES, CacheOptions, FileId, FsError, PolicyKind, RamDisk, ReadAheadKind, Volume, extent_fs,
};

/// A volume with files `0`, `1`, … of so many blocks.
fn volume(files: &[u64], options: CacheOptions) -> Volume {
    let disk = RamDisk::new(files.iter().sum::<u64>() + 64);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    for (number, blocks) in files.iter().enumerate() {
        let file = volume.create(&number.to_string()).unwrap();
        file.write_at(0, &vec![number as u8; *blocks as usize * BLOCK_BYTES]).unwrap();
    }
    volume.unmount().unwrap();
    Volume::mount(Box::new(disk), options).unwrap()
}

#[test]
fn the_cache_reads_what_the_simulation_misses() {
    let files = [60, 50, 40, 30];
    for (seed, allocation) in (0..).zip(Allocation::ALL) {
        let read_ahead = ReadAheadKind::None;
        let options = CacheOptions { blocks: 70, allocation, read_ahead, ..CacheOptions::default() };
        let volume = volume(&files, options);
        let mut simulation = ManagedSimulation::new(70, allocation);
        let policies = [PolicyKind::Lru, PolicyKind::Mru, PolicyKind::Fifo];
        let mut opened = Vec::new();
        for number in 0..files.len() {
            // The last two files belong to the same manager, one before the other.
            let manager = number.min(2);
            let view = if manager == 0 { volume.clone() } else { volume.as_manager(&manager.to_string()) };
            let file = view.open(&number.to_string()).unwrap();
            view.manager().set_policy(0, policies[manager]);
            let priority = i32::from(number == 3);
            view.manager().set_priority(&file, priority).unwrap();
            let id = if manager == 0 { ManagerId::DEFAULT } else { simulation.manager(&manager.to_string()) };
            simulation.set_priority(id, file.id(), priority);
            simulation.set_policy(id, 0, policies[manager]);
            opened.push(file);
        }
        let mut dice = Dice::new(seed);
        let mut page = vec![0; BLOCK_BYTES];
        for _ in 0..100 {
            let number = dice.below(4) as usize;
            let first = dice.below(files[number] / 2);
            for block in first..(first + dice.below(40)).min(files[number]) {
                let before = volume.cache().statistics().blocks_read;
                opened[number].read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
                let read = volume.cache().statistics().blocks_read > before;
                let missed = simulation.refer(opened[number].id(), block) != Referenced::Hit;
                assert_eq!(read, missed, "{allocation:?} file {number} block {block}");
                assert!(page.iter().all(|byte| *byte == number as u8));
                if dice.below(10) == 0 {
                    volume.cache().done_with(&opened[number], block..block + 1);
                    simulation.set_temporary_priority(opened[number].id(), block..block + 1, -1);
                }
            }
        }
        let of_files = [0, 1, 2].map(|number| volume.cache().manager_of(&opened[number]).statistics());
        assert_eq!(of_files.iter().map(|of| of.misses).sum::<u64>(), volume.cache().statistics().misses);
        assert_eq!(of_files.iter().map(|of| of.resident).sum::<usize>(), 70);
    }
}

#[test]
fn the_five_calls_concern_a_manager_s_own_files() {
    let volume = volume(&[4, 4], CacheOptions::default());
    let (search, sort) = (volume.as_manager("search"), volume.as_manager("sort"));
    let (index, run) = (search.open("0").unwrap(), sort.open("1").unwrap());
    let calls = search.manager();
    calls.set_policy(1, PolicyKind::Mru);
    calls.set_priority(&index, 1).unwrap();
    assert_eq!((calls.get_policy(1), calls.get_priority(&index)), ("mru", Ok(1)));
    assert_eq!((sort.manager().get_policy(1), volume.cache().get_policy(1)), ("lru", "lru"));
    assert_eq!(calls.set_temporary_priority(&index, 0..2, 5), Ok(()));
    let refused = Err(FsError::OtherManager(run.id()));
    assert_eq!(calls.set_priority(&run, 7), refused);
    assert_eq!(calls.set_temporary_priority(&run, 0..2, -1), refused);
    assert_eq!(calls.done_with(&run, 0..2), refused);
    assert_eq!(calls.get_priority(&run), Err(FsError::OtherManager(run.id())));
    assert_eq!(volume.cache().get_priority(&run), 0);
    // Who is given a file has it, with its priority and its blocks.
    index.read_at(0, &mut [0; 10]).unwrap();
    assert_eq!((calls.statistics().resident, sort.manager().statistics().resident), (1, 0));
    sort.manager().take(&index);
    assert_eq!((calls.statistics().resident, sort.manager().statistics().resident), (0, 1));
    assert_eq!(sort.manager().get_priority(&index), Ok(1));
    assert_eq!(calls.set_priority(&index, 2), Err(FsError::OtherManager(index.id())));
    // The same name is the same manager; opening without one leaves files where they are.
    assert_eq!(volume.cache().manager("sort").id(), sort.manager().id());
    assert_eq!(volume.open("0").unwrap().id(), index.id());
    assert_eq!(volume.cache().manager_of(&index).id(), sort.manager().id());
    assert_eq!(volume.cache().manager_of(FileId(99)).id(), ManagerId::DEFAULT);
    assert_eq!(volume.cache().manager("default").id(), ManagerId::DEFAULT);
}
