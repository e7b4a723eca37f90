//! Connections that begin: those that strangers ask for, and those that the application opens.

use super::connection::Owner;
use super::{ConnectionId, Stack};
use crate::flow::Flow;
use crate::link::{Frame, Link};
use crate::protocol::{Answer, Dormant, Outlet, Protocol, Segment, TcpPolicy};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::fmt;
use core::task::Waker;
use smoltcp::wire::IpEndpoint;

/// How long a handshake may take.
const HANDSHAKE_US: i64 = 10_000_000;
/// Ports that are chosen for connections that go out (RFC 6335, section 6).
pub(super) const DYNAMIC_PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

/// Why a port can't be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// Port 0 is none.
    NoPort,
    /// Somebody listens there.
    InUse(u16),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::NoPort => f.write_str("port 0 can't be listened to: name one from 1 to 65535"),
            ListenError::InUse(port) => write!(f, "somebody listens to port {port} already"),
        }
    }
}

impl core::error::Error for ListenError {}

/// What becomes of a segment of no connection.
pub(super) enum Accepted {
    /// It is the first of the connection at this place.
    At(usize),
    /// It asks for a connection, and there are too many: neither an answer nor a reset, so that the other end
    /// asks again.
    NoRoom,
    /// It belongs to nobody.
    NobodyListens,
}

/// Who waits for connections to a port.
pub(super) struct Listener {
    policy: Rc<dyn TcpPolicy>,
    backlog: usize,
    /// Whether the stack can answer requests itself: the policy's machines can begin after that.
    answers: bool,
    /// Whether it does so only where there is no room for a machine.
    answers_last: bool,
    half_open: usize,
    established: VecDeque<ConnectionId>,
    waker: Option<Waker>,
}

impl Listener {
    /// Whether the application has more to accept than it wanted to wait.
    fn is_full(&self) -> bool {
        self.established.len() >= self.backlog
    }
}

impl Stack {
    /// Takes connections to a port, at most `backlog` that are being made or wait to be accepted.
    pub(crate) fn listen(
        &mut self,
        port: u16,
        backlog: usize,
        policy: Rc<dyn TcpPolicy>,
    ) -> Result<(), ListenError> {
        if port == 0 {
            return Err(ListenError::NoPort);
        }
        if self.listeners.contains_key(&port) {
            return Err(ListenError::InUse(port));
        }
        let machine = policy.protocol();
        let listener = Listener {
            answers: machine.can_begin(),
            answers_last: machine.wants_requests(),
            policy,
            backlog: backlog.max(1),
            half_open: 0,
            established: VecDeque::new(),
            waker: None,
        };
        self.listeners.insert(port, listener);
        Ok(())
    }

    /// Ends that. Connections that nobody has accepted are closed.
    pub(crate) fn stop_listening(&mut self, port: u16, now_us: i64) {
        if let Some(listener) = self.listeners.remove(&port) {
            listener.established.into_iter().for_each(|id| self.let_go(id, now_us));
        }
    }

    /// The next connection to a port, or `waker` is woken when there is one.
    pub(crate) fn next_accepted(&mut self, port: u16, waker: &Waker) -> Option<ConnectionId> {
        let listener = self.listeners.get_mut(&port)?;
        let next = listener.established.pop_front();
        if next.is_none() {
            listener.waker = Some(waker.clone());
        }
        next
    }

    /// Makes a connection for a flow that has none, if it asks for one and somebody listens.
    pub(super) fn accept(&mut self, flow: Flow, opens: bool, frame: &Frame, now_us: i64) -> Accepted {
        if !opens {
            return self.accept_cookie(flow, frame, now_us);
        }
        let sequence = self.secret.sequence(&flow, now_us);
        let Some(listener) = self.listeners.get_mut(&flow.local.port) else { return Accepted::NobodyListens };
        if listener.half_open + listener.established.len() >= listener.backlog {
            if listener.is_full() || !listener.answers || !self.send_cookie(frame, now_us) {
                self.statistics.refused_connections += 1;
            }
            return Accepted::NoRoom;
        }
        let mut protocol: Box<dyn Protocol> = match listener.answers_last {
            true => listener.policy.protocol(),
            false => Box::new(Dormant::new(Rc::clone(&listener.policy), sequence)),
        };
        if !protocol.listen(&flow) {
            return Accepted::NobodyListens;
        }
        listener.half_open += 1;
        let id = self.table.insert(protocol, flow, Owner::Backlog(flow.local.port));
        if let Some(connection) = self.table.at(id.slot) {
            connection.expires_us = Some(now_us + HANDSHAKE_US);
        }
        Accepted::At(id.slot)
    }

