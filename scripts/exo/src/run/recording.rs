//! `exo run --record-references FILE`: the references of a unikernel to the blocks of its files, as it prints
//! them, in a file that `exo cache simulate` reads.
//!
//! The file is text: a first line that says what it is, a line with the name and length of each file that is
//! on the disk, then a line for each call: the number of its first block, file number × 2³² + block, and `+`
//! how many blocks in all, if more than one.

use crate::bundle::environments::Environment;
use crate::error::{Error, Result};
use crate::host::output::write_atomically;
use crate::recorded::{call_line, name_line, title};
use crate::session::serial::{Line, parse};
use libos_fs::cache::block_of;
use libos_fs::cache::references::{LOG_END, LOG_NAME, Run, parse_line};
use libos_fs::{CacheOptions, FileDisk, FileId, Format, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Word of the command line that has a unikernel print its references.
const WORD: &str = "record-references=1";

/// References as they come in.
#[derive(Default)]
pub struct Recording {
    runs: Vec<Run>,
    ended: bool,
    bad: Option<String>,
}

impl Recording {
    /// Has the only environment of a run print its references.
    ///
    /// # Errors
    ///
    /// If there are several: their references have nothing to do with each other.
    pub fn prepare(environments: &mut [Environment]) -> Result<()> {
        let [environment] = environments else {
            return Err(Error::Argument {
                what: "references of several environments can't be recorded in one file".into(),
                fix: "run one at a time".into(),
            });
        };
        environment.words = format!("{} {WORD}", environment.words).trim_start().to_owned();
        Ok(())
    }

    /// Takes a line of the machine; `false` if it holds no references.
    pub fn line(&mut self, line: &str) -> bool {
        let text = match parse(line) {
            Line::Guest { text, .. } | Line::Other(text) => text.trim(),
            _ => return false,
        };
        if text == LOG_END {
            self.ended = true;
            return true;
        }
        match parse_line(LOG_NAME, text, &mut self.runs) {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) => {
                self.bad.get_or_insert(error.to_string());
                true
            }
        }
    }

    /// Writes the file. `disk` is the image that the unikernel had: it says what its files are called.
    ///
    /// # Errors
    ///
    /// If a line was damaged, if there were no references, or if the file can't be written.
    pub fn write(&self, path: &Path, disk: Option<&Path>) -> Result<()> {
        if let Some(bad) = &self.bad {
            return Err(Error::Measurement(format!("references: {bad}")));
        }
        if !self.ended {
            return Err(Error::Measurement(
                "references: the end is missing: the unikernel mounted no volume on its disk, or ended without \
                 dropping it"
                    .into(),
            ));
        }
        let mut text = format!("{}\n", title());
        let used: BTreeSet<FileId> = self.runs.iter().map(|run| block_of(run.first).0).collect();
        // Writing to a string does not fail.
        for (file, (name, bytes)) in disk.map(files).unwrap_or_default() {
            if used.contains(&file) {
                let _ = writeln!(text, "{}", name_line(file.0, bytes, "", &name));
            }
        }
        for (first, blocks) in self.runs.iter().flat_map(|run| run.calls()) {
            let _ = writeln!(text, "{}", call_line(first, blocks));
        }
        write_atomically(path, text.as_bytes())?;
        let references: u64 = self.runs.iter().map(|run| run.blocks).sum();
        eprintln!("exo: {references} references in {}", path.display());
        Ok(())
    }
}

/// Numbers, paths and bytes of the files on a disk. None if it holds no volume that the library reads, or one
/// of ext4, whose cache does not know files; then the record has no names.
fn files(disk: &Path) -> BTreeMap<FileId, (String, u64)> {
    let device = FileDisk::open_read_only(disk).ok();
    let volume = device.and_then(|device| Volume::mount(Box::new(device), CacheOptions::default()).ok());
    let Some(volume) = volume.filter(|volume| volume.format() != Format::Ext4) else {
        return BTreeMap::new();
    };
    let paths = volume.files_below("").unwrap_or_default();
    let described = |path: String| {
        let file = volume.open(&path).ok()?;
        Some((file.id(), (path, file.len().ok()?)))
    };
    paths.into_iter().filter_map(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refs");
        let mut recording = Recording::default();
        assert!(
            recording.line("refs all 7+2,9+1") && !recording.line("hello") && !recording.line("refs din 1+1")
        );
        assert!(recording.write(&path, None).is_err(), "the end is missing");
        assert!(recording.line(LOG_END));
        recording.write(&path, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n7\n8\n9\n", title()));
        assert!(recording.line("refs all 1+x"));
        assert!(recording.write(&path, None).unwrap_err().to_string().contains("1+x"));
    }
}
