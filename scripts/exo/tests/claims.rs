//! `docs/claims.md` names files, functions and system tests. They must exist.
//!
//! With `EXO_MEND_CLAIMS` in the environment, files that have moved get their new names: those in which all
//! functions are that stand behind the old name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The page, from the root of the checkout.
const PAGE: &str = "docs/claims.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a checkout")
}

/// What there is to be named.
struct Sources {
    /// The text of each file, by its path from the root.
    texts: BTreeMap<String, String>,
    /// System tests.
    tests: BTreeSet<String>,
}

impl Sources {
    fn of(root: &Path) -> Sources {
        let mut texts = BTreeMap::new();
        for folder in
            ["hyperexo", "libos-core", "libos-net", "libos-fs", "libos-pager", "unikernels", "scripts"]
        {
            gather(root, &root.join(folder), &mut texts);
        }
        let tests = system_tests(&texts);
        Sources { texts, tests }
    }

    /// Whether the path is a file's, or a folder's with a slash at its end.
    fn has(&self, path: &str) -> bool {
        match path.ends_with('/') {
            true => self.texts.keys().any(|name| name.starts_with(path)),
            false => self.texts.contains_key(path),
        }
    }

    /// Whether a function is in a file, or in a folder's files.
    fn has_function(&self, path: &str, function: &str) -> bool {
        let start = format!("fn {function}(");
        let is_there = |name: &str| name == path || path.ends_with('/') && name.starts_with(path);
        self.texts.iter().any(|(name, text)| is_there(name) && text.contains(&start))
    }

    /// The only file in which all these functions are.
    fn place_of(&self, functions: &[String]) -> Option<&str> {
        let all = |name: &&String| functions.iter().all(|function| self.has_function(name, function));
        let mut found = self.texts.keys().filter(all);
        let first = found.next().filter(|_| !functions.is_empty())?;
        found.next().is_none().then_some(first)
    }
}

