//! `exo cache simulate` on inputs that lie beside the checkout, and are no part of it: files of users that
//! other tools or earlier versions read wrongly, and public traces with the counts of another simulator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Names the folder of the cases, if it is not `shared/cases` beside the checkout.
const CASES: &str = "HYPEREXO_CASES";

/// The folder of the cases; where there is none, says that the test is not offered.
fn cases(test: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let folder = std::env::var_os(CASES).map_or_else(beside, PathBuf::from);
    host_needs::file(test, &folder).then_some(folder)
}

fn simulate(file: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exo"))
        .args(["cache", "simulate"])
        .arg(file)
        .args(arguments)
        .args(["--json", "-"])
        .output()
        .expect("exo starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is right for an input.
enum Right {
    /// So many references to so many blocks.
    Read(u64, u64),
    /// An error with this in it.
    Refused(&'static str),
}

use Right::{Read, Refused};

const INPUTS: [(&str, &[&str], Right); 12] = [
    ("two-frames.txt.zst", &[], Read(4, 4)),
    ("skippable-first.txt.zst", &[], Read(2, 2)),
    ("bad-checksum.txt.zst", &[], Refused("checksum")),
    ("not-records.bin", &[], Refused("no format that is known")),
    ("quote.csv", &["--columns", "block=1"], Refused("line 2")),
    ("first-line-damaged.csv", &["--columns", "block=1"], Refused("line 1")),
    ("bom.txt", &[], Read(3, 2)),
    ("lirs-marks.txt", &[], Read(3, 3)),
    ("keys.csv", &["--columns", "block=2"], Read(3, 2)),
    ("arc.lis", &[], Read(6, 4)),
    ("sectors.spc", &[], Read(6, 4)),
    ("sectors.spc", &["--columns", "offset=2,size=3,file=1", "--unit", "512"], Read(6, 4)),
];

#[test]
fn inputs_of_users_are_read_or_refused() {
    let test = "inputs_of_users_are_read_or_refused";
    let Some(folder) = cases(test) else { return };
    for (name, arguments, right) in &INPUTS {
        let path = folder.join(name);
        if !host_needs::file(test, &path) {
            continue;
        }
        let output = simulate(&path, &[arguments, &["--policies", "lru", "--sizes", "10"][..]].concat());
        let (said, lines) = (text(&output.stderr), text(&output.stdout));
        match right {
            // Ten blocks hold all there are, so each misses once.
            Read(references, distinct) => {
                let counts = format!("\"references\":{references},\"misses\":{distinct}}}");
                assert!(output.status.success() && lines.contains(&counts), "{name}: {said}{lines}");
            }
            Refused(what) => {
                let refused = !output.status.success() && lines.is_empty();
                assert!(
                    refused && said.contains(what) && said.contains("exo: fix: "),
                    "{name}: {said}{lines}"
                );
            }
        }
    }
}

/// A line of `expected.csv`: what another simulator counts.
#[derive(Clone, Copy)]
struct Expected<'l> {
    references: u64,
    distinct: u64,
    size: u64,
    policy: &'l str,
    misses: u64,
}

/// Compares each trace with what another simulator counts of it.
fn of_another_simulator(test: &str, mut compare: impl FnMut(&Path, &str, &[Expected<'_>])) {
    let Some(folder) = cases(test).map(|folder| folder.join("../data/traces")) else { return };
    let path = folder.join("expected.csv");
    if !host_needs::file(test, &path) {
        return;
    }
    let table = std::fs::read_to_string(path).expect("a table");
    let mut by_trace: BTreeMap<&str, Vec<Expected<'_>>> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        let (references, distinct, size, misses) = (number(1), number(2), number(3), number(5));
        let expected = Expected { references, distinct, size, policy: fields[4], misses };
        by_trace.entry(fields[0]).or_default().push(expected);
    }
    assert!(!by_trace.is_empty());
    for (trace, expected) in by_trace {
        compare(&folder, trace, &expected);
    }
}

#[test]
fn misses_are_those_of_another_simulator() {
    of_another_simulator("misses_are_those_of_another_simulator", compare);
}

/// Simulates the policies and sizes of the lines, and with them what is asked for besides.
fn simulate_expected(
    folder: &Path,
    trace: &str,
    expected: &[Expected<'_>],
    more: &[&str],
) -> (String, String) {
    let list = |mut words: Vec<String>| {
        words.sort();
        words.dedup();
        words.join(",")
    };
    let policies = list(expected.iter().map(|line| line.policy.to_owned()).collect());
    let sizes = list(expected.iter().map(|line| line.size.to_string()).collect());
    let arguments = ["--format", "lirs", "--policies", &policies, "--sizes", &sizes];
    let output = simulate(&folder.join(trace), &[&arguments, more].concat());
    let (said, lines) = (text(&output.stderr), text(&output.stdout));
    assert!(output.status.success(), "{trace}: {said}");
    (said, lines)
}

fn compare(folder: &Path, trace: &str, expected: &[Expected<'_>]) {
    let (said, lines) = simulate_expected(folder, trace, expected, &[]);
    for Expected { references, size, policy, misses, .. } in expected {
        let line = format!(
            "{{\"policy\":\"{policy}\",\"size\":{size},\"references\":{references},\"misses\":{misses}}}"
        );
        assert!(lines.lines().any(|found| found == line), "{trace}: {line} is not in\n{lines}");
    }
    let digits: String = said.chars().filter(|letter| *letter != ',').collect();
    let distinct = format!("to {} distinct blocks", expected[0].distinct);
    assert!(digits.contains(&distinct), "{trace}: {said}");
}

/// A quarter of the blocks of these traces are few: some hundreds. So errors are large, and so are those that
/// are stated.
#[test]
fn samples_are_within_the_error_that_they_state() {
    let (mut outside, mut all) = (0, 0);
    of_another_simulator("samples_are_within_the_error_that_they_state", |folder, trace, expected| {
        let sampled: Vec<Expected<'_>> = expected.iter().filter(|line| line.size >= 200).copied().collect();
        if sampled.is_empty() {
            return;
        }
        let (_, lines) = simulate_expected(folder, trace, &sampled, &["--sample", "25%"]);
        for Expected { references, size, policy, misses, .. } in sampled {
            let start = format!("{{\"policy\":\"{policy}\",\"size\":{size},\"references\":{references},");
            let line = lines.lines().find(|line| line.starts_with(&start)).expect("a line of each");
            let found: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let number = |key: &str| found[key].as_u64().expect("a number");
            let (off, error) = (number("misses").abs_diff(misses), number("error"));
            assert!(off <= 3 * error, "{trace}: {line} instead of {misses}");
            outside += u32::from(off > error);
            all += 1;
        }
    });
    assert!(outside * 50 <= all, "{outside} of {all} are outside of the error stated");
}
