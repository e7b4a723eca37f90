//! The scans: of keys, fields and members.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::glob;
use crate::number::{format_f64, parse_u64};
use alloc::format;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("scan", -2, READONLY, Keys::None, Group::Generic, scan),
    Command::data("hscan", -3, READONLY, ONE, Group::Hash, hscan),
    Command::data("sscan", -3, READONLY, ONE, Group::Set, sscan),
    Command::data("zscan", -3, READONLY, ONE, Group::SortedSet, zscan),
];

struct Options<'a> {
    cursor: u64,
    /// `None` if everything matches.
    pattern: Option<&'a [u8]>,
    count: usize,
    type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(call: &Call<'a>, cursor: usize, keys: bool) -> Result<Self> {
        let mut options = Self { cursor: 0, pattern: None, count: 10, type_name: None };
        options.cursor = parse_u64(call.arg(cursor)).ok_or(Error::Text("ERR invalid cursor"))?;
        let mut index = cursor + 1;
        while index < call.args.len() {
            let value = call.args.get(index + 1).ok_or(Error::Syntax)?;
            match call.arg(index).to_ascii_lowercase().as_slice() {
                b"count" => {
                    let count = call.integer(index + 1)?;
                    options.count =
                        usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Error::Syntax)?;
                }
                b"match" => options.pattern = Some(value).filter(|pattern| *pattern != b"*"),
                b"type" if keys => options.type_name = Some(value),
                _ => return Err(Error::Syntax),
            }
            index += 2;
        }
        Ok(options)
    }

    fn fits(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// Visits buckets until enough was found, or none is left, or many were empty. The next cursor.
    fn walk<T>(&self, found: &mut Vec<T>, mut bucket: impl FnMut(u64, &mut Vec<T>) -> u64) -> u64 {
        let mut cursor = self.cursor;
        for _ in 0..self.count.saturating_mul(10) {
            cursor = bucket(cursor, found);
            if cursor == 0 || found.len() >= self.count {
                break;
            }
        }
        cursor
    }
}

fn begin(call: &mut Call<'_>, cursor: u64) {
    call.reply.array(2);
    call.reply.bulk(format!("{cursor}").as_bytes());
}

fn scan(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call, 1, true)?;
    let mut found = Vec::new();
    let (store, database) = (&*call.store, call.database);
    let cursor = options.walk(&mut found, |cursor, found| store.scan(database, cursor, |at| found.push(at)));
    let keys: Vec<Bytes> = found.into_iter().map(|at| store.key(at).clone()).collect();
    begin(call, cursor);
    let later = call.reply.array_later();
    let mut count = 0;
    for key in keys {
        if !options.fits(&key) {
            continue;
        }
        let Some(at) = call.find_quietly(&key) else { continue };
        let name = call.store.value(at).type_name().as_bytes();
        if options.type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name)) {
            call.reply.bulk(&key);
            count += 1;
        }
    }
    call.reply.finish(later, count);
    Ok(Outcome::Done)
}

/// Replies with what was found: so many strings for each.
fn end(call: &mut Call<'_>, cursor: u64, found: &[(Bytes, Option<Bytes>)]) {
    begin(call, cursor);
    call.reply.array(found.iter().map(|(_, second)| 1 + usize::from(second.is_some())).sum());
    for (first, second) in found {
        call.reply.bulk(first);
        if let Some(second) = second {
            call.reply.bulk(second);
        }
    }
}

fn hscan(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call, 2, false)?;
    let (mut found, mut cursor) = (Vec::new(), 0);
    if let Some(at) = call.find(call.arg(1)) {
        let hash = call.store.value(at).hash()?;
        cursor = options.walk(&mut found, |cursor, found| {
            hash.scan(cursor, |field, value| found.push((field.clone(), Some(value.clone()))))
        });
    }
    found.retain(|(field, _)| options.fits(field));
    end(call, cursor, &found);
    Ok(Outcome::Done)
}

fn sscan(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call, 2, false)?;
    let (mut found, mut cursor) = (Vec::new(), 0);
    if let Some(at) = call.find(call.arg(1)) {
        let set = call.store.value(at).set()?;
        cursor = options
            .walk(&mut found, |cursor, found| set.scan(cursor, |member| found.push((member.clone(), None))));
    }
    found.retain(|(member, _)| options.fits(member));
    end(call, cursor, &found);
    Ok(Outcome::Done)
}

fn zscan(call: &mut Call<'_>) -> Result<Outcome> {
    let options = Options::parse(call, 2, false)?;
    let (mut found, mut cursor) = (Vec::new(), 0);
    if let Some(at) = call.find(call.arg(1)) {
        let sorted = call.store.value(at).sorted()?;
        cursor = options.walk(&mut found, |cursor, found| {
            sorted.scan(cursor, |member, score| {
                found.push((member.clone(), Some(Bytes::from(format_f64(score).as_bytes()))));
            })
        });
    }
    found.retain(|(member, _)| options.fits(member));
    end(call, cursor, &found);
    Ok(Outcome::Done)
}
