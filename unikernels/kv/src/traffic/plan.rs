//! Which records are asked for, how large they are, and how long they are good.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use filecache::ycsb::{Answers, Mix, Request, Requests, Task, key_of};

/// Records that there are before the first request.
const RECORDS: u64 = 10_000;
/// Bytes of a record where all have the same, as in YCSB.
const RECORD_BYTES: usize = 1000;
/// Where the random numbers of requests begin.
const SEED: u64 = 0x5eed;

/// Kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
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
    /// Reads, and every thousand requests a scan of half of the records.
    GetScan,
    /// Reads of records of which two thirds are good for seconds only.
    Expiring,
    /// Reads of records of 16 bytes to 16 KiB.
    Sizes,
    /// Those, with what was read most becoming what is read least, and so on: every record in turn.
    Moving,
}

impl Traffic {
    /// All of them.
    pub const ALL: [Traffic; 9] = [
        Traffic::A,
        Traffic::B,
        Traffic::C,
        Traffic::D,
        Traffic::E,
        Traffic::GetScan,
        Traffic::Expiring,
        Traffic::Sizes,
        Traffic::Moving,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Traffic::A => "ycsb-a",
            Traffic::B => "ycsb-b",
            Traffic::C => "ycsb-c",
            Traffic::D => "ycsb-d",
            Traffic::E => "ycsb-e",
            Traffic::GetScan => "get-scan",
            Traffic::Expiring => "expiring",
            Traffic::Sizes => "sizes",
            Traffic::Moving => "moving",
        }
    }

    /// Whether all records have the same size and none expires: then Belady's optimum is one.
    pub fn is_uniform(self) -> bool {
        !matches!(self, Traffic::Expiring | Traffic::Sizes | Traffic::Moving)
    }

    /// Whether records are read several at once.
    pub fn scans(self) -> bool {
        matches!(self, Traffic::E | Traffic::GetScan)
    }

    fn mix(self) -> Mix {
        match self {
            Traffic::A => Mix::A,
            Traffic::B => Mix::B,
            Traffic::C | Traffic::Expiring | Traffic::Sizes | Traffic::Moving => Mix::C,
            Traffic::D => Mix::D,
            Traffic::E => Mix::E,
            Traffic::GetScan => Mix::GetScan,
        }
    }

    /// Requests, so many that the references to records are about as many in all of them.
    fn requests(self) -> u64 {
        match self {
            Traffic::E => 3_000,
            Traffic::GetScan => 30_000,
            _ => 100_000,
        }
    }
}

/// No traffic has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTraffic;

impl fmt::Display for UnknownTraffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is")?;
        Traffic::ALL.iter().try_for_each(|one| write!(f, " {}", one.name()))
    }
}

impl core::error::Error for UnknownTraffic {}

impl FromStr for Traffic {
    type Err = UnknownTraffic;

    fn from_str(name: &str) -> Result<Traffic, UnknownTraffic> {
        Traffic::ALL.into_iter().find(|one| one.name() == name).ok_or(UnknownTraffic)
    }
}

/// What the application does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It wants these records, and fetches those that the store has not.
    Read(Vec<u64>),
    /// It changes a record, and puts it into the store.
    Write(u64),
}

/// The steps of a kind of traffic, one a millisecond.
pub struct Plan {
    traffic: Traffic,
    requests: Requests,
    /// Records in the order of their keys.
    in_order: BTreeMap<u64, u64>,
    /// How often each record was changed.
    changes: Vec<u32>,
    now_ms: u64,
}

/// A record as it is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Which of its states.
    pub version: u64,
    /// Bytes of its value.
    pub bytes: usize,
    /// When it is good no longer, in milliseconds.
    pub expires_ms: Option<u64>,
}

impl Plan {
    /// The steps of this traffic, with one in `part` of its requests.
    pub fn new(traffic: Traffic, part: u64) -> Plan {
        let (records, requests) = (RECORDS, traffic.requests() / part.max(1));
        let task = Task { records, requests, seed: SEED, expected: Answers::default() };
        Plan {
            traffic,
            requests: Requests::new(traffic.mix(), &task),
            in_order: (0..RECORDS).map(|number| (key_of(number), number)).collect(),
            changes: alloc::vec![0; RECORDS as usize],
            now_ms: 0,
        }
    }

    /// Records that there are now.
    pub fn records(&self) -> u64 {
        self.changes.len() as u64
    }

    /// The time, in milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A record, as it is now.
    pub fn record(&self, number: u64) -> Record {
        let changes = u64::from(self.changes[number as usize]);
        let good_ms = self.good_ms(number);
        let (version, expires_ms) = match good_ms {
            None => (changes, None),
            // Others change it, too: each for itself, at times that nobody can shift.
            Some(good_ms) => {
                let shifted = self.now_ms + key_of(number) % good_ms;
                let round = shifted / good_ms;
                (round, Some(self.now_ms + (round + 1) * good_ms - shifted))
            }
        };
        Record { number, version, bytes: self.bytes(number), expires_ms }
    }

    /// For how many milliseconds a state of a record is good; for ever if `None`.
    fn good_ms(&self, number: u64) -> Option<u64> {
        let chance = key_of(number) >> 40;
        match (self.traffic, chance % 3) {
            (Traffic::Expiring, 0) => Some(1_000 + chance / 3 % 4_000),
            (Traffic::Expiring, 1) => Some(10_000 + chance / 3 % 40_000),
            _ => None,
        }
    }

    fn bytes(&self, number: u64) -> usize {
        match self.traffic {
            // As many of 16 to 31 bytes as of 8 to 16 KiB.
            Traffic::Sizes | Traffic::Moving => {
                let chance = key_of(number) >> 40;
                let power = 4 + chance % 10;
                (1 << power) + (chance / 10 % (1 << power)) as usize
            }
            _ => RECORD_BYTES,
        }
    }

    /// Records from one on, in the order of keys.
    fn scanned(&self, number: u64, count: usize) -> Vec<u64> {
        self.in_order.range(key_of(number)..).take(count).map(|(_, number)| *number).collect()
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.now_ms += 1;
        Some(match self.requests.next()? {
            Request::Read(number) if self.traffic == Traffic::Moving => {
                Step::Read(alloc::vec![(number + self.now_ms / 10) % RECORDS])
            }
            Request::Read(number) => Step::Read(alloc::vec![number]),
            Request::Scan(number, count) => Step::Read(self.scanned(number, count)),
            Request::Update(number) | Request::ReadModifyWrite(number) => {
                self.changes[number as usize] += 1;
                Step::Write(number)
            }
            Request::Insert(number) => {
                self.in_order.insert(key_of(number), number);
                self.changes.push(0);
                Step::Write(number)
            }
        })
    }
}
