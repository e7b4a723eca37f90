//! Segments as frames: taken apart and put together by smoltcp's `wire`.

use super::departure::Departure;
use super::machine::Machine;
use super::queue::Stored;
use crate::flow::Flow;
use crate::link::{Frame, Offload, Offloads};
use crate::protocol::Outlet;
use core::ops::Range;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpTimestampRepr, checksum,
};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;
/// Shared bytes that are gathered: fewer are copied in less time than a device takes to look for them.
const LEAST_GATHERED: usize = 256;
/// Hops that a packet may take.
const HOPS: u8 = 64;

/// A segment that has come, and the neighbour that has sent it. `None` if it makes no sense, is damaged, or
/// is not for us.
pub(super) fn parse<'f>(
    frame: &'f Frame,
    flow: &Flow,
    outlet: &Outlet<'_>,
) -> Option<(TcpRepr<'f>, EthernetAddress)> {
    let ethernet = EthernetFrame::new_checked(&**frame).ok()?;
    if ethernet.dst_addr() != EthernetAddress(outlet.hardware_address()) || !ethernet.src_addr().is_unicast()
    {
        return None;
    }
    let payload = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            if packet.version() != 4 || !packet.verify_checksum() {
                return None;
            }
            packet.payload()
        }
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(ethernet.payload()).ok()?.payload(),
        _ => return None,
    };
    let segment = TcpPacket::new_checked(payload).ok()?;
    let checks = match outlet.offloads().contains(Offloads::CHECKSUM) {
        true => ChecksumCapabilities::ignored(),
        false => ChecksumCapabilities::default(),
    };
    let repr = TcpRepr::parse(&segment, &flow.remote.addr, &flow.local.addr, &checks).ok()?;
    Some((repr, ethernet.src_addr()))
}

impl Machine {
    /// Bytes that fit into a segment of the stream.
    pub(super) fn room_in_segment(&self) -> usize {
        let stamps = if self.agreed.stamps { 12 } else { 0 };
        (self.agreed.segment - stamps).max(1)
    }

