//! What must work: the runtime and the tool.

use super::context::{Context, Said, json_lines, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::host::children::{Group, Progress};
use crate::new;
use crate::session::serial::Accounting;
use results::CompareLine;
use std::process::Command;
use std::time::{Duration, Instant};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("hello", &[], hello),
        Test::new("hello-on-pc", &[Need::Qemu], hello_on_pc),
        Test::new("hello-by-multiboot2", &[Need::Qemu, Need::BootImages], hello_by_multiboot2),
        Test::new("several-environments", &[Need::Exokernel], several),
        Test::new("neighbours-on-two-cores", &[Need::Exokernel, Need::Cores(2)], neighbours_on_two_cores),
        Test::new("one-application-on-two-cores", &[Need::Cores(2)], one_application_on_two_cores),
        Test::new("file-read-by-two-cores", &[Need::Cores(2), Need::Disk], file_read_by_two_cores),
        Test::new(
            "ext4-file-read-by-two-cores",
            &[Need::Cores(2), Need::Disk, Need::Program("mke2fs")],
            ext4_file_read_by_two_cores,
        ),
        Test::new("shared-view", &[Need::Exokernel], shared_view),
        Test::new("exit-code", &[], exit_code),
        Test::new("backtrace", &[], backtrace),
        Test::new("stack-overflow-beside-another", &[Need::Exokernel], |context| {
            dies_alone(context, "overflow=1")
        }),
        Test::new("out-of-memory-beside-another", &[Need::Exokernel], |context| dies_alone(context, "oom=1")),
        Test::new("command-without-exo", &[], command_without_exo),
        Test::new("small-memory", &[], small_memory),
        Test::new("filecache-din", &[Need::Disk], filecache),
        Test::new("snapshot-and-kept-writes", &[Need::Disk, Need::KeptWrites], writes),
        Test::new("interrupted", &[], interrupted),
        Test::new("new-application", &[Need::Disk], new_application),
        Test::new("ext4-image", &[Need::Disk, Need::Program("mke2fs")], ext4),
    ]
}

fn hello(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--", "greeting=1"])?.succeeded()?;
    let said = said.shows("Hello from hello")?.shows("command line: \"greeting=1\"")?;
    // The machine is described: under QEMU, by its command.
    said.tells(context.platform.announcement())?.tells("hello ended: exit code 0").map(drop)
}

fn hello_on_pc(context: &Context) -> Verdict {
    context.run(&["hello", "--machine", "pc"])?.succeeded()?.shows("Hello from hello").map(drop)
}

/// The same image by the other boot protocol, with a disk.
fn hello_by_multiboot2(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    let said = context.run(&["hello", "--boot", "multiboot2", "--disk", &disk, "--", "read-blocks=4"])?;
    said.succeeded()?.shows("Hello from hello")?.shows("{\"read\":{\"blocks\":4,").map(drop)
}

/// Two environments that compute at the same time, each on a core of its own.
fn neighbours_on_two_cores(context: &Context) -> Verdict {
    let apps =
        ["--cores", "2", "--app", "a=hello:spin-ms=300", "--app", "b=hello:spin-ms=300", "--core", "b=1"];
    let said = context.run(&apps)?.succeeded()?.tells("2 cores")?;
    said.tells("a ended: exit code 0")?.tells("b ended: exit code 0").map(drop)
}

/// One environment with a virtual CPU on each core.
fn one_application_on_two_cores(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    let words = ["--", "limit=100000", "read-blocks=64"];
    let arguments = [&["cores", "--cores", "2", "--disk", &disk], &words[..]].concat();
    context.run(&arguments)?.succeeded().map(drop)
}

/// What `cores` says of a file that its cores have read.
#[derive(Debug, serde::Deserialize)]
struct FileLine {
    blocks: u64,
    sum: u64,
    readers: u64,
    gets: u64,
    hits: u64,
    misses: u64,
    mount_reads: u64,
    wrong: u64,
}

/// Two cores read a file through one cache: the bytes are right, what fits is read once whoever asks first,
/// and the kernel has moved as many blocks as the cache says. One core misses as simulated; the image itself
/// looks at that.
fn file_read_by_two_cores(context: &Context) -> Verdict {
    let bytes: Vec<u8> = (0..900_000u64).map(|at| (at * at / 4096 % 251) as u8).collect();
    let file = text(&context.file("shared.bin", &bytes)?);
    let image = text(&context.scratch.path().join("shared.img"));
    context.exo(&["fs", "make", &image, "--size", "1M"])?.succeeded()?;
    context.exo(&["fs", "put", &image, &file, "--to", "/shared.bin"])?.succeeded()?;
    read_by_two_cores(context, &image, &bytes)
}

