//! What is sent, and when.

use super::machine::{Acknowledge, Machine, Resend, micros};
use crate::protocol::TcpState;
use core::ops::Range;

/// Timeouts after which what the peer had reported is not trusted any more.
const TRUSTED_TIMEOUTS: u32 = 2;

/// The longest time between two probes of a closed window: some peers give up who hear nothing for a minute.
const LONGEST_PROBE_US: i64 = 20_000_000;

/// What leaves next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// A part of the stream; the SYN is before place 1, the end behind the queue.
    Range(Range<i64>),
    /// A segment without data at the place that comes next, or at the one before it.
    Bare {
        /// One before.
        before: bool,
    },
    /// A reset.
    Reset {
        /// Its number.
        number: u32,
        /// Whether it acknowledges.
        acknowledges: bool,
    },
}

impl Machine {
    /// Does what the time asks for.
    pub(super) fn pass(&mut self, now_us: i64) {
        let due = |at_us: i64| at_us <= now_us;
        if self.forget_us.is_some_and(due) {
            return self.end();
        }
        if self.give_up_us().is_some_and(due) {
            self.abort();
            return self.end();
        }
        if matches!(self.acknowledge, Acknowledge::At(at_us) if due(at_us)) {
            self.acknowledge = Acknowledge::Now;
        }
        if self.sender.look_us.is_some_and(due) {
            self.look_for_losses(now_us);
        }
        if let Some(quiet) = self.parameters.keep_alive
            && self.keep_us.is_some_and(due)
        {
            self.keep_us = Some(now_us + micros(quiet));
            self.sender.probe_peer |= self.sender.board.in_flight() == 0;
        }
        if let Some((_, what)) = self.sender.resend.filter(|(at_us, _)| due(*at_us)) {
            self.sender.resend = None;
            self.resend(what, now_us);
        }
    }

    fn resend(&mut self, what: Resend, now_us: i64) {
        let sender = &mut self.sender;
        match what {
            Resend::TailProbe => {
                sender.probe_tail = true;
                sender.resend = Some((now_us + sender.round_trips.timeout_us(), Resend::Timeout));
            }
            Resend::WindowProbe => {
                sender.probe_peer = true;
                sender.round_trips.back_off();
                let patience_us = sender.round_trips.timeout_us().min(LONGEST_PROBE_US);
                sender.resend = Some((now_us + patience_us, Resend::WindowProbe));
            }
            Resend::Timeout => {
                sender.window.time_out(sender.board.in_flight(), !sender.timed_out);
                sender.round_trips.back_off();
                if sender.round_trips.doublings() > TRUSTED_TIMEOUTS {
                    sender.board.forget_blocks();
                }
                sender.board.lose_all();
                (sender.recovers_to, sender.timed_out) = (Some(sender.board.next()), true);
                (sender.one_at_once, sender.probe, sender.repeats) = (true, None, 0);
                sender.look_us = None;
                sender.resend = Some((now_us + sender.round_trips.timeout_us(), Resend::Timeout));
            }
        }
    }

    /// Ends at once; the peer is told if it knows of the connection.
    pub(super) fn abort(&mut self) {
        if self.is_synchronized() && self.state != TcpState::TimeWait || self.state == TcpState::SynReceived {
            self.reset = Some(self.number(self.sender.board.next()).0 as u32);
        } else {
            self.end();
        }
    }

