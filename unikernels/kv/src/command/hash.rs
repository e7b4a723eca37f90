//! Hashes.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome, many};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::{add_decimals, parse_f64, parse_i64, write_i64};
use crate::resp::Protocol;
use crate::store::At;
use crate::value::{Hash, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const H: Group = Group::Hash;
const ADDS: u32 = WRITE | DENYOOM | FAST;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("hset", -4, ADDS, ONE, H, hset),
    Command::data("hmset", -4, ADDS, ONE, H, hset),
    Command::data("hsetnx", 4, ADDS, ONE, H, hsetnx),
    Command::data("hget", 3, READONLY | FAST, ONE, H, hget),
    Command::data("hmget", -3, READONLY | FAST, ONE, H, hmget),
    Command::data("hdel", -3, WRITE | FAST, ONE, H, hdel),
    Command::data("hlen", 2, READONLY | FAST, ONE, H, hlen),
    Command::data("hexists", 3, READONLY | FAST, ONE, H, hexists),
    Command::data("hstrlen", 3, READONLY | FAST, ONE, H, hstrlen),
    Command::data("hkeys", 2, READONLY, ONE, H, |call| all(call, true, false)),
    Command::data("hvals", 2, READONLY, ONE, H, |call| all(call, false, true)),
    Command::data("hgetall", 2, READONLY, ONE, H, |call| all(call, true, true)),
    Command::data("hincrby", 4, ADDS, ONE, H, hincrby),
    Command::data("hincrbyfloat", 4, ADDS, ONE, H, hincrbyfloat),
    Command::data("hrandfield", -2, READONLY, ONE, H, hrandfield),
];

/// The hash of a key, which is made if it is not there.
fn hash_to_change(call: &mut Call<'_>) -> Result<At> {
    let key = call.arg(1);
    match call.find_to_change(key) {
        Some(at) => {
            call.store.value(at).hash()?;
            Ok(at)
        }
        None => Ok(call.insert(key, Value::Hash(Box::default()))),
    }
}

fn set(call: &mut Call<'_>, at: At, field: &[u8], value: Bytes) -> Result<bool> {
    let (compact, key) = (call.store.compact, call.store.hash_key());
    Ok(call.store.value_mut(at).hash_mut()?.set(field, value, &compact, key))
}

fn hset(call: &mut Call<'_>) -> Result<Outcome> {
    if !call.args.len().is_multiple_of(2) {
        return Err(Error::Arguments(call.command.name));
    }
    let at = hash_to_change(call)?;
    let mut added = 0;
    for index in (2..call.args.len()).step_by(2) {
        added += usize::from(set(call, at, call.arg(index), Bytes::from(call.arg(index + 1)))?);
    }
    call.changed(at);
    if call.command.name == "hset" {
        call.reply.count(added)
    } else {
        call.reply.ok()
    }
    Ok(Outcome::Done)
}

fn hsetnx(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, field) = (call.arg(1), call.arg(2));
    let there = match call.find_to_change(key) {
        None => false,
        Some(at) => call.store.value(at).hash()?.get(field).is_some(),
    };
    if !there {
        let at = hash_to_change(call)?;
        set(call, at, field, Bytes::from(call.arg(3)))?;
        call.changed(at);
    }
    call.reply.integer(i64::from(!there));
    Ok(Outcome::Done)
}

/// The hash of a key that is read, if there is one.
fn hash<'c>(call: &'c mut Call<'_>) -> Result<Option<&'c Hash>> {
    match call.find(call.arg(1)) {
        None => Ok(None),
        Some(at) => Ok(Some(call.store.value(at).hash()?)),
    }
}

fn hget(call: &mut Call<'_>) -> Result<Outcome> {
    match call.find(call.arg(1)) {
        None => call.reply.null(),
        Some(at) => {
            let value = call.store.value(at).hash()?.get(call.args.at(2));
            call.reply.bulk_or_null(value.map(Bytes::as_slice));
        }
    }
    Ok(Outcome::Done)
}

fn hmget(call: &mut Call<'_>) -> Result<Outcome> {
    let at = call.find(call.arg(1));
    let hash = at.map(|at| call.store.value(at).hash()).transpose()?;
    call.reply.array(call.args.len() - 2);
    for field in call.args.from(2) {
        let value = hash.and_then(|hash| hash.get(field));
        call.reply.bulk_or_null(value.map(Bytes::as_slice));
    }
    Ok(Outcome::Done)
}

