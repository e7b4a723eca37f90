//! `CLIENT`.

use super::client::{BAD_NAME, Client, Closing, Replies, is_name};
use super::state::{Pause, Server};
use crate::command::shown;
use crate::number::parse_i64;
use crate::resp::Arguments;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const HELP: [&str; 17] = [
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "GETREDIR",
    "ID",
    "INFO",
    "KILL <ip:port>",
    "KILL [ID <id>] [TYPE normal|pubsub] [USER default] [ADDR <ip:port>] [LADDR <ip:port>] [SKIPME yes|no]",
    "LIST [TYPE normal|pubsub] [ID <id> ...]",
    "NO-EVICT (ON|OFF)",
    "PAUSE <timeout> [WRITE|ALL]",
    "REPLY (ON|OFF|SKIP)",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "SETNAME <name>",
    "TRACKINGINFO",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "UNPAUSE",
    "HELP",
];

impl Server {
    /// `CLIENT`.
    pub(super) fn client_command(&mut self, place: usize, args: Arguments<'_>) {
        let client = self.clients.at(place);
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"id", 2) => {
                let id = client.id;
                self.reply(place).integer(id as i64);
            }
            (b"getname", 2) => {
                let name = client.name.clone();
                self.reply(place).bulk_or_null((!name.is_empty()).then_some(&*name));
            }
            (b"setname", 3) if is_name(args.at(2)) => {
                client.name = args.at(2).into();
                self.reply(place).ok();
            }
            (b"setname", 3) => self.refuse(place, BAD_NAME),
            (b"setinfo", 4) => self.set_info(place, args.at(2), args.at(3)),
            (b"info", 2) => {
                let line = self.clients.at(place).line(self.now_ns) + "\n";
                self.reply(place).verbatim(line.as_bytes());
            }
            (b"list", _) => self.list(place, args),
            (b"kill", 3..) => self.kill(place, args),
            (b"pause", 3 | 4) => self.pause(place, args),
            (b"unpause", 2) => {
                self.pause = Pause::default();
                self.paused.drain(..).for_each(core::task::Waker::wake);
                self.reply(place).ok();
            }
            (b"no-evict", 3) => match on_or_off(args.at(2)) {
                Some(on) => {
                    client.no_evict = on;
                    self.reply(place).ok();
                }
                None => self.refuse(place, "ERR syntax error"),
            },
            (b"no-touch", 3) => {
                self.refuse(place, "ERR CLIENT NO-TOUCH is not done: all uses of keys count");
            }
            (b"reply", 3) => match &*args.at(2).to_ascii_lowercase() {
                b"on" => {
                    client.replies = Replies::On;
                    self.reply(place).ok();
                }
                b"off" => client.replies = Replies::Off,
                b"skip" if client.replies != Replies::Off => client.replies = Replies::SkipNext,
                b"skip" => {}
                _ => self.refuse(place, "ERR syntax error"),
            },
            (b"unblock", 3 | 4) => self.unblock_command(place, args),
            (b"getredir", 2) => self.reply(place).integer(-1),
            (b"tracking", 3..) if args.at(2).eq_ignore_ascii_case(b"off") => self.reply(place).ok(),
            (b"tracking" | b"caching", 3..) => {
                self.refuse(place, "ERR tracking of keys that a client caches is not done by this server");
            }
            (b"trackinginfo", 2) => {
                let mut reply = self.reply(place);
                reply.map(3);
                reply.bulk(b"flags");
                reply.set(1);
                reply.bulk(b"off");
                reply.bulk(b"redirect");
                reply.integer(-1);
                reply.bulk(b"prefixes");
                reply.array(0);
            }
            (b"help", 2) => self.help(place, &HELP),
            _ => self.unknown_subcommand(place, "CLIENT", args),
        }
    }

    fn set_info(&mut self, place: usize, what: &[u8], value: &[u8]) {
        let number = match &*what.to_ascii_lowercase() {
            b"lib-name" => 0,
            b"lib-ver" => 1,
            _ => {
                let text = format!("ERR Unrecognized option '{}'", shown(what));
                return self.refuse(place, &text);
            }
        };
        if !is_name(value) {
            let text = format!("ERR {} cannot contain spaces, newlines or special characters.", shown(what));
            return self.refuse(place, &text);
        }
        self.clients.at(place).library[number] = shown(value);
        self.reply(place).ok();
    }

    fn list(&mut self, place: usize, args: Arguments<'_>) {
        let mut ids = None;
        let mut kind = None;
        match (args.get(2).map(<[u8]>::to_ascii_lowercase).as_deref(), args.len()) {
            (None, _) => {}
            (Some(b"type"), 4) => match Kind::named(args.at(3)) {
                Some(named) => kind = Some(named),
                None => {
                    let text = format!("ERR Unknown client type '{}'", shown(args.at(3)));
                    return self.refuse(place, &text);
                }
            },
            (Some(b"id"), 4..) => {
                let parsed: Option<Vec<i64>> = args.from(3).map(parse_i64).collect();
                match parsed {
                    Some(parsed) => ids = Some(parsed),
                    None => return self.refuse(place, "ERR Invalid client ID"),
                }
            }
            _ => return self.refuse(place, "ERR syntax error"),
        }
        let now_ns = self.now_ns;
        let mut text = String::new();
        for client in self.clients.iter() {
            let wanted = ids.as_ref().is_none_or(|ids| ids.contains(&(client.id as i64)))
                && kind.is_none_or(|kind| kind == Kind::of(client));
            if wanted {
                text += &client.line(now_ns);
                text.push('\n');
            }
        }
        self.reply(place).verbatim(text.as_bytes());
    }

    fn kill(&mut self, place: usize, args: Arguments<'_>) {
        let old_form = args.len() == 3;
        let mut filter = Filter::default();
        let mut skips_me = !old_form;
        if old_form {
            filter.remote = Some(args.at(2));
        } else if args.len().is_multiple_of(2) {
            for at in (2..args.len()).step_by(2) {
                let value = args.at(at + 1);
                let right = match &*args.at(at).to_ascii_lowercase() {
                    b"id" => {
                        filter.id = parse_i64(value).and_then(|id| u64::try_from(id).ok());
                        filter.id.is_some()
                    }
                    b"addr" => {
                        filter.remote = Some(value);
                        true
                    }
                    b"laddr" => {
                        filter.local = Some(value);
                        true
                    }
                    b"user" => value == b"default",
                    b"type" => {
                        filter.kind = Kind::named(value);
                        filter.kind.is_some()
                    }
                    b"skipme" => {
                        skips_me = value.eq_ignore_ascii_case(b"yes");
                        skips_me || value.eq_ignore_ascii_case(b"no")
                    }
                    _ => false,
                };
                if !right {
                    return self.refuse(place, "ERR syntax error");
                }
            }
        } else {
            return self.refuse(place, "ERR syntax error");
        }
        let own = self.clients.at(place).id;
        let mut killed = 0;
        for client in self.clients.iter_mut() {
            if client.closing != Closing::No || !filter.takes(client) || skips_me && client.id == own {
                continue;
            }
            killed += 1;
            // Who ends itself still learns how it went.
            client.closing = if client.id == own { Closing::AfterReplies } else { Closing::Now };
            client.wake();
        }
        match (old_form, killed) {
            (true, 0) => self.refuse(place, "ERR No such client"),
            (true, _) => self.reply(place).ok(),
            (false, count) => self.reply(place).count(count),
        }
    }

    fn pause(&mut self, place: usize, args: Arguments<'_>) {
        let writes_only = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"all") => false,
            Some(b"write") => true,
            Some(_) => return self.refuse(place, "ERR CLIENT PAUSE mode must be WRITE or ALL"),
        };
        let Some(ms) = parse_i64(args.at(2)).and_then(|ms| u64::try_from(ms).ok()) else {
            return self.refuse(place, "ERR timeout is not an integer or out of range");
        };
        let until_ns = self.now_ns.saturating_add(ms.saturating_mul(1_000_000)).max(self.pause.until_ns);
        self.pause = Pause { until_ns, writes_only };
        self.reply(place).ok();
    }

    fn unblock_command(&mut self, place: usize, args: Arguments<'_>) {
        let with_error = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"timeout") => false,
            Some(b"error") => true,
            Some(_) => return self.refuse(place, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        };
        let Some(id) = parse_i64(args.at(2)) else {
            return self.refuse(place, "ERR value is not an integer or out of range");
        };
        let other = u64::try_from(id).ok().and_then(|id| self.clients.place_of(id));
        let other = other.filter(|other| self.clients.at(*other).blocked.is_some());
        if let Some(other) = other {
            if with_error {
                self.unblock(other);
                self.refuse(other, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
            } else {
                self.time_out(other);
            }
            self.clients.at(other).wake();
        }
        self.reply(place).count(usize::from(other.is_some()));
    }
}

fn on_or_off(word: &[u8]) -> Option<bool> {
    match &*word.to_ascii_lowercase() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => None,
    }
}

/// What a client is, for those who ask for some of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    PubSub,
    Replica,
}

impl Kind {
    fn named(name: &[u8]) -> Option<Kind> {
        match &*name.to_ascii_lowercase() {
            b"normal" => Some(Kind::Normal),
            b"pubsub" => Some(Kind::PubSub),
            b"replica" | b"slave" | b"master" => Some(Kind::Replica),
            _ => None,
        }
    }

    fn of(client: &Client) -> Kind {
        if client.has_subscriptions() { Kind::PubSub } else { Kind::Normal }
    }
}

/// Which clients are meant.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    remote: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    kind: Option<Kind>,
}

impl Filter<'_> {
    fn takes(&self, client: &Client) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.remote.is_none_or(|remote| remote == client.remote.as_bytes())
            && self.local.is_none_or(|local| local == client.local.as_bytes())
            && self.kind.is_none_or(|kind| kind == Kind::of(client))
    }
}
