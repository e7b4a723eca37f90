//! A command that runs: what it sees and what it leaves behind.

use super::error::{Error, Result};
use crate::bytes::Bytes;
use crate::number::{parse_f64, parse_i64};
use crate::resp::{Arguments, OwnedArguments, Protocol, Reply, write_command};
use crate::store::{At, DATABASES, Store};
use crate::value::Value;
use alloc::vec::Vec;
use core::ops::Range;

/// What a command is known for: bits of [`Command::flags`], named as in Redis.
pub mod flag {
    /// May change keys.
    pub const WRITE: u32 = 1;
    /// Only reads keys.
    pub const READONLY: u32 = 1 << 1;
    /// May need memory: refused when there is none.
    pub const DENYOOM: u32 = 1 << 2;
    /// For whoever looks after the server.
    pub const ADMIN: u32 = 1 << 3;
    /// About channels.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not for scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May wait.
    pub const BLOCKING: u32 = 1 << 6;
    /// Also while a log is read.
    pub const LOADING: u32 = 1 << 7;
    /// Also with stale data.
    pub const STALE: u32 = 1 << 8;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 9;
    /// Also without a password.
    pub const NO_AUTH: u32 = 1 << 10;
    /// Not in a transaction.
    pub const NO_MULTI: u32 = 1 << 11;
    /// Its keys are found only by its own rules.
    pub const MOVABLEKEYS: u32 = 1 << 12;
    /// In a transaction it is run at once and not kept for later: `EXEC`, `DISCARD`, `MULTI`, `WATCH`.
    pub const AT_ONCE: u32 = 1 << 13;

    /// The bits that `COMMAND` tells of, and their names there.
    pub const NAMES: [(u32, &str); 13] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MULTI, "no_multi"),
        (MOVABLEKEYS, "movablekeys"),
    ];
}

/// Which arguments are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None.
    None,
    /// From the first to the last (negative: from the end), each so many after the one before it.
    Places(i8, i8, i8),
    /// A count at this argument, and so many keys after it. The second number is that of a key before it, or
    /// 0.
    Counted(u8, u8),
    /// The first half of what comes after the word `STREAMS`.
    Streams,
    /// The first, and what follows the word `STORE`.
    AndStored,
}

/// What a command belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Connections and the server's clients.
    Connection,
    /// The server itself.
    Server,
    /// Keys, whatever they hold.
    Generic,
    /// Strings.
    String,
    /// Bits of strings.
    Bitmap,
    /// Hashes.
    Hash,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Streams.
    Stream,
    /// Places.
    Geo,
    /// HyperLogLogs.
    HyperLogLog,
    /// Channels.
    PubSub,
    /// Transactions.
    Transactions,
}

