//! Asks a server, fetches what is missing, checks every reply.

use super::plan::{Plan, Record, Step, Traffic};
use crate::bytes::Bytes;
use crate::evict::PolicyName;
use crate::server::{Clock, Config, Local, Server};
use crate::store::Entry;
use crate::value::Value;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use filecache::ycsb::key_of;

/// Records that are asked for by one command at most.
pub(super) const AT_ONCE: usize = 20;
/// How often keys whose time is over are removed, in milliseconds: as the server itself does.
const TICK_MS: u64 = 100;
/// Milliseconds since 1970 when the traffic begins.
const START_MS: u64 = 1_700_000_000_000;
/// The server's secrets: the same everywhere, so that all numbers are.
const SEED: [u64; 5] = [1, 2, 3, 4, 5];

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were carried out.
    pub commands: u64,
    /// Records that were wanted, and there.
    pub hits: u64,
    /// Records that were wanted, and had to be fetched.
    pub misses: u64,
    /// Bytes of values that were there.
    pub hit_bytes: u64,
    /// Bytes of values that had to be fetched.
    pub missed_bytes: u64,
    /// Records that were changed or added.
    pub writes: u64,
    /// Keys that left to make room.
    pub evicted: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Most bytes of keys and values there were.
    pub peak_bytes: u64,
    /// Nanoseconds that the server took, on the clock of the caller.
    pub server_ns: u64,
}

impl Counts {
    /// The result line of `results::KvLine`, a JSON object. Written here, since a serializer would take more
    /// of the image than all commands for lists.
    pub fn line(&self, traffic: Traffic, policy: PolicyName, memory: u64, data: u64) -> String {
        let mut line = format!(
            "{{\"bench\":\"kv\",\"traffic\":\"{}\",\"maxmemory_policy\":\"{policy}\"",
            traffic.name()
        );
        for (name, count) in [
            ("memory", memory),
            ("data", data),
            ("commands", self.commands),
            ("hits", self.hits),
            ("misses", self.misses),
            ("hit_bytes", self.hit_bytes),
            ("missed_bytes", self.missed_bytes),
            ("writes", self.writes),
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("peak_bytes", self.peak_bytes),
            ("server_ns", self.server_ns),
        ] {
            line += &format!(",\"{name}\":{count}");
        }
        line + "}"
    }
}

/// A reply was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficError(String);

impl fmt::Display for TrafficError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for TrafficError {}

/// The name of a record.
fn key(number: u64) -> String {
    format!("user{:016x}", key_of(number))
}

/// The value of a record: nothing that an earlier state or another record has.
fn value(record: Record, into: &mut Vec<u8>) {
    into.clear();
    into.extend(format!("{:x}.{:x}:", key_of(record.number), record.version).bytes());
    let filler = b'a' + (record.version.wrapping_add(record.number) % 26) as u8;
    into.resize(record.bytes, filler);
}

/// Bytes of memory for a record, as the store counts them.
pub(super) fn bytes_in_store(record: Record) -> u64 {
    let value = Value::String(Bytes::from(&alloc::vec![0; record.bytes][..]));
    Entry::bytes_of(&Bytes::from(key(0).as_bytes()), &value) as u64
}

/// Bytes of memory for all records there are before the first step.
pub fn data_bytes(traffic: Traffic) -> u64 {
    let plan = Plan::new(traffic, 1);
    (0..plan.records()).map(|number| bytes_in_store(plan.record(number))).sum()
}

/// An application that makes one in `part` of the requests, with a store that has `memory` bytes and gives up
/// keys by `policy`. `now_ns` is a clock for [`Counts::server_ns`].
///
/// # Errors
///
/// If a reply is not what it must be.
pub fn run(
    traffic: Traffic,
    part: u64,
    policy: PolicyName,
    memory: u64,
    now_ns: fn() -> u64,
) -> Result<Counts, TrafficError> {
    let config = Config { policy, maxmemory: memory, ..Config::default() };
    let mut server = Server::new(config, clock(0), SEED);
    let client = Local::new(&mut server).ok_or_else(|| TrafficError("no room for a client".into()))?;
    let mut application =
        Application { server, client, counts: Counts::default(), now_ns, value: Vec::new() };
    let mut plan = Plan::new(traffic, part);
    while let Some(step) = plan.next() {
        application.server.clock = clock(plan.now_ms());
        match step {
            Step::Read(numbers) => {
                for some in numbers.chunks(AT_ONCE) {
                    application.read(&plan, some)?;
                }
            }
            Step::Write(number) => {
                application.counts.writes += 1;
                application.put(&[plan.record(number)])?;
            }
        }
        if plan.now_ms().is_multiple_of(TICK_MS) {
            while application.server.expire() {}
        }
    }
    Ok(application.ended())
}

