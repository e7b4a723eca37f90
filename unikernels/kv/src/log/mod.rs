//! The append-only log: what was changed, as commands, in a file of a volume.
//!
//! | module | what |
//! |---|---|
//! | [`mod@format`] | what is in the file |
//! | [`recover`] | reading it: what is whole, what was torn, what is damaged |
//! | `writer` | appending groups |
//! | [`dump()`] | keys as the commands that make them |
//! | [`LogError`] | why it can't be used |
//!
//! # What is durable when
//!
//! Commands are gathered in memory. [`Log::commit`] seals them as one group, writes it and commits the
//! volume; then all that was recorded before is durable, and [`Log::durable`] says so. A volume's commit is
//! all or nothing, so of a group that was being written when the machine stopped nothing is there. Files that
//! were copied from elsewhere may end in the middle of something: that is cut off, and said.
//!
//! # Rewriting
//!
//! The log grows with every change, the data need not. A rewrite makes a second file in small steps, while
//! the server goes on, and then takes it for the first, by one commit:
//!
//! * A walk through all keys writes down each as it is when the walk comes to it.
//! * A key that is changed meanwhile for the first time is written down whole as it is after that, with a
//!   `DEL` in front. From then on its changes are appended as they are to the log itself, and the walk passes
//!   it by.
//! * If a whole database changes (`FLUSHALL`, `SWAPDB`), the walk begins again.
//!
//! So whenever the walk ends, the second file has the contents of the first. The longest a rewrite stops the
//! server is for one key.

mod dump;
mod error;
pub mod format;
pub mod recover;
mod writer;

pub use dump::dump;
pub use error::LogError;
pub use recover::Found;

use crate::bytes::Bytes;
use crate::resp::write_command;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use libos_fs::{FsError, Volume};
use writer::Writer;

/// Bytes of keys that a step of a rewrite writes down, or one key more.
const STEP: usize = 64 * 1024;

/// What a rewrite writes down.
pub trait Contents {
    /// Visits some keys from a cursor on, which is 0 at the beginning; the cursor to go on with, 0 at the
    /// end. Keys that are there all the time are visited at least once, all others perhaps.
    fn visit(&self, database: u8, cursor: u64, keys: &mut dyn FnMut(&[u8])) -> u64;

    /// Appends the commands that make a key anew, which is not there then. Nothing if it does not exist.
    fn dump(&self, database: u8, key: &[u8], commands: &mut Vec<u8>);

    /// How many databases there are.
    fn databases(&self) -> u8;

    /// Which keys commands change that are carried out in a database, in the form in which they are
    /// recorded; `None` if it is more than can be named.
    fn changed(&self, database: u8, commands: &[u8]) -> Option<Vec<(u8, Bytes)>>;
}

/// A rewrite that is going on.
struct Rewrite {
    writer: Writer,
    database: u8,
    cursor: u64,
    /// Keys that were changed since it began: by database and name.
    changed: BTreeSet<(u8, Bytes)>,
}

/// What `INFO` says of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Bytes of the file, with what is not written yet.
    pub bytes: u64,
    /// Bytes that it had after the last rewrite, or at the start.
    pub base_bytes: u64,
    /// Whether a rewrite is going on.
    pub rewriting: bool,
    /// Rewrites that have ended.
    pub rewrites: u64,
    /// Commits of the volume.
    pub commits: u64,
}

/// A log that is open.
pub struct Log {
    volume: Volume,
    path: String,
    writer: Writer,
    /// Bytes that were recorded since the start.
    position: u64,
    /// Those of them that are durable.
    durable: u64,
    rewrite: Option<Rewrite>,
    status: Status,
}

/// Where a rewrite makes the next file.
fn next_path(path: &str) -> String {
    format!("{path}.next")
}

