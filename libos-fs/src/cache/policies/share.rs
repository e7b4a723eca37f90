//! Parts of a cache, as parameters of policies name them.

use core::fmt;
use core::str::FromStr;

/// A part of the cache, or a multiple of it: `20%`, `2.5%`, `300%`, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    /// `u32::MAX`: no limit.
    millionths: u32,
}

/// Millionths of a hundredth.
const PERCENT: u32 = 10_000;

impl Share {
    /// More than any number of blocks.
    pub const UNLIMITED: Share = Share { millionths: u32::MAX };

    /// So many hundredths; [`Share::UNLIMITED`] if they are more than a share can have, 429,496.
    pub const fn percent(percent: u32) -> Share {
        Share { millionths: percent.saturating_mul(PERCENT) }
    }

    /// How many blocks this is of so many, rounded down.
    pub fn of(self, blocks: usize) -> usize {
        match self {
            Share::UNLIMITED => usize::MAX,
            Share { millionths } => {
                let blocks = (blocks as u64).saturating_mul(millionths.into()) / 1_000_000;
                usize::try_from(blocks).unwrap_or(usize::MAX)
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Share::UNLIMITED {
            return f.write_str("unlimited");
        }
        write!(f, "{}", self.millionths / PERCENT)?;
        let (mut rest, mut digit) = (self.millionths % PERCENT, PERCENT / 10);
        if rest > 0 {
            f.write_str(".")?;
        }
        while rest > 0 {
            write!(f, "{}", rest / digit)?;
            (rest, digit) = (rest % digit, digit / 10);
        }
        f.write_str("%")
    }
}

/// This is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoShare;

impl fmt::Display for NoShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no share of the cache; write 20%, 2.5%, 300% or unlimited")
    }
}

impl core::error::Error for NoShare {}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Share, NoShare> {
        if text == "unlimited" {
            return Ok(Share::UNLIMITED);
        }
        let number = text.strip_suffix('%').ok_or(NoShare)?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(rest) || rest.len() > 4 {
            return Err(NoShare);
        }
        let whole = whole.parse::<u32>().ok().and_then(|whole| whole.checked_mul(PERCENT)).ok_or(NoShare)?;
        let scale = 10_u32.pow(4 - rest.len() as u32);
        let rest = rest.parse::<u32>().map_err(|_| NoShare)? * scale;
        whole
            .checked_add(rest)
            .filter(|sum| *sum < u32::MAX)
            .map(|millionths| Share { millionths })
            .ok_or(NoShare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn shares_survive_text() {
        for text in ["0%", "1%", "2.5%", "0.0001%", "33.3333%", "200%", "unlimited"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for wrong in ["", "%", "20", "-1%", ".5%", "1.%", "1.00001%", "429497%", "4294967.295%", "x", "1e2%"]
        {
            assert_eq!(wrong.parse::<Share>(), Err(NoShare), "{wrong}");
        }
    }

    #[test]
    fn parts_are_rounded_down() {
        for blocks in (0..3000).chain([1 << 30, (1 << 40) + 7]) {
            assert_eq!(Share::percent(1).of(blocks), blocks / 100);
            assert_eq!(Share::percent(10).of(blocks), blocks / 10);
            assert_eq!(Share::percent(25).of(blocks), blocks / 4);
            assert_eq!(Share::percent(50).of(blocks), blocks / 2);
            assert_eq!(Share::percent(80).of(blocks), blocks * 4 / 5);
            assert_eq!(Share::percent(90).of(blocks), blocks * 9 / 10);
            assert_eq!(Share::percent(100).of(blocks), blocks);
            assert_eq!(Share::percent(200).of(blocks), blocks * 2);
        }
        assert_eq!(Share::UNLIMITED.of(1), usize::MAX);
    }
}
