//! Sorted sets: ranges by rank, by score, or by the members' bytes.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use super::list::index_range;
use super::sorted::{begin_pairs, lex_bound, reply_pair, score_bounds};
use crate::store::At;
use crate::value::{LexBound, ScoreBound, SortedSet, Value};
use alloc::boxed::Box;
use core::ops::Range;

const ONE: Keys = Keys::Places(1, 1, 1);
const Z: Group = Group::SortedSet;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("zrange", -4, READONLY, ONE, Z, |call| range(call, Form::new(By::Rank, false), 1)),
    Command::data("zrangestore", -5, WRITE | DENYOOM, Keys::Places(1, 2, 1), Z, |call| {
        range(call, Form::new(By::Rank, false), 2)
    }),
    Command::data("zrevrange", -4, READONLY, ONE, Z, |call| range(call, Form::new(By::Rank, true), 1)),
    Command::data("zrangebyscore", -4, READONLY, ONE, Z, |call| range(call, Form::new(By::Score, false), 1)),
    Command::data("zrevrangebyscore", -4, READONLY, ONE, Z, |call| {
        range(call, Form::new(By::Score, true), 1)
    }),
    Command::data("zrangebylex", -4, READONLY, ONE, Z, |call| range(call, Form::new(By::Lex, false), 1)),
    Command::data("zrevrangebylex", -4, READONLY, ONE, Z, |call| range(call, Form::new(By::Lex, true), 1)),
    Command::data("zremrangebyrank", 4, WRITE, ONE, Z, |call| remove(call, By::Rank)),
    Command::data("zremrangebyscore", 4, WRITE, ONE, Z, |call| remove(call, By::Score)),
    Command::data("zremrangebylex", 4, WRITE, ONE, Z, |call| remove(call, By::Lex)),
];

/// What a range is one of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// How a range is asked for.
struct Form {
    by: By,
    back: bool,
    with_scores: bool,
    limit: Option<(i64, i64)>,
}

/// The ends of a range.
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound<'a>, LexBound<'a>),
}

impl<'a> Ends<'a> {
    fn parse(call: &Call<'a>, index: usize, by: By, back: bool) -> Result<Self> {
        // Whoever asks from the end names the greatest first, but for ranks.
        let (least, greatest) = match (by, back) {
            (By::Rank, _) | (_, false) => (index, index + 1),
            _ => (index + 1, index),
        };
        Ok(match by {
            By::Rank => Self::Rank(call.integer(least)?, call.integer(greatest)?),
            By::Score => {
                let (least, greatest) = score_bounds(call.arg(least), call.arg(greatest))?;
                Self::Score(least, greatest)
            }
            By::Lex => Self::Lex(lex_bound(call.arg(least))?, lex_bound(call.arg(greatest))?),
        })
    }

    /// The ranks, from the beginning of the set on.
    fn ranks(&self, sorted: &SortedSet, back: bool) -> Range<usize> {
        match self {
            Self::Rank(start, end) => {
                let range = index_range(*start, *end, sorted.len());
                if back && !range.is_empty() {
                    sorted.len() - range.end..sorted.len() - range.start
                } else {
                    range
                }
            }
            Self::Score(least, greatest) => sorted.by_score(*least, *greatest),
            Self::Lex(least, greatest) => sorted.by_lex(*least, *greatest),
        }
    }
}

impl Form {
    fn new(by: By, back: bool) -> Self {
        Self { by, back, with_scores: false, limit: None }
    }

