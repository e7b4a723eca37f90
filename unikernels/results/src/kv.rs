//! One kind of traffic under one policy of eviction.

use crate::Role;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

/// The outcome of one kind of traffic on a key-value store that has less memory than there is data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvLine {
    /// Kind of the line: `"kv"`.
    pub bench: String,
    /// Name of the traffic.
    pub traffic: String,
    /// Name of the policy as it was asked for: `default`, `own`, `s3-fifo`, …
    #[serde(default)]
    pub policy: String,
    /// Where that policy comes from. Unknown to the guest.
    #[serde(default)]
    pub role: Role,
    /// The policy as the store calls it: `allkeys-lru`, …
    pub maxmemory_policy: String,
    /// Bytes that keys and values may take.
    pub memory: u64,
    /// Bytes of all data there are before the first request.
    pub data: u64,
    /// Commands that the store carried out.
    pub commands: u64,
    /// Records that were wanted and there.
    pub hits: u64,
    /// Records that were wanted and had to be fetched.
    pub misses: u64,
    /// Bytes of values that were there.
    pub hit_bytes: u64,
    /// Bytes of values that had to be fetched.
    pub missed_bytes: u64,
    /// Records that were changed or added.
    pub writes: u64,
    /// Keys that left to make room.
    pub evicted: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Most bytes of keys and values there were.
    pub peak_bytes: u64,
    /// Nanoseconds that the store took for all commands.
    pub server_ns: u64,
    /// Instructions that it took for one, where QEMU counted them. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_per_command: Option<f64>,
    /// Fewer misses no policy can have. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_misses: Option<u64>,
    /// What it ran on. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Accelerator of the emulator. Unknown to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<String>,
}

impl KvLine {
    /// Reads a line of `kv`. `None` if it is of another kind.
    ///
    /// # Errors
    ///
    /// If it says that it is of this kind, but is not.
    pub fn parse(line: &str) -> Option<Result<KvLine, String>> {
        let line = line.trim();
        if !line.starts_with("{\"bench\":\"kv\"") {
            return None;
        }
        Some(serde_json::from_str(line).map_err(|error| error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_kind_are_told_from_broken_ones() {
        assert_eq!(KvLine::parse("{\"bench\":\"compare\"}"), None);
        assert!(KvLine::parse("{\"bench\":\"kv\"}").is_some_and(|line| line.is_err()));
    }
}
