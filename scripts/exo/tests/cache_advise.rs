//! `exo cache advise` as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

fn advise(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exo"))
        .args(["cache", "advise"])
        .args(arguments)
        .output()
        .expect("exo runs")
}

/// A text that is read from end to end again and again, and an index that is used all the time, here and
/// there.
fn record(path: &Path) {
    let mut text = String::from("# hyperexo references 1\n# file 1: /text\n# file 2: 9 reads: /index\n");
    let mut state = 7_u64;
    for _pass in 0..30 {
        for block in 0..100_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += &format!("{}\n{}\n", (1_u64 << 32) + block, (2_u64 << 32) + (state >> 33) % 60);
        }
    }
    std::fs::write(path, text).expect("a record");
}

#[test]
fn a_record_gives_a_plan_with_the_names_of_its_files() {
    let folder = tempfile::tempdir().expect("a directory");
    let (path, page) = (folder.path().join("refs"), folder.path().join("page.html"));
    record(&path);
    let (path, page) = (path.to_string_lossy(), page.to_string_lossy());
    let said = advise(&["--sizes", "90", "--json", "-", "--html", &page, &path]);
    assert!(said.status.success(), "{said:?}");
    let line: serde_json::Value = serde_json::from_slice(&said.stdout).expect("one JSON line");
    let misses = |name: &str| line[name].as_u64().expect("a count");
    assert!(
        misses("plan_misses") < misses("general_misses")
            && misses("general_misses") <= misses("default_misses")
    );
    assert!(misses("opt_misses") <= misses("plan_misses"));
    let plan = line["plan"].as_str().expect("a plan");
    assert!(plan.contains("/index=1") || plan.contains("/text=1"), "{plan}");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("loop") && text.contains("volume.open(\"/"), "{text}");
    let page = std::fs::read_to_string(&*page).expect("a page");
    assert!(page.contains("set_priority(&amp;volume.open(&quot;/"), "{page}");
}

#[test]
fn what_is_neither_a_file_nor_an_application_is_told() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("refs");
    record(&path);
    for (arguments, told) in [
        (&[&*path.to_string_lossy(), "workload=cs"][..], "options come before the file"),
        (&["no-such-file"][..], "is no file, and running it as an application failed"),
    ] {
        let said = advise(arguments);
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && text.contains(told), "{text}");
    }
}
