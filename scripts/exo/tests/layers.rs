//! The order of a crate's modules: each uses only what stands above it, and no two use each other.
//!
//! A [`House`] is the table of a crate's modules, in rows. The test reads the sources and fails in three
//! cases:
//!
//! * A module uses a module of a row below its own.
//! * Two modules use each other, directly or through others, rows or not.
//! * A module has no place in the table, or the table names one that is not there.
//!
//! The table says how fine the check is. `memory::*` stands for `memory` and each module in it, one by one;
//! `host::direct` stands for that module with all in it, as one. Of two lines that fit, the longer one
//! counts.
//!
//! A use is any path, in a `use` or elsewhere, that begins with `crate`, `super`, `self` or the name of a child
//! module. So `pub use child::Name;` uses the child, and `mod child;` does not. Tests are not read: they may
//! use what they like. The crate's root is the face of the whole: it may use all, and no module may use it.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of a crate in rows, the first on top.
struct House {
    /// Folder of the sources, from the top of the workspace.
    sources: &'static str,
    /// Modules, in rows: paths with `::`.
    rows: &'static [&'static [&'static str]],
}

/// libos-core, as its documentation shows it.
const LIBOS_CORE: House = House {
    sources: "libos-core/src",
    rows: &[
        &["arguments"],
        &["platform::*"],
        &["cpu", "cpu::lock", "cpu::upcall", "cpu::trap"],
        &["memory::*"],
        &["cpu::cores"],
        &["time"],
        &["io::*"],
        &["panic"],
        &["host::*"],
        &["entry"],
    ],
};

#[test]
fn libos_core_is_built_in_rows() {
    assert_eq!(LIBOS_CORE.faults(), Vec::<String>::new());
}

impl House {
    /// What is wrong with the crate, one line each.
    fn faults(&self) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(self.sources);
        judge(self.rows, &read(&folder))
    }
}

/// Modules by their paths, each with the paths of the crate that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Reads the sources of a crate: all files below `folder`, but for tests and the crate's root.
fn read(folder: &Path) -> Uses {
    let mut sources = Vec::new();
    collect(folder, &mut Vec::new(), &mut sources);
    let mut macros = BTreeMap::new();
    let parsed: Vec<(Vec<String>, TokenStream)> = sources
        .into_iter()
        .map(|(module, file)| {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let tokens: TokenStream = text.parse().unwrap_or_else(|_| panic!("{}: not Rust", file.display()));
            exported_macros(tokens.clone()).into_iter().for_each(|name| {
                macros.insert(name, module.clone());
            });
            (module, tokens)
        })
        .collect();
    let modules: BTreeSet<String> = parsed.iter().map(|(module, _)| module.join("::")).collect();
    parsed
        .into_iter()
        .filter(|(module, _)| !module.is_empty())
        .map(|(module, tokens)| {
            let mut paths = BTreeSet::new();
            Reader { module: module.clone(), modules: &modules, paths: &mut paths }.collect(tokens);
            let used = paths.into_iter().map(|path| module_of(&path, &modules, &macros));
            let name = module.join("::");
            (name.clone(), used.filter(|used| *used != name).collect())
        })
        .collect()
}

/// Collects the files below a folder with their modules; tests are left out.
fn collect(folder: &Path, module: &mut Vec<String>, sources: &mut Vec<(Vec<String>, PathBuf)>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let depth = module.len();
        if !["mod", "lib", "main", "tests"].contains(&name.as_str()) {
            module.push(name.clone());
        }
        if path.is_dir() && name != "tests" {
            collect(&path, module, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            sources.push((module.clone(), path));
        }
        module.truncate(depth);
    }
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

/// Names of macros that a file exports to the crate's root.
fn exported_macros(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut names = Vec::new();
    let mut exported = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.stream().to_string() == "macro_export" => exported = true,
            TokenTree::Ident(ident) if ident == "macro_rules" && exported => {
                exported = false;
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 2) {
                    names.push(name.to_string());
                }
            }
            _ => {}
        }
    }
    names
}

