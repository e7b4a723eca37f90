//! Streams: entries that one consumer of a group takes over from another.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result, shown};
use super::group::{group, group_mut};
use super::read::{group_at, heard, log_claim};
use super::stream::{parse_id, parse_range, reply_entry, text};
use crate::bytes::Bytes;
use crate::number::parse_i64;
use crate::store::At;
use crate::value::Id;
use alloc::format;
use alloc::vec::Vec;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("xclaim", -6, WRITE | FAST, Keys::Places(1, 1, 1), Group::Stream, xclaim),
    Command::data("xautoclaim", -6, WRITE | FAST, Keys::Places(1, 1, 1), Group::Stream, xautoclaim),
];

/// How `XCLAIM` takes entries.
struct Claim {
    idle_ms: i64,
    delivered_ms: u64,
    deliveries: Option<u64>,
    force: bool,
    only_ids: bool,
    last: Option<Id>,
}

impl Claim {
    fn parse(call: &Call<'_>, ids: &mut Vec<Id>) -> Result<Self> {
        let refusal = Error::Text("ERR Invalid min-idle-time argument for XCLAIM");
        let idle_ms = parse_i64(call.arg(4)).ok_or(refusal)?.max(0);
        let (delivered_ms, now_ms) = (call.now_ms, call.now_ms as i64);
        let mut claim =
            Self { idle_ms, delivered_ms, deliveries: None, force: false, only_ids: false, last: None };
        let mut index = 5;
        while let Some(id) = call.args.get(index).and_then(|id| parse_id(id, 0).ok()) {
            ids.push(id);
            index += 1;
        }
        while let Some(word) = call.args.get(index) {
            let value = call.args.get(index + 1);
            match word.to_ascii_lowercase().as_slice() {
                b"force" => claim.force = true,
                b"justid" => claim.only_ids = true,
                b"idle" if value.is_some() => {
                    let refusal = Error::Text("ERR Invalid IDLE option argument for XCLAIM");
                    let idle = parse_i64(call.arg(index + 1)).ok_or(refusal)?;
                    claim.delivered_ms = now_ms.saturating_sub(idle).clamp(0, now_ms) as u64;
                    index += 1;
                }
                b"time" if value.is_some() => {
                    let refusal = Error::Text("ERR Invalid TIME option argument for XCLAIM");
                    let time = parse_i64(call.arg(index + 1)).ok_or(refusal)?;
                    claim.delivered_ms = if time < 0 { now_ms } else { time.min(now_ms) } as u64;
                    index += 1;
                }
                b"retrycount" if value.is_some() => {
                    let refusal = Error::Text("ERR Invalid RETRYCOUNT option argument for XCLAIM");
                    let count = parse_i64(call.arg(index + 1)).ok_or(refusal)?;
                    claim.deliveries = u64::try_from(count).ok();
                    index += 1;
                }
                b"lastid" if value.is_some() => {
                    claim.last = Some(parse_id(call.arg(index + 1), 0)?);
                    index += 1;
                }
                _ => {
                    let word = shown(word);
                    return Err(Error::Composed(format!("ERR Unrecognized XCLAIM option '{word}'")));
                }
            }
            index += 1;
        }
        Ok(claim)
    }
}

fn xclaim(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, name, consumer) = (call.arg(1), Bytes::from(call.arg(2)), call.arg(3));
    let at = group_at(call, key, &name)?.ok_or_else(|| {
        Error::Composed(format!("NOGROUP No such key '{}' or consumer group '{}'", shown(key), shown(&name)))
    })?;
    let mut ids = Vec::new();
    let claim = Claim::parse(call, &mut ids)?;
    if let Some(last) = claim.last {
        let group = group_mut(call, at, &name)?;
        if last > group.last {
            group.last = last;
            call.changed(at);
            call.log_instead(&[b"XGROUP", b"SETID", key, &name, text(last).as_bytes()]);
        }
    }
    let later = call.reply.array_later();
    let mut count = 0;
    for id in ids {
        count += usize::from(take(call, at, (key, &name, consumer), id, &claim)?);
    }
    call.reply.finish(later, count);
    Ok(Outcome::Done)
}

