//! Keys as the commands that make them.

use crate::bytes::Bytes;
use crate::number::{format_f64, write_i64};
use crate::resp::write_command;
use crate::store::{At, Store};
use crate::value::{Id, Stream, Value};
use alloc::format;
use alloc::vec::Vec;

/// Elements that one command adds, as in Redis.
const AT_ONCE: usize = 64;

/// Appends the commands that make a key anew which is not there.
pub fn dump(store: &Store, at: At, out: &mut Vec<u8>) {
    let key = store.key(at);
    match store.value(at) {
        Value::String(text) => write_command(out, [&b"SET"[..], key, text].into_iter()),
        Value::List(list) => in_pieces(b"RPUSH", key, list.iter().map(|element| &element[..]), 1, out),
        Value::Set(set) => {
            let members = set.members();
            in_pieces(b"SADD", key, members.iter().map(|member| &member[..]), 1, out);
        }
        Value::Hash(hash) => {
            let mut pairs = Vec::new();
            hash.collect_into(&mut pairs);
            in_pieces(b"HSET", key, pairs.iter().flat_map(|(field, value)| [&field[..], &value[..]]), 2, out);
        }
        Value::SortedSet(sorted) => {
            let mut members = Vec::new();
            sorted.visit(0..sorted.len(), false, |member, score| {
                members.extend([format_f64(score).into_bytes(), member.to_vec()]);
            });
            in_pieces(b"ZADD", key, members.iter().map(|part| &part[..]), 2, out);
        }
        Value::Stream(stream) => dump_stream(key, stream, out),
    }
    if let Some(expires_ms) = store.expires_ms(at) {
        write_command(out, [&b"PEXPIREAT"[..], key, &number(expires_ms)].into_iter());
    }
}

/// Commands of some elements each, which consist of so many arguments.
fn in_pieces<'v>(
    name: &'v [u8],
    key: &'v [u8],
    arguments: impl Iterator<Item = &'v [u8]>,
    each: usize,
    out: &mut Vec<u8>,
) {
    let mut piece: Vec<&[u8]> = Vec::new();
    let mut arguments = arguments.peekable();
    while arguments.peek().is_some() {
        piece.clear();
        piece.extend([name, key]);
        piece.extend(arguments.by_ref().take(AT_ONCE * each));
        write_command(out, piece.iter().copied());
    }
}

fn number(value: u64) -> Vec<u8> {
    let mut text = Vec::new();
    write_i64(i64::try_from(value).unwrap_or(i64::MAX), &mut text);
    text
}

fn shown(id: Id) -> Vec<u8> {
    format!("{}-{}", id.ms, id.sequence).into_bytes()
}

fn dump_stream(key: &Bytes, stream: &Stream, out: &mut Vec<u8>) {
    if stream.len() == 0 {
        // An empty one is made by an entry that goes at once.
        let id = shown(stream.last.max(Id { ms: 0, sequence: 1 }));
        write_command(out, [&b"XADD"[..], key, b"MAXLEN", b"0", &id, b"x", b"y"].into_iter());
    }
    for (id, fields) in stream.range(Id::LEAST, Id::GREATEST) {
        let id = shown(id);
        let mut command: Vec<&[u8]> = Vec::from([&b"XADD"[..], key, &id]);
        command.extend(fields.iter().map(|field| &field[..]));
        write_command(out, command.into_iter());
    }
    let (last, added, deleted) = (shown(stream.last), number(stream.added), shown(stream.greatest_deleted));
    let set: [&[u8]; 7] = [b"XSETID", key, &last, b"ENTRIESADDED", &added, b"MAXDELETEDID", &deleted];
    write_command(out, set.into_iter());
    for (name, group) in &stream.groups {
        let last = shown(group.last);
        let read = group.read.map_or_else(|| b"-1".to_vec(), number);
        let create: [&[u8]; 7] = [b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", &read];
        write_command(out, create.into_iter());
        for consumer in group.consumers.keys() {
            write_command(out, [&b"XGROUP"[..], b"CREATECONSUMER", key, name, consumer].into_iter());
        }
        for (id, pending) in &group.pending {
            let (id, time, count) = (shown(*id), number(pending.delivered_ms), number(pending.deliveries));
            let claim: [&[u8]; 12] = [
                b"XCLAIM",
                key,
                name,
                &pending.consumer,
                b"0",
                &id,
                b"TIME",
                &time,
                b"RETRYCOUNT",
                &count,
                b"JUSTID",
                b"FORCE",
            ];
            write_command(out, claim.into_iter());
        }
    }
}