/// A module whose paths are being collected.
struct Reader<'a> {
    /// Its path.
    module: Vec<String>,
    /// All modules of the crate.
    modules: &'a BTreeSet<String>,
    /// The paths found, from the crate's root.
    paths: &'a mut BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    /// Collects the paths in these tokens that lead into the crate, without those in tests.
    fn collect(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            at = match &tokens[at] {
                TokenTree::Group(group) if is_test_mark(group) => end_of_item(&tokens, at),
                TokenTree::Group(group) => {
                    self.collect(group.stream());
                    at + 1
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    self.tree(&tokens, at + 1, None);
                    end_of_use(&tokens, at)
                }
                TokenTree::Ident(ident) if ident == "mod" => self.inline_module(&tokens, at + 1),
                TokenTree::Ident(_) if is_mark(before, '$') || is_mark(before, ':') => at + 1,
                TokenTree::Ident(_) if is_separator(&tokens, at + 1) => self.tree(&tokens, at, None),
                _ => at + 1,
            };
        }
    }

    /// Reads the module in braces behind `mod`, if there is one. Returns the place behind it.
    fn inline_module(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
            (tokens.get(at), tokens.get(at + 1))
        else {
            return at + 1;
        };
        self.module.push(name.to_string());
        self.collect(body.stream());
        self.module.pop();
        at + 2
    }

    /// Follows a path, or a tree of paths in a `use`, behind `prefix`. Returns the place behind it.
    fn tree(&mut self, tokens: &[TokenTree], mut at: usize, mut prefix: Option<Vec<String>>) -> usize {
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => match self.step(prefix, &ident.to_string()) {
                    Some(path) => prefix = Some(path),
                    // The path leads out of the crate, or begins with a name of this module.
                    None => return at + 1,
                },
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inner.split(|token| is_mark(Some(token), ',')).filter(|one| !one.is_empty())
                    {
                        self.tree(branch, 0, prefix.clone());
                    }
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
            at += 2;
        }
        self.paths.extend(prefix);
        at
    }

    /// The path one name further. `None` if it does not lead into the crate.
    fn step(&self, prefix: Option<Vec<String>>, name: &str) -> Option<Vec<String>> {
        let without_last = |path: Vec<String>| path[..path.len().saturating_sub(1)].to_vec();
        match (prefix, name) {
            (None, "crate") => Some(Vec::new()),
            (None, "self") => Some(self.module.clone()),
            (None, "super") => Some(without_last(self.module.clone())),
            (Some(path), "super") => Some(without_last(path)),
            (Some(path), "self") => Some(path),
            (Some(path), name) => Some([path, vec![name.to_owned()]].concat()),
            (None, name) => {
                let child = [self.module.clone(), vec![name.to_owned()]].concat();
                self.modules.contains(&child.join("::")).then_some(child)
            }
        }
    }
}

/// Whether this is the `[cfg(test)]` of an attribute.
fn is_test_mark(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The place behind the item at `at`, which ends with braces or a semicolon.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_mark(Some(token), ';'),
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |end| at + end + 1)
}

/// The place behind the semicolon of a `use`.
fn end_of_use(tokens: &[TokenTree], at: usize) -> usize {
    tokens[at..].iter().position(|token| is_mark(Some(token), ';')).map_or(tokens.len(), |end| at + end + 1)
}

/// Whether this token is a punctuation mark.
fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// Whether there is a `::` at this place.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_mark(tokens.get(at), ':') && is_mark(tokens.get(at + 1), ':')
}

/// The place of a module in the table: its row, and the name that stands for it.
fn place<'a>(rows: &[&[&'a str]], module: &'a str) -> Option<(usize, &'a str)> {
    let fits = |line: &'a str| match line.strip_suffix("::*") {
        Some(folder) => is_within(module, folder).then_some((folder.len(), module)),
        None => is_within(module, line).then_some((line.len(), line)),
    };
    let lines = rows.iter().enumerate().flat_map(|(row, lines)| lines.iter().map(move |line| (row, *line)));
    lines
        .filter_map(|(row, line)| fits(line).map(|(length, name)| (length, row, name)))
        .max_by_key(|(length, ..)| *length)
        .map(|(_, row, name)| (row, name))
}

