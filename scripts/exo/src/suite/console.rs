//! The console of a unikernel that runs directly on a machine: virtio-console, the serial port, and which of
//! them.

use super::context::{Context, Said, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::session::qmp::Qmp;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The tests.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Alone, Need::QemuMachine];
    vec![
        Test::new("console-virtio", &needs, virtio),
        Test::new("console-virtio-alone", &needs, virtio_alone),
        Test::new("console-by-itself", &needs, by_itself),
        Test::new("console-virtio-without-device", &needs, without_device),
        Test::new("console-virtio-without-port", &needs, without_port),
        Test::new("console-virtio-stops", &[Need::Alone, Need::Qemu], stops),
        Test::new("console-reports-come-through", &needs, reports_come_through),
        Test::new("console-virtio-refused", &[Need::Exokernel], refused),
    ]
}

/// The argument that asks for the device.
const VIRTIO: [&str; 2] = ["--console", "virtio"];
/// Lines that a program prints: some buffers full.
const LINES: usize = 2000;

/// All lines of `print-lines` are there, in order and none twice.
fn all_lines(out: &str) -> Verdict {
    let numbers = out.lines().filter_map(|line| line.strip_prefix("line "));
    let numbers: Vec<Option<usize>> = numbers.map(|number| number.parse().ok()).collect();
    let right = numbers.iter().copied().eq((0..LINES).map(Some));
    if right { Ok(()) } else { Err(format!("{} of {LINES} lines, or not in order", numbers.len())) }
}

/// The tool reads from the device what it reads from the serial port otherwise: what the program prints, from
/// several cores, and how it ends, also by a panic and by a trap for which the stack has no room.
fn virtio(context: &Context) -> Verdict {
    let run = |arguments: &[&str]| context.run(&[&VIRTIO, arguments].concat());
    let said = run(&["hello", "--", &format!("print-lines={LINES}")])?.succeeded()?;
    all_lines(&said.out)?;
    said.tells("frames free")?.tells("hello ended: exit code 0")?;
    let said = run(&["hello", "--", "panic=1"])?.shows("panic at unikernels/hello/src/main.rs:")?;
    said.shows("hello/src/main.rs")?.fails_with(&["environment hello ended: exit code 101"])?;
    let said = run(&["cores", "--cores", "2", "--", "overflow=1"])?;
    let said = said.shows("stack overflow: the stack of another core is full")?.shows("(on core 1)")?;
    said.fails_with(&["environment cores ended: exit code 102"])?;
    run(&["cores", "--cores", "2"])?.succeeded().map(drop)
}

/// What a machine said that this tool started by its printed command alone.
struct Raw {
    /// QEMU's status.
    status: Option<i32>,
    /// On the serial port, if it is there.
    serial: String,
    /// On the virtio console.
    virtio: String,
}

/// How the two consoles stand in the printed command.
const BOTH: &str = "-chardev stdio,mux=on,id=console -serial chardev:console ";

/// Runs the printed command of `exo run --console virtio ARGUMENTS`, `edit`ed, with `ports` in place of the
/// words for the two consoles, in which `FILE` is the one that the virtio console writes to.
fn raw(
    context: &Context,
    arguments: &[&str],
    ports: &str,
    edit: impl Fn(&str) -> String,
) -> Result<Raw, String> {
    let words = [&["--print-command"], &VIRTIO[..], arguments].concat();
    let command = context.run(&words)?.succeeded()?.out;
    let file = context.file(FILE, b"")?;
    let edited = edit(&command).replacen(BOTH, &ports.replace("FILE", &text(&file)), 1);
    if edited.contains("mux=on") {
        return Err(format!("no such command as expected: {command}"));
    }
    let script = format!("timeout {} {}", context.platform.seconds(), edited.trim_end());
    let output = Command::new("sh").arg("-c").arg(script).output().map_err(|error| error.to_string())?;
    let virtio = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let serial = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Raw { status: output.status.code(), serial, virtio })
}

/// Name of the file that a virtio console writes to.
const FILE: &str = "virtio-console";

