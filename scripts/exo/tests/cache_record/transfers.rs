//! Each way to read and write a file.

use crate::host::{Recorder, all, text};
use std::fs::File;
use std::process::Command;

#[test]
fn a_file_that_is_read_is_recorded_and_simulated() {
    let Some(recorder) = Recorder::offered("a_file_that_is_read_is_recorded_and_simulated", &["cat"]) else {
        return;
    };
    recorder.file("a", 5 * 4096 - 1);
    let output = recorder.record(&["cat", "a"]);
    assert_eq!(output.stdout, std::fs::read(recorder.path("a")).expect("a file"));
    let record = recorder.read();
    assert_eq!(record.blocks("a"), all(5));
    assert!(record.text.contains(": 20479 bytes, 5 reads, 0 writes, 5 distinct blocks: "), "{}", record.text);
    let said = text(&output.stderr);
    assert!(said.contains("calls were looked at") && said.contains("libraries: "), "{said}");
    assert!(said.lines().any(|line| line.contains("/a ") && line.contains("20.0 KiB")), "{said}");
    let simulated = Command::new(env!("CARGO_BIN_EXE_exo"))
        .args(["cache", "simulate", "--policies", "lru", "--sizes", "1", "--json", "-"])
        .arg(recorder.path("refs"))
        .output()
        .expect("exo starts");
    let line = text(&simulated.stdout);
    assert!(line.contains(&format!("\"references\":{},", record.length())), "{line}");
}

#[test]
fn offsets_of_descriptors_count_and_blocks_are_those_that_bytes_touch() {
    let test = "offsets_of_descriptors_count_and_blocks_are_those_that_bytes_touch";
    let Some(recorder) = Recorder::offered(test, &["dd"]) else { return };
    recorder.file("a", 20_000);
    let dd = ["dd", "if=a", "of=b", "bs=1000", "skip=4", "count=3", "status=none"];
    let record = recorder.recorded(&dd);
    assert_eq!(record.blocks("a"), [0, 1, 1, 1]);
    assert_eq!(record.blocks("b"), [0, 0, 0]);
    // Every call stopped: the same.
    let output = recorder.command(&[&["--every-call", "--"], &dd[..]].concat()).output().expect("exo starts");
    assert!(text(&output.stderr).contains("there is no seccomp filter"));
    assert_eq!((recorder.read().blocks("a"), recorder.read().blocks("b")), (vec![0, 1, 1, 1], vec![0, 0, 0]));
}

#[test]
fn appending_writes_at_the_end() {
    let Some(recorder) = Recorder::offered("appending_writes_at_the_end", &["sh", "dd"]) else { return };
    recorder.file("log", 4095);
    let record = recorder.recorded(&["sh", "-c", "echo x >> log; echo y >> log"]);
    assert_eq!(record.blocks("log"), [0, 1, 1]);
    recorder.file("a", 4096);
    recorder.file("log", 3 * 4096);
    let record =
        recorder.recorded(&["dd", "if=a", "of=log", "oflag=append", "conv=notrunc", "status=none", "bs=4k"]);
    assert_eq!(record.blocks("log"), [3]);
}

#[test]
fn copies_read_one_file_and_write_the_other() {
    let test = "copies_read_one_file_and_write_the_other";
    let Some(recorder) = Recorder::offered(test, &["cp"]) else { return };
    recorder.file("a", 40 * 4096 + 1);
    // A copy that shares blocks on the disk moves none.
    let record = recorder.recorded(&["cp", "--reflink=never", "a", "b"]);
    assert_eq!((record.blocks("a"), record.blocks("b")), (all(41), all(41)));
}

#[test]
fn holes_are_read_like_other_blocks() {
    let Some(recorder) = Recorder::offered("holes_are_read_like_other_blocks", &["cat"]) else { return };
    File::create(recorder.path("sparse")).and_then(|file| file.set_len(300 * 4096)).expect("a file");
    assert_eq!(recorder.recorded(&["sh", "-c", "cat sparse > /dev/null"]).blocks("sparse"), all(300));
}

