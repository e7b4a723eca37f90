//! What a segment that has come does (RFC 9293, section 3.10.7; RFC 5961).

use super::machine::{Acknowledge, Machine, TIME_WAIT_US, micros};
use super::receiver::Taken;
use crate::protocol::{Handshake, TcpState};
use smoltcp::wire::{TcpControl, TcpRepr};

/// The shortest segments that a peer can ask for (Linux: `tcp_min_snd_mss`).
const SHORTEST_SEGMENT: usize = 48 + 40;
/// After so long an old time stamp says nothing (RFC 7323, section 5.5).
const STAMPS_HOLD_US: i64 = 24 * 24 * 3600 * 1_000_000;

impl Machine {
    /// Takes a segment. `longest` is what a segment to the peer can have, by our own link. Returns whether it
    /// was acceptable.
    pub(super) fn arrive(&mut self, segment: &TcpRepr<'_>, longest: usize, now_us: i64) -> bool {
        match self.state {
            TcpState::Closed => false,
            TcpState::Listen => self.asked(segment, longest, now_us),
            TcpState::SynSent => self.answered(segment, longest, now_us),
            _ => self.go_on(segment, now_us),
        }
    }

    fn asked(&mut self, segment: &TcpRepr<'_>, longest: usize, now_us: i64) -> bool {
        if segment.control != TcpControl::Syn || segment.ack_number.is_some() {
            return false;
        }
        self.agree(segment, longest, now_us);
        self.set_state(TcpState::SynReceived);
        true
    }

    fn answered(&mut self, segment: &TcpRepr<'_>, longest: usize, now_us: i64) -> bool {
        if let Some(ack) = segment.ack_number
            && (self.place(ack) != 1 || self.sender.board.next() < 1)
        {
            if segment.control != TcpControl::Rst {
                self.reset = Some(ack.0 as u32);
            }
            return false;
        }
        match (segment.control, segment.ack_number) {
            (TcpControl::Rst, Some(_)) => {
                self.end();
                true
            }
            (TcpControl::Syn, ack) => {
                self.agree(segment, longest, now_us);
                if ack.is_some() {
                    self.acknowledged(1, segment, now_us);
                    self.offered(segment, 0, 1);
                    self.established(now_us);
                    self.acknowledge = Acknowledge::Now;
                } else {
                    // Both ask at once (section 3.5): our request is repeated as an answer.
                    self.set_state(TcpState::SynReceived);
                    self.sender.board.lose_all();
                    self.sender.one_at_once = true;
                }
                true
            }
            _ => false,
        }
    }

    /// Takes what a SYN says.
    fn agree(&mut self, segment: &TcpRepr<'_>, longest: usize, now_us: i64) {
        self.peer_first = segment.seq_number.0 as u32;
        self.receiver.begin();
        self.told = 1;
        self.agreed.segment = self.segment_of(segment.max_seg_size).min(longest);
        self.agreed.blocks = segment.sack_permitted;
        self.agreed.stamps = segment.timestamp.is_some();
        if let Some(shift) = segment.window_scale {
            self.agreed.shifts = true;
            (self.agreed.peer_shift, self.agreed.shift) = (shift.min(14), self.receiver.shift());
        }
        if let Some(stamp) = segment.timestamp {
            (self.peer_stamp, self.peer_stamp_us) = (stamp.tsval, now_us);
        }
        self.sender.window.begin(self.agreed.segment);
        // The window of a SYN is not shifted.
        let window = i64::from(segment.window_len);
        (self.sender.edge, self.sender.most, self.sender.offered) = (1 + window, window, (0, 0));
        self.heard_us = now_us;
    }

    fn established(&mut self, now_us: i64) {
        let ends = core::mem::take(&mut self.sender.ends);
        self.set_state(TcpState::Established);
        self.forget_us = None;
        self.keep_us = self.parameters.keep_alive.map(|quiet| now_us + micros(quiet));
        if ends {
            self.close();
        }
    }

