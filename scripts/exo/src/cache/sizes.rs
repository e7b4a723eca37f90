//! Cache sizes as the user names them.

use crate::units::parse_size;
use hyperexo_abi::BLOCK_BYTES;
use std::str::FromStr;

/// One size, or several at equal distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// One.
    One(Size),
    /// From the first to the last, both included, so many in all.
    Range {
        /// The first.
        first: Size,
        /// The last.
        last: Size,
        /// How many, at least 2.
        count: u32,
    },
}

/// A size of a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// In blocks.
    Blocks(u64),
    /// In hundredths of the distinct blocks of the trace, rounded down.
    Percent(f64),
}

/// Most sizes of a range.
const MOST_SIZES: u32 = 10_000;

impl Size {
    /// Blocks for a trace with so many distinct ones; at least 1.
    pub fn blocks(self, distinct: usize) -> u64 {
        match self {
            Size::Blocks(blocks) => blocks,
            Size::Percent(percent) => (distinct as f64 * percent / 100.0) as u64,
        }
        .max(1)
    }
}

impl Sizes {
    /// All of them, in blocks.
    pub fn blocks(self, distinct: usize) -> Vec<u64> {
        match self {
            Sizes::One(size) => vec![size.blocks(distinct)],
            Sizes::Range { first, last, count } => {
                let (first, last) = (first.blocks(distinct), last.blocks(distinct));
                let (low, high) = (first.min(last), first.max(last));
                let steps = u128::from(count.max(2) - 1);
                // Between `low` and `high`, so it fits.
                let at = |step: u128| low + (u128::from(high - low) * step / steps) as u64;
                (0..=steps).map(at).collect()
            }
        }
    }
}

/// All sizes of a list in ascending order, each once.
pub fn ascending(list: &[Sizes], distinct: usize) -> Vec<u64> {
    let mut blocks: Vec<u64> = list.iter().flat_map(|sizes| sizes.blocks(distinct)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || {
            format!(
                "{text:?} is no size of a cache; write blocks (1000), a share of the distinct blocks (80%), or 64M"
            )
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.parse().map_err(|_| wrong())?;
            let sensible = percent > 0.0 && percent <= 1000.0;
            return sensible.then_some(Size::Percent(percent)).ok_or_else(wrong);
        }
        let blocks = if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map_err(|_| wrong())?
        } else {
            parse_size(text).map_err(|_| wrong())? / BLOCK_BYTES as u64
        };
        if blocks == 0 {
            return Err(format!("{text:?} is less than a block of {BLOCK_BYTES} bytes"));
        }
        Ok(Size::Blocks(blocks))
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let Some((first, rest)) = text.split_once("..") else { return text.parse().map(Sizes::One) };
        let wrong = || {
            format!(
                "{text:?} is no range of sizes; write FIRST..LAST:COUNT with a count from 2 to {MOST_SIZES}, such as \
                     1000..10000:10"
            )
        };
        let (last, count) = rest.split_once(':').ok_or_else(wrong)?;
        let count = count.parse().ok().filter(|count| (2..=MOST_SIZES).contains(count)).ok_or_else(wrong)?;
        Ok(Sizes::Range { first: first.parse()?, last: last.parse()?, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str, distinct: usize) -> Vec<u64> {
        let list: Vec<Sizes> = text.split(',').map(|word| word.parse().unwrap()).collect();
        ascending(&list, distinct)
    }

    #[test]
    fn blocks_shares_bytes_and_ranges() {
        assert_eq!(sizes("1000", 5), [1000]);
        assert_eq!(sizes("80%,0.1%", 1000), [1, 800]);
        assert_eq!(sizes("1M,8K", 5), [2, 256]);
        assert_eq!(sizes("1000..10000:10", 5), (1..=10).map(|k| k * 1000).collect::<Vec<_>>());
        assert_eq!(sizes("10%..100%:2,50,50", 500), [50, 500]);
        assert_eq!(sizes("1..18446744073709551615:2", 5), [1, u64::MAX]);
        assert_eq!(sizes("9..1:3", 5), [1, 5, 9]);
        assert_eq!(sizes("0.001%", 10), [1], "never nothing");
    }

    #[test]
    fn what_is_no_size_is_told() {
        for wrong in
            ["", "0", "0%", "-5", "x", "5%%", "1..2", "1..2:1", "1..2:99999", "1K", "NaN%", "inf%", "..:3"]
        {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
        assert!("99999999999999999999".parse::<Sizes>().unwrap_err().contains("no size"));
    }
}
