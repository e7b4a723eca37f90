//! Lists: what does not wait.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::parse_i64;
use crate::store::At;
use crate::value::{End, List, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const L: Group = Group::List;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("lpush", -3, WRITE | DENYOOM | FAST, ONE, L, |call| push(call, End::Left, false)),
    Command::data("rpush", -3, WRITE | DENYOOM | FAST, ONE, L, |call| push(call, End::Right, false)),
    Command::data("lpushx", -3, WRITE | DENYOOM | FAST, ONE, L, |call| push(call, End::Left, true)),
    Command::data("rpushx", -3, WRITE | DENYOOM | FAST, ONE, L, |call| push(call, End::Right, true)),
    Command::data("lpop", -2, WRITE | FAST, ONE, L, |call| pop(call, End::Left)),
    Command::data("rpop", -2, WRITE | FAST, ONE, L, |call| pop(call, End::Right)),
    Command::data("llen", 2, READONLY | FAST, ONE, L, llen),
    Command::data("lindex", 3, READONLY, ONE, L, lindex),
    Command::data("lset", 4, WRITE | DENYOOM, ONE, L, lset),
    Command::data("linsert", 5, WRITE | DENYOOM, ONE, L, linsert),
    Command::data("lrange", 4, READONLY, ONE, L, lrange),
    Command::data("ltrim", 4, WRITE, ONE, L, ltrim),
    Command::data("lrem", 4, WRITE, ONE, L, lrem),
    Command::data("lpos", -3, READONLY, ONE, L, lpos),
];

fn push(call: &mut Call<'_>, end: End, only_old: bool) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).list()?;
    } else if only_old {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let at = at.unwrap_or_else(|| call.insert(key, Value::List(Box::default())));
    let list = call.store.value_mut(at).list_mut()?;
    call.args.from(2).for_each(|element| list.push(end, Bytes::from(element)));
    let length = list.len();
    call.changed(at);
    call.ready(key);
    call.reply.count(length);
    Ok(Outcome::Done)
}

/// A count that is not negative.
pub fn positive(call: &Call<'_>, index: usize) -> Result<usize> {
    let refusal = Error::Text("ERR value is out of range, must be positive");
    let count = parse_i64(call.arg(index)).and_then(|count| usize::try_from(count).ok());
    count.ok_or(refusal)
}

fn pop(call: &mut Call<'_>, end: End) -> Result<Outcome> {
    if call.args.len() > 3 {
        return Err(Error::Arguments(call.command.name));
    }
    let count = if call.args.len() == 3 { Some(positive(call, 2)?) } else { None };
    let at = call.find_to_change(call.arg(1));
    let at = call.of_type(at, Value::list)?;
    match (at, count) {
        (None, None) => call.reply.null(),
        (None, Some(_)) => call.reply.null_array(),
        (Some(at), None) => {
            let element = call.store.value_mut(at).list_mut()?.pop(end);
            call.reply.bulk_or_null(element.as_ref().map(Bytes::as_slice));
            call.changed(at);
        }
        (Some(at), Some(count)) => pop_many(call, at, end, count)?,
    }
    Ok(Outcome::Done)
}

/// Takes elements from an end, and replies with an array of them.
pub fn pop_many(call: &mut Call<'_>, at: At, end: End, count: usize) -> Result<()> {
    let list = call.store.value_mut(at).list_mut()?;
    let count = count.min(list.len());
    call.reply.array(count);
    for _ in 0..count {
        call.reply.bulk_or_null(list.pop(end).as_ref().map(Bytes::as_slice));
    }
    if count > 0 {
        call.changed(at);
    }
    Ok(())
}

fn llen(call: &mut Call<'_>) -> Result<Outcome> {
    let length = match call.find(call.arg(1)) {
        None => 0,
        Some(at) => call.store.value(at).list()?.len(),
    };
    call.reply.count(length);
    Ok(Outcome::Done)
}

/// An index, counted from the end if it is negative.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(length as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

fn lindex(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.null();
        return Ok(Outcome::Done);
    };
    let list = call.store.value(at).list()?;
    let index = parse_i64(call.args.at(2)).ok_or(Error::NotAnInteger)?;
    let element = place(index, list.len()).and_then(|index| list.get(index));
    call.reply.bulk_or_null(element.map(Bytes::as_slice));
    Ok(Outcome::Done)
}

