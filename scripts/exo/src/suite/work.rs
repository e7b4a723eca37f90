//! What must work.

use super::context::{Context, Said, text};
use super::{Need, Test, Verdict};
use crate::children::{Group, Progress};
use crate::create;
use results::CompareLine;
use std::process::Command;
use std::time::{Duration, Instant};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("hello", &[], hello),
        Test::new("hello-on-pc", &[], hello_on_pc),
        Test::new("several-environments", &[], several),
        Test::new("exit-code", &[], exit_code),
        Test::new("backtrace", &[], backtrace),
        Test::new("stack-overflow", &[], |context| dies_alone(context, "overflow=1")),
        Test::new("out-of-memory", &[], |context| dies_alone(context, "oom=1")),
        Test::new("command-without-exo", &[], command_without_exo),
        Test::new("sixteen-mebibytes", &[], small_memory),
        Test::new("filecache-din", &[Need::Disk], filecache),
        Test::new("compare-filecache", &[Need::Disk], compare),
        Test::new("snapshot-and-kept-writes", &[Need::Disk], writes),
        Test::new("interrupted", &[], interrupted),
        Test::new("new-application", &[Need::Disk], new_application),
        Test::new("ext4-image", &[Need::Disk, Need::Program("mke2fs")], ext4),
    ]
}

fn hello(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--", "greeting=1"])?.succeeded()?;
    let said = said.shows("Hello from hello")?.shows("command line: \"greeting=1\"")?;
    // The exact command is shown.
    said.tells("qemu-system-x86_64 -M q35")?.tells("hello ended: exit code 0").map(drop)
}

fn hello_on_pc(context: &Context) -> Verdict {
    context.run(&["hello", "--machine", "pc"])?.succeeded()?.shows("Hello from hello").map(drop)
}

fn several(context: &Context) -> Verdict {
    let apps = ["--app", "a=hello:spin-ms=200", "--app", "b=hello:sleep-ms=200", "--app", "c=hello"];
    let said = context.run(&apps)?.succeeded()?;
    let said = said.shows("a| Hello from a")?.shows("b| Hello from b")?.shows("c| Hello from c")?;
    said.tells("a ended: exit code 0")?.tells("b ended: exit code 0")?.tells("c ended: exit code 0").map(drop)
}

fn exit_code(context: &Context) -> Verdict {
    context.run(&["hello", "--", "exit=3"])?.fails_with(&["environment hello", "exit code 3"])
}

/// A panic shows functions and source lines, found in the unstripped image.
fn backtrace(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--", "panic=1"])?;
    let said = said.shows("as the command line asked")?.shows("hello::")?.shows("hello/src/main.rs:")?;
    said.fails_with(&["environment hello ended"])
}

/// One environment comes to a bad end; the one beside it does not.
fn dies_alone(context: &Context, how: &str) -> Verdict {
    let bad = format!("bad=hello:{how}");
    let said = context.run(&["--memory", "64M", "--app", &bad, "--app", "good=hello:spin-ms=300"])?;
    said.tells("good ended: exit code 0")?.fails_with(&["environment bad ended"])
}

/// The printed command runs without the tool, and its exit status tells how it went.
fn command_without_exo(context: &Context) -> Verdict {
    for (word, expected) in [("exit=0", 1), ("exit=1", 3)] {
        let said = context.run(&["--print-command", "hello", "--", word])?.succeeded()?;
        let script = format!("timeout 30 {}", said.out);
        let output = Command::new("sh").arg("-c").arg(&script).output().map_err(|error| error.to_string())?;
        if output.status.code() != Some(expected) {
            return Err(format!("{word}: QEMU ended with {}, expected {expected}", output.status));
        }
        if !String::from_utf8_lossy(&output.stdout).contains("hello| Hello from hello") {
            return Err(format!("{word}: no greeting on standard output"));
        }
    }
    Ok(())
}

/// The kernel and `hello` together in 16 MiB, and their images as small as they should be.
fn small_memory(context: &Context) -> Verdict {
    context.run(&["hello", "--memory", "16M"])?.succeeded()?;
    let sizes = [("hyperexo", &context.built.kernel, 500), ("hello", &context.built.apps[0], 200)];
    for (name, image, limit) in sizes {
        let bytes = image.bytes.len();
        if bytes > limit * 1000 {
            return Err(format!("the image of {name} has {bytes} bytes, more than {limit} KB"));
        }
    }
    Ok(())
}

fn filecache(context: &Context) -> Verdict {
    let data = text(&context.data);
    let said =
        context.run(&["filecache", "--disk", &data, "--", "workload=din", "policy=own", "cache=80%"])?;
    let said = said.succeeded()?;
    let line = said.out.lines().find_map(|line| CompareLine::parse(line).ok());
    match line {
        Some(line) if line.verified => Ok(()),
        Some(line) => Err(format!("wrong result: expected {}, found {}", line.expected, line.actual)),
        None => Err(format!("no result line in: {}", said.out)),
    }
}

