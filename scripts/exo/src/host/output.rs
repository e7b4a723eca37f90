//! Files that this tool writes: the one way out for all of them.
//!
//! * A regular file is written beside its place and takes it when it is complete: readers see the old
//!   content or the new, and after a failure the old. It keeps mode and owner.
//! * A file that has several names, or that can't be replaced where it is, keeps its place. It is
//!   overwritten, once all of the new content is there.
//! * Symbolic links are followed: the file they lead to is replaced.
//! * Pipes, devices, and standard output (`-`, `/dev/stdout`) are written as the content comes.

use super::streams;
use crate::error::{Error, Result};
use serde::Serialize;
use std::fs::{File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Symbolic links followed, as many as the system follows.
const MOST_LINKS: usize = 40;
/// Descriptor of standard output.
const STANDARD_OUTPUT: u32 = 1;

/// Writes a file whose content is in memory.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(bytes).map_err(Error::io("write", path))?;
    output.finish()
}

/// Writes one JSON object a line.
pub fn write_lines(path: &Path, lines: impl Iterator<Item = impl Serialize>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(&line).map_err(|error| Error::Measurement(error.to_string()))?;
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}

/// Writes a table with commas between its columns (RFC 4180): a heading, and a line for each.
pub fn write_table(path: &Path, lines: &[impl Serialize]) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Error::Measurement(error.to_string());
    lines.iter().try_for_each(|line| writer.serialize(line)).map_err(failed)?;
    let text = writer.into_inner().map_err(|error| Error::Measurement(error.to_string()))?;
    write_atomically(path, &text)
}

/// Writes a file that `make` makes under the name it is given, which is another until the file is complete.
pub fn write_made(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut output = Output::create(path)?;
    if let Destination::File { draft, .. } = &output.to {
        make(draft.path())?;
        return output.finish();
    }
    let scratch = NamedTempFile::new().map_err(Error::io("create a file in", &std::env::temp_dir()))?;
    make(scratch.path())?;
    let mut content = File::open(scratch.path()).map_err(Error::io("read", scratch.path()))?;
    std::io::copy(&mut content, &mut output).map_err(Error::io("write", path))?;
    output.finish()
}

/// Looks at the outputs that the user has named, before the work for them: refuses what can't be written, and
/// keeps standard output free for the one that is named `-`.
pub fn expect(paths: &[Option<&Path>]) -> Result<()> {
    let mut claimed = false;
    for path in paths.iter().flatten() {
        match Place::of(path)? {
            Place::Standard if claimed => {
                let fix = "name a file for one of them".to_owned();
                return Err(Error::Argument {
                    what: "two outputs can't both be standard output".into(),
                    fix,
                });
            }
            Place::Standard => {
                claimed = true;
                streams::claim();
            }
            Place::File(file, _) if !folder(&file).is_dir() => {
                return Err(Error::io("create a file in", folder(&file))(ErrorKind::NotFound.into()));
            }
            Place::File(..) | Place::Stream(_) => {}
        }
    }
    Ok(())
}

/// Where a path leads.
enum Place {
    Standard,
    /// A pipe or a device.
    Stream(PathBuf),
    /// A regular file, past all symbolic links, and what is there now.
    File(PathBuf, Option<Metadata>),
}

impl Place {
    fn of(path: &Path) -> Result<Place> {
        if path.as_os_str() == "-" {
            return Ok(Place::Standard);
        }
        let mut at = path.to_path_buf();
        for _ in 0..MOST_LINKS {
            // What such a link says is no path that could be followed.
            match descriptor(&at) {
                Some(STANDARD_OUTPUT) => return Ok(Place::Standard),
                Some(_) => return Ok(Place::Stream(at)),
                None => {}
            }
            let found = match at.symlink_metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::File(at, None)),
                found => found.map_err(Error::io("write", path))?,
            };
            if found.is_dir() {
                return Err(Error::io("write", path)(ErrorKind::IsADirectory.into()));
            }
            if !found.is_symlink() {
                let is_file = found.is_file();
                return Ok(if is_file { Place::File(at, Some(found)) } else { Place::Stream(at) });
            }
            let target = at.read_link().map_err(Error::io("follow", path))?;
            at = folder(&at).join(target);
        }
        Err(Error::io("write", path)(rustix::io::Errno::LOOP.into()))
    }
}

