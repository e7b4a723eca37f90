//! What a file holds, command by command, and where what is whole ends.

use super::error::LogError;
use super::format::{self, HEAD, Item, Seal, Stop, find_sealed};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use libos_fs::File;

/// Bytes read at once.
const AT_ONCE: usize = 64 * 1024;
/// How far behind a place that can't be read whole groups are looked for.
const SEARCH: usize = 16 * 1024 * 1024;

/// What was found in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes that are whole.
    pub whole: u64,
    /// Bytes after them, that were being written when the machine stopped.
    pub torn: u64,
    /// Commands that were carried out.
    pub commands: u64,
    /// Groups with a seal.
    pub groups: u64,
    /// The last time in it, in seconds since 1970; 0 if there is none.
    pub time_s: u64,
    /// Whether the file is one of sealed groups. Redis's own has none.
    pub sealed: bool,
}

/// Reads a file, and has each command carried out that is whole, in order: `apply` returns what is wrong with
/// one that can't be.
///
/// In a file of sealed groups nothing of a group is carried out before its seal was seen to be right; in one
/// of Redis's, nothing of a transaction before its `EXEC` was seen.
///
/// # Errors
///
/// [`LogError`]. A tail that was not finished is no error.
pub fn read(
    file: &File,
    path: &str,
    apply: impl FnMut(&[&[u8]]) -> Result<(), String>,
) -> Result<Found, LogError> {
    let length = file.len().map_err(|error| LogError::Volume { path: path.into(), error })?;
    let (bytes, commands, found) = (Vec::new(), Vec::new(), Found::default());
    let mut reading =
        Reading { file, path, length, bytes, base: 0, unit: 0, at: 0, commands, open: false, found, apply };
    reading.head()?;
    while reading.step()? {}
    reading.found.whole = reading.base + reading.unit as u64;
    reading.found.torn = length - reading.found.whole;
    Ok(reading.found)
}

/// A file that is being read. What is carried out at once is a *unit*: a group, a transaction, a command.
struct Reading<'f, A> {
    file: &'f File,
    path: &'f str,
    length: u64,
    /// Part of the file.
    bytes: Vec<u8>,
    /// Where it begins in the file.
    base: u64,
    /// Where the unit begins in it.
    unit: usize,
    /// What is read next.
    at: usize,
    /// Commands of the unit: where their arguments lie in it.
    commands: Vec<Vec<Range<usize>>>,
    /// Whether a transaction is open, in a file without seals.
    open: bool,
    found: Found,
    apply: A,
}

impl<A: FnMut(&[&[u8]]) -> Result<(), String>> Reading<'_, A> {
    /// Finds out what kind of file it is.
    fn head(&mut self) -> Result<(), LogError> {
        while self.bytes.len() < HEAD.len() && self.more()? {}
        if self.bytes.starts_with(b"REDIS") {
            return Err(LogError::Snapshot { path: self.path.into() });
        }
        self.found.sealed = self.bytes.starts_with(HEAD);
        if self.found.sealed {
            (self.at, self.unit) = (HEAD.len(), HEAD.len());
        }
        Ok(())
    }

    /// Reads the next command or annotation. `false` if there is none that is whole.
    fn step(&mut self) -> Result<bool, LogError> {
        match format::item(&self.bytes[self.at..]) {
            Err(Stop::Short) if self.more()? => {}
            Err(Stop::Short) if self.sealed_behind()? => {
                return Err(self.damaged(self.at, "a length leads beyond the end of the file"));
            }
            Err(Stop::Malformed(place, what)) if !self.found.sealed || self.sealed_behind()? => {
                return Err(self.damaged(self.at + place, what));
            }
            // Of a write that was not finished anything may be there, but nothing whole behind it.
            Err(_) => return Ok(false),
            Ok((Item::Annotation, bytes)) => {
                let seal = Seal::parse(&self.bytes[self.at..self.at + bytes]).filter(|_| self.found.sealed);
                if let Some(seal) = seal {
                    self.judge(seal)?;
                } else if let Some(time_s) = format::parse_time(&self.bytes[self.at..self.at + bytes]) {
                    self.found.time_s = self.found.time_s.max(time_s);
                }
                self.at += bytes;
                if seal.is_some() || !self.found.sealed && self.commands.is_empty() {
                    self.carry_out()?;
                }
            }
            Ok((Item::Command(arguments), bytes)) => {
                let within = self.at - self.unit;
                let shifted = arguments.iter().map(|(start, end)| within + start..within + end);
                self.commands.push(shifted.collect());
                if !self.found.sealed
                    && let Some((start, end)) = arguments.first()
                {
                    let name = &self.bytes[self.at + start..self.at + end];
                    let (opens, closes) =
                        (name.eq_ignore_ascii_case(b"MULTI"), name.eq_ignore_ascii_case(b"EXEC"));
                    self.open = opens || self.open && !closes;
                }
                self.at += bytes;
                if !self.found.sealed && !self.open {
                    self.carry_out()?;
                }
            }
        }
        Ok(true)
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> Result<bool, LogError> {
        self.bytes.drain(..self.unit);
        self.base += self.unit as u64;
        self.at -= self.unit;
        self.unit = 0;
        let start = self.bytes.len();
        let end = self.base + start as u64;
        let count = usize::try_from(self.length - end).unwrap_or(usize::MAX).min(AT_ONCE);
        self.bytes.resize(start + count, 0);
        let read = self.file.read_at(end, &mut self.bytes[start..]);
        let read = read.map_err(|error| LogError::Volume { path: self.path.into(), error })?;
        self.bytes.truncate(start + read);
        Ok(read > 0)
    }

    /// Whether a whole group lies behind what can't be read. It may begin before that: where the end of a
    /// line is damaged, two lines are read as one.
    fn sealed_behind(&mut self) -> Result<bool, LogError> {
        while self.bytes.len() < self.at + SEARCH && self.more()? {}
        Ok(find_sealed(&self.bytes[self.unit..]).is_some())
    }

    fn damaged(&self, at: usize, what: &'static str) -> LogError {
        let (offset, whole) = (self.base + at as u64, self.base + self.unit as u64);
        LogError::Damaged { path: self.path.into(), offset, what, whole }
    }

    /// Whether the unit is the group that a seal was made for.
    fn judge(&mut self, seal: Seal) -> Result<(), LogError> {
        let group = &self.bytes[self.unit..self.at];
        if seal.bytes == group.len() as u64 && seal.checksum == crc32fast::hash(group) {
            self.found.groups += 1;
            return Ok(());
        }
        Err(self.damaged(self.unit, "the group that begins there is not the one that was sealed"))
    }

    /// Carries out the unit; the next begins here.
    fn carry_out(&mut self) -> Result<(), LogError> {
        let unit = &self.bytes[self.unit..self.at];
        for command in self.commands.drain(..) {
            let arguments: Vec<&[u8]> = command.iter().map(|place| &unit[place.clone()]).collect();
            (self.apply)(&arguments).map_err(|what| {
                let start = command.first().map_or(0, |first| first.start) as u64;
                let offset = self.base + self.unit as u64 + start;
                LogError::Command { path: self.path.into(), offset, what }
            })?;
            self.found.commands += 1;
        }
        self.unit = self.at;
        Ok(())
    }
}
