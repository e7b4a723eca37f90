//! The stack: frames to connections, connections to frames.
//!
//! Every connection has a protocol machine of its own. Of all connections only those are looked at that a
//! frame came for, that the application has touched, or that are due. What is not TCP (ARP, ICMP, UDP, DHCP)
//! goes to one common set of sockets.

mod accept;
mod addresses;
mod alarms;
mod connection;
mod handle;
mod refusals;
mod table;

use crate::config::Config;
use crate::flow::{Deadlines, Flow, Kind, checksum, classify};
use crate::link::{Frame, Limited, Link, Offloads};
use crate::protocol::{self, Counted, Outlet, Paths, Port, Protocol, Secret, TcpState as State, instant};
pub use accept::ListenError;
use accept::{Accepted, DYNAMIC_PORTS, Listener};
use addresses::Addresses;
use alarms::Alarms;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub(crate) use connection::ConnectionId;
use connection::Owner;
use core::task::Waker;
pub(crate) use handle::{Handle, micros};
use hashbrown::HashMap;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::{AnySocket, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use table::{Keyed, Table};

/// Frames that one call takes: then connections answer.
const FRAMES_AT_ONCE: usize = 64;
/// How long a connection without owner may take to end.
const LINGER_US: i64 = 60_000_000;
/// How long a datagram may wait for its way after its socket is gone.
const LEAVES_US: i64 = 3_000_000;
/// Connections without owner that wait for stray segments at most: then the oldest goes.
const MOST_IN_TIME_WAIT: usize = 256;
/// For so long after a segment came from there, a neighbour is known.
const NEIGHBOR_US: i64 = 1_000_000;

/// What a stack has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that came.
    pub frames_received: u64,
    /// Frames that were sent.
    pub frames_sent: u64,
    /// Times that a connection was polled, for whatever reason.
    pub connections_polled: u64,
    /// Segments that were not looked into: fragments, and behind extension headers.
    pub hidden_segments: u64,
    /// Requests for a connection for which there was no room.
    pub refused_connections: u64,
    /// Requests for a connection that were answered without keeping anything, as there was no room.
    pub cookies_sent: u64,
    /// Connections that came of them.
    pub cookies_accepted: u64,
    /// Segments of no connection, and datagrams for ports that nobody has, that were not answered, as there
    /// were too many.
    pub ignored_segments: u64,
    /// Frames that were dropped because of a checksum that nobody had checked before.
    pub wrong_checksums: u64,
    /// Bytes of frames that came in several pages, and were copied into one piece. Sockets copy besides: each
    /// byte once between the application and its buffer, once between that and a frame.
    pub bytes_copied: u64,
    /// Addresses that could not be had, since somebody else on the link has them.
    pub duplicate_addresses: u64,
    /// Connections now.
    pub connections: usize,
    /// What all connections have counted, those that have ended included.
    pub tcp: Counted,
}

pub(crate) struct Stack {
    link: Box<Limited>,
    interface: Interface,
    paths: Paths,
    /// What is not TCP.
    common: SocketSet<'static>,
    common_due_us: Option<i64>,
    common_is_pending: bool,
    /// Sockets of UDP that nobody has any more and that have something to send, and until when.
    leaving: Vec<(SocketHandle, i64)>,
    addresses: Addresses,
    /// Without sockets: it answers segments of no connection.
    strangers: SocketSet<'static>,
    /// Refusals since a time.
    refusals: (i64, u32),
    table: Table,
    listeners: HashMap<u16, Listener, Keyed>,
    deadlines: Deadlines,
    pending: Vec<usize>,
    waiting_for_neighbor: Vec<usize>,
    /// Ended connections, the oldest first.
    in_time_wait: alloc::collections::VecDeque<ConnectionId>,
    next_port: u16,
    /// Whether checksums of TCP and UDP are looked at here, and not in sockets.
    checks: bool,
    secret: Secret,
    alarms: Alarms,
    statistics: Statistics,
}

