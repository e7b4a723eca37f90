//! `SORT`: the elements of a list, a set or a sorted set in any order, with what other keys say of them.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::parse_f64;
use crate::value::{End, List, Value};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("sort", -2, WRITE | DENYOOM | MOVABLEKEYS, Keys::AndStored, Group::Generic, sort),
    Command::data("sort_ro", -2, READONLY | MOVABLEKEYS, Keys::Places(1, 1, 1), Group::Generic, sort),
];

#[derive(Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    store: Option<&'a [u8]>,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>) -> Result<Self> {
        let mut options = Self::default();
        let mut index = 2;
        while let Some(word) = call.args.get(index) {
            let has = |more: usize| index + more < call.args.len();
            index += match word.to_ascii_lowercase().as_slice() {
                b"asc" => {
                    options.descending = false;
                    1
                }
                b"desc" => {
                    options.descending = true;
                    1
                }
                b"alpha" => {
                    options.alpha = true;
                    1
                }
                b"limit" if has(2) => {
                    options.limit = Some((call.integer(index + 1)?, call.integer(index + 2)?));
                    3
                }
                b"store" if has(1) && call.command.name == "sort" => {
                    options.store = Some(call.arg(index + 1));
                    2
                }
                b"by" if has(1) => {
                    options.by = Some(call.arg(index + 1));
                    2
                }
                b"get" if has(1) => {
                    options.get.push(call.arg(index + 1));
                    2
                }
                _ => return Err(Error::Syntax),
            };
        }
        Ok(options)
    }
}

/// What a pattern gives for an element: the key in which the element takes the place of the star, or the
/// field of a hash (`key->field`).
fn look_up(call: &mut Call<'_>, pattern: &[u8], element: &Bytes) -> Option<Bytes> {
    if pattern == b"#" {
        return Some(element.clone());
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let arrow = pattern[star..].windows(2).position(|two| two == b"->").map(|place| place + star);
    let arrow = arrow.filter(|place| place + 2 < pattern.len());
    let key = [&pattern[..star], element, &pattern[star + 1..arrow.unwrap_or(pattern.len())]].concat();
    let at = call.find(&key)?;
    match arrow {
        Some(arrow) => call.store.value(at).hash().ok()?.get(&pattern[arrow + 2..]).cloned(),
        None => call.store.value(at).string().ok().cloned(),
    }
}

/// The elements of a key; whether they are in an order already.
fn elements(call: &mut Call<'_>, descending: bool) -> Result<(Vec<Bytes>, bool)> {
    let Some(at) = call.find(call.arg(1)) else { return Ok((Vec::new(), false)) };
    match call.store.value(at) {
        Value::List(list) => Ok((list.iter().cloned().collect(), false)),
        Value::Set(set) => Ok((set.members(), false)),
        Value::SortedSet(sorted) => {
            let mut members = Vec::new();
            sorted.visit(0..sorted.len(), descending, |member, _| members.push(member.clone()));
            Ok((members, true))
        }
        _ => Err(Error::WrongType),
    }
}

fn sort(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call)?;
    let unsorted = options.by.is_some_and(|by| !by.contains(&b'*'));
    let (mut list, ordered) = elements(call, options.descending && unsorted)?;
    let is_set = call.find_quietly(call.arg(1)).is_some_and(|at| call.store.value(at).set().is_ok());
    // What is stored must come out the same wherever it is done.
    let by_name = unsorted && is_set && options.store.is_some() && !ordered;
    if !unsorted || by_name {
        let by = options.by.filter(|_| !unsorted);
        list = in_order(call, list, by, options.alpha || by_name, options.descending)?;
    }
    let (start, count) = options.limit.unwrap_or((0, -1));
    let start = (start.max(0) as usize).min(list.len());
    let count = if count < 0 { list.len() } else { count as usize };
    let chosen = &list[start..list.len().min(start.saturating_add(count))];
    let mut found = Vec::new();
    for element in chosen {
        if options.get.is_empty() {
            found.push(Some(element.clone()));
        }
        for pattern in &options.get {
            found.push(look_up(call, pattern, element));
        }
    }
    match options.store {
        None => {
            call.reply.array(found.len());
            found.iter().for_each(|text| call.reply.bulk_or_null(text.as_ref().map(Bytes::as_slice)));
        }
        Some(key) => store(call, key, found),
    }
    Ok(Outcome::Done)
}

fn in_order(
    call: &mut Call<'_>,
    list: Vec<Bytes>,
    by: Option<&[u8]>,
    alpha: bool,
    descending: bool,
) -> Result<Vec<Bytes>> {
    let mut weighed = Vec::with_capacity(list.len());
    for element in list {
        let text = match by {
            Some(pattern) => look_up(call, pattern, &element),
            None => Some(element.clone()),
        };
        let number = match &text {
            Some(text) if !alpha => parse_f64(text),
            _ => Some(0.0),
        };
        let refusal = Error::Text("ERR One or more scores can't be converted into double");
        weighed.push((number.ok_or(refusal)?, text, element));
    }
    weighed.sort_by(|(number, text, element), (other_number, other_text, other)| {
        let order = if alpha {
            text.cmp(other_text)
        } else {
            // Elements of one weight stand in the order of their bytes, so that the result is always the
            // same.
            number.partial_cmp(other_number).unwrap_or(Ordering::Equal).then_with(|| element.cmp(other))
        };
        if descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, _, element)| element).collect())
}

fn store(call: &mut Call<'_>, key: &[u8], found: Vec<Option<Bytes>>) {
    let count = found.len();
    let mut list = List::default();
    found.into_iter().for_each(|text| list.push(End::Right, text.unwrap_or_default()));
    if count > 0 {
        call.set(key, Value::List(Box::new(list)));
        call.ready(key);
    } else if let Some(at) = call.find_to_change(key) {
        call.remove(at);
    }
    call.reply.count(count);
}
