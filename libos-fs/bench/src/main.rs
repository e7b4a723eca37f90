//! `cargo run --release` in this directory: how much processor time a reference takes in other caches, in
//! units of what it takes in this project's, for the same policy. The caches take turns, so what else the
//! machine does strikes all alike; the figure is the median of the ratios of neighbours. Above 1 this
//! project's cache is faster. Arguments are names of patterns; without any, all are run.
#![forbid(unsafe_code)]

use libos_fs_bench::{CAPACITY, REFERENCES, classes, compare, patterns, run};
use std::cell::Cell;

const ROUNDS: usize = 11;

fn main() {
    println!("policy     pattern   threads  cache            CPU, libos-fs = 1   hits");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for pattern in patterns(CAPACITY, REFERENCES) {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == pattern.name) {
            continue;
        }
        for threads in [1, 2] {
            for class in classes(CAPACITY) {
                let hits: Vec<Cell<usize>> = class.contenders.iter().map(|_| Cell::new(0)).collect();
                let passes: Vec<_> = class
                    .contenders
                    .iter()
                    .zip(&hits)
                    .map(|((_, cache), hits)| {
                        let references = &pattern.references;
                        move || hits.set(run(&**cache, references, threads))
                    })
                    .collect();
                let passes: Vec<&dyn Fn()> = passes.iter().map(|pass| pass as &dyn Fn()).collect();
                let references = (threads * REFERENCES) as f64;
                let figures = compare(ROUNDS, &passes);
                for (((name, _), hits), figures) in class.contenders.iter().zip(&hits).zip(figures) {
                    let hit_rate = 100.0 * hits.get() as f64 / references;
                    println!(
                        "{:10} {:9} {threads:7}  {name:15} {figures}  {hit_rate:5.1} %",
                        class.policy, pattern.name
                    );
                }
            }
        }
    }
}
