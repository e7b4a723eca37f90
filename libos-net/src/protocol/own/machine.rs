//! What a connection knows.

use super::congestion::Window;
use super::queue::Queue;
use super::receiver::Receiver;
use super::rtt::RoundTrips;
use super::scoreboard::Scoreboard;
use crate::flow::Flow;
use crate::protocol::{Counted, TcpParameters, TcpState};
use core::task::Waker;
use core::time::Duration;
use smoltcp::wire::{EthernetAddress, IpAddress, TcpSeqNumber};

/// How long an ended connection waits for stray segments.
pub(super) const TIME_WAIT_US: i64 = 60_000_000;
/// How often a segment that is not acceptable is answered at most (Linux: `tcp_invalid_ratelimit`).
pub(super) const CHALLENGE_US: i64 = 500_000;
/// How long a peer may delay an acknowledgement (RFC 8985, section 7.2).
pub(super) const LATEST_ACK_US: i64 = 200_000;

/// What the timer of the sender is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Nothing was heard of what is on its way.
    Timeout,
    /// The last segments may be lost, and nothing behind them tells.
    TailProbe,
    /// The peer's window is closed.
    WindowProbe,
}

/// When the peer is told what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledge {
    /// It knows.
    Not,
    /// At this time.
    At(i64),
    /// With the next segment, which is sent now.
    Now,
}

/// What peers have agreed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreed {
    pub(super) blocks: bool,
    pub(super) stamps: bool,
    pub(super) shifts: bool,
    /// By how much the peer's windows are shifted.
    pub(super) peer_shift: u8,
    /// By how much ours are.
    pub(super) shift: u8,
    /// Bytes of a segment, options of its header included (RFC 6691).
    pub(super) segment: usize,
}

/// Sender's view of the path and the peer.
pub(super) struct Sender {
    pub(super) queue: Queue,
    pub(super) board: Scoreboard,
    pub(super) window: Window,
    pub(super) round_trips: RoundTrips,
    /// Where the window that the peer has offered ends.
    pub(super) edge: i64,
    /// The largest window it has offered.
    pub(super) most: i64,
    /// Places of the segment that offered it: its own and what it acknowledged.
    pub(super) offered: (i64, i64),
    /// Whether the stream ends with the queue.
    pub(super) ends: bool,
    /// While something is lost: where the stream ended when that was noticed (RFC 6675).
    pub(super) recovers_to: Option<i64>,
    pub(super) timed_out: bool,
    pub(super) repeats: u32,
    /// A retransmission is due whatever the window says.
    pub(super) one_at_once: bool,
    /// A tail probe on its way: where it ends, and whether it was a retransmission.
    pub(super) probe: Option<(i64, bool)>,
    pub(super) probe_tail: bool,
    /// A segment without data, to hear from the peer.
    pub(super) probe_peer: bool,
    pub(super) resend: Option<(i64, Resend)>,
    /// When to look for losses again.
    pub(super) look_us: Option<i64>,
    /// When the peer last acknowledged something new, or something was sent after a time without.
    pub(super) progress_us: i64,
}

/// This project's own TCP, for servers of files: what is written is shared, and copied nowhere.
pub struct OwnTcp {
    pub(super) inner: Machine,
}

/// The machine of a connection.
pub(super) struct Machine {
    pub(super) parameters: TcpParameters,
    pub(super) flow: Option<Flow>,
    pub(super) state: TcpState,
    /// The neighbour that segments go to.
    pub(super) next_hop: Option<EthernetAddress>,
    /// The neighbour that the last segment came from.
    pub(super) last_from: Option<EthernetAddress>,
    pub(super) first: u32,
    pub(super) peer_first: u32,
    pub(super) agreed: Agreed,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) acknowledge: Acknowledge,
    /// What was acknowledged last.
    pub(super) told: i64,
    pub(super) stamp_offset: u32,
    pub(super) peer_stamp: u32,
    pub(super) peer_stamp_us: i64,
    pub(super) heard_us: i64,
    pub(super) challenged_us: i64,
    /// A reset to be sent: its number.
    pub(super) reset: Option<u32>,
    pub(super) keep_us: Option<i64>,
    pub(super) forget_us: Option<i64>,
    /// When to ask for the neighbour's address again.
    pub(super) ask_us: Option<i64>,
    /// There was no room for all that is to be sent.
    pub(super) blocked: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Bytes that were copied, and looked at for a sum: of what was sent.
    pub(super) counted: Counted,
}

