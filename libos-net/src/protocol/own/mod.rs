//! This project's own TCP, for servers of files.
//!
//! What is written stays where it lies, in a queue of pieces that others may share, until it is acknowledged.
//! The queue is also what is sent again, and nothing is copied into a ring. Sums are kept with pieces.
//!
//! | module | what |
//! |---|---|
//! | `queue` | what was written and not acknowledged |
//! | `scoreboard` | what is on its way, has arrived, is lost: blocks, RACK-TLP (RFC 2018, 8985) |
//! | `congestion`, `rtt` | NewReno and Cubic (RFC 6582, 9438), timeouts (RFC 6298) |
//! | `receiver` | what comes, in order or not; windows; blocks that are reported (RFC 2018, 2883) |
//! | `arrival` | what a segment does (RFC 9293, 7323), and what is not believed (RFC 5961) |
//! | `departure` | what is sent, and when |
//! | `frame` | segments as frames |
//!
//! A *place* is a byte of a stream, counted from its SYN in 64 bits: it never wraps. Numbers on the wire are
//! made of places, and back, at the border only.

mod arrival;
mod congestion;
mod departure;
mod frame;
mod machine;
mod queue;
mod receiver;
mod rtt;
mod scoreboard;
#[cfg(test)]
mod tests;

use crate::flow::Flow;
use crate::link::{Frame, Offloads};
use crate::protocol::{Counted, Handshake, Outlet, Protocol, SharedBytes, TcpError, TcpParameters, TcpState};
use core::task::{Poll, Waker};
use frame::ETHERNET_BYTES;
pub use machine::OwnTcp;
use machine::{Acknowledge, Machine};
use smoltcp::wire::EthernetAddress;

impl OwnTcp {
    /// A closed connection. It has no buffers until it has data.
    pub fn new(parameters: &TcpParameters) -> OwnTcp {
        OwnTcp { inner: Machine::new(parameters) }
    }
}

impl Machine {
    /// Sends what is to be sent, as far as there is room.
    fn send(&mut self, outlet: &mut Outlet<'_>) {
        let now_us = outlet.now_us();
        self.agreed.segment = self.agreed.segment.min(self.longest(outlet));
        self.pass(now_us);
        self.blocked = false;
        self.ask_us = None;
        let Some(to) = self.next_hop.or_else(|| self.ask(outlet)) else { return };
        let most = self.most_at_once(outlet);
        loop {
            if !outlet.has_room() {
                self.blocked = true;
                return;
            }
            let segment = self.room_in_segment();
            let Some(departure) = self.depart(segment, most, now_us) else { return };
            self.emit(&departure, to, outlet);
        }
    }

    /// Bytes that the link takes at once, and cuts into segments itself; one segment if it does not.
    fn most_at_once(&self, outlet: &Outlet<'_>) -> usize {
        let kind = if self.header_bytes() > 40 { Offloads::SEGMENTS6 } else { Offloads::SEGMENTS4 };
        let segment = self.room_in_segment();
        if outlet.offloads().contains(kind.union(Offloads::CHECKSUM)) && segment >= SHORTEST_CUT {
            MOST_AT_ONCE / segment * segment
        } else {
            segment
        }
    }

    /// The hardware address of the way to the peer, if it is known.
    fn ask(&mut self, outlet: &mut Outlet<'_>) -> Option<EthernetAddress> {
        // Nobody listens to us, or we are not heard yet.
        if matches!(self.state, TcpState::Closed | TcpState::Listen) {
            return None;
        }
        self.next_hop = outlet.neighbor(self.flow?.remote.addr);
        if self.next_hop.is_none() {
            self.ask_us = Some(outlet.now_us() + ASK_US);
        }
        self.next_hop
    }

    /// A segment came from this neighbour. If two in a row come from another one than before, answers go
    /// there from now on. One may be an accident: no checksum that is looked at here covers its address.
    fn follow(&mut self, from: EthernetAddress) {
        if self.next_hop.is_none() || self.next_hop != Some(from) && self.last_from == Some(from) {
            self.next_hop = Some(from);
        }
        self.last_from = Some(from);
    }

    /// Begins a connection: chooses numbers that nobody can guess (RFC 6528).
    fn begin(&mut self, flow: &Flow, outlet: &Outlet<'_>) {
        self.flow = Some(*flow);
        let secret = outlet.secret(flow);
        self.first = (secret as u32).wrapping_add((outlet.now_us() / 4) as u32);
        self.stamp_offset = (secret >> 32) as u32;
        self.sender.progress_us = outlet.now_us();
        self.heard_us = outlet.now_us();
    }

    /// Bytes of the longest segment that our own link takes, without headers.
    fn longest(&self, outlet: &Outlet<'_>) -> usize {
        outlet.max_frame_bytes().saturating_sub(ETHERNET_BYTES + self.header_bytes()).max(1)
    }