/// Who runs a command.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// The store: this function.
    Data(fn(&mut Call<'_>) -> Result<Outcome>),
    /// The server, which knows clients, channels and files.
    Server,
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// Arguments with the name: exactly, or, if negative, at least.
    pub arity: i8,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Its keys.
    pub keys: Keys,
    /// What it belongs to.
    pub group: Group,
    /// Who runs it.
    pub run: Run,
}

impl Command {
    /// A command of the store.
    pub const fn data(
        name: &'static str,
        arity: i8,
        flags: u32,
        keys: Keys,
        group: Group,
        run: fn(&mut Call<'_>) -> Result<Outcome>,
    ) -> Self {
        Self { name, arity, flags, keys, group, run: Run::Data(run) }
    }

    /// A command of the server.
    pub const fn server(name: &'static str, arity: i8, flags: u32, keys: Keys, group: Group) -> Self {
        Self { name, arity, flags, keys, group, run: Run::Server }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Refuses a wrong number of arguments.
    pub fn check_arity(&self, arguments: usize) -> Result<()> {
        let wanted = usize::from(self.arity.unsigned_abs());
        if arguments == wanted || self.arity < 0 && arguments > wanted {
            Ok(())
        } else {
            Err(Error::Arguments(self.name))
        }
    }
}

/// What a client is to the store.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The database it has selected.
    pub database: u8,
    /// What it understands.
    pub protocol: Protocol,
    /// Whether it can't wait: in a transaction, or when a log is read.
    pub never_waits: bool,
    /// Whether the command has waited already, and is tried again: keys of another type count as absent.
    pub waited: bool,
}

/// What a command does beside its reply. One for the server; it takes out what it has dealt with.
#[derive(Debug, Default)]
pub struct Effects {
    /// Whether `log` is wanted.
    pub logging: bool,
    /// Commands that do again what was done, wherever and whenever: with times instead of durations, and with
    /// what was chosen at random. They are for the database that the client had selected before the command.
    pub log: Vec<u8>,
    /// Changes of keys: grows.
    pub changes: u64,
    /// Whether anybody waits for keys.
    pub waiting: bool,
    /// Keys with something new in them, and their databases; only if `waiting`.
    pub ready: Vec<(u8, Bytes)>,
}

/// What comes of a command.
#[derive(Debug)]
pub enum Outcome {
    /// The reply is written.
    Done,
    /// There is nothing yet: the client waits. No reply is written.
    Wait(Wait),
    /// The server must do it: see [`Run::Server`]. No reply is written.
    Server,
}

/// What a client waits for. When one of the keys is ready, `again` is run, with [`Session::waited`] set. If
/// it waits again, it keeps its first deadline.
#[derive(Debug)]
pub struct Wait {
    /// The command that is to be run.
    pub again: OwnedArguments,
    /// Which of its arguments are the keys.
    pub keys: Range<usize>,
    /// For how many milliseconds; for ever, if `None`.
    pub timeout_ms: Option<u64>,
    /// Whether a null array is the reply when the time is over; null if not.
    pub null_array: bool,
}

/// A command that runs.
pub struct Call<'a> {
    /// The command.
    pub command: &'static Command,
    /// Its arguments, the name first.
    pub args: Arguments<'a>,
    /// All data.
    pub store: &'a mut Store,
    /// The client.
    pub session: &'a mut Session,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// What else it does.
    pub effects: &'a mut Effects,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// The database it runs in.
    pub database: u8,
    /// Whether what is to be logged was said already, instead of the command as it came.
    pub logged: bool,
}

impl<'a> Call<'a> {
    /// An argument.
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.args.at(index)
    }

    /// An argument that is a whole number.
    pub fn integer(&self, index: usize) -> Result<i64> {
        parse_i64(self.arg(index)).ok_or(Error::NotAnInteger)
    }

    /// An argument that is a number.
    pub fn float(&self, index: usize) -> Result<f64> {
        parse_f64(self.arg(index)).ok_or(Error::NotAFloat)
    }

    /// An argument that is the number of a database. `refusal` is said if there is none such.
    pub fn database_argument(&self, index: usize, refusal: &'static str) -> Result<u8> {
        let number = self.integer(index)?;
        u8::try_from(number)
            .ok()
            .filter(|number| usize::from(*number) < DATABASES)
            .ok_or(Error::Text(refusal))
    }

    /// Where a key is that is going to be read. One whose time is over is removed.
    pub fn find(&mut self, key: &[u8]) -> Option<At> {
        let at = self.find_quietly(key);
        match at {
            Some(at) => {
                self.store.statistics.hits += 1;
                self.store.accessed(at, self.now_ms);
            }
            None => self.store.statistics.misses += 1,
        }
        at
    }

    /// Where a key is that is going to be changed. One whose time is over is removed.
    pub fn find_to_change(&mut self, key: &[u8]) -> Option<At> {
        let at = self.find_quietly(key);
        if let Some(at) = at {
            self.store.accessed(at, self.now_ms);
        }
        at
    }

    /// The same, without anybody being told that the key is used.
    pub fn find_quietly(&mut self, key: &[u8]) -> Option<At> {
        self.find_in(self.database, key)
    }

    /// The same in any database.
    pub fn find_in(&mut self, database: u8, key: &[u8]) -> Option<At> {
        let at = self.store.find(database, key)?;
        if !self.store.is_over(at, self.now_ms) {
            return Some(at);
        }
        self.store.remove(at);
        self.store.statistics.expired += 1;
        if self.effects.logging {
            if database != self.database {
                self.log(&[b"SELECT", &[b'0' + database / 10, b'0' + database % 10]]);
            }
            self.log(&[b"DEL", key]);
            if database != self.database {
                self.log(&[b"SELECT", &[b'0' + self.database / 10, b'0' + self.database % 10]]);
            }
        }
        None
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, key: &[u8], value: Value) -> At {
        self.effects.changes += 1;
        let at = self.store.insert(self.database, Bytes::from(key), value);
        // That it is added is the one use of it.
        self.store.touch(at, self.now_ms);
        at
    }

    /// Sets a key to a value, whatever it was. Its expiry goes.
    pub fn set(&mut self, key: &[u8], value: Value) -> At {
        match self.find_to_change(key) {
            Some(at) => {
                self.store.set_expiry(at, None);
                self.store.replace(at, value);
                self.effects.changes += 1;
                at
            }
            None => self.insert(key, value),
        }
    }

    /// Says that a value was changed. A collection without elements is removed.
    pub fn changed(&mut self, at: At) {
        self.effects.changes += 1;
        self.store.changed(at);
    }

    /// Removes a key.
    pub fn remove(&mut self, at: At) {
        self.effects.changes += 1;
        self.store.remove(at);
    }

    /// Says that a key has something for those who wait.
    pub fn ready(&mut self, key: &[u8]) {
        if self.effects.waiting {
            self.effects.ready.push((self.database, Bytes::from(key)));
        }
    }

    /// Logs a command instead of the one that runs.
    pub fn log(&mut self, command: &[&[u8]]) {
        if self.effects.logging {
            write_command(&mut self.effects.log, command.iter().copied());
        }
    }

    /// Logs a command instead of the one that runs, which is not logged itself.
    pub fn log_instead(&mut self, command: &[&[u8]]) {
        self.log(command);
        self.logged = true;
    }
}

