//! Which module may import which, for every crate that has rows: a module imports only what is in rows above
//! its own, counted from the row that uses nothing.
//!
//! The comment at the root of such a crate has lines `rows: a b · c · d`. Modules between two dots are one
//! row, and import nothing of each other. Each folder at the root is one module; what its files import of
//! each other is its own affair. Tests may import anything.

use crate::host::checkout::Checkout;
use crate::source;
use proc_macro2::{LexError, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates with rows: folder of the sources, and the file at the root.
const CRATES: [(&str, &str); 1] = [("scripts/exo/src", "main.rs")];
/// Files at a root that are no modules of it.
const ROOTS: [&str; 3] = ["main", "lib", "rows"];

/// The row of each module, from 0.
fn rows(comment: &str) -> BTreeMap<String, usize> {
    let lines = comment.lines().filter_map(|line| line.strip_prefix("//! rows: "));
    let rows = lines.flat_map(|line| line.split('·')).filter(|names| !names.trim().is_empty());
    let names = |(row, names): (usize, &str)| {
        names.split_whitespace().map(|name| (name.to_owned(), row)).collect::<Vec<_>>()
    };
    rows.enumerate().flat_map(names).collect()
}

/// Names that follow `crate::` outside of tests: the modules, and other things at the root, that a source
/// uses.
fn uses(source: &str) -> Result<BTreeSet<String>, LexError> {
    let code = source::code(source)?;
    let mut names = BTreeSet::new();
    for window in code.windows(4) {
        let [TokenTree::Ident(first), TokenTree::Punct(a), TokenTree::Punct(b), what] = window else {
            continue;
        };
        if *first != "crate" || (a.as_char(), b.as_char()) != (':', ':') {
            continue;
        }
        match what {
            TokenTree::Ident(name) => {
                names.insert(name.to_string());
            }
            TokenTree::Group(group) => names.extend(heads(group.stream())),
            _ => {}
        }
    }
    Ok(names)
}

/// The first name of each path in the braces of a `use`.
fn heads(list: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    let mut starts = true;
    for token in list {
        match &token {
            TokenTree::Ident(name) if starts => names.push(name.to_string()),
            _ => {}
        }
        starts = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == ',');
    }
    names
}

/// What is wrong with the imports of a file that belongs to `module`.
fn faults(rows: &BTreeMap<String, usize>, module: &str, used: &BTreeSet<String>) -> Vec<String> {
    let Some(own) = rows.get(module) else { return vec![format!("{module} is in no row")] };
    let is_fault = |name: &&String| *name != module && rows.get(*name).is_some_and(|row| row >= own);
    used.iter()
        .filter(is_fault)
        .map(|name| format!("{module} imports {name}, which is not above it"))
        .collect()
}

/// The files of a folder and of those below it.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module at the root to which a file belongs; `None` for the root itself.
fn module_of(folder: &Path, path: &Path) -> Option<String> {
    let first = path.strip_prefix(folder).ok()?.iter().next()?;
    let name = Path::new(first).file_stem()?.to_string_lossy().into_owned();
    (!ROOTS.contains(&name.as_str())).then_some(name)
}

#[test]
fn modules_import_only_from_rows_above() {
    let root = Checkout::find().expect("a checkout").root;
    let mut wrong = Vec::new();
    for (folder, file) in CRATES {
        let folder = root.join(folder);
        let comment = std::fs::read_to_string(folder.join(file)).expect("the root of a crate");
        let rows = rows(&comment);
        let mut files = Vec::new();
        list(&folder, &mut files);
        let mut seen = BTreeSet::new();
        for path in files {
            let Some(module) = module_of(&folder, &path) else { continue };
            let text = std::fs::read_to_string(&path).expect("a source");
            let used = uses(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            wrong.extend(
                faults(&rows, &module, &used).into_iter().map(|fault| format!("{}: {fault}", path.display())),
            );
            seen.insert(module);
        }
        let gone = rows.keys().filter(|name| !seen.contains(*name));
        wrong.extend(gone.map(|name| format!("{file}: the rows name {name}, which is no module")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_from_below_are_found() {
    let rows = rows("//! A crate.\n//! rows: a b · c\n//! rows: d\n");
    assert_eq!((rows["b"], rows["c"], rows["d"]), (0, 1, 2), "a new line is a new row");
    let used = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert!(faults(&rows, "c", &used(&["a", "c", "Error"])).is_empty());
    assert_eq!(faults(&rows, "a", &used(&["b", "c"])).len(), 2);
    assert_eq!(faults(&rows, "e", &used(&[])).len(), 1);
}

#[test]
fn what_is_used_of_the_crate_is_found() {
    let source = "use crate::a::b;\nuse crate::{c, d::{e, f}, g as h};\n/// [`crate::i`]\nfn j() -> crate::k::L {\n    \
                  m(\"crate::n\", crate::o::p())\n}\n#[cfg(test)]\nmod tests {\n    use crate::q;\n}\n";
    let names: Vec<String> = uses(source).unwrap().into_iter().collect();
    assert_eq!(names, ["a", "c", "d", "g", "k", "o"]);
}