/// Reads the Rust sources of a folder and of those below it.
fn gather(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) {
    // A crate may be missing in one version of the tree, and the page then names nothing of it.
    let Ok(listing) = std::fs::read_dir(folder) else { return };
    for entry in listing {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            gather(root, &path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            texts.insert(name, std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Names of system tests: those that the suite makes, and those of the attempts of `hostile`.
fn system_tests(texts: &BTreeMap<String, String>) -> BTreeSet<String> {
    let of = |folder: &'static str| texts.iter().filter(move |(name, _)| name.starts_with(folder));
    let mut names = BTreeSet::new();
    for (_, text) in of("scripts/exo/src/suite/") {
        let calls = text.split("Test::new(").skip(1);
        names
            .extend(calls.filter_map(|rest| {
                rest.trim_start().strip_prefix('"')?.split('"').next().map(str::to_owned)
            }));
    }
    for (_, text) in of("unikernels/hostile/src/") {
        // An attempt begins with its kind and its name: `Attempt::killed("read-kernel", `.
        for rest in text.split("Attempt::").skip(1) {
            let arguments = rest.split_once('(').map_or("", |(_, arguments)| arguments);
            let name = arguments.split('"').nth(1).filter(|_| arguments.find('"') < arguments.find(','));
            names.extend(name.map(|name| format!("hostile-{name}")));
        }
    }
    names
}

/// A word that the page sets apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    Path(String),
    Function(String),
    SystemTest(String),
}

/// The names in a table's cell.
fn names_in(cell: &str) -> Vec<Named> {
    let mut names = Vec::new();
    let mut rest = cell;
    while let Some(at) = rest.find(['`', '*']) {
        let mark = &rest[at..=at];
        let inside = &rest[at + 1..];
        let Some((word, after)) = inside.split_once(mark) else { break };
        let word = word.to_owned();
        let is_identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match mark {
            "*" => names.push(Named::SystemTest(word)),
            _ if word.contains('/') => names.push(Named::Path(word)),
            _ if word.chars().all(is_identifier) => names.push(Named::Function(word)),
            _ => {}
        }
        rest = after;
    }
    names
}

/// The rows of tables of claims: their line numbers, from 1, and their last cells.
fn rows(page: &str) -> Vec<(usize, &str)> {
    let mut rows = Vec::new();
    let mut in_claims = false;
    for (number, line) in (1..).zip(page.lines()) {
        in_claims = line.starts_with("| claim |") || in_claims && line.starts_with('|');
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        if in_claims && !line.starts_with("| claim |") && !line.starts_with("|---") {
            rows.push((number, *cells.last().unwrap_or(&"")));
        }
    }
    rows
}

/// What is wrong with the page, and the new names of files that have moved.
fn judge(page: &str, sources: &Sources) -> (Vec<String>, Vec<(String, String)>) {
    let (mut faults, mut moved) = (Vec::new(), Vec::new());
    for (line, cell) in rows(page) {
        let names = names_in(cell);
        if names.is_empty() {
            faults.push(format!("{PAGE}:{line}: a claim without a test"));
        }
        for (at, name) in names.iter().enumerate() {
            match name {
                Named::SystemTest(name) if !sources.tests.contains(name) => {
                    faults.push(format!("{PAGE}:{line}: there is no system test {name}"));
                }
                Named::Path(path) => {
                    let behind = names[at + 1..].iter().map_while(|name| match name {
                        Named::Function(function) => Some(function.clone()),
                        _ => None,
                    });
                    judge_file(path, &behind.collect::<Vec<_>>(), sources, &mut moved)
                        .into_iter()
                        .for_each(|fault| faults.push(format!("{PAGE}:{line}: {fault}")));
                }
                _ => {}
            }
        }
    }
    (faults, moved)
}

/// What is wrong with a file and the functions named behind it.
fn judge_file(
    path: &str,
    functions: &[String],
    sources: &Sources,
    moved: &mut Vec<(String, String)>,
) -> Vec<String> {
    let missing: Vec<&String> =
        functions.iter().filter(|function| !sources.has_function(path, function)).collect();
    if sources.has(path) && missing.is_empty() {
        return vec![];
    }
    if let Some(place) = sources.place_of(functions) {
        moved.push((path.to_owned(), place.to_owned()));
        return vec![format!("{path} is now {place}: that is where {} is", functions.join(", "))];
    }
    if !sources.has(path) {
        return vec![format!("there is no {path}")];
    }
    let tell = |function: &String| match sources.place_of(std::slice::from_ref(function)) {
        Some(place) => format!("{function} is not in {path}, but in {place}"),
        None => format!("{function} is not in {path}"),
    };
    missing.into_iter().map(tell).collect()
}

#[test]
fn every_name_exists() {
    let root = root();
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page of claims");
    assert!(rows(&page).len() > 50, "the tables are not read any more");
    let sources = Sources::of(&root);
    let (mut faults, moved) = judge(&page, &sources);
    if std::env::var_os("EXO_MEND_CLAIMS").is_some() && !moved.is_empty() {
        let mended = mend(&page, &sources);
        std::fs::write(&path, &mended).expect("the page can be written");
        faults = judge(&mended, &sources).0;
    }
    assert!(faults.is_empty(), "{}\nEXO_MEND_CLAIMS=1 writes new names of files", faults.join("\n"));
}

/// The page with the new names of files that have moved.
fn mend(page: &str, sources: &Sources) -> String {
    let mend_line = |line: &str| {
        let (_, moved) = judge(&format!("| claim |\n{line}"), sources);
        moved.iter().fold(line.to_owned(), |line, (old, new)| {
            line.replacen(&format!("`{old}`"), &format!("`{new}`"), 1)
        })
    };
    page.lines()
        .map(|line| if line.starts_with('|') { mend_line(line) } else { line.to_owned() } + "\n")
        .collect()
}

#[test]
fn what_does_not_exist_is_told() {
    let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let texts = BTreeMap::from([
        text(
            "scripts/exo/src/suite/work.rs",
            "Test::new(\"hello\", &[], x), Test::new(\n    \"two\", &[], x)",
        ),
        text(
            "unikernels/hostile/src/a.rs",
            "Attempt::killed(\"read\", \"reads\", |_| x), Attempt { name: y }",
        ),
        text("hyperexo/src/new/a.rs", "fn one() {} fn two() {} fn three() {}"),
        text("hyperexo/src/b.rs", "fn four() {} fn five() {}"),
    ]);
    let tests = system_tests(&texts);
    assert_eq!(tests.iter().collect::<Vec<_>>(), ["hello", "hostile-read", "two"]);
    let sources = Sources { texts, tests };
    let page = |cell: &str| format!("| claim | tests |\n|---|---|\n| A | {cell} |\n\n| other | `x/y.rs` |\n");
    let faults = |cell: &str| judge(&page(cell), &sources).0;
    assert!(faults("`hyperexo/src/b.rs` (`four`, `five`); *hello*, *hostile-read*").is_empty());
    assert!(faults("`hyperexo/src/new/` (`one`)").is_empty());
    let told = |cell: &str, what: &str| {
        let faults = faults(cell);
        assert!(faults.len() == 1 && faults[0].contains(what), "{cell}: {faults:?}");
    };
    told("nothing", "docs/claims.md:3: a claim without a test");
    told("*hostile-write*", "no system test hostile-write");
    told("`hyperexo/src/c.rs`", "there is no hyperexo/src/c.rs");
    told("`hyperexo/src/b.rs` (`four`, `six`)", "six is not in hyperexo/src/b.rs");
    told(
        "`hyperexo/src/b.rs` (`four`, `one`)",
        "one is not in hyperexo/src/b.rs, but in hyperexo/src/new/a.rs",
    );
    let old = "`hyperexo/src/a.rs` (`one`, `two`), `hyperexo/src/b.rs` (`four`)";
    told(old, "hyperexo/src/a.rs is now hyperexo/src/new/a.rs");
    let mended = mend(&page(old), &sources);
    assert_eq!(mended, page("`hyperexo/src/new/a.rs` (`one`, `two`), `hyperexo/src/b.rs` (`four`)"));
}
