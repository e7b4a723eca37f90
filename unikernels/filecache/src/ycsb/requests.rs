//! The requests of a mix.

use super::Task;
use alloc::vec::Vec;

/// Mixes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Half reads, half updates.
    A,
    /// Reads, and 5 % updates.
    B,
    /// Reads.
    C,
    /// Reads, mostly of what was added last, and 5 % insertions.
    D,
    /// Short scans, and 5 % insertions.
    E,
    /// Reads, and as many times a record is read, changed and written.
    F,
    /// Reads, and every so often a scan of half of the store.
    GetScan,
}

impl Mix {
    /// All of them.
    pub const ALL: [Mix; 7] = [Mix::A, Mix::B, Mix::C, Mix::D, Mix::E, Mix::F, Mix::GetScan];

    /// Path of the task, a [`Task`] in JSON.
    pub fn task(self) -> &'static str {
        match self {
            Mix::A => "ycsb/a.json",
            Mix::B => "ycsb/b.json",
            Mix::C => "ycsb/c.json",
            Mix::D => "ycsb/d.json",
            Mix::E => "ycsb/e.json",
            Mix::F => "ycsb/f.json",
            Mix::GetScan => "ycsb/get-scan.json",
        }
    }

    /// Path of the counts of earlier runs; none where what is wanted moves, so that they say nothing.
    pub fn history(self) -> Option<&'static str> {
        match self {
            Mix::A => Some("ycsb/a.counts"),
            Mix::B => Some("ycsb/b.counts"),
            Mix::C => Some("ycsb/c.counts"),
            Mix::D => None,
            Mix::E => Some("ycsb/e.counts"),
            Mix::F => Some("ycsb/f.counts"),
            Mix::GetScan => Some("ycsb/get-scan.counts"),
        }
    }
}

/// What a client asks of the store. Records are named by the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read a record.
    Read(u64),
    /// Write a record anew.
    Update(u64),
    /// Read a record and write it anew.
    ReadModifyWrite(u64),
    /// Add a record.
    Insert(u64),
    /// Read so many records in the order of their keys, from one on.
    Scan(u64, usize),
}

/// The key of a record: neighbours in the order of insertion lie far apart. No two have the same, as the
/// multiplier is odd.
pub fn key_of(record: u64) -> u64 {
    (record + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Longest short scan.
const LONGEST_SCAN: u64 = 100;
/// Of [`Mix::GetScan`], how many requests there are to a scan.
const REQUESTS_PER_SCAN: u64 = 1000;

/// The requests of a task, in order: the same for everybody.
///
/// Popularity follows Zipf's law with exponent 1 (YCSB's is 0.99), which needs no more than integers: the
/// record in place `i` of popularity is asked for in proportion to `1 / (i + 1)`.
pub struct Requests {
    mix: Mix,
    random: u64,
    /// Sums of the weights of the places of popularity up to each.
    weights: Vec<u64>,
    records: u64,
    made: u64,
    left: u64,
}

impl Requests {
    /// The requests of a task.
    pub fn new(mix: Mix, task: &Task) -> Requests {
        let mut sum = 0;
        let weights = (1..=task.records)
            .map(|place| {
                sum += (1 << 32) / place;
                sum
            })
            .collect();
        Requests { mix, random: task.seed, weights, records: task.records, made: 0, left: task.requests }
    }

    /// A random number below `limit` (S. Vigna's splitmix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit.max(1)
    }

    /// A place of popularity.
    fn place(&mut self) -> u64 {
        let total = self.weights.last().copied().unwrap_or(1);
        let chosen = self.below(total);
        self.weights.partition_point(|sum| *sum <= chosen) as u64
    }

    fn popular(&mut self) -> u64 {
        self.place().min(self.records - 1)
    }

    fn insert(&mut self) -> Request {
        self.records += 1;
        Request::Insert(self.records - 1)
    }
}

impl Iterator for Requests {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.left = self.left.checked_sub(1)?;
        self.made += 1;
        let hundredth = self.below(100);
        Some(match self.mix {
            Mix::A if hundredth < 50 => Request::Update(self.popular()),
            Mix::B if hundredth < 5 => Request::Update(self.popular()),
            Mix::F if hundredth < 50 => Request::ReadModifyWrite(self.popular()),
            Mix::D | Mix::E if hundredth < 5 => self.insert(),
            Mix::D => Request::Read(self.records - 1 - self.popular()),
            Mix::E => {
                let length = 1 + self.below(LONGEST_SCAN) as usize;
                Request::Scan(self.popular(), length)
            }
            Mix::GetScan if self.made.is_multiple_of(REQUESTS_PER_SCAN) => {
                let length = self.records as usize / 2;
                Request::Scan(self.popular(), length)
            }
            Mix::A | Mix::B | Mix::C | Mix::F | Mix::GetScan => Request::Read(self.popular()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Answers;
    use super::*;

    fn requests(mix: Mix) -> Vec<Request> {
        let task = Task { records: 1000, requests: 10_000, seed: 1, expected: Answers::default() };
        Requests::new(mix, &task).collect()
    }

    #[test]
    fn mixes_are_mixed_as_they_should_be() {
        let share = |mix, what: fn(&Request) -> bool| requests(mix).iter().filter(|one| what(one)).count();
        let near = |count: usize, expected: usize| count.abs_diff(expected) < 200;
        assert!(near(share(Mix::A, |one| matches!(one, Request::Update(_))), 5000));
        assert!(near(share(Mix::B, |one| matches!(one, Request::Update(_))), 500));
        assert_eq!(share(Mix::C, |one| matches!(one, Request::Read(_))), 10_000);
        assert!(near(share(Mix::D, |one| matches!(one, Request::Insert(_))), 500));
        assert!(near(share(Mix::E, |one| matches!(one, Request::Scan(_, 1..=100))), 9500));
        assert!(near(share(Mix::F, |one| matches!(one, Request::ReadModifyWrite(_))), 5000));
        assert_eq!(share(Mix::GetScan, |one| matches!(one, Request::Scan(_, 500))), 10);
    }

    #[test]
    fn popularity_follows_zipf() {
        let reads = requests(Mix::C);
        let of = |record| reads.iter().filter(|one| **one == Request::Read(record)).count() as f64;
        // The weights of 1000 places sum up to 7.49 times that of the first.
        assert!((of(0) - 10_000.0 / 7.49).abs() < 150.0, "{}", of(0));
        assert!((of(0) / of(9) - 10.0).abs() < 3.0, "{} and {}", of(0), of(9));
        assert!(reads.iter().all(|one| matches!(one, Request::Read(0..1000))));
    }

    #[test]
    fn only_records_that_exist_are_asked_for() {
        for mix in Mix::ALL {
            let mut records = 1000;
            for request in requests(mix) {
                match request {
                    Request::Insert(record) => {
                        assert_eq!(record, records);
                        records += 1;
                    }
                    Request::Read(record)
                    | Request::Update(record)
                    | Request::ReadModifyWrite(record)
                    | Request::Scan(record, _) => assert!(record < records),
                }
            }
        }
    }
}