fn lset(call: &mut Call<'_>) -> Result<Outcome> {
    let at = call.find_to_change(call.arg(1)).ok_or(Error::NoSuchKey)?;
    call.store.value(at).list()?;
    let index = call.integer(2)?;
    let element = Bytes::from(call.arg(3));
    let list = call.store.value_mut(at).list_mut()?;
    let index = place(index, list.len()).ok_or(Error::Text("ERR index out of range"))?;
    list.set(index, element);
    call.changed(at);
    call.reply.ok();
    Ok(Outcome::Done)
}

fn linsert(call: &mut Call<'_>) -> Result<Outcome> {
    let after = match call.arg(2).to_ascii_lowercase().as_slice() {
        b"after" => 1,
        b"before" => 0,
        _ => return Err(Error::Syntax),
    };
    let (pivot, element) = (call.arg(3), Bytes::from(call.arg(4)));
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let list = call.store.value_mut(at).list_mut()?;
    let Some(index) = list.iter().position(|other| other.as_slice() == pivot) else {
        call.reply.integer(-1);
        return Ok(Outcome::Done);
    };
    list.insert(index + after, element);
    let length = list.len();
    call.changed(at);
    call.reply.count(length);
    Ok(Outcome::Done)
}

/// The range of indices that two arguments name, both included and counted from the end if negative.
pub fn index_range(start: i64, end: i64, length: usize) -> core::ops::Range<usize> {
    let length = length as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let (start, end) = (from_end(start).max(0), from_end(end).min(length - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

fn lrange(call: &mut Call<'_>) -> Result<Outcome> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.array(0);
        return Ok(Outcome::Done);
    };
    let list = call.store.value(at).list()?;
    let range = index_range(start, end, list.len());
    call.reply.array(range.len());
    list.iter().skip(range.start).take(range.len()).for_each(|element| call.reply.bulk(element));
    Ok(Outcome::Done)
}

fn ltrim(call: &mut Call<'_>) -> Result<Outcome> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    if let Some(at) = call.find_to_change(call.arg(1)) {
        let list = call.store.value_mut(at).list_mut()?;
        let range = index_range(start, end, list.len());
        list.trim(range.start, range.end);
        call.changed(at);
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

fn lrem(call: &mut Call<'_>) -> Result<Outcome> {
    let count = call.integer(2)?;
    let element = call.arg(3);
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let from = if count < 0 { End::Right } else { End::Left };
    let removed = call.store.value_mut(at).list_mut()?.remove(element, most, from);
    if removed > 0 {
        call.changed(at);
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

fn lpos(call: &mut Call<'_>) -> Result<Outcome> {
    let (mut rank, mut count, mut most) = (1, None, 0);
    for index in (3..call.args.len()).step_by(2) {
        if index + 1 >= call.args.len() {
            return Err(Error::Syntax);
        }
        let value = call.integer(index + 1);
        match call.arg(index).to_ascii_lowercase().as_slice() {
            b"rank" => {
                rank = value?;
                if rank == 0 {
                    return Err(Error::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                         or use negative to start from the end of the list",
                    ));
                }
            }
            b"count" => {
                let value = value.ok().and_then(|value| usize::try_from(value).ok());
                count = Some(value.ok_or(Error::Text("ERR COUNT can't be negative"))?);
            }
            b"maxlen" => {
                let value = value.ok().and_then(|value| usize::try_from(value).ok());
                most = value.ok_or(Error::Text("ERR MAXLEN can't be negative"))?;
            }
            _ => return Err(Error::Syntax),
        }
    }
    let element = call.arg(2);
    let found = match call.find(call.arg(1)) {
        None => Vec::new(),
        Some(at) => positions(call.store.value(at).list()?, element, rank, count, most),
    };
    match count {
        Some(_) => {
            call.reply.array(found.len());
            found.into_iter().for_each(|index| call.reply.count(index));
        }
        None => match found.first() {
            Some(index) => call.reply.count(*index),
            None => call.reply.null(),
        },
    }
    Ok(Outcome::Done)
}

/// Where elements are: the first match that counts is the one of `rank`; of `most` elements, if not 0.
fn positions(list: &List, element: &[u8], rank: i64, count: Option<usize>, most: usize) -> Vec<usize> {
    let most = if most == 0 { usize::MAX } else { most };
    let count = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let skip = rank.unsigned_abs() as usize - 1;
    let is_match = |(index, other): (usize, &Bytes)| (other.as_slice() == element).then_some(index);
    if rank > 0 {
        list.iter().enumerate().take(most).filter_map(is_match).skip(skip).take(count).collect()
    } else {
        list.iter().enumerate().rev().take(most).filter_map(is_match).skip(skip).take(count).collect()
    }
}
