//! What the tasks of all connections share.

use super::channels::{Channels, ClientId};
use super::client::{Client, Clients, Closing, Replies};
use super::clock::Clock;
use super::config::{Config, Fsync};
use super::slowlog::SlowLog;
use super::waiting::Waiting;
use crate::command::{Effects, Index, Session, shown};
use crate::evict::Keeper;
use crate::log::Log;
use crate::resp::{Arguments, Protocol, Reply};
use crate::store::Store;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;

/// What is counted since the start, or since `CONFIG RESETSTAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// And refused, because there were too many.
    pub refused: u64,
    /// Commands.
    pub commands: u64,
    /// Bytes that came.
    pub input: u64,
    /// Bytes that were sent.
    pub output: u64,
    /// Keys that left to make room.
    pub evicted: u64,
    /// Commands that gave an error.
    pub errors: u64,
    /// Writes to connections.
    pub writes: u64,
    /// Keys that were changed, since the last rewrite of the log.
    pub changes: u64,
}

/// Until when clients are to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// On the clock that never goes back.
    pub until_ns: u64,
    /// Whether only commands that change something wait.
    pub writes_only: bool,
}

/// The server: data, clients, channels, log.
pub struct Server {
    /// All data.
    pub store: Store,
    pub(super) index: Index,
    pub(super) effects: Effects,
    /// What is set.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// The time of the requests that are being carried out, in milliseconds since 1970.
    pub(super) now_ms: u64,
    pub(super) now_ns: u64,
    /// When the server began, on the clock that never goes back.
    pub(super) since_ns: u64,
    pub(super) clients: Clients,
    next_client: ClientId,
    pub(super) channels: Channels,
    pub(super) waiting: Waiting,
    pub(super) monitors: Vec<ClientId>,
    pub(super) slowlog: SlowLog,
    pub(super) pause: Pause,
    /// Who waits for the end of the pause.
    pub(super) paused: Vec<Waker>,
    /// The log, if there is one.
    pub log: Option<Log>,
    /// Whether the last attempt to write it failed, and why.
    pub(super) log_error: Option<String>,
    /// When it was made durable last.
    pub(super) committed_ns: u64,
    /// Who waits for something to be durable.
    pub(super) undurable: Vec<Waker>,
    /// The task that makes it so.
    pub(super) keeper_of_log: Option<Waker>,
    pub(super) keeper: Option<Keeper>,
    /// What is counted.
    pub counts: Counts,
    /// Commands a second, and when that was counted last.
    pub(super) rate: Rate,
    /// Most bytes of keys and values there were.
    pub(super) peak_bytes: usize,
    /// Says that the server is to end, and whether what is not durable may be lost.
    pub(super) ending: Option<Ending>,
    pub(super) run_id: String,
    /// Bytes of memory there are, if that is known.
    pub memory_bytes: u64,
}

/// Commands a second, over the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    pub per_second: u64,
    pub at_ns: u64,
    pub commands: u64,
}

/// How a server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the log is durable.
    Saved,
    /// At once.
    Unsaved,
    /// The log can't be written, and nothing may be acknowledged that is not durable.
    Broken(String),
}

impl Server {
    /// A server without data. `seed` has five random numbers that nobody can guess.
    pub fn new(config: Config, clock: Clock, seed: [u64; 5]) -> Server {
        let mut server = Server {
            store: Store::new([seed[0], seed[1], seed[2]]),
            index: Index::new(),
            effects: Effects::default(),
            config,
            clock,
            now_ms: clock.now_ms(),
            now_ns: clock.now_ns(),
            since_ns: clock.now_ns(),
            clients: Clients::default(),
            next_client: 1,
            channels: Channels::default(),
            waiting: Waiting::default(),
            monitors: Vec::new(),
            slowlog: SlowLog::default(),
            pause: Pause::default(),
            paused: Vec::new(),
            log: None,
            log_error: None,
            committed_ns: clock.now_ns(),
            undurable: Vec::new(),
            keeper_of_log: None,
            keeper: None,
            counts: Counts::default(),
            rate: Rate::default(),
            peak_bytes: 0,
            ending: None,
            run_id: format!("{:016x}{:016x}{:08x}", seed[3], seed[4], seed[2] as u32),
            memory_bytes: 0,
        };
        server.choose_policy();
        server
    }

    /// Has the policy that is set choose which keys leave, from now on.
    pub(super) fn choose_policy(&mut self) {
        self.keeper = None;
        self.store.observe(None);
        if let Some(policy) = self.config.policy.build(self.store.random.next_u64()) {
            self.keeper = Some(Keeper::new(policy, &mut self.store, self.now_ms));
        }
    }