    /// Goes on with a connection that others have made: both SYNs have come, and nothing else.
    pub(super) fn go_on_after(&mut self, agreed: &Handshake, now_us: i64) {
        self.flow = Some(agreed.flow);
        (self.first, self.peer_first) = (agreed.local_sequence, agreed.remote_sequence);
        self.receiver.begin();
        self.told = 1;
        self.agreed.segment = self.segment_of(agreed.max_segment_bytes);
        self.agreed.blocks = agreed.selective;
        if let Some(shift) = agreed.window_shift {
            self.agreed.shifts = true;
            (self.agreed.peer_shift, self.agreed.shift) = (shift.min(14), self.receiver.shift());
        }
        self.sender.window.begin(self.agreed.segment);
        self.receiver.offer(self.agreed.segment, self.agreed.shift);
        self.sender.board.begin();
        let window = i64::from(agreed.window_bytes);
        (self.sender.edge, self.sender.most, self.sender.offered) = (1 + window, window, (0, 1));
        (self.heard_us, self.sender.progress_us) = (now_us, now_us);
        self.established(now_us);
    }

    /// Bytes of a segment for a peer that takes so many.
    fn segment_of(&self, asked: Option<u16>) -> usize {
        let default = if self.header_bytes() > 40 { 1220 } else { 536 };
        asked.map_or(default, usize::from).max(SHORTEST_SEGMENT - 40)
    }

    /// Nothing more is written.
    pub(super) fn close(&mut self) {
        match self.state {
            TcpState::Listen | TcpState::SynSent => self.end(),
            TcpState::SynReceived => self.sender.ends = true,
            TcpState::Established => {
                self.sender.ends = true;
                self.set_state(TcpState::FinWait1);
            }
            TcpState::CloseWait => {
                self.sender.ends = true;
                self.set_state(TcpState::LastAck);
            }
            _ => {}
        }
    }

    /// A segment of a connection that both know.
    fn go_on(&mut self, segment: &TcpRepr<'_>, now_us: i64) -> bool {
        let at = self.peer_place(segment.seq_number);
        if !self.is_acceptable(segment, at, now_us) {
            return false;
        }
        match (segment.control, segment.ack_number) {
            (TcpControl::Rst, _) => {
                // Only the very next place is trusted (RFC 5961, section 3).
                if at == self.receiver.next() {
                    self.end()
                } else {
                    self.challenge(now_us)
                }
                return true;
            }
            (TcpControl::Syn, _) => {
                self.challenge(now_us);
                return false;
            }
            (_, None) => return false,
            (_, Some(ack)) => {
                if !self.take_acknowledgement(self.place(ack), segment, at, now_us) {
                    return false;
                }
            }
        }
        self.heard_us = now_us;
        self.keep_us = self.parameters.keep_alive.map(|quiet| now_us + micros(quiet));
        self.take_data(segment, at, now_us);
        true
    }

    /// Whether a segment is in the window and not older than others (RFC 7323, section 5.3). Others are
    /// answered.
    fn is_acceptable(&mut self, segment: &TcpRepr<'_>, at: i64, now_us: i64) -> bool {
        let resets = segment.control == TcpControl::Rst;
        if self.agreed.stamps && !resets {
            let Some(stamp) = segment.timestamp else { return false };
            let is_old = (stamp.tsval.wrapping_sub(self.peer_stamp) as i32) < 0;
            if is_old && now_us - self.peer_stamp_us < STAMPS_HOLD_US {
                self.challenge(now_us);
                return false;
            }
        }
        let (next, edge) = (self.receiver.next(), self.receiver.edge());
        let length = segment.segment_len() as i64;
        let inside = match length {
            0 => at >= next && at <= edge.max(next),
            _ => at + length > next && (at < edge || edge == next && at == next),
        };
        if inside {
            return true;
        }
        if segment.control == TcpControl::Syn && self.state == TcpState::SynReceived {
            // Our answer is lost.
            self.sender.board.lose_all();
            self.sender.one_at_once = true;
        } else if !resets && length > 0 {
            self.acknowledge = Acknowledge::Now;
            if self.state == TcpState::TimeWait {
                self.forget_us = Some(now_us + TIME_WAIT_US);
            }
            // It says what has come again.
            self.receiver.take(at, segment.payload, false);
        } else if !resets {
            self.challenge(now_us);
        }
        false
    }

