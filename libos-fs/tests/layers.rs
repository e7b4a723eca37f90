//! The rows of the library: a module imports only what stands above it, and the cache has no circle.
//!
//! Read are the `use` lines of each file, and, as methods need no import, calls of those methods of
//! `BufferCache` that another file defines. Tests inside of files may import what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Modules, and which others each may import. Rows further down import rows further up; a name that is not
/// here may be imported by nobody and imports nothing.
const ROWS: &[(&str, &[&str])] = &[
    ("file_id", &[]),
    ("device", &[]),
    ("error", &["device", "file_id"]),
    ("path", &["error"]),
    ("file_system", &["error", "file_id"]),
    ("cache::order", &[]),
    ("cache::chains", &[]),
    ("cache::references", &[]),
    ("cache::key", &["file_id"]),
    ("cache::policies", &["cache::order", "cache::chains"]),
    ("cache::shared", &["cache::chains", "cache::policies"]),
    ("cache::allocation", &["file_id", "cache::key", "cache::order", "cache::policies"]),
    (
        "cache::buffer",
        &[
            "device",
            "error",
            "file_id",
            "cache::key",
            "cache::order",
            "cache::references",
            "cache::policies",
            "cache::allocation",
        ],
    ),
    ("cache::model", &["device", "file_id", "cache::key", "cache::policies", "cache::allocation"]),
    ("extent_fs", &["device", "error", "path", "file_id", "file_system", "cache"]),
    ("ext4", &["device", "error", "file_id", "file_system", "cache"]),
    ("volume", &["device", "error", "file_id", "file_system", "cache", "extent_fs", "ext4"]),
    ("shared", &["device", "error", "file_id", "file_system", "cache", "extent_fs"]),
];

/// Text of each module by its path, such as `cache::buffer::state`. The path of the crate is empty.
type Sources = BTreeMap<String, String>;

/// Modules that each module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn read(folder: &Path, module: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap();
        let path = if module.is_empty() { name.to_string() } else { format!("{module}::{name}") };
        if entry.is_dir() {
            read(&entry, &path, sources);
        } else {
            let module = if matches!(name, "mod" | "lib") { module } else { &path };
            sources.insert(module.to_string(), fs::read_to_string(&entry).unwrap());
        }
    }
}

fn sources() -> Sources {
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

/// The code of a file, without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Paths that a use tree names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let (mut depth, mut part) = (0, String::new());
    for character in tree.chars().chain([',']) {
        match character {
            ',' if depth == 0 => {
                match part.split_once('{') {
                    Some((head, rest)) => expand(&format!("{prefix}{head}"), &rest[..rest.len() - 1], paths),
                    None if !part.is_empty() => paths.push(format!("{prefix}{part}")),
                    None => {}
                }
                part.clear();
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.extend(Some(character).filter(|c| !c.is_whitespace()));
    }
}

/// The module that a path in a `use` of `module` leads to, if it is one of this crate.
fn resolve(module: &str, path: &str, sources: &Sources) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").filter(|name| !name.is_empty()).collect();
    let mut own = false;
    let mut names = path.split("::").peekable();
    while let Some(name) = names.peek() {
        match *name {
            "crate" => at.clear(),
            "super" => drop(at.pop()),
            "self" => {}
            _ => break,
        }
        own = true;
        names.next();
    }
    for name in names {
        let deeper = [at.as_slice(), &[name]].concat().join("::");
        if !sources.contains_key(&deeper) {
            break;
        }
        at.push(name);
        own = true;
    }
    own.then(|| at.join("::"))
}

/// Methods that a file defines for `BufferCache`.
fn methods(code: &str) -> impl Iterator<Item = &str> {
    let blocks = code.split("\nimpl BufferCache {").skip(1).map(|rest| rest.split("\n}").next().unwrap());
    blocks.flat_map(|block| block.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next()))
}

fn imports(sources: &Sources) -> Imports {
    let codes: Sources = sources.iter().map(|(module, text)| (module.clone(), code(text))).collect();
    let mut imports = Imports::new();
    for (module, code) in &codes {
        let mut paths = Vec::new();
        for statement in code.split(';').map(str::trim_start) {
            // Attributes and the statement before may share a line with it.
            let Some(at) = statement.rfind("use ").filter(|at| {
                let before = &statement[..*at];
                before.is_empty() || before.ends_with(['\n', ' ']) && !before.contains('{')
            }) else {
                continue;
            };
            expand("", &statement[at + 4..], &mut paths);
        }
        let of = imports.entry(module.clone()).or_default();
        of.extend(paths.iter().filter_map(|path| resolve(module, path, sources)));
        of.remove(module);
    }
    for (module, code) in &codes {
        for method in methods(code) {
            let call = format!("self.{method}(");
            for (other, text) in &codes {
                let calls = methods(text).next().is_some() && text.contains(&call);
                if other != module && calls {
                    imports.get_mut(other).unwrap().insert(module.clone());
                }
            }
        }
    }
    imports
}

