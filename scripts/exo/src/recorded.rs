//! The head of a file of recorded references: its first line, and the names of the files, as comments.
//!
//! ```text
//! # hyperexo references 1
//! # file 4: /gli/index
//! # file 5: 12 reads, 0 writes: /gli/partitions
//! ```
//!
//! What stands between the number of a file and its path is for people.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// First line of the file, without its version.
pub const TITLE: &str = "# hyperexo references ";
/// Version of the format that is written and read: one decimal number a line, file number × 2^32 + block.
pub const VERSION: &str = "1";
/// Characters of a path or command in the head: readers refuse lines of more than 1,024 bytes.
const MOST_CHARACTERS: usize = 200;
/// What a line with a name begins with.
const NAMED: &str = "# file ";

/// The first line.
pub fn title() -> String {
    format!("{TITLE}{VERSION}")
}

/// The line that names a file; `told` is nothing, or ends with `: `.
pub fn name_line(number: u64, told: &str, path: &str) -> String {
    format!("{NAMED}{number}: {told}{}", one_line(path))
}

/// A text without control characters; of a long one, its end: that tells files apart.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let skip = text.chars().count().saturating_sub(MOST_CHARACTERS);
    let start = if skip > 0 { "…" } else { "" };
    start.chars().chain(text.chars().skip(skip).map(plain)).collect()
}

/// The names in the comments at the head of a text. A file of another kind has none.
pub fn names(path: &Path) -> BTreeMap<u64, String> {
    let Ok(file) = File::open(path) else { return BTreeMap::new() };
    let lines = BufReader::new(file).lines().map_while(|line| line.ok().filter(|line| line.starts_with('#')));
    lines.filter_map(|line| parsed(&line)).collect()
}

fn parsed(line: &str) -> Option<(u64, String)> {
    let (number, told) = line.strip_prefix(NAMED)?.split_once(": ")?;
    let path = if told.starts_with('/') { told } else { told.split_once(": ")?.1 };
    Some((number.parse().ok()?, path.to_owned()))
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
            name_line(1, "", "/a b"),
            name_line(2, "", "/c")
        );
        std::fs::write(&path, text).unwrap();
        assert_eq!(names(&path), [(1, "/a b".to_owned()), (3, "/c: d".to_owned())].into());
        std::fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert!(names(&path).is_empty() && names(&folder.path().join("nothing")).is_empty());
    }
}
