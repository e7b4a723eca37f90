//! The check itself, on a crate written for it.

use super::*;

/// Writes a crate's files into a folder and judges them by a table.
fn faults(rows: &[&[&str]], files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder for scratch files");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.to_vec()).collect();
    judge(&rows, &read(folder.path()).expect("Rust"))
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
    let files = [
        ("x/mod.rs", ""),
        ("x/a.rs", "use crate::x::b;"),
        ("x/b.rs", "use super::c::f;"),
        ("x/c.rs", "use crate::x::a;"),
    ];
    for rows in [&["x::*"], &["x::+"]] {
        assert_eq!(faults(&[rows], &files), ["a circle: x::a → x::b → x::c → x::a"]);
    }
    assert_eq!(faults(&[&["x"]], &files), Vec::<String>::new(), "one whole");
    for face in ["mod b; use b::f; pub use self::b::f;", "mod b; fn f() { b::g() }"] {
        let files = [("a/mod.rs", face), ("a/b.rs", "fn g() { super::h() }")];
        assert_eq!(faults(&[&["a::*"]], &files), ["a circle: a → a::b → a"]);
        assert_eq!(faults(&[&["a::+"]], &files), Vec::<String>::new(), "a whole and its part");
        assert_eq!(faults(&[&["a::b"], &["a"]], &files), ["a::b uses a, which is below it"]);
    }
}

#[test]
fn every_module_has_a_place() {
    let files = [("a.rs", ""), ("b/c.rs", "")];
    assert_eq!(
        faults(&[&["a", "d::*"]], &files),
        ["b::c has no place in the rows", "the rows name d::*, which is not there"]
    );
}

#[test]
fn a_row_uses_nothing_of_itself() {
    let files = [("a.rs", "use crate::b;"), ("b.rs", ""), ("c/mod.rs", "use c::d;"), ("c/d.rs", "")];
    assert_eq!(faults(&[&["a", "b"], &["c::*"]], &files), ["a uses b, which is in its row"]);
}

#[test]
fn a_module_whose_parts_have_places_is_its_own_file_alone() {
    let files = [("a/mod.rs", "pub use b::B;"), ("a/b.rs", ""), ("a/c.rs", "")];
    assert_eq!(faults(&[&["a::b"], &["a"]], &files), ["a::c has no place in the rows"]);
    assert_eq!(faults(&[&["a"], &["a::b", "a::c"]], &files), ["a uses a::b, which is below it"]);
}

#[test]
fn calls_of_methods_are_uses() {
    let a = "pub struct T; impl T { fn f(&self) { if true { self.g::<u8>() } } } impl Drop for U { }";
    let b = "use crate::a::T; impl<F: Fn() -> u8> T<F> where F: Copy { fn g(&self) { Self::h(self) } }";
    let c = "use crate::a::T; impl Drop for T { fn drop(&mut self) { self.f() } } impl T { fn h(&self) {} }";
    let files = [("a.rs", a), ("b.rs", b), ("c.rs", c)];
    let said = faults(&[&["a", "b", "c"]], &files);
    for fault in ["a uses b, which is in its row", "b uses c, which is in its row"] {
        assert!(said.contains(&fault.to_owned()), "{said:?}");
    }
    assert_eq!(faults(&[&["x::*"]], &[("x/mod.rs", ""), ("x/a.rs", a)]), Vec::<String>::new());
    let [a, b, c] = [a, b, c].map(|text| text.replace("crate::a", "super::a"));
    let files = [("x/mod.rs", ""), ("x/a.rs", &*a), ("x/b.rs", &*b), ("x/c.rs", &*c)];
    assert_eq!(faults(&[&["x::*"]], &files), ["a circle: x::a → x::b → x::a"]);
    let other = "struct T; impl T { fn f(&self) { self.g() } }";
    let files = [("x/mod.rs", ""), ("x/b.rs", &*b.replace("T", "V")), ("x/d.rs", other)];
    assert_eq!(faults(&[&["x::*"]], &files), Vec::<String>::new(), "types of one name are not mixed up");
}

#[test]
fn rows_are_read_from_a_comment() {
    let comment = "//! A crate.\n//! rows: a b · c::*\n//! rows: d\n";
    assert_eq!(rows(comment), [vec!["a", "b"], vec!["c::*"], vec!["d"]]);
}
