//! Packets of environments: copied, judged, passed on.
#![forbid(unsafe_code)]

use super::headers::Headers;
use super::{AT_ONCE, Jam, Judged, Net, PacketRing, is_whole};
use crate::machine::id::EnvironmentId;
use crate::resource::frame::Pages;
use crate::resource::{Calls, Work, count};
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{
    ETHERNET_HEADER_BYTES, MAX_PACKET_BYTES, PacketCompletion, PacketOutcome, PacketSubmission,
};
use hyperexo_abi::offload::{MAX_LARGE_PACKET_BYTES, MAX_PACKET_FRAMES, Offload, Offloads};

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
            let parts = Parts::next(&rings.transmit, waiting.unwrap_or(0));
            if holding.waits && self.room(now) == Room::NotYet {
                self.tell_device();
                return Ok(Work::Done);
            }
            let staged = self.device.stage();
            let judged = self.judge(id, &parts, pages);
            // Only what goes there waits for the device: those who talk to each other don't care.
            let outside = judged.as_ref().is_ok_and(|judged| self.goes_outside(&judged.headers));
            let room = if outside { self.room(now) } else { Room::Yes };
            let waits = outside && !staged && room != Room::Never;
            self.holding(id).map_err(|_| Status::NotBound)?.waits = waits;
            if waits {
                // It stays in the ring, and is copied and judged anew once there is room.
                continue;
            }
            let sent = judged.and_then(|judged| self.pass_on(&judged, room, pages, calls));
            self.complete(id, &parts, sent, calls);
            if parts.count > 1 {
                break;
            }
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
        parts: &Parts,
        pages: &Pages,
    ) -> Result<Judged, PacketOutcome> {
        let offload = parts.entries[0].offload;
        let most = if offload.kind == 0 { MAX_PACKET_BYTES } else { MAX_LARGE_PACKET_BYTES };
        let bytes = parts.bytes().filter(|bytes| (ETHERNET_HEADER_BYTES..=most).contains(bytes));
        let bytes = bytes.ok_or(PacketOutcome::BadLength)?;
        let mut rest = &mut self.device.packet()[..bytes];
        for PacketSubmission { frame, offset, bytes, .. } in parts.iter() {
            if !pages.has_bound(sender, *frame, Rights::READ) {
                return Err(PacketOutcome::FrameNotBound);
            }
            let (part, behind) = rest.split_at_mut(*bytes as usize);
            // The one time that it is read: the sender may be changing it.
            pages.memory.read(*frame, usize::from(*offset), part);
            rest = behind;
        }
        let headers =
            Headers::parse(&self.device.packet()[..bytes]).filter(|headers| is_whole(headers, bytes));
        let headers = headers.ok_or(PacketOutcome::BadLength)?;
        let done = match offload.kind {
            Offload::TCP4 => Offloads::SEGMENTS4,
            Offload::TCP6 => Offloads::SEGMENTS6,
            _ => Offloads::NONE,
        };
        if !offload.fits(bytes, bytes) || !self.device.offloads().contains(done) {
            Err(PacketOutcome::Unsupported)
        } else if !self.may_send(sender, &headers) {
            Err(PacketOutcome::NotAllowed)
        } else {
            Ok(Judged { headers, bytes, offload, sender: sender.number() })
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
        judged: &Judged,
        room: Room,
        pages: &Pages,
        calls: &mut Calls,
    ) -> Result<u32, PacketOutcome> {
        self.route(judged, pages, calls);
        if self.goes_outside(&judged.headers) {
            if room == Room::Never {
                return Err(PacketOutcome::Timeout);
            }
            let mut offload = judged.offload;
            if !self.device.offloads().contains(Offloads::CHECKSUM) {
                offload.complete(&mut self.device.packet()[..judged.bytes]);
            }
            // To say that it was checked is not the sender's part.
            offload.flags &= Offload::NEEDS_CHECKSUM;
            self.device.send(judged.bytes, offload);
            self.untold = true;
        }
        Ok(judged.bytes as u32)
    }

    /// Passes over the entries of a packet and posts its completion.
    fn complete(
        &mut self,
        sender: EnvironmentId,
        parts: &Parts,
        sent: Result<u32, PacketOutcome>,
        calls: &mut Calls,
    ) {
        let Ok(holding) = self.holding(sender) else { return };
        let counters = holding.accounting;
        let (bytes, outcome) = match sent {
            Ok(bytes) => {
                count(&counters.net_packets_sent, 1);
                count(&counters.net_bytes_sent, u64::from(bytes));
                count(&counters.net_bytes_copied, u64::from(bytes));
                (bytes, PacketOutcome::Ok)
            }
            Err(outcome) => {
                count(&counters.net_packets_refused, 1);
                (0, outcome)
            }
        };
        if let Some(rings) = &mut holding.rings {
            (0..parts.count).for_each(|_| rings.transmit.pass());
            let (tag, outcome) = (parts.entries[0].tag, Some(outcome));
            if rings.transmit.post(&PacketCompletion { tag, bytes, outcome, ..Default::default() }) {
                calls.add(sender, rings.vcpu);
            }
        }
    }
}

/// Where the next packet in a ring lies, copied from there.
struct Parts {
    entries: [PacketSubmission; MAX_PACKET_FRAMES],
    /// Entries that are the packet's: at least one.
    count: usize,
}

impl Parts {
    /// Those of the next packet; `waiting`, at least one, entries are in the ring.
    fn next(ring: &PacketRing, waiting: u32) -> Parts {
        let mut parts = Parts { entries: Default::default(), count: 0 };
        for (ahead, entry) in (0..waiting).zip(&mut parts.entries) {
            *entry = ring.peek(ahead);
            parts.count += 1;
            if !entry.more {
                break;
            }
        }
        parts
    }

    fn iter(&self) -> impl Iterator<Item = &PacketSubmission> {
        self.entries[..self.count].iter()
    }

    /// Bytes of all; `None` if one reaches beyond its frame, or the last is not there.
    fn bytes(&self) -> Option<usize> {
        let within = self.iter().all(|part| usize::from(part.offset) + part.bytes as usize <= FRAME_BYTES);
        let ends = self.iter().last().is_some_and(|last| !last.more);
        (within && ends).then(|| self.iter().map(|part| part.bytes as usize).sum())
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
