//! What is left of a core to somebody whose neighbour does its worst, and how long the kernel's lock is held.
//!
//! Time is counted in instructions (`-icount`), so that a busy host changes nothing.

use super::context::{Context, Said};
use super::platform::Need;
use super::{Test, Verdict};
use serde_json::Value;

/// Percent of a core that a victim keeps which nobody shares with it.
const OWN_CORE: u64 = 95;
/// Percent of a core that a victim keeps which an attacker shares.
const SHARED_CORE: u64 = 45;
/// Most instructions for which the kernel's lock may be held at once.
const LONGEST_HOLD: u64 = 40_000;

/// The tests: the victims' part under each attack, on a core of their own and on the attacker's.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Exokernel, Need::Qemu, Need::Cores(2)];
    vec![
        Test::new("shares-lock-hog", &needs, |context| victims(context, "lock-hog")),
        Test::new("shares-console-flood", &needs, |context| victims(context, "console-flood")),
        Test::new("shares-wake-neighbour", &needs, |context| victims(context, "wake-neighbour")),
        Test::new("cores-of-the-manifest", &[Need::Exokernel, Need::Cores(2)], cores_of_the_manifest),
    ]
}

/// An attacker on core 0, with a virtual CPU on core 1 if it likes; a victim on each.
fn victims(context: &Context, attack: &str) -> Verdict {
    let attacker = format!("attacker=hostile:attempt={attack} ms=200");
    let said = context.run(&[
        "--memory",
        "128M",
        "--cores",
        "2",
        "--icount",
        "shift=0",
        "--may-use-cores",
        "attacker=all",
        "--core",
        "beside=1",
        "--app",
        &attacker,
        "--app",
        "sharing=hostile:attempt=victim ms=200",
        "--app",
        "beside=hostile:attempt=victim ms=200",
    ])?;
    let said = said.succeeded()?;
    // An attack that uses both cores shares both.
    let beside = if attack == "wake-neighbour" { SHARED_CORE } else { OWN_CORE };
    at_least(&said, "sharing", SHARED_CORE)?;
    at_least(&said, "beside", beside)?;
    shortly_held(&said, "attacker", "attack")?;
    shortly_held(&said, "sharing", "victim")
}

/// A number that an environment printed about itself.
fn told(said: &Said, label: &str, what: &str, number: &str) -> Result<u64, String> {
    let prefix = format!("{label}| ");
    said.out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix(&prefix)?).ok())
        .find_map(|line| line[what][number].as_u64())
        .ok_or_else(|| format!("{label} does not tell {number}"))
}

/// The victim with this label must have had so many percent of its core.
fn at_least(said: &Said, label: &str, percent: u64) -> Verdict {
    let own = told(said, label, "victim", "own_percent")?;
    if own < percent {
        return Err(format!("{label} had {own} % of its core, at least {percent} % are its own"));
    }
    Ok(())
}

/// The kernel's lock must not have been held for long on behalf of an environment.
fn shortly_held(said: &Said, label: &str, what: &str) -> Verdict {
    let held = told(said, label, what, "longest_hold")?;
    if held > LONGEST_HOLD {
        return Err(format!("the lock was held for {held} instructions, at most {LONGEST_HOLD} are allowed"));
    }
    Ok(())
}

/// An environment gets virtual CPUs only on the cores that its manifest names: by default its own.
fn cores_of_the_manifest(context: &Context) -> Verdict {
    let run = |extra: &[&str]| {
        let common = ["--cores", "2", "--app", "one=hostile:attempt=foreign-core", "--app", "other=hello"];
        context.run(&[&common[..], extra].concat())?.succeeded()
    };
    run(&[])?;
    run(&["--may-use-cores", "one=0", "--may-use-cores", "other=all"])?;
    Ok(())
}
