//! Processors that offer less than the usual one: HyperExo makes do with what every one has.

use super::context::Context;
use super::hostile::{self, End};
use super::platform::Need;
use super::{Test, Verdict, work};
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Exokernel, Need::VmxModels];
    vec![
        Test::new("primitives-on-older-processor", &needs, primitives),
        Test::new("views-on-older-processor", &needs, views),
        Test::new("kernel-map", &[Need::Exokernel, Need::Qemu], kernel_map),
        Test::new("virtual-cpus-on-account", &[Need::Exokernel, Need::Qemu], virtual_cpus),
        Test::new("registers-of-neighbours", &[Need::Exokernel], registers),
    ]
}

/// The kernel's own page tables, as QEMU tells them while the one environment sleeps.
fn kernel_map(context: &Context) -> Verdict {
    let mut told = String::new();
    let arguments = ["--memory", "64M", "hello", "--", "sleep-ms=3000"];
    let said = context.run_with_control(&arguments, |control, printed| {
        // After this line it sleeps, and the kernel halts with its own map in use.
        printed.wait_for("disk: ")?;
        std::thread::sleep(Duration::from_millis(500));
        told = control.monitor("info tlb")?;
        Ok(())
    })?;
    said.succeeded()?;
    judge_map(&told)
}

/// Code is not writable, and the stacks of the first core have guards.
fn judge_map(told: &str) -> Verdict {
    /// Its loop's, and three for traps.
    const STACKS: usize = 4;
    let pages: Vec<(u64, &str)> = told.lines().filter_map(page).collect();
    let executable = || pages.iter().filter(|(_, access)| access.starts_with('-'));
    let code = executable().count();
    if code == 0 || executable().any(|(_, access)| access.ends_with('W') || access.contains('P')) {
        return Err(format!(
            "of {} pages, {code} are executable, and some of them large or writable",
            pages.len()
        ));
    }
    let bytes = |access: &str| if access.contains('P') { 2 << 20 } else { 4 << 10 };
    let guards = pages.windows(2).filter(|two| two[1].0 == two[0].0 + bytes(two[0].1) + (4 << 10)).count();
    if guards < STACKS { Err(format!("{guards} pages are guards, expected {STACKS}")) } else { Ok(()) }
}

/// Address and access in a line of `info tlb`. The access begins with `X` for what is not executable, has a
/// `P` for 2 MiB, and ends with `W` for what is writable.
fn page(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.trim().split_once(": ")?;
    Some((u64::from_str_radix(address, 16).ok()?, rest.split_once(' ')?.1))
}

/// Five environments with a virtual CPU on each of 16 cores, in little memory. What they can't have is
/// refused, and what they had serves again.
fn virtual_cpus(context: &Context) -> Verdict {
    let names = ["a", "b", "c", "d", "e"];
    let apps: Vec<String> =
        names.iter().map(|name| format!("{name}=hostile:attempt=start-everywhere")).collect();
    let apps = apps.iter().flat_map(|app| ["--app", app.as_str()]);
    let machine = ["--memory", "32M", "--cores", "16", "--may-use-cores", "all"];
    let said = context.run(&machine.into_iter().chain(apps).collect::<Vec<_>>())?.succeeded()?;
    names.iter().try_fold(said, |said, name| said.tells(&format!("{name} ended: exit code 0"))).map(drop)
}

/// Two environments on one core that leave values of their own in every register. Neither finds the other's,
/// and each finds its own again.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_judged() {
        let line = |frame: u64, access: &str| format!("{0:016x}: {0:016x} {access}\r\n", frame << 12);
        let good: String = (0..12)
            .filter(|frame| frame % 3 != 2 || *frame == 11)
            .map(|frame| line(frame, if frame == 0 { "----A----" } else { "X-------W" }))
            .chain([line(512, "X-P-----W"), line(1025, "X-P-----W")])
            .collect();
        assert_eq!(judge_map(&good), Ok(()));
        assert!(judge_map(&good.replace("----A----", "----A---W")).is_err(), "writable code");
        assert!(judge_map(&good.replace("----A----", "X---A----")).is_err(), "no code: not the kernel's");
        assert!(judge_map(&good.replace("X-P-----W", "--P------")).is_err(), "a large page of code");
        assert!(judge_map(&(good + &line(8, "X-------W"))).is_ok());
    }
}