impl Stack {
    pub(crate) fn new(link: Box<dyn Link>, config: &Config, now_us: i64) -> Stack {
        let mut link = Box::new(Limited::new(link, config.mtu));
        let seed = config.seed;
        let hardware = EthernetAddress(link.address());
        let mut settings = smoltcp::iface::Config::new(HardwareAddress::Ethernet(hardware));
        settings.random_seed = seed[0];
        let interface = Interface::new(settings, &mut Port::to_send(&mut *link), instant(now_us));
        let mut stack = Stack {
            checks: link.offloads().contains(Offloads::CHECKSUM),
            link,
            interface,
            paths: Paths::new((seed[2], seed[1])),
            common: SocketSet::new(Vec::new()),
            common_due_us: None,
            common_is_pending: true,
            leaving: Vec::new(),
            addresses: Addresses::new(hardware, config),
            strangers: SocketSet::new(Vec::new()),
            refusals: (now_us, 0),
            table: Table::new((seed[1], seed[2])),
            listeners: HashMap::with_hasher(Keyed::new(seed[1], seed[2])),
            deadlines: Deadlines::default(),
            pending: Vec::new(),
            waiting_for_neighbor: Vec::new(),
            in_time_wait: Default::default(),
            next_port: 0,
            secret: Secret::new((seed[1], seed[2])),
            alarms: Alarms::default(),
            statistics: Statistics::default(),
        };
        stack.begin_addresses(config);
        stack
    }