    /// Returns whether the segment is to be looked at further.
    fn take_acknowledgement(&mut self, ack: i64, segment: &TcpRepr<'_>, at: i64, now_us: i64) -> bool {
        let (acknowledged, next) = (self.sender.board.acknowledged(), self.sender.board.next());
        if self.state == TcpState::SynReceived {
            if ack != 1 || next < 1 {
                self.reset = segment.ack_number.map(|ack| ack.0 as u32);
                return false;
            }
            self.acknowledged(ack, segment, now_us);
            self.sender.offered = (at - 1, 0);
            self.established(now_us);
        }
        // What nobody can have seen, or is too old, was made up (RFC 5961, section 5).
        if ack > next || ack < acknowledged - self.sender.most.max(65_535) {
            self.challenge(now_us);
            return false;
        }
        if let Some(stamp) = segment.timestamp.filter(|_| self.agreed.stamps && at <= self.told)
            && stamp.tsval.wrapping_sub(self.peer_stamp) as i32 >= 0
        {
            (self.peer_stamp, self.peer_stamp_us) = (stamp.tsval, now_us);
        }
        // An older one says nothing new; what comes with it does.
        if ack >= self.sender.board.acknowledged() {
            let edge = self.sender.edge;
            self.offered(segment, at, ack);
            let is_repeat = ack == acknowledged && segment.segment_len() == 0 && self.sender.edge == edge;
            self.sender.repeats = match is_repeat && self.sender.board.in_flight() > 0 {
                true => self.sender.repeats + 1,
                false => 0,
            };
            self.acknowledged(ack, segment, now_us);
        }
        self.our_end_was_acknowledged(now_us);
        self.state != TcpState::Closed
    }

    /// Takes the window that a segment offers, unless it is older than what is known.
    fn offered(&mut self, segment: &TcpRepr<'_>, at: i64, ack: i64) {
        let shift = if segment.control == TcpControl::Syn { 0 } else { self.agreed.peer_shift };
        let window = i64::from(segment.window_len) << shift;
        let sender = &mut self.sender;
        if (at, ack) >= sender.offered || ack > sender.offered.1 {
            if ack + window > sender.edge {
                sender.round_trips.forget_back_off();
            }
            (sender.edge, sender.offered) = (ack + window, (at, ack));
            sender.most = sender.most.max(window);
        }
    }

    /// The peer has all before `ack`, and what it says in blocks.
    fn acknowledged(&mut self, ack: i64, segment: &TcpRepr<'_>, now_us: i64) {
        let before = self.sender.board.acknowledged();
        let (advances, in_network) = (ack > before, self.sender.board.in_network());
        let blocks = segment.sack_ranges.map(|block| {
            let (start, end) = block.filter(|_| self.agreed.blocks)?;
            let number = |number: u32| smoltcp::wire::TcpSeqNumber(number as i32);
            Some(self.place(number(start))..self.place(number(end)))
        });
        let repeated = blocks[0].as_ref().is_some_and(|first| first.end <= ack);
        let echoed = segment
            .timestamp
            .filter(|_| self.agreed.stamps && advances)
            .map(|stamp| i64::from(self.stamp(now_us).wrapping_sub(stamp.tsecr) as i32) * 1000);
        let sender = &mut self.sender;
        let delivered = sender.board.acknowledge(ack, blocks.into_iter().flatten(), now_us);
        match (delivered.rtt_us, echoed) {
            (Some(rtt_us), _) => sender.round_trips.sample(rtt_us),
            // Something that was sent twice: the stamp says which was answered.
            (None, Some(rtt_us)) if (0..60_000_000).contains(&rtt_us) => sender.round_trips.sample(rtt_us),
            _ => {}
        }
        if advances {
            sender.queue.release(ack.min(sender.queue.end()));
            sender.round_trips.forget_back_off();
            sender.progress_us = now_us;
        }
        let recovered = sender.recovers_to.is_some_and(|point| ack >= point);
        if recovered {
            (sender.recovers_to, sender.timed_out, sender.repeats) = (None, false, 0);
        }
        if delivered.bytes > 0
            && (sender.recovers_to.is_none() && !recovered || sender.timed_out)
            && in_network + self.agreed.segment as i64 >= sender.window.bytes() / 2
        {
            let round_trip_us = sender.round_trips.smoothed_us().unwrap_or_default();
            sender.window.grow(delivered.bytes, now_us, round_trip_us);
        }
        self.probe_was_answered(ack, repeated);
        if self.agreed.blocks {
            self.look_for_losses(now_us);
        } else {
            self.count_repeats(advances, recovered);
        }
        if advances {
            self.arm(now_us);
            self.writer.take().into_iter().for_each(core::task::Waker::wake);
        }
    }

