//! Connections by place and by flow.

use super::connection::{Connection, ConnectionId, Owner};
use crate::flow::Flow;
use crate::protocol::{Counted, Protocol};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

/// A hash with a key that nobody outside knows: the ends of flows are chosen by strangers, who would choose
/// such that all fall into one bucket.
#[derive(Clone)]
pub(super) struct Keyed(u64, u64);

impl Keyed {
    /// A hash with this key.
    pub(super) fn new(first: u64, second: u64) -> Keyed {
        Keyed(first, second)
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

pub(super) struct Table {
    slots: Vec<Option<Box<Connection>>>,
    vacant: Vec<usize>,
    by_flow: HashMap<Flow, usize, Keyed>,
    next_generation: u64,
    /// What connections have counted that are gone.
    counted: Counted,
}

impl Table {
    pub(super) fn new(key: (u64, u64)) -> Table {
        Table {
            slots: Vec::new(),
            vacant: Vec::new(),
            by_flow: HashMap::with_hasher(Keyed::new(key.0, key.1)),
            next_generation: 0,
            counted: Counted::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_flow.len()
    }

    /// Places, vacant ones included.
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    /// Connections that there ever were.
    pub(super) fn generations(&self) -> u64 {
        self.next_generation
    }

    pub(super) fn find(&self, flow: &Flow) -> Option<usize> {
        self.by_flow.get(flow).copied()
    }

    /// Adds a connection for a flow that has none.
    pub(super) fn insert(&mut self, protocol: Box<dyn Protocol>, flow: Flow, owner: Owner) -> ConnectionId {
        let generation = self.next_generation;
        self.next_generation += 1;
        let connection = Box::new(Connection::new(protocol, flow, generation, owner));
        let slot = self.vacant.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(vacant) => *vacant = Some(connection),
            None => self.slots.push(Some(connection)),
        }
        self.by_flow.insert(flow, slot);
        ConnectionId { slot, generation }
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Box<Connection>> {
        let connection = self.slots.get_mut(slot)?.take()?;
        self.counted = self.counted.and(connection.protocol.counted());
        self.vacant.push(slot);
        self.by_flow.remove(&connection.flow);
        Some(connection)
    }

    pub(super) fn at(&mut self, slot: usize) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.at(id.slot).filter(|connection| connection.generation == id.generation)
    }

    /// What all connections have counted, those that are gone included. Looks at each.
    pub(super) fn counted(&self) -> Counted {
        let here = self.slots.iter().flatten().map(|connection| connection.protocol.counted());
        here.fold(self.counted, Counted::and)
    }

    /// Whether this is when the connection at a place wants to be polled.
    pub(super) fn is_due(&self, due_us: i64, slot: usize) -> bool {
        let connection = self.slots.get(slot).and_then(Option::as_deref);
        connection.is_some_and(|connection| connection.due_us == Some(due_us))
    }

    /// The name of the connection that has a place now.
    pub(super) fn id_at(&mut self, slot: usize) -> Option<ConnectionId> {
        self.at(slot).map(|connection| ConnectionId { slot, generation: connection.generation })
    }
}
