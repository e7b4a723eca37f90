//! From names of functions to addresses.

use crate::build::symbols::{rustc_demangle, without_hash};
use crate::error::{Error, Result};
use object::{Object, ObjectSymbol, SymbolKind};
use std::path::Path;

/// Address of the function `name` in an unstripped image: of the one with that name, or of the only one whose
/// name ends with it.
pub fn of(elf: &Path, name: &str) -> Result<u64> {
    let bytes = std::fs::read(elf).map_err(Error::io("read", elf))?;
    let file = object::File::parse(&*bytes)
        .map_err(|error| Error::Elf { path: elf.to_path_buf(), reason: error.to_string() })?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    let functions = functions.filter_map(|symbol| {
        let name = rustc_demangle(symbol.name().ok()?);
        Some((without_hash(&name).to_owned(), symbol.address()))
    });
    choose(functions.collect(), name)
        .map_err(|fix| Error::Argument { what: format!("{}: no single function {name}", elf.display()), fix })
}

/// The address, or what to do instead.
fn choose(mut functions: Vec<(String, u64)>, name: &str) -> std::result::Result<u64, String> {
    if let Some((_, address)) = functions.iter().find(|(function, _)| function == name) {
        return Ok(*address);
    }
    let end = format!("::{name}");
    functions.retain(|(function, _)| function.ends_with(&end));
    functions.sort();
    functions.dedup_by_key(|(_, address)| *address);
    match &functions[..] {
        [(_, address)] => Ok(*address),
        [] => Err("it may have been inlined: name one that a backtrace shows".into()),
        several => {
            let names: Vec<&str> = several.iter().take(5).map(|(function, _)| function.as_str()).collect();
            Err(format!("name one of {} in full: {}", several.len(), names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_in_full_or_by_its_last_part() {
        let functions: Vec<(String, u64)> =
            [("a::run", 1), ("b::run", 2), ("b::c::start", 3), ("start", 4), ("hx_x", 5)]
                .map(|(name, address)| (name.to_owned(), address))
                .into();
        let choose = |name| choose(functions.clone(), name);
        assert_eq!(choose("a::run"), Ok(1));
        assert_eq!(choose("c::start"), Ok(3));
        assert_eq!(choose("start"), Ok(4), "a whole name goes before a part");
        assert!(choose("run").unwrap_err().contains("a::run, b::run"));
        assert!(choose("un").unwrap_err().contains("inlined"));
    }

    #[test]
    fn functions_of_this_test_have_addresses() {
        let own = std::env::current_exe().unwrap();
        assert_ne!(of(&own, "gdb::place::of").unwrap(), 0);
    }
}