    /// Room for bytes to be sent, or why there will not be any. `waker` is kept while there is none.
    fn room(&mut self, waker: &Waker) -> Poll<Result<usize, TcpError>> {
        match self.state {
            TcpState::Closed => return Poll::Ready(Err(TcpError::Reset)),
            TcpState::Established | TcpState::CloseWait => {}
            _ => return Poll::Ready(Err(TcpError::Closed)),
        }
        let room = self.parameters.send_bytes.max(1).saturating_sub(self.sender.queue.len());
        if room == 0 {
            self.writer = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }
}

/// Bytes of the stream in a frame that the link cuts: what an IP packet holds, less its longest headers.
const MOST_AT_ONCE: usize = 65_535 - 60 - 60;
/// The shortest segments that a link can be asked for.
const SHORTEST_CUT: usize = hyperexo_abi::offload::MIN_SEGMENT_BYTES as usize;
/// How long a neighbour may take to answer before it is asked again.
const ASK_US: i64 = 1_000_000;

impl Protocol for OwnTcp {
    fn listen(&mut self, flow: &Flow) -> bool {
        self.inner.flow = Some(*flow);
        self.inner.state = TcpState::Listen;
        true
    }

    fn can_begin(&self) -> bool {
        true
    }

    /// With time stamps, which the stack's answers have no room for.
    fn wants_requests(&self) -> bool {
        true
    }

    fn begin(&mut self, agreed: &Handshake, now_us: i64) -> bool {
        let is_closed = self.inner.state == TcpState::Closed;
        if is_closed {
            self.inner.go_on_after(agreed, now_us);
        }
        is_closed
    }

    fn connect(&mut self, flow: &Flow, outlet: &mut Outlet<'_>) -> bool {
        let machine = &mut self.inner;
        machine.begin(flow, outlet);
        machine.state = TcpState::SynSent;
        machine.forget_us =
            Some(outlet.now_us().saturating_add(machine::micros(machine.parameters.give_up_after)));
        true
    }

    fn take(&mut self, frame: &Frame, outlet: &mut Outlet<'_>) {
        let machine = &mut self.inner;
        let Some(flow) = machine.flow else { return };
        let Some((segment, from)) = frame::parse(frame, &flow, outlet) else { return };
        if machine.state == TcpState::Listen {
            if !outlet.is_ours(flow.local.addr) || !flow.remote.addr.is_unicast() {
                return;
            }
            machine.begin(&flow, outlet);
        }
        let longest = machine.longest(outlet);
        machine.arrive(&segment, longest, outlet.now_us());
        machine.follow(from);
        // Each segment out of order is told of: the peer may count.
        if let Some(to) = machine.next_hop
            && machine.acknowledge == Acknowledge::Now
            && machine.receiver.has_blocks()
            && outlet.has_room()
        {
            machine.tell();
            machine.emit(&departure::Departure::Bare { before: false }, to, outlet);
        }
    }

    fn send(&mut self, outlet: &mut Outlet<'_>) {
        self.inner.send(outlet);
    }

    fn due_us(&mut self, outlet: &mut Outlet<'_>) -> Option<i64> {
        self.inner.due_us(outlet.now_us())
    }

    fn state(&self) -> TcpState {
        self.inner.state
    }

    fn poll_read(&mut self, into: &mut [u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        let machine = &mut self.inner;
        if machine.receiver.is_ready() {
            let count = machine.receiver.read(into);
            if machine.receiver.has_room_to_tell(machine.agreed.segment) && machine.receives() {
                machine.acknowledge = Acknowledge::Now;
            }
            return Poll::Ready(Ok(count));
        }
        if machine.receiver.is_over() {
            return Poll::Ready(Ok(0));
        }
        if machine.state == TcpState::Closed {
            return Poll::Ready(Err(TcpError::Reset));
        }
        machine.reader = Some(waker.clone());
        Poll::Pending
    }

    fn poll_write(&mut self, from: &[u8], waker: &Waker) -> Poll<Result<usize, TcpError>> {
        let machine = &mut self.inner;
        let room = core::task::ready!(machine.room(waker))?;
        let count = from.len().min(room);
        machine.sender.queue.push_bytes(&from[..count]);
        machine.counted.bytes_copied += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_write_shared(&mut self, bytes: &SharedBytes, waker: &Waker) -> Poll<Result<usize, TcpError>> {
        core::task::ready!(self.inner.room(waker))?;
        self.inner.sender.queue.push_shared(bytes.clone());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        let machine = &mut self.inner;
        if machine.sender.queue.len() == 0 {
            return Poll::Ready(Ok(()));
        }
        if machine.state == TcpState::Closed {
            return Poll::Ready(Err(TcpError::Reset));
        }
        machine.writer = Some(waker.clone());
        Poll::Pending
    }

    fn poll_established(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>> {
        match self.inner.state {
            TcpState::SynSent | TcpState::SynReceived => {
                self.inner.writer = Some(waker.clone());
                Poll::Pending
            }
            TcpState::Closed => Poll::Ready(Err(TcpError::Reset)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn close(&mut self) {
        self.inner.close();
    }

    fn abort(&mut self) {
        self.inner.abort();
    }

    fn counted(&self) -> Counted {
        self.inner.counted
    }
}