/// The file behind the device, and no serial port.
const DEVICE_ALONE: &str = "-chardev file,id=console,path=FILE ";
/// The file behind the device, and a serial port.
const DEVICE_AND_PORT: &str = "-chardev file,id=console,path=FILE -serial stdio ";

/// What a program that panics says is on one console, all of it, and not a byte on the other.
fn is_on(shown: &str, other: &str, status: Option<i32>) -> Verdict {
    let whole =
        shown.contains("Hello from hello") && shown.contains("panic at ") && shown.contains("  #3 0x");
    // 2S + 1, S being 101.
    match whole && other.is_empty() && status == Some(203) {
        true => Ok(()),
        false => Err(format!("status {status:?}; expected on the one: {shown:?}; on the other: {other:?}")),
    }
}

/// Stands for a device that QEMU sees to in a thread of its own, so that requests take time.
const IN_A_THREAD: &str = "-global virtio-serial-pci.ioeventfd=on";

/// Without any serial port, with each kind of interrupt that a device can have, and each generation of its
/// interface.
fn virtio_alone(context: &Context) -> Verdict {
    let kinds: &[&str] = match context.platform {
        Platform::DirectMicrovm => &["", "-global virtio-mmio.force-legacy=false"],
        _ => &[
            "",
            IN_A_THREAD,
            "-global virtio-serial-pci.vectors=0",
            "-global virtio-serial-pci.disable-legacy=on",
            "-global virtio-serial-pci.disable-legacy=off",
            "-M pc -global virtio-serial-pci.vectors=0",
            "-M pc -global virtio-serial-pci.disable-legacy=on",
        ],
    };
    for kind in kinds {
        let (ports, own) = (format!("{DEVICE_ALONE}{kind} "), *kind != IN_A_THREAD);
        let edit =
            |command: &str| if own { command.to_owned() } else { command.replacen(",ioeventfd=off", "", 1) };
        let said = raw(context, &["hello", "--", &format!("print-lines={LINES}"), "panic=1"], &ports, edit)?;
        let right = all_lines(&said.virtio).and_then(|()| is_on(&said.virtio, &said.serial, said.status));
        right.map_err(|error| format!("{kind}: {error}"))?;
    }
    Ok(())
}

/// Unless told, an image takes the serial port if there is one, else the device.
fn by_itself(context: &Context) -> Verdict {
    let run = |ports| {
        raw(context, &["hello", "--", "panic=1"], ports, |command| command.replacen(" console=virtio", "", 1))
    };
    let said = run(DEVICE_ALONE)?;
    is_on(&said.virtio, &said.serial, said.status)?;
    let said = run(DEVICE_AND_PORT)?;
    is_on(&said.serial, &said.virtio, said.status)
}

/// Who asks for a device that is not there gets all lines on the serial port, those from before included, and
/// a warning.
fn without_device(context: &Context) -> Verdict {
    let words = format!("--kernel-args={}", "console=virtio early=1");
    let said = context.run(&["hello", &words])?.succeeded()?.shows("Hello from hello")?;
    said.tells("'early=1' is not known")?.tells("frames free")?.tells("there is no virtio console").map(drop)
}

/// A device without a console behind it takes what it is given to nowhere, and the program ends as it should.
fn without_port(context: &Context) -> Verdict {
    let without = |command: &str| command.replacen("-device virtconsole,chardev=console ", "", 1);
    let lines = format!("print-lines={LINES}");
    let said = raw(context, &["hello", "--", &lines, "exit=3"], DEVICE_AND_PORT, without)?;
    match said.status {
        Some(7) => Ok(()),
        other => Err(format!("status {other:?}")),
    }
}

