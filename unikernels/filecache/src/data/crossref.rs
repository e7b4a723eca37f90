//! The cross-reference database: which symbols stand where, as cscope would write it down.
//!
//! The scanner knows comments, strings, character literals and words, and takes the word after `fn`, `struct`
//! and the like as being defined: a cross-reference, not a compiler. Its format is described at
//! [`SymbolSearch`](crate::cs::SymbolSearch).

use super::sources::SourceFile;
use crate::cs::FILE_MARK;
use std::fmt::Write;

/// Words that are no symbols.
const KEYWORDS: [&str; 37] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
];

/// The mark of what is defined by the word after `keyword`; see [`crate::cs::DEFINITION_MARKS`].
fn definition_mark(keyword: &str) -> Option<char> {
    match keyword {
        "fn" => Some('$'),
        "macro_rules" => Some('#'),
        "struct" | "enum" | "trait" | "type" | "mod" | "union" => Some('='),
        _ => None,
    }
}

/// Makes the database for the files, in their order.
pub fn build(files: &[SourceFile]) -> String {
    let mut database = String::new();
    for file in files {
        database.push(char::from(FILE_MARK));
        database.push_str(&file.path);
        database.push('\n');
        add_file(&mut database, &file.text);
    }
    database
}

fn add_file(database: &mut String, text: &str) {
    let mut written_line = 0;
    let mut mark = None;
    for (line, word) in Words::new(text) {
        if let Some(next) = definition_mark(word) {
            mark = Some(next);
            if word != "union" {
                continue;
            }
        }
        if KEYWORDS.contains(&word) {
            continue;
        }
        if line != written_line {
            if written_line != 0 {
                database.push('\n');
            }
            // Writing to a string does not fail.
            let _ = write!(database, "{line}");
            written_line = line;
        }
        database.push(' ');
        database.extend(mark.take_if(|_| word != "union"));
        database.push_str(word);
    }
    if written_line != 0 {
        database.push('\n');
    }
}

/// The words of a Rust source text outside comments and literals, with their line numbers, counted from 1.
struct Words<'t> {
    text: &'t str,
    position: usize,
    line: u64,
}

impl<'t> Words<'t> {
    fn new(text: &'t str) -> Words<'t> {
        Words { text, position: 0, line: 1 }
    }

    fn rest(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.position..]
    }

    /// Skips `count` bytes, counting lines.
    fn skip(&mut self, count: usize) {
        let skipped = &self.rest()[..count.min(self.rest().len())];
        self.line += memchr::memchr_iter(b'\n', skipped).count() as u64;
        self.position += skipped.len();
    }

    /// Bytes of the comment or literal at the position; 0 if there is none.
    fn skippable(&self) -> usize {
        match self.rest() {
            [b'/', b'/', ..] => memchr::memchr(b'\n', self.rest()).unwrap_or(self.rest().len()),
            [b'/', b'*', ..] => block_comment(self.rest()),
            [b'"', ..] => string(self.rest()),
            [b'r', b'"' | b'#', ..] => raw_string(&self.rest()[1..]).map_or(0, |bytes| bytes + 1),
            [b'b', b'r', b'"' | b'#', ..] => raw_string(&self.rest()[2..]).map_or(0, |bytes| bytes + 2),
            [b'\'', ..] => character(self.rest()),
            _ => 0,
        }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = (u64, &'t str);

    fn next(&mut self) -> Option<(u64, &'t str)> {
        while let Some(&byte) = self.rest().first() {
            let skippable = self.skippable();
            if skippable > 0 {
                self.skip(skippable);
                continue;
            }
            if !is_word(byte) {
                self.skip(1);
                continue;
            }
            let end = self.rest().iter().position(|byte| !is_word(*byte)).unwrap_or(self.rest().len());
            let start = self.position;
            self.skip(end);
            if !byte.is_ascii_digit() {
                return Some((self.line, &self.text[start..self.position]));
            }
        }
        None
    }
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Bytes of a block comment, which may hold others.
fn block_comment(text: &[u8]) -> usize {
    let mut depth = 0;
    let mut position = 0;
    while position < text.len() {
        match &text[position..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                position += 1;
                continue;
            }
        }
        position += 2;
        if depth == 0 {
            break;
        }
    }
    position.min(text.len())
}

/// Bytes of a string, quotes included.
fn string(text: &[u8]) -> usize {
    let mut position = 1;
    while let Some(byte) = text.get(position) {
        position += match byte {
            b'\\' => 2,
            b'"' => return position + 1,
            _ => 1,
        };
    }
    text.len()
}

/// Bytes of a raw string from its first `#` or quote. `None` if it is a raw identifier.
fn raw_string(text: &[u8]) -> Option<usize> {
    let hashes = text.iter().take_while(|byte| **byte == b'#').count();
    if text.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = hashes + 1;
    Some(memchr::memmem::find(&text[body..], &end).map_or(text.len(), |found| body + found + end.len()))
}

/// Bytes of a character literal; 0 if the quote starts a lifetime.
fn character(text: &[u8]) -> usize {
    match text {
        [_, b'\\', _, rest @ ..] => memchr::memchr(b'\'', rest).map_or(0, |found| found + 4),
        [_, first, ..] => {
            let bytes = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if text.get(1 + bytes) == Some(&b'\'') { bytes + 2 } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(text: &str) -> String {
        build(&[SourceFile { path: "p/a.rs".into(), text: text.into() }])
    }

    #[test]
    fn definitions_and_uses_have_their_lines() {
        let text = "fn main() {\n\n    let a = b(1u8);\n}\nstruct Point; macro_rules! v {}\n";
        assert_eq!(database(text), "@p/a.rs\n1 $main\n3 a b\n5 =Point #v\n");
        assert_eq!(database(""), "@p/a.rs\n");
    }

    #[test]
    fn comments_and_literals_hold_no_symbols() {
        let text =
            "/* x /* y */ z */ a // b\n\"c \\\" d\" e 'f' '\\'' g<'h>\nr#\"i\"j\"# k b\"l\" br\"m\" 'é' n";
        assert_eq!(database(text), "@p/a.rs\n1 a\n2 e g h\n3 k b n\n");
    }

    #[test]
    fn unfinished_text_ends() {
        for text in ["/* a", "\"a", "'", "r#\"a", "'\\", "fn", "\"\\"] {
            let _ = database(text);
        }
    }
}