/// The directory that a path is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The open file of this process that a path in `/proc` or `/dev/fd` names.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    (folder(path).canonicalize().ok()? == own).then_some(number)
}

/// A file that is being written. Dropped without [`Output::finish`], it was never there.
pub struct Output {
    path: PathBuf,
    to: Destination,
}

enum Destination {
    Standard,
    Stream(File),
    File {
        draft: NamedTempFile,
        target: PathBuf,
        mode: Option<Permissions>,
        /// Whether the draft may take the target's place.
        replaces: bool,
    },
}

impl Output {
    /// Begins to write what the user calls `path`.
    pub fn create(path: &Path) -> Result<Output> {
        let to = match Place::of(path)? {
            Place::Standard => {
                streams::claim();
                Destination::Standard
            }
            Place::Stream(at) => {
                let stream = File::options().append(true).open(at);
                Destination::Stream(stream.map_err(Error::io("write", path))?)
            }
            Place::File(target, found) => draft(target, found.as_ref())?,
        };
        Ok(Output { path: path.to_path_buf(), to })
    }

    /// Completes the file: only now it is seen.
    pub fn finish(self) -> Result<()> {
        let path = self.path;
        match self.to {
            Destination::Standard => streams::flush().map_err(Error::io("write", &path)),
            Destination::Stream(mut stream) => stream.flush().map_err(Error::io("write", &path)),
            Destination::File { draft, target, mode, replaces } => {
                let draft = draft.into_temp_path();
                if replaces {
                    if let Some(mode) = mode {
                        std::fs::set_permissions(&draft, mode).map_err(Error::io("write", &path))?;
                    }
                    let Err(refused) = draft.persist(&target) else { return Ok(()) };
                    // Such as a file on which another is mounted.
                    return overwrite(&refused.path, &target).map_err(Error::io("replace", &path));
                }
                overwrite(&draft, &target).map_err(Error::io("write", &path))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.to {
            Destination::Standard => streams::write(bytes),
            Destination::Stream(stream) => stream.write(bytes),
            Destination::File { draft, .. } => draft.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.to {
            Destination::Standard => streams::flush(),
            Destination::Stream(stream) => stream.flush(),
            Destination::File { draft, .. } => draft.flush(),
        }
    }
}

/// A draft for `target`, of which `found` is there now.
fn draft(target: PathBuf, found: Option<&Metadata>) -> Result<Destination> {
    let mut builder = tempfile::Builder::new();
    // As any program makes files: the user's umask takes bits away.
    builder.permissions(Permissions::from_mode(0o666));
    let beside = builder.tempfile_in(folder(&target));
    let Some(found) = found else {
        let draft = beside.map_err(Error::io("create a file in", folder(&target)))?;
        return Ok(Destination::File { draft, target, mode: None, replaces: true });
    };
    // Who may not write a file may not replace it either, though the directory would allow that.
    match File::options().append(true).open(&target) {
        Err(error) if error.kind() != ErrorKind::ExecutableFileBusy => {
            return Err(Error::io("write", &target)(error));
        }
        _ => {}
    }
    let mode = Some(found.permissions());
    match beside {
        Ok(draft) if found.nlink() == 1 && same_owner(&draft, found) => {
            Ok(Destination::File { draft, target, mode, replaces: true })
        }
        _ => {
            let draft = NamedTempFile::new().map_err(Error::io("create a file in", &std::env::temp_dir()))?;
            Ok(Destination::File { draft, target, mode, replaces: false })
        }
    }
}

/// Gives the draft the owner of what it replaces; says whether it has it.
fn same_owner(draft: &NamedTempFile, found: &Metadata) -> bool {
    let owner = |file: &Metadata| (file.uid(), file.gid());
    let same = draft.as_file().metadata().is_ok_and(|draft| owner(&draft) == owner(found));
    same || std::os::unix::fs::fchown(draft, Some(found.uid()), Some(found.gid())).is_ok()
}

/// Writes the content of `draft` into the file `target`.
fn overwrite(draft: &Path, target: &Path) -> std::io::Result<()> {
    let mut content = File::open(draft)?;
    let mut target = File::options().write(true).truncate(true).open(target)?;
    std::io::copy(&mut content, &mut target)?;
    target.flush()
}
