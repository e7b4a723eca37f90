//! Prefetching in calculated time: how long programs take that compute and read, under every read-ahead
//! policy.

use libos_fs::device::fault::{DelayedDevice, Dice};
use libos_fs::device::{DiskTime, SimulatedClock, TimedDisk};
use libos_fs::{
    BLOCK_BYTES, CacheOptions, CacheStatistics, File, PolicyKind, RamDisk, ReadAheadKind, Volume, extent_fs,
};

/// A disk of some 5,000 requests a second and 60 MB/s.
const SSD: DiskTime = DiskTime { request_ns: 200_000, block_ns: 65_000 };

/// (file, block) in the order in which a program refers to them, and the time it computes for each.
struct Program {
    name: &'static str,
    files: Vec<u64>,
    references: Vec<(usize, u64)>,
    policy: PolicyKind,
    compute_ns: u64,
}

struct Outcome {
    elapsed_ns: u64,
    counted: CacheStatistics,
}

fn disk(files: &[u64]) -> RamDisk {
    let disk = RamDisk::new(files.iter().sum::<u64>() + 200);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    for (number, blocks) in files.iter().enumerate() {
        let file = volume.create(&number.to_string()).unwrap();
        for block in 0..*blocks {
            file.write_at(block * BLOCK_BYTES as u64, &[contents(number, block); BLOCK_BYTES]).unwrap();
        }
    }
    volume.unmount().unwrap();
    disk
}

fn contents(file: usize, block: u64) -> u8 {
    (file as u64 * 31 + block) as u8
}

/// Runs a program with a cache of so many blocks; it discloses all it will do.
fn run(program: &Program, cache_blocks: usize, read_ahead: ReadAheadKind, time: DiskTime) -> Outcome {
    let clock = SimulatedClock::default();
    let device = TimedDisk::new(disk(&program.files), time, clock.clone(), 16);
    let options = CacheOptions {
        blocks: cache_blocks,
        policy: program.policy.into(),
        read_ahead,
        ..CacheOptions::default()
    };
    let volume = Volume::mount(Box::new(device), options).unwrap();
    let files: Vec<File> =
        (0..program.files.len()).map(|file| volume.open(&file.to_string()).unwrap()).collect();
    let start_ns = clock.now_ns();
    for run in program.references.chunk_by(|one, next| one.0 == next.0 && one.1 + 1 == next.1) {
        files[run[0].0].will_need(run[0].1..run[0].1 + run.len() as u64).unwrap();
    }
    let mut page = [0; BLOCK_BYTES];
    for (file, block) in &program.references {
        files[*file].read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
        assert_eq!(page[7], contents(*file, *block));
        clock.advance(program.compute_ns);
    }
    let elapsed_ns = clock.now_ns() - start_ns;
    Outcome { elapsed_ns, counted: volume.cache().statistics() }
}

fn passes(files: &[u64], passes: usize) -> Vec<(usize, u64)> {
    let pass = files.iter().enumerate().flat_map(|(file, blocks)| (0..*blocks).map(move |b| (file, b)));
    let pass: Vec<(usize, u64)> = pass.collect();
    pass.repeat(passes)
}

