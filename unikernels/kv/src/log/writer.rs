//! A file to which groups of commands are appended.

use super::format::{HEAD, seal, time};
use crate::resp::write_command;
use alloc::vec::Vec;
use libos_fs::{File, FsError};

/// Bytes of commands after which a group is sealed and given to the file.
const GROUP: usize = 1 << 20;

/// A file, and what is still to be written to it.
pub(super) struct Writer {
    file: File,
    /// Bytes of the file.
    end: u64,
    /// Commands since the last seal.
    group: Vec<u8>,
    /// The database that the next command would be carried out in. Unknown after a start.
    database: Option<u8>,
    /// The time that was written last, in seconds since 1970.
    told_s: u64,
    /// Where in the group the transaction begins that was begun last.
    transaction: usize,
}

impl Writer {
    /// Appends to a file of sealed groups that has so many bytes.
    pub fn new(file: File, end: u64) -> Writer {
        Writer { file, end, group: Vec::new(), database: None, told_s: 0, transaction: 0 }
    }

    /// Makes a file with nothing in it one of sealed groups.
    pub fn begin(file: File) -> Result<Writer, FsError> {
        file.write_at(0, HEAD)?;
        Ok(Writer::new(file, HEAD.len() as u64))
    }

    /// Empties the file.
    pub fn restart(&mut self) -> Result<(), FsError> {
        self.group.clear();
        self.database = None;
        self.file.truncate(HEAD.len() as u64)?;
        self.end = HEAD.len() as u64;
        Ok(())
    }

    /// The end of the group, to which commands for a database are to be appended.
    pub fn commands_for(&mut self, database: u8) -> &mut Vec<u8> {
        if self.database != Some(database) {
            self.database = Some(database);
            let mut digits = Vec::new();
            crate::number::write_i64(i64::from(database), &mut digits);
            write_command(&mut self.group, [&b"SELECT"[..], &digits].into_iter());
        }
        &mut self.group
    }

    /// Begins a transaction.
    pub fn begin_transaction(&mut self) {
        self.transaction = self.group.len();
        write_command(&mut self.group, [&b"MULTI"[..]].into_iter());
    }

    /// Ends it. If nothing was recorded in it, it was none.
    pub fn end_transaction(&mut self, has_changed: bool) {
        if has_changed {
            write_command(&mut self.group, [&b"EXEC"[..]].into_iter());
        } else {
            self.group.truncate(self.transaction);
        }
    }

    /// Bytes of the file, with those that are not written yet.
    pub fn bytes(&self) -> u64 {
        self.end + self.group.len() as u64
    }

    /// Whether so much waits that it should be written, though nobody waits for it.
    pub fn is_full(&self) -> bool {
        self.group.len() >= GROUP
    }

    /// Seals the group and writes it, with the time if it is another second. It is durable after the
    /// volume's next commit.
    pub fn write(&mut self, now_s: u64) -> Result<(), FsError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let commands = self.group.len();
        if now_s != self.told_s {
            self.group.extend_from_slice(time(now_s).as_bytes());
        }
        let seal = seal(&self.group);
        self.group.extend_from_slice(seal.as_bytes());
        let written = self.file.write_at(self.end, &self.group);
        match written {
            Ok(()) => {
                self.told_s = now_s;
                self.end += self.group.len() as u64;
                self.group.clear();
                // What was large once need not stay so.
                self.group.shrink_to(GROUP / 8);
                Ok(())
            }
            Err(error) => {
                // Tried again later, at the same place: with the same commands, and others behind.
                self.group.truncate(commands);
                Err(error)
            }
        }
    }
}
