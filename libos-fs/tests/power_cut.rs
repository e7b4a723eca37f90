//! The power goes during every single write of random workloads; what is found afterwards is compared with a
//! model.

use libos_fs::device::fault::{Dice, PowerCut};
use libos_fs::{CacheOptions, FsError, PolicyKind, RamDisk, Volume, WriteBackKind, extent_fs};
use std::collections::BTreeMap;

/// What a volume holds: path → contents, `None` for a directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Step {
    Create(String),
    CreateDir(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Remove(String),
    Rename(String, String),
    Commit,
}

fn a_path(dice: &mut Dice) -> String {
    let directory = ["", "/a", "/b"][dice.below(3) as usize];
    format!("{directory}/{}", ["x", "y", "z"][dice.below(3) as usize])
}

fn a_step(dice: &mut Dice) -> Step {
    match dice.below(20) {
        0..=2 => Step::Create(a_path(dice)),
        3 => Step::CreateDir(["/a", "/b"][dice.below(2) as usize].into()),
        4..=10 => {
            let bytes = (0..dice.below(20_000))
                .map(|at| (at as u8).wrapping_add(dice.clone().roll() as u8))
                .collect();
            Step::Write(a_path(dice), dice.below(30_000), bytes)
        }
        11 | 12 => Step::Truncate(a_path(dice), dice.below(40_000)),
        13 => Step::Remove(if dice.below(4) == 0 { "/a".into() } else { a_path(dice) }),
        14 | 15 => Step::Rename(a_path(dice), a_path(dice)),
        _ => Step::Commit,
    }
}

fn apply(volume: &Volume, step: &Step) -> Result<(), FsError> {
    match step {
        Step::Create(path) => volume.create(path).map(drop),
        Step::CreateDir(path) => volume.create_dir(path),
        Step::Write(path, offset, bytes) => volume.open(path)?.write_at(*offset, bytes),
        Step::Truncate(path, bytes) => volume.open(path)?.truncate(*bytes),
        Step::Remove(path) => volume.remove(path),
        Step::Rename(from, to) => volume.rename(from, to),
        Step::Commit => volume.commit(),
    }
}

fn parent_exists(model: &Model, path: &str) -> bool {
    match path.rsplit_once('/') {
        Some(("", _)) => true,
        Some((parent, _)) => model.get(parent) == Some(&None),
        None => false,
    }
}

/// The same step on the model. `false` if it must fail.
fn apply_to_model(model: &mut Model, step: &Step) -> bool {
    let has_entries =
        |model: &Model, path: &str| model.keys().any(|key| key.starts_with(&format!("{path}/")));
    match step {
        Step::Create(path) | Step::CreateDir(path) => {
            if !parent_exists(model, path) || model.contains_key(path) {
                return false;
            }
            let file = matches!(step, Step::Create(_));
            model.insert(path.clone(), file.then(Vec::new));
            true
        }
        Step::Write(path, offset, bytes) => match model.get_mut(path) {
            Some(Some(contents)) => {
                let end = *offset as usize + bytes.len();
                if !bytes.is_empty() {
                    contents.resize(contents.len().max(end), 0);
                    contents[*offset as usize..end].copy_from_slice(bytes);
                }
                true
            }
            _ => false,
        },
        Step::Truncate(path, bytes) => match model.get_mut(path) {
            Some(Some(contents)) => {
                contents.resize(*bytes as usize, 0);
                true
            }
            _ => false,
        },
        Step::Remove(path) => {
            if !model.contains_key(path) || has_entries(model, path) {
                return false;
            }
            model.remove(path).is_some()
        }
        Step::Rename(from, to) => {
            if !matches!(model.get(from), Some(Some(_))) || !parent_exists(model, to) {
                return false;
            }
            if let Some(contents) = model.remove(from) {
                model.insert(to.clone(), contents);
            }
            true
        }
        Step::Commit => true,
    }
}

fn contents(volume: &Volume) -> Result<Model, FsError> {
    let mut model = Model::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in volume.list(&directory)? {
            let path = format!("{directory}/{}", entry.name);
            if entry.kind == libos_fs::EntryKind::Directory {
                directories.push(path.clone());
                model.insert(path, None);
            } else {
                let mut bytes = vec![0xaa; entry.bytes as usize];
                assert_eq!(volume.open(&path)?.read_at(0, &mut bytes)?, bytes.len());
                model.insert(path, Some(bytes));
            }
        }
    }
    Ok(model)
}

