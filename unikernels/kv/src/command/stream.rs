//! Streams: entries, without groups.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::{parse_u64, write_i64};
use crate::resp::Reply;
use crate::store::At;
use crate::value::{Id, Stream, Value};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const X: Group = Group::Stream;
/// Entries that Redis keeps together. About (`~`) as many as wanted may stay, in whole portions.
const PORTION: usize = 100;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("xadd", -5, WRITE | DENYOOM | FAST, ONE, X, xadd),
    Command::data("xlen", 2, READONLY | FAST, ONE, X, xlen),
    Command::data("xrange", -4, READONLY, ONE, X, |call| xrange(call, false)),
    Command::data("xrevrange", -4, READONLY, ONE, X, |call| xrange(call, true)),
    Command::data("xdel", -3, WRITE | FAST, ONE, X, xdel),
    Command::data("xtrim", -4, WRITE, ONE, X, xtrim),
    Command::data("xsetid", -3, WRITE | DENYOOM | FAST, ONE, X, xsetid),
];

/// The refusal of what is no id.
pub const INVALID_ID: Error = Error::Text("ERR Invalid stream ID specified as stream command argument");

/// An id, as `1-2` or `1`, which has `sequence` for the rest.
pub fn parse_id(text: &[u8], sequence: u64) -> Result<Id> {
    let (ms, sequence) = match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => (parse_u64(&text[..dash]), parse_u64(&text[dash + 1..])),
        None => (parse_u64(text), Some(sequence)),
    };
    match (ms, sequence) {
        (Some(ms), Some(sequence)) => Ok(Id { ms, sequence }),
        _ => Err(INVALID_ID),
    }
}

/// The ends of a range: `-`, `+`, ids, and ids that are outside themselves, as `(1-2`.
pub fn parse_range(start: &[u8], end: &[u8]) -> Result<(Id, Id)> {
    let from = match start {
        b"-" => Id::LEAST,
        b"+" => Id::GREATEST,
        [b'(', rest @ ..] => {
            let refusal = Error::Text("ERR invalid start ID for the interval");
            parse_id(rest, 0)?.next().ok_or(refusal)?
        }
        id => parse_id(id, 0)?,
    };
    let to = match end {
        b"-" => Id::LEAST,
        b"+" => Id::GREATEST,
        [b'(', rest @ ..] => {
            let refusal = Error::Text("ERR invalid end ID for the interval");
            parse_id(rest, u64::MAX)?.before().ok_or(refusal)?
        }
        id => parse_id(id, u64::MAX)?,
    };
    Ok((from, to))
}

/// An id as it is written.
pub fn text(id: Id) -> String {
    format!("{}-{}", id.ms, id.sequence)
}

/// Replies with an entry: its id, and its fields and values.
pub fn reply_entry(reply: &mut Reply<'_>, id: Id, fields: &[Bytes]) {
    reply.array(2);
    reply.bulk(text(id).as_bytes());
    reply.array(fields.len());
    fields.iter().for_each(|field| reply.bulk(field));
}

/// Down to what a stream is trimmed.
#[derive(Clone, Copy)]
enum Down {
    /// So many entries.
    Length(usize),
    /// Entries from this one on.
    From(Id),
}

#[derive(Clone, Copy)]
struct Trim {
    down: Down,
    /// More may stay.
    about: bool,
    /// How many entries go at most.
    most: usize,
}

impl Trim {
    /// Trims a stream: how many entries were removed.
    fn apply(&self, stream: &mut Stream) -> usize {
        let excess = match self.down {
            Down::Length(length) => stream.len().saturating_sub(length),
            Down::From(id) => match id.before() {
                Some(before) => stream.range(Id::LEAST, before).count(),
                None => 0,
            },
        };
        let excess = if self.about { excess.min(self.most) / PORTION * PORTION } else { excess };
        (0..excess).for_each(|_| stream.drop_first());
        excess
    }
}

/// What comes before the id of `XADD`, or is all of `XTRIM`.
struct Options {
    /// Whether the stream must be there.
    no_new: bool,
    trim: Option<Trim>,
    /// The argument after them.
    next: usize,
}

