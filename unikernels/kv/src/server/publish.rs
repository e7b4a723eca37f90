//! Subscriptions and messages.

use super::channels::Kind;
use super::state::Server;
use crate::bytes::Bytes;
use crate::glob;
use crate::resp::{Arguments, Protocol};
use alloc::vec::Vec;

impl Server {
    /// `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE`.
    pub(super) fn subscribe(&mut self, place: usize, kind: Kind, args: Arguments<'_>) {
        if self.clients.at(place).session.never_waits
            && self.clients.at(place).session.protocol == Protocol::Resp2
        {
            // In a transaction, its answers would not be told from others.
            return self.refuse(place, "ERR SUBSCRIBE isn't allowed for a DENY BLOCKING client");
        }
        let id = self.clients.at(place).id;
        for name in args.from(1) {
            self.channels.subscribe(id, kind, name);
            self.tell_subscription(place, kind.subscribed(), Some(name), kind);
        }
    }

    /// `UNSUBSCRIBE`, `PUNSUBSCRIBE`, `SUNSUBSCRIBE`.
    pub(super) fn unsubscribe(&mut self, place: usize, kind: Kind, args: Arguments<'_>) {
        let id = self.clients.at(place).id;
        let mut names: Vec<Bytes> = args.from(1).map(Bytes::from).collect();
        if args.len() == 1 {
            names = self.channels.names_of(id, kind);
            if names.is_empty() {
                self.tell_subscription(place, kind.unsubscribed(), None, kind);
            }
        }
        for name in names {
            self.channels.unsubscribe(id, kind, &name);
            self.tell_subscription(place, kind.unsubscribed(), Some(&name), kind);
        }
    }

    /// Tells a client to what it has subscribed now.
    fn tell_subscription(&mut self, place: usize, word: &[u8], name: Option<&[u8]>, kind: Kind) {
        let id = self.clients.at(place).id;
        let plain = self.channels.count_of(id, &[Kind::Channel, Kind::Pattern]);
        let shards = self.channels.count_of(id, &[Kind::Shard]);
        self.clients.at(place).subscriptions = [plain, shards];
        let mut reply = self.reply(place);
        reply.push(3);
        reply.bulk(word);
        reply.bulk_or_null(name);
        reply.count(if kind == Kind::Shard { shards } else { plain });
    }

    /// Ends all subscriptions of a client.
    pub(super) fn unsubscribe_all(&mut self, place: usize) {
        let client = self.clients.at(place);
        client.subscriptions = [0, 0];
        let id = client.id;
        self.channels.forget(id);
    }

    /// `PUBLISH`, `SPUBLISH`: sends a message to who has subscribed. How many got it.
    pub(super) fn publish(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> usize {
        let mut count = 0;
        let word: &[u8] = if kind == Kind::Shard { b"smessage" } else { b"message" };
        for id in self.channels.subscribers(kind, channel) {
            self.push(id, |reply| {
                reply.push(3);
                [word, channel, message].into_iter().for_each(|part| reply.bulk(part));
            });
            count += 1;
        }
        if kind == Kind::Shard {
            return count;
        }
        let matching = self.channels.patterns().filter(|(pattern, _)| glob::matches(pattern, channel));
        let matching: Vec<(Bytes, Vec<u64>)> =
            matching.map(|(pattern, clients)| (pattern.clone(), clients.iter().copied().collect())).collect();
        for (pattern, clients) in matching {
            for id in clients {
                self.push(id, |reply| {
                    reply.push(4);
                    [&b"pmessage"[..], &pattern, channel, message]
                        .into_iter()
                        .for_each(|part| reply.bulk(part));
                });
                count += 1;
            }
        }
        count
    }

    /// `PUBSUB`.
    pub(super) fn pubsub(&mut self, place: usize, args: Arguments<'_>) {
        let name = args.at(1).to_ascii_lowercase();
        let kind = if name.starts_with(b"shard") { Kind::Shard } else { Kind::Channel };
        match (&*name, args.len()) {
            (b"channels" | b"shardchannels", 2 | 3) => {
                let pattern = args.get(2).unwrap_or(b"*");
                let names: Vec<Bytes> = self
                    .channels
                    .names(kind)
                    .filter(|(name, _)| glob::matches(pattern, name))
                    .map(|(name, _)| name.clone())
                    .collect();
                let mut reply = self.reply(place);
                reply.array(names.len());
                names.iter().for_each(|name| reply.bulk(name));
            }
            (b"numsub" | b"shardnumsub", _) => {
                let counts: Vec<(&[u8], usize)> =
                    args.from(2).map(|name| (name, self.channels.subscribers(kind, name).len())).collect();
                let mut reply = self.reply(place);
                reply.array(2 * counts.len());
                for (name, count) in counts {
                    reply.bulk(name);
                    reply.count(count);
                }
            }
            (b"numpat", 2) => {
                let count = self.channels.patterns().count();
                self.reply(place).count(count);
            }
            (b"help", 2) => self.help(
                place,
                &[
                    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                    "CHANNELS [<pattern>]",
                    "NUMPAT",
                    "NUMSUB [<channel> ...]",
                    "SHARDCHANNELS [<pattern>]",
                    "SHARDNUMSUB [<channel> ...]",
                ],
            ),
            _ => self.unknown_subcommand(place, "PUBSUB", args),
        }
    }
}
