//! Files of recorded references: a first line that says what it is, the names of files as comments, calls.
//!
//! ```text
//! # hyperexo references 2
//! # file 4: 81920 bytes: /gli/index
//! # file 5: 4096 bytes, 12 reads, 0 writes: /gli/partitions
//! 17179869184
//! 17179869185+3
//! ```
//!
//! A line of a call has the number of its first block, file number × 2^32 + block, and `+` how many blocks it
//! asked for in all, if more than one. What stands between the length of a file and its path is for people.
//! Version 1 knew no calls of several blocks and no lengths.

use libos_fs::FileId;
use libos_fs::cache::block_of;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// First line of the file, without its version.
pub const TITLE: &str = "# hyperexo references ";
/// Version of the format that is written.
pub const VERSION: &str = "2";
/// Versions that are read.
pub const VERSIONS: [&str; 2] = ["1", VERSION];
/// Blocks that a call has at most: more is a damaged line.
const LONGEST_CALL: u64 = 1 << 24;
/// Characters of a path or command in the head: readers refuse lines of more than 1,024 bytes.
const MOST_CHARACTERS: usize = 200;
/// What a line with a name begins with.
const NAMED: &str = "# file ";

/// Bytes at the start of a file in which names are looked for: a file without line ends, such as one of
/// another kind, must not fill the memory.
const MOST_HEAD_BYTES: u64 = 1 << 24;

/// The first line.
pub fn title() -> String {
    format!("{TITLE}{VERSION}")
}

/// The line that names a file of so many bytes; `told` is nothing, or begins with a comma.
pub fn name_line(number: u64, bytes: u64, told: &str, path: &str) -> String {
    format!("{NAMED}{number}: {bytes} bytes{told}: {}", one_line(path))
}

/// The line of a call that asked for so many blocks.
pub fn call_line(first: u64, blocks: u64) -> String {
    if blocks == 1 { first.to_string() } else { format!("{first}+{blocks}") }
}

/// First block and number of blocks of the call of a line; `None` if it is no such line.
pub fn parse_call(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line).ok()?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let Some((first, blocks)) = text.split_once('+') else { return Some((number(text)?, 1)) };
    let (first, blocks): (u64, u64) = (number(first)?, number(blocks)?);
    first.checked_add(blocks)?;
    (1..=LONGEST_CALL).contains(&blocks).then_some((first, blocks))
}

/// A text without control characters; of a long one, its end: that tells files apart.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let skip = text.chars().count().saturating_sub(MOST_CHARACTERS);
    let start = if skip > 0 { "…" } else { "" };
    start.chars().chain(text.chars().skip(skip).map(plain)).collect()
}

/// What the head says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its path.
    pub path: String,
    /// Its length, if that was recorded.
    pub bytes: Option<u64>,
}

/// The files in the comments at the head of a record, by number. A file of another kind has none.
pub fn names(path: &Path) -> BTreeMap<u64, Named> {
    let Ok(file) = File::open(path) else { return BTreeMap::new() };
    let head = BufReader::new(file).take(MOST_HEAD_BYTES);
    let lines = head.lines().map_while(|line| line.ok().filter(|line| line.starts_with('#')));
    lines.filter_map(|line| parse_name(&line)).collect()
}

fn parse_name(line: &str) -> Option<(u64, Named)> {
    let (number, told) = line.strip_prefix(NAMED)?.split_once(": ")?;
    let (told, path) = if told.starts_with('/') { ("", told) } else { told.split_once(": ")? };
    let bytes = told.split_once(" bytes").and_then(|(bytes, _)| bytes.parse().ok());
    Some((number.parse().ok()?, Named { path: path.to_owned(), bytes }))
}

/// The calls of a record: file, first block, number of blocks. `None` for a file of another kind.
pub fn calls(path: &Path) -> Option<Vec<(FileId, u64, u64)>> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut title = [0; TITLE.len()];
    file.read_exact(&mut title).ok().filter(|()| title == TITLE.as_bytes())?;
    // Past the rest of the first line.
    let mut lines = file.split(b'\n').map_while(|line| line.ok());
    lines.next()?;
    let calls = lines.filter(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#"));
    calls
        .map(|line| {
            let (first, blocks) = parse_call(line.trim_ascii())?;
            let (file, block) = block_of(first);
            Some((file, block, blocks))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_head_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refs");
        let text = format!(
            "# hyperexo references 1\n{}\n# file x y\n# file 3: 2 reads: /c: d\n4294967296\n{}\n",
            name_line(1, 4097, ", 3 reads", "/a b"),
            name_line(2, 0, "", "/c")
        );
        std::fs::write(&path, text).unwrap();
        let named = |path: &str, bytes| Named { path: path.to_owned(), bytes };
        assert_eq!(names(&path), [(1, named("/a b", Some(4097))), (3, named("/c: d", None))].into());
        std::fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert!(names(&path).is_empty() && names(&folder.path().join("nothing")).is_empty());
        // A comment without an end: of a file that is larger than the memory, no more than its head is read.
        let endless = File::create(&path).unwrap();
        endless.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&endless, b"# file 1: /a", 0).unwrap();
        assert!(names(&path).len() <= 1);
    }

    #[test]
    fn calls_are_those_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refs");
        let first = 3 << 32 | 7;
        let text = format!("{}\n# x\n{}\n\n{}\n", title(), call_line(first, 1), call_line(first + 1, 16));
        std::fs::write(&path, text).unwrap();
        assert_eq!(calls(&path), Some(vec![(FileId(3), 7, 1), (FileId(3), 8, 16)]));
        std::fs::write(&path, "1\n2\n").unwrap();
        assert_eq!(calls(&path), None);
        for bad in ["", "+", "1+", "1+0", "1+x", "-1", "1++2", "1+99999999999", "18446744073709551615+2"] {
            assert_eq!(parse_call(bad.as_bytes()), None, "{bad}");
        }
    }
}
