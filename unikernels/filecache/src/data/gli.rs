//! The articles of `gli`, their index, and what the queries must find, computed without the index.

use super::image::{ImageFile, json};
use super::{Collected, DataError, METADATA_BYTES, Origin, Sizes, packages, sources};
use crate::cs::Found;
use crate::digest::digest;
use crate::gli::{self, INDEX_PATH, LIST_PATH, Query, TASK_PATH};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Debian's package with the articles: the manual of Perl, some 190 of them.
const PACKAGE: &str = "perl-doc";
/// Files of these names are articles.
const EXTENSIONS: [&str; 2] = ["pod", "pm"];
/// Bytes of a partition, at least.
const PARTITION_BYTES: usize = 40 << 10;
/// Letters of a word that is indexed, at least: shorter ones are everywhere.
const SHORTEST_WORD: usize = 3;
/// Queries. What each should find, as a share of the partitions in hundredths: they overlap in part.
const COVERAGE: [usize; 6] = [70, 50, 60, 40, 55, 65];

/// Index, partitions and task.
pub(super) fn collect(origin: &Origin<'_>, sizes: &Sizes) -> Result<Collected, DataError> {
    let (articles, note) = match packages::unpack(PACKAGE, origin.downloads) {
        Ok(folder) => (texts_in(&folder, sizes.article_bytes)?, format!("articles from Debian's {PACKAGE}")),
        Err(error) => {
            let texts = sources::collect(origin.workspace, sizes.article_bytes)?;
            let note = format!("articles are the sources of the locked dependencies: {error}");
            (texts.into_iter().map(|file| file.text).collect(), note)
        }
    };
    let partitions = partitions_of(&articles);
    Ok(Collected { files: files(&partitions)?, spare_bytes: METADATA_BYTES, notes: vec![note] })
}

/// All files of the image for these partitions.
pub fn files(partitions: &[String]) -> Result<Vec<ImageFile>, DataError> {
    let index = index_of(partitions);
    let paths: Vec<String> =
        (0..partitions.len()).map(|number| format!("gli/articles/{number:04}")).collect();
    let list: String = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    let task = gli::Task {
        queries: choose_patterns(&index, partitions.len())
            .into_iter()
            .map(|pattern| Query { found: grep(partitions, &pattern), pattern })
            .collect(),
        partitions: partitions.iter().map(|text| digest(text.as_bytes())).collect(),
    };
    let lines = index.iter().map(|(word, numbers)| {
        let numbers: String = numbers.iter().map(|number| format!(" {number}")).collect();
        format!("{word}{numbers}\n")
    });
    let file = |path: &str, text: String| ImageFile { path: path.into(), bytes: text.into_bytes() };
    let mut files = vec![json(TASK_PATH, &task)?, file(INDEX_PATH, lines.collect()), file(LIST_PATH, list)];
    files.extend(paths.iter().zip(partitions).map(|(path, text)| file(path, text.clone())));
    Ok(files)
}

/// The articles below a folder in the order of their paths, until they have so many bytes together.
fn texts_in(folder: &Path, bytes: u64) -> Result<Vec<String>, DataError> {
    let mut texts = Vec::new();
    let mut found = 0;
    for path in sources::files_below(folder, &EXTENSIONS)? {
        if found >= bytes {
            break;
        }
        let text = std::fs::read(&path).map_err(DataError::host(&path))?;
        found += text.len() as u64;
        // A few are in other encodings than UTF-8.
        texts.push(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(texts)
}

/// Articles in a row, together.
fn partitions_of(articles: &[String]) -> Vec<String> {
    let mut partitions = vec![String::new()];
    for line in articles.iter().flat_map(|text| text.lines()) {
        if partitions.last().is_some_and(|last| last.len() >= PARTITION_BYTES) {
            partitions.push(String::new());
        }
        if let Some(last) = partitions.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    partitions
}

/// The words of each partition: runs of letters and digits.
fn index_of(partitions: &[String]) -> BTreeMap<&str, BTreeSet<usize>> {
    let mut index: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (number, text) in partitions.iter().enumerate() {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        for word in words.filter(|word| word.len() >= SHORTEST_WORD) {
            index.entry(word).or_default().insert(number);
        }
    }
    index
}

/// For each wanted coverage the word that comes nearest and no other query has.
fn choose_patterns(index: &BTreeMap<&str, BTreeSet<usize>>, partitions: usize) -> Vec<String> {
    let mut chosen: Vec<String> = Vec::new();
    for share in COVERAGE {
        let wanted = partitions * share / 100;
        let nearest = index
            .iter()
            .filter(|(word, _)| word.len() >= 5 && !chosen.iter().any(|other| other == *word))
            .min_by_key(|(_, numbers)| numbers.len().abs_diff(wanted));
        chosen.extend(nearest.map(|(word, _)| (*word).to_string()));
    }
    chosen
}

/// What a search of everything finds.
fn grep(partitions: &[String], pattern: &str) -> Found {
    let mut found = Found::default();
    for (number, text) in partitions.iter().enumerate() {
        for (line, content) in text.split('\n').enumerate().filter(|(_, line)| line.contains(pattern)) {
            found.add(number as u64, line as u64 + 1, content.as_bytes());
        }
    }
    found
}
