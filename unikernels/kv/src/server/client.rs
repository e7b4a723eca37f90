//! A client, as the server knows it.

use super::channels::ClientId;
use crate::bytes::Bytes;
use crate::command::{Command, Session};
use crate::resp::{Arguments, OwnedArguments, Protocol};
use crate::store::Version;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;

/// What a client has in store between `MULTI` and `EXEC`.
#[derive(Default)]
pub struct Transaction {
    /// Its commands.
    pub commands: Vec<(&'static Command, OwnedArguments)>,
    /// One of them was refused, so that none will be carried out.
    pub refused: bool,
}

/// What a client waits for.
pub struct Blocked {
    /// The command that is tried again.
    pub again: OwnedArguments,
    /// By it.
    pub command: &'static Command,
    /// The keys, with their database.
    pub keys: Vec<(u8, Bytes)>,
    /// When it gives up, on the clock that never goes back.
    pub deadline_ns: Option<u64>,
    /// Whether a null array is the reply then.
    pub null_array: bool,
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not the one to this command.
    Skip,
    /// Not the one to the next command.
    SkipNext,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    /// It is not.
    #[default]
    No,
    /// When what it is to be sent was sent.
    AfterReplies,
    /// At once.
    Now,
}

/// A client.
pub struct Client {
    /// Its number: never used again.
    pub id: ClientId,
    /// Address and port of the other end.
    pub remote: String,
    /// Of our end.
    pub local: String,
    /// What it calls itself.
    pub name: Bytes,
    /// What it says of the library it uses: name and version.
    pub library: [String; 2],
    /// Database and protocol.
    pub session: Session,
    /// Whether it may do more than show its password.
    pub authenticated: bool,
    /// When it came, on the clock that never goes back.
    pub since_ns: u64,
    /// When it last asked for something.
    pub last_ns: u64,
    /// The last command's name.
    pub last_command: &'static str,
    /// Commands so far.
    pub commands: u64,
    /// Between `MULTI` and `EXEC`.
    pub transaction: Option<Transaction>,
    /// Keys that it watches, and what they were.
    pub watched: Vec<(u8, Bytes, Version)>,
    /// Channels that it has subscribed to: of all kinds but those of shards, and those.
    pub subscriptions: [usize; 2],
    /// What it waits for.
    pub blocked: Option<Blocked>,
    /// Whether it sees all commands.
    pub monitors: bool,
    /// Which replies it wants.
    pub replies: Replies,
    /// Whether its keys count as used: `CLIENT NO-EVICT` protects the client itself, which is never given up
    /// for memory here, so it is only remembered.
    pub no_evict: bool,
    /// What it is to be sent.
    pub out: Vec<u8>,
    /// Since when too much of it waits, on the clock that never goes back.
    pub too_much_since_ns: Option<u64>,
    /// How much of the log must be durable before any of it is sent.
    pub position: u64,
    /// How its connection is to end.
    pub closing: Closing,
    /// Its task, if it waits.
    pub waker: Option<Waker>,
    /// Bytes of its input that wait.
    pub input_bytes: usize,
}

impl Client {
    /// Has its task look.
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether it has subscribed to anything.
    pub fn has_subscriptions(&self) -> bool {
        self.subscriptions != [0, 0]
    }

    /// Whether all it may do is about subscriptions.
    pub fn only_listens(&self) -> bool {
        self.has_subscriptions() && self.session.protocol == Protocol::Resp2
    }

    /// A line of `CLIENT LIST`, without its end.
    pub fn line(&self, now_ns: u64) -> String {
        let seconds = |since: u64| now_ns.saturating_sub(since) / 1_000_000_000;
        let mut flags = String::new();
        for (flag, is_set) in [
            ('O', self.monitors),
            ('P', self.has_subscriptions()),
            ('x', self.transaction.is_some()),
            ('b', self.blocked.is_some()),
            ('c', self.closing == Closing::AfterReplies),
            ('A', self.closing == Closing::Now),
            ('e', self.no_evict),
        ] {
            if is_set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let queued = self.transaction.as_ref().map_or(-1, |transaction| transaction.commands.len() as i64);
        let protocol = if self.session.protocol == Protocol::Resp3 { 3 } else { 2 };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub=0 ssub={} \
             multi={queued} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem=0 \
             tot-mem={} events=r cmd={} user=default redir=-1 resp={protocol} lib-name={} lib-ver={}",
            self.id,
            self.remote,
            self.local,
            String::from_utf8_lossy(&self.name),
            seconds(self.since_ns),
            seconds(self.last_ns),
            self.session.database,
            self.subscriptions[0],
            self.subscriptions[1],
            self.input_bytes,
            self.out.len(),
            size_of::<Client>() + self.out.capacity() + self.input_bytes,
            if self.last_command.is_empty() { "NULL" } else { self.last_command },
            self.library[0],
            self.library[1],
        )
    }
}

/// All clients. A client has a place as long as it is there.
#[derive(Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    vacant: Vec<usize>,
    by_id: BTreeMap<ClientId, usize>,
}

impl Clients {
    /// Adds a client; its place.
    pub fn add(&mut self, client: Client) -> usize {
        let id = client.id;
        let client = Some(Box::new(client));
        let place = match self.vacant.pop() {
            Some(place) => {
                self.places[place] = client;
                place
            }
            None => {
                self.places.push(client);
                self.places.len() - 1
            }
        };
        self.by_id.insert(id, place);
        place
    }

    /// Takes a client out.
    pub fn remove(&mut self, place: usize) -> Option<Box<Client>> {
        let client = self.places.get_mut(place)?.take()?;
        self.by_id.remove(&client.id);
        self.vacant.push(place);
        Some(client)
    }

    /// The client in a place.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn at(&mut self, place: usize) -> &mut Client {
        match self.places.get_mut(place) {
            Some(Some(client)) => client,
            _ => panic!("no client in place {place}"),
        }
    }

    /// The place of a client.
    pub fn place_of(&self, id: ClientId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// A client by its number.
    pub fn by_id(&mut self, id: ClientId) -> Option<&mut Client> {
        let place = self.place_of(id)?;
        Some(self.at(place))
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values().filter_map(|place| self.places[*place].as_deref())
    }

    /// All of them, to be changed, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.places.iter_mut().filter_map(|client| client.as_deref_mut())
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// A command as `MONITOR` shows it.
pub fn monitor_line(now_ns: u64, unix_ms: u64, client: &Client, args: Arguments<'_>) -> Vec<u8> {
    let micros = now_ns / 1000 % 1000;
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let mut line =
        format!("+{seconds}.{millis:03}{micros:03} [{} {}]", client.session.database, client.remote)
            .into_bytes();
    for argument in args.from(0) {
        line.extend_from_slice(b" \"");
        line.extend(argument.iter().flat_map(|byte| byte.escape_ascii()));
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// What is said of a name that can't be.
pub const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether it can be the name of a client.
pub fn is_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}
