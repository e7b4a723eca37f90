//! Parts of a file (RFC 9110, section 14).

use alloc::vec::Vec;
use core::ops::Range;

/// Parts that one request may name: more of them cost more than the file.
const MOST_PARTS: usize = 16;

/// What a `Range` comes to for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// It is to be ignored: the whole file is sent.
    Whole,
    /// These, in the order asked for.
    These(Vec<Range<u64>>),
    /// None of them is in the file.
    NotSatisfiable,
}

/// What the value of `Range` names of a file of so many bytes.
pub fn parts(value: &str, length: u64) -> Parts {
    let Some(list) = value.strip_prefix("bytes=") else { return Parts::Whole };
    let mut found = Vec::new();
    let mut named = 0;
    for text in list.split(',').map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty()) {
        named += 1;
        match part(text, length) {
            None => return Parts::Whole,
            Some(part) if part.is_empty() => {}
            Some(part) => found.push(part),
        }
    }
    let sum = found.iter().map(|part| part.end - part.start).sum::<u64>();
    match (named, found.len()) {
        (0, _) => Parts::Whole,
        (_, 0) => Parts::NotSatisfiable,
        // Parts that overlap many times are a way to have much sent (RFC 9110, section 17.15).
        (named, _) if named > MOST_PARTS || sum > length => Parts::Whole,
        _ => Parts::These(found),
    }
}

/// One part; empty if it is not in the file, `None` if it makes no sense.
fn part(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is too large for a number is beyond any file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", last) => {
            let count = number(last)?;
            Some(length.saturating_sub(count)..length)
        }
        (first, "") => {
            let first = number(first)?;
            Some(first.min(length)..length)
        }
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first.min(length)..last.saturating_add(1).min(length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_the_standard() {
        let these =
            |parts: &[(u64, u64)]| Parts::These(parts.iter().map(|(start, end)| *start..*end).collect());
        for (value, expected) in [
            ("bytes=0-499", these(&[(0, 500)])),
            ("bytes=500-999", these(&[(500, 1000)])),
            ("bytes=-500", these(&[(9500, 10000)])),
            ("bytes=9500-", these(&[(9500, 10000)])),
            ("bytes=0-0,-1", these(&[(0, 1), (9999, 10000)])),
            ("bytes= 0-999, 4500-5499, -1000", these(&[(0, 1000), (4500, 5500), (9000, 10000)])),
            ("bytes=9990-99999", these(&[(9990, 10000)])),
            ("bytes=-99999999999999999999999", these(&[(0, 10000)])),
            ("bytes=10000-", Parts::NotSatisfiable),
            ("bytes=-0", Parts::NotSatisfiable),
            ("bytes=20000-30000,0-1", these(&[(0, 2)])),
            ("bytes=5-4", Parts::Whole),
            ("bytes=a-b", Parts::Whole),
            ("bytes=", Parts::Whole),
            ("bytes=1", Parts::Whole),
            ("lines=1-2", Parts::Whole),
            ("bytes=0-9999,0-9999", Parts::Whole),
        ] {
            assert_eq!(parts(value, 10000), expected, "{value}");
        }
        assert_eq!(parts("bytes=0-", 0), Parts::NotSatisfiable);
    }
}
