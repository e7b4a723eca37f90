//! The command line: words separated by white space, some of them of the form `key=value`.
#![forbid(unsafe_code)]

use core::num::ParseIntError;

/// A command line that can be asked for its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments<'a>(pub &'a str);

/// A value that should have been a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANumber<'a> {
    /// Key of the argument.
    pub key: &'a str,
    /// What stood there.
    pub value: &'a str,
    /// Why it is no number.
    pub cause: ParseIntError,
}

impl core::fmt::Display for NotANumber<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "argument {}={}: not a number: {}", self.key, self.value, self.cause)
    }
}

impl<'a> Arguments<'a> {
    /// The value of the last word `key=value`. So an argument that is appended overrides an earlier one.
    pub fn value(self, key: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .rev()
            .find_map(|word| word.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value))
    }

    /// Whether the word stands by itself in the command line.
    pub fn has(self, word: &str) -> bool {
        self.0.split_ascii_whitespace().any(|candidate| candidate == word)
    }

    /// The value of `key` as a decimal number. `None` if the key is absent.
    ///
    /// # Errors
    ///
    /// [`NotANumber`].
    pub fn number<'b>(self, key: &'b str) -> Result<Option<u64>, NotANumber<'b>>
    where
        'a: 'b,
    {
        self.value(key)
            .map(|value| value.parse().map_err(|cause| NotANumber { key, value, cause }))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Arguments<'static> = Arguments("verbose workload=cs cache=80%  cache=64\tempty= odd=a=b");

    #[test]
    fn values_by_key() {
        assert_eq!(LINE.value("workload"), Some("cs"));
        assert_eq!(LINE.value("cache"), Some("64"), "the last one wins");
        assert_eq!(LINE.value("empty"), Some(""));
        assert_eq!(LINE.value("odd"), Some("a=b"));
        assert_eq!(LINE.value("verbose"), None);
        assert_eq!(LINE.value("work"), None);
    }

    #[test]
    fn words() {
        assert!(LINE.has("verbose"));
        assert!(!LINE.has("cache"));
        assert!(!Arguments("").has(""));
    }

    #[test]
    fn numbers() {
        assert_eq!(LINE.number("cache"), Ok(Some(64)));
        assert_eq!(LINE.number("absent"), Ok(None));
        let error = LINE.number("workload").unwrap_err();
        assert_eq!((error.key, error.value), ("workload", "cs"));
    }
}
