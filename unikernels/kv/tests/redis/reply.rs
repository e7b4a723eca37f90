//! Replies: how long they are, and when two say the same.

/// Bytes of the first reply, if it is complete.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[1..line]).expect("a number").parse::<i64>().expect("a number");
    match bytes[0] {
        b'$' | b'=' | b'!' => {
            let length = usize::try_from(number()).map_or(line + 2, |length| line + 2 + length + 2);
            (bytes.len() >= length).then_some(length)
        }
        kind @ (b'*' | b'~' | b'%' | b'>') => {
            let elements = number().max(0) * if kind == b'%' { 2 } else { 1 };
            let mut end = line + 2;
            for _ in 0..elements {
                end += length(&bytes[end..])?;
            }
            Some(end)
        }
        _ => Some(line + 2),
    }
}

/// The elements of an aggregate.
pub fn elements(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut end = bytes.windows(2).position(|end| end == b"\r\n").map_or(bytes.len(), |line| line + 2);
    let mut elements = Vec::new();
    while let Some(bytes) = bytes.get(end..).filter(|rest| !rest.is_empty()) {
        let length = length(bytes).expect("a complete reply");
        elements.push(bytes[..length].to_vec());
        end += length;
    }
    elements
}

fn without_signs_of_zeros(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let (text, length): (&[u8], usize) = if rest.starts_with(b"$2\r\n-0\r\n") {
            (b"$1\r\n0\r\n", 8)
        } else if rest.starts_with(b",-0\r\n") {
            (b",0\r\n", 5)
        } else {
            (std::slice::from_ref(first), 1)
        };
        out.extend_from_slice(text);
        rest = &rest[length..];
    }
    out
}

/// What has to be equal in the replies to a command.
pub enum Shape {
    /// All bytes.
    Exact,
    /// The elements, in any order.
    Unordered,
    /// Pairs of elements, in any order.
    UnorderedPairs,
    /// A number, but for the seconds or milliseconds that went by.
    Time,
    /// How many elements there are: what they are is chosen at random.
    Random,
    /// Nothing but the kind of reply.
    Kind,
}

impl Shape {
    /// What has to be equal for a command.
    pub fn of(words: &[Vec<u8>]) -> Self {
        let has = |word: &[u8]| words.iter().any(|other| other.eq_ignore_ascii_case(word));
        match String::from_utf8_lossy(&words[0]).to_ascii_lowercase().as_str() {
            "smembers" | "sinter" | "sunion" | "sdiff" | "hkeys" | "hvals" | "keys" | "spop" => {
                Self::Unordered
            }
            "geosearch" | "georadius" | "georadius_ro" | "georadiusbymember" | "georadiusbymember_ro"
                if !has(b"asc") && !has(b"desc") =>
            {
                Self::Unordered
            }
            "sort" | "sort_ro" if has(b"nosort") => Self::Unordered,
            "hgetall" => Self::UnorderedPairs,
            "ttl" | "pttl" | "expiretime" | "pexpiretime" => Self::Time,
            "srandmember" | "hrandfield" | "zrandmember" => Self::Random,
            "object" if !has(b"encoding") => Self::Kind,
            "randomkey" | "time" => Self::Kind,
            _ => Self::Exact,
        }
    }

    /// Whether two replies are equal as far as they have to be.
    pub fn agree(&self, theirs: &[u8], ours: &[u8]) -> bool {
        // Some of Redis's forms keep the sign of a zero, others don't.
        let theirs = &without_signs_of_zeros(theirs);
        if theirs == ours {
            return true;
        }
        let is_aggregate = |bytes: &[u8]| matches!(bytes[0], b'*' | b'~' | b'%');
        let header = |bytes: &[u8]| bytes.split(|byte| *byte == b'\r').next().map(<[u8]>::to_vec);
        match self {
            Self::Exact => false,
            Self::Unordered | Self::UnorderedPairs
                if is_aggregate(theirs) && header(theirs) == header(ours) =>
            {
                let chunk = if matches!(self, Self::Unordered) { 1 } else { 2 };
                let sorted = |bytes: &[u8]| {
                    let mut all: Vec<Vec<u8>> =
                        elements(bytes).chunks(chunk).map(<[Vec<u8>]>::concat).collect();
                    all.sort();
                    all
                };
                sorted(theirs) == sorted(ours)
            }
            Self::Random if is_aggregate(theirs) => header(theirs) == header(ours),
            Self::Random => theirs[0] == ours[0] && theirs[0] == b'$',
            Self::Kind => theirs[0] == ours[0],
            Self::Time if theirs[0] == b':' && ours[0] == b':' => {
                let number = |bytes: &[u8]| {
                    let text = std::str::from_utf8(&bytes[1..bytes.len() - 2]).expect("a number");
                    text.parse::<i64>().expect("a number")
                };
                let (theirs, ours) = (number(theirs), number(ours));
                theirs >= 0 && ours >= 0 && theirs.abs_diff(ours) < 2000
            }
            _ => false,
        }
    }
}
