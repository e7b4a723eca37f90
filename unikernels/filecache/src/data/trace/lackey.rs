//! Memory references from valgrind's tool `lackey`.
//!
//! Its lines look like `I  0400d7d4,8` (fetch), ` L 1ffeffe7e,4` (load), ` S …` (store), ` M …` (load, then
//! store).

use super::{ENVIRONMENT, Trace, TraceError, arguments, find_program};
use crate::din::Kind;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the program under valgrind.
pub fn run(program: &Path, directory: &Path, trace: &mut Trace<'_>) -> Result<(), TraceError> {
    let valgrind = find_program("valgrind")?;
    let mut child = Command::new(valgrind)
        .args(["--tool=lackey", "--trace-mem=yes"])
        .arg(program)
        .args(arguments())
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| TraceError::Failed { operation: "starting valgrind", error })?;
    let result = match child.stderr.take() {
        Some(output) => read(BufReader::new(output), trace),
        None => Ok(()),
    };
    // It may have ended already; either way it is waited for.
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn read(output: impl BufRead, trace: &mut Trace<'_>) -> Result<(), TraceError> {
    for line in output.split(b'\n') {
        let line = line.map_err(|error| TraceError::Failed { operation: "reading from valgrind", error })?;
        for (kind, address) in std::str::from_utf8(&line).ok().and_then(parse).into_iter().flatten() {
            if trace.is_full() {
                return Ok(());
            }
            trace.add(kind, address);
        }
    }
    Ok(())
}

/// The references of a line. `None` if it is something else.
fn parse(line: &str) -> Option<impl Iterator<Item = (Kind, u64)>> {
    let kinds: &[Kind] = match line.get(..3)? {
        "I  " => &[Kind::Fetch],
        " L " => &[Kind::Load],
        " S " => &[Kind::Store],
        " M " => &[Kind::Load, Kind::Store],
        _ => return None,
    };
    let (address, _) = line[3..].split_once(',')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some(kinds.iter().map(move |kind| (*kind, address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_lackey_are_understood() {
        let references = |line| parse(line).map(|references| references.collect::<Vec<_>>());
        assert_eq!(references("I  0400d7d4,8"), Some(vec![(Kind::Fetch, 0x400d7d4)]));
        assert_eq!(references(" S 1ffeffe7e,4"), Some(vec![(Kind::Store, 0x1_ffef_fe7e)]));
        assert_eq!(references(" M 10,8"), Some(vec![(Kind::Load, 0x10), (Kind::Store, 0x10)]));
        for other in ["==5430== Exit code:       0", "", "I  x,1", " L 10"] {
            assert_eq!(references(other), None, "{other}");
        }
    }
}
