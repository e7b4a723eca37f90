//! Which module may use which: a module uses only what is in rows above its own, and no two use each other.
//!
//! The comment at the top of a crate has lines `rows: a b · c::* · d`, which the test reads. Between two dots
//! is a row; the row that uses nothing comes first.
//!
//! * A name stands for a module with all in it, as one. If the rows name modules in it as well, it stands
//!   for the module's own file alone.
//! * `c::*` stands for `c` and each module in it, one by one.
//! * `c::+` does too, but a module there and those in it may use each other.
//! * Of two names that fit, the longer one counts.
//!
//! The test fails in these cases:
//!
//! * A module uses a module of a row below its own, or one that another name of its own row stands for.
//! * Two modules use each other, directly or through others, rows or not.
//! * A module has no place in the rows, or the rows name one that is not there.
//!
//! A use is any path, in a `use` or elsewhere, that begins with `crate`, `super`, `self` or the name of a
//! child module. So `pub use child::Name;` uses the child, and `mod child;` does not. A call of a method is a
//! use of the module that defines it, where a type has its `impl` blocks in several files. Tests are not
//! read: they may use what they like. The crate's root is the face of the whole: it may use all, and no
//! module may use it.

mod check;
mod reader;

use crate::error::Result;
use crate::host::checkout::Checkout;
use crate::source;
use proc_macro2::TokenStream;
use reader::{Methods, Reader, exported_macros, methods, types};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Crates with rows: the folder of the sources, and the file whose comment has the rows.
const CRATES: [(&str, &str); 7] = [
    ("hyperexo/src", "lib.rs"),
    ("libos-core/src", "lib.rs"),
    ("libos-fs/src", "lib.rs"),
    ("libos-net/src", "lib.rs"),
    ("libos-pager/src", "lib.rs"),
    ("unikernels/httpd/src", "lib.rs"),
    ("unikernels/kv/src", "lib.rs"),
    ("scripts/exo/src", "main.rs"),
];

#[test]
fn modules_use_only_rows_above() {
    let root = Checkout::find().expect("a checkout").root;
    let mut wrong = Vec::new();
    for (folder, file) in CRATES {
        let comment = std::fs::read_to_string(root.join(folder).join(file)).expect("the root of a crate");
        let uses = read(&root.join(folder)).unwrap_or_else(|error| panic!("{error}"));
        wrong.extend(judge(&rows(&comment), &uses).into_iter().map(|fault| format!("{folder}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rows that a comment has: names by row.
fn rows(comment: &str) -> Vec<Vec<&str>> {
    let lines = comment.lines().filter_map(|line| line.strip_prefix("//! rows: "));
    let rows = lines.flat_map(|line| line.split('·')).map(|row| row.split_whitespace().collect());
    rows.filter(|row: &Vec<&str>| !row.is_empty()).collect()
}

/// Modules by their paths, each with the modules of the crate that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// A file of a crate.
struct File {
    module: Vec<String>,
    tokens: TokenStream,
}

/// Reads the sources of a crate: all files below `folder`, but for tests and the crate's root.
fn read(folder: &Path) -> Result<Uses> {
    let mut files = Vec::new();
    let mut macros = BTreeMap::new();
    for (path, text) in source::without_tests(folder)? {
        let module = module_of_file(folder, &path);
        let tokens: TokenStream = text.parse().map_err(source::no_rust(&path))?;
        let names = exported_macros(tokens.clone());
        macros.extend(names.into_iter().map(|name| (name, module.clone())));
        files.push(File { module, tokens });
    }
    let modules: BTreeSet<String> = files.iter().map(|file| file.module.join("::")).collect();
    let mut uses = Uses::new();
    let mut paths_of = BTreeMap::new();
    for File { module, tokens } in files.iter().filter(|file| !file.module.is_empty()) {
        let mut paths = BTreeSet::new();
        Reader { module: module.clone(), modules: &modules, paths: &mut paths }.collect(tokens.clone());
        let name = module.join("::");
        let used = paths.iter().map(|path| module_of(path, &modules, &macros));
        uses.insert(name.clone(), used.filter(|used| *used != name).collect());
        paths_of.insert(name, paths);
    }
    for (module, used) in calls_of_methods(&files, &paths_of) {
        uses.entry(module).or_default().insert(used);
    }
    Ok(uses)
}

/// The path of a file's module, from the root of its crate.
fn module_of_file(folder: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(folder).expect("a file of the crate").with_extension("");
    let mut path: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    path
}

/// The module of a path: the longest that is one. For a macro at the crate's root it is the module that
/// defines it. Empty for other items of the root.
fn module_of(path: &[String], modules: &BTreeSet<String>, macros: &BTreeMap<String, Vec<String>>) -> String {
    let module =
        (0..=path.len()).rev().map(|end| path[..end].join("::")).find(|module| modules.contains(module));
    match (module.unwrap_or_default(), path.first().and_then(|name| macros.get(name))) {
        (module, Some(definer)) if module.is_empty() => definer.join("::"),
        (module, _) => module,
    }
}

/// Modules that call a method of a type, each with the module that defines the method.
fn calls_of_methods(
    files: &[File],
    paths: &BTreeMap<String, BTreeSet<Vec<String>>>,
) -> BTreeSet<(String, String)> {
    let homes = homes(files);
    let mut of_type: BTreeMap<(String, String), BTreeMap<String, Methods>> = BTreeMap::new();
    for File { module, tokens } in files.iter().filter(|file| !file.module.is_empty()) {
        let module = module.join("::");
        for (name, methods) in methods(tokens.clone()) {
            if let Some(home) = home(&module, &name, &homes, paths) {
                of_type.entry((home, name)).or_default().insert(module.clone(), methods);
            }
        }
    }
    let mut uses = BTreeSet::new();
    for by_module in of_type.values() {
        for (caller, own) in by_module {
            for (definer, other) in by_module.iter().filter(|(definer, _)| *definer != caller) {
                if own.called.difference(&own.defined).any(|name| other.defined.contains(name)) {
                    uses.insert((caller.clone(), definer.clone()));
                }
            }
        }
    }
    uses
}

/// Modules that define a type of each name.
fn homes(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for File { module, tokens } in files {
        for name in types(tokens.clone()) {
            homes.entry(name).or_default().insert(module.join("::"));
        }
    }
    homes
}

/// The module that defines the type which `module` calls `name`: itself, one that it imports the name from,
/// or the only one that there is.
fn home(
    module: &str,
    name: &str,
    homes: &BTreeMap<String, BTreeSet<String>>,
    paths: &BTreeMap<String, BTreeSet<Vec<String>>>,
) -> Option<String> {
    let homes = homes.get(name)?;
    let imported = |home: &&String| {
        let path = format!("{home}::{name}");
        paths.get(module).is_some_and(|paths| paths.iter().any(|used| used.join("::") == path))
    };
    let own = homes.iter().find(|home| *home == module);
    let only = homes.first().filter(|_| homes.len() == 1);
    own.or_else(|| homes.iter().find(imported)).or(only).cloned()
}

/// The place of a module: its row, the name in the row that fits, and the name that stands for the module.
fn place<'a>(rows: &[Vec<&'a str>], module: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let names =
        || rows.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (row, *name)));
    let has_parts = |name: &str| names().any(|(_, other)| other != name && is_within(other, name));
    let fits = |row: usize, name: &'a str| match folder(name) {
        Some(folder) => is_within(module, folder).then_some((folder.len(), row, name, module)),
        None if has_parts(name) => (module == name).then_some((name.len(), row, name, name)),
        None => is_within(module, name).then_some((name.len(), row, name, name)),
    };
    let best = names().filter_map(|(row, name)| fits(row, name)).max_by_key(|(length, ..)| *length);
    best.map(|(_, row, name, stands)| (row, name, stands))
}

