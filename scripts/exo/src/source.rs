//! Rust sources as a reader of code counts them: without blank lines, comments and tests.

use crate::error::{Error, Result};
use proc_macro2::{Delimiter, Group, LexError, Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of a Rust source that hold code outside of tests. What is code and what comment is left to a lexer
/// of Rust.
///
/// # Errors
///
/// If it is no Rust.
pub fn lines(source: &str) -> std::result::Result<u64, LexError> {
    let mut lines = BTreeSet::new();
    for token in code(source)? {
        let mut extend = |span: Span| lines.extend(span.start().line..=span.end().line);
        match token {
            TokenTree::Group(group) => {
                extend(group.span_open());
                extend(group.span_close());
            }
            token => extend(token.span()),
        }
    }
    let blank: BTreeSet<usize> =
        (1..).zip(source.lines()).filter(|(_, line)| line.trim().is_empty()).map(|(at, _)| at).collect();
    Ok(lines.difference(&blank).count() as u64)
}

/// Takes these tokens along, without comments on items, which are attributes to the lexer, and without what
/// is compiled for tests only.
fn flatten(stream: TokenStream, tokens: &mut Vec<TokenTree>) {
    let mut rest = stream.into_iter().peekable();
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
            tokens.push(token);
            bang.into_iter().chain(attribute).for_each(|token| push(token, tokens));
            continue;
        }
        push(token, tokens);
    }
}

fn push(token: TokenTree, tokens: &mut Vec<TokenTree>) {
    let inner = match &token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    };
    tokens.push(token);
    inner.into_iter().for_each(|stream| flatten(stream, tokens));
}

/// `unsafe { ... }` outside of tests.
///
/// # Errors
///
/// If it is no Rust.
pub fn unsafe_blocks(source: &str) -> std::result::Result<u64, LexError> {
    let code = code(source)?;
    let is_block = |pair: &&[TokenTree]| match pair {
        [TokenTree::Ident(word), TokenTree::Group(group)] => {
            *word == "unsafe" && group.delimiter() == Delimiter::Brace
        }
        _ => false,
    };
    Ok(code.windows(2).filter(is_block).count() as u64)
}

/// Rust sources in a folder and in those below it, with their text, but for files of tests.
///
/// # Errors
///
/// If they can't be read, or are no Rust.
pub fn without_tests(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    let mut texts = Vec::new();
    let mut tests = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let modules = test_modules(&text).map_err(no_rust(&path))?;
        tests.extend(modules.iter().map(|name| folder_of_modules(&path).join(name)));
        texts.push((path, text));
    }
    texts.retain(|(path, _)| !path.ancestors().any(|part| tests.contains(&part.with_extension(""))));
    Ok(texts)
}

/// The error about a file that is no Rust.
pub fn no_rust(path: &Path) -> impl FnOnce(LexError) -> Error {
    let path = path.display().to_string();
    move |why| Error::Measurement(format!("{path}: {why}"))
}

/// Where the modules lie that a file declares.
fn folder_of_modules(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default();
    if ["mod", "lib", "main"].iter().any(|name| stem == *name) {
        path.parent().unwrap_or(path).to_path_buf()
    } else {
        path.with_extension("")
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Modules that are compiled for tests only and lie in files of their own.
///
/// # Errors
///
/// If it is no Rust.
fn test_modules(source: &str) -> std::result::Result<Vec<String>, LexError> {
    let mut names = Vec::new();
    let mut rest = source.parse::<TokenStream>()?.into_iter();
    while let Some(token) = rest.next() {
        let TokenTree::Group(attribute) = &token else { continue };
        if attribute.delimiter() != Delimiter::Bracket || !is_for_tests(attribute) {
            continue;
        }
        let item: Vec<TokenTree> = rest.by_ref().take_while(|token| !ends_item(token)).collect();
        let words: Vec<String> = item.iter().map(TokenTree::to_string).collect();
        if let Some(at) = words.iter().position(|word| word == "mod") {
            names.extend(words.get(at + 1).cloned());
        }
    }
    Ok(names)
}

/// All tokens outside of comments and tests, one after the other; a group stands before what it holds.
///
/// # Errors
///
/// If it is no Rust.
pub fn code(source: &str) -> std::result::Result<Vec<TokenTree>, LexError> {
    let mut tokens = Vec::new();
    flatten(source.parse()?, &mut tokens);
    Ok(tokens)
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
        if ends_item(&token) {
            return;
        }
    }
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(source: &str) -> u64 {
        lines(source).unwrap()
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        assert_eq!(count(""), 0);
        assert_eq!(count("//! A module.\n\nuse a::b; // with a remark\n\n// A comment.\n"), 1);
        assert_eq!(count("/* one\n two */ fn a() {} /* three\n*/\n"), 1);
        assert_eq!(count("/* outer /* inner */\n still a comment */\nfn a() {\n\n    b(); /* c */\n}\n"), 3);
        assert_eq!(
            count("/// What it is.\n#[derive(Debug)]\n/// More.\nstruct A {\n    /** field */ b: u8,\n}\n"),
            4
        );
    }

    #[test]
    fn strings_are_code_whatever_they_hold() {
        assert_eq!(
            count("const A: &str = \"// no comment\";\nconst B: &str = \"/*\";\nconst C: u8 = 1;\n"),
            3
        );
        assert_eq!(count("const A: &str = r#\"\n// in\n\n\"#;\n"), 3, "a blank line in a string is blank");
        assert_eq!(
            count("const A: char = '\"';\n// \"\nfn b<'a>(_: &'a u8) {}\nconst C: &[u8] = b\"//\";\n"),
            3
        );
    }

    #[test]
    fn tests_do_not_count() {
        let code = "fn a() {\n    b();\n}\n";
        assert_eq!(count(code), 3);
        let module =
            "#[cfg(test)]\n#[allow(unused)]\nmod tests {\n    use super::*;\n    #[test]\n    fn a() {}\n}\n";
        assert_eq!(count(&format!("{code}{module}{code}")), 6);
        assert_eq!(count(&format!("#[cfg(test)]\nmod tests;\n{code}")), 3);
        assert_eq!(count("#![forbid(unsafe_code)]\n#[cfg(feature = \"test\")]\nfn a() {}\n"), 3);
        assert!(lines("fn a( {").is_err());
    }

    #[test]
    fn unsafe_blocks_count_outside_of_tests() {
        let source = "unsafe fn a() {}\nfn b() {\n    let c = unsafe { a() };\n    { unsafe { a() } }\n}\n\
                      // unsafe { }\n#[cfg(test)]\nmod tests {\n    fn d() { unsafe { a() } }\n}\n";
        assert_eq!(unsafe_blocks(source).unwrap(), 2);
    }

    #[test]
    fn files_of_tests_are_named() {
        let source = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\n#[allow(unused)]\npub mod c;\n#[cfg(test)]\nfn d() {}\n";
        assert_eq!(test_modules(source).unwrap(), ["b", "c"]);
    }

    #[test]
    fn files_of_tests_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::create_dir(folder.path().join("m")).unwrap();
        write("lib.rs", "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod m;\n");
        write("m/mod.rs", "mod n;\n");
        write("m/n.rs", "fn g() {}\n");
        write("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests;\n");
        write("a/tests.rs", "fn d() {}\n");
        write("b.rs", "fn e() {}\n");
        write("tests.rs", "fn f() {}\n");
        let found = without_tests(folder.path()).unwrap();
        let mut names: Vec<&str> = found.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["a.rs", "lib.rs", "tests.rs"], "the last is none of the tests");
    }
}
