//! Streams: groups of consumers.

use super::call::flag::*;
use super::call::{Call, Command, Keys, Outcome};
use super::error::{Error, Result, shown};
use super::read::group_at;
use super::stream::{parse_id, parse_range, reply_entry, stream_at, text};
use crate::bytes::Bytes;
use crate::resp::Reply;
use crate::store::At;
use crate::value::{Consumer, Group, Id, Stream, Value};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const TWO: Keys = Keys::Places(2, 2, 1);
const X: super::call::Group = super::call::Group::Stream;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("xgroup", -2, WRITE | DENYOOM, TWO, X, xgroup),
    Command::data("xack", -4, WRITE | FAST, ONE, X, xack),
    Command::data("xpending", -3, READONLY, ONE, X, xpending),
    Command::data("xinfo", -2, READONLY, TWO, X, xinfo),
];

fn no_group(key: &[u8], group: &[u8]) -> Error {
    Error::Composed(format!(
        "NOGROUP No such consumer group '{}' for key name '{}'",
        shown(group),
        shown(key)
    ))
}

/// A group of a stream, to be changed.
pub fn group_mut<'c>(call: &'c mut Call<'_>, at: At, group: &Bytes) -> Result<&'c mut Group> {
    let groups = &mut call.store.value_mut(at).stream_mut()?.groups;
    groups.get_mut(group).ok_or(Error::NoSuchKey)
}

/// A group of a stream.
pub fn group<'c>(call: &'c Call<'_>, at: At, group: &Bytes) -> Result<&'c Group> {
    call.store.value(at).stream()?.groups.get(group).ok_or(Error::NoSuchKey)
}

