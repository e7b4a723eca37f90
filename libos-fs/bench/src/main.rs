//! `cargo run --release` in this directory: how much processor time a reference takes in other caches, in units of what it
//! takes in this project's, for the same policy. The caches take turns, so what else the machine does strikes all alike;
//! the figure is the median of the ratios of neighbours. Above 1 this project's cache is faster.
//! Arguments are names of patterns; without any, all are run.
#![forbid(unsafe_code)]

use cpu_time::ProcessTime;
use libos_fs_bench::{CAPACITY, REFERENCES, classes, patterns, run};

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
                let mut times = vec![Vec::new(); class.contenders.len()];
                let mut hits = vec![0; class.contenders.len()];
                for round in 0..=ROUNDS {
                    for (number, (_, cache)) in class.contenders.iter().enumerate() {
                        let start = ProcessTime::now();
                        hits[number] = run(&**cache, &pattern.references, threads);
                        // The first round fills the cache.
                        if round > 0 {
                            times[number].push(start.elapsed().as_secs_f64());
                        }
                    }
                }
                let references = (threads * REFERENCES) as f64;
                for (number, (name, _)) in class.contenders.iter().enumerate() {
                    let mut ratios: Vec<f64> =
                        times[number].iter().zip(&times[0]).map(|(other, own)| other / own).collect();
                    ratios.sort_by(f64::total_cmp);
                    println!(
                        "{:10} {:9} {threads:7}  {name:15} {:6.2} ({:.2} to {:.2})  {:5.1} %",
                        class.policy,
                        pattern.name,
                        ratios[ROUNDS / 2],
                        ratios[ROUNDS / 4],
                        ratios[ROUNDS * 3 / 4],
                        100.0 * hits[number] as f64 / references,
                    );
                }
            }
        }
    }
}
