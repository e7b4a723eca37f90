//! How large a sample of a trace is, as the user says it: `1%`, `0.01`, `auto`, `blocks=8192`.

use libos_fs::cache::SampleLimit;
use std::str::FromStr;

/// Blocks that `auto` chooses at most.
const AUTO_BLOCKS: usize = 1 << 16;
/// References to each of them, on average, that are kept at most.
const REFERENCES_PER_BLOCK: usize = 256;
/// The fewest blocks that a sample says something with.
const FEWEST_BLOCKS: usize = 256;

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleSize(pub SampleLimit);

impl FromStr for SampleSize {
    type Err = String;

    fn from_str(text: &str) -> Result<SampleSize, String> {
        let within = |blocks: usize| SampleLimit::Memory {
            blocks,
            references: blocks.saturating_mul(REFERENCES_PER_BLOCK),
        };
        if text == "auto" {
            return Ok(SampleSize(within(AUTO_BLOCKS)));
        }
        if let Some(blocks) = text.strip_prefix("blocks=") {
            let blocks = blocks.parse().ok().filter(|blocks| (FEWEST_BLOCKS..1 << 32).contains(blocks));
            return blocks.map(|blocks| SampleSize(within(blocks))).ok_or_else(|| {
                format!("{text:?} is no number of blocks from {FEWEST_BLOCKS} on; write blocks=8192")
            });
        }
        let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let rate = number.parse::<f64>().ok().map(|number| number / unit);
        rate.filter(|rate| *rate > 0.0 && *rate <= 1.0)
            .map(|rate| SampleSize(SampleLimit::Rate(rate)))
            .ok_or_else(|| {
                format!(
                    "{text:?} is no sample; write a share of the blocks (1% or 0.01), auto, or blocks=8192"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_shares_or_numbers_of_blocks() {
        let limit = |text: &str| text.parse::<SampleSize>().map(|SampleSize(limit)| limit);
        assert_eq!(limit("0.01"), Ok(SampleLimit::Rate(0.01)));
        assert_eq!(limit("1%"), limit("0.01"));
        assert_eq!(limit("100%"), Ok(SampleLimit::Rate(1.0)));
        assert_eq!(limit("auto"), limit("blocks=65536"));
        assert_eq!(limit("blocks=1000"), Ok(SampleLimit::Memory { blocks: 1000, references: 256_000 }));
        for wrong in ["0", "1.5", "101%", "-1%", "NaN", "inf", "", "%", "blocks=", "blocks=1", "all"] {
            assert!(limit(wrong).unwrap_err().contains("write "), "{wrong}");
        }
    }
}
