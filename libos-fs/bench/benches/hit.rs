//! Time for a reference, by policy, cache, pattern and number of threads: `cargo bench` in this directory. On
//! a noisy machine `cargo run --release` is better, which interleaves the caches and compares.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libos_fs_bench::{CAPACITY, REFERENCES, classes, patterns, run};

fn hit(criterion: &mut Criterion) {
    for pattern in patterns(CAPACITY, REFERENCES) {
        for threads in [1, 2] {
            for class in classes(CAPACITY) {
                let name = format!("{}/{}/{threads}", class.policy, pattern.name);
                let mut group = criterion.benchmark_group(name);
                group.sample_size(20).throughput(Throughput::Elements((threads * REFERENCES) as u64));
                for (name, cache) in &class.contenders {
                    run(&**cache, &pattern.references, 1);
                    group.bench_function(BenchmarkId::from_parameter(name), |bench| {
                        bench.iter(|| run(&**cache, &pattern.references, threads))
                    });
                }
                group.finish();
            }
        }
    }
}

criterion_group!(benches, hit);
criterion_main!(benches);