    /// Takes a client. Its place; `None` if there are too many.
    pub fn connect(&mut self, remote: String, local: String) -> Option<usize> {
        if self.clients.len() >= self.config.maxclients {
            self.counts.refused += 1;
            return None;
        }
        self.counts.connections += 1;
        let now_ns = self.clock.now_ns();
        let client = Client {
            id: self.next_client,
            remote,
            local,
            name: Default::default(),
            library: Default::default(),
            session: Session::default(),
            authenticated: self.config.requirepass.is_empty(),
            since_ns: now_ns,
            last_ns: now_ns,
            last_command: "",
            commands: 0,
            transaction: None,
            watched: Vec::new(),
            subscriptions: [0, 0],
            blocked: None,
            monitors: false,
            replies: Replies::On,
            no_evict: false,
            out: Vec::new(),
            too_much_since_ns: None,
            position: 0,
            closing: Closing::No,
            waker: None,
            input_bytes: 0,
        };
        self.next_client += 1;
        Some(self.clients.add(client))
    }

    /// A client has gone, or is to go.
    pub fn disconnect(&mut self, place: usize) {
        self.unblock(place);
        self.unwatch(place);
        let Some(client) = self.clients.remove(place) else { return };
        self.channels.forget(client.id);
        self.monitors.retain(|id| *id != client.id);
    }

    /// Watches nothing any more for a client.
    pub(super) fn unwatch(&mut self, place: usize) {
        for (database, key, _) in core::mem::take(&mut self.clients.at(place).watched) {
            self.store.unwatch(database, &key);
        }
    }

    /// A client waits no more.
    pub(super) fn unblock(&mut self, place: usize) {
        let client = self.clients.at(place);
        let id = client.id;
        if let Some(blocked) = client.blocked.take() {
            self.waiting.remove(id, &blocked.keys);
            self.effects.waiting = !self.waiting.is_empty();
        }
    }

    /// The end of what a client is sent.
    pub(super) fn reply(&mut self, place: usize) -> Reply<'_> {
        let client = self.clients.at(place);
        let protocol = client.session.protocol;
        Reply::new(&mut client.out, protocol)
    }

    /// Replies with an error.
    pub(super) fn refuse(&mut self, place: usize, text: &str) {
        self.counts.errors += 1;
        self.reply(place).error(text.as_bytes());
    }

    /// Sends a client something that it did not ask for, or ends it if too much waits. `write` writes in the
    /// client's protocol.
    pub(super) fn push(&mut self, id: ClientId, write: impl FnOnce(&mut Reply<'_>)) {
        let limit = self.config.pubsub_limit.hard;
        let Some(client) = self.clients.by_id(id) else { return };
        if client.closing != Closing::No {
            return;
        }
        let protocol: Protocol = client.session.protocol;
        write(&mut Reply::new(&mut client.out, protocol));
        if limit > 0 && client.out.len() > limit {
            client.closing = Closing::Now;
        }
        client.wake();
    }

    /// Whether replies wait until what they tell is durable.
    pub(super) fn is_always_durable(&self) -> bool {
        self.log.is_some() && self.config.appendfsync == Fsync::Always
    }

    /// Seconds since 1970.
    pub(super) fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }

    /// How the server is to end, if it is.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Most bytes of keys and values there were when room was last looked for.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }

    /// Clients at the moment.
    pub fn connected(&self) -> usize {
        self.clients.len()
    }

    /// Tells a client what there is.
    pub(super) fn help(&mut self, place: usize, lines: &[&str]) {
        let mut reply = self.reply(place);
        reply.array(lines.len());
        lines.iter().for_each(|line| reply.simple(line));
    }

    /// There is no such subcommand.
    pub(super) fn unknown_subcommand(&mut self, place: usize, command: &str, args: Arguments<'_>) {
        let text = format!("ERR unknown subcommand '{}'. Try {command} HELP.", shown(args.at(1)));
        self.refuse(place, &text);
    }

    /// The time of a client that waits is over: it gets null.
    pub fn time_out(&mut self, place: usize) {
        let Some(blocked) = &self.clients.at(place).blocked else { return };
        let null_array = blocked.null_array;
        self.unblock(place);
        let mut reply = self.reply(place);
        if null_array { reply.null_array() } else { reply.null() }
    }

    /// Says that the server is to end.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.clients.iter_mut().for_each(Client::wake);
        self.undurable.drain(..).for_each(Waker::wake);
        self.paused.drain(..).for_each(Waker::wake);
        self.keeper_of_log.take().into_iter().for_each(Waker::wake);
    }
}
