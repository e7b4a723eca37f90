//! Sorted sets: unions, intersections, differences; and what takes members out of one of several.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use super::list::positive;
use super::range::store_sorted;
use super::set::limit;
use super::sorted::{number, reply_pairs};
use crate::bytes::Bytes;
use crate::number::{parse_i64, write_i64};
use crate::resp::Protocol;
use crate::store::At;
use crate::value::{SortedSet, Value};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

const ONE: Keys = Keys::Places(1, 1, 1);
const COUNTED: Keys = Keys::Counted(1, 0);
const STORED: Keys = Keys::Counted(2, 1);
const Z: Group = Group::SortedSet;
const READS: u32 = READONLY | MOVABLEKEYS;
const STORES: u32 = WRITE | DENYOOM | MOVABLEKEYS;
const WAITS: u32 = WRITE | NOSCRIPT | BLOCKING;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("zunion", -3, READS, COUNTED, Z, |call| combine(call, Operation::Union, 1)),
    Command::data("zinter", -3, READS, COUNTED, Z, |call| combine(call, Operation::Intersection, 1)),
    Command::data("zdiff", -3, READS, COUNTED, Z, |call| combine(call, Operation::Difference, 1)),
    Command::data("zunionstore", -4, STORES, STORED, Z, |call| combine(call, Operation::Union, 2)),
    Command::data("zinterstore", -4, STORES, STORED, Z, |call| combine(call, Operation::Intersection, 2)),
    Command::data("zdiffstore", -4, STORES, STORED, Z, |call| combine(call, Operation::Difference, 2)),
    Command::data("zintercard", -3, READS, COUNTED, Z, zintercard),
    Command::data("zpopmin", -2, WRITE | FAST, ONE, Z, |call| zpop(call, false)),
    Command::data("zpopmax", -2, WRITE | FAST, ONE, Z, |call| zpop(call, true)),
    Command::data("bzpopmin", -3, WAITS | FAST, Keys::Places(1, -2, 1), Z, |call| bzpop(call, false)),
    Command::data("bzpopmax", -3, WAITS | FAST, Keys::Places(1, -2, 1), Z, |call| bzpop(call, true)),
    Command::data("zmpop", -4, WRITE | MOVABLEKEYS, COUNTED, Z, zmpop),
    Command::data("bzmpop", -5, WAITS | MOVABLEKEYS, Keys::Counted(2, 0), Z, zmpop),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// How the scores of one member are combined.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Least,
    Greatest,
}

impl Aggregate {
    fn of(self, first: f64, second: f64) -> f64 {
        match self {
            // Of infinities of both signs the sum is 0, as Redis has it.
            Self::Sum => {
                if (first + second).is_nan() {
                    0.0
                } else {
                    first + second
                }
            }
            Self::Least => {
                if second < first {
                    second
                } else {
                    first
                }
            }
            Self::Greatest => {
                if second > first {
                    second
                } else {
                    first
                }
            }
        }
    }
}

/// A source: members and their weighed scores.
type Source = Vec<(Bytes, f64)>;

/// The members of a set or a sorted set.
fn source(call: &mut Call<'_>, key: &[u8], weight: f64) -> Result<Source> {
    let Some(at) = call.find(key) else { return Ok(Vec::new()) };
    let weigh = |score: f64| if (score * weight).is_nan() { 0.0 } else { score * weight };
    let mut members = Vec::new();
    match call.store.value(at) {
        Value::Set(set) => set.visit(|member| members.push((member.clone(), weigh(1.0)))),
        Value::SortedSet(sorted) => {
            sorted
                .visit(0..sorted.len(), false, |member, score| members.push((member.clone(), weigh(score))));
        }
        _ => return Err(Error::WrongType),
    }
    Ok(members)
}

struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

