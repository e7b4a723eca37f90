//! Strings.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::value::Value;

const ONE: Keys = Keys::Places(1, 1, 1);

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("get", 2, READONLY | FAST, ONE, Group::String, get),
    Command::data("set", -3, WRITE | DENYOOM, ONE, Group::String, set),
];

fn get(call: &mut Call<'_>) -> Result<Outcome> {
    match call.find(call.arg(1)) {
        None => call.reply.null(),
        Some(at) => call.reply.bulk(call.store.value(at).string()?),
    }
    Ok(Outcome::Done)
}

fn set(call: &mut Call<'_>) -> Result<Outcome> {
    if call.args.len() > 3 {
        return Err(Error::Syntax);
    }
    call.set(call.arg(1), Value::String(Bytes::from(call.arg(2))));
    call.reply.ok();
    Ok(Outcome::Done)
}
