//! Numbers as people write and read them: `64M`, `FIRST+COUNT`, thousands apart.

use hyperexo_abi::BLOCK_BYTES;

/// Reads a size: a number of bytes, or with suffix `K`, `M`, `G` (powers of 1024; an added `iB` or `B` is
/// allowed).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, suffix) = trimmed.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a size; write it like 4096, 512K, 64M or 1G"))?;
    let shift = match suffix.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err(format!("{text:?} is not a size: unknown unit {suffix:?}; there are K, M and G")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

/// A run of disk blocks, `FIRST+COUNT`; `FIRST+` reaches to the end of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First block.
    pub first: u64,
    /// Number of blocks, [`hyperexo_abi::ANY`] for all that follow.
    pub count: u64,
}

impl Extent {
    /// The whole disk.
    pub const ALL: Extent = Extent { first: 0, count: hyperexo_abi::ANY };
}

impl std::str::FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Extent, String> {
        let wrong =
            || format!("{text:?} is not a run of blocks; write FIRST+COUNT in blocks of {BLOCK_BYTES} bytes");
        let (first, count) = text.split_once('+').ok_or_else(wrong)?;
        let first = first.parse().map_err(|_| wrong())?;
        let count = if count.is_empty() { hyperexo_abi::ANY } else { count.parse().map_err(|_| wrong())? };
        if count == 0 {
            return Err(format!("{text:?}: a run of no blocks"));
        }
        Ok(Extent { first, count })
    }
}

/// A size for people: `12.3 KiB`.
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A number with its thousands apart: `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A word as a POSIX shell wants it.
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Middle of a sorted list (mean of the two middle ones); 0 for an empty one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// A fraction as a percentage with its sign.
pub fn signed_percent(fraction: f64) -> String {
    format!("{:+.1} %", fraction * 100.0).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("3k"), Ok(3072));
        for wrong in ["", "M", "12X", "-1", "99999999999G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn extents() {
        assert_eq!("8+16".parse(), Ok(Extent { first: 8, count: 16 }));
        assert_eq!("8+".parse(), Ok(Extent { first: 8, count: hyperexo_abi::ANY }));
        for wrong in ["8", "+4", "a+1", "1+0", "1+-1"] {
            assert!(wrong.parse::<Extent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_quote("file=/a/b.img,format=raw"), "file=/a/b.img,format=raw");
        assert_eq!(shell_quote("end=halt x=1"), "'end=halt x=1'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
        assert_eq!(shell_quote(""), "''");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0]), 2.5);
    }
}
