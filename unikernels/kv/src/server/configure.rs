//! `CONFIG`.

use super::config::{Config, Refused};
use super::state::{Counts, Server};
use crate::command::shown;
use crate::glob;
use crate::resp::Arguments;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Server {
    /// `CONFIG`.
    pub(super) fn config_command(&mut self, place: usize, args: Arguments<'_>) {
        match (&*args.at(1).to_ascii_lowercase(), args.len()) {
            (b"get", 3..) => self.config_get(place, args),
            (b"set", 4..) if args.len().is_multiple_of(2) => self.config_set(place, args),
            (b"set", 4..) => self.refuse(place, "ERR wrong number of arguments for 'config|set' command"),
            (b"resetstat", 2) => {
                self.counts = Counts::default();
                self.store.statistics = Default::default();
                self.reply(place).ok();
            }
            (b"rewrite", 2) => {
                self.refuse(
                    place,
                    "ERR The server is running without a config file: its words are the image's",
                );
            }
            (b"help", 2) => {
                let lines = [
                    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                    "GET <pattern> [<pattern> ...]",
                    "SET <directive> <value> [<directive> <value> ...]",
                    "RESETSTAT",
                ];
                self.help(place, &lines);
            }
            _ => self.unknown_subcommand(place, "CONFIG", args),
        }
    }

    fn config_get(&mut self, place: usize, args: Arguments<'_>) {
        let patterns: Vec<Vec<u8>> = args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
        let matching = |name: &&str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
        let found: Vec<(&str, String)> = Config::names()
            .filter(matching)
            .filter_map(|name| Some((name, self.config.get(name)?)))
            .collect();
        let mut reply = self.reply(place);
        reply.map(found.len());
        for (name, value) in found {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }

    /// All or nothing is set.
    fn config_set(&mut self, place: usize, args: Arguments<'_>) {
        let mut next = self.config.clone();
        for at in (2..args.len()).step_by(2) {
            let name = String::from_utf8_lossy(args.at(at)).to_ascii_lowercase();
            let value = String::from_utf8_lossy(args.at(at + 1));
            let why = match next.set(&name, &value) {
                Ok(()) => continue,
                Err(Refused::Unknown) => {
                    let text = format!(
                        "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                        shown(args.at(at))
                    );
                    return self.refuse(place, &text);
                }
                Err(Refused::Immutable) => "can't set immutable config".into(),
                Err(Refused::Value(why)) => why,
            };
            let text = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
            return self.refuse(place, &text);
        }
        let policy = self.config.policy;
        self.config = next;
        if self.config.policy != policy {
            self.choose_policy();
        }
        if self.config.maxmemory > 0 {
            self.make_room();
        }
        // Who waits for what need not be durable any more.
        self.undurable.drain(..).for_each(core::task::Waker::wake);
        self.reply(place).ok();
    }
}