/// While the program sleeps, the device is reset behind its back, and takes nothing from then on. All lines
/// are on the serial port: those that the device was given at the end, when it is clear that it will not
/// return them.
fn stops(context: &Context) -> Verdict {
    let folder = tempfile::tempdir_in(context.scratch.path()).map_err(|error| error.to_string())?;
    let socket = folder.path().join("qmp");
    let ports = format!("{DEVICE_AND_PORT}-qmp unix:{},server=on,wait=off ", text(&socket));
    let lines = format!("print-lines={LINES}");
    // qboot gives no place to registers at I/O ports.
    let words = ["hello", "--firmware", "seabios", "--", "sleep-ms=2500", &lines, "exit=3"];
    let file = context.file(FILE, b"")?;
    let (said, reset) = std::thread::scope(|scope| {
        let reset = scope.spawn(|| reset_console(&socket, &file));
        (raw(context, &words, &ports, str::to_owned), reset.join())
    });
    reset.map_err(|_| "the thread that resets the device has panicked")??;
    let said = said?;
    let mut shown: Vec<&str> = said.serial.lines().filter(|line| line.starts_with("line ")).collect();
    let begun = shown.first().is_some_and(|line| *line != "line 0");
    shown.sort_unstable_by_key(|line| line.split(' ').nth(1).and_then(|number| number.parse::<usize>().ok()));
    all_lines(&shown.join("\n")).map_err(|error| format!("{error}: on the device {:?}", said.virtio))?;
    let before = said.virtio.contains("Hello from hello") && !said.virtio.contains("line 0");
    match before && begun && said.status == Some(7) {
        true => Ok(()),
        false => Err(format!("status {:?}, on the device: {:?}", said.status, said.virtio)),
    }
}

/// Resets the device of a virtio console once it has written `hello`'s last line before a sleep to `file`, by
/// its register for that (virtio 1.1 §4.1.4.8).
fn reset_console(socket: &Path, file: &Path) -> Verdict {
    /// The device in what QEMU says of PCI.
    const DEVICE: &str = "PCI device 1af4:1003";
    /// Where the status is among the registers at I/O ports.
    const STATUS: u64 = 18;
    let mut control = Qmp::connect_when_ready(socket).map_err(|error| error.to_string())?;
    let limit = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(file).is_ok_and(|text| text.contains("{\"hello\"")) {
        if Instant::now() > limit {
            return Err("the program has printed nothing".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let devices = control.monitor("info pci").map_err(|error| error.to_string())?;
    let registers = devices.split(DEVICE).nth(1).and_then(|rest| rest.split("I/O at 0x").nth(1));
    let base =
        registers.and_then(|rest| u16::from_str_radix(rest.split(' ').next()?, 16).ok()).map(u64::from);
    let status = base.ok_or_else(|| format!("no registers of the console: {devices}"))? + STATUS;
    control.monitor(&format!("o /b {status:#x} 0")).map(drop).map_err(|error| error.to_string())
}

/// Whatever a core is at, a report of its failure is seen, and the machine ends: also if it is writing to the
/// console, with all locks for that held. An NMI comes at any moment, here while a program does nothing but
/// print; it is repeated, as a moment can't be chosen.
fn reports_come_through(context: &Context) -> Verdict {
    for console in ["virtio", "serial"] {
        for attempt in 0..4u64 {
            let said = with_nmi(context, console, &format!("line {}", 37 * attempt))?;
            let said = said.shows("line 0")?.shows("unhandled")?.shows("  rip ")?.shows("  #0 0x")?;
            said.fails_with(&["environment hello ended: exit code 102"])
                .map_err(|error| format!("{console}, attempt {attempt}: {error}"))?;
        }
    }
    Ok(())
}

/// Runs a program that prints and prints, and interrupts it once it has printed `after`.
fn with_nmi(context: &Context, console: &str, after: &str) -> Result<Said, String> {
    let arguments = ["hello", "--console", console, "--", "print-lines=1000000000"];
    context.run_with_control(&arguments, |control, printed| {
        printed.wait_for(after)?;
        control.inject_nmi()
    })
}

/// HyperExo has the serial port alone, and Bochs no such device.
fn refused(context: &Context) -> Verdict {
    let said = context.run(&[&VIRTIO[..], &["hello"]].concat())?;
    said.fails_with(&["--console virtio", "HyperExo writes to the serial port alone"])?;
    let said =
        context.exo(&["run", "--no-build", "--direct", "--on", "bochs", "--console", "virtio", "hello"])?;
    said.fails_with(&["--console virtio", "Bochs has no virtio"])
}
