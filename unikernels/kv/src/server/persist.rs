//! The log: what goes into it, when it is made durable, and what a rewrite writes down.

use super::config::Fsync;
use super::contents::Data;
use super::state::{Ending, Server};
use crate::command::Session;
use crate::log::{Found, Log, LogError};
use crate::resp::OwnedArguments;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::Waker;
use libos_fs::{FsError, Volume};

/// Nanoseconds after which what was recorded is made durable, with `appendfsync everysec`.
const SECOND_NS: u64 = 1_000_000_000;
/// The same with `no`.
const SELDOM_NS: u64 = 30 * SECOND_NS;

impl Server {
    /// Opens the log of a volume, and carries out what it holds.
    ///
    /// # Errors
    ///
    /// [`LogError`]: then the server has part of the data at most, and must not go on.
    pub fn open_log(&mut self, volume: &Volume, path: &str) -> Result<Found, LogError> {
        let mut session = Session { never_waits: true, ..Session::default() };
        self.store.keep_expired = true;
        let (store, effects, index) = (&mut self.store, &mut self.effects, &self.index);
        let mut replies = Vec::new();
        let now_ms = self.clock.now_ms();
        let (log, found) = Log::open(volume, path, |arguments| {
            let mut owned = OwnedArguments::default();
            arguments.iter().for_each(|argument| owned.push(argument));
            let args = owned.arguments();
            let named = |what: &dyn core::fmt::Display| {
                format!("{}: {what}", String::from_utf8_lossy(arguments[0]).to_ascii_uppercase())
            };
            let text = |error: crate::command::Error| String::from_utf8_lossy(&error.text()).into_owned();
            let command = index.find(&args).map_err(|error| named(&text(error)))?;
            // A transaction is whole when it is read.
            if matches!(command.name, "multi" | "exec") {
                return Ok(());
            }
            replies.clear();
            match command.run(store, &mut session, args, now_ms, &mut replies, effects) {
                crate::command::Outcome::Server => Err(named(&"not a command that changes data")),
                _ if replies.first() == Some(&b'-') => {
                    Err(named(&String::from_utf8_lossy(&replies[1..]).trim_end()))
                }
                _ => Ok(()),
            }
        })?;
        self.store.keep_expired = false;
        self.effects = crate::command::Effects { logging: true, ..Default::default() };
        self.store.statistics = Default::default();
        self.clock.at_least(found.time_s * 1000);
        self.now_ms = self.clock.now_ms();
        self.config.appendonly = true;
        self.log = Some(log);
        if let Some(keeper) = &mut self.keeper {
            keeper.follow(&self.store, self.now_ms, false);
        }
        if !found.sealed {
            // Nothing is appended to a file of another kind: it is written anew at once.
            let rewritten = self.rewrite_at_once();
            rewritten.map_err(|error| LogError::Volume { path: path.into(), error })?;
        }
        Ok(found)
    }

    fn rewrite_at_once(&mut self) -> Result<(), FsError> {
        let now_s = self.now_s();
        if let Some(log) = &mut self.log {
            log.begin_rewrite()?;
            while log.step(&Data { store: &self.store, index: &self.index }, now_s)? {}
        }
        Ok(())
    }

    /// Records what was done in a database.
    pub(super) fn record(&mut self, database: u8, commands: &[u8]) {
        let always = self.is_always_durable();
        let Some(log) = &mut self.log else { return };
        log.record(database, commands, &Data { store: &self.store, index: &self.index });
        if always || log.is_full() {
            self.keeper_of_log.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the task that keeps the log has something to do.
    pub(super) fn log_is_due(&self) -> bool {
        let always = self.is_always_durable();
        self.log.as_ref().is_some_and(|log| {
            always && log.position() > log.durable() || log.is_full() || log.status().rewriting
        })
    }

    /// Writes what waits, and goes on with a rewrite.
    pub(super) fn keep_log(&mut self) {
        let (always, now_s) = (self.is_always_durable(), self.now_s());
        let Some(log) = &mut self.log else { return };
        let written = if always {
            log.commit(now_s)
        } else if log.is_full() {
            log.write(now_s)
        } else {
            Ok(())
        };
        self.judge_log(written);
        let Some(log) = &mut self.log else { return };
        if let Err(error) = log.step(&Data { store: &self.store, index: &self.index }, now_s) {
            self.judge_log(Err(error));
        }
        self.undurable.drain(..).for_each(Waker::wake);
    }

    /// Makes everything durable.
    ///
    /// # Errors
    ///
    /// What the volume says.
    pub fn commit(&mut self) -> Result<(), FsError> {
        let now_s = self.now_s();
        let committed = self.log.as_mut().map_or(Ok(()), |log| log.commit(now_s));
        self.committed_ns = self.clock.now_ns();
        self.judge_log(committed.clone());
        self.undurable.drain(..).for_each(Waker::wake);
        committed
    }

    /// What comes of an attempt to write the log.
    fn judge_log(&mut self, written: Result<(), FsError>) {
        match written {
            Ok(()) => self.log_error = None,
            // What is acknowledged must be durable, and that can't be known any more.
            Err(error) if self.is_always_durable() => self.end(Ending::Broken(error.to_string())),
            Err(error) => self.log_error = Some(error.to_string()),
        }
    }

    /// Makes the log durable if it is time, and begins a rewrite if it has grown.
    pub(super) fn look_after_log(&mut self) {
        let Some(log) = &self.log else { return };
        let after_ns = match self.config.appendfsync {
            Fsync::Always | Fsync::EverySecond => SECOND_NS,
            Fsync::No => SELDOM_NS,
        };
        let status = log.status();
        let waits = log.position() > log.durable();
        if waits && self.clock.now_ns() >= self.committed_ns.saturating_add(after_ns) {
            // The error is in `log_error`, and it is tried again.
            let _ = self.commit();
        }
        let grown = status.bytes.saturating_sub(status.base_bytes);
        let percentage = self.config.rewrite_percentage;
        if !status.rewriting
            && percentage > 0
            && status.bytes >= self.config.rewrite_min_size
            && grown.saturating_mul(100) >= status.base_bytes.saturating_mul(percentage)
            && let Some(log) = &mut self.log
        {
            let begun = log.begin_rewrite();
            if begun.is_err() {
                self.judge_log(begun);
            }
            self.keeper_of_log.take().into_iter().for_each(Waker::wake);
        }
    }
}
