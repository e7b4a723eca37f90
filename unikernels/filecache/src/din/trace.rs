//! Memory-reference traces in Dinero's `din` format.
//!
//! One reference a line: its kind, a space, its address in hexadecimal; whatever follows on the line is a
//! comment.
//!
//! ```text
//! 2 401a20     0: a load
//! 0 7ffe3a10   1: a store
//! 1 7ffe3a08   2: an instruction fetch
//! ```

use crate::lines;
use core::fmt;

/// What a reference does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Loads data.
    Load = 0,
    /// Stores data.
    Store = 1,
    /// Fetches an instruction.
    Fetch = 2,
}

/// Number of kinds in [`Kind`].
pub const KINDS: usize = 3;

/// A line that is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadReference {
    /// Line of the batch, counted from 0.
    pub line: usize,
}

impl fmt::Display for BadReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of a batch is no memory reference", self.line)
    }
}

/// What a byte means as a hexadecimal digit; 16 or more if it is none.
static DIGITS: [u8; 256] = digits();

const fn digits() -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        table[digit as usize] = value;
        table[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    table
}

/// Calls `reference` for each line of a batch of whole lines.
pub fn parse(batch: &[u8], mut reference: impl FnMut(Kind, u64)) -> Result<(), BadReference> {
    for (number, line) in lines::lines(batch).enumerate() {
        let bad = BadReference { line: number };
        let [kind, b' ', address @ ..] = line else { return Err(bad) };
        let kind = match kind {
            b'0' => Kind::Load,
            b'1' => Kind::Store,
            b'2' => Kind::Fetch,
            _ => return Err(bad),
        };
        let mut value = 0;
        let mut digits = 0;
        for byte in address {
            let digit = DIGITS[usize::from(*byte)];
            if digit > 15 {
                break;
            }
            value = value << 4 | u64::from(digit);
            digits += 1;
        }
        if digits == 0 || digits > 16 {
            return Err(bad);
        }
        reference(kind, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn references_are_read_and_nonsense_is_refused() {
        let mut seen = Vec::new();
        let text = b"2 401a20\n0 7FFE3A10 comment\n1 0\n2 ffffffffffffffff";
        assert_eq!(parse(text, |kind, address| seen.push((kind, address))), Ok(()));
        let expected =
            [(Kind::Fetch, 0x401a20), (Kind::Load, 0x7ffe_3a10), (Kind::Store, 0), (Kind::Fetch, u64::MAX)];
        assert_eq!(seen, expected);
        for bad in [&b"3 1"[..], b"2", b"2 ", b"2 x", b"20 1", b"", b"2 10000000000000000"] {
            let text = [b"2 1\n", bad, b"\n"].concat();
            assert_eq!(parse(&text, |_, _| ()), Err(BadReference { line: 1 }), "{bad:?}");
        }
    }
}
