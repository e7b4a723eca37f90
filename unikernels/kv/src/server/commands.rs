//! Commands that the server carries out itself: which function does which.

use super::channels::Kind;
use super::client::{BAD_NAME, Client, Closing, Replies, is_name};
use super::state::{Ending, Server};
use crate::command::{Command, Session, shown};
use crate::resp::{Arguments, Protocol};
use alloc::format;
use core::mem;

impl Server {
    /// Carries out a command of the server.
    pub(super) fn server_command(&mut self, place: usize, command: &'static Command, args: Arguments<'_>) {
        match command.name {
            "ping" => self.ping(place, args),
            "auth" => self.auth(place, args),
            "hello" => self.hello(place, args),
            "quit" => {
                self.reply(place).ok();
                self.clients.at(place).closing = Closing::AfterReplies;
            }
            "reset" => self.reset(place),
            "multi" => self.multi(place),
            "discard" => self.discard(place),
            "watch" => self.watch(place, args),
            "unwatch" => {
                self.unwatch(place);
                self.reply(place).ok();
            }
            "subscribe" => self.subscribe(place, Kind::Channel, args),
            "psubscribe" => self.subscribe(place, Kind::Pattern, args),
            "ssubscribe" => self.subscribe(place, Kind::Shard, args),
            "unsubscribe" => self.unsubscribe(place, Kind::Channel, args),
            "punsubscribe" => self.unsubscribe(place, Kind::Pattern, args),
            "sunsubscribe" => self.unsubscribe(place, Kind::Shard, args),
            "publish" | "spublish" => {
                let kind = if command.name == "publish" { Kind::Channel } else { Kind::Shard };
                let count = self.publish(kind, args.at(1), args.at(2));
                self.reply(place).count(count);
            }
            "pubsub" => self.pubsub(place, args),
            "client" => self.client_command(place, args),
            "config" => self.config_command(place, args),
            "info" => self.info(place, args),
            "debug" => self.debug(place, args),
            "memory" => self.memory(place, args),
            "latency" => self.latency(place, args),
            "slowlog" => self.slowlog_command(place, args),
            "monitor" => {
                let client = self.clients.at(place);
                if !mem::replace(&mut client.monitors, true) {
                    let id = client.id;
                    self.monitors.push(id);
                }
                self.reply(place).ok();
            }
            "save" | "bgsave" => self.save(place),
            "bgrewriteaof" => self.rewrite_log(place),
            "lastsave" => {
                let ago_s = self.clock.now_ns().saturating_sub(self.committed_ns) / 1_000_000_000;
                let at_s = self.now_s().saturating_sub(ago_s);
                self.reply(place).integer(at_s as i64);
            }
            "shutdown" => self.shutdown(place, args),
            "role" => {
                let mut reply = self.reply(place);
                reply.array(3);
                reply.bulk(b"master");
                reply.integer(0);
                reply.array(0);
            }
            "replicaof" => {
                if args.at(1).eq_ignore_ascii_case(b"no") && args.at(2).eq_ignore_ascii_case(b"one") {
                    return self.reply(place).ok();
                }
                self.refuse(place, "ERR this server can't be a replica of another");
            }
            "wait" => self.reply(place).integer(0),
            "acl" => self.acl(place, args),
            other => self.refuse(place, &format!("ERR '{other}' is not done by this server")),
        }
    }

    fn ping(&mut self, place: usize, args: Arguments<'_>) {
        if args.len() > 2 {
            return self.refuse(place, "ERR wrong number of arguments for 'ping' command");
        }
        let only_listens = self.clients.at(place).only_listens();
        let mut reply = self.reply(place);
        match args.get(1) {
            text if only_listens => {
                reply.array(2);
                reply.bulk(b"pong");
                reply.bulk(text.unwrap_or_default());
            }
            Some(text) => reply.bulk(text),
            None => reply.simple("PONG"),
        }
    }

    /// Whether a name and a password are right. There is one user.
    fn is_right(&self, user: &[u8], password: &[u8]) -> bool {
        let wanted = self.config.requirepass.as_bytes();
        // All bytes are compared, so that the time does not tell how many are right.
        let differs = wanted.iter().zip(password).fold(0, |all, (left, right)| all | (left ^ right));
        user == b"default" && (wanted.is_empty() || wanted.len() == password.len() && differs == 0)
    }

