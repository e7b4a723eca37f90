//! Lists: what moves elements, takes them from one of several lists, or waits for them.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use super::list::pop_many;
use crate::bytes::Bytes;
use crate::number::{parse_i64, write_i64};
use crate::value::{End, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

const TWO: Keys = Keys::Places(1, 2, 1);
const L: Group = Group::List;
const WAITS: u32 = WRITE | NOSCRIPT | BLOCKING;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("lmove", 5, WRITE | DENYOOM, TWO, L, lmove),
    Command::data("rpoplpush", 3, WRITE | DENYOOM, TWO, L, lmove),
    Command::data("blmove", 6, WAITS | DENYOOM, TWO, L, lmove),
    Command::data("brpoplpush", 4, WAITS | DENYOOM, TWO, L, lmove),
    Command::data("lmpop", -4, WRITE | MOVABLEKEYS, Keys::Counted(1, 0), L, lmpop),
    Command::data("blmpop", -5, WAITS | MOVABLEKEYS, Keys::Counted(2, 0), L, lmpop),
    Command::data("blpop", -3, WAITS, Keys::Places(1, -2, 1), L, |call| blpop(call, End::Left)),
    Command::data("brpop", -3, WAITS, Keys::Places(1, -2, 1), L, |call| blpop(call, End::Right)),
];

fn end(word: &[u8]) -> Result<End> {
    match word.to_ascii_lowercase().as_slice() {
        b"left" => Ok(End::Left),
        b"right" => Ok(End::Right),
        _ => Err(Error::Syntax),
    }
}

const fn name(end: End) -> &'static [u8] {
    match end {
        End::Left => b"LEFT",
        End::Right => b"RIGHT",
    }
}

fn lmove(call: &mut Call<'_>) -> Result<Outcome> {
    let (from, to) = match call.command.name {
        "lmove" | "blmove" => (end(call.arg(3))?, end(call.arg(4))?),
        _ => (End::Right, End::Left),
    };
    let timeout_ms = match call.command.name {
        "blmove" => Some(call.timeout_ms(5)?),
        "brpoplpush" => Some(call.timeout_ms(3)?),
        _ => None,
    };
    let (source, target) = (call.arg(1), call.arg(2));
    let at = call.find_to_change(source);
    let Some(at) = call.of_type(at, Value::list)? else {
        let Some(timeout_ms) = timeout_ms else {
            call.reply.null();
            return Ok(Outcome::Done);
        };
        if call.session.never_waits {
            call.reply.null();
            return Ok(Outcome::Done);
        }
        return Ok(call.wait(1..2, timeout_ms));
    };
    let there = call.find_to_change(target);
    if let Some(there) = there {
        call.store.value(there).list()?;
    }
    let Some(element) = call.store.value_mut(at).list_mut()?.pop(from) else { return Err(Error::NoSuchKey) };
    call.reply.bulk(&element);
    let there = there.unwrap_or_else(|| call.insert(target, Value::List(Box::default())));
    call.store.value_mut(there).list_mut()?.push(to, element);
    // The target first: if it is the source, it has an element again.
    call.changed(there);
    if there != at {
        call.changed(at);
    }
    call.ready(target);
    call.log_instead(&[b"LMOVE", source, target, name(from), name(to)]);
    Ok(Outcome::Done)
}

/// The first of some keys that has a list, as an argument's index and a place.
fn first_list(call: &mut Call<'_>, keys: Range<usize>) -> Result<Option<(usize, crate::store::At)>> {
    for index in keys {
        let at = call.find_to_change(call.arg(index));
        if let Some(at) = call.of_type(at, Value::list)? {
            return Ok(Some((index, at)));
        }
    }
    Ok(None)
}

fn blpop(call: &mut Call<'_>, from: End) -> Result<Outcome> {
    let last = call.args.len() - 1;
    let timeout_ms = call.timeout_ms(last)?;
    let Some((index, at)) = first_list(call, 1..last)? else {
        return Ok(call.wait(1..last, timeout_ms));
    };
    let key = call.arg(index);
    let element = call.store.value_mut(at).list_mut()?.pop(from);
    call.reply.array(2);
    call.reply.bulk(key);
    call.reply.bulk_or_null(element.as_ref().map(Bytes::as_slice));
    call.changed(at);
    call.log_instead(&[if from == End::Left { b"LPOP" } else { b"RPOP" }, key]);
    Ok(Outcome::Done)
}

fn lmpop(call: &mut Call<'_>) -> Result<Outcome> {
    let waits = call.command.name == "blmpop";
    let timeout_ms = if waits { call.timeout_ms(1)? } else { None };
    let keys = call.counted_keys(1 + usize::from(waits))?;
    let from = end(call.args.get(keys.end).ok_or(Error::Syntax)?)?;
    let mut count = None;
    let mut index = keys.end + 1;
    while index < call.args.len() {
        if !call.arg(index).eq_ignore_ascii_case(b"count") || count.is_some() {
            return Err(Error::Syntax);
        }
        let value = call.args.get(index + 1).ok_or(Error::Syntax)?;
        let value = parse_i64(value).and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        count = Some(value.ok_or(Error::Text("ERR count should be greater than 0"))?);
        index += 2;
    }
    let Some((index, at)) = first_list(call, keys.clone())? else {
        if waits {
            return Ok(call.wait(keys, timeout_ms));
        }
        call.reply.null_array();
        return Ok(Outcome::Done);
    };
    let key = call.arg(index);
    call.reply.array(2);
    call.reply.bulk(key);
    pop_many(call, at, from, count.unwrap_or(1))?;
    let mut number = Vec::new();
    write_i64(count.unwrap_or(1) as i64, &mut number);
    call.log_instead(&[if from == End::Left { b"LPOP" } else { b"RPOP" }, key, &number]);
    Ok(Outcome::Done)
}
