//! The record: references as they come in, and the file they end up in.
//!
//! The file is in the format `references` ([`crate::cache::trace`]). Its head has the files, as comments:
//!
//! ```text
//! # hyperexo references 2
//! # recorded: tar cf /tmp/a.tar src
//! # file 0: 9216 bytes, 3 reads, 0 writes, 3 distinct blocks: /home/u/src/a.c
//! 0+3
//! ```
//!
//! The program asked for 3 blocks by one call. The bytes of a file are those up to the last that it moved.
//! Until the end, references wait in a file without a name beside the record's own: what is known of a file
//! is complete only then.

use super::calls::Access;
use super::files::{File, FileIndex, Files};
use crate::error::{Error, Result};
use crate::recorded::{call_line, name_line, one_line, title};
use hyperexo_abi::BLOCK_BYTES;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What was seen beside references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// System calls that were looked at.
    pub calls: u64,
    /// Those of them that moved bytes of a file.
    pub transfers: u64,
    /// Calls of 32-bit programs, which are not understood.
    pub foreign: u64,
    /// `io_uring` rings that were made.
    pub rings: u64,
    /// Contexts of `io_submit` that were made.
    pub contexts: u64,
    /// Transfers beyond the last block that has a number.
    pub beyond: u64,
}

/// A record in the making.
#[derive(Debug)]
pub struct Log {
    /// The files that were seen.
    pub files: Files,
    /// What else was seen.
    pub tally: Tally,
    path: PathBuf,
    waiting: BufWriter<std::fs::File>,
    numbered: u32,
    /// The first failure to write; from then on nothing is kept.
    failed: Option<io::Error>,
}

impl Log {
    /// A record that will be written to `path`.
    ///
    /// # Errors
    ///
    /// If no file can be made there, or there is something that is no file.
    pub fn create(path: &Path) -> Result<Log> {
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::Argument {
                what: format!("{} is no file, and the record would take its place", path.display()),
                fix: "name a file with --output".into(),
            });
        }
        let waiting =
            tempfile::tempfile_in(folder_of(path)).map_err(Error::io("create a file in", folder_of(path)))?;
        Ok(Log {
            files: Files::default(),
            tally: Tally::default(),
            path: path.to_path_buf(),
            waiting: BufWriter::with_capacity(1 << 20, waiting),
            numbered: 0,
            failed: None,
        })
    }

    /// Takes `bytes` that were moved, from byte `start` of a file on.
    pub fn transfer(&mut self, index: FileIndex, access: Access, start: u64, bytes: u64) {
        let size = BLOCK_BYTES as u64;
        let end = start.checked_add(bytes).filter(|end| *end <= size << 32);
        let Some(end) = end else {
            self.tally.beyond += 1;
            return;
        };
        if bytes == 0 || self.failed.is_some() {
            return;
        }
        let file = self.files.get_mut(index);
        file.bytes = file.bytes.max(end);
        let number = *file.number.get_or_insert_with(|| {
            self.numbered += 1;
            self.numbered - 1
        });
        // The last block is below 2^32: the end was judged above.
        let blocks = (start / size) as u32..=((end - 1) / size) as u32;
        let references = u64::from(blocks.end() - blocks.start()) + 1;
        match access {
            Access::Read => file.reads += references,
            Access::Write(_) => file.writes += references,
        }
        let first = u64::from(number) << 32 | u64::from(*blocks.start());
        blocks.for_each(|block| file.blocks.insert(block));
        if let Err(error) = writeln!(self.waiting, "{}", call_line(first, references)) {
            self.failed = Some(error);
        }
    }

    /// Notes a mapping.
    pub fn map(&mut self, index: FileIndex, offset: u64, length: u64, executable: bool) {
        let file = self.files.get_mut(index);
        file.mapped.insert((offset, offset.saturating_add(length)));
        file.executable |= executable;
    }

    /// Writes the record.
    ///
    /// # Errors
    ///
    /// If it can't be written, or a reference could not be kept.
    pub fn finish(mut self, command: &str) -> Result<(Files, Tally)> {
        if let Some(error) = self.failed.take() {
            return Err(Error::io("keep references for", &self.path)(error));
        }
        let head = head(&self.files, command);
        let folder = folder_of(&self.path);
        let mut write = || -> io::Result<()> {
            self.waiting.flush()?;
            let references = self.waiting.get_mut();
            references.rewind()?;
            // Readable to whom the user's mask allows: scratch files are to nobody else otherwise.
            let mode = PermissionsExt::from_mode(0o666);
            let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
            file.write_all(head.as_bytes())?;
            io::copy(references, &mut file)?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(Error::io("write", &self.path))?;
        Ok((self.files, self.tally))
    }
}

/// The folder of a file; that of a bare name is the one we are in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Title, command and files.
fn head(files: &Files, command: &str) -> String {
    let mut numbered: Vec<(u32, &File)> =
        files.all().iter().filter_map(|file| Some((file.number?, file))).collect();
    numbered.sort_by_key(|(number, _)| *number);
    let mut text = format!("{}\n# recorded: {}\n", title(), one_line(command));
    for (number, file) in numbered {
        let told = format!(
            ", {} reads, {} writes, {} distinct blocks",
            file.reads,
            file.writes,
            file.blocks.count(),
        );
        text += &format!("{}\n", name_line(number.into(), file.bytes, &told, &file.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::calls::Append;
    use super::*;
    use crate::cache::trace::{Description, read};
    use indicatif::ProgressBar;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_simulator_reads_what_was_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refs");
        let mut log = Log::create(&path).unwrap();
        let odd = folder.path().join(format!("{}\n7", "ä".repeat(100)));
        let (a, b) = (tempfile::tempfile().unwrap(), std::fs::File::create(odd).unwrap());
        let own = std::process::id().cast_signed();
        let [a, b] = [a, b].map(|file| log.files.find(own, file.as_raw_fd()).unwrap().0);
        log.transfer(b, Access::Read, 4095, 2);
        log.transfer(a, Access::Write(Append::AsOpened), 0, 4096);
        log.transfer(a, Access::Read, 1 << 44, 1);
        log.transfer(a, Access::Read, 5, 0);
        let (files, tally) = log.finish(&"word ".repeat(1000)).unwrap();
        assert_eq!((tally.beyond, files.all()[1].references()), (1, 2));
        let trace = read(&path, &Description::default(), &ProgressBar::hidden()).unwrap();
        assert_eq!(trace.references().collect::<Vec<_>>(), [0, 1, 1 << 32]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# file 0: 4097 bytes, 2 reads, 0 writes, 2 distinct blocks: "), "{text}");
        assert!(text.contains("# file 1: 4096 bytes, 0 reads, 1 writes, 1 distinct blocks: "), "{text}");
    }

    #[test]
    fn where_no_file_can_be_made_is_told_before_anything_runs() {
        let error = Log::create(Path::new("/no/such/folder/refs")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"));
        assert!(
            Log::create(Path::new("/dev/null")).unwrap_err().to_string().contains("/dev/null is no file")
        );
        assert_eq!(folder_of(Path::new("refs")), Path::new("."));
    }
}