    /// The header of what leaves.
    fn header(&mut self, flow: &Flow, departure: &Departure, mtu: usize, now_us: i64) -> TcpRepr<'static> {
        let next = self.sender.board.next();
        let (end, ends) = (self.sender.queue.end(), self.sender.ends);
        let (place, control) = match departure {
            Departure::Reset { .. } => (next, TcpControl::Rst),
            Departure::Bare { before } => (next - i64::from(*before), TcpControl::None),
            Departure::Range(range) if range.start == 0 => (0, TcpControl::Syn),
            Departure::Range(range) if ends && range.end > end => (range.start, TcpControl::Fin),
            Departure::Range(range) if range.end == end => (range.start, TcpControl::Psh),
            Departure::Range(range) => (range.start, TcpControl::None),
        };
        let seq_number = match departure {
            Departure::Reset { number, .. } => smoltcp::wire::TcpSeqNumber(*number as i32),
            _ => self.number(place),
        };
        let known = self.receiver.next() > 0;
        let acknowledges = match departure {
            Departure::Reset { acknowledges, .. } => *acknowledges,
            _ => known,
        };
        let is_syn = control == TcpControl::Syn;
        // The window of a SYN is not shifted; there a peer of which nothing is known is offered options.
        let shift = if is_syn { 0 } else { self.agreed.shift };
        let window = self.receiver.offer(self.agreed.segment, shift) >> shift;
        let offers = is_syn && (!known || self.agreed.stamps);
        let blocks =
            !is_syn && control != TcpControl::Rst && self.agreed.blocks && self.receiver.has_blocks();
        let stamps = offers || !is_syn && self.agreed.stamps && control != TcpControl::Rst;
        // Blocks go with segments without data, so that those with data are full.
        let bare = matches!(departure, Departure::Bare { .. });
        let sack_ranges = match blocks && bare {
            true => self.receiver.blocks(3).map(|block| {
                let number = |place| self.peer_number(place).0 as u32;
                block.map(|block| (number(block.start), number(block.end)))
            }),
            false => [None; 3],
        };
        TcpRepr {
            src_port: flow.local.port,
            dst_port: flow.remote.port,
            control,
            seq_number,
            ack_number: acknowledges.then(|| self.peer_number(self.receiver.next())),
            window_len: window.min(0xffff) as u16,
            window_scale: (is_syn && (!known || self.agreed.shifts)).then(|| self.receiver.shift()),
            max_seg_size: is_syn.then(|| (mtu - self.header_bytes()).min(0xffff) as u16),
            sack_permitted: is_syn && (!known || self.agreed.blocks),
            sack_ranges,
            timestamp: stamps.then(|| TcpTimestampRepr::new(self.stamp(now_us), self.peer_stamp)),
            payload: &[],
        }
    }

    /// Puts together what leaves, and sends it.
    pub(super) fn emit(&mut self, departure: &Departure, to: EthernetAddress, outlet: &mut Outlet<'_>) {
        let Some(flow) = self.flow else { return };
        let mtu = outlet.max_frame_bytes() - ETHERNET_BYTES;
        let repr = self.header(&flow, departure, mtu, outlet.now_us());
        let data = match departure {
            Departure::Range(range) if range.start > 0 => range.start..range.end.min(self.sender.queue.end()),
            _ => 0..0,
        };
        let data_bytes = (data.end - data.start).max(0) as usize;
        let tcp_bytes = repr.header_len();
        let ip =
            IpRepr::new(flow.local.addr, flow.remote.addr, IpProtocol::Tcp, tcp_bytes + data_bytes, HOPS);
        let start = ETHERNET_BYTES + ip.header_len();
        let head = start + tcp_bytes;
        let copied = self.copied(&data);
        let mut frame = outlet.frame(head + copied);
        put_headers(&mut frame, &repr, &ip, (EthernetAddress(outlet.hardware_address()), to));
        let sums = !outlet.offloads().contains(Offloads::CHECKSUM);
        let sum = self.put_data(&mut frame, head, data, sums);
        let length = (tcp_bytes + data_bytes) as u32;
        let pseudo = checksum::pseudo_header(&flow.local.addr, &flow.remote.addr, IpProtocol::Tcp, length);
        let header = &mut frame[start..head];
        if sums {
            let sum = checksum::combine(&[pseudo, checksum::data(header), sum]);
            TcpPacket::new_unchecked(header).set_checksum(!sum);
        } else {
            TcpPacket::new_unchecked(header).set_checksum(pseudo);
            frame.set_offload(self.offload(start, head, data_bytes));
        }
        self.counted.bytes_sent += data_bytes as u64;
        outlet.send(frame);
    }

    /// What the link is to do: complete the checksum, and cut what is more than a segment.
    fn offload(&self, start: usize, head: usize, data_bytes: usize) -> Offload {
        let offload = Offload::checksum(start as u16, 16);
        let segment = self.room_in_segment();
        if data_bytes <= segment {
            return offload;
        }
        let kind = if self.header_bytes() > 40 { Offload::TCP6 } else { Offload::TCP4 };
        Offload { kind, header_bytes: head as u16, segment_bytes: segment as u16, ..offload }
    }

    /// How many bytes of a part of the stream are copied behind the headers: those before the first shared
    /// ones, if more shared ones follow than are worth a copy; else all.
    fn copied(&self, data: &Range<i64>) -> usize {
        let (mut before, mut shared, mut mixed) = (0, 0, false);
        for stored in self.sender.queue.range(data.clone()) {
            match stored {
                Stored::Copied(bytes) if shared == 0 => before += bytes.len(),
                Stored::Copied(_) => mixed = true,
                Stored::Shared(_, range) => shared += range.len(),
            }
        }
        let all = (data.end - data.start).max(0) as usize;
        if mixed || shared < LEAST_GATHERED { all } else { before }
    }

    /// Puts a part of the stream behind the headers: copies what the frame has room for, and lets it share
    /// the rest. Returns the sum, if that is wanted.
    fn put_data(&mut self, frame: &mut Frame, head: usize, data: Range<i64>, sums: bool) -> u16 {
        let (mut sum, mut odd, mut at) = (0, false, head);
        let room = frame.len();
        for stored in self.sender.queue.range(data) {
            let bytes = match &stored {
                Stored::Copied(bytes) => *bytes,
                Stored::Shared(shared, range) => &shared[range.clone()],
            };
            if sums {
                let (part, looked_at) = match &stored {
                    Stored::Copied(bytes) => (checksum::data(bytes), bytes.len()),
                    Stored::Shared(shared, range) => shared.sum(range.clone()),
                };
                self.counted.bytes_summed += looked_at as u64;
                // Behind an odd number of bytes, each is the other half of its word (RFC 1071, section 2 B).
                sum = checksum::combine(&[sum, if odd { part.swap_bytes() } else { part }]);
                odd ^= bytes.len() % 2 == 1;
            }
            match stored {
                Stored::Shared(shared, range) if at == room => frame.push(shared.piece(range)),
                _ => {
                    frame[at..at + bytes.len()].copy_from_slice(bytes);
                    self.counted.bytes_copied += bytes.len() as u64;
                    at += bytes.len();
                }
            }
        }
        sum
    }
}

fn put_headers(
    frame: &mut Frame,
    repr: &TcpRepr<'_>,
    ip: &IpRepr,
    (from, to): (EthernetAddress, EthernetAddress),
) {
    let ethertype = match ip.src_addr() {
        IpAddress::Ipv4(_) => EthernetProtocol::Ipv4,
        IpAddress::Ipv6(_) => EthernetProtocol::Ipv6,
    };
    let mut ethernet = EthernetFrame::new_unchecked(&mut **frame);
    EthernetRepr { src_addr: from, dst_addr: to, ethertype }.emit(&mut ethernet);
    let packet = ethernet.payload_mut();
    ip.emit(&mut *packet, &ChecksumCapabilities::default());
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    // The checksum is put together from what is known of the data.
    repr.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), &ChecksumCapabilities::ignored());
}