    /// Reads the options that follow a range.
    fn options(mut self, call: &Call<'_>, index: usize) -> Result<Self> {
        let name = call.command.name;
        let (any, store) = (matches!(name, "zrange" | "zrangestore"), name == "zrangestore");
        let mut index = index;
        while let Some(word) = call.args.get(index) {
            match word.to_ascii_lowercase().as_slice() {
                b"withscores" if !store => self.with_scores = true,
                b"limit" if index + 2 < call.args.len() => {
                    self.limit = Some((call.integer(index + 1)?, call.integer(index + 2)?));
                    index += 2;
                }
                b"rev" if any && !self.back => self.back = true,
                b"byscore" if any && self.by == By::Rank => self.by = By::Score,
                b"bylex" if any && self.by == By::Rank => self.by = By::Lex,
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        if self.by == By::Rank && self.limit.is_some_and(|(_, count)| count != -1) {
            return Err(Error::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if self.by == By::Lex && self.with_scores {
            return Err(Error::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        Ok(self)
    }

    /// What is left of a range of ranks by the limit, which counts from where the reply begins.
    fn limited(&self, ranks: Range<usize>) -> Range<usize> {
        let Some((offset, count)) = self.limit else { return ranks };
        let Ok(offset) = usize::try_from(offset) else { return 0..0 };
        let offset = offset.min(ranks.len());
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranks.len() - offset);
        if self.back {
            let end = ranks.end - offset;
            end - count..end
        } else {
            let start = ranks.start + offset;
            start..start + count
        }
    }
}

/// `key` is the argument that names the set.
fn range(call: &mut Call<'_>, form: Form, key: usize) -> Result<Outcome> {
    let form = form.options(call, key + 3)?;
    let ends = Ends::parse(call, key + 1, form.by, form.back)?;
    let at = call.find(call.arg(key));
    let ranks = match at {
        None => 0..0,
        Some(at) => {
            let sorted = call.store.value(at).sorted()?;
            form.limited(ends.ranks(sorted, form.back))
        }
    };
    match (key, at) {
        (1, None) => call.reply.array(0),
        (1, Some(at)) => reply(call, at, ranks, &form)?,
        (_, at) => store(call, at, ranks)?,
    }
    Ok(Outcome::Done)
}

fn reply(call: &mut Call<'_>, at: At, ranks: Range<usize>, form: &Form) -> Result<()> {
    begin_pairs(call, ranks.len(), form.with_scores);
    let mut found = alloc::vec::Vec::with_capacity(ranks.len());
    let sorted = call.store.value(at).sorted()?;
    if form.with_scores {
        sorted.visit(ranks, form.back, |member, score| found.push((member.clone(), score)));
        found.iter().for_each(|(member, score)| reply_pair(call, member, *score, true));
    } else {
        sorted.visit(ranks, form.back, |member, _| call.reply.bulk(member));
    }
    Ok(())
}

fn store(call: &mut Call<'_>, at: Option<At>, ranks: Range<usize>) -> Result<()> {
    let mut result = SortedSet::new(call.store.hash_key());
    let compact = call.store.compact;
    if let Some(at) = at {
        let sorted = call.store.value(at).sorted()?;
        sorted.visit(ranks, false, |member, score| {
            result.set(member, score, &compact);
        });
    }
    store_sorted(call, call.arg(1), result);
    Ok(())
}

/// Stores a result under a key, or removes the key if it is empty, and replies with the number of members.
pub fn store_sorted(call: &mut Call<'_>, key: &[u8], result: SortedSet) {
    let count = result.len();
    if count > 0 {
        call.set(key, Value::SortedSet(Box::new(result)));
        call.ready(key);
    } else if let Some(at) = call.find_to_change(key) {
        call.remove(at);
    }
    call.reply.count(count);
}

fn remove(call: &mut Call<'_>, by: By) -> Result<Outcome> {
    let ends = Ends::parse(call, 2, by, false)?;
    let Some(at) = call.find_to_change(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let sorted = call.store.value_mut(at).sorted_mut()?;
    let ranks = ends.ranks(sorted, false);
    ranks.clone().for_each(|_| drop(sorted.remove_at(ranks.start)));
    if !ranks.is_empty() {
        call.changed(at);
    }
    call.reply.count(ranks.len());
    Ok(Outcome::Done)
}
