//! What must not get through: every attempt of the unikernel `hostile`, with an environment beside it that
//! must finish.

use super::context::{Context, Said, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::error::{Error, Result};

/// What HyperExo must do about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ends as if nothing had been.
    Survives,
    /// The kernel ends it.
    Killed,
    /// One or the other.
    Either,
}

/// One test for each attempt that `attempt=list` names.
pub fn tests(context: &Context) -> Result<Vec<Test>> {
    let listed = context.run(&["-q", "hostile", "--", "attempt=list"]).and_then(|said| said.succeeded());
    let said = listed.map_err(|why| Error::Measurement(format!("hostile attempt=list: {why}")))?;
    attempts(&said.out).map_err(|why| Error::Measurement(format!("hostile attempt=list: {why}")))
}

/// The attempts of a list. A line that can't be read is an error: an attempt that nobody makes would pass for
/// one that HyperExo withstands.
fn attempts(list: &str) -> std::result::Result<Vec<Test>, String> {
    let read = |line| attempt(line).ok_or_else(|| format!("a line that is no attempt: {line:?}"));
    let tests = list.lines().map(read).collect::<std::result::Result<Vec<Test>, String>>()?;
    if tests.is_empty() { Err("no attempts are named".into()) } else { Ok(tests) }
}

/// A line `NAME END: what it does`; after the end `cores=N` if it takes several, or `network`.
fn attempt(line: &str) -> Option<Test> {
    let mut words = line.split_once(':')?.0.split(' ');
    let (name, end) = (words.next()?, words.next()?);
    let needs = match words.next() {
        None => Need::Cores(1),
        Some("network") => Need::Network,
        Some(word) => Need::Cores(word.strip_prefix("cores=")?.parse().ok()?),
    };
    let end = match end {
        "survives" => End::Survives,
        "killed" => End::Killed,
        "either" => End::Either,
        _ => return None,
    };
    let attempt = name.to_owned();
    let run = move |context: &Context| match needs {
        Need::Cores(cores) => check(context, &attempt, end, cores, &[]),
        _ => check_on_network(context, &attempt, end),
    };
    let needs = vec![Need::Exokernel, Need::Disk, needs];
    Some(Test { name: format!("hostile-{name}"), needs, run: Box::new(run) })
}

/// An attempt on a machine with these further arguments.
///
/// Where there are several cores, the victim shares the last one with the attacker's virtual CPU there.
pub fn check(context: &Context, attempt: &str, end: End, cores: u32, machine: &[&str]) -> Verdict {
    let data = text(&context.small_disk()?);
    let (count, last) = (cores.to_string(), format!("victim={}", cores - 1));
    let attacker = format!("attacker=hostile:attempt={attempt}");
    let arguments = [
        "--memory",
        "64M",
        "--cores",
        &count,
        "--core",
        &last,
        "--may-use-cores",
        "attacker=all",
        "--disk",
        &data,
        "--disk-extent",
        "attacker=64+64",
        // Half of the disk: there is something to hoard, and an end to it.
        "--disk-quota",
        "attacker=1M",
        "--disk-extent",
        "victim=0+64",
        "--app",
        // It is there before, during and after.
        "victim=hello:sleep-ms=100 spin-ms=200",
        "--app",
        &attacker,
    ];
    judge(context.run(&[machine, &arguments].concat())?, end)
}

/// Two victims that need each other, and get along.
fn check_on_network(context: &Context, attempt: &str, end: End) -> Verdict {
    let attacker = format!("attacker=hostile:attempt={attempt}");
    let said = context.run(&[
        "--memory",
        "64M",
        "--net",
        "loopback",
        "--app",
        "victim=network:role=ping count=300 batch=4",
        "--app",
        "friend=network:role=echo count=300 shared=1",
        "--app",
        &attacker,
    ])?;
    judge(said.tells("friend ended: exit code 0")?, end)
}

/// The victim must finish, and the attacker end as it should.
fn judge(said: Said, end: End) -> Verdict {
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
        let on_two = attempt("steal survives cores=2: from the other core").unwrap();
        assert_eq!((on_two.name.as_str(), on_two.needs[2]), ("hostile-steal", Need::Cores(2)));
        assert_eq!(attempt("flood survives network: all").unwrap().needs[2], Need::Network);
        assert!(attempt("steal survives cores: what").is_none());
        assert!(attempt("hello").is_none() && attempt("a b: c").is_none());
    }

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let list = "read-kernel killed: all of it\nsteal survives cores=2: what\n";
        assert_eq!(attempts(list).map(|tests| tests.len()), Ok(2));
        for damage in ["flood survive: all\n", "flood survives cores: all\n", "flood survives\n", "\n"] {
            let said = attempts(&format!("{list}{damage}")).map(|tests| tests.len());
            let line = damage.trim_end();
            assert!(
                said.as_ref().is_err_and(|why| why.contains(&format!("{line:?}"))),
                "{damage:?}: {said:?}"
            );
        }
        assert!(attempts("").is_err());
    }
}
