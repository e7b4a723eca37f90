//! Sorted sets: members and their scores.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome, many};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::{format_f64, parse_f64};
use crate::resp::Protocol;
use crate::store::At;
use crate::value::{LexBound, ScoreBound, SortedSet, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const Z: Group = Group::SortedSet;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("zadd", -4, WRITE | DENYOOM | FAST, ONE, Z, zadd),
    Command::data("zincrby", 4, WRITE | DENYOOM | FAST, ONE, Z, zincrby),
    Command::data("zrem", -3, WRITE | FAST, ONE, Z, zrem),
    Command::data("zcard", 2, READONLY | FAST, ONE, Z, zcard),
    Command::data("zscore", 3, READONLY | FAST, ONE, Z, zscore),
    Command::data("zmscore", -3, READONLY | FAST, ONE, Z, zmscore),
    Command::data("zrank", 3, READONLY | FAST, ONE, Z, |call| zrank(call, false)),
    Command::data("zrevrank", 3, READONLY | FAST, ONE, Z, |call| zrank(call, true)),
    Command::data("zcount", 4, READONLY | FAST, ONE, Z, zcount),
    Command::data("zlexcount", 4, READONLY | FAST, ONE, Z, zlexcount),
    Command::data("zrandmember", -2, READONLY, ONE, Z, zrandmember),
];

/// What `ZADD` was told beside scores and members.
#[derive(Default)]
pub struct Options {
    only_new: bool,
    only_old: bool,
    greater: bool,
    less: bool,
    count_changed: bool,
    increment: bool,
}

impl Options {
    /// The options among these words, and where what follows them begins.
    pub fn flags(call: &Call<'_>, words: &[&[u8]]) -> Result<(Self, usize)> {
        let mut options = Self::default();
        let mut index = 2;
        while let Some(word) = call.args.get(index) {
            let word = word.to_ascii_lowercase();
            match word.as_slice() {
                other if !words.contains(&other) => break,
                b"nx" => options.only_new = true,
                b"xx" => options.only_old = true,
                b"gt" => options.greater = true,
                b"lt" => options.less = true,
                b"ch" => options.count_changed = true,
                _ => options.increment = true,
            }
            index += 1;
        }
        Ok((options, index))
    }

