//! Strings.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use super::expiry::{Time, expiry_ms};
use crate::bytes::Bytes;
use crate::number::{add_decimals, parse_f64, parse_i64, write_i64};
use crate::store::At;
use crate::value::Value;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const S: Group = Group::String;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("get", 2, READONLY | FAST, ONE, S, get),
    Command::data("set", -3, WRITE | DENYOOM, ONE, S, set),
    Command::data("setnx", 3, WRITE | DENYOOM | FAST, ONE, S, setnx),
    Command::data("setex", 4, WRITE | DENYOOM, ONE, S, setex),
    Command::data("psetex", 4, WRITE | DENYOOM, ONE, S, setex),
    Command::data("getset", 3, WRITE | DENYOOM | FAST, ONE, S, getset),
    Command::data("getdel", 2, WRITE | FAST, ONE, S, getdel),
    Command::data("getex", -2, WRITE | FAST, ONE, S, getex),
    Command::data("append", 3, WRITE | DENYOOM | FAST, ONE, S, append),
    Command::data("strlen", 2, READONLY | FAST, ONE, S, strlen),
    Command::data("setrange", 4, WRITE | DENYOOM, ONE, S, setrange),
    Command::data("getrange", 4, READONLY, ONE, S, getrange),
    Command::data("substr", 4, READONLY, ONE, S, getrange),
    Command::data("mget", -2, READONLY | FAST, Keys::Places(1, -1, 1), S, mget),
    Command::data("mset", -3, WRITE | DENYOOM, Keys::Places(1, -1, 2), S, mset),
    Command::data("msetnx", -3, WRITE | DENYOOM, Keys::Places(1, -1, 2), S, mset),
    Command::data("incr", 2, WRITE | DENYOOM | FAST, ONE, S, |call| add(call, 1)),
    Command::data("decr", 2, WRITE | DENYOOM | FAST, ONE, S, |call| add(call, -1)),
    Command::data("incrby", 3, WRITE | DENYOOM | FAST, ONE, S, incrby),
    Command::data("decrby", 3, WRITE | DENYOOM | FAST, ONE, S, decrby),
    Command::data("incrbyfloat", 3, WRITE | DENYOOM | FAST, ONE, S, incrbyfloat),
];

fn get(call: &mut Call<'_>) -> Result<Outcome> {
    let at = call.find(call.arg(1));
    reply_with(call, at)?;
    Ok(Outcome::Done)
}

/// Replies with a key's string, or null.
fn reply_with(call: &mut Call<'_>, at: Option<At>) -> Result<()> {
    match at {
        None => call.reply.null(),
        Some(at) => call.reply.bulk(call.store.value(at).string()?),
    }
    Ok(())
}

/// What `SET` was told beside key and value.
#[derive(Default)]
struct Options {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_expiry: bool,
    persist: bool,
    time: Option<(Time, usize)>,
}

impl Options {
    fn parse(call: &Call<'_>, from: usize, set: bool) -> Result<Self> {
        let mut options = Self::default();
        let mut index = from;
        while let Some(word) = call.args.get(index) {
            let alone = options.time.is_none() && !options.keep_expiry && !options.persist;
            if set && word.eq_ignore_ascii_case(b"nx") && !options.if_present {
                options.if_absent = true;
            } else if set && word.eq_ignore_ascii_case(b"xx") && !options.if_absent {
                options.if_present = true;
            } else if set && word.eq_ignore_ascii_case(b"get") {
                options.get = true;
            } else if set && word.eq_ignore_ascii_case(b"keepttl") && options.time.is_none() {
                options.keep_expiry = true;
            } else if !set && word.eq_ignore_ascii_case(b"persist") && options.time.is_none() {
                options.persist = true;
            } else if let Some(time) = Time::named(word)
                && alone
                && index + 1 < call.args.len()
            {
                index += 1;
                options.time = Some((time, index));
            } else {
                return Err(Error::Syntax);
            }
            index += 1;
        }
        Ok(options)
    }

    fn expires_ms(&self, call: &Call<'_>) -> Result<Option<u64>> {
        self.time.map(|(time, index)| expiry_ms(call, index, time)).transpose()
    }
}

