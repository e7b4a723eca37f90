//! One workload under one cache policy.

use crate::point_reads::PointReads;
use alloc::string::{String, ToString};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Value of [`CompareLine::bench`].
pub const BENCH_COMPARE: &str = "compare";

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the library operating system does when it is told nothing.
    Default,
    /// What the application chose for itself.
    Own,
    /// Forced from outside, to compare with.
    #[default]
    Other,
    /// Another operating system's, under the same program.
    Peer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Default => "default",
            Role::Own => "own",
            Role::Other => "other",
            Role::Peer => "peer",
        })
    }
}

/// The outcome of one workload under one cache policy.
///
/// Counts of blocks and requests cover the workload alone, from its first to its last access including the
/// write-back of what it wrote; mounting the volume is counted apart, in [`CompareLine::mount_reads`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompareLine {
    /// Kind of the line: [`BENCH_COMPARE`].
    pub bench: String,
    /// Name of the workload: `cs`, `din`, `sort`.
    pub workload: String,
    /// Name of the cache policy as it was asked for: `default`, `own`, `lru`, `mru`, `fifo`, `clock`.
    pub policy: String,
    /// Where that policy comes from.
    pub role: Role,
    /// Name of the read-ahead as it was asked for: `none`, `sequential`, `aggressive`. Empty where the
    /// library does not choose it: on another operating system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub read_ahead: String,
    /// Size of the cache, in blocks.
    pub cache_blocks: u64,
    /// Bytes in a block.
    pub block_bytes: u64,
    /// Size of the files that the workload reads (and that exist before it starts), in blocks.
    pub data_blocks: u64,
    /// Blocks read from the disk.
    pub reads: u64,
    /// Requests in which they were read.
    pub read_requests: u64,
    /// Blocks written to the disk.
    pub writes: u64,
    /// References that found their block in the cache.
    pub hits: u64,
    /// References that did not, including those whose block had been read ahead and not used since:
    /// read-ahead saves requests and waiting, not reads.
    pub misses: u64,
    /// Blocks that a cache of the same size with perfect foresight (Belady) would have read for the same
    /// references. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_misses: Option<u64>,
    /// Blocks that the best fixed set of as many blocks would have read for the same references: the limit of
    /// who knows how often each block is used, but not when. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_misses: Option<u64>,
    /// Time from the start of the workload to its checked end, in milliseconds.
    pub elapsed_ms: f64,
    /// What it ran on: `qemu-svm`, `bochs-vmx`, `direct`, or `host` for a run inside the host tool. Unknown
    /// to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Accelerator of the emulator: `tcg`, `kvm`. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<String>,
    /// Whether the workload's result agreed with the one computed beforehand, without any cache.
    pub verified: bool,

    /// References to blocks: `hits + misses`.
    #[serde(default)]
    pub references: u64,
    /// Times the workload went through its data.
    #[serde(default)]
    pub passes: u64,
    /// Requests in which blocks were written.
    #[serde(default)]
    pub write_requests: u64,
    /// Blocks of metadata among `reads`.
    #[serde(default)]
    pub metadata_reads: u64,
    /// Blocks of metadata among `writes`.
    #[serde(default)]
    pub metadata_writes: u64,
    /// Misses that needed no read, because the block was new or written whole.
    #[serde(default)]
    pub allocated: u64,
    /// Blocks among `reads` that were read ahead and never used.
    #[serde(default)]
    pub read_ahead_wasted: u64,
    /// Flush requests.
    #[serde(default)]
    pub flushes: u64,
    /// Blocks read to mount the volume, before the workload started. Not part of `reads`.
    #[serde(default)]
    pub mount_reads: u64,
    /// Cores that ran the workload through one cache; then the limits are of the references of this very run.
    /// `None`: one core with the cache of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u64>,
    /// Time the mount took, in milliseconds. Not part of `elapsed_ms`.
    #[serde(default)]
    pub mount_ms: f64,
    /// Digest of the numbers of all device blocks read, in order and mounting included, if that was asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_digest: Option<String>,
    /// Point reads by themselves, of a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_reads: Option<PointReads>,
    /// Summary of the expected result, for a reader of the line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// Summary of the result that was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actual: String,
}