/// Modules that lead to themselves.
fn circles(imports: &Imports) -> Vec<String> {
    let reaches_itself = |start: &&String| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = imports[*start].iter().collect();
        while let Some(module) = open.pop() {
            if seen.insert(module) {
                open.extend(imports.get(module).into_iter().flatten());
            }
        }
        seen.contains(start)
    };
    imports.keys().filter(reaches_itself).cloned().collect()
}

fn is_in(module: &str, row: &str) -> bool {
    module == row || module.strip_prefix(row).is_some_and(|rest| rest.starts_with("::"))
}

/// Imports against the rows. Faces (the crate's, and the cache's) import what they show.
fn offences(imports: &Imports) -> Vec<String> {
    let mut offences = Vec::new();
    for (module, of) in imports.iter().filter(|(module, _)| !matches!(module.as_str(), "" | "cache")) {
        let row = ROWS.iter().find(|(row, _)| is_in(module, row));
        for import in of {
            let allowed = row.is_some_and(|(row, above)| {
                is_in(import, row) || above.iter().any(|above| is_in(import, above))
            });
            if !allowed {
                offences.push(format!("{module} imports {import}"));
            }
        }
    }
    offences
}

#[test]
fn modules_import_only_rows_above_them() {
    let imports = imports(&sources());
    assert!(imports["cache::buffer::state"].contains("cache::buffer::slots"), "{imports:#?}");
    assert_eq!(offences(&imports), Vec::<String>::new());
    for (position, (row, above)) in ROWS.iter().enumerate() {
        let is_above = |name: &&str| ROWS[..position].iter().any(|(other, _)| is_in(other, name));
        assert!(above.iter().all(|name| is_above(name)), "{row} stands above what it imports");
    }
}

#[test]
fn the_cache_has_no_circle() {
    let mut imports = imports(&sources());
    imports.retain(|module, _| is_in(module, "cache"));
    assert!(imports["cache::buffer::fetch"].contains("cache::buffer::room"), "calls are seen: {imports:#?}");
    assert_eq!(circles(&imports), Vec::<String>::new());
}

#[test]
fn circles_and_offences_are_found() {
    let sources: Sources = [
        ("", "mod error;\nmod cache;"),
        ("error", "use crate::cache::key::Key;\n"),
        ("cache", "mod key;\npub use key::Key;"),
        (
            "cache::key",
            "//! What it is.\n\nuse alloc::vec::Vec;\nuse super::{\n    policies::{Lru, mru},\n};",
        ),
        ("cache::policies", "pub(super) use mru::Mru;\n#[cfg(test)]\nmod tests { use crate::cache::Key; }"),
        ("cache::policies::mru", "use crate::cache::key::Key; // use crate::error::FsError;"),
        ("cache::buffer", ""),
        (
            "cache::buffer::room",
            "\nimpl BufferCache {\n    fn room(&self) {\n        self.fetch();\n    }\n}",
        ),
        (
            "cache::buffer::fetch",
            "\nimpl BufferCache {\n    fn fetch(&self) {\n        self.room();\n    }\n}",
        ),
    ]
    .map(|(module, text)| (module.to_string(), text.to_string()))
    .into();
    let imports = imports(&sources);
    assert_eq!(
        circles(&imports),
        [
            "cache::buffer::fetch",
            "cache::buffer::room",
            "cache::key",
            "cache::policies",
            "cache::policies::mru"
        ]
    );
    assert_eq!(
        offences(&imports),
        [
            "cache::key imports cache::policies",
            "cache::key imports cache::policies::mru",
            "cache::policies::mru imports cache::key",
            "error imports cache::key"
        ]
    );
}

/// A path that is written out in the code would be an import that nobody reads.
#[test]
fn paths_are_imported() {
    for (module, text) in sources().iter().filter(|(module, _)| is_in(module, "cache")) {
        let code = code(text);
        for statement in code.split([';', '}']).filter(|statement| !statement.contains("use ")) {
            let written_out = statement.contains("crate::") || statement.contains("super::");
            assert!(!written_out, "{module}: {statement}");
        }
    }
}
