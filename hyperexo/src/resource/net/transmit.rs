//! Packets of environments: copied, judged, passed on.
#![forbid(unsafe_code)]

use super::headers::Headers;
use super::{AT_ONCE, Jam, Judged, Net, Origin};
use crate::machine::id::EnvironmentId;
use crate::resource::frame::Pages;
use crate::resource::{Calls, Work, count};
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, PacketCompletion, PacketOutcome, PacketSubmission,
};

impl Net {
    /// Takes some of what is in an environment's transmit ring, as far as device and ring have room.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`] without rings; [`Status::BadArgument`] when the ring's index makes no sense.
    pub fn serve(
        &mut self,
        id: EnvironmentId,
        pages: &Pages,
        now: u64,
        calls: &mut Calls,
    ) -> Result<Work, Status> {
        for _ in 0..AT_ONCE {
            let holding = self.holding(id).map_err(|_| Status::NotBound)?;
            let rings = holding.rings.as_ref().ok_or(Status::NotBound)?;
            let waiting = rings.transmit.waiting().ok_or(Status::BadArgument);
            if waiting == Ok(0) || waiting.is_err() || !rings.transmit.has_room(0) {
                self.tell_device();
                return waiting.map(|_| Work::Done);
            }
            let submission = rings.transmit.peek();
            let judged = self.judge(id, &submission, pages);
            // Only what goes there waits for the device: those who talk to each other don't care.
            let outside = judged.as_ref().is_ok_and(|judged| self.goes_outside(&judged.headers));
            let room = if outside { self.room(now) } else { Room::Yes };
            if room == Room::NotYet {
                // It stays in the ring, and is copied and judged anew.
                self.tell_device();
                return Ok(Work::Done);
            }
            let sent = judged.and_then(|judged| self.pass_on(id, &judged, room, pages, calls));
            self.complete(id, submission.tag, sent, calls);
        }
        Ok(Work::More)
    }

    /// Whether the device takes a packet. Once it does not, its time runs.
    pub(super) fn room(&mut self, now: u64) -> Room {
        if self.device.has_room() {
            if self.jam.take().is_some() {
                self.device.interrupt_on_room(false);
            }
            return Room::Yes;
        }
        match &mut self.jam {
            Some(jam) => {
                jam.given_up |= jam.deadline <= now;
                if jam.given_up { Room::Never } else { Room::NotYet }
            }
            None => {
                self.device.interrupt_on_room(true);
                let deadline = now.saturating_add(self.patience);
                self.jam = Some(Jam { deadline, given_up: false });
                // What left before the interrupt was on is not told.
                if self.device.has_room() { self.room(now) } else { Room::NotYet }
            }
        }
    }

    /// Copies a packet and judges the copy.
    fn judge(
        &mut self,
        sender: EnvironmentId,
        submission: &PacketSubmission,
        pages: &Pages,
    ) -> Result<Judged, PacketOutcome> {
        let bytes = submission.bytes as usize;
        if !(ETHERNET_HEADER_BYTES..=MAX_PACKET_BYTES).contains(&bytes) {
            return Err(PacketOutcome::BadLength);
        }
        if !pages.has_bound(sender, submission.frame, Rights::READ) {
            return Err(PacketOutcome::FrameNotBound);
        }
        // The one time that it is read: the sender may be changing it.
        pages.memory.read(submission.frame, 0, &mut self.packet[..bytes]);
        let headers = Headers::parse(&self.packet[..bytes]).ok_or(PacketOutcome::BadLength)?;
        if self.may_send(sender, &headers) {
            Ok(Judged { headers, bytes })
        } else {
            Err(PacketOutcome::NotAllowed)
        }
    }

    /// Whether a packet of an environment is for somebody, or also for somebody, beyond the device.
    fn goes_outside(&self, headers: &Headers) -> bool {
        headers.destination.is_group() || self.place_of(headers.destination).is_none()
    }

    /// Whether an environment may be the sender that a packet names.
    fn may_send(&self, id: EnvironmentId, headers: &Headers) -> bool {
        let honest = headers.claimed_source.is_none_or(|claimed| claimed == headers.source);
        let place = self.place_of(headers.source).filter(|_| honest);
        place.is_some_and(|place| self.filters.permits(id, place, &headers.fields.swapped()))
    }

    /// Passes the packet that has been judged on to everybody it is for; returns its bytes.
    fn pass_on(
        &mut self,
        id: EnvironmentId,
        judged: &Judged,
        room: Room,
        pages: &Pages,
        calls: &mut Calls,
    ) -> Result<u16, PacketOutcome> {
        self.route(Origin::Environment(id), judged, pages, calls);
        if self.goes_outside(&judged.headers) {
            if room == Room::Never {
                return Err(PacketOutcome::Timeout);
            }
            self.device.send(&self.packet[..judged.bytes]);
            self.untold = true;
        }
        Ok(judged.bytes as u16)
    }

    /// Passes over a submission and posts its completion.
    fn complete(
        &mut self,
        sender: EnvironmentId,
        tag: u32,
        sent: Result<u16, PacketOutcome>,
        calls: &mut Calls,
    ) {
        let Ok(holding) = self.holding(sender) else { return };
        let counters = holding.accounting;
        let (bytes, outcome) = match sent {
            Ok(bytes) => {
                count(&counters.net_packets_sent, 1);
                count(&counters.net_bytes_sent, u64::from(bytes));
                (bytes, PacketOutcome::Ok)
            }
            Err(outcome) => {
                count(&counters.net_packets_refused, 1);
                (0, outcome)
            }
        };
        if let Some(rings) = &mut holding.rings {
            rings.transmit.pass();
            if rings.transmit.post(&PacketCompletion { tag, bytes, outcome: Some(outcome) }) {
                calls.add(sender, rings.vcpu);
            }
        }
    }
}

/// Whether a full device is worth waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    NotYet,
    /// It has stopped answering.
    Never,
}
