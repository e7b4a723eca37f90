//! Which module may import which: a module imports only what is in rows above its own, counted from the row
//! that uses nothing.
//!
//! The comment at the top of a crate, or of a module with others in it, has lines `rows: a b · c · d`.
//! Modules between two dots are one row, and import nothing of each other. What the files of one module
//! import of each other is its own affair. Tests may import anything.

use crate::host::checkout::Checkout;
use crate::source;
use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where rows are kept: the folder of a crate's sources, the module in it that has the rows (none: the crate
/// itself), and the file whose comment names them.
const SCOPES: [(&str, &[&str], &str); 2] =
    [("scripts/exo/src", &[], "main.rs"), ("hyperexo/src", &[], "lib.rs")];

/// The row of each module, from 0.
fn rows(comment: &str) -> BTreeMap<String, usize> {
    let lines = comment.lines().filter_map(|line| line.strip_prefix("//! rows: "));
    let rows = lines.flat_map(|line| line.split('·')).filter(|names| !names.trim().is_empty());
    let names = |(row, names): (usize, &str)| {
        names.split_whitespace().map(|name| (name.to_owned(), row)).collect::<Vec<_>>()
    };
    rows.enumerate().flat_map(names).collect()
}

/// Paths of what a source uses outside of tests, from the root of the crate. `own` is the path of its module,
/// from which `super` goes up. Of `a::b::c` there are `a` and `a::b`, too.
fn uses(source: &str, own: &[String]) -> Result<BTreeSet<Vec<String>>, LexError> {
    let code = source::code(source)?;
    let mut found = BTreeSet::new();
    for (at, token) in code.iter().enumerate() {
        let after_path = at >= 2 && is_colons(&code[at - 2..at]);
        match token {
            TokenTree::Ident(word) if *word == "crate" => follow(vec![], &code[at + 1..], &mut found),
            TokenTree::Ident(word) if *word == "super" && !after_path => {
                let mut rest = &code[at + 1..];
                let mut base = own.to_vec();
                base.pop();
                while let [_, _, TokenTree::Ident(word), more @ ..] = rest {
                    if *word != "super" {
                        break;
                    }
                    base.pop();
                    rest = more;
                }
                follow(base, rest, &mut found);
            }
            _ => {}
        }
    }
    Ok(found)
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    tokens.iter().all(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':'))
}

/// Notes the paths that go on from `base` with these tokens, if `::` comes first.
fn follow(base: Vec<String>, tokens: &[TokenTree], found: &mut BTreeSet<Vec<String>>) {
    let [first, second, next, rest @ ..] = tokens else { return };
    if !is_colons(&[first.clone(), second.clone()]) {
        return;
    }
    match next {
        TokenTree::Ident(name) => name_and_on(base, name.to_string(), rest, found),
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            list(&base, group.stream(), found)
        }
        _ => {}
    }
}

fn name_and_on(base: Vec<String>, name: String, rest: &[TokenTree], found: &mut BTreeSet<Vec<String>>) {
    let path = [base, vec![name]].concat();
    found.insert(path.clone());
    follow(path, rest, found);
}

/// Notes the paths in the braces of a `use`.
fn list(base: &[String], stream: TokenStream, found: &mut BTreeSet<Vec<String>>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    for part in tokens.split(is_comma) {
        if let [TokenTree::Ident(name), rest @ ..] = part {
            name_and_on(base.to_vec(), name.to_string(), rest, found);
        }
    }
}

/// The path of a file's module, from the root of its crate.
fn module_of(folder: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(folder).expect("a file of the crate").with_extension("");
    let mut path: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    path
}

/// What follows `scope` in a path that goes through it.
fn inside<'a>(path: &'a [String], scope: &[&str]) -> Option<&'a String> {
    path.get(scope.len()).filter(|_| path.iter().zip(scope).all(|(part, wanted)| part == wanted))
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

/// Everything that is wrong in a scope.
fn judge(root: &Path, (folder, scope, file): (&str, &[&str], &str)) -> Vec<String> {
    let folder = root.join(folder);
    let comment =
        std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let rows = rows(&comment);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (path, text) in source::without_tests(&folder).unwrap_or_else(|error| panic!("{error}")) {
        let own = module_of(&folder, &path);
        let Some(module) = inside(&own, scope) else { continue };
        let used = uses(&text, &own).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let used = used.iter().filter_map(|path| inside(path, scope).cloned()).collect();
        wrong.extend(
            faults(&rows, module, &used).into_iter().map(|fault| format!("{}: {fault}", path.display())),
        );
        seen.insert(module.clone());
    }
    let gone = rows.keys().filter(|name| !seen.contains(*name));
    wrong.extend(gone.map(|name| format!("{file}: the rows name {name}, which is no module")));
    wrong
}

#[test]
fn modules_import_only_from_rows_above() {
    let root = Checkout::find().expect("a checkout").root;
    let wrong: Vec<String> = SCOPES.into_iter().flat_map(|scope| judge(&root, scope)).collect();
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
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let own = path("x::y");
    let found = uses(source, &own).unwrap();
    let heads: BTreeSet<&str> = found.iter().map(|path| path[0].as_str()).collect();
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), ["a", "c", "d", "g", "k", "o"]);
    assert!(found.contains(&path("d::f")) && found.contains(&path("a::b")));
    let found = uses("use super::{r, s::T};\nuse super::super::u;\n", &own).unwrap();
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [path("u"), path("x::r"), path("x::s"), path("x::s::T")]
    );
}

#[test]
fn a_scope_is_judged_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
    std::fs::create_dir_all(root.path().join("src/cache/a")).unwrap();
    write("src/lib.rs", "mod cache; mod z;");
    write("src/z.rs", "use crate::cache::b;");
    write("src/cache/mod.rs", "//! rows: a · b · gone\nmod a; mod b; use a::x;");
    write("src/cache/a/mod.rs", "mod deep;\n#[cfg(test)]\nmod tests;");
    write("src/cache/a/deep.rs", "use super::super::b::Y;");
    write("src/cache/a/tests.rs", "use crate::cache::b;");
    write("src/cache/b.rs", "use super::a::x; use crate::z;");
    let wrong = judge(root.path(), ("src", &["cache"], "cache/mod.rs"));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].ends_with("deep.rs: a imports b, which is not above it"), "{wrong:?}");
    assert!(wrong[1].ends_with("the rows name gone, which is no module"), "{wrong:?}");
}