fn options(call: &Call<'_>, add: bool) -> Result<Options> {
    let mut options = Options { no_new: false, trim: None, next: 2 };
    let mut limit = None;
    while let Some(word) = call.args.get(options.next) {
        let more = call.args.len() - 1 - options.next;
        match word.to_ascii_lowercase().as_slice() {
            b"nomkstream" if add => options.no_new = true,
            name @ (b"maxlen" | b"minid") if more > 0 => {
                if options.trim.is_some() {
                    return Err(Error::Text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let mut index = options.next + 1;
                let about = call.arg(index) == b"~";
                if more > 1 && (about || call.arg(index) == b"=") {
                    index += 1;
                }
                let down = if name == b"maxlen" {
                    let length = usize::try_from(call.integer(index)?);
                    Down::Length(length.map_err(|_| Error::Text("ERR The MAXLEN argument must be >= 0."))?)
                } else {
                    Down::From(parse_id(call.arg(index), 0)?)
                };
                options.trim = Some(Trim { down, about, most: usize::MAX });
                options.next = index;
            }
            b"limit" if more > 0 => {
                options.next += 1;
                let most = usize::try_from(call.integer(options.next)?);
                limit = Some(most.map_err(|_| Error::Text("ERR The LIMIT argument must be >= 0."))?);
            }
            _ if add => break,
            _ => return Err(Error::Syntax),
        }
        options.next += 1;
    }
    match (&mut options.trim, limit) {
        (Some(trim), limit) if trim.about => {
            let most = limit.unwrap_or(100 * PORTION);
            trim.most = if most == 0 { usize::MAX } else { most };
        }
        (_, None) => {}
        (None, Some(_)) if !add => return Err(Error::Syntax),
        (_, Some(_)) => {
            return Err(Error::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
        }
    }
    if !add && options.trim.is_none() {
        return Err(Error::Text("ERR syntax error, XTRIM must be called with either MAXLEN or MINID"));
    }
    Ok(options)
}

/// How the id of a new entry was said.
enum NewId {
    /// By the clock.
    Any,
    /// The milliseconds, and any number.
    Ms(u64),
    Exact(Id),
}

fn new_id(call: &Call<'_>, given: &NewId, last: Id) -> Result<Id> {
    let small =
        Error::Text("ERR The ID specified in XADD is equal or smaller than the target stream top item");
    let id = match given {
        NewId::Exact(id) => *id,
        NewId::Any if call.now_ms > last.ms => Id { ms: call.now_ms, sequence: 0 },
        NewId::Any => last.next().ok_or(small.clone())?,
        NewId::Ms(ms) if *ms == last.ms => {
            Id { ms: *ms, sequence: last.sequence.checked_add(1).ok_or(small.clone())? }
        }
        NewId::Ms(ms) => Id { ms: *ms, sequence: 0 },
    };
    if id <= last { Err(small) } else { Ok(id) }
}

/// The stream of a key, if there is one.
pub fn stream_at(call: &mut Call<'_>, key: &[u8]) -> Result<Option<At>> {
    let at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).stream()?;
    }
    Ok(at)
}

fn xadd(call: &mut Call<'_>) -> Result<Outcome> {
    let options = options(call, true)?;
    let fields = options.next + 1;
    let count = call.args.len().saturating_sub(fields);
    if count == 0 || !count.is_multiple_of(2) {
        return Err(Error::Arguments("xadd"));
    }
    let given = match call.arg(options.next) {
        b"*" => NewId::Any,
        [ms @ .., b'-', b'*'] => NewId::Ms(parse_u64(ms).ok_or(INVALID_ID)?),
        id => NewId::Exact(parse_id(id, 0)?),
    };
    if matches!(given, NewId::Exact(Id::LEAST)) {
        return Err(Error::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = call.arg(1);
    let at = stream_at(call, key)?;
    if at.is_none() && options.no_new {
        call.reply.null();
        return Ok(Outcome::Done);
    }
    let last = at.map_or(Ok(Id::LEAST), |at| call.store.value(at).stream().map(|stream| stream.last))?;
    let id = match (&given, last) {
        (_, Id::GREATEST) => {
            return Err(Error::Text(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        // The first number of a stream's first millisecond is 1: no entry is 0-0.
        (NewId::Ms(0), Id::LEAST) => Id { ms: 0, sequence: 1 },
        _ => new_id(call, &given, last)?,
    };
    let at = at.unwrap_or_else(|| call.insert(key, Value::Stream(Box::default())));
    let stream = call.store.value_mut(at).stream_mut()?;
    stream.add(id, call.args.from(fields).map(Bytes::from).collect());
    let trimmed = options.trim.map_or(0, |trim| trim.apply(stream));
    let length = stream.len();
    call.changed(at);
    call.ready(key);
    let id = text(id);
    call.reply.bulk(id.as_bytes());
    let mut log: Vec<&[u8]> = Vec::from([&b"XADD"[..], key, id.as_bytes()]);
    log.extend(call.args.from(fields));
    call.log_instead(&log);
    if trimmed > 0 {
        log_trim(call, key, length);
    }
    Ok(Outcome::Done)
}

fn log_trim(call: &mut Call<'_>, key: &[u8], length: usize) {
    let mut number = Vec::new();
    write_i64(length as i64, &mut number);
    call.log_instead(&[b"XTRIM", key, b"MAXLEN", b"=", &number]);
}

fn xtrim(call: &mut Call<'_>) -> Result<Outcome> {
    let options = options(call, false)?;
    let key = call.arg(1);
    let Some(at) = stream_at(call, key)? else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let stream = call.store.value_mut(at).stream_mut()?;
    let trimmed = options.trim.map_or(0, |trim| trim.apply(stream));
    let length = stream.len();
    if trimmed > 0 {
        call.changed(at);
        log_trim(call, key, length);
    }
    call.reply.count(trimmed);
    Ok(Outcome::Done)
}

fn xlen(call: &mut Call<'_>) -> Result<Outcome> {
    let length = match call.find(call.arg(1)) {
        None => 0,
        Some(at) => call.store.value(at).stream()?.len(),
    };
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn xrange(call: &mut Call<'_>, back: bool) -> Result<Outcome> {
    let (start, end) = if back { (3, 2) } else { (2, 3) };
    let (from, to) = parse_range(call.arg(start), call.arg(end))?;
    let mut most = usize::MAX;
    let mut index = 4;
    while let Some(word) = call.args.get(index) {
        if !word.eq_ignore_ascii_case(b"count") || index + 1 >= call.args.len() {
            return Err(Error::Syntax);
        }
        most = usize::try_from(call.integer(index + 1)?).unwrap_or(0);
        index += 2;
    }
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.array(0);
        return Ok(Outcome::Done);
    };
    let stream = call.store.value(at).stream()?;
    if most == 0 {
        call.reply.null_array();
        return Ok(Outcome::Done);
    }
    let later = call.reply.array_later();
    let mut count = 0;
    let mut entry = |(id, fields): (Id, &[Bytes])| {
        reply_entry(&mut call.reply, id, fields);
        count += 1;
    };
    let range = stream.range(from, to);
    if back {
        range.rev().take(most).for_each(&mut entry)
    } else {
        range.take(most).for_each(&mut entry)
    }
    call.reply.finish(later, count);
    Ok(Outcome::Done)
}

fn xdel(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = stream_at(call, call.arg(1))? else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let ids: Vec<Id> = call.args.from(2).map(|id| parse_id(id, 0)).collect::<Result<_>>()?;
    let stream = call.store.value_mut(at).stream_mut()?;
    let deleted = ids.into_iter().filter(|id| stream.delete(*id)).count();
    if deleted > 0 {
        call.changed(at);
    }
    call.reply.count(deleted);
    Ok(Outcome::Done)
}

fn xsetid(call: &mut Call<'_>) -> Result<Outcome> {
    let id = parse_id(call.arg(2), 0)?;
    let (mut added, mut deleted) = (None, None);
    let mut index = 3;
    while let Some(word) = call.args.get(index) {
        let value = call.args.get(index + 1).ok_or(Error::Syntax)?;
        match word.to_ascii_lowercase().as_slice() {
            b"entriesadded" => {
                let number = u64::try_from(call.integer(index + 1)?);
                added = Some(number.map_err(|_| Error::Text("ERR entries_added must be positive"))?);
            }
            b"maxdeletedid" => {
                let greatest = parse_id(value, 0)?;
                if id < greatest {
                    let text =
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
                    return Err(Error::Text(text));
                }
                deleted = Some(greatest);
            }
            _ => return Err(Error::Syntax),
        }
        index += 2;
    }
    let at = stream_at(call, call.arg(1))?.ok_or(Error::NoSuchKey)?;
    let stream = call.store.value_mut(at).stream_mut()?;
    if id < stream.greatest_deleted {
        let text = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
        return Err(Error::Text(text));
    }
    if stream.final_entry().is_some_and(|(last, _)| id < last) {
        let text = "ERR The ID specified in XSETID is smaller than the target stream top item";
        return Err(Error::Text(text));
    }
    if added.is_some_and(|added| added < stream.len() as u64) {
        let text = "ERR The entries_added specified in XSETID is smaller than the target stream length";
        return Err(Error::Text(text));
    }
    stream.last = id;
    stream.added = added.unwrap_or(stream.added);
    stream.greatest_deleted = deleted.unwrap_or(stream.greatest_deleted);
    call.changed(at);
    call.reply.ok();
    Ok(Outcome::Done)
}
