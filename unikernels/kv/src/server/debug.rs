//! `DEBUG`, `MEMORY`, `LATENCY`, `SLOWLOG`.

use super::state::Server;
use crate::number::{parse_f64, parse_i64};
use crate::resp::Arguments;
use alloc::format;
use core::time::Duration;

impl Server {
    /// `DEBUG`.
    pub(super) fn debug(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"sleep", 3) => {
                let seconds =
                    parse_f64(args.at(2)).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let Some(duration) = seconds else {
                    return self.refuse(place, "ERR value is not a valid float");
                };
                // As in Redis nobody is served meanwhile.
                let end_ns = self.clock.now_ns().saturating_add(duration.as_nanos() as u64);
                while self.clock.now_ns() < end_ns {
                    core::hint::spin_loop();
                }
                self.reply(place).ok();
            }
            (b"object", 3) => self.debug_object(place, args.at(2)),
            (
                b"set-active-expire" | b"quicklist-packed-threshold" | b"listpack" | b"stringmatch-len",
                3..,
            ) => {
                self.refuse(place, "ERR this is not done by this server");
            }
            (
                b"jmap" | b"reload" | b"loadaof" | b"segfault" | b"panic" | b"restart" | b"crash-and-recover",
                _,
            ) => {
                self.refuse(
                    place,
                    "ERR this is not done by this server: it would end the machine, or do nothing",
                );
            }
            (b"help", 2) => {
                let lines =
                    ["DEBUG <subcommand> [<arg> ...]. Subcommands are:", "OBJECT <key>", "SLEEP <seconds>"];
                self.help(place, &lines);
            }
            _ => self.unknown_subcommand(place, "DEBUG", args),
        }
    }

    fn debug_object(&mut self, place: usize, key: &[u8]) {
        let database = self.clients.at(place).session.database;
        let at = self.store.find(database, key).filter(|at| !self.store.is_over(*at, self.now_ms));
        let Some(at) = at else { return self.refuse(place, "ERR no such key") };
        let entry = self.store.entry(at);
        let text = format!(
            "Value at:0x{:x} refcount:1 encoding:{} serializedlength:{} lru:0 lru_seconds_idle:0",
            at.slot,
            entry.value.encoding(),
            entry.bytes
        );
        self.reply(place).simple(&text);
    }

    /// `MEMORY`.
    pub(super) fn memory(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"usage", 3 | 5) => {
                let database = self.clients.at(place).session.database;
                let at =
                    self.store.find(database, args.at(2)).filter(|at| !self.store.is_over(*at, self.now_ms));
                let bytes = at.map(|at| self.store.entry(at).bytes);
                match bytes {
                    Some(bytes) => self.reply(place).count(bytes),
                    None => self.reply(place).null(),
                }
            }
            (b"doctor", 2) => {
                let text = "Sam, I detected no issues in this instance: keys and values are counted byte by byte, and \
                            the heap is this server's alone.";
                self.reply(place).verbatim(text.as_bytes());
            }
            (b"stats", 2) => self.memory_stats(place),
            (b"malloc-stats", 2) => self.reply(place).verbatim(b"talc keeps no statistics"),
            (b"purge", 2) => self.reply(place).ok(),
            (b"help", 2) => {
                let lines = [
                    "MEMORY <subcommand> [<arg> ...]. Subcommands are:",
                    "DOCTOR",
                    "MALLOC-STATS",
                    "PURGE",
                    "STATS",
                    "USAGE <key> [SAMPLES <count>]",
                ];
                self.help(place, &lines);
            }
            _ => self.unknown_subcommand(place, "MEMORY", args),
        }
    }

    fn memory_stats(&mut self, place: usize) {
        let used = self.store.used_bytes();
        self.peak_bytes = self.peak_bytes.max(used);
        let keys: usize = (0..crate::store::DATABASES as u8).map(|database| self.store.len(database)).sum();
        let clients =
            self.clients.iter().map(|client| client.out.capacity() + client.input_bytes).sum::<usize>();
        let log = self.log.as_ref().map_or(0, |log| (log.position() - log.durable()) as usize);
        let numbers = [
            ("peak.allocated", self.peak_bytes),
            ("total.allocated", used + clients + log),
            ("clients.normal", clients),
            ("aof.buffer", log),
            ("keys.count", keys),
            ("keys.bytes-per-key", used.checked_div(keys).unwrap_or(0)),
            ("dataset.bytes", used),
        ];
        let mut reply = self.reply(place);
        reply.map(numbers.len());
        for (key, value) in numbers {
            reply.bulk(key.as_bytes());
            reply.count(value);
        }
    }

    /// `LATENCY`: nothing is watched but slow commands, which `SLOWLOG` has.
    pub(super) fn latency(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"latest", 2) | (b"history", 3) => self.reply(place).array(0),
            (b"reset", _) => self.reply(place).integer(0),
            (b"doctor", 2) => {
                self.reply(place).verbatim(b"Nothing is watched but slow commands: SLOWLOG GET shows them.");
            }
            (b"help", 2) => {
                let lines = [
                    "LATENCY <subcommand>. Subcommands are:",
                    "DOCTOR",
                    "HISTORY <event>",
                    "LATEST",
                    "RESET",
                ];
                self.help(place, &lines);
            }
            _ => self.unknown_subcommand(place, "LATENCY", args),
        }
    }

    /// `SLOWLOG`.
    pub(super) fn slowlog_command(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"get", 2 | 3) => {
                let count = match args.get(2).map(parse_i64) {
                    None => 10,
                    Some(Some(-1)) => usize::MAX,
                    Some(Some(count @ 0..)) => count as usize,
                    Some(_) => return self.refuse(place, "ERR count should be greater than or equal to -1"),
                };
                let client = self.clients.at(place);
                let protocol = client.session.protocol;
                self.slowlog.reply(count, &mut crate::resp::Reply::new(&mut client.out, protocol));
            }
            (b"len", 2) => {
                let count = self.slowlog.len();
                self.reply(place).count(count);
            }
            (b"reset", 2) => {
                self.slowlog.reset();
                self.reply(place).ok();
            }
            (b"help", 2) => {
                let lines = ["SLOWLOG <subcommand>. Subcommands are:", "GET [<count>]", "LEN", "RESET"];
                self.help(place, &lines);
            }
            _ => self.unknown_subcommand(place, "SLOWLOG", args),
        }
    }
}
