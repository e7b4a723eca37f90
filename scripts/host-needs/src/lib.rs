//! Tests of the host that need a program which not every host has.
//!
//! The test harness knows no more than "passed" and "failed". So a test without its program returns early,
//! and says so in a line `not offered: TEST: needs PROGRAM`, which `scripts/test` counts. The harness
//! captures what a test prints through `println!` and `eprintln!`. This line is written to standard error
//! itself, and is always seen.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

/// How a line about a test that is not offered begins. `scripts/test` looks for it.
pub const PREFIX: &str = "not offered: ";

/// Where a program lies that `test` needs; where there is none, says that the test is not offered.
///
/// ```
/// fn images_are_read() {
///     let Some(mke2fs) = host_needs::program("images_are_read", "mke2fs") else { return };
///     assert!(mke2fs.is_file());
/// }
/// # images_are_read();
/// ```
pub fn program(test: &str, name: &str) -> Option<PathBuf> {
    let found = find(name, folders());
    if found.is_none() {
        say(test, name);
    }
    found
}

/// Whether a file or folder is there that `test` needs and that is no part of the repository; where it is
/// not, says that the test is not offered.
pub fn file(test: &str, path: &Path) -> bool {
    let there = path.exists();
    if !there {
        say(test, &path.display().to_string());
    }
    there
}

/// Whether the host permits what `test` needs, as the caller has found out; where it does not, says that the
/// test is not offered.
pub fn permission(test: &str, what: &str, granted: bool) -> bool {
    if !granted {
        say(test, what);
    }
    granted
}

/// Variable that names the folder of cases.
const CASES: &str = "HYPEREXO_CASES";

/// A file of the folder of reported inputs that `test` needs: inputs of others, which are no part of the
/// repository. The folder is named by `HYPEREXO_CASES`, or lies beside the checkout, as `shared/cases`.
/// Where the file is not there, says that the test is not offered.
pub fn case(test: &str, name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let folder = std::env::var_os(CASES).map_or_else(beside, PathBuf::from);
    let path = folder.join(name);
    file(test, &path).then_some(path)
}

fn say(test: &str, what: &str) {
    // In one piece, and on a line of its own: other tests print at the same time.
    let line = format!("\n{PREFIX}{test}: needs {what}\n");
    // A harness that has closed its standard error can't be told anything.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Folders of programs. Those of the administrator's are not on every user's path.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

fn find(name: &str, folders: Vec<PathBuf>) -> Option<PathBuf> {
    folders.into_iter().map(|folder| folder.join(name)).find(|path: &PathBuf| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set for the child that [`the_line_passes_the_harness`] starts.
    const CHILD: &str = "HOST_NEEDS_CHILD";
    /// Under this name the harness knows that test.
    const TEST: &str = "tests::the_line_passes_the_harness";

    #[test]
    fn the_line_passes_the_harness() {
        if std::env::var_os(CHILD).is_some() {
            println!("this is captured");
            assert_eq!(program("a_test", "no-such-program"), None);
            return;
        }
        let own = std::env::current_exe().expect("the path of this test");
        let said =
            Command::new(own).args(["--exact", TEST]).env(CHILD, "1").output().expect("it starts again");
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(out.contains("1 passed") && !out.contains("this is captured"), "{out}");
        assert!(err.lines().any(|line| line == "not offered: a_test: needs no-such-program"), "{err}");
    }

    #[test]
    fn programs_are_found() {
        assert!(program("programs_are_found", "sh").is_some());
        assert!(permission("programs_are_found", "nothing", true));
        assert_eq!(find("sh", vec!["/nowhere".into()]), None);
    }
}