fn hdel(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let hash = call.store.value_mut(at).hash_mut()?;
    let removed = call.args.from(2).filter(|field| hash.remove(field)).count();
    if removed > 0 {
        call.changed(at);
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

fn hlen(call: &mut Call<'_>) -> Result<Outcome> {
    let length = hash(call)?.map_or(0, Hash::len);
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn hexists(call: &mut Call<'_>) -> Result<Outcome> {
    let field = call.arg(2);
    let there = hash(call)?.is_some_and(|hash| hash.get(field).is_some());
    call.reply.integer(i64::from(there));
    Ok(Outcome::Done)
}

fn hstrlen(call: &mut Call<'_>) -> Result<Outcome> {
    let field = call.arg(2);
    let length = hash(call)?.and_then(|hash| hash.get(field)).map_or(0, |value| value.len());
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn all(call: &mut Call<'_>, fields: bool, values: bool) -> Result<Outcome> {
    let at = call.find(call.arg(1));
    let hash = at.map(|at| call.store.value(at).hash()).transpose()?;
    let length = hash.map_or(0, Hash::len);
    if fields && values {
        call.reply.map(length)
    } else {
        call.reply.array(length)
    }
    let Some(hash) = hash else { return Ok(Outcome::Done) };
    hash.visit(|field, value| {
        if fields {
            call.reply.bulk(field);
        }
        if values {
            call.reply.bulk(value);
        }
    });
    Ok(Outcome::Done)
}

fn hincrby(call: &mut Call<'_>) -> Result<Outcome> {
    let (field, difference) = (call.arg(2), call.integer(3)?);
    let before = match hash(call)?.and_then(|hash| hash.get(field)) {
        None => 0,
        Some(value) => parse_i64(value).ok_or(Error::Text("ERR hash value is not an integer"))?,
    };
    let overflow = Error::Text("ERR increment or decrement would overflow");
    let sum = before.checked_add(difference).ok_or(overflow)?;
    let at = hash_to_change(call)?;
    let mut text = Vec::with_capacity(20);
    write_i64(sum, &mut text);
    set(call, at, field, Bytes::from(text.as_slice()))?;
    call.changed(at);
    call.reply.integer(sum);
    Ok(Outcome::Done)
}

fn hincrbyfloat(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, field, difference) = (call.arg(1), call.arg(2), call.arg(3));
    let value = parse_f64(difference).ok_or(Error::NotAFloat)?;
    if value.is_infinite() {
        return Err(Error::Text("ERR value is NaN or Infinity"));
    }
    let before = hash(call)?.and_then(|hash| hash.get(field)).cloned();
    let before = before.unwrap_or_else(|| Bytes::from(&b"0"[..]));
    let sum = add_decimals(&before, difference).ok_or(Error::Text("ERR hash value is not a float"))?;
    if sum == "inf" {
        return Err(Error::Text("ERR increment would produce NaN or Infinity"));
    }
    let at = hash_to_change(call)?;
    set(call, at, field, Bytes::from(sum.as_bytes()))?;
    call.changed(at);
    call.reply.bulk(sum.as_bytes());
    call.log_instead(&[b"HSET", key, field, sum.as_bytes()]);
    Ok(Outcome::Done)
}

fn hrandfield(call: &mut Call<'_>) -> Result<Outcome> {
    let with_values = match call.args.len() {
        2 | 3 => false,
        4 if call.arg(3).eq_ignore_ascii_case(b"withvalues") => true,
        _ => return Err(Error::Syntax),
    };
    let count = if call.args.len() > 2 { Some(call.integer(2)?) } else { None };
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.none_of(count.is_some());
        return Ok(Outcome::Done);
    };
    let mut random = call.store.random.clone();
    let hash = call.store.value(at).hash()?;
    let Some(count) = count else {
        call.reply.bulk(hash.random(&mut random).0);
        call.store.random = random;
        return Ok(Outcome::Done);
    };
    let mut chosen: Vec<(&Bytes, &Bytes)> = Vec::new();
    let wanted = many(count, with_values)?;
    if count < 0 {
        chosen.extend((0..wanted).map(|_| hash.random(&mut random)));
    } else {
        let mut pairs = Vec::new();
        hash.collect_into(&mut pairs);
        random.choose(&mut pairs, wanted);
        chosen = pairs;
    }
    let nested = with_values && call.reply.protocol() == Protocol::Resp3;
    call.reply.array(chosen.len() * if with_values && !nested { 2 } else { 1 });
    for (field, value) in chosen {
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(field);
        if with_values {
            call.reply.bulk(value);
        }
    }
    call.store.random = random;
    Ok(Outcome::Done)
}