/// What `XGROUP CREATE` and `SETID` have after the id.
fn group_options(call: &Call<'_>, create: bool) -> Result<(bool, Option<u64>)> {
    let (mut make, mut read) = (false, None);
    let mut index = 5;
    while let Some(word) = call.args.get(index) {
        if create && word.eq_ignore_ascii_case(b"mkstream") {
            make = true;
            index += 1;
        } else if word.eq_ignore_ascii_case(b"entriesread") && index + 1 < call.args.len() {
            let number = call.integer(index + 1)?;
            if number < -1 {
                return Err(Error::Text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            read = u64::try_from(number).ok();
            index += 2;
        } else {
            let sub = shown(call.arg(1));
            return Err(Error::Composed(format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try XGROUP HELP."
            )));
        }
    }
    Ok((make, read))
}

fn xgroup(call: &mut Call<'_>) -> Result<Outcome> {
    let sub = call.arg(1).to_ascii_lowercase();
    let arity = |name: &'static str, fits: bool| if fits { Ok(()) } else { Err(Error::Arguments(name)) };
    let count = call.args.len();
    match sub.as_slice() {
        b"create" => arity("xgroup|create", count >= 5)?,
        b"setid" => arity("xgroup|setid", count >= 5)?,
        b"destroy" => arity("xgroup|destroy", count == 4)?,
        b"createconsumer" => arity("xgroup|createconsumer", count == 5)?,
        b"delconsumer" => arity("xgroup|delconsumer", count == 5)?,
        _ => return Err(Error::UnknownSubcommand("xgroup", shown(call.arg(1)))),
    }
    let create = sub == b"create";
    let (make, read) = if create || sub == b"setid" { group_options(call, create)? } else { (false, None) };
    let (key, name) = (call.arg(2), Bytes::from(call.arg(3)));
    let at = stream_at(call, key)?;
    if at.is_none() && !make {
        return Err(Error::Text(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
             MKSTREAM option to create an empty stream automatically.",
        ));
    }
    if create {
        let id = if call.arg(4) == b"$" { None } else { Some(parse_id(call.arg(4), 0)?) };
        let at = at.unwrap_or_else(|| call.insert(key, Value::Stream(Box::default())));
        let stream = call.store.value_mut(at).stream_mut()?;
        if stream.groups.contains_key(&name) {
            return Err(Error::Text("BUSYGROUP Consumer Group name already exists"));
        }
        let last = id.unwrap_or(stream.last);
        stream.groups.insert(name, Group { last, read, ..Group::default() });
        call.changed(at);
        call.reply.ok();
        return Ok(Outcome::Done);
    }
    let Some(at) = at else { return Err(Error::NoSuchKey) };
    let there = call.store.value(at).stream()?.groups.contains_key(&name);
    if !there && sub != b"destroy" {
        return Err(no_group(key, &name));
    }
    change_group(call, at, &name, &sub, read)?;
    Ok(Outcome::Done)
}

fn change_group(call: &mut Call<'_>, at: At, name: &Bytes, sub: &[u8], read: Option<u64>) -> Result<()> {
    let now_ms = call.now_ms;
    match sub {
        b"setid" => {
            let last = match call.arg(4) {
                b"$" => call.store.value(at).stream()?.last,
                b"-" => Id::LEAST,
                b"+" => Id::GREATEST,
                id => parse_id(id, 0)?,
            };
            let group = group_mut(call, at, name)?;
            (group.last, group.read) = (last, read);
            call.changed(at);
            call.reply.ok();
        }
        b"destroy" => {
            let gone = call.store.value_mut(at).stream_mut()?.groups.remove(name).is_some();
            if gone {
                call.changed(at);
                // Whoever waits for entries of the group learns that there is none.
                call.ready(call.arg(2));
            }
            call.reply.integer(i64::from(gone));
        }
        b"createconsumer" => {
            let consumer = Bytes::from(call.arg(4));
            let consumers = &mut group_mut(call, at, name)?.consumers;
            let new = !consumers.contains_key(&consumer);
            if new {
                consumers.entry(consumer).or_default().seen_ms = now_ms;
                call.changed(at);
            }
            call.reply.integer(i64::from(new));
        }
        _ => {
            let consumer = Bytes::from(call.arg(4));
            let group = group_mut(call, at, name)?;
            let gone = group.consumers.remove(&consumer);
            let pending = gone.as_ref().map_or(0, |gone| gone.pending.len());
            for id in gone.iter().flat_map(|gone| &gone.pending) {
                group.pending.remove(id);
            }
            if gone.is_some() {
                call.changed(at);
            }
            call.reply.count(pending);
        }
    }
    Ok(())
}

fn xack(call: &mut Call<'_>) -> Result<Outcome> {
    let name = Bytes::from(call.arg(2));
    let Some(at) = group_at(call, call.arg(1), &name)? else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let ids: Vec<Id> = call.args.from(3).map(|id| parse_id(id, 0)).collect::<Result<_>>()?;
    let group = group_mut(call, at, &name)?;
    let count = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
    if count > 0 {
        call.changed(at);
    }
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn xpending(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, name) = (call.arg(1), Bytes::from(call.arg(2)));
    let extended = call.args.len() > 3;
    let (mut start, mut idle_ms) = (3, 0);
    if extended && call.arg(3).eq_ignore_ascii_case(b"idle") {
        if call.args.len() < 8 {
            return Err(Error::Syntax);
        }
        idle_ms = call.integer(4)?;
        start = 5;
    }
    if extended && !(start + 3..=start + 4).contains(&call.args.len()) {
        return Err(Error::Syntax);
    }
    let range = if extended {
        let count = usize::try_from(call.integer(start + 2)?).unwrap_or(0);
        let (from, to) = parse_range(call.arg(start), call.arg(start + 1))?;
        Some((from, to, count))
    } else {
        None
    };
    let at = group_at(call, key, &name)?.ok_or_else(|| {
        Error::Composed(format!("NOGROUP No such key '{}' or consumer group '{}'", shown(key), shown(&name)))
    })?;
    match range {
        None => pending_summary(call, at, &name)?,
        Some((from, to, count)) => {
            let consumer = call.args.get(start + 3).map(Bytes::from);
            let now_ms = call.now_ms;
            let idle = |delivered_ms: u64| now_ms.saturating_sub(delivered_ms) as i64;
            let pending = &group(call, at, &name)?.pending;
            // A range that ends before it begins is empty.
            let range = (from <= to).then(|| pending.range(from..=to)).into_iter().flatten();
            let found: Vec<(Id, Bytes, i64, u64)> = range
                .filter(|(_, entry)| consumer.as_ref().is_none_or(|consumer| entry.consumer == *consumer))
                .filter(|(_, entry)| idle(entry.delivered_ms) >= idle_ms)
                .take(count)
                .map(|(id, entry)| (*id, entry.consumer.clone(), idle(entry.delivered_ms), entry.deliveries))
                .collect();
            call.reply.array(found.len());
            for (id, consumer, idle_ms, deliveries) in found {
                call.reply.array(4);
                call.reply.bulk(text(id).as_bytes());
                call.reply.bulk(&consumer);
                call.reply.integer(idle_ms);
                call.reply.integer(deliveries as i64);
            }
        }
    }
    Ok(Outcome::Done)
}

fn pending_summary(call: &mut Call<'_>, at: At, name: &Bytes) -> Result<()> {
    let group = call.store.value(at).stream()?.groups.get(name).ok_or(Error::NoSuchKey)?;
    call.reply.array(4);
    call.reply.count(group.pending.len());
    let (Some((first, _)), Some((last, _))) =
        (group.pending.first_key_value(), group.pending.last_key_value())
    else {
        call.reply.null();
        call.reply.null();
        call.reply.null_array();
        return Ok(());
    };
    call.reply.bulk(text(*first).as_bytes());
    call.reply.bulk(text(*last).as_bytes());
    let busy = group.consumers.iter().filter(|(_, consumer)| !consumer.pending.is_empty());
    call.reply.array(busy.clone().count());
    for (name, consumer) in busy {
        call.reply.array(2);
        call.reply.bulk(name);
        call.reply.bulk_integer(consumer.pending.len() as i64);
    }
    Ok(())
}

fn xinfo(call: &mut Call<'_>) -> Result<Outcome> {
    let sub = call.arg(1).to_ascii_lowercase();
    let count = call.args.len();
    match sub.as_slice() {
        b"stream" if count >= 3 => {}
        b"stream" => return Err(Error::Arguments("xinfo|stream")),
        b"groups" if count == 3 => {}
        b"groups" => return Err(Error::Arguments("xinfo|groups")),
        b"consumers" if count == 4 => {}
        b"consumers" => return Err(Error::Arguments("xinfo|consumers")),
        _ => return Err(Error::UnknownSubcommand("xinfo", shown(call.arg(1)))),
    }
    let key = call.arg(2);
    let at = call.find(key).ok_or(Error::NoSuchKey)?;
    call.store.value(at).stream()?;
    match sub.as_slice() {
        b"stream" if count == 3 => about_stream(call, at)?,
        b"stream" => all_about_stream(call, at)?,
        b"groups" => about_groups(call, at)?,
        _ => about_consumers(call, at)?,
    }
    Ok(Outcome::Done)
}

/// What `XINFO STREAM` says first, in whichever form.
fn begin_about(reply: &mut Reply<'_>, stream: &Stream) {
    let portions = stream.len().div_ceil(100);
    for (name, value) in
        [("length", stream.len()), ("radix-tree-keys", portions), ("radix-tree-nodes", portions + 1)]
    {
        reply.bulk(name.as_bytes());
        reply.count(value);
    }
    let first = stream.first().map_or(Id::LEAST, |(id, _)| id);
    reply.bulk(b"last-generated-id");
    reply.bulk(text(stream.last).as_bytes());
    reply.bulk(b"max-deleted-entry-id");
    reply.bulk(text(stream.greatest_deleted).as_bytes());
    reply.bulk(b"entries-added");
    reply.integer(stream.added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply.bulk(text(first).as_bytes());
}

fn about_stream(call: &mut Call<'_>, at: At) -> Result<()> {
    let stream = call.store.value(at).stream()?;
    let reply = &mut call.reply;
    reply.map(10);
    begin_about(reply, stream);
    reply.bulk(b"groups");
    reply.count(stream.groups.len());
    for (name, entry) in [("first-entry", stream.first()), ("last-entry", stream.final_entry())] {
        reply.bulk(name.as_bytes());
        match entry {
            Some((id, fields)) => reply_entry(reply, id, fields),
            None => reply.null(),
        }
    }
    Ok(())
}

/// `XINFO STREAM FULL`: ten of everything, or as many as are asked for; all, if 0 are.
fn all_about_stream(call: &mut Call<'_>, at: At) -> Result<()> {
    let word = |index: usize, word: &[u8]| call.arg(index).eq_ignore_ascii_case(word);
    let most = match call.args.len() {
        4 if word(3, b"full") => 10,
        6 if word(3, b"full") && word(4, b"count") => call.integer(5)?,
        _ => {
            let sub = shown(call.arg(1));
            return Err(Error::Composed(format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try XINFO HELP."
            )));
        }
    };
    let most = match most {
        0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(10),
    };
    let stream = call.store.value(at).stream()?;
    let reply = &mut call.reply;
    reply.map(9);
    begin_about(reply, stream);
    reply.bulk(b"entries");
    reply.array(stream.len().min(most));
    for (id, fields) in stream.range(Id::LEAST, Id::GREATEST).take(most) {
        reply_entry(reply, id, fields);
    }
    reply.bulk(b"groups");
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"last-delivered-id");
        reply.bulk(text(group.last).as_bytes());
        reply_reads(reply, stream, group);
        reply.bulk(b"pel-count");
        reply.count(group.pending.len());
        reply.bulk(b"pending");
        reply.array(group.pending.len().min(most));
        for (id, pending) in group.pending.iter().take(most) {
            reply.array(4);
            reply.bulk(text(*id).as_bytes());
            reply.bulk(&pending.consumer);
            reply.integer(pending.delivered_ms as i64);
            reply.integer(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers.len());
        group
            .consumers
            .iter()
            .for_each(|(name, consumer)| reply_consumer(reply, group, name, consumer, most));
    }
    Ok(())
}

