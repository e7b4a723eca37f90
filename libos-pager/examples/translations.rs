//! Bytes of each page-table structure, and work to count: run it twice under callgrind with different
//! `turns`, and divide the difference by the turns and the pages.
//!
//! ```text
//! cargo build --release -p libos-pager --example translations
//! valgrind --tool=callgrind target/release/examples/translations radix dense get 1
//! ```

use libos_pager::TranslationKind;
use std::hint::black_box;

/// Pages in memory.
const PAGES: u32 = 4096;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, layout, work, turns] = &words[..] else {
        eprintln!("translations radix|hashed|ranges dense|mixed|sparse none|get|move|range TURNS");
        std::process::exit(2);
    };
    let kind: TranslationKind = kind.parse().unwrap_or_else(|error| panic!("{error}"));
    let turns: u32 = turns.parse().unwrap_or_else(|error| panic!("{turns}: {error}"));
    // In order; in one place, but in no order; each in a part of its own of the address space.
    let page = |slot: u32| match layout.as_str() {
        "dense" => u64::from(slot),
        "mixed" => u64::from(slot.wrapping_mul(0x9e37_79b1) % PAGES),
        _ => u64::from(slot) << 20,
    };
    let mut map = kind.build(PAGES as usize);
    (0..PAGES).for_each(|slot| map.insert(page(slot), slot));
    println!("{} {layout}: {} bytes for {PAGES} pages", kind.name(), map.bytes());
    for _ in 0..turns {
        match work.as_str() {
            "get" => (0..PAGES).for_each(|slot| assert_eq!(map.get(black_box(page(slot))), Some(slot))),
            "move" => (0..PAGES).for_each(|slot| {
                let found = map.remove(black_box(page(slot)));
                map.insert(page(slot), found.unwrap_or(slot));
            }),
            "range" => {
                let mut found = 0;
                let end = page(PAGES - 1).max(u64::from(PAGES)) + 1;
                map.each(0..end, &mut |_, _| found += 1);
                assert_eq!(found, PAGES);
            }
            _ => (),
        }
    }
}