/// Why a line is not a [`CompareLine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not JSON, or fields are missing or of the wrong type.
    Json {
        /// What the JSON parser says.
        reason: String,
    },
    /// A result line of another kind.
    OtherBench {
        /// The kind it is.
        bench: String,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Json { reason } => write!(f, "not a result line: {reason}"),
            ParseError::OtherBench { bench } => {
                write!(f, "result line of kind {bench:?}, expected {BENCH_COMPARE:?}")
            }
        }
    }
}

impl core::error::Error for ParseError {}

impl CompareLine {
    /// The line as JSON, without a line feed.
    ///
    /// Times that are not finite become `null`, which [`CompareLine::parse`] refuses.
    pub fn to_json_line(&self) -> String {
        // Serializing strings and numbers into a string can't fail: no map with foreign keys, no writer that
        // fails.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line that [`CompareLine::to_json_line`] made. Fields that it does not know are ignored.
    pub fn parse(line: &str) -> Result<CompareLine, ParseError> {
        let line: CompareLine = serde_json::from_str(line.trim())
            .map_err(|error| ParseError::Json { reason: error.to_string() })?;
        if line.bench != BENCH_COMPARE {
            return Err(ParseError::OtherBench { bench: line.bench });
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn sample() -> CompareLine {
        CompareLine {
            cores: None,
            bench: BENCH_COMPARE.to_owned(),
            workload: "din".to_owned(),
            policy: "own".to_owned(),
            role: Role::Own,
            read_ahead: "sequential".to_owned(),
            cache_blocks: 819,
            block_bytes: 4096,
            data_blocks: 1024,
            reads: 2664,
            read_requests: 170,
            writes: 0,
            hits: 6552,
            misses: 2664,
            opt_misses: None,
            fixed_misses: None,
            elapsed_ms: 1234.5,
            platform: None,
            accel: None,
            verified: true,
            references: 9216,
            passes: 9,
            write_requests: 0,
            metadata_reads: 1,
            metadata_writes: 0,
            allocated: 0,
            read_ahead_wasted: 0,
            flushes: 0,
            mount_reads: 3,
            mount_ms: 0.25,
            reads_digest: None,
            point_reads: None,
            expected: "9 caches, digest 0123".to_owned(),
            actual: "a \"quoted\" text".to_owned(),
        }
    }

    #[test]
    fn a_line_survives_the_round_trip() {
        let mut line = sample();
        assert_eq!(CompareLine::parse(&line.to_json_line()), Ok(line.clone()));
        line.opt_misses = Some(2600);
        line.fixed_misses = Some(2650);
        line.platform = Some("qemu-svm".to_owned());
        line.accel = Some("tcg".to_owned());
        line.point_reads = PointReads::of(alloc::vec![1_000, 5_500]);
        let json = line.to_json_line();
        assert!(!json.contains('\n'));
        assert_eq!(CompareLine::parse(&json), Ok(line));
    }

    #[test]
    fn stable_names_are_what_others_read() {
        let mut line = sample();
        line.opt_misses = Some(1);
        line.fixed_misses = Some(2);
        line.platform = Some("direct".to_owned());
        line.accel = Some("kvm".to_owned());
        let json: serde_json::Value = serde_json::from_str(&line.to_json_line()).expect("is JSON");
        for name in [
            "bench",
            "workload",
            "policy",
            "role",
            "cache_blocks",
            "block_bytes",
            "data_blocks",
            "reads",
            "read_requests",
            "writes",
            "hits",
            "misses",
            "opt_misses",
            "fixed_misses",
            "elapsed_ms",
            "platform",
            "accel",
            "verified",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        assert_eq!(json["bench"], "compare");
        assert_eq!(json["role"], "own");
    }

    #[test]
    fn what_only_the_host_knows_may_be_missing() {
        let json = sample().to_json_line();
        assert!(!json.contains("opt_misses") && !json.contains("platform") && !json.contains("accel"));
        assert!(CompareLine::parse(&json).is_ok());
    }

    #[test]
    fn other_lines_are_refused_with_the_reason() {
        assert!(matches!(CompareLine::parse("hello"), Err(ParseError::Json { .. })));
        assert!(matches!(CompareLine::parse("{\"bench\":\"compare\"}"), Err(ParseError::Json { .. })));
        let other = sample().to_json_line().replace("\"compare\"", "\"boot\"");
        assert_eq!(CompareLine::parse(&other), Err(ParseError::OtherBench { bench: "boot".to_owned() }));
    }
}