fn set(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    if call.args.len() == 3 {
        call.set(key, Value::String(Bytes::from(call.arg(2))));
        call.reply.ok();
        return Ok(Outcome::Done);
    }
    let options = Options::parse(call, 3, true)?;
    let expires_ms = options.expires_ms(call)?;
    let at = call.find_to_change(key);
    if options.get {
        reply_with(call, at)?;
    }
    if options.if_absent && at.is_some() || options.if_present && at.is_none() {
        if !options.get {
            call.reply.null();
        }
        return Ok(Outcome::Done);
    }
    let value = call.arg(2);
    store_string(call, key, value, expires_ms, options.keep_expiry);
    if !options.get {
        call.reply.ok();
    }
    Ok(Outcome::Done)
}

/// Sets a key to a string, and logs that with the time of its expiry.
fn store_string(call: &mut Call<'_>, key: &[u8], value: &[u8], expires_ms: Option<u64>, keep: bool) {
    let before = call.find_quietly(key).and_then(|at| call.store.expires_ms(at));
    let at = call.set(key, Value::String(Bytes::from(value)));
    let expires_ms = if keep { before } else { expires_ms };
    match expires_ms {
        None => call.log_instead(&[b"SET", key, value]),
        Some(expires_ms) => {
            call.store.set_expiry(at, Some(expires_ms));
            let mut time = Vec::new();
            write_i64(expires_ms as i64, &mut time);
            call.log_instead(&[b"SET", key, value, b"PXAT", &time]);
        }
    }
}

fn setnx(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    let absent = call.find_to_change(key).is_none();
    if absent {
        call.set(key, Value::String(Bytes::from(call.arg(2))));
    }
    call.reply.integer(i64::from(absent));
    Ok(Outcome::Done)
}

fn setex(call: &mut Call<'_>) -> Result<Outcome> {
    let time = if call.command.name == "setex" { Time::Seconds } else { Time::Milliseconds };
    let expires_ms = expiry_ms(call, 2, time)?;
    let (key, value) = (call.arg(1), call.arg(3));
    store_string(call, key, value, Some(expires_ms), false);
    call.reply.ok();
    Ok(Outcome::Done)
}

fn getset(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    reply_with(call, at)?;
    call.set(key, Value::String(Bytes::from(call.arg(2))));
    let value = call.arg(2);
    call.log_instead(&[b"SET", key, value]);
    Ok(Outcome::Done)
}

fn getdel(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    reply_with(call, at)?;
    if let Some(at) = at {
        call.remove(at);
        call.log_instead(&[b"DEL", key]);
    }
    Ok(Outcome::Done)
}

fn getex(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call, 2, false)?;
    let key = call.arg(1);
    let at = call.find_to_change(key);
    let expires_ms = if at.is_some() { options.expires_ms(call)? } else { None };
    reply_with(call, at)?;
    let Some(at) = at else { return Ok(Outcome::Done) };
    if let Some(expires_ms) = expires_ms {
        super::expiry::expire_at(call, at, key, expires_ms);
    } else if options.persist && call.store.expires_ms(at).is_some() {
        call.store.set_expiry(at, None);
        call.effects.changes += 1;
        call.log_instead(&[b"PERSIST", key]);
    }
    Ok(Outcome::Done)
}

fn append(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, more) = (call.arg(1), call.arg(2));
    let length = match call.find_to_change(key) {
        None => {
            call.insert(key, Value::String(Bytes::from(more)));
            more.len()
        }
        Some(at) => {
            let length = call.store.value(at).string()?.len() + more.len();
            check_length(call, length)?;
            call.store.value_mut(at).string_mut()?.extend_from_slice(more);
            call.changed(at);
            length
        }
    };
    call.reply.count(length);
    Ok(Outcome::Done)
}

