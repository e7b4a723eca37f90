//! Whether the client has the file already (RFC 9110, section 13).
//!
//! Volumes have no times of change, so a file is known by its contents alone.

use crate::request::Request;

/// What conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Send,
    /// The client has it: 304.
    NotModified,
    /// It is not what the client thinks: 412.
    Failed,
}

/// Judges the conditions of a request for a file with this entity tag, quotes included.
pub fn judge(request: &Request, tag: &str) -> Verdict {
    if let Some(wanted) = request.field("if-match")
        && !matches(&wanted, tag, Comparison::Strong)
    {
        return Verdict::Failed;
    }
    match request.field("if-none-match") {
        Some(known) if matches(&known, tag, Comparison::Weak) => Verdict::NotModified,
        _ => Verdict::Send,
    }
}

/// Whether a range is asked for of this very file: if not, all of it is sent.
pub fn range_holds(request: &Request, tag: &str) -> bool {
    request.field("if-range").is_none_or(|wanted| wanted == tag)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak tag equals nothing.
    Strong,
    /// Whether a tag is weak does not count.
    Weak,
}

fn matches(list: &str, tag: &str, comparison: Comparison) -> bool {
    if list.trim() == "*" {
        return true;
    }
    list.split(',').map(str::trim).any(|known| match known.strip_prefix("W/") {
        Some(weak) => comparison == Comparison::Weak && weak == tag,
        None => known == tag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn request(field: &str) -> Request {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        Request::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn conditions_are_those_of_the_standard() {
        for (field, expected) in [
            ("A: b", Verdict::Send),
            ("If-None-Match: \"a\"", Verdict::NotModified),
            ("If-None-Match: \"b\", W/\"a\"", Verdict::NotModified),
            ("If-None-Match: *", Verdict::NotModified),
            ("If-None-Match: \"b\"", Verdict::Send),
            ("If-Match: \"a\"", Verdict::Send),
            ("If-Match: W/\"a\"", Verdict::Failed),
            ("If-Match: \"b\"", Verdict::Failed),
            ("If-Match: *", Verdict::Send),
        ] {
            assert_eq!(judge(&request(field), "\"a\""), expected, "{field}");
        }
        assert!(range_holds(&request("A: b"), "\"a\"") && range_holds(&request("If-Range: \"a\""), "\"a\""));
        assert!(!range_holds(&request("If-Range: \"b\""), "\"a\""));
        assert!(!range_holds(&request("If-Range: Sat, 29 Oct 1994 19:43:31 GMT"), "\"a\""));
    }
}
