//! Commands out of what a client sends: arrays of bulk strings, or a line of words ("inline").

use crate::number::parse_i64;
use alloc::vec::Vec;
use memchr::memchr;

/// Bytes of a line without its end at most: an inline command, or a count.
const MOST_LINE: usize = 64 * 1024;

/// What a client may ask for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of a command.
    pub arguments: usize,
    /// Bytes of an argument.
    pub bulk: usize,
}

impl Limits {
    /// What Redis permits a client that has shown its password, or needs none.
    pub const FULL: Self = Self { arguments: 1024 * 1024, bulk: 512 * 1024 * 1024 };
    /// What Redis permits before that.
    pub const UNAUTHENTICATED: Self = Self { arguments: 10, bulk: 16 * 1024 };
}

/// The arguments of a command: slices of the buffer that it was read into.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    buffer: &'a [u8],
    places: &'a [Place],
}

/// Where an argument lies, from the beginning of the command on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    start: u32,
    length: u32,
}

impl<'a> Arguments<'a> {
    /// How many there are; the command's name is one of them. Never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// One of them, the command's name first.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn at(&self, index: usize) -> &'a [u8] {
        let place = self.places[index];
        &self.buffer[place.start as usize..][..place.length as usize]
    }

    /// One of them, if there are so many.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.at(index))
    }

    /// All from `index` on.
    pub fn from(
        &self,
        index: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + use<'a> {
        let all = *self;
        (index.min(all.len())..all.len()).map(move |index| all.at(index))
    }

    /// A copy that outlives the buffer: for a command that runs later.
    pub fn to_owned(&self) -> OwnedArguments {
        let mut owned = OwnedArguments::default();
        self.from(0).for_each(|argument| owned.push(argument));
        owned
    }
}

/// Arguments in memory of their own.
#[derive(Clone, Debug, Default)]
pub struct OwnedArguments {
    buffer: Vec<u8>,
    places: Vec<Place>,
}

impl OwnedArguments {
    /// Appends one.
    pub fn push(&mut self, argument: &[u8]) {
        self.places.push(Place { start: self.buffer.len() as u32, length: argument.len() as u32 });
        self.buffer.extend_from_slice(argument);
    }

    /// The arguments.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments { buffer: &self.buffer, places: &self.places }
    }

    /// Bytes of memory.
    pub fn heap_bytes(&self) -> usize {
        self.buffer.capacity() + self.places.capacity() * size_of::<Place>()
    }
}

/// What a client sent that is no command. The connection ends after the error was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline command has no end within 64 KiB.
    TooBigInline,
    /// The count of arguments has no end within 64 KiB.
    TooBigCount,
    /// The length of an argument has no end within 64 KiB.
    TooBigBulkCount,
    /// The count of arguments is no number, or too large.
    InvalidCount,
    /// The length of an argument is no number, negative or too large.
    InvalidBulkLength,
    /// An argument begins with this byte instead of `$`.
    ExpectedBulk(u8),
    /// The quotes of an inline command don't match.
    UnbalancedQuotes,
    /// Too many arguments from a client that has not shown its password.
    UnauthenticatedCount,
    /// Too long an argument from a client that has not shown its password.
    UnauthenticatedBulk,
}

