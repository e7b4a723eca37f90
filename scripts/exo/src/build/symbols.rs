//! From addresses in a backtrace to functions and source lines.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The unstripped images of a run, opened when first needed. Key: name of the environment.
#[derive(Default)]
pub struct Symbols {
    files: HashMap<String, PathBuf>,
    loaders: HashMap<PathBuf, Option<addr2line::Loader>>,
    /// Those whose last report was a panic, not a trap.
    panicked: HashSet<String>,
}

/// Key of the kernel's image.
pub const KERNEL: &str = "hyperexo";

impl Symbols {
    /// Says which unstripped ELF file belongs to an environment.
    pub fn add(&mut self, name: &str, elf: &Path) {
        self.files.insert(name.to_owned(), elf.to_path_buf());
    }

    /// A line with function and place appended if it is a frame of a backtrace (`  #N 0xADDRESS`), else the
    /// line as it is.
    pub fn annotate(&mut self, name: &str, text: &str) -> String {
        let Some((index, address)) = frame(text) else {
            if text.contains("panicked at") || text.starts_with("panic") {
                self.panicked.insert(name.to_owned());
            } else if text.starts_with("unhandled") {
                self.panicked.remove(name);
            }
            return text.to_owned();
        };
        // Frames are return addresses: the call is the instruction before. Only the innermost frame of a trap
        // names the instruction itself.
        let exact = index == 0 && !self.panicked.contains(name);
        let probe = if exact { address } else { address.saturating_sub(1) };
        match self.describe(name, probe) {
            Some(place) => format!("{text} {place}"),
            None => text.to_owned(),
        }
    }

    fn describe(&mut self, name: &str, probe: u64) -> Option<String> {
        let path = self.files.get(name)?;
        let loader =
            self.loaders.entry(path.clone()).or_insert_with(|| addr2line::Loader::new(path).ok()).as_ref()?;
        let mut places: Vec<(String, Option<String>)> = Vec::new();
        let mut frames = loader.find_frames(probe).ok()?;
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let place =
                frame.location.and_then(|place| Some(format!("{}:{}", short(place.file?), place.line?)));
            places.push((function.unwrap_or_default(), place));
        }
        // Line tables know the last path segment of a name; the symbol table knows all of it, for the
        // function that the others are inlined into.
        if let Some(symbol) = loader.find_symbol(probe) {
            let full = without_hash(&rustc_demangle(symbol)).to_owned();
            match places.last_mut() {
                Some((function, _)) => *function = full,
                None => places.push((full, None)),
            }
        }
        let texts = places.iter().map(|(function, place)| match place {
            Some(place) => format!("{function} at {place}"),
            None => function.clone(),
        });
        Some(texts.collect::<Vec<_>>().join(", inlined into ")).filter(|text| !text.is_empty())
    }
}

/// A symbol as it is written in source, with its hash.
pub fn rustc_demangle(symbol: &str) -> String {
    addr2line::demangle_auto(symbol.into(), None).into_owned()
}

/// Number and address of a frame `#N 0xADDRESS`.
fn frame(text: &str) -> Option<(u64, u64)> {
    let (index, address) = text.trim_start().strip_prefix('#')?.split_once(" 0x")?;
    let digits = address.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    Some((index.trim().parse().ok()?, u64::from_str_radix(digits, 16).ok()?))
}

/// `core::fmt::write::h0123456789abcdef` without its hash.
pub fn without_hash(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => name,
        _ => function,
    }
}

/// The part of a path that tells most: from the last `src` component's parent on.
fn short(path: &str) -> &str {
    let Some(source) = path.rfind("/src/") else { return path };
    let start = path[..source].rfind('/').map_or(0, |slash| slash + 1);
    &path[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognized() {
        assert_eq!(frame("  #0 0x1000a7"), Some((0, 0x1000a7)));
        assert_eq!(frame("#12 0xffff800000000000 extra"), Some((12, 0xffff_8000_0000_0000)));
        for other in ["", "#", "# 1", "#x 0x1", "panicked at 0x1000", "#1 1000"] {
            assert_eq!(frame(other), None, "{other}");
        }
    }

    #[test]
    fn a_function_of_this_test_is_found() {
        // The test's own ELF, and the place where its text lies in the file.
        let own = std::env::current_exe().unwrap();
        let mut symbols = Symbols::default();
        symbols.add("me", &own);
        let bytes = std::fs::read(&own).unwrap();
        use object::{Object, ObjectSymbol};
        let file = object::File::parse(&*bytes).unwrap();
        let symbol = file
            .symbols()
            .find(|symbol| {
                symbol.name().is_ok_and(|name| name.contains("symbols") && name.contains("annotate"))
            })
            .expect("the function is in the symbol table");
        let line = symbols.annotate("me", &format!("  #0 {:#x}", symbol.address()));
        assert!(line.contains("annotate") && line.contains("symbols.rs:"), "{line}");
        assert_eq!(symbols.annotate("other", "  #0 0x1"), "  #0 0x1");
    }

    #[test]
    fn names_are_shortened() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
        assert_eq!(short("/x/y/hello/src/main.rs"), "hello/src/main.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
    }
}