    /// A tail probe that repaired a loss tells of congestion (RFC 8985, section 7.4).
    fn probe_was_answered(&mut self, ack: i64, repeated: bool) {
        let sender = &mut self.sender;
        if let Some((end, again)) = sender.probe
            && ack >= end
        {
            sender.probe = None;
            if again && !repeated && sender.recovers_to.is_none() {
                sender.window.lose(sender.board.in_flight());
            }
        }
    }

    /// For peers without blocks: the third repeat tells of a loss, and so does an acknowledgement that does
    /// not reach all (RFC 6582).
    fn count_repeats(&mut self, advances: bool, recovered: bool) {
        let segment = self.agreed.segment as i64;
        let partial = advances && !recovered && self.sender.recovers_to.is_some() && !self.sender.timed_out;
        if (self.sender.repeats == 3 || partial) && self.sender.board.lose_first(segment) {
            self.lost_something();
            self.sender.one_at_once = true;
        }
    }

    fn our_end_was_acknowledged(&mut self, now_us: i64) {
        let Some(end) = self.end_place() else { return };
        if self.sender.board.acknowledged() < end {
            return;
        }
        match self.state {
            TcpState::FinWait1 => self.set_state(TcpState::FinWait2),
            TcpState::Closing => self.wait(now_us),
            TcpState::LastAck => self.end(),
            _ => {}
        }
    }

    fn wait(&mut self, now_us: i64) {
        self.sender.resend = None;
        self.sender.look_us = None;
        self.keep_us = None;
        self.forget_us = Some(now_us + TIME_WAIT_US);
        self.set_state(TcpState::TimeWait);
    }

    fn take_data(&mut self, segment: &TcpRepr<'_>, at: i64, now_us: i64) {
        if !self.receives() || segment.segment_len() == 0 {
            return;
        }
        let before = self.receiver.next();
        let is_last = segment.control == TcpControl::Fin;
        let taken = self.receiver.take(at, segment.payload, is_last);
        let news = self.receiver.next() - before;
        if news > 0 {
            self.reader.take().into_iter().for_each(core::task::Waker::wake);
        }
        // Every second full segment is acknowledged at once (RFC 5681, section 4.2).
        let much = self.receiver.next() - self.told >= 2 * self.agreed.segment as i64 - 80;
        self.acknowledge = match (taken, self.parameters.acknowledge_after, self.acknowledge) {
            (_, _, Acknowledge::Now) => Acknowledge::Now,
            (Taken::InOrder, Some(delay), known) if !much && !self.receiver.is_over() => match known {
                Acknowledge::At(at_us) => Acknowledge::At(at_us),
                _ => Acknowledge::At(now_us + micros(delay)),
            },
            _ => Acknowledge::Now,
        };
        if self.receiver.is_over() {
            match self.state {
                TcpState::Established => self.set_state(TcpState::CloseWait),
                TcpState::FinWait1 => self.set_state(TcpState::Closing),
                TcpState::FinWait2 => self.wait(now_us),
                _ => {}
            }
        }
    }
}