    pub(crate) fn link(&mut self) -> &mut dyn Link {
        &mut *self.link
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            connections: self.table.len(),
            duplicate_addresses: self.duplicates(),
            tcp: self.table.counted(),
            ..self.statistics
        }
    }

    /// Frames received and sent.
    pub(crate) fn frames(&self) -> (u64, u64) {
        (self.statistics.frames_received, self.statistics.frames_sent)
    }

    /// Takes the frames that have come, polls the connections that need it, and sends. Returns whether there
    /// is more to do at once.
    pub(crate) fn poll(&mut self, now_us: i64) -> bool {
        let mut taken = 0;
        while taken < FRAMES_AT_ONCE && self.link.has_room() {
            let Some(frame) = self.link.receive() else { break };
            taken += 1;
            self.ingress(frame, now_us);
        }
        while let Some((due_us, slot)) = self.deadlines.take_due(now_us) {
            if self.table.is_due(due_us, slot) {
                self.set_pending(slot);
            }
        }
        if self.addresses.due_us().is_some_and(|due_us| due_us <= now_us) {
            self.poll_autoconf(now_us);
        }
        self.link.forget(now_us);
        self.alarms.wake_due(now_us);
        self.poll_common(now_us);
        for slot in core::mem::take(&mut self.pending) {
            self.poll_connection(slot, now_us);
        }
        self.link.flush();
        taken == FRAMES_AT_ONCE
    }

    /// When [`Stack::poll`] wants to be called at the latest; now, if something waits for it.
    pub(crate) fn due_us(&mut self) -> Option<i64> {
        if !self.pending.is_empty() && self.link.has_room() {
            return Some(i64::MIN);
        }
        let table = &self.table;
        let first = self.deadlines.next(|due_us, slot| table.is_due(due_us, slot));
        first
            .into_iter()
            .chain(self.common_due_us)
            .chain(self.addresses.due_us())
            .chain(self.alarms.due_us())
            .min()
    }

    fn ingress(&mut self, frame: Frame, now_us: i64) {
        self.statistics.frames_received += 1;
        let frame = self.whole(frame);
        if self.checks && !frame.offload().is_checked() && !checksum::is_right(&frame) {
            self.statistics.wrong_checksums += 1;
            return self.link.recycle(frame);
        }
        match classify(&frame) {
            Kind::Tcp { flow, opens, resets } => {
                let mut found = self.table.find(&flow);
                // The other end may begin anew before we have forgotten (RFC 9293, section 3.6.1).
                if let Some(slot) = found.filter(|slot| opens && self.is_over(*slot)) {
                    self.remove(slot);
                    found = None;
                }
                match found.map_or_else(|| self.accept(flow, opens, &frame, now_us), Accepted::At) {
                    Accepted::At(slot) => self.take_segment(slot, &frame, now_us),
                    Accepted::NobodyListens if !resets => self.answer_stranger(&frame, now_us),
                    Accepted::NobodyListens | Accepted::NoRoom => {}
                }
            }
            Kind::HiddenTcp => self.statistics.hidden_segments += 1,
            kind if self.concerns_nobody(kind, &frame, now_us) => {}
            kind @ (Kind::Neighbor | Kind::Discovery | Kind::Other) => {
                match kind {
                    Kind::Discovery => self.hear(&frame, now_us),
                    Kind::Other => self.hear_limit(&frame, now_us),
                    _ => {}
                }
                self.common_is_pending = true;
                let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
                protocol::take(&mut outlet, &frame, &mut self.common);
                self.statistics.frames_sent += outlet.sent().frames;
                if kind != Kind::Other {
                    self.paths.learn(&frame, now_us);
                    for slot in core::mem::take(&mut self.waiting_for_neighbor) {
                        if let Some(connection) = self.table.at(slot) {
                            connection.waits_for_neighbor = false;
                            self.set_pending(slot);
                        }
                    }
                }
            }
        }
        self.link.recycle(frame);
    }

    /// The same frame, all in its head, as sockets want it.
    fn whole(&mut self, frame: Frame) -> Frame {
        if frame.pieces().is_empty() {
            return frame;
        }
        let bytes = frame.total_bytes();
        let mut whole = self.link.frame(bytes);
        frame.copy_to(&mut whole);
        whole.set_offload(frame.offload());
        self.statistics.bytes_copied += bytes as u64;
        self.link.recycle(frame);
        whole
    }

    fn take_segment(&mut self, slot: usize, frame: &Frame, now_us: i64) {
        let Some(connection) = self.table.at(slot) else { return };
        connection.heard_us = now_us;
        let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
        connection.protocol.take(frame, &mut outlet);
        self.statistics.frames_sent += outlet.sent().frames;
        self.set_pending(slot);
    }

    fn is_over(&mut self, slot: usize) -> bool {
        let connection = self.table.at(slot);
        connection.is_some_and(|connection| {
            connection.owner == Owner::Nobody
                && matches!(connection.protocol.state(), State::TimeWait | State::Closed)
        })
    }

    /// Has a connection polled by the next [`Stack::poll`].
    pub(crate) fn set_pending(&mut self, slot: usize) {
        if let Some(connection) = self.table.at(slot)
            && !core::mem::replace(&mut connection.is_pending, true)
        {
            self.pending.push(slot);
        }
    }

    fn poll_common(&mut self, now_us: i64) {
        if !self.common_is_pending && self.common_due_us.is_none_or(|due_us| due_us > now_us) {
            return;
        }
        self.common_is_pending = false;
        let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
        protocol::send(&mut outlet, &mut self.common);
        self.statistics.frames_sent += outlet.sent().frames;
        self.remove_leaving(now_us);
        self.configure();
        let due = self.interface.poll_at(instant(now_us), &self.common);
        // What could not be sent now is tried again soon, not at once.
        let leaves = self.leaving.iter().map(|(_, until_us)| *until_us);
        self.common_due_us =
            due.map(|due| due.total_micros().max(now_us + 1000)).into_iter().chain(leaves).min();
    }

    /// Sends what a connection has to send, and looks at what has become of it.
    fn poll_connection(&mut self, slot: usize, now_us: i64) {
        let Some(connection) = self.table.at(slot) else { return };
        connection.is_pending = false;
        self.statistics.connections_polled += 1;
        let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
        connection.protocol.send(&mut outlet);
        let wants_us = connection.protocol.due_us(&mut outlet);
        let sent = outlet.sent();
        self.statistics.frames_sent += sent.frames;
        let is_opening = matches!(connection.protocol.state(), State::SynSent | State::SynReceived);
        // The protocol does not say that it waits. Whoever was heard lately is known.
        let may_wait = is_opening
            || now_us - connection.heard_us > NEIGHBOR_US
                && wants_us.is_some_and(|wants_us| wants_us <= now_us + NEIGHBOR_US);
        let waits = sent.asked_neighbor || sent.frames == 0 && may_wait;
        if waits && !core::mem::replace(&mut connection.waits_for_neighbor, true) {
            self.waiting_for_neighbor.push(slot);
        }
        let remote = connection.flow.remote.addr;
        if wants_us.is_some_and(|due_us| due_us <= now_us) && !self.link.has_room() {
            connection.is_pending = true;
            self.pending.push(slot);
        }
        let wants_us = wants_us.map(|due_us| due_us.max(now_us + 1000));
        let due_us = wants_us.into_iter().chain(connection.expires_us).min();
        if due_us != connection.due_us {
            connection.due_us = due_us;
            if let Some(due_us) = due_us {
                self.deadlines.insert(due_us, slot);
            }
        }
        if waits {
            let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us);
            outlet.ask_neighbor(remote, sent.asked_neighbor);
            self.statistics.frames_sent += outlet.sent().frames;
        }
        self.settle(slot, now_us);
        if self.deadlines.len() > 4 * self.table.len() + 64 {
            let table = &self.table;
            self.deadlines.retain(|due_us, slot| table.is_due(due_us, slot));
        }
    }

    /// Moves a connection on, or out, by the state of its socket.
    fn settle(&mut self, slot: usize, now_us: i64) {
        let Some(connection) = self.table.at(slot) else { return };
        let expired = connection.expires_us.is_some_and(|expires_us| expires_us <= now_us);
        let state = connection.protocol.state();
        match (connection.owner, state) {
            (Owner::Backlog(port), State::Listen | State::Closed) => {
                self.remove(slot);
                self.half_open_ended(port);
            }
            (Owner::Backlog(port), State::SynReceived) if expired => {
                self.remove(slot);
                self.half_open_ended(port);
            }
            (Owner::Backlog(_), State::SynReceived) => {}
            (Owner::Backlog(port), _) => {
                connection.owner = Owner::Application;
                connection.expires_us = None;
                self.half_open_ended(port);
                self.established(port, slot);
            }
            (Owner::Nobody, State::Closed) => self.remove(slot),
            (Owner::Nobody, _) if expired => self.remove(slot),
            // It is not given up any more, but forgotten in its turn.
            (Owner::Nobody, State::TimeWait) if connection.expires_us.take().is_some() => {
                let id = ConnectionId { slot, generation: connection.generation };
                self.in_time_wait.push_back(id);
                self.bound_time_wait();
            }
            _ => {}
        }
    }

    fn bound_time_wait(&mut self) {
        while self.in_time_wait.len() > MOST_IN_TIME_WAIT {
            let Some(oldest) = self.in_time_wait.pop_front() else { return };
            if self.table.get(oldest).is_some() {
                self.remove(oldest.slot);
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        self.table.remove(slot);
    }
}

/// For streams.
impl Stack {
    /// The machine of a connection. Whoever changes something in it calls [`Stack::touch`].
    pub(crate) fn protocol(&mut self, id: ConnectionId) -> Option<&mut (dyn Protocol + 'static)> {
        Some(&mut *self.table.get(id)?.protocol)
    }

    /// What a connection has counted.
    pub(crate) fn counted(&mut self, id: ConnectionId) -> Option<Counted> {
        self.table.get(id).map(|connection| connection.protocol.counted())
    }

    /// The ends of a connection.
    pub(crate) fn flow(&mut self, id: ConnectionId) -> Option<Flow> {
        self.table.get(id).map(|connection| connection.flow)
    }

    /// A connection has something to send.
    pub(crate) fn touch(&mut self, id: ConnectionId) {
        if self.table.get(id).is_some() {
            self.set_pending(id.slot);
        }
    }

    /// The application lets a connection go: what it has written is still sent, then it is closed.
    pub(crate) fn let_go(&mut self, id: ConnectionId, now_us: i64) {
        let Some(connection) = self.table.get(id) else { return };
        connection.owner = Owner::Nobody;
        connection.expires_us = Some(now_us + LINGER_US);
        connection.protocol.close();
        self.set_pending(id.slot);
    }
}

/// For sockets without connections.
impl Stack {
    /// Adds a socket to the common set.
    pub(crate) fn add_common<T: AnySocket<'static>>(&mut self, socket: T) -> SocketHandle {
        self.common_is_pending = true;
        self.common.add(socket)
    }

    pub(crate) fn common<T: AnySocket<'static>>(&mut self, handle: SocketHandle) -> &mut T {
        self.common_is_pending = true;
        self.common.get_mut(handle)
    }

    /// Removes a socket of UDP when what it has to send is sent, or a few seconds later.
    pub(crate) fn remove_udp(&mut self, handle: SocketHandle, now_us: i64) {
        self.common_is_pending = true;
        self.leaving.push((handle, now_us + LEAVES_US));
        self.remove_leaving(now_us);
    }

    fn remove_leaving(&mut self, now_us: i64) {
        let common = &mut self.common;
        self.leaving.retain(|(handle, until_us)| {
            let stays = common.get::<udp::Socket<'_>>(*handle).send_queue() > 0 && now_us < *until_us;
            if !stays {
                common.remove(*handle);
            }
            stays
        });
    }

    /// A port of UDP that nobody has, and nobody can guess.
    pub(crate) fn unused_udp_port(&mut self) -> Option<u16> {
        let first = DYNAMIC_PORTS.start();
        let count = DYNAMIC_PORTS.end() - first + 1;
        let begin = self.random() as u16;
        (0..count).map(|step| first + begin.wrapping_add(step) % count).find(|port| !self.has_udp_port(*port))
    }

    /// Whether somebody has a port of UDP.
    pub(crate) fn has_udp_port(&self, port: u16) -> bool {
        self.common.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
            _ => false,
        })
    }

    /// A number that nobody outside can guess.
    pub(crate) fn random(&mut self) -> u64 {
        self.secret.random()
    }

    /// Wakes `waker` at this time.
    pub(crate) fn wake_at(&mut self, due_us: i64, waker: &Waker) {
        self.alarms.insert(due_us, waker);
    }

    /// Whether the next poll must look at the common set.
    pub(crate) fn common_is_pending(&self) -> bool {
        self.common_is_pending
    }
}