/// The module for which, and for each module in it, a name stands one by one.
fn folder(name: &str) -> Option<&str> {
    name.strip_suffix("::*").or(name.strip_suffix("::+"))
}

/// Whether a module is this one or lies in it.
fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether one of two modules lies in the other.
fn is_part(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// Compares what modules use with the rows.
fn judge(rows: &[Vec<&str>], uses: &Uses) -> Vec<String> {
    let mut faults = Vec::new();
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, used) in uses {
        let Some((row, name, stands)) = place(rows, module) else {
            faults.push(format!("{module} has no place in the rows"));
            continue;
        };
        for other in used {
            match place(rows, other) {
                _ if other.is_empty() => faults.push(format!("{module} uses the crate's root")),
                Some((lower, ..)) if lower > row => {
                    faults.push(format!("{module} uses {other}, which is below it"))
                }
                Some((same, beside, _)) if same == row && beside != name => {
                    faults.push(format!("{module} uses {other}, which is in its row"))
                }
                Some((.., other)) if name.ends_with("::+") && is_part(stands, other) => {}
                Some((.., other)) if other != stands => {
                    graph.entry(stands).or_default().insert(other);
                }
                // The other is the module's own whole, or has no place, which is a fault of its own.
                _ => {}
            }
        }
    }
    for name in rows.iter().flatten() {
        let folder = folder(name).unwrap_or(name);
        if !uses.keys().any(|module| is_within(module, folder)) {
            faults.push(format!("the rows name {name}, which is not there"));
        }
    }
    faults.extend(circle(&graph).map(|circle| format!("a circle: {}", circle.join(" → "))));
    faults
}

/// A circle in a graph, if there is one: its first name comes again at the end.
fn circle<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    fn visit<'a>(
        name: &'a str,
        graph: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        done: &mut BTreeSet<&'a str>,
        way: &mut Vec<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = way.iter().position(|passed| *passed == name) {
            return Some(way[start..].iter().copied().chain([name]).collect());
        }
        if !done.insert(name) {
            return None;
        }
        way.push(name);
        let found = graph.get(name).into_iter().flatten().find_map(|next| visit(next, graph, done, way));
        way.pop();
        found
    }
    let (mut done, mut way) = (BTreeSet::new(), Vec::new());
    graph.keys().find_map(|name| visit(name, graph, &mut done, &mut way))
}