    /// The options, and where the scores begin.
    fn parse(call: &Call<'_>) -> Result<(Self, usize)> {
        let (options, index) = Self::flags(call, &[b"nx", b"xx", b"gt", b"lt", b"ch", b"incr"])?;
        let arguments = call.args.len() - index;
        if arguments == 0 || !arguments.is_multiple_of(2) {
            return Err(Error::Syntax);
        }
        if options.contradict() {
            return Err(Error::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if [options.greater, options.less, options.only_new].into_iter().filter(|set| *set).count() > 1 {
            return Err(Error::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if options.increment && arguments > 2 {
            return Err(Error::Text("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, index))
    }

    /// Whether members are to be only new ones and only old ones.
    pub fn contradict(&self) -> bool {
        self.only_new && self.only_old
    }

    /// The score that a member gets; `None` if it keeps what it has, or is not added.
    fn score(&self, before: Option<f64>, given: f64) -> Result<Option<f64>> {
        let Some(before) = before else { return Ok((!self.only_old).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increment { before + given } else { given };
        if score.is_nan() {
            return Err(Error::Text("ERR resulting score is not a number (NaN)"));
        }
        let refused = self.greater && score <= before || self.less && score >= before;
        Ok((!refused).then_some(score))
    }
}

/// The sorted set of a key, which is made if it is not there.
fn sorted_to_change(call: &mut Call<'_>, key: &[u8]) -> At {
    let new = SortedSet::new(call.store.hash_key());
    call.find_to_change(key).unwrap_or_else(|| call.insert(key, Value::SortedSet(Box::new(new))))
}

fn zadd(call: &mut Call<'_>) -> Result<Outcome> {
    let (options, first) = Options::parse(call)?;
    let mut members = Vec::with_capacity((call.args.len() - first) / 2);
    for index in (first..call.args.len()).step_by(2) {
        members.push((call.float(index)?, call.arg(index + 1)));
    }
    add(call, &options, members)
}

/// Gives members scores.
pub fn add(call: &mut Call<'_>, options: &Options, members: Vec<(f64, &[u8])>) -> Result<Outcome> {
    let key = call.arg(1);
    let at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).sorted()?;
    } else if options.only_old {
        if options.increment {
            call.reply.null()
        } else {
            call.reply.integer(0)
        }
        return Ok(Outcome::Done);
    }
    let (mut added, mut updated, mut last) = (0, 0, None);
    for (score, member) in members {
        let before = match call.find_quietly(key) {
            None => None,
            Some(at) => call.store.value(at).sorted()?.score(member),
        };
        last = options.score(before, score)?;
        let Some(score) = last else { continue };
        let at = sorted_to_change(call, key);
        let compact = call.store.compact;
        call.store.value_mut(at).sorted_mut()?.set(member, score, &compact);
        added += usize::from(before.is_none());
        updated += usize::from(before.is_some_and(|before| before != score));
    }
    if added + updated > 0 {
        let at = sorted_to_change(call, key);
        call.changed(at);
    }
    if added > 0 {
        call.ready(key);
    }
    match (options.increment, last) {
        (true, Some(score)) => call.reply.double(score),
        (true, None) => call.reply.null(),
        (false, _) => call.reply.count(added + if options.count_changed { updated } else { 0 }),
    }
    Ok(Outcome::Done)
}

fn zincrby(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, given, member) = (call.arg(1), call.float(2)?, call.arg(3));
    let before = match call.find_to_change(key) {
        None => None,
        Some(at) => call.store.value(at).sorted()?.score(member),
    };
    let score = before.unwrap_or(0.0) + given;
    if score.is_nan() {
        return Err(Error::Text("ERR resulting score is not a number (NaN)"));
    }
    let at = sorted_to_change(call, key);
    let compact = call.store.compact;
    call.store.value_mut(at).sorted_mut()?.set(member, score, &compact);
    call.changed(at);
    if before.is_none() {
        call.ready(key);
    }
    call.reply.double(score);
    call.log_instead(&[b"ZADD", key, format_f64(score).as_bytes(), member]);
    Ok(Outcome::Done)
}

fn zrem(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let sorted = call.store.value_mut(at).sorted_mut()?;
    let removed = call.args.from(2).filter(|member| sorted.remove(member).is_some()).count();
    if removed > 0 {
        call.changed(at);
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

/// The sorted set of a key that is read, if there is one.
pub fn sorted<'c>(call: &'c mut Call<'_>) -> Result<Option<&'c SortedSet>> {
    match call.find(call.arg(1)) {
        None => Ok(None),
        Some(at) => Ok(Some(call.store.value(at).sorted()?)),
    }
}

fn zcard(call: &mut Call<'_>) -> Result<Outcome> {
    let length = sorted(call)?.map_or(0, SortedSet::len);
    call.reply.count(length);
    Ok(Outcome::Done)
}

fn zscore(call: &mut Call<'_>) -> Result<Outcome> {
    let member = call.arg(2);
    match sorted(call)?.and_then(|sorted| sorted.score(member)) {
        Some(score) => call.reply.double(score),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

fn zmscore(call: &mut Call<'_>) -> Result<Outcome> {
    let members = call.args.from(2);
    let scores: Vec<Option<f64>> = match sorted(call)? {
        None => members.map(|_| None).collect(),
        Some(sorted) => members.map(|member| sorted.score(member)).collect(),
    };
    call.reply.array(scores.len());
    for score in scores {
        match score {
            Some(score) => call.reply.double(score),
            None => call.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

fn zrank(call: &mut Call<'_>, back: bool) -> Result<Outcome> {
    let member = call.arg(2);
    let rank = sorted(call)?.and_then(|sorted| {
        let rank = sorted.rank(member)?;
        Some(if back { sorted.len() - 1 - rank } else { rank })
    });
    match rank {
        Some(rank) => call.reply.count(rank),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

fn zcount(call: &mut Call<'_>) -> Result<Outcome> {
    let (least, greatest) = score_bounds(call.arg(2), call.arg(3))?;
    let count = sorted(call)?.map_or(0, |sorted| sorted.by_score(least, greatest).len());
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn zlexcount(call: &mut Call<'_>) -> Result<Outcome> {
    let (least, greatest) = (lex_bound(call.arg(2))?, lex_bound(call.arg(3))?);
    let count = sorted(call)?.map_or(0, |sorted| sorted.by_lex(least, greatest).len());
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn zrandmember(call: &mut Call<'_>) -> Result<Outcome> {
    let with_scores = match call.args.len() {
        2 | 3 => false,
        4 if call.arg(3).eq_ignore_ascii_case(b"withscores") => true,
        _ => return Err(Error::Syntax),
    };
    let count = if call.args.len() > 2 { Some(call.integer(2)?) } else { None };
    let wanted = many(count.unwrap_or(0), with_scores)?;
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.none_of(count.is_some());
        return Ok(Outcome::Done);
    };
    let mut random = call.store.random.clone();
    let sorted = call.store.value(at).sorted()?;
    let chosen: Vec<(Bytes, f64)> = match count {
        None => {
            call.reply.bulk(sorted.random(&mut random).0);
            call.store.random = random;
            return Ok(Outcome::Done);
        }
        Some(..0) => (0..wanted)
            .map(|_| {
                let (member, score) = sorted.random(&mut random);
                (member.clone(), score)
            })
            .collect(),
        Some(_) => {
            let mut ranks: Vec<usize> = (0..sorted.len()).collect();
            random.choose(&mut ranks, wanted);
            let pairs = ranks.into_iter().filter_map(|rank| sorted.at(rank));
            pairs.map(|(member, score)| (member.clone(), score)).collect()
        }
    };
    call.store.random = random;
    reply_pairs(call, &chosen, with_scores);
    Ok(Outcome::Done)
}

/// Replies with members, and their scores if they are wanted: in RESP3 each pair is an array.
pub fn reply_pairs(call: &mut Call<'_>, pairs: &[(Bytes, f64)], with_scores: bool) {
    begin_pairs(call, pairs.len(), with_scores);
    pairs.iter().for_each(|(member, score)| reply_pair(call, member, *score, with_scores));
}

/// Begins an array of so many members.
pub fn begin_pairs(call: &mut Call<'_>, count: usize, with_scores: bool) {
    let flat = with_scores && call.reply.protocol() == Protocol::Resp2;
    call.reply.array(count * if flat { 2 } else { 1 });
}

/// Replies with one member of such an array.
pub fn reply_pair(call: &mut Call<'_>, member: &[u8], score: f64, with_scores: bool) {
    if with_scores && call.reply.protocol() == Protocol::Resp3 {
        call.reply.array(2);
    }
    call.reply.bulk(member);
    if with_scores {
        call.reply.double(score);
    }
}

/// A score or a weight, which is a number.
pub fn number(text: &[u8], refusal: &'static str) -> Result<f64> {
    parse_f64(text).ok_or(Error::Text(refusal))
}

fn score_bound(text: &[u8]) -> Result<ScoreBound> {
    let (exclusive, text) = match text {
        [b'(', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    Ok(ScoreBound { score: number(text, "ERR min or max is not a float")?, exclusive })
}

/// A range of scores: `1.5`, `(1.5`, `-inf`.
pub fn score_bounds(least: &[u8], greatest: &[u8]) -> Result<(ScoreBound, ScoreBound)> {
    Ok((score_bound(least)?, score_bound(greatest)?))
}

/// An end of a range of strings: `[a`, `(a`, `-`, `+`.
pub fn lex_bound(text: &[u8]) -> Result<LexBound<'_>> {
    match text {
        b"-" => Ok(LexBound::Least),
        b"+" => Ok(LexBound::Greatest),
        [b'[', rest @ ..] => Ok(LexBound::Inclusive(rest)),
        [b'(', rest @ ..] => Ok(LexBound::Exclusive(rest)),
        _ => Err(Error::Text("ERR min or max not valid string range item")),
    }
}
