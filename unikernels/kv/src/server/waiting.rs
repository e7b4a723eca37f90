//! Clients that wait for keys.

use super::channels::ClientId;
use crate::bytes::Bytes;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Who waits for which key, in the order in which they came.
#[derive(Default)]
pub struct Waiting {
    by_key: BTreeMap<(u8, Bytes), VecDeque<ClientId>>,
    clients: usize,
}

impl Waiting {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.clients == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.clients
    }

    /// A client waits for keys.
    pub fn add(&mut self, client: ClientId, keys: &[(u8, Bytes)]) {
        self.clients += 1;
        for key in keys {
            let queue = self.by_key.entry(key.clone()).or_default();
            // A key may be named twice.
            if !queue.contains(&client) {
                queue.push_back(client);
            }
        }
    }

    /// A client waits no more.
    pub fn remove(&mut self, client: ClientId, keys: &[(u8, Bytes)]) {
        self.clients -= 1;
        for key in keys {
            if let Some(queue) = self.by_key.get_mut(key) {
                queue.retain(|other| *other != client);
                if queue.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
    }

    /// Who waits for a key, the first first.
    pub fn for_key(&self, key: &(u8, Bytes)) -> Vec<ClientId> {
        self.by_key.get(key).map(|queue| queue.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_come_is_the_first_in_every_queue() {
        let key = |name: &str| (0, Bytes::from(name.as_bytes()));
        let (a, b) = (key("a"), key("b"));
        let mut waiting = Waiting::default();
        waiting.add(1, &[a.clone(), b.clone(), a.clone()]);
        waiting.add(2, core::slice::from_ref(&b));
        assert_eq!((waiting.for_key(&a), waiting.for_key(&b)), (Vec::from([1]), Vec::from([1, 2])));
        waiting.remove(1, &[a.clone(), b.clone(), a.clone()]);
        assert_eq!((waiting.for_key(&a), waiting.for_key(&b)), (Vec::new(), Vec::from([2])));
        waiting.remove(2, &[b]);
        assert!(waiting.is_empty() && waiting.by_key.is_empty());
    }
}
