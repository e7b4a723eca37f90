//! What is left of a core to somebody whose neighbour does its worst, and how long the kernel's lock is held.

use super::context::{Context, Said};
use super::platform::Need;
use super::{Test, Verdict};
use serde_json::Value;

/// Percent of a core that a victim keeps which nobody shares with it.
const OWN_CORE: u64 = 95;
/// Percent of a core that a victim keeps which an attacker shares.
const SHARED_CORE: u64 = 45;
/// How often a machine is tried. A busy host takes from everybody's share, and gives to nobody's: one good
/// run shows what the kernel leaves.
const TRIES: usize = 12;
/// Most instructions for which the kernel's lock may be held at once. The longest, a piece of a binding in a
/// view, takes 34,922.
const LONGEST_HOLD: u64 = 36_000;

/// The tests: the victims' part under each attack, on a core of their own and on the attacker's.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Exokernel, Need::Qemu, Need::Cores(2), Need::QuietHost];
    vec![
        Test::new("shares-lock-hog", &needs, |context| victims(context, "lock-hog")),
        Test::new("shares-console-flood", &needs, |context| victims(context, "console-flood")),
        Test::new("shares-wake-neighbour", &needs, |context| victims(context, "wake-neighbour")),
        Test::new("holds", &[Need::Exokernel, Need::Qemu, Need::Disk], holds),
        Test::new("cores-of-the-manifest", &[Need::Exokernel, Need::Cores(2)], cores_of_the_manifest),
    ]
}

/// The attack, and beside it victims that must have what is theirs in one run at least.
fn victims(context: &Context, attack: &str) -> Verdict {
    let mut verdict = Ok(());
    for _ in 0..TRIES {
        verdict = victims_once(context, attack);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

/// An attacker on core 0, with a virtual CPU on core 1 if it likes; a victim on each.
fn victims_once(context: &Context, attack: &str) -> Verdict {
    let attacker = format!("attacker=hostile:attempt={attack} ms=400");
    let said = context.run(&[
        "--memory",
        "128M",
        "--cores",
        "2",
        "--may-use-cores",
        "attacker=all",
        "--core",
        "beside=1",
        "--app",
        &attacker,
        "--app",
        "sharing=hostile:attempt=victim ms=300",
        "--app",
        "beside=hostile:attempt=victim ms=300",
    ])?;
    let said = said.succeeded()?;
    // An attack that uses both cores shares both.
    let beside = if attack == "wake-neighbour" { SHARED_CORE } else { OWN_CORE };
    at_least(&said, "sharing", SHARED_CORE)?;
    at_least(&said, "beside", beside)
}

/// Every call with its largest arguments, on one core, with time counted in instructions: the same in every
/// run.
fn holds(context: &Context) -> Verdict {
    let disk = super::context::text(&context.small_disk()?);
    let said = context.run(&[
        "--memory",
        "128M",
        "--icount",
        "shift=0",
        "--net",
        "loopback",
        "--disk",
        &disk,
        "--disk-quota",
        "1M",
        "--disk-extent",
        "0+64",
        "hostile",
        "--",
        "attempt=holds",
    ])?;
    let said = said.succeeded()?;
    let lines = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut seen = 0;
    for line in lines {
        let (Some(held), after) = (line["holds"]["longest_hold"].as_u64(), &line["holds"]["after"]) else {
            continue;
        };
        if held > LONGEST_HOLD {
            return Err(format!("after {after} the lock had been held for {held} instructions at once"));
        }
        seen += 1;
    }
    if seen < 10 {
        Err(format!("only {seen} kinds of calls told how long they hold the lock"))
    } else {
        Ok(())
    }
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