impl Log {
    /// Opens a log, or makes one. What it holds is carried out by `apply`, command by command; see
    /// [`recover::read`]. A tail that was not finished is cut off.
    ///
    /// A file without seals, as Redis makes it, is read, too: [`Found`] says so, and it is to be rewritten.
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub fn open(
        volume: &Volume,
        path: &str,
        apply: impl FnMut(&[&[u8]]) -> Result<(), String>,
    ) -> Result<(Log, Found), LogError> {
        let failed = |error| LogError::Volume { path: path.into(), error };
        match volume.remove(&next_path(path)) {
            Ok(()) | Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        let (writer, found) = match volume.open(path) {
            Ok(file) => {
                let found = recover::read(&file, path, apply)?;
                if found.torn > 0 {
                    file.truncate(found.whole).map_err(failed)?;
                }
                if found.whole == 0 {
                    (Writer::begin(file), found)
                } else {
                    (Ok(Writer::new(file, found.whole)), found)
                }
            }
            Err(FsError::NotFound(_)) => {
                let file = volume.create(path).map_err(failed)?;
                (Writer::begin(file), Found { sealed: true, ..Found::default() })
            }
            Err(error) => return Err(failed(error)),
        };
        let writer = writer.map_err(failed)?;
        volume.commit().map_err(failed)?;
        let status = Status { base_bytes: writer.bytes(), ..Status::default() };
        let (volume, path) = (volume.clone(), path.into());
        let log = Log { volume, path, writer, position: 0, durable: 0, rewrite: None, status };
        Ok((log, found))
    }

    /// Records commands that were carried out in a database.
    pub fn record(&mut self, database: u8, commands: &[u8], contents: &dyn Contents) {
        self.writer.commands_for(database).extend_from_slice(commands);
        self.position += commands.len() as u64;
        let Some(rewrite) = &mut self.rewrite else { return };
        match contents.changed(database, commands) {
            None => {
                // The walk begins again, with what is there now.
                (rewrite.database, rewrite.cursor) = (0, 0);
                rewrite.changed.clear();
                if rewrite.writer.restart().is_err() {
                    self.give_up();
                }
            }
            Some(keys) if keys.iter().all(|key| rewrite.changed.contains(key)) => {
                rewrite.writer.commands_for(database).extend_from_slice(commands);
            }
            // The commands may need what the file has not yet: all keys are written down as they are now.
            Some(keys) => {
                for (database, key) in keys {
                    write_anew(database, &key, contents, &mut rewrite.writer);
                    rewrite.changed.insert((database, key));
                }
            }
        }
    }

    /// Records that a transaction begins. [`Log::end_transaction`] must follow.
    pub fn begin_transaction(&mut self) {
        self.writer.begin_transaction();
    }

    /// Records that a transaction ends, which began when this was the position. One that has changed nothing
    /// leaves nothing behind.
    pub fn end_transaction(&mut self, began: u64) {
        self.writer.end_transaction(began != self.position);
    }

    /// Bytes that were recorded since the start: what [`Log::durable`] must have reached for the last of them
    /// to be durable.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that are durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether so much waits that it should be written.
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Writes what waits, without making it durable. `now_s` is the time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The volume's; it can be tried again.
    pub fn write(&mut self, now_s: u64) -> Result<(), FsError> {
        self.writer.write(now_s)
    }

    /// Makes all that was recorded durable. `now_s` is the time, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// The volume's; it can be tried again, but after [`FsError::CommitUnknown`].
    pub fn commit(&mut self, now_s: u64) -> Result<(), FsError> {
        if self.durable == self.position {
            return Ok(());
        }
        let position = self.position;
        self.writer.write(now_s)?;
        self.volume.commit()?;
        self.status.commits += 1;
        self.durable = position;
        Ok(())
    }

    /// What it is like.
    pub fn status(&self) -> Status {
        Status { bytes: self.writer.bytes(), rewriting: self.rewrite.is_some(), ..self.status }
    }

    /// Begins a rewrite. Nothing happens if one is going on.
    ///
    /// # Errors
    ///
    /// The volume's.
    pub fn begin_rewrite(&mut self) -> Result<(), FsError> {
        if self.rewrite.is_none() {
            let writer = Writer::begin(self.volume.create(&next_path(&self.path))?)?;
            self.rewrite = Some(Rewrite { writer, database: 0, cursor: 0, changed: BTreeSet::new() });
        }
        Ok(())
    }

    /// Goes on with a rewrite. Whether there is more to do.
    ///
    /// # Errors
    ///
    /// The volume's: then the rewrite is given up, and the log is as it was.
    pub fn step(&mut self, contents: &dyn Contents, now_s: u64) -> Result<bool, FsError> {
        let Some(rewrite) = &mut self.rewrite else { return Ok(false) };
        let start = rewrite.writer.bytes();
        while rewrite.database < contents.databases() && rewrite.writer.bytes() < start + STEP as u64 {
            let (database, changed, writer) = (rewrite.database, &rewrite.changed, &mut rewrite.writer);
            rewrite.cursor = contents.visit(database, rewrite.cursor, &mut |key| {
                if !changed.contains(&(database, Bytes::from(key))) {
                    // Visited twice it must not be there twice.
                    write_anew(database, key, contents, writer);
                }
            });
            if rewrite.cursor == 0 {
                rewrite.database += 1;
            }
        }
        let ended = rewrite.database == contents.databases();
        let written =
            rewrite.writer.write(now_s).and_then(|()| if ended { self.take_next() } else { Ok(()) });
        if let Err(error) = written {
            self.give_up();
            return Err(error);
        }
        Ok(!ended)
    }

    /// Takes the file that was made for the log.
    fn take_next(&mut self) -> Result<(), FsError> {
        self.volume.rename(&next_path(&self.path), &self.path)?;
        let Some(rewrite) = self.rewrite.take() else { return Ok(()) };
        self.writer = rewrite.writer;
        self.status.base_bytes = self.writer.bytes();
        self.status.rewrites += 1;
        let position = self.position;
        self.volume.commit()?;
        self.status.commits += 1;
        self.durable = position;
        Ok(())
    }

    /// Lets go of the file that was being made. If it can't be removed it is at the next start.
    fn give_up(&mut self) {
        self.rewrite = None;
        let _ = self.volume.remove(&next_path(&self.path));
    }
}

/// Writes down a key as it is, over what may be there of it.
fn write_anew(database: u8, key: &[u8], contents: &dyn Contents, writer: &mut Writer) {
    let out = writer.commands_for(database);
    write_command(out, [&b"DEL"[..], key].into_iter());
    contents.dump(database, key, out);
}