impl ProtocolError {
    /// The error as a line of the protocol, with its end.
    pub fn write(self, out: &mut Vec<u8>) {
        let text: &[u8] = match self {
            Self::TooBigInline => b"too big inline request",
            Self::TooBigCount => b"too big mbulk count string",
            Self::TooBigBulkCount => b"too big bulk count string",
            Self::InvalidCount => b"invalid multibulk length",
            Self::InvalidBulkLength => b"invalid bulk length",
            Self::ExpectedBulk(_) => b"expected '$', got '",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::UnauthenticatedCount => b"unauthenticated multibulk length",
            Self::UnauthenticatedBulk => b"unauthenticated bulk length",
        };
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(text);
        if let Self::ExpectedBulk(byte) = self {
            // A line of the protocol has no ends of lines in it.
            out.extend_from_slice(&[if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }, b'\'']);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Finds commands in what a client sends. It goes on where it was when more has come.
#[derive(Debug, Default)]
pub struct Parser {
    /// How far the command has been read.
    position: usize,
    /// Arguments that are still to come.
    left: usize,
    /// The length of the argument that comes next, if it is known.
    bulk: Option<usize>,
    /// Whether the arguments are in `words`, because quotes were taken off.
    inline: bool,
    places: Vec<Place>,
    words: Vec<u8>,
    begun: bool,
}

impl Parser {
    /// A parser at the beginning of a command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the next command in `buffer`. It begins at the buffer's first byte; a buffer for which `None`
    /// was returned is given again with more at its end. The number of bytes that the command takes, with
    /// empty ones before it; [`Parser::arguments`] of the same buffer has the arguments until the next call.
    ///
    /// # Errors
    ///
    /// What is no command. Nothing after it can be understood.
    pub fn next(&mut self, buffer: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        loop {
            if !self.begun {
                self.begin();
            }
            let Some(&first) = buffer.get(self.position) else { return Ok(None) };
            let complete = if self.left > 0 || self.bulk.is_some() {
                self.bulks(buffer, limits)?
            } else if first == b'*' {
                self.count(buffer, limits)?
            } else {
                self.inline(buffer)?
            };
            match complete {
                Progress::More => return Ok(None),
                Progress::Counted => {}
                Progress::Command => {
                    self.begun = false;
                    return Ok(Some(core::mem::take(&mut self.position)));
                }
                Progress::Empty => self.begun = false,
            }
        }
    }

    /// Bytes at the beginning of the buffer that are read and of no more use, because only empty commands are
    /// in them. For a reader who wants to keep its buffer small.
    pub fn skip(&mut self) -> usize {
        if self.left == 0 && self.bulk.is_none() { core::mem::take(&mut self.position) } else { 0 }
    }

    /// How long the buffer must be for the argument that is being read: to read long ones at once.
    pub fn wanted(&self) -> Option<usize> {
        self.bulk.map(|length| self.position + length + 2)
    }

    /// The arguments of the command that [`Parser::next`] found in this buffer.
    pub fn arguments<'a>(&'a self, buffer: &'a [u8]) -> Arguments<'a> {
        Arguments { buffer: if self.inline { &self.words } else { buffer }, places: &self.places }
    }

    fn begin(&mut self) {
        self.begun = true;
        self.inline = false;
        self.places.clear();
        self.words.clear();
        // A command with many arguments must not hold their memory for ever.
        self.places.shrink_to(1024);
        self.words.shrink_to(1024);
    }

    /// The line at the position, without its end.
    fn line<'a>(&self, buffer: &'a [u8], error: ProtocolError) -> Result<Option<&'a [u8]>, ProtocolError> {
        let rest = &buffer[self.position..];
        match memchr(b'\r', rest) {
            // Redis skips the byte after the return, whatever it is.
            Some(end) if end + 1 < rest.len() => Ok(Some(&rest[..end])),
            Some(end) if end <= MOST_LINE => Ok(None),
            None if rest.len() <= MOST_LINE => Ok(None),
            _ => Err(error),
        }
    }

