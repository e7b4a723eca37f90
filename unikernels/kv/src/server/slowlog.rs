//! Commands that took long.

use crate::resp::{Arguments, Reply};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Arguments that are kept of a command, and bytes of each, as in Redis.
const ARGUMENTS: usize = 32;
const BYTES: usize = 128;

struct Entry {
    id: u64,
    unix_s: u64,
    micros: u64,
    arguments: Vec<Vec<u8>>,
    remote: String,
    name: Vec<u8>,
}

/// The last commands that took long.
#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<Entry>,
    next: u64,
}

impl SlowLog {
    /// Notes a command.
    pub fn note(
        &mut self,
        args: Arguments<'_>,
        micros: u64,
        unix_s: u64,
        remote: &str,
        name: &[u8],
        most: usize,
    ) {
        let shown = if args.len() > ARGUMENTS { ARGUMENTS - 1 } else { args.len() };
        let mut arguments: Vec<Vec<u8>> = args.from(0).take(shown).map(short).collect();
        if shown < args.len() {
            arguments.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
        }
        let (remote, name) = (remote.into(), name.into());
        self.entries.push_front(Entry { id: self.next, unix_s, micros, arguments, remote, name });
        self.next += 1;
        self.entries.truncate(most);
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.entries.clear();
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last `count` as the reply to `SLOWLOG GET`.
    pub fn reply(&self, count: usize, reply: &mut Reply<'_>) {
        reply.array(count.min(self.entries.len()));
        for entry in self.entries.iter().take(count) {
            reply.array(6);
            reply.integer(entry.id as i64);
            reply.integer(entry.unix_s as i64);
            reply.integer(entry.micros as i64);
            reply.array(entry.arguments.len());
            entry.arguments.iter().for_each(|argument| reply.bulk(argument));
            reply.bulk(entry.remote.as_bytes());
            reply.bulk(&entry.name);
        }
    }
}

fn short(argument: &[u8]) -> Vec<u8> {
    if argument.len() <= BYTES {
        return argument.into();
    }
    let mut text = argument[..BYTES].to_vec();
    text.extend_from_slice(format!("... ({} more bytes)", argument.len() - BYTES).as_bytes());
    text
}
