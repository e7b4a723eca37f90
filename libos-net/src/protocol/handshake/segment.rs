//! Segments of a handshake: read, and answered.

use super::Handshake;
use crate::flow::Flow;
use crate::link::{Frame, Link, Offloads};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpEndpoint, IpProtocol,
    IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// A segment of TCP, and who sent its frame.
#[derive(Clone, Debug)]
pub(crate) struct Segment<'f> {
    pub(crate) hardware: EthernetAddress,
    pub(crate) flow: Flow,
    pub(crate) tcp: TcpRepr<'f>,
}

impl<'f> Segment<'f> {
    /// Reads a frame that has come by this link. `None` if it is not for us alone, or not as it must be.
    pub(crate) fn parse(frame: &'f [u8], link: &dyn Link) -> Option<Segment<'f>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.dst_addr().0 != link.address() {
            return None;
        }
        let (source, destination, bytes): (IpAddress, IpAddress, _) = match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
                if !packet.verify_checksum() {
                    return None;
                }
                (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
                (packet.src_addr().into(), packet.dst_addr().into(), packet.payload())
            }
            _ => return None,
        };
        if !source.is_unicast() || source == destination {
            return None;
        }
        let packet = TcpPacket::new_checked(bytes).ok()?;
        let mut checks = ChecksumCapabilities::default();
        if link.offloads().contains(Offloads::CHECKSUM) {
            // The stack has looked at it already, unless it was never on a wire.
            checks.tcp = Checksum::None;
        }
        let tcp = TcpRepr::parse(&packet, &source, &destination, &checks).ok()?;
        let flow = Flow {
            local: IpEndpoint::new(destination, tcp.dst_port),
            remote: IpEndpoint::new(source, tcp.src_port),
        };
        Some(Segment { hardware: ethernet.src_addr(), flow, tcp })
    }

    /// What the other end asks for with a SYN; our sequence number is for the caller to choose.
    pub(crate) fn request(&self) -> Option<Handshake> {
        if self.tcp.control != TcpControl::Syn || self.tcp.ack_number.is_some() {
            return None;
        }
        Some(Handshake {
            flow: self.flow,
            local_sequence: 0,
            remote_sequence: self.tcp.seq_number.0 as u32,
            max_segment_bytes: self.tcp.max_seg_size.filter(|bytes| *bytes != 0),
            // RFC 7323, section 2.3.
            window_shift: self.tcp.window_scale.map(|shift| shift.min(14)),
            selective: self.tcp.sack_permitted,
            window_bytes: u32::from(self.tcp.window_len),
        })
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.tcp.seq_number.0 as u32
    }

    pub(crate) fn acknowledges(&self) -> Option<u32> {
        self.tcp.ack_number.map(|number| number.0 as u32)
    }

    /// Whether it only acknowledges.
    pub(crate) fn is_bare(&self) -> bool {
        self.tcp.control == TcpControl::None && self.tcp.payload.is_empty()
    }
}

/// A segment of ours without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Yes: SYN and ACK, with our window.
    Accept { receive_bytes: usize },
    /// This is how far we are: to somebody who seems to be elsewhere (RFC 9293, section 3.10.7.4).
    Where { receive_bytes: usize },
    /// There is nothing with this acknowledgement.
    Reset { acknowledged: u32 },
}

/// Bytes of the longest segment's data that a link carries to an address.
fn max_segment_bytes(link: &dyn Link, to: IpAddress) -> u16 {
    let header = match to {
        IpAddress::Ipv4(_) => 14 + 20 + 20,
        IpAddress::Ipv6(_) => 14 + 40 + 20,
    };
    u16::try_from(link.max_frame_bytes() - header).unwrap_or(u16::MAX)
}

impl Answer {
    /// Sends it to who has this hardware address.
    pub(crate) fn send(self, handshake: &Handshake, to: EthernetAddress, link: &mut dyn Link) {
        let frame = self.frame(handshake, to, link);
        link.send(frame);
    }

    fn frame(self, handshake: &Handshake, to: EthernetAddress, link: &mut dyn Link) -> Frame {
        let Flow { local, remote } = handshake.flow;
        let next = |sequence: u32| TcpSeqNumber(sequence.wrapping_add(1) as i32);
        let own_shift = |bytes| handshake.window_shift.map(|_| Handshake::own_shift(bytes));
        let window = |bytes: usize, shift: u8| u16::try_from(bytes >> shift).unwrap_or(u16::MAX);
        let mut tcp = TcpRepr {
            src_port: local.port,
            dst_port: remote.port,
            control: TcpControl::None,
            seq_number: next(handshake.local_sequence),
            ack_number: Some(next(handshake.remote_sequence)),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        match self {
            Answer::Accept { receive_bytes } => {
                tcp.control = TcpControl::Syn;
                tcp.seq_number = TcpSeqNumber(handshake.local_sequence as i32);
                // The window of a SYN is never shifted.
                tcp.window_len = window(receive_bytes, 0);
                tcp.window_scale = own_shift(receive_bytes);
                tcp.max_seg_size = Some(max_segment_bytes(link, remote.addr));
                tcp.sack_permitted = handshake.selective;
            }
            Answer::Where { receive_bytes } => {
                tcp.window_len = window(receive_bytes, own_shift(receive_bytes).unwrap_or(0));
            }
            Answer::Reset { acknowledged } => {
                tcp.control = TcpControl::Rst;
                tcp.seq_number = TcpSeqNumber(acknowledged as i32);
                tcp.ack_number = None;
            }
        }
        let ip = IpRepr::new(local.addr, remote.addr, IpProtocol::Tcp, tcp.buffer_len(), 64);
        let own = EthernetAddress(link.address());
        let mut frame = link.frame(14 + ip.buffer_len());
        frame.fill(0);
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        let ethertype = match ip {
            IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
            IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
        };
        EthernetRepr { src_addr: own, dst_addr: to, ethertype }.emit(&mut ethernet);
        ip.emit(ethernet.payload_mut(), &ChecksumCapabilities::default());
        let mut packet = TcpPacket::new_unchecked(&mut ethernet.payload_mut()[ip.header_len()..]);
        tcp.emit(&mut packet, &local.addr, &remote.addr, &ChecksumCapabilities::default());
        frame
    }
}
