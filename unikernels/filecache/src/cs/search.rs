//! The two searches: for a text in source files, and for a symbol in the cross-reference database.

use crate::digest::{digest, mix};
use alloc::vec::Vec;
use memchr::memmem::{Finder, FinderRev};
use memchr::{memchr, memchr_iter, memrchr};
use serde::{Deserialize, Serialize};

/// What a search found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Lines that match, or definitions and uses of the symbol.
    pub matches: u64,
    /// Of a symbol: how many of them are definitions.
    pub definitions: u64,
    /// Digest of where they are and what stands there, in the order they were found.
    pub digest: u64,
}

impl Found {
    /// Adds a match: the number of its file, its line, counted from 1, and the text found.
    pub fn add(&mut self, file: u64, line: u64, text: &[u8]) {
        self.matches += 1;
        self.digest = mix(mix(mix(self.digest, file), line), digest(text));
    }
}

/// Searches one text in one file after the other, given as batches of whole lines.
pub struct TextSearch<'n> {
    finder: Finder<'n>,
    file: u64,
    /// Line feeds in the file before the next batch.
    feeds: u64,
    found: Found,
}

impl<'n> TextSearch<'n> {
    /// A search for `text`, which holds no line feed.
    pub fn new(text: &'n [u8]) -> Self {
        TextSearch { finder: Finder::new(text), file: 0, feeds: 0, found: Found::default() }
    }

    /// The next batch starts file number `file`.
    pub fn start_file(&mut self, file: u64) {
        self.file = file;
        self.feeds = 0;
    }

    /// Searches whole lines. A line with several matches counts once.
    pub fn search(&mut self, batch: &[u8]) {
        let mut counted = 0;
        while let Some(position) = self.finder.find(&batch[counted..]) {
            let position = counted + position;
            let start = memrchr(b'\n', &batch[..position]).map_or(0, |feed| feed + 1);
            let end = memchr(b'\n', &batch[position..]).map_or(batch.len(), |feed| position + feed);
            self.feeds += count_feeds(&batch[counted..start]);
            self.found.add(self.file, self.feeds + 1, &batch[start..end]);
            counted = end;
        }
        self.feeds += count_feeds(&batch[counted..]);
    }

    /// What was found.
    pub fn found(&self) -> Found {
        self.found
    }
}

fn count_feeds(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// Marks that stand before a symbol that is defined: function, macro, other. The letters are not part of any
/// symbol.
pub const DEFINITION_MARKS: [u8; 3] = [b'$', b'#', b'='];
/// First byte of a line that names a file.
pub const FILE_MARK: u8 = b'@';

/// Searches one symbol in the cross-reference database, given as batches of whole lines.
///
/// The database is text in the manner of cscope's, in the order of the source files:
///
/// ```text
/// @serde-1.0.228/src/lib.rs          a file; the lines up to the next such line belong to it
/// 12 $main args collect              line 12 defines function main and uses args and collect
/// 14 #vec =Matrix                    `#` defines a macro, `=` anything else
/// ```
pub struct SymbolSearch<'n> {
    symbol: &'n [u8],
    finder: Finder<'n>,
    file_finder: FinderRev<'static>,
    /// Digest of the name of the file in which the next batch starts.
    file: u64,
    found: Found,
}

impl<'n> SymbolSearch<'n> {
    /// A search for `symbol`: letters, digits, underscores.
    pub fn new(symbol: &'n [u8]) -> Self {
        SymbolSearch {
            symbol,
            finder: Finder::new(symbol),
            file_finder: FinderRev::new(b"\n@"),
            file: 0,
            found: Found::default(),
        }
    }

    /// Searches whole lines.
    pub fn search(&mut self, batch: &[u8]) {
        let hits: Vec<usize> = self.finder.find_iter(batch).collect();
        for position in hits {
            let end = position + self.symbol.len();
            let before = position.checked_sub(1).map(|index| batch[index]);
            let definition = before.is_some_and(|byte| DEFINITION_MARKS.contains(&byte));
            let starts = definition || before == Some(b' ');
            let ends = batch.get(end).is_none_or(|byte| matches!(byte, b' ' | b'\n'));
            if !starts || !ends {
                continue;
            }
            let start = memrchr(b'\n', &batch[..position]).map_or(0, |feed| feed + 1);
            if batch[start] == FILE_MARK {
                continue;
            }
            let file = self.file_at(&batch[..start]);
            self.found.add(file, leading_number(&batch[start..]), &batch[position..end]);
            self.found.definitions += u64::from(definition);
        }
        self.file = self.file_at(batch);
    }

    /// Digest of the name of the file to which what follows `lines` belongs.
    fn file_at(&self, lines: &[u8]) -> u64 {
        let start = match self.file_finder.rfind(lines) {
            Some(feed) => feed + 2,
            None if lines.first() == Some(&FILE_MARK) => 1,
            None => return self.file,
        };
        let end = memchr(b'\n', &lines[start..]).map_or(lines.len(), |feed| start + feed);
        digest(&lines[start..end])
    }

    /// What was found.
    pub fn found(&self) -> Found {
        self.found
    }
}

/// The decimal number at the start of a line.
fn leading_number(line: &[u8]) -> u64 {
    line.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_once_with_their_numbers() {
        let mut search = TextSearch::new(b"fn");
        search.start_file(3);
        search.search(b"fn a fn b\n\nx\n");
        search.search(b"no\nlast fn");
        search.start_file(4);
        search.search(b"fn\n");
        let mut expected = Found::default();
        expected.add(3, 1, b"fn a fn b");
        expected.add(3, 5, b"last fn");
        expected.add(4, 1, b"fn");
        assert_eq!(search.found(), expected);
    }

    #[test]
    fn symbols_are_whole_words_with_file_line_and_kind() {
        let database = b"@a b\n1 $b c\n12 ab b bc\n@d\n7 #b\n9 x =b\n";
        let mut expected = Found { definitions: 3, ..Found::default() };
        expected.add(digest(b"a b"), 1, b"b");
        expected.add(digest(b"a b"), 12, b"b");
        expected.add(digest(b"d"), 7, b"b");
        expected.add(digest(b"d"), 9, b"b");
        let mut whole = SymbolSearch::new(b"b");
        whole.search(database);
        assert_eq!(whole.found(), expected);
        let mut pieces = SymbolSearch::new(b"b");
        database.split_inclusive(|byte| *byte == b'\n').for_each(|line| pieces.search(line));
        assert_eq!(pieces.found(), expected, "batches don't matter");
    }
}
