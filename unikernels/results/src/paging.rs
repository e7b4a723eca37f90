//! One program under one policy for pages.

use crate::Role;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

/// Value of [`PagingLine::bench`].
pub const BENCH_PAGING: &str = "paging";

/// The outcome of one program with more data than frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PagingLine {
    /// Kind of the line: [`BENCH_PAGING`].
    pub bench: String,
    /// Name of the program.
    pub program: String,
    /// Name of the policy as it was asked for: `default`, `own`, `lru`, …
    pub policy: String,
    /// Where that policy comes from.
    pub role: Role,
    /// Frames that the program's data may fill.
    pub frames: u64,
    /// Pages of the data.
    pub pages: u64,
    /// How many times the usual data that are. 0 in lines of earlier versions, which had no other.
    #[serde(default)]
    pub scale: u64,
    /// Page faults taken.
    pub faults: u64,
    /// Pages that came into memory, as zeros or from outside: the misses of the policy. On Linux, where pages
    /// can come ahead of their use: page faults that found the page outside, and pages made for the first
    /// time.
    pub misses: u64,
    /// Pages read from the disk.
    pub reads: u64,
    /// Requests in which they were read. Unknown on Linux.
    #[serde(default)]
    pub read_requests: u64,
    /// Pages among `reads` that were read before they were touched. Unknown on Linux.
    #[serde(default)]
    pub read_ahead: u64,
    /// Pages written to the disk.
    pub writes: u64,
    /// Requests in which they were written. Unknown on Linux.
    #[serde(default)]
    pub write_requests: u64,
    /// Time from the first access to the last, in milliseconds.
    pub elapsed_ms: f64,
    /// Digest of the result, in hexadecimal.
    pub digest: String,
    /// Number and digest of the page references, if they were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<u64>,
    /// Digest of the page references, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references_digest: Option<String>,
    /// Misses of a perfect policy on the same references (Belady). Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_misses: Option<u64>,
    /// Misses of the best fixed set of as many pages. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_misses: Option<u64>,
    /// What it ran on. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Accelerator of the emulator. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<String>,
    /// Whether the result was the expected one. Unknown to the guest.
    #[serde(default)]
    pub verified: bool,
}

impl PagingLine {
    /// The line as JSON, without a line feed.
    pub fn to_json_line(&self) -> String {
        // Strings and numbers into a string: nothing can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line that [`PagingLine::to_json_line`] made. `None` if it is of another kind.
    ///
    /// # Errors
    ///
    /// If it says that it is of this kind, but is not.
    pub fn parse(line: &str) -> Option<Result<PagingLine, String>> {
        let line = line.trim();
        if !line.starts_with("{\"bench\":\"paging\"") {
            return None;
        }
        Some(serde_json::from_str(line).map_err(|error| error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_the_console() {
        let line = PagingLine {
            bench: BENCH_PAGING.into(),
            program: "sort".into(),
            role: Role::Own,
            references: Some(7),
            ..PagingLine::default()
        };
        assert_eq!(PagingLine::parse(&line.to_json_line()), Some(Ok(line)));
        assert_eq!(PagingLine::parse("{\"bench\":\"compare\"}"), None);
        assert!(PagingLine::parse("{\"bench\":\"paging\"}").is_some_and(|line| line.is_err()));
    }
}
