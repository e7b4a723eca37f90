//! Who has subscribed to what.

use crate::bytes::Bytes;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Number of a client.
pub type ClientId = u64;

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Channels by name.
    Channel,
    /// Channels whose names match a pattern.
    Pattern,
    /// Channels of a shard. There is one shard, and its channels are apart from the others.
    Shard,
}

impl Kind {
    /// Word of the answer to a subscription.
    pub fn subscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"subscribe",
            Kind::Pattern => b"psubscribe",
            Kind::Shard => b"ssubscribe",
        }
    }

    /// Word of the answer to its end.
    pub fn unsubscribed(self) -> &'static [u8] {
        match self {
            Kind::Channel => b"unsubscribe",
            Kind::Pattern => b"punsubscribe",
            Kind::Shard => b"sunsubscribe",
        }
    }
}

/// Subscriptions: by name, in the order of the clients' numbers.
#[derive(Default)]
pub struct Channels {
    names: BTreeMap<(Kind, Bytes), BTreeSet<ClientId>>,
    of_client: BTreeMap<ClientId, BTreeSet<(Kind, Bytes)>>,
}

impl Channels {
    /// A client subscribes.
    pub fn subscribe(&mut self, client: ClientId, kind: Kind, name: &[u8]) {
        let name = (kind, Bytes::from(name));
        self.of_client.entry(client).or_default().insert(name.clone());
        self.names.entry(name).or_default().insert(client);
    }

    /// A client subscribes no more.
    pub fn unsubscribe(&mut self, client: ClientId, kind: Kind, name: &[u8]) {
        let name = (kind, Bytes::from(name));
        if let Some(names) = self.of_client.get_mut(&client) {
            names.remove(&name);
            if names.is_empty() {
                self.of_client.remove(&client);
            }
        }
        if let Some(clients) = self.names.get_mut(&name) {
            clients.remove(&client);
            if clients.is_empty() {
                self.names.remove(&name);
            }
        }
    }

    /// What a client has subscribed to of a kind.
    pub fn names_of(&self, client: ClientId, kind: Kind) -> Vec<Bytes> {
        let all = self.of_client.get(&client).into_iter().flatten();
        all.filter(|(of, _)| *of == kind).map(|(_, name)| name.clone()).collect()
    }

    /// To how many a client has subscribed.
    pub fn count_of(&self, client: ClientId, kinds: &[Kind]) -> usize {
        let all = self.of_client.get(&client).into_iter().flatten();
        all.filter(|(kind, _)| kinds.contains(kind)).count()
    }

    /// A client has gone.
    pub fn forget(&mut self, client: ClientId) {
        for (kind, name) in self.of_client.remove(&client).unwrap_or_default() {
            self.unsubscribe(client, kind, &name);
        }
    }

    /// Who has subscribed to a channel by its name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> Vec<ClientId> {
        let found = self.names.get(&(kind, Bytes::from(name)));
        found.map(|clients| clients.iter().copied().collect()).unwrap_or_default()
    }

    /// All patterns and who has subscribed to them.
    pub fn patterns(&self) -> impl Iterator<Item = (&Bytes, &BTreeSet<ClientId>)> {
        let patterns = self.names.range((Kind::Pattern, Bytes::new())..(Kind::Shard, Bytes::new()));
        patterns.map(|((_, name), clients)| (name, clients))
    }

    /// Names of a kind to which somebody has subscribed, and how many.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = (&Bytes, usize)> {
        self.names.iter().filter(move |((of, _), _)| *of == kind).map(|((_, name), all)| (name, all.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_come_and_go() {
        let mut channels = Channels::default();
        for (client, kind, name) in [
            (1, Kind::Channel, "a"),
            (2, Kind::Channel, "a"),
            (1, Kind::Pattern, "a*"),
            (1, Kind::Shard, "a"),
        ] {
            channels.subscribe(client, kind, name.as_bytes());
        }
        assert_eq!(channels.subscribers(Kind::Channel, b"a"), [1, 2]);
        assert_eq!(channels.subscribers(Kind::Shard, b"a"), [1]);
        assert_eq!(channels.patterns().count(), 1);
        assert_eq!(channels.count_of(1, &[Kind::Channel, Kind::Pattern]), 2);
        channels.unsubscribe(1, Kind::Channel, b"a");
        assert_eq!(channels.subscribers(Kind::Channel, b"a"), [2]);
        channels.forget(1);
        channels.forget(2);
        assert!(channels.names.is_empty() && channels.of_client.is_empty());
    }
}
