//! The store of `ycsb` and what its requests must give, computed with a map in memory.

use super::image::{ImageFile, json};
use super::{Collected, DataError, METADATA_BYTES, Sizes};
use crate::btree;
use crate::ycsb::{self, Answers, Mix, RECORD_BYTES, Request, Requests, Task, fill, key_of};
use std::collections::BTreeMap;

/// How full pages are made, in hundredths: a leaf has room for one more record.
const FILL: usize = 75;
/// Share of scans among the requests of mix E that makes it take about as long as the others.
const SCANS_PER_REQUEST: u64 = 8;

/// The store and the tasks of all mixes.
pub(super) fn collect(sizes: &Sizes) -> Result<Collected, DataError> {
    let records = sizes.store_bytes / RECORD_BYTES as u64;
    let btree::Image { index, leaves } = btree::build(&ycsb::records(records), FILL);
    let spare_bytes = leaves.len() as u64 + METADATA_BYTES;
    let mut files = vec![
        ImageFile { path: ycsb::INDEX_PATH.into(), bytes: index },
        ImageFile { path: ycsb::LEAVES_PATH.into(), bytes: leaves },
    ];
    for (seed, mix) in (1..).zip(Mix::ALL) {
        let requests = if mix == Mix::E { 2 * records / SCANS_PER_REQUEST } else { 2 * records };
        let mut task = Task { records, requests, seed, expected: Answers::default() };
        task.expected = answer(mix, &task);
        files.push(json(mix.task(), &task)?);
    }
    Ok(Collected { files, spare_bytes, notes: Vec::new() })
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