/// Refuses a string that is too long.
pub fn check_length(call: &Call<'_>, length: usize) -> Result<()> {
    if length > call.store.longest_string {
        return Err(Error::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

fn strlen(call: &mut Call<'_>) -> Result<Outcome> {
    let length = match call.find(call.arg(1)) {
        None => 0,
        Some(at) => call.store.value(at).string()?.len(),
    };
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn setrange(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, part) = (call.arg(1), call.arg(3));
    let offset = call.integer(2)?;
    let offset = usize::try_from(offset).map_err(|_| Error::Text("ERR offset is out of range"))?;
    let at = call.find_to_change(key);
    let length = match at {
        None => 0,
        Some(at) => call.store.value(at).string()?.len(),
    };
    if part.is_empty() {
        call.reply.count(length);
        return Ok(Outcome::Done);
    }
    let end = offset.saturating_add(part.len());
    check_length(call, end)?;
    let at = at.unwrap_or_else(|| call.insert(key, Value::String(Bytes::new())));
    let text = call.store.value_mut(at).string_mut()?;
    if length < end {
        text.resize(end);
    }
    text.as_mut_slice()[offset..end].copy_from_slice(part);
    call.changed(at);
    call.reply.count(length.max(end));
    Ok(Outcome::Done)
}

fn getrange(call: &mut Call<'_>) -> Result<Outcome> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.bulk(b"");
        return Ok(Outcome::Done);
    };
    let text = call.store.value(at).string()?;
    let length = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        call.reply.bulk(b"");
        return Ok(Outcome::Done);
    }
    let from_end = |index: i64| if index < 0 { (index + length).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    let part = if start > end || length == 0 { &[] } else { &text[start as usize..=end as usize] };
    call.reply.bulk(part);
    Ok(Outcome::Done)
}

fn mget(call: &mut Call<'_>) -> Result<Outcome> {
    call.reply.array(call.args.len() - 1);
    for key in call.args.from(1) {
        let at = call.find(key);
        let text = at.and_then(|at| call.store.value(at).string().ok());
        call.reply.bulk_or_null(text.map(Bytes::as_slice));
    }
    Ok(Outcome::Done)
}

fn mset(call: &mut Call<'_>) -> Result<Outcome> {
    if call.args.len().is_multiple_of(2) {
        return Err(Error::Arguments(call.command.name));
    }
    let only_new = call.command.name == "msetnx";
    if only_new && call.args.from(1).step_by(2).any(|key| call.find_quietly(key).is_some()) {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    for index in (1..call.args.len()).step_by(2) {
        call.set(call.arg(index), Value::String(Bytes::from(call.arg(index + 1))));
    }
    if only_new {
        call.reply.integer(1)
    } else {
        call.reply.ok()
    }
    Ok(Outcome::Done)
}

fn incrby(call: &mut Call<'_>) -> Result<Outcome> {
    let difference = call.integer(2)?;
    add(call, difference)
}

fn decrby(call: &mut Call<'_>) -> Result<Outcome> {
    let difference = call.integer(2)?.checked_neg().ok_or(Error::Text("ERR decrement would overflow"))?;
    add(call, difference)
}

fn add(call: &mut Call<'_>, difference: i64) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    let before = match at {
        None => 0,
        Some(at) => parse_i64(call.store.value(at).string()?).ok_or(Error::NotAnInteger)?,
    };
    let overflow = Error::Text("ERR increment or decrement would overflow");
    let sum = before.checked_add(difference).ok_or(overflow)?;
    let mut text = Vec::with_capacity(20);
    write_i64(sum, &mut text);
    set_text(call, at, key, Bytes::from(text.as_slice()));
    call.reply.integer(sum);
    Ok(Outcome::Done)
}

/// Sets a key's string; its expiry stays.
fn set_text(call: &mut Call<'_>, at: Option<At>, key: &[u8], text: Bytes) {
    match at {
        Some(at) => {
            call.store.replace(at, Value::String(text));
            call.effects.changes += 1;
        }
        None => {
            call.insert(key, Value::String(text));
        }
    }
}

fn incrbyfloat(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, difference) = (call.arg(1), call.arg(2));
    let at = call.find_to_change(key);
    let before = match at {
        None => &b"0"[..],
        Some(at) => call.store.value(at).string()?,
    };
    if parse_f64(before).is_none() || parse_f64(difference).is_none() {
        return Err(Error::NotAFloat);
    }
    let sum = add_decimals(before, difference).filter(|sum| sum != "inf");
    let sum = sum.ok_or(Error::Text("ERR increment would produce NaN or Infinity"))?;
    set_text(call, at, key, Bytes::from(sum.as_bytes()));
    call.reply.bulk(sum.as_bytes());
    call.log_instead(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    Ok(Outcome::Done)
}