    fn count(&mut self, buffer: &[u8], limits: Limits) -> Result<Progress, ProtocolError> {
        let Some(line) = self.line(buffer, ProtocolError::TooBigCount)? else { return Ok(Progress::More) };
        let count = parse_i64(&line[1..]).ok_or(ProtocolError::InvalidCount)?;
        if count > Limits::FULL.arguments as i64 {
            return Err(ProtocolError::InvalidCount);
        }
        if count > limits.arguments as i64 {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        self.position += line.len() + 2;
        if count <= 0 {
            return Ok(Progress::Empty);
        }
        self.left = count as usize;
        Ok(Progress::Counted)
    }

    fn bulks(&mut self, buffer: &[u8], limits: Limits) -> Result<Progress, ProtocolError> {
        while self.left > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => {
                    let Some(&first) = buffer.get(self.position) else { return Ok(Progress::More) };
                    let Some(line) = self.line(buffer, ProtocolError::TooBigBulkCount)? else {
                        return Ok(Progress::More);
                    };
                    if first != b'$' {
                        return Err(ProtocolError::ExpectedBulk(first));
                    }
                    let length = parse_i64(&line[1..])
                        .and_then(|length| usize::try_from(length).ok())
                        .filter(|length| *length <= Limits::FULL.bulk.max(limits.bulk))
                        .ok_or(ProtocolError::InvalidBulkLength)?;
                    if length > limits.bulk {
                        return Err(ProtocolError::UnauthenticatedBulk);
                    }
                    self.position += line.len() + 2;
                    self.bulk = Some(length);
                    length
                }
            };
            if buffer.len() - self.position < length + 2 {
                return Ok(Progress::More);
            }
            let start = u32::try_from(self.position).map_err(|_| ProtocolError::InvalidBulkLength)?;
            self.places.push(Place { start, length: length as u32 });
            self.position += length + 2;
            self.bulk = None;
            self.left -= 1;
        }
        Ok(Progress::Command)
    }

    fn inline(&mut self, buffer: &[u8]) -> Result<Progress, ProtocolError> {
        let rest = &buffer[self.position..];
        let Some(end) = memchr(b'\n', rest) else {
            return if rest.len() > MOST_LINE {
                Err(ProtocolError::TooBigInline)
            } else {
                Ok(Progress::More)
            };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        self.inline = true;
        split_words(line, &mut self.words, &mut self.places).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.position += end + 1;
        Ok(if self.places.is_empty() { Progress::Empty } else { Progress::Command })
    }
}

enum Progress {
    /// The rest has not come yet.
    More,
    /// The number of arguments is known.
    Counted,
    /// A command is there.
    Command,
    /// A command without arguments, which is none.
    Empty,
}

/// Splits a line into words as a shell would: `"a\n\x41"` and `'it\'s'` are words. `None` if a quote is not
/// closed, or is followed by something else than a space.
fn split_words(line: &[u8], words: &mut Vec<u8>, places: &mut Vec<Place>) -> Option<()> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // Redis ends a line at a zero byte.
        if rest.is_empty() || rest[0] == 0 {
            return Some(());
        }
        let start = words.len();
        rest = word(rest, words)?;
        places.push(Place { start: start as u32, length: (words.len() - start) as u32 });
    }
}

/// Appends a word to `out`, and returns what comes after it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut quote = None;
    loop {
        let byte = rest.first().copied().filter(|byte| *byte != 0);
        match (quote, byte) {
            (None, None) => return Some(rest),
            (None, Some(byte)) if byte.is_ascii_whitespace() => return Some(rest),
            (None, Some(byte @ (b'"' | b'\''))) => quote = Some(byte),
            (Some(_), None) => return None,
            (Some(b'"'), Some(b'\\')) if rest.len() >= 4 && rest[1] == b'x' && hex(&rest[2..4]).is_some() => {
                out.push(hex(&rest[2..4])?);
                rest = &rest[3..];
            }
            (Some(b'"'), Some(b'\\')) if rest.len() >= 2 => {
                out.push(match rest[1] {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                rest = &rest[1..];
            }
            (Some(b'\''), Some(b'\\')) if rest.get(1) == Some(&b'\'') => {
                out.push(b'\'');
                rest = &rest[1..];
            }
            (Some(open), Some(byte)) if open == byte => {
                let after = &rest[1..];
                return match after.first() {
                    Some(next) if !next.is_ascii_whitespace() && *next != 0 => None,
                    _ => Some(after),
                };
            }
            (_, Some(byte)) => out.push(byte),
        }
        rest = &rest[1..];
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}