/// The same file in an ext4 image.
fn ext4_file_read_by_two_cores(context: &Context) -> Verdict {
    let mke2fs = crate::host::programs::program_path("mke2fs").ok_or("mke2fs is gone")?;
    let bytes: Vec<u8> = (0..900_000u64).map(|at| (at * at / 4096 % 241) as u8).collect();
    let tree = context.scratch.path().join("tree");
    // It may be there from the same test on another platform.
    let make = std::fs::create_dir_all(&tree).and_then(|()| std::fs::write(tree.join("shared.bin"), &bytes));
    make.map_err(|error| format!("{}: {error}", tree.display()))?;
    let image = text(&context.scratch.path().join("shared.ext4"));
    let options = ["-q", "-t", "ext4", "-b", "4096", "-d"];
    let made = std::process::Command::new(mke2fs).args(options).arg(&tree).args([&image, "8M"]).status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return Err(format!("mke2fs: {made:?}"));
    }
    read_by_two_cores(context, &image, &bytes)
}

/// Two cores read `/shared.bin` of an image, which holds these bytes.
fn read_by_two_cores(context: &Context, image: &str, bytes: &[u8]) -> Verdict {
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    for (cores, cache) in [("1", "cache-blocks=50"), ("2", "cache-blocks=50"), ("2", "cache-blocks=250")] {
        let accounting = text(&context.scratch.path().join("accounting.json"));
        let machine = ["--json", &accounting, "cores", "--cores", cores, "--disk", image];
        let words = ["--", "limit=1000", "rounds=1", "file=/shared.bin", "gets=500", "policy=s3-fifo", cache];
        let said = context.run(&[&machine[..], &words].concat())?.succeeded()?;
        let line = said.out.lines().find_map(|line| serde_json::from_str::<FileLine>(line).ok());
        let line = line.ok_or_else(|| format!("no line about the file in: {}", said.out))?;
        let counted: Vec<Accounting> = json_lines(&accounting)?;
        let [counted] = &counted[..] else { return Err(format!("{} environments", counted.len())) };
        let references = line.readers * (line.blocks + line.gets);
        let right = line.sum == sum && line.wrong == 0 && line.readers.to_string() == cores;
        let once = line.misses == line.blocks || cache != "cache-blocks=250";
        let agreed = counted.disk_blocks_read == line.misses + line.mount_reads;
        if !right || !once || !agreed || line.hits + line.misses != references {
            let read = counted.disk_blocks_read;
            return Err(format!("sum {sum}, {read} blocks read by the kernel's count, {cache}: {line:?}"));
        }
    }
    Ok(())
}

fn several(context: &Context) -> Verdict {
    let apps = ["--app", "a=hello:spin-ms=200", "--app", "b=hello:sleep-ms=200", "--app", "c=hello"];
    let said = context.run(&apps)?.succeeded()?;
    let said = said.shows("a| Hello from a")?.shows("b| Hello from b")?.shows("c| Hello from c")?;
    said.tells("a ended: exit code 0")?.tells("b ended: exit code 0")?.tells("c ended: exit code 0").map(drop)
}

/// Two environments that share a frame in a view, until its maker ends it.
fn shared_view(context: &Context) -> Verdict {
    shared_view_on(context, &[])
}

/// The same on a machine with these further arguments.
pub fn shared_view_on(context: &Context, machine: &[&str]) -> Verdict {
    let apps = [
        "--memory",
        "64M",
        "--app",
        "maker=hostile:attempt=view-maker frame=8000",
        "--app",
        "taker=hostile:attempt=view-taker frame=8000",
    ];
    let said = context.run(&[machine, &apps].concat())?.succeeded()?;
    said.tells("maker ended: exit code 0")?.tells("taker ended: exit code 0").map(drop)
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
    for (word, status) in [("exit=0", 0), ("exit=1", 1)] {
        let said = context.run(&["--print-command", "hello", "--", word])?.succeeded()?;
        let script = said.out.replacen(
            context.platform.program(),
            &format!("timeout 60 {}", context.platform.program()),
            1,
        );
        let output = Command::new("sh").arg("-c").arg(&script).output().map_err(|error| error.to_string())?;
        let expected = context.platform.command_status(status);
        if output.status.code() != Some(expected) {
            return Err(format!("{word}: the command ended with {}, expected {expected}", output.status));
        }
        // HyperExo tells whose a line is; without it there is nobody to tell apart.
        let label = if context.platform.is_direct() { "" } else { "hello| " };
        if !String::from_utf8_lossy(&output.stdout).contains(&format!("{label}Hello from hello")) {
            return Err(format!("{word}: no greeting on standard output"));
        }
    }
    Ok(())
}