/// Runs the steps until the first device error. Returns the state of the last commit that succeeded, the
/// state at the commit that failed, if one did, and the state in the end.
fn run(volume: &Volume, steps: &[Step], start: &Model) -> (Model, Option<Model>, Model) {
    let mut model = start.clone();
    let mut committed = start.clone();
    for step in steps {
        let mut next = model.clone();
        let possible = apply_to_model(&mut next, step);
        match apply(volume, step) {
            Ok(()) => {
                assert!(possible, "{step:?} should have failed");
                model = next;
                if matches!(step, Step::Commit) {
                    committed = model.clone();
                }
            }
            Err(FsError::Device { .. } | FsError::CommitUnknown) => {
                let pending = matches!(step, Step::Commit).then_some(model.clone());
                return (committed, pending, model);
            }
            Err(error) => assert!(!possible, "{step:?}: {error}"),
        }
    }
    (committed, None, model)
}

#[test]
fn a_cut_at_any_write_leaves_the_last_committed_state() {
    let mut cuts = 0;
    let mut changed = 0;
    for seed in 0..8 {
        let mut dice = Dice::new(seed);
        let empty = RamDisk::new(400);
        extent_fs::make(Box::new(empty.clone())).unwrap();
        let mut steps: Vec<Step> = vec![Step::CreateDir("/a".into()), Step::CreateDir("/b".into())];
        steps.extend(["/x", "/a/y", "/b/z"].map(|path| Step::Create(path.into())));
        steps.extend((0..110).map(|_| a_step(&mut dice)));
        steps.push(Step::Commit);
        let policy = PolicyKind::ALL[seed as usize % PolicyKind::ALL.len()];
        let write_back = WriteBackKind::ALL[seed as usize % 3];
        let options = CacheOptions {
            blocks: 6 + seed as usize,
            policy: policy.into(),
            write_back,
            ..CacheOptions::default()
        };
        let (device, whole) = PowerCut::new(&empty, None, seed);
        let volume = Volume::mount(Box::new(device), options.clone()).unwrap();
        let (committed, _, model) = run(&volume, &steps, &Model::new());
        assert_eq!(committed, model);
        assert_eq!(contents(&volume).unwrap(), model);
        for cut_after in 0..whole.written() {
            let (device, power) = PowerCut::new(&empty, Some(cut_after), seed ^ cut_after << 8);
            let volume = Volume::mount(Box::new(device), options.clone()).unwrap();
            let (committed, pending, _) = run(&volume, &steps, &Model::new());
            assert!(power.is_cut());
            let survivor = power.survivor();
            let report = extent_fs::check(Box::new(survivor.clone())).unwrap();
            // The copy of the superblock that was being written may be torn: the other one counts.
            let torn = |problem: &String| problem.contains("superblock in block");
            assert!(report.problems.iter().all(torn), "seed {seed} cut {cut_after}: {report:?}");
            let volume = Volume::mount(Box::new(survivor.clone()), options.clone()).unwrap();
            let found = contents(&volume).unwrap();
            assert!(found == committed || Some(&found) == pending.as_ref(), "seed {seed} cut {cut_after}");
            cuts += 1;
            changed += usize::from(Some(&found) == pending.as_ref() && found != committed);
            // The power is cut a second time, in the first commit after the first cut.
            for second in 0..8 {
                let (device, power) = PowerCut::new(&survivor, Some(second), cut_after);
                let volume = Volume::mount(Box::new(device), options.clone()).unwrap();
                let written = volume.create("/second").unwrap().write_at(0, b"cut");
                let ended = written.and_then(|()| volume.commit());
                power.cut_now();
                let mut now =
                    contents(&Volume::mount(Box::new(power.survivor()), options.clone()).unwrap()).unwrap();
                let there = now.remove("/second").is_some();
                assert!(now == found && (there || ended.is_err()), "seed {seed} cuts {cut_after}, {second}");
            }
            // Life goes on, and the next commit repairs what the cut left.
            volume.create("/after").unwrap().write_at(0, b"the cut").unwrap();
            volume.unmount().unwrap();
            let report = extent_fs::check(Box::new(survivor)).unwrap();
            assert!(report.is_clean() && report.notes.is_empty(), "seed {seed} cut {cut_after}: {report:?}");
        }
    }
    println!("{cuts} cuts, {changed} of them after a commit had become valid");
    assert!(cuts > 500 && changed > 10);
}

#[test]
fn what_is_not_committed_is_not_there() {
    let disk = RamDisk::new(100);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk.clone()), CacheOptions::default()).unwrap();
    volume.create("/kept").unwrap();
    volume.commit().unwrap();
    volume.create("/lost").unwrap().write_at(0, &[1; 9000]).unwrap();
    drop(volume);
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    assert_eq!(volume.list("/").unwrap().len(), 1);
}