/// Programs that are as busy with computing as with a disk that is read block by block, half and twice as
/// busy.
fn programs() -> Vec<Program> {
    let mut dice = Dice::new(11);
    let small: Vec<u64> = (0..60).map(|_| 1 + dice.below(12)).collect();
    let random: Vec<(usize, u64)> = (0..2000).map(|_| (0, dice.below(400))).collect();
    let mut queries = Vec::new();
    for _ in 0..5 {
        queries.extend((0..40).map(|block| (0, block)));
        for part in 0..40 {
            if dice.below(3) == 0 {
                queries.extend((part * 16..(part + 1) * 16).map(|block| (1, block)));
            }
        }
    }
    type Shape = (&'static str, Vec<u64>, Vec<(usize, u64)>, PolicyKind);
    let shapes: [Shape; 6] = [
        ("din", vec![400], passes(&[400], 6), PolicyKind::Mru),
        ("cs", small.clone(), passes(&small, 4), PolicyKind::Mru),
        ("once", vec![1500], passes(&[1500], 1), PolicyKind::Lru),
        ("gli", vec![40, 640], queries, PolicyKind::Mru),
        ("random", vec![400], random, PolicyKind::Lru),
        ("loop-lru", vec![400], passes(&[400], 6), PolicyKind::Lru),
    ];
    let mut programs = Vec::new();
    for (name, files, references, policy) in shapes {
        for compute_ns in [130_000, 265_000, 530_000] {
            let (files, references) = (files.clone(), references.clone());
            programs.push(Program { name, files, references, policy, compute_ns });
        }
    }
    programs
}

#[test]
fn prefetching_what_was_disclosed_saves_time_and_never_costs_any() {
    let mut changes = Vec::new();
    for program in programs() {
        for cache_blocks in [60, 300] {
            let none = run(&program, cache_blocks, ReadAheadKind::None, SSD);
            let aggressive = run(&program, cache_blocks, ReadAheadKind::Aggressive, SSD);
            let change = aggressive.elapsed_ns as f64 / none.elapsed_ns as f64 - 1.0;
            println!(
                "{:8} {:3} us a block, {cache_blocks} buffers: {} ms, {} reads; aggressive {:+.1} %, {} reads in {}",
                program.name,
                program.compute_ns / 1000,
                none.elapsed_ns / 1_000_000,
                none.counted.blocks_read,
                change * 100.0,
                aggressive.counted.blocks_read,
                aggressive.counted.read_requests,
            );
            assert!(aggressive.elapsed_ns <= none.elapsed_ns, "{} {cache_blocks}", program.name);
            changes.push(change);
        }
    }
    let average = changes.iter().sum::<f64>() / changes.len() as f64;
    println!("{:+.1} % on average of {}", average * 100.0, changes.len());
    assert!(average < -0.26, "the aim of the paper: {average}");
}

#[test]
fn a_busy_disk_is_not_made_busier_than_it_pays() {
    // Programs that hardly compute; on the first disk nothing is won by larger requests either, so every
    // block that is read twice costs time.
    for disk in [DiskTime { request_ns: 0, block_ns: 100_000 }, SSD] {
        for program in programs().into_iter().step_by(3) {
            for compute_ns in [0, 20_000] {
                let (files, references) = (program.files.clone(), program.references.clone());
                let program = Program { compute_ns, files, references, ..program };
                let none = run(&program, 200, ReadAheadKind::None, disk);
                let aggressive = run(&program, 200, ReadAheadKind::Aggressive, disk);
                let (elapsed, reads) = (aggressive.elapsed_ns, aggressive.counted.blocks_read);
                assert!(elapsed <= none.elapsed_ns, "{} {disk:?} {compute_ns}: {elapsed}", program.name);
                assert!(reads <= none.counted.blocks_read, "{} {disk:?} {compute_ns}: {reads}", program.name);
            }
        }
    }
}

#[test]
fn the_policies_without_disclosure_save_requests() {
    let program = &programs()[6];
    assert_eq!(program.name, "once");
    let requests = |kind| run(program, 300, kind, SSD).counted.read_requests;
    assert_eq!(requests(ReadAheadKind::None), 1500);
    assert_eq!(requests(ReadAheadKind::OneBlock), 750);
    assert!(requests(ReadAheadKind::Sequential) < 100);
    // As long as there are vacant buffers.
    let directed = requests(ReadAheadKind::Directed);
    assert!((1200..1240).contains(&directed), "{directed}");
}

#[test]
fn adjacent_blocks_are_fetched_together_and_requests_fly_together() {
    // Small files that lie one behind the other on the disk, read from the last to the first.
    let files = [3; 64];
    let (device, seen) = DelayedDevice::new(disk(&files), 16, 5);
    let options =
        CacheOptions { blocks: 300, read_ahead: ReadAheadKind::Aggressive, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(device), options).unwrap();
    let opened: Vec<File> = (0..64).rev().map(|file| volume.open(&file.to_string()).unwrap()).collect();
    seen.reset();
    opened.iter().for_each(|file| file.will_need(0..3).unwrap());
    let mut contents = vec![0; 3 * BLOCK_BYTES];
    opened.iter().for_each(|file| assert_eq!(file.read_at(0, &mut contents), Ok(contents.len())));
    let counted = volume.cache().statistics();
    assert_eq!((counted.blocks_read, counted.staged_used), (64 * 3, 64 * 3));
    assert!(counted.read_requests <= 36, "64 files, and blocks of several in one request: {counted:?}");
    assert!(seen.deepest_reads() >= 3, "{}", seen.deepest_reads());
}

#[test]
fn wrong_disclosures_cost_time_and_nothing_else() {
    let files = [200, 200];
    for seed in 0..10 {
        let mut dice = Dice::new(seed);
        let disk = disk(&files);
        let options = CacheOptions {
            blocks: 2 + dice.below(40) as usize,
            read_ahead: ReadAheadKind::Aggressive,
            policy: PolicyKind::ALL[seed as usize % PolicyKind::ALL.len()].into(),
            ..CacheOptions::default()
        };
        let (device, _) = DelayedDevice::new(disk, 8, seed);
        let volume = Volume::mount(Box::new(device), options).unwrap();
        let opened = [0, 1].map(|file: usize| volume.open(&file.to_string()).unwrap());
        for _ in 0..60 {
            let file = dice.below(2) as usize;
            let first = dice.below(220);
            opened[dice.below(2) as usize].will_need(first..first + dice.below(300)).unwrap();
            if dice.below(8) == 0 {
                opened[file].write_at(dice.below(200) * BLOCK_BYTES as u64, &[9; 5]).unwrap();
            }
            if dice.below(30) == 0 {
                opened[1].truncate(dice.below(200) * BLOCK_BYTES as u64).unwrap();
            }
            for _ in 0..20 {
                let block = dice.below(200);
                let mut byte = [0];
                if opened[file].read_at(block * BLOCK_BYTES as u64 + 7, &mut byte) == Ok(1) {
                    assert!([contents(file, block), 0].contains(&byte[0]), "file {file} block {block}");
                }
                assert!(volume.cache().statistics().resident <= volume.cache().blocks());
            }
        }
        volume.commit().unwrap();
    }
}

/// Passes of which each is disclosed only when it begins, as a program does that learns then what it will
/// read: what to keep for the next pass, only the replacement policy knows.
#[test]
fn where_nothing_is_known_the_policy_chooses() {
    let reads = |read_ahead, policy: PolicyKind| {
        let options =
            CacheOptions { blocks: 300, policy: policy.into(), read_ahead, ..CacheOptions::default() };
        let volume = Volume::mount(Box::new(disk(&[400])), options).unwrap();
        let file = volume.open("0").unwrap();
        let mut page = [0; BLOCK_BYTES];
        for _pass in 0..6 {
            file.will_need(0..400).unwrap();
            for block in 0..400 {
                file.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
            }
        }
        volume.cache().statistics().blocks_read
    };
    assert_eq!(reads(ReadAheadKind::None, PolicyKind::Mru), 400 + 5 * 100);
    let aggressive = reads(ReadAheadKind::Aggressive, PolicyKind::Mru);
    assert!((900..=930).contains(&aggressive), "{aggressive}");
    // LRU keeps nothing of the next pass.
    assert!(reads(ReadAheadKind::Aggressive, PolicyKind::Lru) > 930);
}

/// Blocks that the policy keeps are not given up because those that it would give up are dirty. The program
/// copies a file and then reads another one, which was in the cache, once more.
#[test]
fn what_the_policy_keeps_stays_where_its_choice_is_dirty() {
    let reads = |read_ahead| {
        let options = CacheOptions {
            blocks: 100,
            policy: PolicyKind::Mru.into(),
            read_ahead,
            ..CacheOptions::default()
        };
        let volume = Volume::mount(Box::new(disk(&[80, 150])), options).unwrap();
        let (kept, copied) = (volume.open("0").unwrap(), volume.open("1").unwrap());
        let target = volume.create("copy").unwrap();
        let mut page = [0; BLOCK_BYTES];
        let read_kept = || {
            (0..80).for_each(|block| {
                kept.read_at(block * BLOCK_BYTES as u64, &mut [0; BLOCK_BYTES]).unwrap();
            })
        };
        read_kept();
        copied.will_need(0..150).unwrap();
        for offset in (0..150).map(|block| block * BLOCK_BYTES as u64) {
            copied.read_at(offset, &mut page).unwrap();
            target.write_at(offset, &page).unwrap();
        }
        read_kept();
        volume.cache().statistics().blocks_read
    };
    let (none, aggressive) = (reads(ReadAheadKind::None), reads(ReadAheadKind::Aggressive));
    assert!(none <= 240, "{none} reads without prefetching");
    assert!(aggressive <= none + 16, "{aggressive} reads, {none} without prefetching");
}

/// A join: of the index nothing is disclosed, and it is used longer ago than tuples; but it has priority.
#[test]
fn what_was_given_priority_stays() {
    let options =
        CacheOptions { blocks: 100, read_ahead: ReadAheadKind::Aggressive, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(disk(&[40, 400])), options).unwrap();
    let (index, tuples) = (volume.open("0").unwrap(), volume.open("1").unwrap());
    volume.cache().set_priority(&index, 1);
    let mut dice = Dice::new(3);
    let mut page = [0; BLOCK_BYTES];
    for batch in 0..30 {
        let before = volume.cache().statistics().misses;
        for block in 0..40 {
            index.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
        }
        let missed = volume.cache().statistics().misses - before;
        assert_eq!(missed, if batch == 0 { 40 } else { 0 }, "batch {batch}");
        let wanted: Vec<u64> = (0..50).map(|_| dice.below(400)).collect();
        wanted.iter().for_each(|block| tuples.will_need(*block..*block + 1).unwrap());
        for block in wanted {
            tuples.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
        }
    }
}

#[test]
fn nobody_pays_for_the_prefetching_of_another() {
    let options = CacheOptions {
        blocks: 100,
        read_ahead: ReadAheadKind::Aggressive,
        policy: PolicyKind::Lru.into(),
        ..CacheOptions::default()
    };
    let volume = Volume::mount(Box::new(disk(&[60, 300])), options).unwrap();
    let (quiet, greedy) = (volume.open("0").unwrap(), volume.as_manager("greedy").open("1").unwrap());
    let mut page = [0; BLOCK_BYTES];
    for block in 0..60 {
        quiet.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
    }
    greedy.will_need(0..300).unwrap();
    let resident = |file| volume.cache().manager_of(file).statistics().resident;
    for block in 0..300 {
        greedy.read_at(block * BLOCK_BYTES as u64, &mut page).unwrap();
        assert_eq!(resident(&quiet), 60, "block {block}");
    }
    assert_eq!(volume.cache().statistics().blocks_read, 360);
}

/// The next blocks to fetch are so far away that nothing is replaced for them. When buffers become vacant
/// there is no reason left to wait.
#[test]
fn room_that_appears_is_used_at_once() {
    type MakeRoom = fn(&Volume);
    let rooms: [(&str, MakeRoom); 2] = [
        ("a file is removed", |volume| volume.remove("0").unwrap()),
        ("the cache grows", |volume| volume.cache().resize(50).unwrap()),
    ];
    for (what, make_room) in rooms {
        for read_ahead in [ReadAheadKind::Directed, ReadAheadKind::Aggressive] {
            let options = CacheOptions { blocks: 40, read_ahead, ..CacheOptions::default() };
            let volume = Volume::mount(Box::new(disk(&[10, 200])), options).unwrap();
            let mut contents = vec![0; 30 * BLOCK_BYTES];
            volume.open("0").unwrap().read_at(0, &mut contents[..10 * BLOCK_BYTES]).unwrap();
            let file = volume.open("1").unwrap();
            file.read_at(0, &mut contents).unwrap();
            file.will_need(0..200).unwrap();
            let before = volume.cache().statistics();
            assert_eq!((before.resident, before.blocks_read), (40, 40), "{what} {read_ahead:?}");
            make_room(&volume);
            file.read_at(0, &mut contents[..BLOCK_BYTES]).unwrap();
            let read = volume.cache().statistics().blocks_read - before.blocks_read;
            assert!(read >= 8, "{what} {read_ahead:?}: {read} blocks were fetched");
        }
    }
}