/// What has to do with waiting.
impl Call<'_> {
    /// An argument that says for how many seconds to wait, in milliseconds; `None` for ever.
    pub fn timeout_ms(&self, index: usize) -> Result<Option<u64>> {
        let refusal = Error::Text("ERR timeout is not a float or out of range");
        let seconds = parse_f64(self.arg(index)).ok_or(refusal)?;
        if seconds < 0.0 {
            return Err(Error::Text("ERR timeout is negative"));
        }
        if seconds * 1000.0 >= 9.2e18 {
            return Err(Error::Text("ERR timeout is out of range"));
        }
        let ms = (seconds * 1000.0) as u64;
        // What is less than a millisecond is one, and not for ever.
        let ms = if (ms as f64) < seconds * 1000.0 { ms + 1 } else { ms };
        Ok((ms > 0).then_some(ms))
    }

    /// Has the client wait for keys; if it can't, that nothing came is the reply.
    pub fn wait(&mut self, keys: Range<usize>, timeout_ms: Option<u64>) -> Outcome {
        if self.session.never_waits {
            self.reply.null_array();
            return Outcome::Done;
        }
        Outcome::Wait(Wait { again: self.args.to_owned(), keys, timeout_ms, null_array: true })
    }

    /// Whether a key is of a type, or not there. To who has waited, one of another type is not there.
    pub fn of_type<T>(
        &self,
        at: Option<At>,
        view: impl Fn(&Value) -> core::result::Result<&T, crate::value::WrongType>,
    ) -> Result<Option<At>> {
        let Some(at) = at else { return Ok(None) };
        match view(self.store.value(at)) {
            Ok(_) => Ok(Some(at)),
            Err(_) if self.session.waited => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A count of keys and the keys' arguments, from `index` on, as `LMPOP` has them.
    pub fn counted_keys(&self, index: usize) -> Result<Range<usize>> {
        let refusal = Error::Text("ERR numkeys should be greater than 0");
        let count = parse_i64(self.arg(index)).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| *count > 0).ok_or(refusal)?;
        let end = (index + 1).saturating_add(count);
        if end > self.args.len() { Err(Error::Syntax) } else { Ok(index + 1..end) }
    }
}

/// How many may come twice of what is chosen at random. More is refused: the reply is made before it is sent.
const MOST_REPEATED: u64 = 1 << 20;

/// How many are wanted at random; what can't be is refused.
pub fn many(count: i64, pairs: bool) -> Result<usize> {
    let greatest = if pairs { i64::MAX / 2 } else { i64::MAX };
    if count > greatest || count < 0 && count.unsigned_abs() > MOST_REPEATED {
        return Err(Error::Text("ERR value is out of range"));
    }
    Ok(count.unsigned_abs() as usize)
}
