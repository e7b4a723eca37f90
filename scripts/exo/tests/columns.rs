//! Comments of the sources are at most 110 columns wide: so they can be read beside code, and in a diff.
//!
//! Tables and drawings in comments are as wide as they need to be.

use std::path::{Path, PathBuf};

/// The most columns of a line that is a comment, its indentation included.
const COLUMNS: usize = 110;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a checkout")
}

/// Numbers of the lines, from 1, that are comments and too wide.
fn wide_comments(source: &str) -> Vec<usize> {
    let mut wide = Vec::new();
    let mut drawing = false;
    for (number, line) in (1..).zip(source.lines()) {
        let Some(rest) = line.trim_start().strip_prefix("//") else {
            drawing = false;
            continue;
        };
        let text = rest.trim_start_matches(['/', '!']).trim_start();
        if text.starts_with("```") {
            drawing = !drawing;
        }
        if !drawing && !text.starts_with('|') && line.chars().count() > COLUMNS {
            wide.push(number);
        }
    }
    wide
}

/// The Rust sources in a folder and in those below it.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn comments_are_at_most_110_columns() {
    let root = root();
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut wide = Vec::new();
    for path in found {
        let text = std::fs::read_to_string(&path).expect("a source");
        wide.extend(wide_comments(&text).iter().map(|line| format!("{}:{line}", path.display())));
    }
    assert!(wide.is_empty(), "comments wider than {COLUMNS} columns:\n{}", wide.join("\n"));
}

#[test]
fn wide_comments_are_found() {
    let long = "ä".repeat(COLUMNS - 3);
    let source = format!(
        "// {long}\n    // {long}\nlet a = \"{long}\"; // {long}\n//! | {long} |\n/// ```text\n/// {long}\n/// ```\n/// {long}x\n"
    );
    assert_eq!(
        wide_comments(&source),
        [2, 8],
        "with its indentation, the first fits and the second does not"
    );
}
