//! When keys expire.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::number::write_i64;
use crate::store::At;
use alloc::format;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const G: Group = Group::Generic;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("expire", -3, WRITE | FAST, ONE, G, |call| expire(call, Time::Seconds)),
    Command::data("pexpire", -3, WRITE | FAST, ONE, G, |call| expire(call, Time::Milliseconds)),
    Command::data("expireat", -3, WRITE | FAST, ONE, G, |call| expire(call, Time::AtSeconds)),
    Command::data("pexpireat", -3, WRITE | FAST, ONE, G, |call| expire(call, Time::AtMilliseconds)),
    Command::data("ttl", 2, READONLY | FAST, ONE, G, |call| left(call, Time::Seconds)),
    Command::data("pttl", 2, READONLY | FAST, ONE, G, |call| left(call, Time::Milliseconds)),
    Command::data("expiretime", 2, READONLY | FAST, ONE, G, |call| left(call, Time::AtSeconds)),
    Command::data("pexpiretime", 2, READONLY | FAST, ONE, G, |call| left(call, Time::AtMilliseconds)),
    Command::data("persist", 2, WRITE | FAST, ONE, G, persist),
];

/// How a time is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMilliseconds,
}

impl Time {
    /// What an option of `SET` stands for.
    pub fn named(word: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 4] = [
            (b"ex", Self::Seconds),
            (b"px", Self::Milliseconds),
            (b"exat", Self::AtSeconds),
            (b"pxat", Self::AtMilliseconds),
        ];
        names.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, time)| time)
    }

    fn is_relative(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds)
    }

    /// Milliseconds since 1970; `None` if that is too large, or too far in the past, for a number.
    fn to_ms(self, value: i64, now_ms: u64) -> Option<i64> {
        let unit = if matches!(self, Self::Seconds | Self::AtSeconds) { 1000 } else { 1 };
        let ms = value.checked_mul(unit)?;
        if self.is_relative() { ms.checked_add(now_ms as i64) } else { Some(ms) }
    }
}

/// An argument as the time at which something expires, in milliseconds since 1970; it must be positive.
pub fn expiry_ms(call: &Call<'_>, index: usize, time: Time) -> Result<u64> {
    let value = call.integer(index)?;
    let ms = time.to_ms(value, call.now_ms).filter(|_| value > 0);
    ms.map(|ms| ms as u64).ok_or(Error::InvalidExpiry(call.command.name))
}

/// Has a key expire, or removes it if that is over, and logs it with its time.
pub fn expire_at(call: &mut Call<'_>, at: At, key: &[u8], expires_ms: u64) {
    if expires_ms <= call.now_ms && !call.store.keep_expired {
        call.remove(at);
        call.log_instead(&[b"DEL", key]);
        return;
    }
    call.store.set_expiry(at, Some(expires_ms));
    call.effects.changes += 1;
    let mut time = Vec::new();
    write_i64(expires_ms as i64, &mut time);
    call.log_instead(&[b"PEXPIREAT", key, &time]);
}

/// On which conditions a key gets an expiry.
#[derive(Default)]
struct Conditions {
    if_none: bool,
    if_some: bool,
    if_greater: bool,
    if_less: bool,
}

impl Conditions {
    fn parse(call: &Call<'_>) -> Result<Self> {
        let mut conditions = Self::default();
        for word in call.args.from(3) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.if_none = true,
                b"xx" => conditions.if_some = true,
                b"gt" => conditions.if_greater = true,
                b"lt" => conditions.if_less = true,
                _ => {
                    let shown = super::error::shown(word);
                    return Err(Error::Composed(format!("ERR Unsupported option {shown}")));
                }
            }
        }
        if conditions.if_none && (conditions.if_some || conditions.if_greater || conditions.if_less) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(Error::Text(text));
        }
        if conditions.if_greater && conditions.if_less {
            return Err(Error::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Without an expiry a key lives for ever, which is longer than all.
    fn hold(&self, before: Option<u64>, after: i64) -> bool {
        let before = before.map(|ms| ms as i64);
        !(self.if_none && before.is_some()
            || self.if_some && before.is_none()
            || self.if_greater && before.is_none_or(|before| after <= before)
            || self.if_less && before.is_some_and(|before| after >= before))
    }
}

fn expire(call: &mut Call<'_>, time: Time) -> Result<Outcome> {
    let conditions = Conditions::parse(call)?;
    let value = call.integer(2)?;
    let ms = time.to_ms(value, call.now_ms).ok_or(Error::InvalidExpiry(call.command.name))?;
    let key = call.arg(1);
    let Some(at) = call.find_to_change(key) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    if !conditions.hold(call.store.expires_ms(at), ms) {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    expire_at(call, at, key, ms.max(0) as u64);
    call.reply.integer(1);
    Ok(Outcome::Done)
}

fn left(call: &mut Call<'_>, time: Time) -> Result<Outcome> {
    let expires_ms = match call.find(call.arg(1)) {
        None => {
            call.reply.integer(-2);
            return Ok(Outcome::Done);
        }
        Some(at) => call.store.expires_ms(at),
    };
    let Some(expires_ms) = expires_ms else {
        call.reply.integer(-1);
        return Ok(Outcome::Done);
    };
    let ms = if time.is_relative() { expires_ms.saturating_sub(call.now_ms) } else { expires_ms };
    call.reply.integer(match time {
        Time::Seconds | Time::AtSeconds => (ms as i64).saturating_add(500) / 1000,
        Time::Milliseconds | Time::AtMilliseconds => ms as i64,
    });
    Ok(Outcome::Done)
}

fn persist(call: &mut Call<'_>) -> Result<Outcome> {
    let at = call.find_to_change(call.arg(1)).filter(|at| call.store.expires_ms(*at).is_some());
    if let Some(at) = at {
        call.store.set_expiry(at, None);
        call.effects.changes += 1;
    }
    call.reply.integer(i64::from(at.is_some()));
    Ok(Outcome::Done)
}