impl Machine {
    pub(super) fn new(parameters: &TcpParameters) -> Machine {
        let segment = 536;
        Machine {
            parameters: *parameters,
            flow: None,
            state: TcpState::Closed,
            next_hop: None,
            last_from: None,
            first: 0,
            peer_first: 0,
            agreed: Agreed { segment, ..Agreed::default() },
            sender: Sender {
                queue: Queue::new(1),
                board: Scoreboard::new(),
                window: Window::new(parameters.congestion_control, segment),
                round_trips: RoundTrips::default(),
                edge: 1,
                most: 0,
                offered: (0, 0),
                ends: false,
                recovers_to: None,
                timed_out: false,
                repeats: 0,
                one_at_once: false,
                probe: None,
                probe_tail: false,
                probe_peer: false,
                resend: None,
                look_us: None,
                progress_us: 0,
            },
            receiver: Receiver::new(parameters.receive_bytes),
            acknowledge: Acknowledge::Not,
            told: 0,
            stamp_offset: 0,
            peer_stamp: 0,
            peer_stamp_us: 0,
            heard_us: 0,
            challenged_us: i64::MIN / 2,
            reset: None,
            keep_us: None,
            forget_us: None,
            ask_us: None,
            blocked: false,
            reader: None,
            writer: None,
            counted: Counted::default(),
        }
    }

    /// The number of a place of ours on the wire.
    pub(super) fn number(&self, place: i64) -> TcpSeqNumber {
        TcpSeqNumber(self.first.wrapping_add(place as u32) as i32)
    }

    /// The number of a place of the peer's on the wire.
    pub(super) fn peer_number(&self, place: i64) -> TcpSeqNumber {
        TcpSeqNumber(self.peer_first.wrapping_add(place as u32) as i32)
    }

    /// The place of ours that a number stands for: the nearest to what was acknowledged.
    pub(super) fn place(&self, number: TcpSeqNumber) -> i64 {
        place(self.first, self.sender.board.acknowledged(), number)
    }

    /// The place of the peer's that a number stands for: the nearest to what is wanted next.
    pub(super) fn peer_place(&self, number: TcpSeqNumber) -> i64 {
        place(self.peer_first, self.receiver.next(), number)
    }

    /// The clock of time stamps, in milliseconds (RFC 7323, section 5.4). Each connection has another
    /// beginning.
    pub(super) fn stamp(&self, now_us: i64) -> u32 {
        ((now_us / 1000) as u32).wrapping_add(self.stamp_offset)
    }

    /// Bytes of headers of IP and TCP, without options.
    pub(super) fn header_bytes(&self) -> usize {
        match self.flow.map(|flow| flow.local.addr) {
            Some(IpAddress::Ipv6(_)) => 40 + 20,
            _ => 20 + 20,
        }
    }

    /// Whether both ends know of the connection.
    pub(super) fn is_synchronized(&self) -> bool {
        !matches!(self.state, TcpState::Closed | TcpState::Listen | TcpState::SynSent | TcpState::SynReceived)
    }

    /// Whether the peer may still send data.
    pub(super) fn receives(&self) -> bool {
        matches!(self.state, TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2)
    }

