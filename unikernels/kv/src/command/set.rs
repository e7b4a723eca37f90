//! Sets.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome, many};
use super::error::{Error, Result};
use super::list::positive;
use crate::bytes::Bytes;
use crate::random::Random;
use crate::store::At;
use crate::value::{Set, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const ALL: Keys = Keys::Places(1, -1, 1);
const S: Group = Group::Set;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("sadd", -3, WRITE | DENYOOM | FAST, ONE, S, sadd),
    Command::data("srem", -3, WRITE | FAST, ONE, S, srem),
    Command::data("sismember", 3, READONLY | FAST, ONE, S, sismember),
    Command::data("smismember", -3, READONLY | FAST, ONE, S, smismember),
    Command::data("scard", 2, READONLY | FAST, ONE, S, scard),
    Command::data("smembers", 2, READONLY, ONE, S, smembers),
    Command::data("smove", 4, WRITE | FAST, Keys::Places(1, 2, 1), S, smove),
    Command::data("spop", -2, WRITE | FAST, ONE, S, spop),
    Command::data("srandmember", -2, READONLY, ONE, S, srandmember),
    Command::data("sinter", -2, READONLY, ALL, S, combine),
    Command::data("sunion", -2, READONLY, ALL, S, combine),
    Command::data("sdiff", -2, READONLY, ALL, S, combine),
    Command::data("sinterstore", -3, WRITE | DENYOOM, ALL, S, combine_and_store),
    Command::data("sunionstore", -3, WRITE | DENYOOM, ALL, S, combine_and_store),
    Command::data("sdiffstore", -3, WRITE | DENYOOM, ALL, S, combine_and_store),
    Command::data("sintercard", -3, READONLY | MOVABLEKEYS, Keys::Counted(1, 0), S, sintercard),
];

/// Adds a member to the set at a place.
fn add(call: &mut Call<'_>, at: At, member: &[u8]) -> Result<bool> {
    let (most, key) = (call.store.compact.set_entries, call.store.hash_key());
    Ok(call.store.value_mut(at).set_mut()?.add(member, most, key))
}

fn sadd(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).set()?;
    }
    let at = at.unwrap_or_else(|| call.insert(key, Value::Set(Box::default())));
    let mut added = 0;
    for member in call.args.from(2) {
        added += usize::from(add(call, at, member)?);
    }
    if added > 0 {
        call.changed(at);
    }
    call.reply.count(added);
    Ok(Outcome::Done)
}

