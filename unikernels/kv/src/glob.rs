//! Patterns of names: `*`, `?`, `[a-z]`, `[^a]`, `\x`.

/// Whether a string is of a pattern, as Redis matches them.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on if what follows the last star does not fit: one byte further.
    let mut again: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut text) = (pattern, text);
    loop {
        match step(pattern, text) {
            Step::Star(rest) => {
                if rest.is_empty() {
                    return true;
                }
                again = Some((rest, text));
                pattern = rest;
            }
            Step::Byte(rest) => {
                pattern = rest;
                text = &text[1..];
            }
            Step::End => return true,
            Step::No => match &mut again {
                Some((after_star, start)) if !start.is_empty() => {
                    *start = &start[1..];
                    (pattern, text) = (after_star, start);
                }
                _ => return false,
            },
        }
    }
}

enum Step<'a> {
    /// Any number of bytes; the pattern goes on with this.
    Star(&'a [u8]),
    /// The next byte fits; the pattern goes on with this.
    Byte(&'a [u8]),
    /// Both have ended.
    End,
    No,
}

fn step<'a>(pattern: &'a [u8], text: &[u8]) -> Step<'a> {
    match (pattern, text.first()) {
        ([b'*', rest @ ..], _) => Step::Star(rest),
        ([], None) => Step::End,
        ([], Some(_)) | (_, None) => Step::No,
        ([b'?', rest @ ..], Some(_)) => Step::Byte(rest),
        ([b'[', rest @ ..], Some(byte)) => match class(rest, *byte) {
            (true, rest) => Step::Byte(rest),
            (false, _) => Step::No,
        },
        ([b'\\', escaped, rest @ ..], Some(byte)) | ([escaped, rest @ ..], Some(byte)) if escaped == byte => {
            Step::Byte(rest)
        }
        _ => Step::No,
    }
}

/// Whether a byte is in a class, and what follows the class.
fn class(mut pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut inverted = false;
    if let [b'^', rest @ ..] = pattern {
        inverted = true;
        pattern = rest;
    }
    let mut found = false;
    loop {
        match pattern {
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                pattern = rest;
            }
            [b']', rest @ ..] => return (found != inverted, rest),
            [] => return (found != inverted, pattern),
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                pattern = rest;
            }
            [single, rest @ ..] => {
                found |= *single == byte;
                pattern = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h*llo", "heeeell", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**a", "bca", true),
            ("*a*b*c", "xaxbxcxc", true),
            ("[ab", "a", true),
            ("a", "ab", false),
            ("ab", "a", false),
            ("a*", "a", true),
            ("\\", "\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let text = [b'a'; 2000];
        let mut pattern = b"a*".repeat(100);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text));
    }
}
