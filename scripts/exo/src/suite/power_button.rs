//! The power button of a machine: the program is told, or what is unsaved is saved and the machine ends.

use super::context::{Context, Said, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::session::qmp::Qmp;
use rustix::process::Signal;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    let needs = [Need::QemuMachine];
    vec![
        Test::new("power-button-told", &needs, told),
        Test::new("power-button-ends", &needs, ends),
        Test::new("power-button-by-signal", &needs, by_signal),
        Test::new("power-button-tells-everybody", &[Need::QemuMachine, Need::Exokernel], tells_everybody),
        Test::new("power-button-commits", &[Need::QemuMachine, Need::Disk], commits),
    ]
}

/// Runs the tool; as soon as these words have been printed, the button is pressed.
fn pressed_after(context: &Context, words: &str, arguments: &[&str]) -> Result<Said, String> {
    context.run_with_control(arguments, |control, printed| {
        printed.wait_for(words)?;
        control.press_power_button()
    })
}

/// Machine types, where there is a choice.
fn boards(context: &Context) -> &'static [&'static str] {
    match context.platform {
        Platform::DirectMicrovm => &["microvm"],
        _ => &["q35", "pc"],
    }
}

/// A program that has taken the button over is woken, and goes on.
fn told(context: &Context) -> Verdict {
    for machine in boards(context) {
        let words = ["hello", "--", "power-button=1"];
        let on = [&["--machine", machine], &words[..]].concat();
        // Said twice, a machine type is refused.
        let arguments = if context.platform == Platform::DirectMicrovm { &words[..] } else { &on };
        let said = pressed_after(context, "waiting for the power button", arguments);
        let said = said.and_then(Said::succeeded).map_err(|error| format!("{machine}: {error}"))?;
        said.shows("the button was pressed, and the program goes on")?;
    }
    Ok(())
}

/// What the library prints.
const ENDED: &str = "the power button was pressed: ended";

/// A program with nothing to save that does nothing about it ends at once, asleep or at work.
fn ends(context: &Context) -> Verdict {
    for word in ["sleep-ms=600000", "spin-ms=600000"] {
        let arguments = ["hello", "--", word];
        pressed_after(context, "\"hello\":", &arguments)?.succeeded()?.shows(ENDED)?;
    }
    Ok(())
}

/// SIGINT (Ctrl-C) and SIGTERM of the tool press the button; its status is then that of the program. A
/// program that does not end is taken away when it is asked for again.
fn by_signal(context: &Context) -> Verdict {
    let started = "\"hello\":";
    for signal in [Signal::INT, Signal::TERM] {
        let said = context.run_signalled(&["hello", "--", "sleep-ms=600000"], started, &[signal])?;
        said.succeeded()?.shows(ENDED)?.tells("pressed the machine's power button")?;
    }
    let stubborn = ["hello", "--", "power-button=1", "sleep-ms=600000"];
    let said =
        context.run_signalled(&stubborn, "waiting for the power button", &[Signal::INT, Signal::INT])?;
    match said.status.code() {
        Some(130) => said.shows("the program goes on")?.fails_with(&["interrupted"]),
        other => Err(format!("ended with {other:?}: {}", said.err)),
    }
}

fn tells_everybody(context: &Context) -> Verdict {
    let sleeping = |name: &str| format!("{name}=hello:sleep-ms=600000");
    let (one, another) = (sleeping("a"), sleeping("b"));
    let cores = ["--cores", "2", "--core", "b=1"];
    let arguments = [&["--app", &one, "--app", &another], &cores[..]].concat();
    let said = pressed_after(context, "b| {\"hello\":", &arguments)?.succeeded()?;
    said.shows(&format!("a| {ENDED}"))?.shows(&format!("b| {ENDED}")).map(drop)
}

/// `sort` commits at its end alone. On a slow disk it is stopped after so many writes, in the midst of its
/// runs.
const WRITES_BEFORE: u64 = 12;

/// Stops `sort` on a volume named `name`, and lists what is on the disk then.
fn stopped(
    context: &Context,
    name: &str,
    stop: fn(&mut Qmp) -> crate::error::Result<()>,
) -> Result<(Said, String), String> {
    use filecache::sort::{INPUT_PATH, TASK_PATH};
    let image = text(&context.volume_of(name, &[INPUT_PATH, TASK_PATH], 8 << 20)?);
    let disk = ["filecache", "--disk", &image, "--keep-writes", "--disk-iops", "40"];
    let arguments = [&disk[..], &["--timeout", "60", "--", "workload=sort"]].concat();
    let said = context.run_with_control(&arguments, |control, _| {
        while control.block_stats()?.unwrap_or_default().wr_operations < WRITES_BEFORE {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop(control)
    })?;
    context.exo(&["fs", "check", &image])?.succeeded()?;
    let listed = context.exo(&["fs", "ls", &image, "/sort"])?.succeeded()?;
    Ok((said, listed.out))
}

/// What a program has written and not committed is on the disk after the button was pressed, and is not where
/// the machine was just taken away.
fn commits(context: &Context) -> Verdict {
    let (_, without) = stopped(context, "taken-away.img", Qmp::quit)?;
    let (said, with) = stopped(context, "pressed.img", Qmp::press_power_button)?;
    said.succeeded()?.shows(ENDED)?;
    first_run_is_sorted(context, "pressed.img", &with)?;
    let runs = |listed: &str| listed.lines().filter(|line| line.contains("run")).count();
    match (runs(&without), runs(&with)) {
        (0, 1..) => Ok(()),
        counts => Err(format!("runs on the disk: {counts:?}\n{without}\n{with}")),
    }
}

/// The first run of what is listed is as `sort` makes it: lines in order.
fn first_run_is_sorted(context: &Context, name: &str, listed: &str) -> Verdict {
    let paths = listed.lines().filter_map(|line| line.split_ascii_whitespace().last());
    let path =
        paths.filter(|path| path.contains("/run-")).min().ok_or_else(|| format!("no run: {listed}"))?;
    let (image, copy) = (context.scratch.path().join(name), context.scratch.path().join("first-run"));
    context.exo(&["fs", "get", &text(&image), path, &text(&copy)])?.succeeded()?;
    let bytes = std::fs::read(&copy).map_err(|error| error.to_string())?;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    match lines.len() > 100 && lines.is_sorted() {
        true => Ok(()),
        false => Err(format!("{path}: {} lines, in order: {}", lines.len(), lines.is_sorted())),
    }
}