/// A clock that stands still.
fn clock(ms: u64) -> Clock {
    Clock::new(|| 0, START_MS + ms)
}

struct Application {
    server: Server,
    client: Local,
    counts: Counts,
    now_ns: fn() -> u64,
    /// A value, made in memory that is there already.
    value: Vec<u8>,
}

impl Application {
    /// Reads records, and puts those into the store that are not there.
    fn read(&mut self, plan: &Plan, numbers: &[u64]) -> Result<(), TrafficError> {
        let keys: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
        let verb: &[u8] = if keys.len() == 1 { b"GET" } else { b"MGET" };
        let words: Vec<&[u8]> = core::iter::once(verb).chain(keys.iter().map(|key| key.as_bytes())).collect();
        self.client.add(&words);
        let start_ns = (self.now_ns)();
        let mut reply = self.client.ask(&mut self.server);
        self.counts.server_ns += (self.now_ns)() - start_ns;
        if keys.len() > 1 {
            reply = after(reply, format!("*{}\r\n", keys.len()).as_bytes(), "an array")?;
        }
        let is_scan = keys.len() > 1;
        let mut missing = Vec::new();
        for number in numbers {
            let record = plan.record(*number);
            if let Some(rest) = reply.strip_prefix(b"$-1\r\n") {
                reply = rest;
                self.counts.misses += 1;
                self.counts.missed_bytes += record.bytes as u64;
                missing.push(record);
                continue;
            }
            value(record, &mut self.value);
            reply = after(reply, format!("${}\r\n", record.bytes).as_bytes(), "a value")?;
            reply = after(reply, &self.value, "the value as it is now")?;
            reply = after(reply, b"\r\n", "the end of a value")?;
            self.counts.hits += 1;
            self.counts.hit_bytes += record.bytes as u64;
        }
        if !reply.is_empty() {
            return Err(TrafficError("more replies than were asked for".into()));
        }
        if is_scan { self.put_all(&missing) } else { self.put(&missing) }
    }

    /// Puts records into the store.
    fn put(&mut self, records: &[Record]) -> Result<(), TrafficError> {
        for record in records {
            value(*record, &mut self.value);
            let key = key(record.number);
            let set: [&[u8]; 3] = [b"SET", key.as_bytes(), &self.value];
            match record.expires_ms {
                None => self.client.add(&set),
                Some(expires_ms) => {
                    let at = format!("{}", START_MS + expires_ms);
                    self.client.add(&[set[0], set[1], set[2], b"PXAT", at.as_bytes()]);
                }
            }
        }
        let start_ns = (self.now_ns)();
        let mut reply = self.client.ask(&mut self.server);
        self.counts.server_ns += (self.now_ns)() - start_ns;
        for _ in records {
            reply = after(reply, b"+OK\r\n", "OK")?;
        }
        Ok(())
    }

    /// Puts records into the store by one command, which is a part of a scan.
    fn put_all(&mut self, records: &[Record]) -> Result<(), TrafficError> {
        if records.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = records.iter().map(|record| key(record.number)).collect();
        let values: Vec<Vec<u8>> = records
            .iter()
            .map(|record| {
                let mut bytes = Vec::new();
                value(*record, &mut bytes);
                bytes
            })
            .collect();
        let pairs = keys.iter().zip(&values).flat_map(|(key, value)| [key.as_bytes(), value]);
        let words: Vec<&[u8]> = core::iter::once(&b"MSET"[..]).chain(pairs).collect();
        self.client.add(&words);
        let start_ns = (self.now_ns)();
        let reply = self.client.ask(&mut self.server);
        self.counts.server_ns += (self.now_ns)() - start_ns;
        after(reply, b"+OK\r\n", "OK").map(drop)
    }

    fn ended(self) -> Counts {
        let Application { server, counts, .. } = self;
        Counts {
            commands: server.counts.commands,
            evicted: server.counts.evicted,
            expired: server.store.statistics.expired,
            peak_bytes: server.peak_bytes() as u64,
            ..counts
        }
    }
}

/// What stands behind something that must be there.
fn after<'a>(reply: &'a [u8], wanted: &[u8], what: &str) -> Result<&'a [u8], TrafficError> {
    reply.strip_prefix(wanted).ok_or_else(|| {
        let start = String::from_utf8_lossy(&reply[..reply.len().min(60)]).into_owned();
        TrafficError(format!("the store replied {start:?}, where {what} is wanted"))
    })
}
