//! Where output goes: what `exo` does with files, links, pipes and devices that a user names for it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with an image `a.img`, which holds `/f` with the text `new`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder for scratch files"));
        fs::create_dir(folder.path("tree")).unwrap();
        fs::write(folder.path("tree/f"), "new").unwrap();
        folder.ends_well(&["fs", "make", "a.img", "--size", "1M", "--from", "tree"]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    fn exo(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("exo starts")
    }

    fn ends_well(&self, arguments: &[&str]) -> Output {
        let output = self.exo(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_replaced_with_its_mode() {
    let folder = Folder::new();
    let out = folder.path("out");
    fs::write(&out, "old").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
    let before = out.metadata().unwrap().ino();
    folder.ends_well(&["fs", "get", "a.img", "/f", "out"]);
    assert_eq!((fs::read_to_string(&out).unwrap().as_str(), mode(&out)), ("new", 0o640));
    assert_ne!(out.metadata().unwrap().ino(), before, "it was complete before it was seen");
    // A new one is made as any program makes files.
    folder.ends_well(&["fs", "get", "a.img", "/f", "fresh"]);
    File::create(folder.path("compare")).unwrap();
    assert_eq!(mode(&folder.path("fresh")), mode(&folder.path("compare")));
}

#[test]
fn links_stay_what_they_are() {
    let folder = Folder::new();
    fs::write(folder.path("out"), "old").unwrap();
    fs::hard_link(folder.path("out"), folder.path("other")).unwrap();
    fs::create_dir(folder.path("deep")).unwrap();
    symlink("../out", folder.path("deep/link")).unwrap();
    symlink("deep/link", folder.path("link")).unwrap();
    folder.ends_well(&["fs", "get", "a.img", "/f", "link"]);
    assert!(folder.path("link").symlink_metadata().unwrap().is_symlink());
    assert!(folder.path("deep/link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(folder.path("out")).unwrap(), "new");
    assert_eq!(fs::read_to_string(folder.path("other")).unwrap(), "new", "both names of the file have it");
    // A link to nothing yet: the file appears where it leads.
    symlink("deep/made", folder.path("dangling")).unwrap();
    folder.ends_well(&["fs", "get", "a.img", "/f", "dangling"]);
    assert_eq!(fs::read_to_string(folder.path("deep/made")).unwrap(), "new");
    symlink("round", folder.path("round")).unwrap();
    assert_eq!(folder.exo(&["fs", "get", "a.img", "/f", "round"]).status.code(), Some(1));
}

#[test]
fn a_failure_leaves_the_old_file() {
    let folder = Folder::new();
    fs::write(folder.path("out"), "old").unwrap();
    // Damage in the contents of the file is found by its checksum.
    let mut image = fs::read(folder.path("a.img")).unwrap();
    let at = image.windows(4).position(|window| window == b"new\0").unwrap();
    image[at] ^= 1;
    fs::write(folder.path("a.img"), image).unwrap();
    assert_eq!(folder.exo(&["fs", "get", "a.img", "/f", "out"]).status.code(), Some(1));
    assert_eq!(fs::read_to_string(folder.path("out")).unwrap(), "old");
    assert_eq!(folder.exo(&["fs", "make", "a.img", "--from", "nothing"]).status.code(), Some(1));
    assert_eq!(folder.names(), ["a.img", "out", "tree"]);
    let missing = folder.exo(&["fs", "get", "a.img", "/f", "no/such/folder"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("no/such"));
}

#[test]
fn pipes_devices_and_standard_output_are_written() {
    let folder = Folder::new();
    folder.ends_well(&["fs", "get", "a.img", "/f", "/dev/null"]);
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert_eq!(text(&folder.ends_well(&["fs", "get", "a.img", "/f", name]).stdout), "new", "{name}");
    }
    // Standard output that is a file is not replaced, and keeps what is there.
    fs::write(folder.path("log"), "before ").unwrap();
    let log = File::options().append(true).open(folder.path("log")).unwrap();
    let mut command = folder.command(&["fs", "get", "a.img", "/f", "/dev/stdout"]);
    assert!(command.stdout(log).status().unwrap().success());
    assert_eq!(fs::read_to_string(folder.path("log")).unwrap(), "before new");

    let made = Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap();
    assert!(made.success());
    let mut child = folder.command(&["fs", "get", "a.img", "/f", "pipe"]).spawn().unwrap();
    assert_eq!(fs::read_to_string(folder.path("pipe")).unwrap(), "new");
    assert!(child.wait().unwrap().success());

    // What else would be printed gives way to the file that is named `-`.
    let output = folder.ends_well(&["bench", "size", "--json", "-"]);
    assert!(text(&output.stdout).lines().all(|line| line.starts_with('{')), "{}", text(&output.stdout));
    assert!(!output.stdout.is_empty() && !output.stderr.is_empty());
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let folder = Folder::new();
    for verb in [&["fs", "ls", "a.img"][..], &["fs", "get", "a.img", "/f"], &["bench", "size"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = folder.command(verb).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""), "{verb:?}");
    }
    // Nor does it matter if nobody hears the error.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = folder.command(&["fs", "ls", "missing.img"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_full_disk_is_said() {
    let folder = Folder::new();
    for verb in [
        &["fs", "ls", "a.img"][..],
        &["fs", "get", "a.img", "/f"],
        &["fs", "get", "a.img", "/f", "/dev/full"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(verb).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert!(text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
    }
}

#[test]
fn names_that_are_not_text_are_neither_merged_nor_lost() {
    let Some(mke2fs) = host_needs::program("names_that_are_not_text_are_neither_merged_nor_lost", "mke2fs")
    else {
        return;
    };
    let folder = Folder::new();
    let name = |bytes| OsStr::from_bytes(bytes);
    fs::write(folder.path("tree").join(name(b"caf\xe9")), "one").unwrap();
    fs::write(folder.path("tree").join(name(b"caf\xe8")), "two").unwrap();
    let made =
        Command::new(mke2fs).args(["-qF", "-d", "tree", "b.img", "1M"]).current_dir(folder.0.path()).status();
    assert!(made.unwrap().success());
    let listed = text(&folder.ends_well(&["fs", "ls", "b.img"]).stdout);
    assert!(listed.contains("/caf\\xe8\n") && listed.contains("/caf\\xe9\n"), "{listed}");
    let output = folder.command(&["fs", "get", "b.img"]).arg(name(b"caf\xe9")).output().unwrap();
    assert_eq!(text(&output.stdout), "one");
    // Our own format has no such names: better none of the two than one for both.
    let refused = folder.exo(&["fs", "make", "c.img", "--from", "tree"]);
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("caf\\xe8 is no name"),
        "{refused:?}"
    );
    assert!(!folder.path("c.img").exists());
}

#[test]
fn images_of_other_formats_are_refused_by_name() {
    let folder = Folder::new();
    fs::write(folder.path("q.qcow2"), [b"QFI\xfb".as_slice(), &[0; 4096]].concat()).unwrap();
    for verb in [
        &["fs", "ls", "q.qcow2"][..],
        &["fs", "put", "q.qcow2", "tree"],
        &["run", "hello", "--disk", "q.qcow2"],
        &["compare", "filecache", "--disk", "q.qcow2"],
    ] {
        let said = text(&folder.exo(verb).stderr);
        let fix = "qemu-img convert -f qcow2 -O raw q.qcow2 q.raw";
        assert!(said.contains("q.qcow2 is a qcow2 image") && said.contains(fix), "{verb:?}: {said}");
    }
}
