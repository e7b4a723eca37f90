//! How large a cache is, against the data.

use crate::catalogue::Workload;
use core::fmt;
use core::str::FromStr;

/// Size of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// In hundredths of the workload's data, rounded down to whole blocks.
    Percent(u64),
    /// In blocks.
    Blocks(u64),
    /// The share of the data that a cache of so many tenths of a megabyte was in the measurements of the
    /// paper the workload comes from; see [`Workload::paper_data`].
    Paper(u64),
}

impl CacheSize {
    /// The caches of P. Cao et al., OSDI 1994: 6.4, 8, 12 and 16 MB.
    pub const PAPER: [CacheSize; 4] =
        [CacheSize::Paper(64), CacheSize::Paper(80), CacheSize::Paper(120), CacheSize::Paper(160)];

    /// Blocks, for a workload with so many blocks of data; at least 1.
    pub fn blocks(self, workload: Workload, data_blocks: u64) -> u64 {
        match self {
            CacheSize::Percent(percent) => data_blocks.saturating_mul(percent) / 100,
            CacheSize::Blocks(blocks) => blocks,
            CacheSize::Paper(tenths) => data_blocks.saturating_mul(tenths) / workload.paper_data(),
        }
        .max(1)
    }
}

/// Not a number of blocks, not a share, not a size in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCacheSize;

impl fmt::Display for BadCacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "must be a number of blocks like 800, a share of the data like 80%, or paper:6.4 for the share that \
             6.4 MB were in the paper; not 0",
        )
    }
}

impl core::error::Error for BadCacheSize {}

impl FromStr for CacheSize {
    type Err = BadCacheSize;

    fn from_str(text: &str) -> Result<CacheSize, BadCacheSize> {
        if let Some(megabytes) = text.strip_prefix("paper:") {
            return tenths(megabytes).map(CacheSize::Paper).ok_or(BadCacheSize);
        }
        let (number, size): (&str, fn(u64) -> CacheSize) = match text.strip_suffix('%') {
            Some(number) => (number, CacheSize::Percent),
            None => (text, CacheSize::Blocks),
        };
        match number.parse() {
            Ok(number) if number > 0 => Ok(size(number)),
            _ => Err(BadCacheSize),
        }
    }
}

/// A positive decimal number with at most one digit after its point, times ten.
fn tenths(text: &str) -> Option<u64> {
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let tenth = tenth.parse::<u64>().ok().filter(|digit| *digit < 10)?;
    let tenths = whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(tenth)?;
    (tenths > 0).then_some(tenths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood_or_refused() {
        for (text, size) in [
            ("800", CacheSize::Blocks(800)),
            ("80%", CacheSize::Percent(80)),
            ("paper:6.4", CacheSize::Paper(64)),
            ("paper:16", CacheSize::Paper(160)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
        for text in ["0", "0%", "many", "paper:", "paper:0", "paper:6.44", "paper:-1", "paper:6.4%"] {
            assert_eq!(text.parse::<CacheSize>(), Err(BadCacheSize), "{text}");
        }
    }

    #[test]
    fn shares_are_those_of_the_paper() {
        // din: a trace of 8 MB.
        assert_eq!(CacheSize::Paper(64).blocks(Workload::Din, 1000), 800);
        assert_eq!(CacheSize::Paper(160).blocks(Workload::Din, 1000), 2000);
        assert_eq!(CacheSize::Percent(1).blocks(Workload::Din, 10), 1, "at least a block");
    }
}