    fn auth(&mut self, place: usize, args: Arguments<'_>) {
        let (user, password) = match (args.len(), args.get(1), args.get(2)) {
            (2, Some(password), None) => (&b"default"[..], password),
            (3, Some(user), Some(password)) => (user, password),
            _ => return self.refuse(place, "ERR syntax error"),
        };
        if args.len() == 2 && self.config.requirepass.is_empty() {
            let text = "ERR AUTH <password> called without any password configured for the default user. Are you \
                        sure your configuration is correct?";
            return self.refuse(place, text);
        }
        if !self.is_right(user, password) {
            return self.refuse(place, "WRONGPASS invalid username-password pair or user is disabled.");
        }
        self.clients.at(place).authenticated = true;
        self.reply(place).ok();
    }

    fn hello(&mut self, place: usize, args: Arguments<'_>) {
        let mut protocol = self.clients.at(place).session.protocol;
        if let Some(version) = args.get(1) {
            protocol = match crate::number::parse_i64(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return self.refuse(place, "NOPROTO unsupported protocol version"),
                None => {
                    let text = "ERR Protocol version is not an integer or out of range";
                    return self.refuse(place, text);
                }
            };
        }
        let (mut at, mut name, mut right) = (2, None, false);
        while at < args.len() {
            let word = args.at(at).to_ascii_lowercase();
            match (&*word, args.len() - at) {
                (b"auth", 3..) if self.is_right(args.at(at + 1), args.at(at + 2)) => {
                    right = true;
                    at += 3;
                }
                (b"auth", 3..) => {
                    return self
                        .refuse(place, "WRONGPASS invalid username-password pair or user is disabled.");
                }
                (b"setname", 2..) if is_name(args.at(at + 1)) => {
                    name = Some(args.at(at + 1));
                    at += 2;
                }
                (b"setname", 2..) => return self.refuse(place, BAD_NAME),
                _ => {
                    let text = format!("ERR Syntax error in HELLO option '{}'", shown(args.at(at)));
                    return self.refuse(place, &text);
                }
            }
        }
        let client = self.clients.at(place);
        client.authenticated |= right;
        if !client.authenticated {
            let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
                        <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
                        RESP protocol version at the same time";
            return self.refuse(place, text);
        }
        if let Some(name) = name {
            client.name = name.into();
        }
        client.session.protocol = protocol;
        let id = client.id;
        let mut reply = self.reply(place);
        reply.map(7);
        for (key, value) in [("server", "redis"), ("version", super::info::REDIS_VERSION)] {
            reply.bulk(key.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"proto");
        reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
        reply.bulk(b"id");
        reply.integer(id as i64);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            reply.bulk(key.as_bytes());
            reply.bulk(value.as_bytes());
        }
        reply.bulk(b"modules");
        reply.array(0);
    }

    /// Makes a client like one that has just come.
    fn reset(&mut self, place: usize) {
        self.unwatch(place);
        self.unsubscribe_all(place);
        let open = self.config.requirepass.is_empty();
        let client: &mut Client = self.clients.at(place);
        client.transaction = None;
        client.session = Session::default();
        client.authenticated = open;
        client.replies = Replies::On;
        client.name = Default::default();
        client.monitors = false;
        let id = client.id;
        self.monitors.retain(|other| *other != id);
        self.reply(place).simple("RESET");
    }

    fn acl(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"whoami", 2) => self.reply(place).bulk(b"default"),
            (b"users", 2) => {
                let mut reply = self.reply(place);
                reply.array(1);
                reply.bulk(b"default");
            }
            _ => {
                self.refuse(place, "ERR there is one user, 'default': its password is CONFIG SET requirepass")
            }
        }
    }

    fn save(&mut self, place: usize) {
        let text = "ERR there are no snapshots; what is written is in the log: appendonly=yes, BGREWRITEAOF";
        self.refuse(place, text);
    }

    fn rewrite_log(&mut self, place: usize) {
        let begun = match &mut self.log {
            None => {
                Err("ERR there is no log; appendonly=yes on the command line of the image makes one".into())
            }
            Some(log) if log.status().rewriting => {
                Err("ERR Background append only file rewriting already in progress".into())
            }
            Some(log) => log.begin_rewrite().map_err(|error| format!("ERR {error}")),
        };
        match begun {
            Ok(()) => {
                self.keeper_of_log.take().into_iter().for_each(core::task::Waker::wake);
                self.reply(place).simple("Background append only file rewriting started");
            }
            Err(text) => self.refuse(place, &text),
        }
    }

    fn shutdown(&mut self, place: usize, args: Arguments<'_>) {
        let mut ending = Ending::Saved;
        for word in args.from(1) {
            match &*word.to_ascii_lowercase() {
                b"nosave" => ending = Ending::Unsaved,
                b"save" | b"now" | b"force" => {}
                b"abort" => return self.refuse(place, "ERR No shutdown in progress."),
                _ => return self.refuse(place, "ERR syntax error"),
            }
        }
        self.end(ending);
    }
}
