//! Processors that offer less than the usual one: HyperExo makes do with what every one has.

use super::context::Context;
use super::hostile::{self, End};
use super::platform::Need;
use super::{Test, Verdict, work};

/// The tests.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Exokernel, Need::VmxModels];
    vec![
        Test::new("primitives-on-older-processor", &needs, primitives),
        Test::new("views-on-older-processor", &needs, views),
        Test::new("virtual-cpus-on-account", &[Need::Exokernel, Need::Qemu], virtual_cpus),
        Test::new("registers-of-neighbours", &[Need::Exokernel], registers),
    ]
}

/// Five environments with a virtual CPU on each of 16 cores, in little memory. What they can't have is refused, and
/// what they had serves again.
fn virtual_cpus(context: &Context) -> Verdict {
    let names = ["a", "b", "c", "d", "e"];
    let apps: Vec<String> =
        names.iter().map(|name| format!("{name}=hostile:attempt=start-everywhere")).collect();
    let apps = apps.iter().flat_map(|app| ["--app", app.as_str()]);
    let machine = ["--memory", "32M", "--cores", "16"];
    let said = context.run(&machine.into_iter().chain(apps).collect::<Vec<_>>())?.succeeded()?;
    names.iter().try_fold(said, |said, name| said.tells(&format!("{name} ended: exit code 0"))).map(drop)
}

/// Two environments on one core that leave values of their own in every register. Neither finds the other's, and
/// each finds its own again.
fn registers(context: &Context) -> Verdict {
    let said = context.run(&[
        "--memory",
        "64M",
        "--app",
        "first=hostile:attempt=registers",
        "--app",
        "second=hostile:attempt=registers",
    ])?;
    said.succeeded()?.tells("first ended: exit code 0")?.tells("second ended: exit code 0").map(drop)
}

/// A processor with VMX but without `VMFUNC` and #VE.
const OLDER: [&str; 2] = ["--bochs-cpu", "corei7_sandy_bridge_2600k"];

/// What the kernel says of a processor that has them.
const NEWER_FEATURES: [&str; 2] = ["vmfunc eptp switching", "#ve"];

/// The same image changes views by `VMFUNC` where there is one, else by a call; nested faults come by way of
/// the kernel where the processor does not deliver them.
fn primitives(context: &Context) -> Verdict {
    let usual = context.run(&["primitives"])?.succeeded()?.shows("{\"primitive\":\"vmfunc-pair\"")?;
    NEWER_FEATURES.iter().try_fold(usual, |said, feature| said.tells(feature))?;
    let older = context.run(&[&OLDER[..], &["primitives"]].concat())?.succeeded()?;
    if let Some(feature) = NEWER_FEATURES.iter().find(|feature| older.err.contains(**feature)) {
        return Err(format!("{} is not to have {feature}", OLDER[1]));
    }
    let older = older.shows("{\"primitive\":\"view-switch-pair\"")?;
    match older.out.lines().find(|line| line.contains("\"nested-fault\"")) {
        Some(line) if line.contains("\"nested_fault\":1.00") => Ok(()),
        line => Err(format!("a nested fault should take one exit: {line:?}")),
    }
}

/// Attempts against views, whose protection must not rest on `VMFUNC`.
const ATTEMPTS: [(&str, End); 7] = [
    ("view-calls", End::Survives),
    ("view-functions", End::Survives),
    ("view-secret", End::Survives),
    ("view-secret-read", End::Killed),
    ("view-outside", End::Killed),
    ("view-unbind-inside", End::Killed),
    ("view-end-inside", End::Killed),
];

fn views(context: &Context) -> Verdict {
    work::shared_view_on(context, &OLDER)?;
    ATTEMPTS.iter().try_for_each(|(attempt, end)| {
        hostile::check(context, attempt, *end, 1, &OLDER).map_err(|why| format!("{attempt}: {why}"))
    })
}
