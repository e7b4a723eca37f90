//! `MULTI`, `DISCARD`, `WATCH`.

use super::client::Transaction;
use super::state::Server;
use crate::bytes::Bytes;
use crate::resp::Arguments;

impl Server {
    /// Begins a transaction.
    pub(super) fn multi(&mut self, place: usize) {
        let client = self.clients.at(place);
        if client.transaction.is_some() {
            return self.refuse(place, "ERR MULTI calls can not be nested");
        }
        client.transaction = Some(Transaction::default());
        self.reply(place).ok();
    }

    /// Forgets what a client has in store.
    pub(super) fn discard(&mut self, place: usize) {
        if self.clients.at(place).transaction.take().is_none() {
            return self.refuse(place, "ERR DISCARD without MULTI");
        }
        self.unwatch(place);
        self.reply(place).ok();
    }

    /// Has the next transaction of a client fail if one of these keys is changed before.
    pub(super) fn watch(&mut self, place: usize, args: Arguments<'_>) {
        let client = self.clients.at(place);
        if client.transaction.is_some() {
            return self.refuse(place, "ERR WATCH inside MULTI is not allowed");
        }
        let database = client.session.database;
        for key in args.from(1) {
            let version = self.store.watch(database, key, self.now_ms);
            self.clients.at(place).watched.push((database, Bytes::from(key), version));
        }
        self.reply(place).ok();
    }
}
