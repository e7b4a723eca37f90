//! What a module uses: the paths in its tokens, and the methods of a type that other modules define.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// Names of macros that a file exports to the crate's root.
pub fn exported_macros(tokens: TokenStream) -> Vec<String> {
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
pub struct Reader<'a> {
    /// Its path.
    pub module: Vec<String>,
    /// All modules of the crate.
    pub modules: &'a BTreeSet<String>,
    /// The paths found, from the crate's root.
    pub paths: &'a mut BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    /// Collects the paths in these tokens that lead into the crate, without those in tests.
    pub fn collect(&mut self, tokens: TokenStream) {
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

/// What a file says of the methods of one type.
#[derive(Debug, Default)]
pub struct Methods {
    /// Functions of its `impl` blocks, but for those of traits.
    pub defined: BTreeSet<String>,
    /// Functions that are called on `self` or by `Self`.
    pub called: BTreeSet<String>,
}

/// The methods of each type that a file has `impl` blocks for, outside of tests.
pub fn methods(tokens: TokenStream) -> BTreeMap<String, Methods> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut found: BTreeMap<String, Methods> = BTreeMap::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        at = match &tokens[at] {
            TokenTree::Group(group) if is_test_mark(group) => end_of_item(&tokens, at),
            TokenTree::Ident(word) if word == "impl" && begins_item(before) => {
                let end = end_of_item(&tokens, at);
                if let Some((name, is_trait, body)) = implementation(&tokens[at + 1..end]) {
                    let of = found.entry(name).or_default();
                    if !is_trait {
                        of.defined.extend(functions(body.clone()));
                    }
                    calls(body, &mut of.called);
                }
                end
            }
            _ => at + 1,
        };
    }
    found
}

/// Names of the types that a file defines, outside of tests.
pub fn types(tokens: TokenStream) -> BTreeSet<String> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut names = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match (&tokens[at], tokens.get(at + 1)) {
            (TokenTree::Group(group), _) if is_test_mark(group) => end_of_item(&tokens, at),
            (TokenTree::Ident(word), Some(TokenTree::Ident(name))) if word == "struct" || word == "enum" => {
                names.insert(name.to_string());
                at + 2
            }
            _ => at + 1,
        };
    }
    names
}

/// Whether an item can begin behind this token. `impl` elsewhere is a type.
fn begins_item(before: Option<&TokenTree>) -> bool {
    match before {
        None => true,
        Some(TokenTree::Group(group)) => group.delimiter() != Delimiter::Parenthesis,
        Some(TokenTree::Ident(word)) => word == "unsafe",
        before => is_mark(before, ';'),
    }
}

/// The type of an `impl` block, whether it is one of a trait, and its body.
fn implementation(tokens: &[TokenTree]) -> Option<(String, bool, TokenStream)> {
    let (mut name, mut is_trait, mut depth) = (None, false, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '<' => depth += 1,
            TokenTree::Punct(mark) if mark.as_char() == '>' => {
                // The arrow of a function's type closes nothing.
                let arrow = at.checked_sub(1).is_some_and(|before| is_mark(tokens.get(before), '-'));
                depth -= i32::from(!arrow);
            }
            TokenTree::Ident(word) if depth == 0 && word == "for" => (name, is_trait) = (None, true),
            TokenTree::Ident(word) if depth == 0 && word == "where" => depth = i32::MAX / 2,
            TokenTree::Ident(word) if depth == 0 => name = Some(word.to_string()),
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                return name.map(|name| (name, is_trait, body.stream()));
            }
            _ => {}
        }
    }
    None
}

/// Names of the functions of an `impl` block, but for those of tests.
fn functions(body: TokenStream) -> BTreeSet<String> {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let mut names = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match (&tokens[at], tokens.get(at + 1)) {
            (TokenTree::Group(group), _) if is_test_mark(group) => end_of_item(&tokens, at),
            (TokenTree::Ident(word), Some(TokenTree::Ident(name))) if word == "fn" => {
                names.insert(name.to_string());
                at + 2
            }
            _ => at + 1,
        };
    }
    names
}

/// Notes what follows `self.` and `Self::` in a body.
fn calls(body: TokenStream, called: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let name = match token {
            TokenTree::Group(group) => {
                calls(group.stream(), called);
                None
            }
            TokenTree::Ident(word) if word == "self" && is_mark(tokens.get(at + 1), '.') => at.checked_add(2),
            TokenTree::Ident(word) if word == "Self" && is_separator(&tokens, at + 1) => at.checked_add(3),
            _ => None,
        };
        let Some(at) = name else { continue };
        let arguments = matches!(
            tokens.get(at + 1),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis
        );
        if let (Some(TokenTree::Ident(name)), true) =
            (tokens.get(at), arguments || is_separator(&tokens, at + 1))
        {
            called.insert(name.to_string());
        }
    }
}
