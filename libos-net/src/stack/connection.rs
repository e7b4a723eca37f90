//! A connection: a protocol machine, and what the stack knows of it.

use crate::flow::Flow;
use crate::protocol::Protocol;
use alloc::boxed::Box;

/// The name of a connection: a place in the table, and which of those that had this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId {
    pub(super) slot: usize,
    pub(super) generation: u64,
}

/// Who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The listener of this port, until the handshake is over.
    Backlog(u16),
    /// The application, or the queue of those it has not accepted yet.
    Application,
    /// Nobody: it only has to end.
    Nobody,
}

pub(super) struct Connection {
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) flow: Flow,
    pub(super) generation: u64,
    pub(super) owner: Owner,
    /// When it wants to be polled.
    pub(super) due_us: Option<i64>,
    /// When a segment came last.
    pub(super) heard_us: i64,
    /// When it is given up.
    pub(super) expires_us: Option<i64>,
    /// Whether it is in the list of those to be polled.
    pub(super) is_pending: bool,
    /// Whether it is in the list of those that wait for a neighbour's address.
    pub(super) waits_for_neighbor: bool,
}

impl Connection {
    pub(super) fn new(protocol: Box<dyn Protocol>, flow: Flow, generation: u64, owner: Owner) -> Connection {
        Connection {
            protocol,
            flow,
            generation,
            owner,
            due_us: None,
            heard_us: i64::MIN / 2,
            expires_us: None,
            is_pending: false,
            waits_for_neighbor: false,
        }
    }
}
