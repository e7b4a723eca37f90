//! The store of `ycsb` and what its requests must give, computed with a map in memory.

use super::image::{ImageFile, json, write};
use super::{Collected, DataError, METADATA_BYTES, Sizes};
use crate::btree;
use crate::files::Advice;
use crate::lines::BLOCK_BYTES;
use crate::workload::Context;
use crate::ycsb::{self, Answers, Mix, RECORD_BYTES, Request, Requests, Task, fill, history, key_of};
use libos_fs::cache::block_of;
use libos_fs::{CacheOptions, RamDisk, Volume};
use std::collections::BTreeMap;

/// How full pages are made, in hundredths: a leaf has room for one more record.
const FILL: usize = 75;
/// Share of scans among the requests of mix E that makes it take about as long as the others.
const SCANS_PER_REQUEST: u64 = 8;

/// Runs of a store that went before the one that is measured: the same mix, other requests.
const EARLIER_RUNS: u64 = 8;
/// Start of the random numbers of the first of them.
const EARLIER_SEED: u64 = 1000;

/// The store, the tasks of all mixes, and what earlier runs have counted.
pub(super) fn collect(sizes: &Sizes) -> Result<Collected, DataError> {
    let records = sizes.store_bytes / RECORD_BYTES as u64;
    let btree::Image { index, leaves } = btree::build(&ycsb::records(records), FILL);
    let spare_bytes = leaves.len() as u64 + METADATA_BYTES;
    let mut files = vec![
        ImageFile { path: ycsb::INDEX_PATH.into(), bytes: index },
        ImageFile { path: ycsb::LEAVES_PATH.into(), bytes: leaves },
    ];
    let mut tasks = Vec::new();
    for (seed, mix) in (1..).zip(Mix::ALL) {
        let requests = if mix == Mix::E { 2 * records / SCANS_PER_REQUEST } else { 2 * records };
        let mut task = Task { records, requests, seed, expected: Answers::default() };
        task.expected = answer(mix, &task);
        files.push(json(mix.task(), &task)?);
        tasks.push((mix, task));
    }
    let disk = RamDisk::new(2 * (spare_bytes / BLOCK_BYTES as u64 + files.len() as u64));
    write(&files, &mut || Ok(Box::new(disk.clone())), &mut |_| ())?;
    for (mix, task) in tasks {
        let Some(path) = mix.history() else { continue };
        let counts = count_earlier(&disk.to_bytes(), mix, &task)?;
        files.push(ImageFile { path: path.into(), bytes: history::to_bytes(&counts) });
    }
    Ok(Collected { files, spare_bytes, notes: Vec::new() })
}

/// How often each leaf is used in runs that go before: by the store itself, each time from the same start.
/// Leaves that are added are left out, as each run adds others.
fn count_earlier(image: &[u8], mix: Mix, task: &Task) -> Result<Vec<u16>, DataError> {
    let failed = |error| DataError::Volume { path: ycsb::LEAVES_PATH.into(), error };
    let mut counts: Vec<u16> = Vec::new();
    for run in 0..EARLIER_RUNS {
        let blocks = image.len() / BLOCK_BYTES;
        let options = CacheOptions { blocks, record_references: true, ..CacheOptions::default() };
        let disk = RamDisk::from_bytes(image.to_vec());
        let volume = Volume::mount(Box::new(disk), options).map_err(failed)?;
        let leaves = volume.open(ycsb::LEAVES_PATH).map_err(failed)?;
        counts.resize(leaves.len().map_err(failed)?.div_ceil(BLOCK_BYTES as u64) as usize, 0);
        let context = Context { storage: &volume, advice: Advice::None, now_ns: &|| 0 };
        let store = ycsb::Files::open(&context, mix)?;
        store.perform_all(&context, Requests::new(mix, &Task { seed: EARLIER_SEED + run, ..*task }))?;
        for (file, leaf) in volume.cache().take_references().into_iter().map(block_of) {
            if let Some(count) = counts.get_mut(leaf as usize).filter(|_| file == leaves.id()) {
                *count = count.saturating_add(1);
            }
        }
    }
    Ok(counts)
}

/// Carries out the requests on a map from keys to versions.
fn answer(mix: Mix, task: &Task) -> Answers {
    let mut store: BTreeMap<u64, u64> = (0..task.records).map(|record| (key_of(record), 0)).collect();
    let mut answers = Answers::default();
    let contents = |key: u64, version: u64| {
        let mut bytes = vec![0; RECORD_BYTES];
        fill(&mut bytes, key, version);
        bytes
    };
    for request in Requests::new(mix, task) {
        let (read, update) = match request {
            Request::Read(record) => (Some(record), None),
            Request::Update(record) => (None, Some(record)),
            Request::ReadModifyWrite(record) => (Some(record), Some(record)),
            Request::Insert(record) => {
                store.insert(key_of(record), 0);
                answers.added += 1;
                (None, None)
            }
            Request::Scan(record, length) => {
                for (key, version) in store.range(key_of(record)..).take(length) {
                    answers.add_read(*key, &contents(*key, *version));
                }
                (None, None)
            }
        };
        if let Some(key) = read.map(key_of) {
            match store.get(&key) {
                Some(version) => answers.add_read(key, &contents(key, *version)),
                None => answers.absent += 1,
            }
        }
        if let Some(key) = update.map(key_of) {
            match store.get_mut(&key) {
                Some(version) => {
                    *version += 1;
                    answers.changed += 1;
                }
                None => answers.absent += 1,
            }
        }
    }
    answers
}