    pub(super) fn set_state(&mut self, state: TcpState) {
        self.state = state;
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// The connection is gone. What was not acknowledged will not be.
    pub(super) fn end(&mut self) {
        self.sender.resend = None;
        self.sender.look_us = None;
        (self.keep_us, self.forget_us, self.ask_us) = (None, None, None);
        self.acknowledge = Acknowledge::Not;
        self.sender.probe_peer = false;
        self.set_state(TcpState::Closed);
    }

    /// An acknowledgement now, but not too often: for segments that are not acceptable (RFC 5961, section 7).
    pub(super) fn challenge(&mut self, now_us: i64) {
        if now_us - self.challenged_us >= CHALLENGE_US {
            self.challenged_us = now_us;
            self.acknowledge = Acknowledge::Now;
        }
    }

    /// Where the stream ends, its end included; `None` while it goes on.
    pub(super) fn end_place(&self) -> Option<i64> {
        self.sender.ends.then(|| self.sender.queue.end() + 1)
    }

    /// Sets the timer of the sender.
    pub(super) fn arm(&mut self, now_us: i64) {
        let one_segment = self.agreed.segment as i64;
        let (synchronized, sacks) = (self.is_synchronized(), self.agreed.blocks);
        let sender = &mut self.sender;
        let timeout_us = sender.round_trips.timeout_us();
        if sender.board.in_flight() == 0 {
            let waits = sender.queue.end() > sender.board.next() || sender.ends && synchronized;
            let all = sender.ends && sender.board.next() > sender.queue.end();
            let probes = matches!(sender.resend, Some((_, Resend::WindowProbe)));
            match waits && !all && synchronized {
                true if probes => {}
                true => sender.resend = Some((now_us + timeout_us, Resend::WindowProbe)),
                false => sender.resend = None,
            }
            return;
        }
        let may_probe = sacks
            && synchronized
            && sender.recovers_to.is_none()
            && sender.probe.is_none()
            && sender.board.sacked() == 0;
        sender.resend = Some(match sender.round_trips.smoothed_us().filter(|_| may_probe) {
            Some(smoothed_us) => {
                let alone = sender.board.in_flight() <= one_segment;
                let patience_us = 2 * smoothed_us + if alone { LATEST_ACK_US } else { 2_000 };
                (now_us + patience_us.min(timeout_us), Resend::TailProbe)
            }
            None => (now_us + timeout_us, Resend::Timeout),
        });
    }

    /// Something was found lost: less is sent from now on, if that is the first of it.
    pub(super) fn lost_something(&mut self) {
        let sender = &mut self.sender;
        if sender.recovers_to.is_none() {
            sender.recovers_to = Some(sender.board.next());
            sender.window.lose(sender.board.in_flight());
            sender.one_at_once = true;
            sender.probe = None;
        }
    }

    /// Looks for losses by what has arrived.
    pub(super) fn look_for_losses(&mut self, now_us: i64) {
        let sender = &mut self.sender;
        let recovers = sender.recovers_to.is_some();
        if sender.board.sacked() == 0 && !recovers {
            sender.look_us = None;
            return;
        }
        let segment = self.agreed.segment as i64;
        let (found, again_us) = sender.board.find_lost(&sender.round_trips, recovers, segment, now_us);
        sender.look_us = again_us;
        if found {
            self.lost_something();
        }
    }

    /// When a silent peer is given up, as long as it owes an answer.
    pub(super) fn give_up_us(&self) -> Option<i64> {
        let patience_us = micros(self.parameters.give_up_after);
        let owes = self.sender.board.in_flight() > 0;
        let probes = matches!(self.sender.resend, Some((_, Resend::WindowProbe)));
        match (owes, probes || self.keep_us.is_some()) {
            (true, _) => Some(self.sender.progress_us.saturating_add(patience_us)),
            (false, true) => {
                let quiet_us = self.parameters.keep_alive.map_or(0, micros);
                Some(self.heard_us.saturating_add(patience_us).saturating_add(quiet_us))
            }
            (false, false) => None,
        }
    }
}

/// Microseconds of a policy's time.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// The place nearest to `near` whose number this is, of a stream whose first number is `first`.
fn place(first: u32, near: i64, number: TcpSeqNumber) -> i64 {
    let here = first.wrapping_add(near as u32);
    near + i64::from((number.0 as u32).wrapping_sub(here) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_and_places_do_not() {
        for first in [0, 5, u32::MAX - 10, u32::MAX] {
            for near in [0, 1, 1000, 0x7fff_ffff, 0x1_0000_0000, 0x1_8000_0005] {
                for step in [-5, -1, 0, 1, 70_000] {
                    let number = TcpSeqNumber(first.wrapping_add((near + step) as u32) as i32);
                    assert_eq!(place(first, near, number), near + step);
                }
            }
        }
    }
}
