//! Statuses, signals, what goes wrong.

use crate::host::{Recorder, all, text};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

#[test]
fn statuses_pass_through() {
    let Some(recorder) = Recorder::offered("statuses_pass_through", &["sh"]) else { return };
    let status = |words: &[&str]| recorder.record(words).status.code();
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(status(&["sh", "-c", "kill -KILL $$"]), Some(128 + 9));
}

#[test]
fn what_cannot_be_run_is_told_as_shells_do() {
    let test = "what_cannot_be_run_is_told_as_shells_do";
    let Some(recorder) = Recorder::offered(test, &[]) else { return };
    std::fs::remove_file(recorder.path("refs")).expect("the record of a try");
    let output = recorder.record(&["no-such-program", "x"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(127));
    assert!(said.contains("cannot run \"no-such-program\"") && said.contains("exo: fix: "), "{said}");
    std::fs::write(recorder.path("plain"), "text").expect("a file");
    std::fs::set_permissions(recorder.path("plain"), PermissionsExt::from_mode(0o644)).expect("its mode");
    assert_eq!(recorder.record(&["./plain"]).status.code(), Some(126));
    assert!(!recorder.path("refs").exists(), "nothing ran, so nothing is recorded");
    let output = recorder.command(&["--output", "nowhere/refs", "--", "sh", "-c", "echo ran"]).output();
    let output = output.expect("exo starts");
    assert!(text(&output.stderr).contains("nowhere") && output.stdout.is_empty() && !output.status.success());
}

#[test]
fn where_ptrace_is_forbidden_the_remedy_is_told() {
    let test = "where_ptrace_is_forbidden_the_remedy_is_told";
    let Some(recorder) = Recorder::offered(test, &[]) else { return };
    // Who is watched already can't be watched by another.
    let output = recorder.record(&[env!("CARGO_BIN_EXE_exo"), "cache", "record", "--", "true"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ptrace is forbidden") && said.contains("--cap-add=SYS_PTRACE"), "{said}");
}

#[test]
fn input_output_and_signals_are_the_commands_own() {
    let test = "input_output_and_signals_are_the_commands_own";
    let Some(recorder) = Recorder::offered(test, &["sh", "cat"]) else { return };
    let script = "trap 'echo got it' USR1; kill -USR1 $$; cat; echo err >&2";
    let mut child = recorder
        .command(&["--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("exo starts");
    child.stdin.take().expect("a pipe").write_all(b"through\n").expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "got it\nthrough\n");
    assert!(text(&output.stderr).starts_with("err\nexo: "), "{}", text(&output.stderr));
}

#[test]
fn nobody_needs_to_read_what_is_said() {
    let Some(recorder) = Recorder::offered("nobody_needs_to_read_what_is_said", &["sh"]) else { return };
    recorder.file("a", 3 * 4096);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = recorder.command(&["--", "sh", "-c", "cat a > /dev/null; exit 4"]).stderr(writer).status();
    assert_eq!(status.expect("exo starts").code(), Some(4));
    assert_eq!(recorder.read().blocks("a"), all(3));
}

/// A command that says a line and then waits, with the recorder in a process group of its own.
fn waiting(recorder: &Recorder, script: &str) -> (Child, Pid) {
    let mut child = recorder
        .command(&["--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("exo starts");
    let output = child.stdout.as_mut().expect("a pipe");
    BufReader::new(output).read_line(&mut String::new()).expect("a line");
    let pid = Pid::from_raw(child.id().cast_signed());
    (child, pid)
}

/// Whether this program ignores a signal, and with it what it starts.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a file of the kernel");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a line of it");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") >> (signal as u32 - 1) & 1 == 1
}

#[test]
fn an_interrupted_command_leaves_its_record() {
    let test = "an_interrupted_command_leaves_its_record";
    let Some(recorder) = Recorder::offered(test, &["sh", "cat", "sleep"]) else { return };
    recorder.file("a", 3 * 4096);
    let script = "cat a > /dev/null; echo ready; exec sleep 60";
    // To the group, as from a terminal; to the recorder alone; to the recorder, which passes it on.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // Below `nohup`, or in the background of a script, a command ignores it, and should.
        if is_ignored(signal) {
            continue;
        }
        let (mut child, pid) = waiting(&recorder, script);
        let sent = if signal == Signal::SIGINT { killpg(pid, signal) } else { kill(pid, signal) };
        sent.expect("it is there");
        assert_eq!(child.wait().expect("it ends").code(), Some(128 + signal as i32));
        assert_eq!(recorder.read().blocks("a"), all(3));
        std::fs::remove_file(recorder.path("refs")).expect("the record");
    }
}

#[test]
fn what_is_left_of_a_command_ends_with_the_recorder() {
    let test = "what_is_left_of_a_command_ends_with_the_recorder";
    let Some(recorder) = Recorder::offered(test, &["sh", "sleep"]) else { return };
    let script = "sleep 60 & echo $! > pid; echo ready; exit 3";
    let (mut child, pid) = waiting(&recorder, script);
    let left = std::fs::read_to_string(recorder.path("pid")).expect("a number");
    // The shell may not have ended yet, and takes a signal for itself then: asked until there is an end.
    let status = loop {
        let _ = kill(pid, Signal::SIGINT);
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(matches!(status.code(), Some(3 | 130)), "{status}");
    // Killed, it is gone, or waits for its new parent to take notice.
    let state = std::fs::read_to_string(format!("/proc/{}/status", left.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains("State:\tZ"), "{state}");
}

#[test]
fn a_signal_that_is_lost_is_told() {
    let Some(recorder) = Recorder::offered("a_signal_that_is_lost_is_told", &["python3"]) else { return };
    let (_, said) = recorder.python("import os, signal\nsignal.signal(34, print)\nos.kill(os.getpid(), 34)");
    assert!(said.contains("real-time signal 34 to thread ") && said.contains(" is lost"), "{said}");
}

#[test]
fn job_control_works_on_what_is_recorded() {
    let test = "job_control_works_on_what_is_recorded";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    recorder.file("a", 2 * 4096);
    let (record, _) = recorder.python(
        "import os, signal
child = os.fork()
if not child:
    os.kill(os.getpid(), signal.SIGSTOP)
    open('a').read()
    os._exit(3)
pid, status = os.waitpid(child, os.WUNTRACED)
assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
os.kill(child, signal.SIGCONT)
pid, status = os.waitpid(child, 0)
assert os.WEXITSTATUS(status) == 3",
    );
    assert_eq!(record.blocks("a"), all(2));
}
