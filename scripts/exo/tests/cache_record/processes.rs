//! Children, threads, offsets that are shared.

use crate::host::{Recorder, all, text};

#[test]
fn children_and_pipes_are_recorded() {
    let Some(recorder) = Recorder::offered("children_and_pipes_are_recorded", &["sh", "cat", "wc"]) else {
        return;
    };
    recorder.file("a", 3 * 4096);
    recorder.file("b", 2 * 4096);
    let output = recorder.record(&["sh", "-c", "cat a | wc -c; (sh -c 'cat b > c')"]);
    assert_eq!(text(&output.stdout).trim(), "12288");
    let record = recorder.read();
    assert_eq!((record.blocks("a"), record.blocks("b"), record.blocks("c")), (all(3), all(2), all(2)));
}

#[test]
fn what_outlives_the_command_is_recorded_to_its_end() {
    let test = "what_outlives_the_command_is_recorded_to_its_end";
    let Some(recorder) = Recorder::offered(test, &["sh", "cat", "sleep"]) else { return };
    recorder.file("a", 3 * 4096);
    let output = recorder.record(&["sh", "-c", "(sleep 0.2; cat a > /dev/null) & exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(recorder.read().blocks("a"), all(3));
}

#[test]
fn a_reader_that_stops_early_ends_the_writer() {
    let test = "a_reader_that_stops_early_ends_the_writer";
    let Some(recorder) = Recorder::offered(test, &["sh", "cat", "head"]) else { return };
    recorder.file("a", 4 << 20);
    let output = recorder.record(&["sh", "-c", "cat a | head -c 1"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "a".to_owned()));
    let blocks = recorder.read().blocks("a");
    assert!(!blocks.is_empty() && blocks.len() < 1024 && blocks == all(blocks.len() as u64), "{blocks:?}");
}

#[test]
fn an_offset_is_shared_by_parent_and_child() {
    let test = "an_offset_is_shared_by_parent_and_child";
    let Some(recorder) = Recorder::offered(test, &["sh", "dd"]) else { return };
    recorder.file("a", 3 * 4096);
    let dd = "dd bs=4096 count=1 status=none";
    let record = recorder.recorded(&["sh", "-c", &format!("({dd}; {dd}) < a > /dev/null")]);
    assert_eq!(record.blocks("a"), [0, 1]);
}

#[test]
fn two_that_read_by_one_offset_at_once_read_each_block_once() {
    let test = "two_that_read_by_one_offset_at_once_read_each_block_once";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    recorder.file("a", 800 * 4096);
    recorder.file("log", 0);
    let (record, _) = recorder.python(
        "import os
a, log = os.open('a', os.O_RDONLY), os.open('log', os.O_WRONLY)
child = os.fork()
while os.read(a, 4096): os.write(log, b'x' * 4096)
if child: os.waitpid(child, 0)
else: os._exit(0)",
    );
    assert_eq!(record.sorted_blocks("a"), all(800));
    assert_eq!(record.sorted_blocks("log"), all(800));
}

#[test]
fn two_that_append_at_once_write_each_block_once() {
    let test = "two_that_append_at_once_write_each_block_once";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    let (record, _) = recorder.python(
        "import os
child = os.fork()
log = os.open('log', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for _ in range(300): os.write(log, b'x' * 4096)
if child: os.waitpid(child, 0)
else: os._exit(0)",
    );
    assert_eq!(record.sorted_blocks("log"), all(600));
}

#[test]
fn a_pipe_between_two_that_read_one_file_blocks_nobody() {
    let test = "a_pipe_between_two_that_read_one_file_blocks_nobody";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    recorder.file("a", 400 * 4096);
    // The parent fills the pipe from the file, and waits in that call until the child, which reads the same
    // file first, empties it.
    let (record, _) = recorder.python(
        "import os
r, w = os.pipe()
a = os.open('a', os.O_RDONLY)
if os.fork():
    os.close(r)
    left = 400 * 4096
    while left: left -= os.sendfile(w, a, None, left)
    os.close(w)
    os.wait()
else:
    os.close(w)
    b = os.open('a', os.O_RDONLY)
    while os.read(b, 1 << 20): pass
    while os.read(r, 1 << 20): pass
    os._exit(0)",
    );
    let twice: Vec<u64> = (0..400).flat_map(|block| [block, block]).collect();
    let mut blocks = record.sorted_blocks("a");
    blocks.dedup();
    assert_eq!(blocks, all(400));
    assert!(record.blocks("a").len() >= twice.len());
}

#[test]
fn threads_are_recorded() {
    let Some(recorder) = Recorder::offered("threads_are_recorded", &["python3"]) else { return };
    recorder.file("a", 200 * 4096);
    let (record, _) = recorder.python(
        "import os, threading, subprocess
a = os.open('a', os.O_RDONLY)
def read(first):
    for block in range(first, 200, 4): os.pread(a, 4096, block * 4096)
threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
subprocess.run(['true'], check=True)",
    );
    assert_eq!(record.sorted_blocks("a"), all(200));
}

#[test]
fn a_thread_that_becomes_another_program_is_followed() {
    let test = "a_thread_that_becomes_another_program_is_followed";
    let Some(recorder) = Recorder::offered(test, &["python3", "cat"]) else { return };
    recorder.file("a", 3 * 4096);
    let (record, _) = recorder.python(
        "import os, threading, time
threading.Thread(target=lambda: os.execvp('cat', ['cat', 'a'])).start()
time.sleep(60)",
    );
    assert_eq!(record.blocks("a"), all(3));
}
