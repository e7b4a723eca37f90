//! How much code a policy is: lines that are neither blank nor comment nor test, in the file that holds it.
//!
//! Of an application's own policy that is the file in its workload's folder; of a policy of the library, its
//! file or folder in `libos-fs/src/cache/policies/`. What these use of other files is not counted: neither
//! the library's lists, nor what one workload takes from another.

use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use filecache::{Policy, Workload};
use libos_fs::PolicyKind;
use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of the policy that runs under this name; `None` if that is the default, for which nobody writes any,
/// and for names that are not `filecache`'s.
///
/// # Errors
/// If the sources can't be read, or are no Rust.
pub fn of(checkout: &Checkout, workload: &str, policy: &str) -> Result<Option<u64>> {
    let place = match (workload.parse::<Workload>(), policy.parse::<Policy>()) {
        (Ok(workload), Ok(Policy::Own)) => {
            checkout.root.join("unikernels/filecache/src").join(workload.own_policy_file())
        }
        (_, Ok(Policy::Forced(kind))) => place_of(&checkout.root, kind),
        _ => return Ok(None),
    };
    sources(&place)?.iter().map(|path| lines_of_file(path)).sum::<Result<u64>>().map(Some)
}

/// File or folder of a policy of the library.
fn place_of(root: &Path, kind: PolicyKind) -> PathBuf {
    let module = match kind {
        PolicyKind::TwoQ => "two_q".to_owned(),
        kind => kind.name().replace('-', "_"),
    };
    let folder = root.join("libos-fs/src/cache/policies");
    let file = folder.join(format!("{module}.rs"));
    if file.is_file() { file } else { folder.join(module) }
}

/// The file, or the files in the folder.
fn sources(place: &Path) -> Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_path_buf()]);
    }
    let listing = std::fs::read_dir(place).map_err(Error::io("list", place))?;
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect())
}

fn lines_of_file(path: &Path) -> Result<u64> {
    let source = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    count(&source).map_err(|why| Error::Measurement(format!("{}: {why}", path.display())))
}

/// Lines of a Rust source that hold code outside of tests. What is code and what comment is left to a lexer
/// of Rust.
fn count(source: &str) -> std::result::Result<u64, proc_macro2::LexError> {
    let mut lines = BTreeSet::new();
    note(source.parse()?, &mut lines);
    let blank: BTreeSet<usize> =
        (1..).zip(source.lines()).filter(|(_, line)| line.trim().is_empty()).map(|(at, _)| at).collect();
    Ok(lines.difference(&blank).count() as u64)
}

/// Notes the lines of these tokens, without comments on items, which are attributes to the lexer, and without
/// what is compiled for tests only.
fn note(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if let TokenTree::Punct(mark) = &token
            && mark.as_char() == '#'
        {
            let bang = rest.next_if(|next| matches!(next, TokenTree::Punct(next) if next.as_char() == '!'));
            let attribute = rest.next_if(|next| matches!(next, TokenTree::Group(_)));
            match &attribute {
                Some(TokenTree::Group(group)) if is_comment(group) => continue,
                Some(TokenTree::Group(group)) if is_for_tests(group) => {
                    skip_item(&mut rest);
                    continue;
                }
                _ => {}
            }
            for token in bang.into_iter().chain(attribute) {
                note_token(token, lines);
            }
        }
        note_token(token, lines);
    }
}

fn note_token(token: TokenTree, lines: &mut BTreeSet<usize>) {
    let mut extend = |span: Span| lines.extend(span.start().line..=span.end().line);
    match token {
        TokenTree::Group(group) => {
            extend(group.span_open());
            extend(group.span_close());
            note(group.stream(), lines);
        }
        token => extend(token.span()),
    }
}

/// Whether an attribute is what the lexer makes of a comment on an item.
fn is_comment(attribute: &Group) -> bool {
    matches!(attribute.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

/// Whether an attribute is `cfg(test)` or `test`.
fn is_for_tests(attribute: &Group) -> bool {
    let text: String = attribute.stream().into_iter().map(|token| token.to_string()).collect();
    text == "cfg(test)" || text == "test"
}

/// Passes over an item and its further attributes: to its body, or to its semicolon.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(mark) if mark.as_char() == ';' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &str) -> u64 {
        count(source).unwrap()
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        assert_eq!(lines(""), 0);
        assert_eq!(lines("//! A module.\n\nuse a::b; // with a remark\n\n// A comment.\n"), 1);
        assert_eq!(lines("/* one\n two */ fn a() {} /* three\n*/\n"), 1);
        assert_eq!(lines("/* outer /* inner */\n still a comment */\nfn a() {\n\n    b(); /* c */\n}\n"), 3);
        assert_eq!(
            lines("/// What it is.\n#[derive(Debug)]\n/// More.\nstruct A {\n    /** field */ b: u8,\n}\n"),
            4
        );
    }

    #[test]
    fn strings_are_code_whatever_they_hold() {
        assert_eq!(
            lines("const A: &str = \"// no comment\";\nconst B: &str = \"/*\";\nconst C: u8 = 1;\n"),
            3
        );
        assert_eq!(lines("const A: &str = r#\"\n// in\n\n\"#;\n"), 3, "a blank line in a string is blank");
        assert_eq!(
            lines("const A: char = '\"';\n// \"\nfn b<'a>(_: &'a u8) {}\nconst C: &[u8] = b\"//\";\n"),
            3
        );
    }

    #[test]
    fn tests_do_not_count() {
        let code = "fn a() {\n    b();\n}\n";
        assert_eq!(lines(code), 3);
        let module =
            "#[cfg(test)]\n#[allow(unused)]\nmod tests {\n    use super::*;\n    #[test]\n    fn a() {}\n}\n";
        assert_eq!(lines(&format!("{code}{module}{code}")), 6);
        assert_eq!(lines(&format!("#[cfg(test)]\nmod tests;\n{code}")), 3);
        assert_eq!(lines("#![forbid(unsafe_code)]\n#[cfg(feature = \"test\")]\nfn a() {}\n"), 3);
        assert!(count("fn a( {").is_err());
    }

    #[test]
    fn every_policy_has_lines() {
        let checkout = Checkout::find().unwrap();
        let of = |workload: &str, policy: &str| of(&checkout, workload, policy).unwrap();
        for workload in Workload::ALL {
            let lines = of(workload.name(), "own").unwrap();
            assert!((3..100).contains(&lines), "{}: {lines}", workload.name());
        }
        for kind in PolicyKind::ALL {
            let lines = of("din", kind.name()).unwrap();
            assert!((10..500).contains(&lines), "{kind:?}: {lines}");
        }
        assert_eq!((of("din", "default"), of("din", "linux")), (None, None));
        assert_eq!(of("another application's", "own"), None);
    }
}
