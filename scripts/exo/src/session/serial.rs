//! The lines of a machine, from its serial port or a virtio console: which environment says what, and what
//! the kernel reports.
//!
//! | line | meaning |
//! |---|---|
//! | `NAME\| text` | a line printed by the environment NAME |
//! | `hyperexo: NAME ended: exit code N`, `... killed: REASON` | the end of an environment |
//! | `hyperexo: {"accounting":"NAME",...}` | its counters |
//! | `hyperexo: error: TEXT` | an error of the kernel itself |
//! | `hyperexo: finished: status S` | the machine is about to stop |
//! | `hyperexo: text` | anything else the kernel says |
//! | `linux: error: TEXT`, `linux: finished: status S` | the same of a Linux guest, whose programs print lines as they are |

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A line, told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// An environment printed it.
    Guest {
        /// The environment.
        name: &'a str,
        /// What it printed.
        text: &'a str,
    },
    /// An environment ended.
    Ended {
        /// The environment.
        name: &'a str,
        /// How.
        end: End,
    },
    /// Counters of an environment, as JSON.
    Accounting(&'a str),
    /// The kernel failed.
    Error(&'a str),
    /// The kernel is done, with this status.
    Finished(u32),
    /// The kernel says something else.
    Kernel(&'a str),
    /// From neither: firmware, or a damaged line.
    Other(&'a str),
}

/// How an environment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with an exit code.
    Exit(i64),
    /// The kernel ended it, for this reason.
    Killed(String),
}

impl End {
    /// Whether the environment did what it should.
    pub fn is_success(&self) -> bool {
        *self == End::Exit(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exit(code) => write!(f, "exit code {code}"),
            End::Killed(reason) => write!(f, "killed: {reason}"),
        }
    }
}

/// Counters of one environment, as the kernel prints them at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Accounting {
    /// The environment.
    pub accounting: String,
    /// Exits by kind.
    pub exits: BTreeMap<String, u64>,
    /// Ticks spent inside it.
    pub guest_cycles: u64,
    /// Blocks read.
    pub disk_blocks_read: u64,
    /// Blocks written.
    pub disk_blocks_written: u64,
    /// Read requests passed to the device.
    pub disk_read_requests: u64,
    /// Write requests passed to the device.
    pub disk_write_requests: u64,
    /// Flush requests passed to the device.
    pub disk_flush_requests: u64,
    /// Requests that ended in an error.
    pub disk_errors: u64,
    /// Packets sent.
    pub net_packets_sent: u64,
    /// Packets received.
    pub net_packets_received: u64,
    /// Packets that found no place in its ring.
    pub net_packets_dropped: u64,
    /// Packets it was not allowed to send, or that were malformed.
    pub net_packets_refused: u64,
    /// Upcalls delivered.
    pub upcalls: u64,
    /// Times it was given the processor.
    pub slices: u64,
    /// Most frames it held at once.
    pub peak_frames: u64,
}

/// Prefix of the kernel's lines.
const KERNEL: &str = "hyperexo: ";
/// Prefix of such lines where there is no kernel, from the unikernel's own runtime.
const DIRECT: &str = "direct: ";

/// Tells a line apart.
pub fn parse(line: &str) -> Line<'_> {
    if let Some(text) = line.strip_prefix(KERNEL).or_else(|| line.strip_prefix(DIRECT)) {
        return parse_kernel(text);
    }
    if let Some(reason) = line.strip_prefix(linux_init::ERROR) {
        return Line::Error(reason);
    }
    if let Some(Ok(status)) = line.strip_prefix(linux_init::FINISHED).map(|number| number.trim().parse()) {
        return Line::Finished(status);
    }
    match line.split_once("| ").or_else(|| line.strip_suffix('|').map(|name| (name, ""))) {
        Some((name, text)) if is_name(name) => Line::Guest { name, text },
        _ => Line::Other(line),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn parse_kernel(text: &str) -> Line<'_> {
    if text.starts_with("{\"accounting\"") {
        return Line::Accounting(text);
    }
    if let Some(reason) = text.strip_prefix("error: ") {
        return Line::Error(reason);
    }
    if let Some(Ok(status)) = text.strip_prefix("finished: status ").map(|number| number.trim().parse()) {
        return Line::Finished(status);
    }
    if let Some((name, how)) = text.split_once(" ended: ").filter(|(name, _)| is_name(name)) {
        let exit = how.strip_prefix("exit code ").and_then(|code| code.trim().parse().ok());
        let end = match (exit, how.strip_prefix("killed: ")) {
            (Some(code), _) => Some(End::Exit(code)),
            (None, Some(reason)) => Some(End::Killed(reason.to_owned())),
            (None, None) => None,
        };
        if let Some(end) = end {
            return Line::Ended { name, end };
        }
    }
    Line::Kernel(text)
}

/// Turns bytes from the serial port into lines, whatever the bytes are: carriage returns go, control
/// characters (that could play tricks on a terminal) become `·`.
#[derive(Default)]
pub struct Lines {
    pending: Vec<u8>,
}

/// Longest line kept whole; a guest that never ends its line must not fill the host's memory.
const LONGEST_LINE: usize = 1 << 20;

impl Lines {
    /// Adds bytes; returns the lines they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.pending.len() >= LONGEST_LINE {
                lines.extend(self.rest());
            }
            if *byte != b'\n' {
                self.pending.push(*byte);
            }
        }
        lines
    }

    /// The line begun and not ended.
    pub fn rest(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.pending);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\r');
        let clean = text.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect();
        Some(clean).filter(|line: &String| !line.is_empty() || !bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(parse("hello| Hello, a | b"), Line::Guest { name: "hello", text: "Hello, a | b" });
        assert_eq!(parse("hello|"), Line::Guest { name: "hello", text: "" });
        assert_eq!(parse("hyperexo: booting"), Line::Kernel("booting"));
        assert_eq!(parse("direct: finished: status 1"), Line::Finished(1));
        assert_eq!(parse("direct| booting"), Line::Guest { name: "direct", text: "booting" });
        assert_eq!(parse("hyperexo: error: no disk"), Line::Error("no disk"));
        assert_eq!(parse("hyperexo: finished: status 2"), Line::Finished(2));
        assert_eq!(parse("linux: error: no disk"), Line::Error("no disk"));
        assert_eq!(parse("linux: finished: status 255"), Line::Finished(255));
        assert_eq!(
            parse("hyperexo: a-2 ended: exit code -1"),
            Line::Ended { name: "a-2", end: End::Exit(-1) }
        );
        assert_eq!(
            parse("hyperexo: a ended: killed: touched frame 7"),
            Line::Ended { name: "a", end: End::Killed("touched frame 7".into()) }
        );
        assert_eq!(parse("SeaBIOS (version x) | y"), Line::Other("SeaBIOS (version x) | y"));
    }

    #[test]
    fn a_guest_cannot_speak_for_the_kernel() {
        let line = parse("evil| hyperexo: finished: status 0");
        assert_eq!(line, Line::Guest { name: "evil", text: "hyperexo: finished: status 0" });
    }

    #[test]
    fn accounting_is_read() {
        let text =
            r#"{"accounting":"a","exits":{"hypercall":3,"halt":1},"disk_blocks_read":9,"peak_frames":4}"#;
        let Line::Accounting(json) = parse("hyperexo: {\"accounting\":\"a\"}") else { panic!() };
        assert_eq!(json, "{\"accounting\":\"a\"}");
        let accounting: Accounting = serde_json::from_str(text).unwrap();
        assert_eq!((accounting.disk_blocks_read, accounting.exits["hypercall"]), (9, 3));
    }

    #[test]
    fn bytes_become_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"a\r\nb\x1b[2J\nc"), ["a", "b·[2J"]);
        assert_eq!(lines.push(b"d\n"), ["cd"]);
        assert_eq!(lines.push(&[0xff, b'\n']), ["\u{fffd}"]);
        assert_eq!(lines.rest(), None);
    }
}