fn srem(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let set = call.store.value_mut(at).set_mut()?;
    let removed = call.args.from(2).filter(|member| set.remove(member)).count();
    if removed > 0 {
        call.changed(at);
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

/// The set of a key that is read, if there is one.
fn set<'c>(call: &'c mut Call<'_>) -> Result<Option<&'c Set>> {
    match call.find(call.arg(1)) {
        None => Ok(None),
        Some(at) => Ok(Some(call.store.value(at).set()?)),
    }
}

fn sismember(call: &mut Call<'_>) -> Result<Outcome> {
    let member = call.arg(2);
    let there = set(call)?.is_some_and(|set| set.contains(member));
    call.reply.integer(i64::from(there));
    Ok(Outcome::Done)
}

fn smismember(call: &mut Call<'_>) -> Result<Outcome> {
    let members = call.args.from(2);
    let there: Vec<bool> = match set(call)? {
        None => members.map(|_| false).collect(),
        Some(set) => members.map(|member| set.contains(member)).collect(),
    };
    call.reply.array(there.len());
    there.into_iter().for_each(|there| call.reply.integer(i64::from(there)));
    Ok(Outcome::Done)
}

fn scard(call: &mut Call<'_>) -> Result<Outcome> {
    let length = set(call)?.map_or(0, Set::len);
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn smembers(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.set(0);
        return Ok(Outcome::Done);
    };
    let set = call.store.value(at).set()?;
    call.reply.set(set.len());
    set.visit(|member| call.reply.bulk(member));
    Ok(Outcome::Done)
}

fn smove(call: &mut Call<'_>) -> Result<Outcome> {
    let (from, to, member) = (call.arg(1), call.arg(2), call.arg(3));
    let Some(at) = call.find_to_change(from) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let there = call.find_to_change(to);
    let contains = call.store.value(at).set()?.contains(member);
    if let Some(there) = there {
        call.store.value(there).set()?;
    }
    if from != to && contains {
        call.store.value_mut(at).set_mut()?.remove(member);
        let there = there.unwrap_or_else(|| call.insert(to, Value::Set(Box::default())));
        add(call, there, member)?;
        call.changed(there);
        call.changed(at);
    }
    call.reply.integer(i64::from(contains));
    Ok(Outcome::Done)
}

fn spop(call: &mut Call<'_>) -> Result<Outcome> {
    if call.args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = if call.args.len() == 3 { Some(positive(call, 2)?) } else { None };
    let key = call.arg(1);
    let Some(at) = call.find_to_change(key) else {
        if count.is_some() {
            call.reply.set(0)
        } else {
            call.reply.null()
        }
        return Ok(Outcome::Done);
    };
    let mut random = call.store.random.clone();
    let set = call.store.value(at).set()?;
    let chosen = match count {
        Some(count) if count >= set.len() || count > set.len() / 2 => {
            let mut members = set.members();
            random.choose(&mut members, count);
            members
        }
        count => some(set, count.unwrap_or(1), &mut random),
    };
    call.store.random = random;
    if count.is_some() {
        call.reply.set(chosen.len());
    }
    chosen.iter().for_each(|member| call.reply.bulk(member));
    if chosen.is_empty() {
        return Ok(Outcome::Done);
    }
    let set = call.store.value_mut(at).set_mut()?;
    for member in &chosen {
        set.remove(member);
    }
    call.changed(at);
    let mut log: Vec<&[u8]> = Vec::from([&b"SREM"[..], key]);
    log.extend(chosen.iter().map(Bytes::as_slice));
    call.log_instead(&log);
    Ok(Outcome::Done)
}

/// Different members of a set that has more than that.
fn some(set: &Set, count: usize, random: &mut Random) -> Vec<Bytes> {
    let mut chosen = alloc::collections::BTreeSet::new();
    while chosen.len() < count {
        chosen.insert(set.random(random));
    }
    chosen.into_iter().collect()
}

fn srandmember(call: &mut Call<'_>) -> Result<Outcome> {
    if call.args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = if call.args.len() == 3 { Some(call.integer(2)?) } else { None };
    if let Some(count) = count {
        many(count, false)?;
    }
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.none_of(count.is_some());
        return Ok(Outcome::Done);
    };
    let mut random = call.store.random.clone();
    let set = call.store.value(at).set()?;
    let chosen = match count {
        None => Vec::from([set.random(&mut random)]),
        Some(count @ ..0) => (0..count.unsigned_abs()).map(|_| set.random(&mut random)).collect(),
        Some(count) => {
            let mut members = set.members();
            random.choose(&mut members, count as usize);
            members
        }
    };
    call.store.random = random;
    if count.is_some() {
        call.reply.array(chosen.len());
    }
    chosen.iter().for_each(|member| call.reply.bulk(member));
    Ok(Outcome::Done)
}

/// What a combination of sets has: `least` is where the first key is among the arguments.
fn combined(call: &mut Call<'_>, keys: core::ops::Range<usize>, name: &str, most: usize) -> Result<Set> {
    let mut places = Vec::new();
    for index in keys {
        let at = call.find(call.arg(index));
        if let Some(at) = at {
            call.store.value(at).set()?;
        }
        places.push(at);
    }
    let empty = Set::default();
    let mut sets = Vec::new();
    for at in places {
        sets.push(match at {
            None => &empty,
            Some(at) => call.store.value(at).set()?,
        });
    }
    let mut result = Set::default();
    let (numbers, key) = (call.store.compact.set_entries, call.store.hash_key());
    match name {
        "sunion" | "sunionstore" => {
            for set in sets {
                set.visit(|member| {
                    result.add(member, numbers, key);
                });
            }
        }
        "sdiff" | "sdiffstore" => sets[0].visit(|member| {
            if !sets[1..].iter().any(|set| set.contains(member)) {
                result.add(member, numbers, key);
            }
        }),
        _ => {
            // The smallest says what there can be at most.
            sets.sort_by_key(|set| set.len());
            sets[0].visit(|member| {
                if result.len() < most && sets[1..].iter().all(|set| set.contains(member)) {
                    result.add(member, numbers, key);
                }
            });
        }
    }
    Ok(result)
}

fn combine(call: &mut Call<'_>) -> Result<Outcome> {
    let result = combined(call, 1..call.args.len(), call.command.name, usize::MAX)?;
    call.reply.set(result.len());
    result.visit(|member| call.reply.bulk(member));
    Ok(Outcome::Done)
}

fn combine_and_store(call: &mut Call<'_>) -> Result<Outcome> {
    let result = combined(call, 2..call.args.len(), call.command.name, usize::MAX)?;
    let (key, count) = (call.arg(1), result.len());
    if count > 0 {
        call.set(key, Value::Set(Box::new(result)));
    } else if let Some(at) = call.find_to_change(key) {
        call.remove(at);
    }
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn sintercard(call: &mut Call<'_>) -> Result<Outcome> {
    let count = call.integer(1).ok().filter(|count| *count > 0);
    let count = count.ok_or(Error::Text("ERR numkeys should be greater than 0"))? as usize;
    if count > call.args.len() - 2 {
        return Err(Error::Text("ERR Number of keys can't be greater than number of args"));
    }
    let most = limit(call, 2 + count)?;
    let result = combined(call, 2..2 + count, "sinter", most)?;
    call.reply.count(result.len());
    Ok(Outcome::Done)
}

/// `LIMIT` and a count, at the end of a command; none is no limit.
pub fn limit(call: &Call<'_>, index: usize) -> Result<usize> {
    let mut most = 0;
    let mut index = index;
    while let Some(word) = call.args.get(index) {
        if !word.eq_ignore_ascii_case(b"limit") || index + 1 >= call.args.len() {
            return Err(Error::Syntax);
        }
        let number = call.integer(index + 1).ok().and_then(|number| usize::try_from(number).ok());
        most = number.ok_or(Error::Text("ERR LIMIT can't be negative"))?;
        index += 2;
    }
    Ok(if most == 0 { usize::MAX } else { most })
}
