//! What must not get through: every attempt of the unikernel `hostile`, with an environment beside it that must finish.

use super::context::{Context, text};
use super::{Need, Test, Verdict};
use crate::error::{Error, Result};

/// What HyperExo must do about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Survives,
    Killed,
    Either,
}

/// One test for each attempt that `attempt=list` names.
pub fn tests(context: &Context) -> Result<Vec<Test>> {
    let listed = context.run(&["-q", "hostile", "--", "attempt=list"]).and_then(|said| said.succeeded());
    let said = listed.map_err(|why| Error::Measurement(format!("hostile attempt=list: {why}")))?;
    let tests: Vec<Test> = said.out.lines().filter_map(attempt).collect();
    if tests.is_empty() {
        return Err(Error::Measurement("hostile attempt=list names no attempts".into()));
    }
    Ok(tests)
}

/// A line `NAME END: what it does`.
fn attempt(line: &str) -> Option<Test> {
    let (name, end) = line.split_once(':')?.0.split_once(' ')?;
    let end = match end {
        "survives" => End::Survives,
        "killed" => End::Killed,
        "either" => End::Either,
        _ => return None,
    };
    let attempt = name.to_owned();
    let run = move |context: &Context| check(context, &attempt, end);
    Some(Test { name: format!("hostile-{name}"), needs: &[Need::Disk], run: Box::new(run) })
}

fn check(context: &Context, attempt: &str, end: End) -> Verdict {
    let data = text(&context.data);
    let attacker = format!("attacker=hostile:attempt={attempt}");
    let said = context.run(&[
        "--memory",
        "64M",
        "--disk",
        &data,
        "--disk-extent",
        "attacker=64+64",
        "--disk-extent",
        "victim=0+64",
        "--app",
        // It is there before, during and after.
        "victim=hello:sleep-ms=100 spin-ms=200",
        "--app",
        &attacker,
    ])?;
    let said = said.tells("victim ended: exit code 0")?;
    match end {
        End::Survives => said.succeeded()?.tells("attacker ended: exit code 0").map(drop),
        End::Killed => said.fails_with(&["environment attacker ended: killed: "]),
        End::Either if said.status.success() => Ok(()),
        End::Either => said.fails_with(&["environment attacker ended: "]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_read() {
        assert_eq!(attempt("read-kernel killed: reads: all of it").unwrap().name, "hostile-read-kernel");
        assert!(attempt("hello").is_none() && attempt("a b: c").is_none());
    }
}