/// The kernel and `hello` together in 16 MiB, `hello` alone in 2, and their images as small as they should
/// be.
fn small_memory(context: &Context) -> Verdict {
    let memory = if context.platform.is_direct() { "2M" } else { "16M" };
    context.run(&["hello", "--memory", memory])?.succeeded()?;
    let sizes = [("hyperexo", &context.built.kernel, 500), ("hello", &context.built.apps[0], 200)];
    for (name, image, limit) in sizes {
        let bytes = image.bytes.len();
        if bytes > limit * 1000 {
            return Err(format!("the image of {name} has {bytes} bytes, more than {limit} KB"));
        }
    }
    Ok(())
}

/// A workload with its own policy: the right result, and block for block the same transfers as on QEMU.
fn filecache(context: &Context) -> Verdict {
    let moved = transfers(context, context.platform)?;
    let expected = match context.platform {
        Platform::QemuSvm => moved.clone(),
        _ => transfers(context, Platform::QemuSvm)?,
    };
    if moved == expected { Ok(()) } else { Err(format!("moved {moved}, on QEMU {expected}")) }
}

/// Runs `din` on a disk that holds only its files; returns what the kernel counted.
fn transfers(context: &Context, platform: Platform) -> std::result::Result<String, String> {
    use filecache::din::{TASK_PATH, TRACE_PATH};
    let image = text(&context.volume_of("din.img", &[TASK_PATH, TRACE_PATH], 1 << 20)?);
    let accounting = context.scratch.path().join("accounting.json");
    let said = context.run_on(
        platform,
        &[
            "--timeout",
            "300",
            "--json",
            &text(&accounting),
            "filecache",
            "--disk",
            &image,
            "--",
            "workload=din",
            "policy=own",
            "cache=80%",
        ],
    )?;
    let said = said.succeeded()?;
    let line = said.out.lines().find_map(|line| CompareLine::parse(line).ok());
    let line = line.ok_or_else(|| format!("no result line in: {}", said.out))?;
    if !line.verified {
        return Err(format!("wrong result: expected {}, found {}", line.expected, line.actual));
    }
    let counted: Vec<Accounting> = json_lines(&accounting)?;
    let [counted] = &counted[..] else { return Err(format!("{} environments", counted.len())) };
    if counted.disk_blocks_read != line.reads + line.mount_reads {
        return Err(format!("{} blocks read by the kernel's count: {line:?}", counted.disk_blocks_read));
    }
    Ok(format!(
        "{} blocks in {} requests, wrote {} in {}; {} hits",
        counted.disk_blocks_read,
        counted.disk_read_requests,
        counted.disk_blocks_written,
        counted.disk_write_requests,
        line.hits
    ))
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

/// After Ctrl-C the tool ends with status 130, and no emulator is left behind.
fn interrupted(context: &Context) -> Verdict {
    // The name is in the name of the bundle, and that is on the emulator's command line.
    let label = format!("sleeper-{}-{}", context.platform.name(), std::process::id());
    let app = format!("{label}=hello:spin-ms=6000000");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.args(["run", "--no-build", "--timeout", "50", "--app", &app]).args(context.platform.arguments());
    let mut group = Group::spawn(&command, Progress::Piped).map_err(|error| error.to_string())?;
    let wait_for = |wanted: bool| {
        let limit = Instant::now() + Duration::from_secs(10);
        while Instant::now() < limit {
            if machine_of(&label, context.platform) == wanted {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("the emulator should {}", if wanted { "have started" } else { "be gone" }))
    };
    wait_for(true)?;
    let pid = rustix::process::Pid::from_child(&group.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).map_err(|error| error.to_string())?;
    let status = group.wait().map_err(|error| error.to_string())?;
    // Ctrl-C presses the power button. If that is before the program can hear it, the machine is taken away
    // after a while.
    if !matches!(status.code(), Some(0 | 130)) {
        return Err(format!("after Ctrl-C: {status}, expected exit status 0 or 130"));
    }
    wait_for(false)
}

/// Whether an emulator runs a bundle with this label.
fn machine_of(label: &str, platform: Platform) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let commands = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    commands.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|command| {
        let program = command.split('\0').next().unwrap_or_default();
        program.contains(platform.program()) && command.contains(label)
    })
}

/// An application made by `exo new`, in its directory outside the checkout.
fn application(context: &Context, arguments: &[&str]) -> std::result::Result<Said, String> {
    let path = context.application("greeter", |path| {
        new::write(&context.checkout.root, "greeter", path).map_err(|error| error.to_string())
    })?;
    let path = text(&path);
    let mut all = vec!["run", &path, "--timeout", context.platform.seconds()];
    all.extend(context.platform.arguments());
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
    let program = crate::host::programs::program_path("mke2fs").ok_or("mke2fs is gone")?;
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