fn options(call: &Call<'_>, keys: &Range<usize>, operation: Operation, store: bool) -> Result<Options> {
    let weights = keys.clone().map(|_| 1.0).collect();
    let mut options = Options { weights, aggregate: Aggregate::Sum, with_scores: false };
    let mut index = keys.end;
    let weighed = operation != Operation::Difference;
    while let Some(word) = call.args.get(index) {
        let left = call.args.len() - index;
        match word.to_ascii_lowercase().as_slice() {
            b"weights" if weighed && left > keys.len() => {
                for weight in &mut options.weights {
                    index += 1;
                    *weight = number(call.arg(index), "ERR weight value is not a float")?;
                }
            }
            b"aggregate" if weighed && left > 1 => {
                index += 1;
                options.aggregate = match call.arg(index).to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Least,
                    b"max" => Aggregate::Greatest,
                    _ => return Err(Error::Syntax),
                };
            }
            b"withscores" if !store => options.with_scores = true,
            _ => return Err(Error::Syntax),
        }
        index += 1;
    }
    Ok(options)
}

/// The arguments that are keys, after a count of them.
fn keys(call: &Call<'_>, index: usize) -> Result<Range<usize>> {
    let count = call.integer(index)?;
    if count < 1 {
        let name = call.command.name;
        return Err(Error::Composed(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let end = usize::try_from(count).ok().and_then(|count| (index + 1).checked_add(count));
    end.filter(|end| *end <= call.args.len()).map(|end| index + 1..end).ok_or(Error::Syntax)
}

/// Refuses keys that are neither sets nor sorted sets.
fn check_types(call: &mut Call<'_>, keys: &Range<usize>) -> Result<()> {
    for index in keys.clone() {
        let at = call.find_quietly(call.arg(index));
        if at.is_some_and(|at| !matches!(call.store.value(at), Value::Set(_) | Value::SortedSet(_))) {
            return Err(Error::WrongType);
        }
    }
    Ok(())
}

fn sources(call: &mut Call<'_>, keys: Range<usize>, weights: &[f64]) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(keys.len());
    for (index, weight) in keys.zip(weights) {
        sources.push(source(call, call.arg(index), *weight)?);
    }
    Ok(sources)
}

fn combined(
    call: &Call<'_>,
    mut sources: Vec<Source>,
    operation: Operation,
    aggregate: Aggregate,
) -> SortedSet {
    let compact = call.store.compact;
    if operation != Operation::Difference {
        sources.sort_by_key(Vec::len);
    }
    let mut all = sources.into_iter();
    let mut result = SortedSet::new(call.store.hash_key());
    for (member, score) in all.next().unwrap_or_default() {
        result.set(&member, score, &compact);
    }
    for source in all {
        let before = result;
        result = match operation {
            Operation::Intersection => SortedSet::new(call.store.hash_key()),
            Operation::Union | Operation::Difference => before.clone(),
        };
        for (member, score) in source {
            match (operation, before.score(&member)) {
                (Operation::Difference, _) => drop(result.remove(&member)),
                (_, Some(other)) => drop(result.set(&member, aggregate.of(other, score), &compact)),
                (Operation::Union, None) => drop(result.set(&member, score, &compact)),
                (Operation::Intersection, None) => {}
            }
        }
    }
    result
}

/// `count` is the argument that counts the keys.
fn combine(call: &mut Call<'_>, operation: Operation, count: usize) -> Result<Outcome> {
    let keys = keys(call, count)?;
    check_types(call, &keys)?;
    let options = options(call, &keys, operation, count == 2)?;
    let sources = sources(call, keys, &options.weights)?;
    let result = combined(call, sources, operation, options.aggregate);
    if count == 2 {
        store_sorted(call, call.arg(1), result);
        return Ok(Outcome::Done);
    }
    let mut pairs = Vec::with_capacity(result.len());
    result.visit(0..result.len(), false, |member, score| pairs.push((member.clone(), score)));
    reply_pairs(call, &pairs, options.with_scores);
    Ok(Outcome::Done)
}

fn zintercard(call: &mut Call<'_>) -> Result<Outcome> {
    let keys = keys(call, 1)?;
    check_types(call, &keys)?;
    let most = limit(call, keys.end)?;
    let weights: Vec<f64> = keys.clone().map(|_| 1.0).collect();
    let sources = sources(call, keys, &weights)?;
    let count = combined(call, sources, Operation::Intersection, Aggregate::Sum).len();
    call.reply.count(count.min(most));
    Ok(Outcome::Done)
}

/// Takes so many members out, from an end.
fn take(call: &mut Call<'_>, at: At, greatest: bool, count: usize) -> Result<Vec<(Bytes, f64)>> {
    let sorted = call.store.value_mut(at).sorted_mut()?;
    let count = count.min(sorted.len());
    let rank = |sorted: &SortedSet| if greatest { sorted.len() - 1 } else { 0 };
    let taken: Vec<(Bytes, f64)> = (0..count).map(|_| sorted.remove_at(rank(sorted))).collect();
    if count > 0 {
        call.changed(at);
    }
    Ok(taken)
}

fn log_pop(call: &mut Call<'_>, key: &[u8], greatest: bool, count: usize) {
    let mut number = Vec::new();
    write_i64(count as i64, &mut number);
    if count > 0 {
        call.log_instead(&[if greatest { b"ZPOPMAX" } else { b"ZPOPMIN" }, key, &number]);
    }
}

fn zpop(call: &mut Call<'_>, greatest: bool) -> Result<Outcome> {
    if call.args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = if call.args.len() == 3 { Some(positive(call, 2)?) } else { None };
    let key = call.arg(1);
    let at = call.find_to_change(key);
    let taken = match call.of_type(at, Value::sorted)? {
        None => Vec::new(),
        Some(at) => take(call, at, greatest, count.unwrap_or(1))?,
    };
    log_pop(call, key, greatest, taken.len());
    if count.is_none() && call.reply.protocol() == Protocol::Resp3 {
        // One pair is not an array of pairs.
        call.reply.array(taken.len() * 2);
        for (member, score) in taken {
            call.reply.bulk(&member);
            call.reply.double(score);
        }
    } else {
        reply_pairs(call, &taken, true);
    }
    Ok(Outcome::Done)
}

/// The first of some keys that has a sorted set, as an argument's index and a place.
fn first_sorted(call: &mut Call<'_>, keys: Range<usize>) -> Result<Option<(usize, At)>> {
    for index in keys {
        let at = call.find_to_change(call.arg(index));
        if let Some(at) = call.of_type(at, Value::sorted)? {
            return Ok(Some((index, at)));
        }
    }
    Ok(None)
}

fn bzpop(call: &mut Call<'_>, greatest: bool) -> Result<Outcome> {
    let last = call.args.len() - 1;
    let timeout_ms = call.timeout_ms(last)?;
    let Some((index, at)) = first_sorted(call, 1..last)? else {
        return Ok(call.wait(1..last, timeout_ms));
    };
    let key = call.arg(index);
    let taken = take(call, at, greatest, 1)?;
    log_pop(call, key, greatest, 1);
    call.reply.array(3);
    call.reply.bulk(key);
    for (member, score) in taken {
        call.reply.bulk(&member);
        call.reply.double(score);
    }
    Ok(Outcome::Done)
}

fn zmpop(call: &mut Call<'_>) -> Result<Outcome> {
    let waits = call.command.name == "bzmpop";
    let timeout_ms = if waits { call.timeout_ms(1)? } else { None };
    let keys = call.counted_keys(1 + usize::from(waits))?;
    let greatest = match call.args.get(keys.end).ok_or(Error::Syntax)?.to_ascii_lowercase().as_slice() {
        b"min" => false,
        b"max" => true,
        _ => return Err(Error::Syntax),
    };
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
    let Some((index, at)) = first_sorted(call, keys.clone())? else {
        if waits {
            return Ok(call.wait(keys, timeout_ms));
        }
        call.reply.null_array();
        return Ok(Outcome::Done);
    };
    let key = call.arg(index);
    let taken = take(call, at, greatest, count.unwrap_or(1))?;
    log_pop(call, key, greatest, taken.len());
    call.reply.array(2);
    call.reply.bulk(key);
    call.reply.array(taken.len());
    for (member, score) in taken {
        call.reply.array(2);
        call.reply.bulk(&member);
        call.reply.double(score);
    }
    Ok(Outcome::Done)
}