    /// Answers a request without keeping anything. Returns whether it is one.
    fn send_cookie(&mut self, frame: &Frame, now_us: i64) -> bool {
        let Some(segment) = Segment::parse(frame, &*self.link) else { return false };
        let Some(mut request) = segment.request() else { return false };
        let local = request.flow.local;
        let Some(listener) = self.listeners.get(&local.port) else { return false };
        if !self.interface.has_ip_addr(local.addr) {
            return false;
        }
        request.local_sequence = self.secret.cookie(&request, now_us);
        let receive_bytes = listener.policy.receive_bytes();
        Answer::Accept { receive_bytes }.send(&request, segment.hardware, &mut *self.link);
        self.statistics.frames_sent += 1;
        self.statistics.cookies_sent += 1;
        true
    }

    /// A segment of no connection: perhaps the answer to a cookie.
    fn accept_cookie(&mut self, flow: Flow, frame: &Frame, now_us: i64) -> Accepted {
        let listener = self.listeners.get(&flow.local.port).filter(|listener| listener.answers);
        let Some(listener) = listener else { return Accepted::NobodyListens };
        if !self.secret.has_given(now_us) {
            return Accepted::NobodyListens;
        }
        let Some(segment) = Segment::parse(frame, &*self.link) else { return Accepted::NoRoom };
        let Some(acknowledged) = segment.acknowledges() else { return Accepted::NoRoom };
        let (local, remote) = (acknowledged.wrapping_sub(1), segment.sequence().wrapping_sub(1));
        let agreed = self.secret.read(flow, local, remote, now_us);
        // One that comes too early, or finds no room, comes again: no reset, or it would not.
        let Some(agreed) = agreed.filter(|_| !listener.is_full()) else { return Accepted::NoRoom };
        let dormant = Dormant::established(Rc::clone(&listener.policy), agreed, now_us);
        let id = self.table.insert(Box::new(dormant), flow, Owner::Application);
        self.statistics.cookies_accepted += 1;
        self.established(flow.local.port, id.slot);
        Accepted::At(id.slot)
    }

    /// A handshake of a listener has ended, well or not.
    pub(super) fn half_open_ended(&mut self, port: u16) {
        if let Some(listener) = self.listeners.get_mut(&port) {
            listener.half_open = listener.half_open.saturating_sub(1);
        }
    }

    /// A connection of a listener is there to be accepted.
    pub(super) fn established(&mut self, port: u16, slot: usize) {
        let Some(id) = self.table.id_at(slot) else { return };
        match self.listeners.get_mut(&port) {
            Some(listener) => {
                listener.established.push_back(id);
                listener.waker.take().into_iter().for_each(Waker::wake);
            }
            None => drop(self.table.remove(slot)),
        }
    }

    /// Begins a connection to another machine.
    pub(crate) fn connect(
        &mut self,
        remote: IpEndpoint,
        policy: &dyn TcpPolicy,
        now_us: i64,
    ) -> Option<ConnectionId> {
        let address = self.interface.get_source_address(&remote.addr)?;
        let local = self.unused_port(address, remote)?;
        let flow = Flow { local, remote };
        let mut protocol = policy.protocol();
        let sequence = self.secret.sequence(&flow, now_us);
        let mut outlet = Outlet::new(&mut self.interface, &mut *self.link, &mut self.paths, now_us)
            .with_sequence(sequence);
        if !protocol.connect(&flow, &mut outlet) {
            return None;
        }
        let id = self.table.insert(protocol, flow, Owner::Application);
        self.set_pending(id.slot);
        Some(id)
    }

    /// A local end that no connection to `remote` has. Where the search begins nobody can guess (RFC 6056,
    /// algorithm 1).
    fn unused_port(&mut self, address: smoltcp::wire::IpAddress, remote: IpEndpoint) -> Option<IpEndpoint> {
        let count = DYNAMIC_PORTS.end() - DYNAMIC_PORTS.start() + 1;
        self.next_port = self.next_port.wrapping_add(self.random_step());
        (0..count).map(|step| DYNAMIC_PORTS.start() + self.next_port.wrapping_add(step) % count).find_map(
            |port| {
                let local = IpEndpoint::new(address, port);
                let flow = Flow { local, remote };
                let free = !self.listeners.contains_key(&port) && self.table.find(&flow).is_none();
                (free && self.link.takes(&flow)).then_some(local)
            },
        )
    }

    /// A number that depends on the secret key and on how many connections there were.
    fn random_step(&self) -> u16 {
        use core::hash::BuildHasher;
        self.listeners.hasher().hash_one(self.table.generations()) as u16
    }
}
