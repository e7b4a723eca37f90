//! HyperLogLogs.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::store::At;
use crate::value::Value;
use crate::value::hyperloglog::{self, Fault, Registers};

const ALL: Keys = Keys::Places(1, -1, 1);
const P: Group = Group::HyperLogLog;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("pfadd", -2, WRITE | DENYOOM | FAST, Keys::Places(1, 1, 1), P, pfadd),
    Command::data("pfcount", -2, READONLY, ALL, P, pfcount),
    Command::data("pfmerge", -2, WRITE | DENYOOM, ALL, P, pfmerge),
];

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Text(match fault {
            Fault::Other => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Fault::Corrupt => "INVALIDOBJ Corrupted HLL object detected",
        })
    }
}

/// The HyperLogLog of a key, in the dense form; it is made if it is not there. Whether it was made.
fn dense(call: &mut Call<'_>, key: &[u8]) -> Result<(At, bool)> {
    let Some(at) = call.find_to_change(key) else {
        return Ok((call.insert(key, Value::String(hyperloglog::empty())), true));
    };
    let text = call.store.value(at).string()?;
    hyperloglog::check(text)?;
    if !hyperloglog::is_dense(text) {
        let dense = Registers::read(text)?.to_bytes();
        call.store.replace(at, Value::String(dense));
    }
    Ok((at, false))
}

fn pfadd(call: &mut Call<'_>) -> Result<Outcome> {
    let (at, made) = dense(call, call.arg(1))?;
    let text = call.store.value_mut(at).string_mut()?.as_mut_slice();
    // Each has to be added: so no `any`.
    let changed = call.args.from(2).filter(|element| hyperloglog::add(text, element)).count() > 0;
    if changed {
        hyperloglog::set_cached(text, None);
        call.changed(at);
    }
    call.reply.integer(i64::from(changed || made));
    Ok(Outcome::Done)
}

/// What a key has seen; nothing, if it is not there.
fn registers(call: &mut Call<'_>, key: &[u8]) -> Result<Registers> {
    match call.find(key) {
        None => Ok(Registers::default()),
        Some(at) => Ok(Registers::read(call.store.value(at).string()?)?),
    }
}

fn pfcount(call: &mut Call<'_>) -> Result<Outcome> {
    let estimate = if call.args.len() > 2 {
        let mut all = Registers::default();
        for key in call.args.from(1) {
            all.merge(&registers(call, key)?);
        }
        all.estimate()
    } else {
        match call.find(call.arg(1)) {
            None => 0,
            Some(at) => {
                let text = call.store.value(at).string()?;
                hyperloglog::check(text)?;
                match hyperloglog::cached(text) {
                    Some(estimate) => estimate,
                    None => {
                        let estimate = Registers::read(text)?.estimate();
                        // A note in the margin, and no change of the key.
                        let text = call.store.value_mut(at).string_mut()?;
                        hyperloglog::set_cached(text.as_mut_slice(), Some(estimate));
                        estimate
                    }
                }
            }
        }
    };
    call.reply.integer(estimate as i64);
    Ok(Outcome::Done)
}

fn pfmerge(call: &mut Call<'_>) -> Result<Outcome> {
    let mut all = Registers::default();
    for key in call.args.from(1) {
        all.merge(&registers(call, key)?);
    }
    let key = call.arg(1);
    let (at, _) = dense(call, key)?;
    call.store.replace(at, Value::String(all.to_bytes()));
    call.effects.changes += 1;
    call.reply.ok();
    Ok(Outcome::Done)
}