/// The main job: right results, counts that agree, as few reads as promised.
fn compare(context: &Context) -> Verdict {
    let json = text(&context.scratch.path().join("compare.json"));
    let html = text(&context.scratch.path().join("compare.html"));
    let arguments =
        ["compare", "filecache", "--no-build", "--timeout", "120", "--json", &json, "--html", &html];
    let said = context.exo(&arguments)?.succeeded()?;
    said.shows("agree exactly")?.shows("checked and found right")?;
    let lines = std::fs::read_to_string(&json).map_err(|error| format!("{json}: {error}"))?;
    let lines: Vec<CompareLine> = lines.lines().filter_map(|line| CompareLine::parse(line).ok()).collect();
    for workload in ["cs", "din"] {
        let of = |policy: &str| {
            let found = lines.iter().find(|line| line.workload == workload && line.policy == policy);
            found.ok_or_else(|| format!("no result of {workload} under {policy}"))
        };
        let (default, own) = (of("default")?, of("own")?);
        if own.reads as f64 > default.reads as f64 * 0.4 {
            return Err(format!("{workload}: {} reads against {} by default", own.reads, default.reads));
        }
        let least = own.opt_misses.ok_or("no optimum")?;
        if own.reads as f64 > least as f64 * 1.05 {
            return Err(format!("{workload}: {} reads, Belady's optimum is {least}", own.reads));
        }
    }
    let page = std::fs::read_to_string(&html).map_err(|error| format!("{html}: {error}"))?;
    if page.matches("<svg").count() < 6 { Err("the page lacks charts".into()) } else { Ok(()) }
}

/// Writes go to a snapshot unless the user wants to keep them; then the image holds them, and is sound.
fn writes(context: &Context) -> Verdict {
    let read = |path: &std::path::Path| std::fs::read(path).map_err(|error| error.to_string());
    let image = context.scratch.path().join("writes.img");
    std::fs::copy(&context.data, &image).map_err(|error| error.to_string())?;
    let before = read(&image)?;
    let path = text(&image);
    let arguments = ["filecache", "--disk", &path, "--", "workload=sort"];
    context.run(&arguments)?.succeeded()?;
    if read(&image)? != before {
        return Err("a run changed the image, though its writes were not to be kept".into());
    }
    context.run(&["--keep-writes", "filecache", "--disk", &path, "--", "workload=sort"])?.succeeded()?;
    if read(&image)? == before {
        return Err("a run with --keep-writes left the image as it was".into());
    }
    context.exo(&["fs", "check", &path])?.succeeded().map(drop)
}

/// After Ctrl-C the tool ends with status 130, and no QEMU is left behind.
fn interrupted(context: &Context) -> Verdict {
    // The name is in the name of the bundle, hence on QEMU's command line.
    let label = format!("sleeper-{}", std::process::id());
    let app = format!("{label}=hello:sleep-ms=60000");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.args(["run", "--no-build", "--timeout", "50", "--app", &app]);
    let mut group = Group::spawn(&command, Progress::Piped).map_err(|error| error.to_string())?;
    let wait_for = |wanted: bool| {
        let limit = Instant::now() + Duration::from_secs(10);
        while Instant::now() < limit {
            if machine_of(&label, &context.built.kernel_file) == wanted {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("QEMU should {}", if wanted { "have started" } else { "be gone" }))
    };
    wait_for(true)?;
    let pid = rustix::process::Pid::from_child(&group.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).map_err(|error| error.to_string())?;
    let status = group.wait().map_err(|error| error.to_string())?;
    if status.code() != Some(130) {
        return Err(format!("after Ctrl-C: {status}, expected exit status 130"));
    }
    wait_for(false)
}

/// Whether a QEMU with this kernel runs a bundle with this label.
fn machine_of(label: &str, kernel: &std::path::Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let kernel = text(kernel);
    let commands = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|command| {
        let program = command.split('\0').next().unwrap_or_default();
        program.contains("qemu-system") && command.contains(&kernel) && command.contains(label)
    })
}

/// An application made by `exo new`, in its directory outside the checkout. Built once for all tests.
fn application(context: &Context, arguments: &[&str]) -> std::result::Result<Said, String> {
    let path = context.scratch.path().join("greeter");
    if !path.exists() {
        create::write(&context.checkout.root, "greeter", &path).map_err(|error| error.to_string())?;
    }
    let path = text(&path);
    let mut all = vec!["run", &path, "--timeout", super::context::SECONDS];
    all.extend(arguments);
    context.exo(&all)
}

/// Builds outside the checkout, runs, and reads a file that `exo fs` put on a disk.
fn new_application(context: &Context) -> Verdict {
    application(context, &[])?.succeeded()?.shows("Hello from greeter")?;
    let note = text(&context.file("note.txt", b"a note for the guest\n")?);
    let image = text(&context.scratch.path().join("note.img"));
    context.exo(&["fs", "make", &image, "--size", "1M"])?.succeeded()?;
    context.exo(&["fs", "put", &image, &note])?.succeeded()?;
    context.exo(&["fs", "check", &image])?.succeeded()?;
    let said = application(context, &["--disk", &image, "--", "file=/note.txt"])?.succeeded()?;
    said.shows("a note for the guest")?;
    application(context, &["--disk", &image, "--", "file=/nothing"])?.fails_with(&["greeter", "exit code 1"])
}

fn ext4(context: &Context) -> Verdict {
    let folder = context.scratch.path().join("ext4");
    std::fs::create_dir_all(folder.join("deep")).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("deep/note.txt"), "from ext4\n").map_err(|error| error.to_string())?;
    let image = context.scratch.path().join("ext4.img");
    let program = crate::children::program_path("mke2fs").ok_or("mke2fs is gone")?;
    let output = Command::new(program)
        .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
        .args([&folder, &image])
        .arg("8M")
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("mke2fs: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let image = text(&image);
    context.exo(&["fs", "ls", &image, "/deep"])?.succeeded()?.shows("note.txt")?;
    application(context, &["--disk", &image, "--", "file=/deep/note.txt"])?
        .succeeded()?
        .shows("from ext4")
        .map(drop)
}
