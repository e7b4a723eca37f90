//! `exo cache simulate` as a user runs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with a trace in it: `passes` over blocks 0 to `blocks`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with_loop(blocks: u64, passes: u64) -> Folder {
        let folder = tempfile::tempdir().expect("a folder for scratch files");
        let lines: String = (0..passes).flat_map(|_| 0..blocks).map(|block| format!("{block}\n")).collect();
        std::fs::write(folder.path().join("loop.csv"), lines).expect("a trace");
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `exo cache simulate loop.csv` with more arguments.
    fn simulate(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_exo"))
            .args(["cache", "simulate", "loop.csv"])
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("exo starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn json_lines_have_exactly_the_keys_that_scripts_read() {
    let (k, n, c) = (4, 100, 60);
    let folder = Folder::with_loop(n, k);
    let output = folder.simulate(&["--policies", "lru,opt,mru", "--sizes", "60%", "--json", "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let best = n + (k - 1) * (n - c);
    let line = |policy: &str, misses: u64| {
        format!("{{\"policy\":\"{policy}\",\"size\":60,\"references\":400,\"misses\":{misses}}}\n")
    };
    let expected = [line("lru", k * n), line("opt", best), line("mru", best)].concat();
    assert_eq!(text(&output.stdout), expected, "and nothing else");
}

#[test]
fn policies_have_parameters() {
    let folder = Folder::with_loop(50, 3);
    let policies = "lirs,lirs:hir=10%:stack=unlimited";
    let output = folder.simulate(&["--policies", policies, "--sizes", "20", "--json", "-"]);
    let said = text(&output.stdout);
    // Of a loop, LIRS holds all but the blocks of high recency: 19 of 20, or 18.
    let line = |policy: &str, held: u64| {
        let misses = 3 * 50 - 2 * held;
        format!("{{\"policy\":\"{policy}\",\"size\":20,\"references\":150,\"misses\":{misses}}}\n")
    };
    assert_eq!(said, [line("lirs", 19), line("lirs:hir=10%:stack=unlimited", 18)].concat());
}

#[test]
fn what_is_taken_for_granted_is_said() {
    let folder = Folder::with_loop(1, 1);
    std::fs::write(folder.path("loop.csv"), "LBA,what\n7,read\n8,read\n").expect("a trace");
    let output = folder.simulate(&["--columns", "block=1", "--policies", "lru", "--sizes", "1"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("2 references to 2 distinct blocks"), "{said}");
    assert!(said.contains("line 1 is taken for a heading"), "{said}");
}

#[test]
fn the_result_does_not_depend_on_the_threads() {
    let folder = Folder::with_loop(50, 3);
    let run = |threads| folder.simulate(&["--sizes", "1..50:7", "--json", "-", "--threads", threads]).stdout;
    let one = run("1");
    assert!(!one.is_empty());
    assert_eq!(one, run("5"));
}

#[test]
fn tables_curves_files() {
    let folder = Folder::with_loop(64, 3);
    let output = folder.simulate(&["--sizes", "16..64:4", "--json", "out.json", "--html", "out.html"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("192 references to 64 distinct blocks"));
    assert!(said.contains("blocks of cache") && said.contains("100 % │") && said.contains("lru"), "{said}");
    let json = std::fs::read_to_string(folder.path("out.json")).expect("lines");
    let mut least: BTreeMap<u64, u64> = BTreeMap::new();
    let mut optimum: BTreeMap<u64, u64> = BTreeMap::new();
    for line in json.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (size, misses) = (line["size"].as_u64().expect("size"), line["misses"].as_u64().expect("misses"));
        let entry = least.entry(size).or_insert(misses);
        *entry = misses.min(*entry);
        if line["policy"] == "opt" {
            optimum.insert(size, misses);
        }
    }
    assert_eq!(optimum.keys().copied().collect::<Vec<_>>(), [16, 32, 48, 64]);
    assert_eq!(least, optimum, "nobody beats the optimum");
    let page = std::fs::read_to_string(folder.path("out.html")).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<polyline"));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_remedy() {
    let folder = Folder::with_loop(5, 1);
    let failure = |arguments: &[&str]| {
        let output = folder.simulate(arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        text(&output.stderr)
    };
    let said = failure(&["--policies", "lru,best"]);
    assert!(said.contains("\"best\"") && said.contains("there are") && said.contains("opt"), "{said}");
    assert!(failure(&["--policies", "lru,lru"]).contains("named twice"));
    let said = failure(&["--policies", "lirs:size=1%"]);
    assert!(said.contains("\"size\"") && said.contains("hir=1%, stack=200%"), "{said}");
    assert!(failure(&["--unit", "512"]).contains("--columns offset=NAME"));
    assert!(failure(&["--sizes", "0"]).contains("less than a block"));
    assert!(failure(&["--sizes", "5..9"]).contains("FIRST..LAST:COUNT"));
    assert!(failure(&["--format", "msr"]).contains("loop.csv, line 1: 1 fields"));
    std::fs::write(folder.path("loop.csv"), "1\n2\nthree\n").expect("a trace");
    let said = failure(&[]);
    assert!(said.contains("loop.csv, line 3: \"three\" is no block number"), "{said}");
    assert!(said.contains("exo: fix: "), "{said}");
    std::fs::remove_file(folder.path("loop.csv")).expect("gone");
    assert!(failure(&[]).contains("cannot open loop.csv"));
}

#[test]
fn a_sample_is_told_with_its_error() {
    let folder = Folder::with_loop(5000, 4);
    let arguments = ["--sample", "20%", "--policies", "mru,opt", "--sizes", "2000,4000"];
    let output =
        folder.simulate(&[&arguments[..], &["--json", "-", "--csv", "out.csv", "--html", "a.html"]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("20,000 references to") && said.contains("±"), "{said}");
    let table = std::fs::read_to_string(folder.path("out.csv")).expect("a table");
    let mut rows = table.lines();
    assert_eq!(rows.next(), Some("policy,size,references,misses,error,rate"));
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 4);
    for (line, row) in lines.lines().zip(rows) {
        let found: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let number = |key: &str| found[key].as_u64().expect("a number");
        // MRU and the optimum miss a loop alike, but for the last pass.
        let exact = 5000 + 3 * (5000 - number("size"));
        assert!(number("misses").abs_diff(exact) <= number("error"), "{exact}: {line}");
        assert!(
            number("error") < 5000 && found["rate"].as_f64().is_some_and(|rate| (0.19..0.21).contains(&rate))
        );
        assert!(row.contains(&format!(",20000,{},{},", number("misses"), number("error"))), "{row}");
    }
    let page = std::fs::read_to_string(folder.path("a.html")).expect("a page");
    assert!(page.contains("99 of 100 cases") && page.contains("<dd>20 %</dd>"), "{page}");
    let shown = text(&folder.simulate(&arguments).stdout);
    assert!(shown.contains(" ± ") && shown.contains(" %)"), "{shown}");
    let again = folder.simulate(&[&arguments[..], &["--json", "-"]].concat());
    assert_eq!(text(&again.stdout), lines, "the same blocks are chosen each time");
    let other = folder.simulate(&[&arguments[..], &["--json", "-", "--sample-seed", "1"]].concat());
    assert_ne!(text(&other.stdout), lines);
}

#[test]
fn a_sample_of_a_short_trace_is_all_of_it() {
    let folder = Folder::with_loop(100, 3);
    let exact = folder.simulate(&["--policies", "lru,2q", "--sizes", "1,60", "--json", "-"]);
    let all =
        folder.simulate(&["--policies", "lru,2q", "--sizes", "1,60", "--json", "-", "--sample", "auto"]);
    assert_eq!(text(&all.stdout).replace(",\"error\":0,\"rate\":1.0", ""), text(&exact.stdout));
}

#[test]
fn keys_are_sampled() {
    let folder = Folder::with_loop(1, 1);
    let lines: String = (0..30_000).map(|step| format!("key-{}\n", step % 10_000)).collect();
    std::fs::write(folder.path("loop.csv"), lines).expect("a trace");
    let arguments = ["--columns", "key=1", "--policies", "mru", "--sizes", "5000", "--json", "-"];
    let output = folder.simulate(&[&arguments[..], &["--sample", "10%"]].concat());
    let found: serde_json::Value = serde_json::from_str(text(&output.stdout).trim()).expect("JSON");
    let off = found["misses"].as_u64().expect("misses").abs_diff(10_000 + 2 * 5000);
    assert!(off <= found["error"].as_u64().expect("an error"), "{found}");
}

#[test]
fn what_a_sample_cannot_tell_is_refused() {
    let folder = Folder::with_loop(5000, 2);
    let failure = |arguments: &[&str]| {
        let output = folder.simulate(arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        text(&output.stderr)
    };
    let said = failure(&["--sample", "1%", "--sizes", "100"]);
    assert!(said.contains("nothing of a cache of 100 blocks, but of 1,600 and more"), "{said}");
    assert!(
        failure(&["--sample", "1%", "--policies", "lru,ubm"])
            .contains("ubm looks for runs of adjacent blocks")
    );
    assert!(failure(&["--sample", "0"]).contains("write a share of the blocks"));
    assert!(failure(&["--sample-seed", "1"]).contains("--sample"));
    let said = text(&folder.simulate(&["--sample", "50%", "--sizes", "1000"]).stdout);
    assert!(said.contains("sieve") && !said.contains("ubm"), "{said}");
}