/// Gives an entry to a consumer, if it may have it, and replies with it. Whether it was given.
fn take(
    call: &mut Call<'_>,
    at: At,
    (key, name, consumer): (&[u8], &Bytes, &[u8]),
    id: Id,
    claim: &Claim,
) -> Result<bool> {
    let now_ms = call.now_ms;
    let exists = call.store.value(at).stream()?.get(id).is_some();
    let before = group(call, at, name)?.pending.get(&id).cloned();
    let replays = call.store.keep_expired;
    if !exists && !replays {
        if before.is_some() {
            group_mut(call, at, name)?.acknowledge(id);
            call.changed(at);
            call.log_instead(&[b"XACK", key, name, text(id).as_bytes()]);
        }
        return Ok(false);
    }
    let deliveries = match &before {
        None if !claim.force => return Ok(false),
        None => 0,
        Some(before) if (now_ms.saturating_sub(before.delivered_ms) as i64) < claim.idle_ms => {
            return Ok(false);
        }
        Some(before) => before.deliveries,
    };
    let deliveries = claim.deliveries.unwrap_or(if claim.only_ids { deliveries } else { deliveries + 1 });
    heard(call, at, key, name, consumer)?;
    group_mut(call, at, name)?.give(id, &Bytes::from(consumer), claim.delivered_ms, deliveries);
    call.changed(at);
    log_claim(call, (key, name, consumer), id, claim.delivered_ms, deliveries);
    if claim.only_ids {
        call.reply.bulk(text(id).as_bytes());
    } else if let Some(fields) = call.store.value(at).stream()?.get(id) {
        reply_entry(&mut call.reply, id, fields);
    }
    Ok(true)
}

fn xautoclaim(call: &mut Call<'_>) -> Result<Outcome> {
    let (key, name, consumer) = (call.arg(1), Bytes::from(call.arg(2)), call.arg(3));
    let refusal = Error::Text("ERR Invalid min-idle-time argument for XAUTOCLAIM");
    let idle_ms = parse_i64(call.arg(4)).ok_or(refusal)?.max(0);
    let (start, _) = parse_range(call.arg(5), b"+")?;
    let (mut most, mut only_ids) = (100, false);
    let mut index = 6;
    while let Some(word) = call.args.get(index) {
        if word.eq_ignore_ascii_case(b"count") && index + 1 < call.args.len() {
            let count = parse_i64(call.arg(index + 1)).filter(|count| (1..1 << 58).contains(count));
            most = count.ok_or(Error::Text("ERR COUNT must be > 0"))? as usize;
            index += 1;
        } else if word.eq_ignore_ascii_case(b"justid") {
            only_ids = true;
        } else {
            return Err(Error::Syntax);
        }
        index += 1;
    }
    let at = group_at(call, key, &name)?.ok_or_else(|| {
        Error::Composed(format!("NOGROUP No such key '{}' or consumer group '{}'", shown(key), shown(&name)))
    })?;
    let delivered_ms = call.now_ms;
    let claim = Claim { idle_ms, delivered_ms, deliveries: None, force: false, only_ids, last: None };
    // So many are looked at for each that is wanted.
    let looked: Vec<Id> = group(call, at, &name)?
        .pending
        .range(start..)
        .map(|(id, _)| *id)
        .take(most.saturating_mul(10).saturating_add(1))
        .collect();
    call.reply.array(3);
    let place = call.reply.position();
    let later = call.reply.array_later();
    let (mut count, mut seen, mut deleted) = (0, 0, Vec::new());
    while let Some(id) = looked.get(seen).filter(|_| count < most && seen < most.saturating_mul(10)) {
        if take(call, at, (key, &name, consumer), *id, &claim)? {
            count += 1;
        } else if !group(call, at, &name)?.pending.contains_key(id) {
            deleted.push(*id);
            // What was deleted counts as well.
            most -= 1;
        }
        seen += 1;
    }
    call.reply.finish(later, count);
    let next = looked.get(seen).copied().unwrap_or(Id::LEAST);
    call.reply.insert_bulk(place, text(next).as_bytes());
    call.reply.array(deleted.len());
    deleted.iter().for_each(|id| call.reply.bulk(text(*id).as_bytes()));
    Ok(Outcome::Done)
}
