//! A folder, a recorder in it, what a record says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with files to read.
pub struct Recorder {
    folder: tempfile::TempDir,
}

/// What a record has.
pub struct Record {
    names: BTreeMap<u64, String>,
    references: Vec<u64>,
    /// The whole text.
    pub text: String,
}

impl Recorder {
    /// A recorder, where the host permits to record and has the programs.
    pub fn offered(test: &str, programs: &[&str]) -> Option<Recorder> {
        let recorder = Recorder { folder: tempfile::tempdir().expect("a folder for scratch files") };
        let tried = recorder.record(&["true"]);
        let granted = !text(&tried.stderr).contains("ptrace is forbidden");
        let found = programs.iter().all(|name| host_needs::program(test, name).is_some());
        (host_needs::permission(test, "ptrace", granted) && found).then_some(recorder)
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file of so many bytes.
    pub fn file(&self, name: &str, bytes: usize) {
        let content: Vec<u8> = (0..bytes).map(|at| b'a' + (at % 23) as u8).collect();
        std::fs::write(self.path(name), content).expect("a file");
    }

    /// `exo cache record` with what follows, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
        command.args(["cache", "record"]).args(words).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Records a command.
    pub fn record(&self, words: &[&str]) -> Output {
        self.command(&[&["--"], words].concat()).output().expect("exo starts")
    }

    /// Records a command that does what it should.
    pub fn recorded(&self, words: &[&str]) -> Record {
        let output = self.record(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        self.read()
    }

    /// Records a program in Python.
    pub fn python(&self, program: &str) -> (Record, String) {
        let output = self.record(&["python3", "-c", program]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        (self.read(), text(&output.stderr))
    }

    /// The last record.
    pub fn read(&self) -> Record {
        Record::read(&self.path("refs"))
    }
}

impl Record {
    fn read(path: &Path) -> Record {
        let text = std::fs::read_to_string(path).expect("a record");
        assert!(text.starts_with("# hyperexo references 2\n"), "{text}");
        let (mut names, mut references) = (BTreeMap::new(), Vec::new());
        for line in text.lines() {
            if let Some(file) = line.strip_prefix("# file ") {
                let (number, rest) = file.split_once(": ").expect("a number");
                let (_, name) = rest.split_once(": ").expect("a name");
                names.insert(number.parse().expect("a number"), name.to_owned());
            } else if !line.starts_with('#') {
                let (first, blocks) = line.split_once('+').unwrap_or((line, "1"));
                let first: u64 = first.parse().expect("a reference");
                references
                    .extend((0..blocks.parse().expect("a number of blocks")).map(|block| first + block));
            }
        }
        Record { names, references, text }
    }

    /// Blocks of the file of this name, in the order of the references to them.
    pub fn blocks(&self, name: &str) -> Vec<u64> {
        let ending = format!("/{name}");
        let is_of = |reference: &&u64| self.names[&(**reference >> 32)].ends_with(&ending);
        self.references.iter().filter(is_of).map(|reference| reference & 0xffff_ffff).collect()
    }

    /// The same in ascending order, for programs that do several things at once.
    pub fn sorted_blocks(&self, name: &str) -> Vec<u64> {
        let mut blocks = self.blocks(name);
        blocks.sort_unstable();
        blocks
    }

    /// References to all files.
    pub fn length(&self) -> usize {
        self.references.len()
    }
}

/// What a program said.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Blocks 0 to `count`.
pub fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}
