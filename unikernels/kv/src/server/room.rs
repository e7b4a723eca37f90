//! What follows from a change of keys: the log, the policy, and room for more.

use super::state::Server;
use crate::resp::write_command;

impl Server {
    /// Has the log and the policy follow what a command did in a database, one that names several keys or
    /// another.
    pub(super) fn follow(&mut self, database: u8, among_many: bool) {
        if !self.effects.log.is_empty() {
            let commands = core::mem::take(&mut self.effects.log);
            self.record(database, &commands);
            self.effects.log = commands;
            self.effects.log.clear();
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.follow(&self.store, self.now_ms, among_many);
        }
        self.counts.changes += core::mem::take(&mut self.effects.changes);
    }

    /// Removes keys until there is room. Whether there is.
    pub(super) fn make_room(&mut self) -> bool {
        let most = usize::try_from(self.config.maxmemory).unwrap_or(usize::MAX);
        self.peak_bytes = self.peak_bytes.max(self.store.used_bytes());
        while most > 0 && self.store.used_bytes() > most {
            let Some(keeper) = &mut self.keeper else { return false };
            let Some(at) = keeper.victim(self.now_ms) else { return false };
            let (key, _) = self.store.remove(at);
            self.counts.evicted += 1;
            if self.effects.logging {
                write_command(&mut self.effects.log, [&b"DEL"[..], &key].into_iter());
            }
            self.follow(at.database, false);
        }
        true
    }
}
