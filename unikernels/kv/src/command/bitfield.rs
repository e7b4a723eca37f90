//! Whole numbers of any width in a string of bits.

use super::bits::bit_offset;
use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::value::Value;
use alloc::vec::Vec;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("bitfield", -2, WRITE | DENYOOM, Keys::Places(1, 1, 1), Group::Bitmap, bitfield),
    Command::data("bitfield_ro", -2, READONLY | FAST, Keys::Places(1, 1, 1), Group::Bitmap, bitfield),
];

/// What becomes of a number that is too large for its field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set,
    Increment,
}

#[derive(Clone, Copy)]
struct Step {
    action: Action,
    signed: bool,
    bits: u32,
    offset: usize,
    value: i64,
    overflow: Overflow,
}

/// Signed fields have up to 64 bits, unsigned ones up to 63.
fn field_type(text: &[u8]) -> Result<(bool, u32)> {
    let refusal =
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    let (signed, digits) = match text {
        [b'i', digits @ ..] => (true, digits),
        [b'u', digits @ ..] => (false, digits),
        _ => return Err(Error::Text(refusal)),
    };
    let bits = crate::number::parse_i64(digits).filter(|bits| (1..=63 + i64::from(signed)).contains(bits));
    Ok((signed, bits.ok_or(Error::Text(refusal))? as u32))
}

fn field_offset(call: &Call<'_>, text: &[u8], bits: u32) -> Result<usize> {
    let Some(number) = text.strip_prefix(b"#") else { return bit_offset(call, text) };
    let refusal = Error::Text("ERR bit offset is not an integer or out of range");
    let number = bit_offset(call, number)?;
    let offset = number.checked_mul(bits as usize).ok_or(refusal.clone())?;
    if offset >> 3 >= call.store.longest_string { Err(refusal) } else { Ok(offset) }
}

fn parse(call: &Call<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while let Some(word) = call.args.get(index) {
        let has = |more: usize| index + more < call.args.len();
        let (action, length) = match word.to_ascii_lowercase().as_slice() {
            b"get" if has(2) => (Action::Get, 3),
            b"set" if has(3) => (Action::Set, 4),
            b"incrby" if has(3) => (Action::Increment, 4),
            b"overflow" if has(1) => {
                overflow = match call.arg(index + 1).to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Error::Text("ERR Invalid OVERFLOW type specified")),
                };
                index += 2;
                continue;
            }
            _ => return Err(Error::Syntax),
        };
        let (signed, bits) = field_type(call.arg(index + 1))?;
        let offset = field_offset(call, call.arg(index + 2), bits)?;
        let value = if action == Action::Get { 0 } else { call.integer(index + 3)? };
        steps.push(Step { action, signed, bits, offset, value, overflow });
        index += length;
    }
    let writes = steps.iter().any(|step| step.action != Action::Get);
    if writes && call.command.name == "bitfield_ro" {
        return Err(Error::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(steps)
}

impl Step {
    fn read(&self, text: &[u8]) -> i64 {
        let mut value = 0u64;
        for bit in self.offset..self.offset + self.bits as usize {
            let byte = text.get(bit / 8).copied().unwrap_or(0);
            value = value << 1 | u64::from(byte >> (7 - bit % 8) & 1);
        }
        let unused = 64 - self.bits;
        if self.signed { (value << unused) as i64 >> unused } else { value as i64 }
    }

    fn write(&self, text: &mut [u8], value: i64) {
        for (place, bit) in (self.offset..self.offset + self.bits as usize).rev().enumerate() {
            let mask = 0x80 >> (bit % 8);
            let byte = &mut text[bit / 8];
            *byte = if value >> place & 1 == 1 { *byte | mask } else { *byte & !mask };
        }
    }

    /// A number in the field's range; `None` if it does not fit and that is a failure.
    fn fit(&self, value: i128) -> Option<i64> {
        let (least, greatest) = match self.signed {
            true => (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        };
        if (least..=greatest).contains(&value) {
            return Some(value as i64);
        }
        match self.overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(if value < least { least } else { greatest } as i64),
            Overflow::Wrap => {
                let unused = 64 - self.bits;
                let bits = (value as u64) << unused;
                Some(if self.signed { bits as i64 >> unused } else { (bits >> unused) as i64 })
            }
        }
    }

    /// What a number of the command stands for: all 64 bits without a sign where the field has none.
    fn operand(&self) -> i128 {
        if self.signed { i128::from(self.value) } else { i128::from(self.value as u64) }
    }
}

fn bitfield(call: &mut Call<'_>) -> Result<Outcome> {
    let steps = parse(call)?;
    let key = call.arg(1);
    let writes = steps.iter().filter(|step| step.action != Action::Get);
    let needed = writes.map(|step| (step.offset + step.bits as usize - 1) / 8 + 1).max();
    let mut at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).string()?;
    }
    if let Some(bytes) = needed {
        let place = at.unwrap_or_else(|| call.insert(key, Value::String(Bytes::new())));
        let text = call.store.value_mut(place).string_mut()?;
        if text.len() < bytes {
            text.resize(bytes);
        }
        at = Some(place);
    }
    call.reply.array(steps.len());
    for step in &steps {
        let before = match at {
            None => 0,
            Some(at) => step.read(call.store.value(at).string()?),
        };
        let after = match step.action {
            Action::Get => None,
            Action::Set => step.fit(step.operand()),
            Action::Increment => step.fit(i128::from(before) + i128::from(step.value)),
        };
        match (step.action, after) {
            (Action::Get, _) | (Action::Set, Some(_)) => call.reply.integer(before),
            (Action::Increment, Some(after)) => call.reply.integer(after),
            (_, None) => call.reply.null(),
        }
        if let (Some(after), Some(at)) = (after, at) {
            step.write(call.store.value_mut(at).string_mut()?.as_mut_slice(), after);
        }
    }
    if let (Some(at), Some(_)) = (at, needed) {
        call.changed(at);
    }
    Ok(Outcome::Done)
}
