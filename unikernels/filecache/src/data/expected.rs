//! What the workloads must find, computed the plain way: everything in memory, no cache, other algorithms
//! than theirs.

use super::sources::SourceFile;
use crate::cs::{DEFINITION_MARKS, Found, Query, Sought, Variant, combine};
use crate::digest::digest;
use crate::din::{Counts, Pass, Replacement, Shape};
use crate::{cs, din, sort};
use std::collections::{BTreeMap, HashMap};

/// Texts to search for.
const TEXTS: [&str; 10] = [
    "unsafe impl",
    "#[inline(always)]",
    "Result<()",
    "impl<T> From<",
    "wrapping_add",
    "pub(crate) fn",
    "TODO",
    "assert_eq!(",
    "#[must_use]",
    "core::mem",
];

/// The task of a variant of `cs` over these sources: queries for symbols from common to rare, or for texts,
/// or for both, and what they find.
pub fn cs_task(variant: Variant, passes: usize, sources: &[SourceFile], database: &str) -> cs::Task {
    let searched = |wanted: bool| if wanted { passes } else { 0 };
    let symbols: Vec<Sought> = choose_symbols(database, searched(variant.symbols))
        .into_iter()
        .map(|pattern| Sought { found: find_symbol(database, &pattern), pattern })
        .collect();
    let texts: Vec<Sought> = TEXTS
        .iter()
        .take(searched(variant.list.is_some()))
        .map(|text| Sought { found: find_text(sources, text), pattern: text.to_string() })
        .collect();
    let queries = (0..passes)
        .map(|pass| Query { symbol: symbols.get(pass).cloned(), text: texts.get(pass).cloned() })
        .collect();
    let read_database = variant.symbols.then_some(database);
    let read_sources = sources.iter().filter(|_| variant.list.is_some()).map(|file| file.text.as_str());
    let content_digest = read_database
        .into_iter()
        .chain(read_sources)
        .fold(0, |so_far, text| combine(so_far, digest(text.as_bytes())));
    cs::Task { queries, content_digest }
}

/// Defined symbols, from the most common to rare ones, each about half as common as the one before.
fn choose_symbols(database: &str, count: usize) -> Vec<String> {
    let mut uses: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    for (_, _, word) in words(database) {
        let symbol = word.trim_start_matches(is_mark);
        let entry = uses.entry(symbol).or_default();
        entry.0 += 1;
        entry.1 |= symbol.len() < word.len();
    }
    let mut defined: Vec<(u64, &str)> = uses
        .iter()
        .filter(|(_, (_, defined))| *defined)
        .map(|(symbol, (uses, _))| (*uses, *symbol))
        .collect();
    defined.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let last = defined.len().saturating_sub(1);
    (0..count)
        .filter_map(|index| defined.get(((1 << index) - 1).min(last)))
        .map(|(_, s)| s.to_string())
        .collect()
}

fn is_mark(character: char) -> bool {
    DEFINITION_MARKS.map(char::from).contains(&character)
}

/// The words of a database with the names of their files and their lines.
fn words(database: &str) -> impl Iterator<Item = (&str, u64, &str)> {
    let mut file = "";
    database.lines().flat_map(move |line| {
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        if let Some(name) = line.strip_prefix('@') {
            file = name;
            words = "".split(' ');
            words.next();
        }
        let number = first.parse().unwrap_or(0);
        words.map(move |word| (file, number, word))
    })
}

fn find_symbol(database: &str, symbol: &str) -> Found {
    let mut found = Found::default();
    for (file, line, word) in words(database) {
        if word.trim_start_matches(is_mark) == symbol {
            found.add(digest(file.as_bytes()), line, symbol.as_bytes());
            found.definitions += u64::from(word.len() > symbol.len());
        }
    }
    found
}

