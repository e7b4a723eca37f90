//! Bits of strings. Bit 0 is the highest of the first byte.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::value::Value;
use alloc::vec;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const B: Group = Group::Bitmap;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("setbit", 4, WRITE | DENYOOM, ONE, B, setbit),
    Command::data("getbit", 3, READONLY | FAST, ONE, B, getbit),
    Command::data("bitcount", -2, READONLY, ONE, B, bitcount),
    Command::data("bitpos", -3, READONLY, ONE, B, bitpos),
    Command::data("bitop", -4, WRITE | DENYOOM, Keys::Places(2, -1, 1), B, bitop),
];

/// The offset of a bit; none is beyond the longest string.
pub fn bit_offset(call: &Call<'_>, text: &[u8]) -> Result<usize> {
    let refusal = Error::Text("ERR bit offset is not an integer or out of range");
    let offset = crate::number::parse_i64(text).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset >> 3 < call.store.longest_string).ok_or(refusal)
}

fn setbit(call: &mut Call<'_>) -> Result<Outcome> {
    let key = call.arg(1);
    let offset = bit_offset(call, call.arg(2))?;
    let bit = match call.arg(3) {
        b"0" => 0,
        b"1" => 1,
        _ => return Err(Error::Text("ERR bit is not an integer or out of range")),
    };
    let at = call.find_to_change(key);
    if let Some(at) = at {
        call.store.value(at).string()?;
    }
    let at = at.unwrap_or_else(|| call.insert(key, Value::String(Bytes::new())));
    let text = call.store.value_mut(at).string_mut()?;
    let (byte, mask) = (offset / 8, 0x80 >> (offset % 8));
    if text.len() <= byte {
        text.resize(byte + 1);
    }
    let place = &mut text.as_mut_slice()[byte];
    let before = *place & mask != 0;
    *place = if bit == 1 { *place | mask } else { *place & !mask };
    call.changed(at);
    call.reply.integer(i64::from(before));
    Ok(Outcome::Done)
}

fn getbit(call: &mut Call<'_>) -> Result<Outcome> {
    let offset = bit_offset(call, call.arg(2))?;
    let bit = match call.find(call.arg(1)) {
        None => false,
        Some(at) => is_set(call.store.value(at).string()?, offset),
    };
    call.reply.integer(i64::from(bit));
    Ok(Outcome::Done)
}

fn is_set(text: &[u8], bit: usize) -> bool {
    text.get(bit / 8).is_some_and(|byte| byte & 0x80 >> (bit % 8) != 0)
}

/// A range of bits that arguments name, from `index` on; `None` if it is empty. The flag says whether its end
/// was named.
fn range(call: &Call<'_>, index: usize, bytes: usize) -> Result<Option<(usize, usize)>> {
    let mut unit = 8;
    if let Some(word) = call.args.get(index + 2) {
        unit = match word.to_ascii_lowercase().as_slice() {
            b"byte" => 8,
            b"bit" => 1,
            _ => return Err(Error::Syntax),
        };
    }
    let start = if call.args.len() > index { call.integer(index)? } else { 0 };
    let end = if call.args.len() > index + 1 { call.integer(index + 1)? } else { -1 };
    let length = (bytes * 8 / unit) as i64;
    if start < 0 && end < 0 && start > end {
        return Ok(None);
    }
    let from_end = |index: i64| if index < 0 { (index + length).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end {
        return Ok(None);
    }
    Ok(Some((start as usize * unit, (end as usize + 1) * unit)))
}

fn bitcount(call: &mut Call<'_>) -> Result<Outcome> {
    let Some(at) = call.find(call.arg(1)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let text = call.store.value(at).string()?;
    if call.args.len() == 3 || call.args.len() > 5 {
        return Err(Error::Syntax);
    }
    let count = match range(call, 2, text.len())? {
        None => 0,
        Some((start, end)) => count_bits(text, start, end),
    };
    call.reply.count(count);
    Ok(Outcome::Done)
}

fn count_bits(text: &[u8], start: usize, end: usize) -> usize {
    let (first, last) = (start / 8, (end - 1) / 8);
    let mut count: usize = text[first..=last].iter().map(|byte| byte.count_ones() as usize).sum();
    count -= (first * 8..start).filter(|bit| is_set(text, *bit)).count();
    count -= (end..(last + 1) * 8).filter(|bit| is_set(text, *bit)).count();
    count
}

fn bitpos(call: &mut Call<'_>) -> Result<Outcome> {
    let wanted = match call.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::Text("ERR The bit argument must be 1 or 0.")),
    };
    let Some(at) = call.find(call.arg(1)) else {
        // What is not there is a string of zeros.
        call.reply.integer(if wanted { -1 } else { 0 });
        return Ok(Outcome::Done);
    };
    let text = call.store.value(at).string()?;
    if call.args.len() > 6 {
        return Err(Error::Syntax);
    }
    let Some((start, end)) = range(call, 3, text.len())? else {
        call.reply.integer(-1);
        return Ok(Outcome::Done);
    };
    let found = find_bit(text, wanted, start, end);
    // Behind a string whose end was not named are zeros.
    let beyond = !wanted && call.args.len() < 5;
    call.reply.integer(match found {
        Some(bit) => bit as i64,
        None if beyond => (text.len() * 8) as i64,
        None => -1,
    });
    Ok(Outcome::Done)
}

fn find_bit(text: &[u8], wanted: bool, start: usize, end: usize) -> Option<usize> {
    let skipped = if wanted { 0 } else { 0xff };
    let mut bit = start;
    while bit < end {
        if bit.is_multiple_of(8) && text[bit / 8] == skipped {
            bit += 8;
        } else if is_set(text, bit) == wanted {
            return Some(bit);
        } else {
            bit += 1;
        }
    }
    None
}

fn bitop(call: &mut Call<'_>) -> Result<Outcome> {
    let combine: fn(u8, u8) -> u8 = match call.arg(1).to_ascii_lowercase().as_slice() {
        b"and" => |a, b| a & b,
        b"or" => |a, b| a | b,
        b"xor" => |a, b| a ^ b,
        b"not" if call.args.len() == 4 => |a, _| a,
        b"not" => return Err(Error::Text("ERR BITOP NOT must be called with a single source key.")),
        _ => return Err(Error::Syntax),
    };
    let mut sources: Vec<Bytes> = Vec::new();
    for key in call.args.from(3) {
        let at = call.find_quietly(key);
        sources.push(match at {
            None => Bytes::new(),
            Some(at) => call.store.value(at).string()?.clone(),
        });
    }
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = vec![0; length];
    result[..sources[0].len()].copy_from_slice(&sources[0]);
    if call.arg(1).eq_ignore_ascii_case(b"not") {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for source in &sources[1..] {
        let bytes = source.iter().copied().chain(core::iter::repeat(0));
        result.iter_mut().zip(bytes).for_each(|(own, other)| *own = combine(*own, other));
    }
    let key = call.arg(2);
    if length > 0 {
        call.set(key, Value::String(Bytes::from(result)));
    } else if let Some(at) = call.find_to_change(key) {
        call.remove(at);
    }
    call.reply.count(length);
    Ok(Outcome::Done)
}
