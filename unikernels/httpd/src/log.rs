//! The access log, in the common format: `host - - [time] "request" status bytes`.

use core::fmt;
use core::time::Duration;
use libos_net::IpEndpoint;

/// A line of it. There is no wall clock: the time is that since the start, in seconds.
pub struct Line<'a> {
    /// Who asked.
    pub remote: Option<IpEndpoint>,
    /// How long the server runs.
    pub since_start: Duration,
    /// The first line of the request; nothing if it made no sense.
    pub request: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of its body that were sent.
    pub bytes: u64,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => write!(f, "{}", remote.addr)?,
            None => f.write_str("-")?,
        }
        write!(f, " - - [{}.{:03}] \"", self.since_start.as_secs(), self.since_start.subsec_millis())?;
        for c in self.request.chars() {
            // Nobody writes lines of his own into the log.
            if c == '"' || c == '\\' || c.is_control() {
                write!(f, "\\x{:02x}", u32::from(c))?
            } else {
                write!(f, "{c}")?
            }
        }
        write!(f, "\" {} {}", self.status, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_request_cannot_write_lines() {
        let line = Line {
            remote: None,
            since_start: Duration::from_millis(1234),
            request: "GET /\"\n HTTP/1.1",
            status: 200,
            bytes: 7,
        };
        assert_eq!(line.to_string(), r#"- - - [1.234] "GET /\x22\x0a HTTP/1.1" 200 7"#);
    }
}
