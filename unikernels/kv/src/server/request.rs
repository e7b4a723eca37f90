//! Requests in turn, as they stand in what a client has sent.

use super::client::{Blocked, Closing, Replies, monitor_line};
use super::state::Server;
use crate::bytes::Bytes;
use crate::command::{Command, Outcome, Run, Wait, flag};
use crate::resp::{Arguments, Limits, Parser};
use alloc::vec::Vec;

/// Bytes of replies after which they are sent, though more requests wait.
const BATCH: usize = 256 * 1024;

/// What is to be done for a client next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More of its requests are to be read.
    Read,
    /// More requests are there, but first what it is to be sent.
    Send,
    /// It waits for keys.
    Wait,
    /// All clients wait, until this time on the clock that never goes back.
    Pause(u64),
    /// Its connection ends.
    Close,
}

impl Server {
    /// Carries out the requests of a client that stand in `input`, as many as can be now. What is to be done
    /// next, and how many bytes of the input are done with.
    pub fn turn(&mut self, place: usize, parser: &mut Parser, input: &[u8]) -> (Next, usize) {
        self.now_ns = self.clock.now_ns();
        self.now_ms = self.clock.now_ms();
        let mut done = 0;
        loop {
            let client = self.clients.at(place);
            client.input_bytes = input.len() - done;
            if client.closing != Closing::No || self.ending.is_some() {
                return (Next::Close, done);
            } else if client.blocked.is_some() {
                return (Next::Wait, done);
            } else if client.out.len() >= BATCH {
                return (Next::Send, done);
            }
            let limits = if client.authenticated { Limits::FULL } else { Limits::UNAUTHENTICATED };
            match parser.next(&input[done..], limits) {
                Ok(Some(bytes)) => {
                    let args = parser.arguments(&input[done..]);
                    if let Some(until_ns) = self.is_paused(place, &args) {
                        // It is read again when the pause is over.
                        *parser = Parser::new();
                        return (Next::Pause(until_ns), done);
                    }
                    self.counts.input += bytes as u64;
                    self.request(place, args);
                    done += bytes;
                }
                Ok(None) => return (Next::Read, done + parser.skip()),
                Err(error) => {
                    self.counts.errors += 1;
                    let client = self.clients.at(place);
                    error.write(&mut client.out);
                    client.closing = Closing::AfterReplies;
                }
            }
        }
    }

    /// Until when a request is to wait, because of `CLIENT PAUSE`.
    fn is_paused(&self, _: usize, args: &Arguments<'_>) -> Option<u64> {
        if self.pause.until_ns <= self.now_ns {
            return None;
        }
        let command = self.index.named(args.at(0));
        // Who can end the pause is heard.
        let waits = match command {
            Some(command) if command.has(flag::ADMIN) || command.name == "client" => false,
            Some(command) => !self.pause.writes_only || command.has(flag::WRITE) || command.name == "exec",
            None => false,
        };
        waits.then_some(self.pause.until_ns)
    }

    /// Carries out one request.
    fn request(&mut self, place: usize, args: Arguments<'_>) {
        self.counts.commands += 1;
        if !self.monitors.is_empty() {
            self.show_to_monitors(place, args);
        }
        let found = self.index.find(&args);
        let client = self.clients.at(place);
        client.commands += 1;
        client.last_ns = self.now_ns;
        let start = client.out.len();
        match found {
            Ok(command) => {
                client.last_command = command.name;
                self.judge(place, command, args);
            }
            Err(error) => {
                if let Some(transaction) = &mut client.transaction {
                    transaction.refused = true;
                }
                self.counts.errors += 1;
                self.reply(place).error(&error.text());
            }
        }
        let client = self.clients.at(place);
        match client.replies {
            Replies::On => {}
            Replies::Off => client.out.truncate(start),
            Replies::Skip => {
                client.out.truncate(start);
                client.replies = Replies::On;
            }
            Replies::SkipNext => client.replies = Replies::Skip,
        }
    }