/// Whether a module is this one or lies in it.
fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Compares what modules use with the table.
fn judge(rows: &[&[&str]], uses: &Uses) -> Vec<String> {
    let mut faults = Vec::new();
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, used) in uses {
        let Some((row, name)) = place(rows, module) else {
            faults.push(format!("{module} has no place in the table"));
            continue;
        };
        for other in used {
            match place(rows, other) {
                _ if other.is_empty() => faults.push(format!("{module} uses the crate's root")),
                Some((lower, _)) if lower > row => {
                    faults.push(format!("{module} uses {other}, which is below it"))
                }
                Some((_, other)) if other != name => {
                    graph.entry(name).or_default().insert(other);
                }
                // The other is the module's own whole, or has no place, which is a fault of its own.
                _ => {}
            }
        }
    }
    for line in rows.iter().flat_map(|lines| lines.iter()) {
        let folder = line.strip_suffix("::*").unwrap_or(line);
        if !uses.keys().any(|module| is_within(module, folder)) {
            faults.push(format!("the table names {line}, which is not there"));
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

/// The check itself, on a crate written for it.
mod check {
    use super::*;

    /// Writes a crate's files into a folder and judges them by a table.
    fn faults(rows: &[&[&str]], files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder for scratch files");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        judge(rows, &read(folder.path()))
    }

    #[test]
    fn what_stands_above_may_be_used() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use b::c;"),
            ("a.rs", "pub fn f() {} #[cfg(test)] mod tests { use crate::b::c; } /* crate::b */ // crate::b"),
            (
                "b/mod.rs",
                "mod c; pub use c::C; use std::{c::D, d::c}; mod i { use super::c; } #[cfg(test)] mod tests;",
            ),
            ("b/c.rs", "use crate::{a::{self, f}}; pub fn g() { \"crate::d\"; super::super::a::f() }"),
            ("b/tests.rs", "use crate::d;"),
            ("d.rs", "#[cfg(test)] const X: u8 = crate::e::X; use crate::b::C;"),
        ];
        assert_eq!(faults(&[&["a"], &["b::*"], &["d"]], &files), Vec::<String>::new());
    }

    #[test]
    fn what_stands_below_may_not() {
        let rows: &[&[&str]] = &[&["a"], &["b"]];
        for a in [
            "use crate::b;",
            "use crate::b::f;",
            "use crate::{b as other};",
            "use super::b::f;",
            "fn f() { crate::b::g() }",
            "pub(crate) fn f() { vec![crate::b::g()] }",
            "#[cfg(test)] mod tests { } use crate::{x::{y}, b::{self, h}};",
        ] {
            let files = [("a.rs", a), ("b.rs", "")];
            let said = faults(rows, &files);
            assert!(said.contains(&"a uses b, which is below it".to_owned()), "{a}: {said:?}");
        }
    }

    #[test]
    fn macros_belong_to_the_module_that_defines_them() {
        let b = "#[macro_export] macro_rules! say { () => { $crate::a::f() }; }";
        let said = faults(&[&["a"], &["b"]], &[("a.rs", "use crate::say;"), ("b.rs", b)]);
        assert_eq!(said, ["a uses b, which is below it"]);
        let said = faults(&[&["a"], &["b"]], &[("a.rs", "use crate::other;"), ("b.rs", b)]);
        assert_eq!(said, ["a uses the crate's root"]);
    }

    #[test]
    fn circles_are_found_within_a_row() {
        let files = [("a.rs", "use crate::b;"), ("b.rs", "use crate::c::f;"), ("c.rs", "use crate::a;")];
        assert_eq!(faults(&[&["a", "b", "c"]], &files), ["a circle: a → b → c → a"]);
        let files = [("a/mod.rs", "mod b; use b::f; pub use self::b::f;"), ("a/b.rs", "use super::g;")];
        assert_eq!(faults(&[&["a::*"]], &files), ["a circle: a → a::b → a"]);
        assert_eq!(faults(&[&["a"]], &files), Vec::<String>::new(), "one whole");
        let files = [("a/mod.rs", "mod b; fn f() { b::g() }"), ("a/b.rs", "fn g() { super::h() }")];
        assert_eq!(faults(&[&["a::*"]], &files), ["a circle: a → a::b → a"]);
    }

    #[test]
    fn every_module_has_a_place() {
        let files = [("a.rs", ""), ("b/c.rs", "")];
        assert_eq!(
            faults(&[&["a", "d::*"]], &files),
            ["b::c has no place in the table", "the table names d::*, which is not there"]
        );
    }
}