    /// When [`Machine::pass`] and [`Machine::depart`] have something to do.
    pub(super) fn due_us(&self, now_us: i64) -> Option<i64> {
        if self.blocked || self.acknowledge == Acknowledge::Now || self.reset.is_some() {
            return Some(now_us);
        }
        let acknowledge_us = match self.acknowledge {
            Acknowledge::At(at_us) => Some(at_us),
            _ => None,
        };
        let resend_us = self.sender.resend.map(|(at_us, _)| at_us);
        [
            acknowledge_us,
            resend_us,
            self.sender.look_us,
            self.keep_us,
            self.forget_us,
            self.ask_us,
            self.give_up_us(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What leaves now, if something does. `segment` is what fits behind the header that it will have;
    /// `most` what the link takes at once, which it cuts into segments.
    pub(super) fn depart(&mut self, segment: usize, most: usize, now_us: i64) -> Option<Departure> {
        if let Some(number) = self.reset.take() {
            let acknowledges = self.is_synchronized();
            if self.is_synchronized() || self.state == TcpState::SynReceived {
                self.end();
            }
            return Some(Departure::Reset { number, acknowledges });
        }
        let range = match self.state {
            TcpState::Closed | TcpState::Listen | TcpState::TimeWait => None,
            _ => self.again(segment, now_us).or_else(|| self.tail_probe(segment, now_us)),
        };
        if let Some(range) = range.or_else(|| self.more(segment, most, now_us)) {
            self.tell();
            return Some(Departure::Range(range));
        }
        if core::mem::take(&mut self.sender.probe_peer) && self.is_synchronized() {
            self.tell();
            return Some(Departure::Bare { before: true });
        }
        if self.acknowledge == Acknowledge::Now {
            self.tell();
            return (self.is_synchronized()).then_some(Departure::Bare { before: false });
        }
        None
    }

    /// What leaves acknowledges what has come.
    pub(super) fn tell(&mut self) {
        self.acknowledge = Acknowledge::Not;
        self.told = self.receiver.next();
    }

    /// What was lost, as far as the congestion window has room.
    fn again(&mut self, segment: usize, now_us: i64) -> Option<Range<i64>> {
        let sender = &mut self.sender;
        if !sender.board.has_lost() {
            sender.one_at_once = false;
            return None;
        }
        let room = sender.window.bytes() - sender.board.in_network();
        if room <= 0 && !sender.one_at_once {
            return None;
        }
        sender.one_at_once = false;
        let range = sender.board.send_again(segment as i64, now_us)?;
        if range.start == sender.board.acknowledged() || sender.resend.is_none() {
            let timeout_us = sender.round_trips.timeout_us();
            sender.resend = Some((now_us + timeout_us, Resend::Timeout));
        }
        Some(range)
    }

    /// One more segment, new or the last again, to hear whether the tail has arrived.
    fn tail_probe(&mut self, segment: usize, now_us: i64) -> Option<Range<i64>> {
        if !core::mem::take(&mut self.sender.probe_tail) || self.sender.board.in_flight() == 0 {
            return None;
        }
        let (next, edge) = (self.sender.board.next(), self.sender.edge);
        let to = self.sender.queue.end().min(edge).min(next + segment as i64);
        let sender = &mut self.sender;
        if to > next {
            sender.board.sent(to, now_us);
            sender.probe = Some((to, false));
            return Some(next..to);
        }
        let range = sender.board.probe_last(segment as i64, now_us)?;
        sender.probe = Some((next, true));
        Some(range)
    }

    /// New data, as far as the windows have room; with it the SYN and the end.
    fn more(&mut self, segment: usize, most: usize, now_us: i64) -> Option<Range<i64>> {
        let next = self.sender.board.next();
        if next == 0 {
            let opens = matches!(self.state, TcpState::SynSent | TcpState::SynReceived);
            return opens.then(|| self.sent(0..1, now_us));
        }
        let sends = matches!(
            self.state,
            TcpState::Established
                | TcpState::CloseWait
                | TcpState::FinWait1
                | TcpState::Closing
                | TcpState::LastAck
        );
        if !sends || self.sender.ends && next > self.sender.queue.end() {
            return None;
        }
        let (segment, sender) = (segment as i64, &self.sender);
        let room = sender.window.bytes() - sender.board.in_network();
        let idle = sender.board.in_flight() == 0;
        let waiting = sender.queue.end() - next;
        let offered = sender.edge - next;
        if room < segment.min(waiting.max(1)) && !idle {
            return None;
        }
        let fits = waiting.min(offered).min(room.max(segment));
        let whole =
            if fits >= segment { (fits / segment * segment).min((most as i64).max(segment)) } else { fits };
        // What the window cuts off is not worth a segment, unless nothing else will open it
        // (RFC 9293, section 3.8.6.2.1).
        let all = fits == waiting;
        let bytes = match () {
            () if all && fits <= (most as i64).max(segment) => {
                let rest = fits % segment;
                let waits = self.parameters.waits_to_fill_segments && !sender.ends && !idle && rest > 0;
                if waits { fits - rest } else { fits }
            }
            () if fits >= segment => whole,
            () if fits > 0 && (idle || fits * 2 >= sender.most) => fits,
            () => 0,
        };
        // What a frame can't gather is copied: one segment, not many.
        let gathered = sender.queue.gathers_to(next) - next;
        let bytes = if bytes > segment && gathered < bytes {
            (gathered / segment * segment).max(segment)
        } else {
            bytes
        };
        let ends = sender.ends && next + bytes == sender.queue.end();
        if bytes <= 0 && !(ends && waiting == 0) {
            if idle && sender.resend.is_none() && waiting > 0 {
                self.arm(now_us);
            }
            return None;
        }
        Some(self.sent(next..next + bytes + i64::from(ends), now_us))
    }

    fn sent(&mut self, range: Range<i64>, now_us: i64) -> Range<i64> {
        if self.sender.board.in_flight() == 0 {
            self.sender.progress_us = now_us;
        }
        self.sender.board.sent(range.end, now_us);
        if !matches!(self.sender.resend, Some((_, Resend::Timeout))) {
            self.arm(now_us);
        }
        range
    }
}