    /// Whether a command may be carried out now; then it is, or is kept for later.
    fn judge(&mut self, place: usize, command: &'static Command, args: Arguments<'_>) {
        let client = self.clients.at(place);
        let refusal = if !client.authenticated && !command.has(flag::NO_AUTH) {
            Some("NOAUTH Authentication required.".into())
        } else if client.only_listens() && !listens(command.name) {
            Some(alloc::format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                 allowed in this context",
                command.name
            ))
        } else if client.transaction.is_some() && command.has(flag::NO_MULTI) && !command.has(flag::AT_ONCE) {
            Some("ERR Command not allowed inside a transaction".into())
        } else if self.config.maxmemory > 0 && !self.make_room() && command.has(flag::DENYOOM) {
            Some("OOM command not allowed when used memory > 'maxmemory'.".into())
        } else if command.has(flag::WRITE)
            && let Some(error) = &self.log_error
        {
            Some(alloc::format!("MISCONF Errors writing to the AOF file: {error}"))
        } else {
            None
        };
        let client = self.clients.at(place);
        match (refusal, &mut client.transaction) {
            (Some(text), transaction) => {
                if let Some(transaction) = transaction {
                    transaction.refused = true;
                }
                self.refuse(place, &text);
            }
            (None, Some(transaction)) if !command.has(flag::AT_ONCE) && !leaves(command.name) => {
                transaction.commands.push((command, args.to_owned()));
                self.reply(place).simple("QUEUED");
            }
            (None, _) => self.execute(place, command, args),
        }
    }

    /// Carries out a command, and what follows from it.
    fn execute(&mut self, place: usize, command: &'static Command, args: Arguments<'_>) {
        let slower_than = self.config.slowlog_slower_than;
        // Those of constant time can't be slow, unless everything is to be noted.
        let is_timed = slower_than == 0 || slower_than > 0 && !command.has(flag::FAST);
        let start_ns = if is_timed { self.clock.now_ns() } else { 0 };
        if let Some(wait) = self.run(place, command, args) {
            self.block(place, command, wait);
        }
        self.serve_waiting();
        if is_timed {
            let micros = (self.clock.now_ns() - start_ns) / 1000;
            if micros >= slower_than as u64 {
                let (most, now_s) = (self.config.slowlog_max_len, self.now_ms / 1000);
                let client = self.clients.at(place);
                self.slowlog.note(args, micros, now_s, &client.remote, &client.name, most);
            }
        }
    }

    /// Carries out a command, without those who wait for its keys. What it waits for itself.
    fn run(&mut self, place: usize, command: &'static Command, args: Arguments<'_>) -> Option<Wait> {
        if matches!(command.run, Run::Server) {
            match command.name {
                "exec" => self.exec(place),
                _ => self.server_command(place, command, args),
            }
            return None;
        }
        let client = self.clients.at(place);
        let database = client.session.database;
        let (session, out) = (&mut client.session, &mut client.out);
        let start = out.len();
        let outcome = command.run(&mut self.store, session, args, self.now_ms, out, &mut self.effects);
        if out.get(start) == Some(&b'-') {
            self.counts.errors += 1;
        }
        self.follow(database, command.keys.are_many());
        let always = self.is_always_durable();
        if let Some(log) = self.log.as_ref().filter(|_| always) {
            // What was read may not be durable yet, either.
            self.clients.at(place).position = log.position();
        }
        match outcome {
            Outcome::Wait(wait) => Some(wait),
            Outcome::Done | Outcome::Server => None,
        }
    }

    /// A client waits.
    fn block(&mut self, place: usize, command: &'static Command, wait: Wait) {
        let client = self.clients.at(place);
        let database = client.session.database;
        let keys: Vec<(u8, Bytes)> = {
            let args = wait.again.arguments();
            wait.keys.clone().map(|index| (database, Bytes::from(args.at(index)))).collect()
        };
        let deadline_ns = wait.timeout_ms.map(|ms| self.now_ns.saturating_add(ms.saturating_mul(1_000_000)));
        self.waiting.add(client.id, &keys);
        self.effects.waiting = true;
        let (again, null_array) = (wait.again, wait.null_array);
        client.blocked = Some(Blocked { again, command, keys, deadline_ns, null_array });
    }

    /// Serves those who wait for keys that are ready, in the order in which they came.
    fn serve_waiting(&mut self) {
        while !self.effects.ready.is_empty() {
            for key in core::mem::take(&mut self.effects.ready) {
                for id in self.waiting.for_key(&key) {
                    if self.store.find(key.0, &key.1).is_none() {
                        break;
                    }
                    self.try_again(id);
                }
            }
        }
    }

    fn try_again(&mut self, id: u64) {
        let Some(place) = self.clients.place_of(id) else { return };
        let client = self.clients.at(place);
        let Some(blocked) = client.blocked.take() else { return };
        client.session.waited = true;
        let args = blocked.again.arguments();
        let command = self.index.named(args.at(0)).unwrap_or(blocked.command);
        let waits = self.run(place, command, args).is_some();
        let client = self.clients.at(place);
        client.session.waited = false;
        if waits {
            client.blocked = Some(blocked);
            return;
        }
        self.waiting.remove(id, &blocked.keys);
        self.effects.waiting = !self.waiting.is_empty();
        self.clients.at(place).wake();
    }

    /// Carries out what a client has in store, all of it or nothing.
    fn exec(&mut self, place: usize) {
        let client = self.clients.at(place);
        let Some(transaction) = client.transaction.take() else {
            return self.refuse(place, "ERR EXEC without MULTI");
        };
        let watched = core::mem::take(&mut client.watched);
        let (now_ms, mut changed) = (self.now_ms, false);
        for (database, key, version) in watched {
            changed |= self.store.is_changed(database, &key, version, now_ms);
            self.store.unwatch(database, &key);
        }
        if transaction.refused {
            return self.refuse(place, "EXECABORT Transaction discarded because of previous errors.");
        }
        if changed {
            return self.reply(place).null_array();
        }
        self.reply(place).array(transaction.commands.len());
        self.clients.at(place).session.never_waits = true;
        let start = self.log.as_mut().map(|log| {
            log.begin_transaction();
            log.position()
        });
        for (command, args) in &transaction.commands {
            // It can't wait, as it is told.
            self.run(place, command, args.arguments());
        }
        if let (Some(log), Some(start)) = (&mut self.log, start) {
            log.end_transaction(start);
        }
        self.clients.at(place).session.never_waits = false;
    }

    fn show_to_monitors(&mut self, place: usize, args: Arguments<'_>) {
        // Not what has a password in it.
        let is_secret =
            [&b"auth"[..], b"hello", b"monitor"].iter().any(|name| args.at(0).eq_ignore_ascii_case(name));
        if is_secret {
            return;
        }
        let (now_ns, now_ms) = (self.now_ns, self.now_ms);
        let line = monitor_line(now_ns, now_ms, self.clients.at(place), args);
        for id in self.monitors.clone() {
            self.push(id, |reply| reply.raw(&line));
        }
    }
}

/// Whether a client in RESP2 that has subscribed may ask for it.
fn listens(name: &str) -> bool {
    matches!(
        name,
        "subscribe"
            | "psubscribe"
            | "ssubscribe"
            | "unsubscribe"
            | "punsubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

/// Whether it is carried out at once in a transaction, which ends with it.
fn leaves(name: &str) -> bool {
    matches!(name, "quit" | "reset")
}