#[test]
fn only_what_was_really_moved_counts() {
    let Some(recorder) = Recorder::offered("only_what_was_really_moved_counts", &["python3"]) else { return };
    recorder.file("a", 4 * 4096);
    let (record, _) = recorder.python(
        "import os
f = os.open('a', os.O_RDWR)
os.read(f, 4096)
os.truncate('a', 4196)
assert len(os.read(f, 1 << 20)) == 100
assert os.read(f, 4096) == b''
assert os.pread(f, 10, 1 << 30) == b''
try: os.pread(f, -1, 0)
except OSError: pass
os.close(f)",
    );
    assert_eq!(record.blocks("a"), [0, 1]);
}

#[test]
fn calls_with_offsets_of_their_own_are_understood() {
    let test = "calls_with_offsets_of_their_own_are_understood";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    recorder.file("a", 20 * 4096);
    recorder.file("b", 20 * 4096);
    let (record, _) = recorder.python(
        "import os
a, b = os.open('a', os.O_RDONLY), os.open('b', os.O_RDWR)
page = 4096
os.pread(a, 10, 2 * page - 5)
os.preadv(a, [bytearray(page), bytearray(page)], 3 * page)
os.lseek(a, 6 * page, os.SEEK_SET)
os.readv(a, [bytearray(10), bytearray(page)])
os.pwrite(b, b'x', 5 * page)
os.pwritev(b, [b'x', b'y'], 7 * page - 1)
os.writev(b, [b'x' * page])
os.sendfile(b, a, 8 * page, page)
os.lseek(a, 9 * page, os.SEEK_SET)
os.sendfile(b, a, None, 1)
os.copy_file_range(a, b, page, 10 * page, 11 * page)
os.copy_file_range(a, b, page)",
    );
    let reads = [1, 2, 3, 4, 6, 7, 8, 9, 10, 9, 10];
    // The descriptor's own offset stood at 9 * page + 1 after the second sendfile.
    assert_eq!(record.blocks("a"), reads);
    assert_eq!(record.blocks("b"), [5, 6, 7, 0, 1, 2, 11, 2, 3]);
}

#[test]
fn splices_and_flags_of_vectors_are_understood() {
    let test = "splices_and_flags_of_vectors_are_understood";
    let Some(recorder) = Recorder::offered(test, &["python3"]) else { return };
    recorder.file("a", 20 * 4096);
    recorder.file("b", 4096);
    let (record, said) = recorder.python(
        "import os, sys
if not hasattr(os, 'splice') or not hasattr(os, 'RWF_APPEND'):
    print('too old', file=sys.stderr); sys.exit()
a, b = os.open('a', os.O_RDONLY), os.open('b', os.O_RDWR)
r, w = os.pipe()
os.splice(a, w, 4096, offset_src=3 * 4096)
os.splice(a, w, 4096)
os.splice(r, b, 8192, offset_dst=5 * 4096)
os.pwritev(b, [b'x'], 0, os.RWF_APPEND)
os.pwritev(b, [b'x'], 0, os.RWF_DSYNC)
os.preadv(b, [bytearray(1)], 0, os.RWF_HIPRI)",
    );
    if host_needs::permission(test, "python3 of at least 3.10", !said.contains("too old")) {
        assert_eq!(record.blocks("a"), [3, 0]);
        assert_eq!(record.blocks("b"), [5, 6, 7, 0, 0]);
    }
}

#[test]
fn what_a_record_cannot_show_is_told() {
    let Some(recorder) = Recorder::offered("what_a_record_cannot_show_is_told", &["python3"]) else { return };
    recorder.file("data", 9 * 4096);
    let (record, said) = recorder.python(
        "import ctypes, mmap
with open('data', 'rb') as f: mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[5]
libc = ctypes.CDLL(None)
parameters = (ctypes.c_char * 120)()
libc.syscall(425, 2, parameters)
libc.syscall(206, 1, parameters)
open('/proc/self/status').read()
open('/dev/null').read()",
    );
    assert!(said.contains("mapped files") && said.contains("/data"), "{said}");
    assert!(said.contains("io_uring was used; what it read and wrote is not in the record"), "{said}");
    assert!(said.contains("io_submit"), "{said}");
    assert_eq!(record.blocks("data"), [0; 0]);
    let files: Vec<&str> = record.text.lines().filter(|line| line.starts_with("# file ")).collect();
    assert!(!files.iter().any(|line| line.contains("/proc/") || line.contains("/dev/")), "{files:?}");
}
