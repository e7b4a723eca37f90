//! `LCS`: the longest text that two strings have in common, with gaps.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::parse_i64;
use alloc::vec::Vec;

/// The commands of this family.
pub static COMMANDS: &[Command] =
    &[Command::data("lcs", -3, READONLY, Keys::Places(1, 2, 1), Group::String, lcs)];

/// Lengths of what the beginnings of two strings have in common (R. A. Wagner and M. J. Fischer, "The
/// String-to-String Correction Problem", J. ACM 21(1), 1974).
struct Lengths {
    lengths: Vec<u32>,
    row: usize,
}

impl Lengths {
    fn of(one: &[u8], other: &[u8]) -> Lengths {
        let row = other.len() + 1;
        let mut lengths = alloc::vec![0_u32; (one.len() + 1) * row];
        for (i, byte) in one.iter().enumerate() {
            for (j, beside) in other.iter().enumerate() {
                lengths[(i + 1) * row + j + 1] = if byte == beside {
                    lengths[i * row + j] + 1
                } else {
                    lengths[i * row + j + 1].max(lengths[(i + 1) * row + j])
                };
            }
        }
        Lengths { lengths, row }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * self.row + j]
    }
}

/// Bytes that lie beside each other in both strings: where the last of them are, and how many.
#[derive(Clone, Copy)]
struct Match {
    ends: (usize, usize),
    bytes: usize,
}

/// The common text, backwards, and the matches that it has, the last first.
fn common(one: &[u8], other: &[u8], lengths: &Lengths) -> (Vec<u8>, Vec<Match>) {
    let (mut text, mut matches) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (one.len(), other.len());
    let mut open: Option<Match> = None;
    while i > 0 && j > 0 {
        if one[i - 1] == other[j - 1] {
            text.push(one[i - 1]);
            match &mut open {
                Some(open) => open.bytes += 1,
                None => open = Some(Match { ends: (i - 1, j - 1), bytes: 1 }),
            }
            (i, j) = (i - 1, j - 1);
            if i > 0 && j > 0 {
                continue;
            }
        } else if lengths.at(i - 1, j) > lengths.at(i, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
        matches.extend(open.take());
    }
    (text, matches)
}

/// What is wanted beside the text.
#[derive(Default)]
struct Options {
    length: bool,
    matches: bool,
    match_lengths: bool,
    least: i64,
}

impl Options {
    fn parse(call: &Call<'_>) -> Result<Options> {
        let mut options = Options::default();
        let mut index = 3;
        while let Some(word) = call.args.get(index) {
            match word.to_ascii_lowercase().as_slice() {
                b"len" => options.length = true,
                b"idx" => options.matches = true,
                b"withmatchlen" => options.match_lengths = true,
                b"minmatchlen" if index + 1 < call.args.len() => {
                    options.least = parse_i64(call.arg(index + 1)).ok_or(Error::NotAnInteger)?;
                    index += 1;
                }
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        if options.length && options.matches {
            return Err(Error::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

fn lcs(call: &mut Call<'_>) -> Result<Outcome> {
    let mut strings = [Bytes::new(), Bytes::new()];
    for (index, string) in strings.iter_mut().enumerate() {
        let Some(at) = call.find(call.arg(index + 1)) else { continue };
        let text = call.store.value(at).string();
        *string = text.map_err(|_| Error::Text("ERR The specified keys must contain string values"))?.clone();
    }
    let options = Options::parse(call)?;
    let [one, other] = &strings;
    let cells = (one.len() as u64 + 1) * (other.len() as u64 + 1);
    if cells.saturating_mul(size_of::<u32>() as u64) > call.store.longest_string as u64 {
        return Err(Error::Text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let lengths = Lengths::of(one, other);
    let length = lengths.at(one.len(), other.len()) as usize;
    if options.length {
        call.reply.count(length);
        return Ok(Outcome::Done);
    }
    let (mut text, mut matches) = common(one, other, &lengths);
    if !options.matches {
        text.reverse();
        call.reply.bulk(&text);
        return Ok(Outcome::Done);
    }
    matches.retain(|one| one.bytes as i64 >= options.least);
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(matches.len());
    for Match { ends, bytes } in matches {
        call.reply.array(2 + usize::from(options.match_lengths));
        for end in [ends.0, ends.1] {
            call.reply.array(2);
            call.reply.count(end + 1 - bytes);
            call.reply.count(end);
        }
        if options.match_lengths {
            call.reply.count(bytes);
        }
    }
    call.reply.bulk(b"len");
    call.reply.count(length);
    Ok(Outcome::Done)
}
