//! Streams: reading what is new, for oneself or as a consumer of a group, and waiting for it.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome, Wait};
use super::error::{Error, Result, shown};
use super::stream::{parse_id, reply_entry, stream_at, text};
use crate::bytes::Bytes;
use crate::number::{parse_i64, write_i64};
use crate::resp::{OwnedArguments, Protocol};
use crate::store::At;
use crate::value::{Id, Value};
use alloc::format;
use alloc::vec::Vec;

const X: Group = Group::Stream;
const WAITS: u32 = BLOCKING | MOVABLEKEYS;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("xread", -4, READONLY | WAITS, Keys::Streams, X, xread),
    Command::data("xreadgroup", -7, WRITE | WAITS, Keys::Streams, X, xread),
];

/// From where on a stream is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// What comes after an entry.
    After(Id),
    /// What the group has not given out yet.
    New,
}

#[derive(Default)]
struct Options<'a> {
    count: usize,
    block: Option<Option<u64>>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_acknowledgement: bool,
    /// The first key; as many ids follow the keys.
    first: usize,
    streams: usize,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>) -> Result<Self> {
        let grouped = call.command.name == "xreadgroup";
        let mut options = Self { count: usize::MAX, ..Self::default() };
        let mut index = 1;
        while let Some(word) = call.args.get(index) {
            let more = call.args.len() - 1 - index;
            match word.to_ascii_lowercase().as_slice() {
                b"block" if more >= 1 => {
                    index += 1;
                    let refusal = Error::Text("ERR timeout is not an integer or out of range");
                    let ms = parse_i64(call.arg(index)).ok_or(refusal)?;
                    let ms = u64::try_from(ms).map_err(|_| Error::Text("ERR timeout is negative"))?;
                    options.block = Some((ms > 0).then_some(ms));
                }
                b"count" if more >= 1 => {
                    index += 1;
                    let count = call.integer(index)?;
                    options.count =
                        usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX);
                }
                b"streams" if more >= 1 => {
                    options.first = index + 1;
                    if !more.is_multiple_of(2) {
                        return Err(Error::Text(
                            "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
                             specified.",
                        ));
                    }
                    options.streams = more / 2;
                    break;
                }
                b"group" if more >= 2 => {
                    if !grouped {
                        return Err(Error::Text(
                            "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                        ));
                    }
                    options.group = Some((call.arg(index + 1), call.arg(index + 2)));
                    index += 2;
                }
                b"noack" => {
                    if !grouped {
                        return Err(Error::Text(
                            "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                        ));
                    }
                    options.no_acknowledgement = true;
                }
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        if options.streams == 0 {
            return Err(Error::Syntax);
        }
        if grouped && options.group.is_none() {
            return Err(Error::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(options)
    }
}

/// Where a stream is, and from where on it is read.
fn source(call: &mut Call<'_>, options: &Options<'_>, number: usize) -> Result<(Option<At>, From)> {
    let (key, id) = (call.arg(options.first + number), call.arg(options.first + options.streams + number));
    let at = call.find_to_change(key);
    let at = call.of_type(at, Value::stream)?;
    if let Some((group, _)) = options.group {
        let there = match at {
            None => false,
            Some(at) => call.store.value(at).stream()?.groups.contains_key(&Bytes::from(group)),
        };
        if !there {
            return Err(Error::Composed(format!(
                "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                shown(key),
                shown(group)
            )));
        }
    }
    let from = match (id, options.group) {
        (b"$", Some(_)) => {
            return Err(Error::Text(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just \
                 return an empty result set.",
            ));
        }
        (b"$", None) => From::After(match at {
            None => Id::LEAST,
            Some(at) => call.store.value(at).stream()?.last,
        }),
        (b">", None) => {
            return Err(Error::Text(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                 option.",
            ));
        }
        (b">", Some(_)) => From::New,
        (id, _) => From::After(parse_id(id, 0)?),
    };
    Ok((at, from))
}

fn xread(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call)?;
    let mut sources = Vec::with_capacity(options.streams);
    for number in 0..options.streams {
        sources.push(source(call, &options, number)?);
    }
    let resp3 = call.reply.protocol() == Protocol::Resp3;
    let later = if resp3 { call.reply.map_later() } else { call.reply.array_later() };
    let start = call.reply.position();
    let mut count = 0;
    for (number, (at, from)) in sources.iter().enumerate() {
        let Some(at) = *at else { continue };
        let key = call.arg(options.first + number);
        let begin = |call: &mut Call<'_>| {
            if !resp3 {
                call.reply.array(2);
            }
            call.reply.bulk(key);
        };
        match (options.group, *from) {
            (None, from) => {
                let From::After(id) = from else { continue };
                let stream = call.store.value(at).stream()?;
                let Some(first) = id.next().filter(|_| stream.last > id) else { continue };
                if stream.range(first, Id::GREATEST).next().is_none() {
                    continue;
                }
                begin(call);
                entries(call, at, first, options.count)?;
            }
            (Some((group, consumer)), From::New) => {
                let group = Bytes::from(group);
                let stream = call.store.value(at).stream()?;
                let last = stream.groups.get(&group).map_or(Id::LEAST, |group| group.last);
                let first = last.next().filter(|first| stream.range(*first, Id::GREATEST).next().is_some());
                let Some(first) = first else { continue };
                heard(call, at, key, &group, consumer)?;
                begin(call);
                let ids = entries(call, at, first, options.count)?;
                deliver(call, at, (key, &group, consumer), &ids, options.no_acknowledgement)?;
            }
            (Some((group, consumer)), From::After(id)) => {
                let group = Bytes::from(group);
                heard(call, at, key, &group, consumer)?;
                begin(call);
                history(call, at, (&group, consumer), id, options.count)?;
            }
        }
        count += 1;
    }
    if count > 0 {
        call.reply.finish(later, count);
        return Ok(Outcome::Done);
    }
    call.reply.truncate(start);
    match options.block {
        Some(timeout_ms) if !call.session.never_waits => {
            Ok(Outcome::Wait(wait(call, &options, &sources, timeout_ms)))
        }
        _ => {
            call.reply.null_array();
            Ok(Outcome::Done)
        }
    }
}

/// The same command, with the ids that `$` stood for.
fn wait(
    call: &Call<'_>,
    options: &Options<'_>,
    sources: &[(Option<At>, From)],
    timeout_ms: Option<u64>,
) -> Wait {
    let mut again = OwnedArguments::default();
    let ids = options.first + options.streams;
    call.args.from(0).take(ids).for_each(|word| again.push(word));
    for (_, from) in sources {
        match from {
            From::New => again.push(b">"),
            From::After(id) => again.push(text(*id).as_bytes()),
        }
    }
    Wait { again, keys: options.first..ids, timeout_ms, null_array: true }
}

/// Replies with entries, and returns their ids.
fn entries(call: &mut Call<'_>, at: At, first: Id, most: usize) -> Result<Vec<Id>> {
    let stream = call.store.value(at).stream()?;
    let later = call.reply.array_later();
    let mut ids = Vec::new();
    for (id, fields) in stream.range(first, Id::GREATEST).take(most) {
        reply_entry(&mut call.reply, id, fields);
        ids.push(id);
    }
    call.reply.finish(later, ids.len());
    Ok(ids)
}

/// Notes that a consumer was heard of; it is made if it is not there.
pub fn heard(call: &mut Call<'_>, at: At, key: &[u8], group: &Bytes, consumer: &[u8]) -> Result<()> {
    let now_ms = call.now_ms;
    let groups = &mut call.store.value_mut(at).stream_mut()?.groups;
    let Some(members) = groups.get_mut(group) else { return Ok(()) };
    let name = Bytes::from(consumer);
    let made = !members.consumers.contains_key(&name);
    members.consumers.entry(name).or_default().seen_ms = now_ms;
    if made {
        call.changed(at);
        call.log_instead(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
    }
    Ok(())
}

/// Notes that entries were given to a consumer.
fn deliver(
    call: &mut Call<'_>,
    at: At,
    (key, group, consumer): (&[u8], &Bytes, &[u8]),
    ids: &[Id],
    no_acknowledgement: bool,
) -> Result<()> {
    let now_ms = call.now_ms;
    let stream = call.store.value_mut(at).stream_mut()?;
    for id in ids {
        let read = stream.read_after(group, *id);
        let Some(members) = stream.groups.get_mut(group) else { return Ok(()) };
        members.last = *id;
        members.read = read;
        if !no_acknowledgement {
            members.give(*id, &Bytes::from(consumer), now_ms, 1);
        }
    }
    let read = stream.groups.get(group).and_then(|group| group.read);
    call.changed(at);
    for id in ids.iter().filter(|_| !no_acknowledgement) {
        log_claim(call, (key, group, consumer), *id, now_ms, 1);
    }
    let last = ids.last().map_or_else(alloc::string::String::new, |id| text(*id));
    let mut number = Vec::new();
    write_i64(read.map_or(-1, |read| read as i64), &mut number);
    call.log_instead(&[b"XGROUP", b"SETID", key, group, last.as_bytes(), b"ENTRIESREAD", &number]);
    Ok(())
}

/// Logs that a consumer has an entry.
pub fn log_claim(
    call: &mut Call<'_>,
    (key, group, consumer): (&[u8], &Bytes, &[u8]),
    id: Id,
    delivered_ms: u64,
    deliveries: u64,
) {
    let (time, count) = (format!("{delivered_ms}"), format!("{deliveries}"));
    call.log_instead(&[
        b"XCLAIM",
        key,
        group,
        consumer,
        b"0",
        text(id).as_bytes(),
        b"TIME",
        time.as_bytes(),
        b"RETRYCOUNT",
        count.as_bytes(),
        b"FORCE",
        b"JUSTID",
    ]);
}

/// Replies with what a consumer has and has not acknowledged, after an entry; what was deleted is null.
fn history(
    call: &mut Call<'_>,
    at: At,
    (group, consumer): (&Bytes, &[u8]),
    after: Id,
    most: usize,
) -> Result<()> {
    let stream = call.store.value(at).stream()?;
    let consumers = stream.groups.get(group).map(|group| &group.consumers);
    let consumer = consumers.and_then(|consumers| consumers.get(&Bytes::from(consumer)));
    let pending = consumer.into_iter().flat_map(|consumer| consumer.pending.iter());
    let ids: Vec<Id> = pending.copied().filter(|id| *id > after).take(most).collect();
    call.reply.array(ids.len());
    for id in ids {
        match stream.get(id) {
            Some(fields) => reply_entry(&mut call.reply, id, fields),
            None => {
                call.reply.array(2);
                call.reply.bulk(text(id).as_bytes());
                call.reply.null_array();
            }
        }
    }
    Ok(())
}

/// The stream of a key, which must have a group.
pub fn group_at(call: &mut Call<'_>, key: &[u8], group: &Bytes) -> Result<Option<At>> {
    let Some(at) = stream_at(call, key)? else { return Ok(None) };
    Ok(call.store.value(at).stream()?.groups.contains_key(group).then_some(at))
}