/// A consumer with what it has not acknowledged.
fn reply_consumer(reply: &mut Reply<'_>, group: &Group, name: &Bytes, consumer: &Consumer, most: usize) {
    reply.map(4);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms as i64);
    reply.bulk(b"pel-count");
    reply.count(consumer.pending.len());
    reply.bulk(b"pending");
    reply.array(consumer.pending.len().min(most));
    for id in consumer.pending.iter().take(most) {
        let pending = group.pending.get(id);
        reply.array(3);
        reply.bulk(text(*id).as_bytes());
        reply.integer(pending.map_or(0, |pending| pending.delivered_ms) as i64);
        reply.integer(pending.map_or(0, |pending| pending.deliveries) as i64);
    }
}

/// How many entries a group has read, and how many it has not.
fn reply_reads(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    for (name, number) in [("entries-read", group.read.map(|read| read as i64)), ("lag", stream.lag(group))] {
        reply.bulk(name.as_bytes());
        match number {
            Some(number) => reply.integer(number),
            None => reply.null(),
        }
    }
}

fn about_groups(call: &mut Call<'_>, at: At) -> Result<()> {
    let stream = call.store.value(at).stream()?;
    let reply = &mut call.reply;
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.count(group.consumers.len());
        reply.bulk(b"pending");
        reply.count(group.pending.len());
        reply.bulk(b"last-delivered-id");
        reply.bulk(text(group.last).as_bytes());
        reply_reads(reply, stream, group);
    }
    Ok(())
}

fn about_consumers(call: &mut Call<'_>, at: At) -> Result<()> {
    let (key, name) = (call.args.at(2), call.args.at(3));
    let group = call.store.value(at).stream()?.groups.get(&Bytes::from(name));
    let group = group.ok_or_else(|| no_group(key, name))?;
    let reply = &mut call.reply;
    reply.array(group.consumers.len());
    for (name, consumer) in &group.consumers {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"pending");
        reply.count(consumer.pending.len());
        reply.bulk(b"idle");
        reply.integer(call.now_ms.saturating_sub(consumer.seen_ms) as i64);
    }
    Ok(())
}
