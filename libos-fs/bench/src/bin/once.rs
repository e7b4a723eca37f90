//! One cache and one pattern, two passes on one thread: for counts that do not depend on what else the
//! machine does.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='libos_fs_bench::run' target/release/once lru libos-fs scan
//! ```
#![forbid(unsafe_code)]

use libos_fs_bench::{CAPACITY, REFERENCES, classes, patterns, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [policy, cache, pattern] = &arguments[..] else { panic!("usage: once POLICY CACHE PATTERN") };
    let pattern = patterns(CAPACITY, REFERENCES).into_iter().find(|known| known.name == pattern);
    let references = pattern.expect("a pattern of the table").references;
    let class =
        classes(CAPACITY).into_iter().find(|class| class.policy == policy).expect("a policy of the table");
    let contender = class.contenders.into_iter().find(|(name, _)| name == cache);
    let (_, contender) = contender.expect("a cache of the table, under its policy");
    let hits = run(&*contender, &references, 1) + run(&*contender, &references, 1);
    println!("{policy} {cache}: {hits} hits of {}", 2 * references.len());
}