fn find_text(sources: &[SourceFile], text: &str) -> Found {
    let mut found = Found::default();
    for (number, file) in sources.iter().enumerate() {
        for (line, content) in file.text.split('\n').enumerate().filter(|(_, line)| line.contains(text)) {
            found.add(number as u64, line as u64 + 1, content.as_bytes());
        }
    }
    found
}

/// The caches that `din` simulates.
pub const SHAPES: [Shape; 9] = [
    shape(true, 8 << 10, 16, 1, Replacement::Lru),
    shape(true, 16 << 10, 32, 1, Replacement::Lru),
    shape(true, 16 << 10, 32, 2, Replacement::Lru),
    shape(true, 16 << 10, 32, 2, Replacement::Fifo),
    shape(true, 32 << 10, 64, 4, Replacement::Lru),
    shape(true, 32 << 10, 64, 8, Replacement::Lru),
    shape(false, 32 << 10, 32, 1, Replacement::Lru),
    shape(false, 64 << 10, 64, 4, Replacement::Fifo),
    shape(false, 256 << 10, 64, 8, Replacement::Lru),
];

const fn shape(split: bool, bytes: u32, line_bytes: u32, ways: u32, replacement: Replacement) -> Shape {
    Shape { split, bytes, line_bytes, ways, replacement }
}

/// The task of `din`: [`SHAPES`] and what they count on the trace.
pub fn din_task(trace: &str) -> din::Task {
    let references: Vec<(usize, u64)> = trace.lines().filter_map(parse_reference).collect();
    let passes = SHAPES.iter().map(|shape| Pass { shape: *shape, counts: simulate(&references, shape) });
    din::Task { passes: passes.collect(), content_digest: digest(trace.as_bytes()) }
}

fn parse_reference(line: &str) -> Option<(usize, u64)> {
    let (kind, address) = line.split_once(' ')?;
    Some((kind.parse().ok()?, u64::from_str_radix(address, 16).ok()?))
}

/// Simulates with a time stamp on every line: the one with the oldest stamp is replaced.
fn simulate(references: &[(usize, u64)], shape: &Shape) -> Counts {
    let sets = u64::from(shape.bytes / shape.line_bytes / shape.ways);
    let mut counts = Counts::default();
    let mut contents: HashMap<(bool, u64), Vec<(u64, usize)>> = HashMap::new();
    for (now, &(kind, address)) in references.iter().enumerate() {
        let line = address / u64::from(shape.line_bytes);
        let set = contents.entry((shape.split && kind == 2, line % sets)).or_default();
        counts.references[kind] += 1;
        if let Some((_, stamp)) = set.iter_mut().find(|(held, _)| *held == line) {
            if shape.replacement == Replacement::Lru {
                *stamp = now;
            }
            continue;
        }
        counts.misses[kind] += 1;
        if set.len() == shape.ways as usize {
            let oldest = (0..set.len()).min_by_key(|index| set[*index].1).unwrap_or(0);
            set.swap_remove(oldest);
        }
        set.push((line, now));
    }
    counts
}

/// Bytes of lines that `sort` may hold in memory, as a share of its input.
const SORT_MEMORY_SHARE: usize = 24;
/// Runs that `sort` merges at a time.
const SORT_FAN_IN: u32 = 8;

/// The task of `sort`: how it sorts `input`, whose lines all end with a line feed, and what comes out.
pub fn sort_task(input: &str) -> sort::Task {
    let mut lines: Vec<&str> = input.split_terminator('\n').collect();
    lines.sort();
    let sorted: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    sort::Task {
        memory_bytes: u32::try_from(input.len() / SORT_MEMORY_SHARE).unwrap_or(u32::MAX).max(64 << 10),
        fan_in: SORT_FAN_IN,
        input_digest: digest(input.as_bytes()),
        output: sort::Summary {
            lines: lines.len() as u64,
            descents: 0,
            lines_digest: lines.iter().fold(0, |sum: u64, line| sum.wrapping_add(digest(line.as_bytes()))),
            content_digest: digest(sorted.as_bytes()),
        },
    }
}
