//! Names of the files of a recorded trace: comments at its head, `# file NUMBER: PATH`, or with something else
//! that is told of the file before its path, `# file NUMBER: 12 reads, 0 writes: PATH`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What a line with a name begins with.
pub const NAMED: &str = "# file ";

/// The line that names a file.
pub fn line(number: u64, path: &str) -> String {
    format!("{NAMED}{number}: {path}")
}

/// The names in the comments at the head of a text. A file of another kind has none.
pub fn read(path: &Path) -> BTreeMap<u64, String> {
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
            line(1, "/a b"),
            line(2, "/c")
        );
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path), [(1, "/a b".to_owned()), (3, "/c: d".to_owned())].into());
        std::fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert!(read(&path).is_empty() && read(&folder.path().join("nothing")).is_empty());
    }
}
