//! A link for shorter packets than it carries: for all, or on the way to some.

use super::{Frame, Link, NicStatistics, Offloads};
use crate::flow::Flow;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Ways whose length is remembered at most: beyond, the oldest is forgotten.
const MOST_PATHS: usize = 64;
/// How long it is remembered (RFC 1191, section 6.3).
const FORGET_US: i64 = 600_000_000;

/// The way to somebody: how long packets may be, and until when that is believed.
struct Path {
    to: IpAddress,
    bytes: usize,
    until_us: i64,
}

/// A link that says it carries only frames of so many bytes, and that cuts segments of TCP which are longer
/// than their way allows. Protocols have chosen the length of their segments when a router says that it is
/// too much; so they go on, and what they send again arrives.
pub(crate) struct Limited {
    below: Box<dyn Link>,
    max_frame_bytes: usize,
    paths: Vec<Path>,
}

impl Limited {
    /// Limits a link. One that carries less stays as it is.
    pub(crate) fn new(below: Box<dyn Link>, mtu: Option<usize>) -> Limited {
        let max_frame_bytes = mtu.map_or(usize::MAX, |bytes| bytes + ETHERNET);
        Limited { below, max_frame_bytes, paths: Vec::new() }
    }

    /// Packets to this address may have so many bytes. What is said never makes them longer (RFC 1191,
    /// section 3).
    pub(crate) fn limit(&mut self, to: IpAddress, bytes: usize, now_us: i64) {
        let known = self.paths.iter().find(|path| path.to == to);
        let bytes = known.map_or(bytes, |path| path.bytes.min(bytes));
        self.paths.retain(|path| path.to != to);
        if self.paths.len() >= MOST_PATHS {
            self.paths.remove(0);
        }
        self.paths.push(Path { to, bytes, until_us: now_us + FORGET_US });
    }

    /// Forgets what is too old.
    pub(crate) fn forget(&mut self, now_us: i64) {
        self.paths.retain(|path| path.until_us > now_us);
    }

    fn limit_of(&self, frame: &Frame) -> Option<usize> {
        let ethernet = EthernetFrame::new_checked(&frame[..]).ok()?;
        let to: IpAddress = match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                Ipv4Packet::new_unchecked(frame.get(ETHERNET..ETHERNET + 20)?).dst_addr().into()
            }
            EthernetProtocol::Ipv6 => {
                Ipv6Packet::new_unchecked(frame.get(ETHERNET..ETHERNET + 40)?).dst_addr().into()
            }
            _ => return None,
        };
        let path = self.paths.iter().find(|path| path.to == to)?;
        (frame.total_bytes() > path.bytes + ETHERNET).then_some(path.bytes)
    }

    /// Sends a segment in parts that fit. Returns whether it is one.
    fn send_cut(&mut self, frame: &Frame, mtu: usize) -> Option<()> {
        let mut whole = vec![0; frame.total_bytes()];
        frame.copy_to(&mut whole);
        let ip = whole.get(ETHERNET..)?;
        let (header, total) = match ip.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(ip).ok()?;
                let is_tcp = packet.next_header() == IpProtocol::Tcp;
                is_tcp.then_some((usize::from(packet.header_len()), usize::from(packet.total_len())))?
            }
            _ => {
                let packet = Ipv6Packet::new_checked(ip).ok()?;
                (packet.next_header() == IpProtocol::Tcp).then_some((40, packet.total_len()))?
            }
        };
        let tcp = TcpPacket::new_checked(ip.get(header..total)?).ok()?;
        let headers = header + usize::from(tcp.header_len());
        let (first, room) = (tcp.seq_number(), mtu.checked_sub(headers).filter(|room| *room > 0)?);
        let data = &ip[headers..total];
        let count = data.len().div_ceil(room);
        for (number, part) in data.chunks(room).enumerate() {
            let mut cut = self.below.frame(ETHERNET + headers + part.len());
            cut[..ETHERNET + headers].copy_from_slice(&whole[..ETHERNET + headers]);
            cut[ETHERNET + headers..].copy_from_slice(part);
            let sequence = TcpSeqNumber(first.0.wrapping_add((number * room) as i32));
            finish(&mut cut[ETHERNET..], header, sequence, number + 1 == count);
            self.below.send(cut);
        }
        Some(())
    }
}

/// Makes a part of a segment one of its own: lengths, its place, its end, and sums.
fn finish(ip: &mut [u8], header: usize, sequence: TcpSeqNumber, is_last: bool) {
    let bytes = ip.len();
    let (source, destination): (IpAddress, IpAddress) = if ip[0] >> 4 == 4 {
        let mut packet = Ipv4Packet::new_unchecked(&mut *ip);
        packet.set_total_len(bytes as u16);
        packet.fill_checksum();
        (packet.src_addr().into(), packet.dst_addr().into())
    } else {
        let mut packet = Ipv6Packet::new_unchecked(&mut *ip);
        packet.set_payload_len((bytes - 40) as u16);
        (packet.src_addr().into(), packet.dst_addr().into())
    };
    let mut tcp = TcpPacket::new_unchecked(&mut ip[header..]);
    tcp.set_seq_number(sequence);
    if !is_last {
        tcp.set_fin(false);
        tcp.set_psh(false);
    }
    tcp.fill_checksum(&source, &destination);
}

impl Link for Limited {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.below.max_frame_bytes().min(self.max_frame_bytes)
    }
    fn offloads(&self) -> Offloads {
        self.below.offloads()
    }
    fn statistics(&self) -> NicStatistics {
        self.below.statistics()
    }
    fn takes(&self, flow: &Flow) -> bool {
        self.below.takes(flow)
    }
    fn receive(&mut self) -> Option<Frame> {
        self.below.receive()
    }
    fn frame(&mut self, bytes: usize) -> Frame {
        self.below.frame(bytes)
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        if !self.paths.is_empty()
            && let Some(mtu) = self.limit_of(&frame)
            && self.send_cut(&frame, mtu).is_some()
        {
            return self.below.recycle(frame);
        }
        self.below.send(frame);
    }
    fn recycle(&mut self, frame: Frame) {
        self.below.recycle(frame);
    }
    fn flush(&mut self) {
        self.below.flush();
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::wire;

    #[test]
    fn what_is_said_of_a_way_never_makes_it_longer() {
        let mut limited = Limited::new(Box::new(wire(1).0), None);
        let to = IpAddress::v4(10, 0, 0, 2);
        for (said, known) in [(1400, 1400), (65_535, 1400), (600, 600), (1400, 600)] {
            limited.limit(to, said, 0);
            assert_eq!(limited.paths.iter().map(|path| path.bytes).collect::<Vec<_>>(), [known]);
        }
        limited.forget(FORGET_US);
        limited.limit(to, 1400, FORGET_US);
        assert_eq!(limited.paths[0].bytes, 1400, "what is forgotten counts no more");
    }
}
