//! `exo cache criteria`: whether the division of a cache between managers keeps what it promises, with
//! figures.

use super::simulate::aligned;
use crate::error::{Error, Result};
use crate::host::output::{expect, write_lines};
use crate::units::thousands;
use libos_fs::cache::Allocation;
use libos_fs::cache::criteria::{CACHE_BLOCKS, Case, Criterion, Mix, run};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `exo cache criteria`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exo cache criteria
  exo cache criteria --cache 819,2048 --allocations lru-sp,lru-s --json criteria.json")]
pub struct CriteriaArgs {
    /// What divides the cache, separated by commas: lru-sp, lru-s, alloc-lru, global-lru (default: the first
    /// three)
    #[arg(long, value_delimiter = ',', default_value = "lru-sp,lru-s,alloc-lru")]
    allocations: Vec<Allocation>,
    /// Cache sizes in blocks, separated by commas (default: 6.4, 8, 12 and 16 MB of 8 KB)
    #[arg(long, value_delimiter = ',', default_values_t = CACHE_BLOCKS)]
    cache: Vec<usize>,
    /// Writes a JSON line for each case: criterion, allocation, cache_blocks, mix, program, reads and time
    /// before and after, pass
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A case as a JSON line.
#[derive(Serialize)]
struct CaseLine<'c> {
    criterion: &'static str,
    allocation: &'static str,
    cache_blocks: usize,
    mix: &'c str,
    program: &'c str,
    reads_before: u64,
    reads_after: u64,
    elapsed_ns_before: u64,
    elapsed_ns_after: u64,
    change_percent: f64,
    pass: bool,
}

/// All cases of a criterion under an allocation.
struct Judged {
    criterion: Criterion,
    allocation: Allocation,
    cases: Vec<Case>,
}

/// The verb. Fails if LRU-SP does not keep a criterion.
pub fn criteria(args: &CriteriaArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    if args.cache.contains(&0) {
        let fix = "name a number of blocks, like 819".to_owned();
        return Err(Error::Argument { what: "a cache of 0 blocks".into(), fix });
    }
    let mut judged = Vec::new();
    for allocation in &args.allocations {
        for criterion in Criterion::ALL {
            let cases = args.cache.iter().flat_map(|blocks| criterion.judge(*allocation, *blocks)).collect();
            judged.push(Judged { criterion, allocation: *allocation, cases });
        }
    }
    print!("{}", table(&judged));
    println!(
        "\nsmart programs side by side, blocks read (and until the last has ended), one LRU for all first:"
    );
    print!("{}", mixes(args));
    if let Some(path) = &args.json {
        write_lines(path, judged.iter().flat_map(Judged::lines))?;
    }
    let broken = judged.iter().find(|judged| judged.allocation == Allocation::LruSp && !judged.passes());
    match broken {
        Some(judged) => {
            Err(Error::Measurement(format!("LRU-SP does not keep the criterion {}", judged.criterion.name())))
        }
        None => Ok(()),
    }
}

impl Judged {
    fn passes(&self) -> bool {
        self.cases.iter().all(Case::passes)
    }

    fn lines(&self) -> impl Iterator<Item = CaseLine<'_>> {
        self.cases.iter().map(|case| CaseLine {
            criterion: self.criterion.name(),
            allocation: self.allocation.name(),
            cache_blocks: case.cache_blocks,
            mix: &case.mix,
            program: &case.program,
            reads_before: case.before.reads,
            reads_after: case.after.reads,
            elapsed_ns_before: case.before.elapsed_ns,
            elapsed_ns_after: case.after.elapsed_ns,
            change_percent: case.change_percent(),
            pass: case.passes(),
        })
    }
}

/// A line for each criterion and allocation: how many cases, how many fail, the worst.
fn table(judged: &[Judged]) -> String {
    let head = ["allocation", "criterion", "verdict", "cases", "fail", "worst", "of"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for Judged { criterion, allocation, cases } in judged {
        let failed = cases.iter().filter(|case| !case.passes()).count();
        let worst = cases.iter().max_by(|a, b| a.change_percent().total_cmp(&b.change_percent()));
        let of = worst.filter(|worst| worst.change_percent() > 0.0).map_or("-".to_owned(), |worst| {
            format!("{} in {}, {} blocks", worst.program, worst.mix, thousands(worst.cache_blocks as u64))
        });
        lines.push(vec![
            allocation.name().to_owned(),
            criterion.name().to_owned(),
            if failed == 0 { "pass" } else { "FAIL" }.to_owned(),
            thousands(cases.len() as u64),
            failed.to_string(),
            worst.map_or_else(String::new, |worst| format!("{:+.1} %", worst.change_percent())),
            of,
        ]);
    }
    aligned(&lines)
}

/// A line for each mix of the paper and cache size.
fn mixes(args: &CriteriaArgs) -> String {
    let allocations: Vec<Allocation> =
        std::iter::once(Allocation::GlobalLru).chain(args.allocations.iter().copied()).collect();
    let head = ["mix", "blocks"].into_iter().chain(allocations.iter().map(|allocation| allocation.name()));
    let mut lines = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    for blocks in &args.cache {
        for mix in Mix::of_the_paper() {
            let mut line = vec![mix.name().replace(" smart", ""), thousands(*blocks as u64)];
            for allocation in &allocations {
                let figures = run(*blocks, *allocation, &mix.runners).figures;
                let reads = figures.iter().map(|program| program.reads).sum();
                let last_ns = figures.iter().map(|program| program.elapsed_ns).max().unwrap_or(0);
                line.push(format!("{} ({} s)", thousands(reads), last_ns / 1_000_000_000));
            }
            lines.push(line);
        }
    }
    aligned(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_who_fails_and_where() {
        let judge = |allocation| Judged {
            criterion: Criterion::Foolish,
            allocation,
            cases: Criterion::Foolish.judge(allocation, CACHE_BLOCKS[0]),
        };
        let judged = [judge(Allocation::LruSp), judge(Allocation::LruS)];
        assert!(judged[0].passes() && !judged[1].passes());
        let text = table(&judged);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("pass") && lines[2].contains("FAIL"), "{text}");
        assert!(lines[2].contains("oblivious + Moving300 foolish"), "{text}");
        assert_eq!(judged[1].lines().filter(|line| !line.pass).count(), 4);
    }
}
