//! Sockets of smoltcp with a first sequence number of our choice, and sockets whose handshake is over.
//!
//! smoltcp draws sequence numbers from the interface's generator, which can be predicted after some of them,
//! and has no way to make a socket that is connected. But nothing binds a socket to an interface: so it
//! begins in one of its own, whose generator is set such that the wanted number comes next, and hears there
//! what the other end has said. The number is checked by a test, as it depends on smoltcp's generator: hence
//! its version in `Cargo.toml` is exact.

use super::Handshake;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::Socket;
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Multiplier and addend of smoltcp's generator: sPCG32 (M. O'Neill, "PCG: A Family of Simple Fast
/// Space-Efficient Statistically Good Algorithms for Random Number Generation").
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const ADDEND: u64 = 0x7590_ef39;

/// The inverse of an odd number modulo 2^64, by Newton's method: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut bits = 3;
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// The generator's state one step back.
fn step_back(state: u64) -> u64 {
    state.wrapping_sub(ADDEND).wrapping_mul(const { inverse(MULTIPLIER) })
}

/// What the generator yields in a state.
fn output(state: u64) -> u32 {
    (state >> (29 - (state >> 61))) as u32
}

/// A seed with which an interface draws this number for the first connection that begins in it.
fn seed_for(number: u32) -> u64 {
    // With zeros in the highest three bits, what comes out is what was shifted up by 29. The bits below are
    // free.
    let states = (0..).map(|low| u64::from(number) << 29 | low);
    // Before that it draws a number of packets, again and again until it is not zero.
    let is_once = |before: u64| {
        let drawn = output(before);
        (drawn ^ drawn >> 16) as u16 != 0
    };
    let before = states.map(step_back).find(|before| is_once(*before)).unwrap_or_default();
    step_back(before)
}

/// A device that gives one packet, and drops what it is given.
struct Once<'p>(Option<&'p [u8]>);

impl phy::RxToken for Once<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0.unwrap_or_default())
    }
}

/// Room for a packet that nobody gets.
struct Nowhere;

/// More than any packet without data has.
const PACKET_BYTES: usize = 128;

impl phy::TxToken for Nowhere {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, fill: F) -> R {
        fill(&mut [0; PACKET_BYTES][..bytes])
    }
}

impl phy::Device for Once<'_> {
    type RxToken<'t>
        = Once<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Nowhere
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Once<'_>, Nowhere)> {
        self.0.take().map(|packet| (Once(Some(packet)), Nowhere))
    }

    fn transmit(&mut self, _: Instant) -> Option<Nowhere> {
        Some(Nowhere)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        // Nobody checks them.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities.checksum.ipv4 = Checksum::None;
        capabilities
    }
}

/// An interface in which the next connection begins with this sequence number.
fn interface(sequence: u32, now: Instant) -> Interface {
    let mut settings = Config::new(HardwareAddress::Ip);
    settings.random_seed = seed_for(sequence);
    Interface::new(settings, &mut Once(None), now)
}

/// Has a closed socket begin to open a connection, with this sequence number.
pub(super) fn connect(socket: &mut Socket<'_>, handshake: &Handshake, now: Instant) -> bool {
    let flow = handshake.flow;
    socket.connect(interface(handshake.local_sequence, now).context(), flow.remote, flow.local).is_ok()
}

/// Has the closed socket of a set be connected, as was agreed. Returns whether it is.
pub(super) fn establish(
    sockets: &mut SocketSet<'_>,
    handle: SocketHandle,
    agreed: &Handshake,
    now: Instant,
) -> bool {
    let flow = agreed.flow;
    let mut interface = interface(agreed.local_sequence, now);
    interface.update_ip_addrs(|addresses| {
        // There is room: it is the first.
        let _ = addresses.push(IpCidr::new(flow.local.addr, bits(flow.local.addr)));
    });
    let socket = sockets.get_mut::<Socket<'_>>(handle);
    if socket.connect(interface.context(), flow.remote, flow.local).is_err() {
        return false;
    }
    // As if we had asked: the answer tells all that matters, and there is nothing else to take.
    let answer = TcpRepr {
        src_port: flow.remote.port,
        dst_port: flow.local.port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(agreed.remote_sequence as i32),
        ack_number: Some(TcpSeqNumber(agreed.local_sequence.wrapping_add(1) as i32)),
        window_len: u16::try_from(agreed.window_bytes).unwrap_or(u16::MAX),
        window_scale: agreed.window_shift,
        max_seg_size: agreed.max_segment_bytes,
        sack_permitted: agreed.selective,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = IpRepr::new(flow.remote.addr, flow.local.addr, IpProtocol::Tcp, answer.buffer_len(), 64);
    let mut packet = [0; PACKET_BYTES];
    let packet = &mut packet[..ip.buffer_len()];
    ip.emit(&mut *packet, &ChecksumCapabilities::ignored());
    let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    answer.emit(&mut segment, &flow.remote.addr, &flow.local.addr, &ChecksumCapabilities::ignored());
    let mut device = Once(Some(packet));
    interface.poll_ingress_single(now, &mut device, sockets);
    // The acknowledgement that it sends now has been sent before.
    while interface.poll_egress(now, &mut device, sockets) != PollResult::None {}
    sockets.get::<Socket<'_>>(handle).state() == smoltcp::socket::tcp::State::Established
}

fn bits(address: IpAddress) -> u8 {
    match address {
        IpAddress::Ipv4(_) => 32,
        IpAddress::Ipv6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;
    use alloc::vec;
    use alloc::vec::Vec;
    use smoltcp::socket::tcp::{SocketBuffer, State};
    use smoltcp::wire::{IpEndpoint, Ipv4Packet};

    fn agreed(sequence: u32) -> Handshake {
        let end = |last, port| IpEndpoint::new(IpAddress::v4(10, 0, 0, last), port);
        Handshake {
            flow: Flow { local: end(1, 80), remote: end(2, 1000) },
            local_sequence: sequence,
            remote_sequence: !sequence,
            max_segment_bytes: Some(1000),
            window_shift: Some(3),
            selective: true,
            window_bytes: 70_000,
        }
    }

    fn closed() -> Socket<'static> {
        Socket::new(SocketBuffer::new(vec![0; 200_000]), SocketBuffer::new(vec![0; 4000]))
    }

    /// A device that keeps what it is given.
    #[derive(Default)]
    struct Kept(Vec<Vec<u8>>);

    impl phy::TxToken for &mut Kept {
        fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, fill: F) -> R {
            self.0.push(vec![0; bytes]);
            fill(self.0.last_mut().unwrap())
        }
    }

    impl phy::Device for Kept {
        type RxToken<'t> = Once<'t>;
        type TxToken<'t> = &'t mut Kept;

        fn receive(&mut self, _: Instant) -> Option<(Once<'_>, &mut Kept)> {
            None
        }
        fn transmit(&mut self, _: Instant) -> Option<&mut Kept> {
            Some(self)
        }
        fn capabilities(&self) -> DeviceCapabilities {
            Once(None).capabilities()
        }
    }

    /// The segments that a socket sends now.
    fn sent(socket: Socket<'static>) -> Vec<Vec<u8>> {
        let (mut device, now) = (Kept::default(), Instant::ZERO);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, now);
        interface.update_ip_addrs(|own| own.push(IpCidr::new(IpAddress::v4(10, 0, 0, 1), 24)).unwrap());
        let mut sockets = SocketSet::new(Vec::new());
        sockets.add(socket);
        while interface.poll_egress(now, &mut device, &mut sockets) != PollResult::None {}
        device.0
    }

    #[test]
    fn a_socket_begins_with_the_number_that_was_wanted() {
        for sequence in [0, 1, 0x1234_5678, 0x8000_0000, u32::MAX] {
            let mut socket = closed();
            assert!(connect(&mut socket, &agreed(sequence), Instant::ZERO));
            let packets = sent(socket);
            let segment =
                TcpPacket::new_checked(Ipv4Packet::new_checked(&packets[0][..]).unwrap().payload().to_vec());
            let segment = segment.unwrap();
            assert!(segment.syn() && !segment.ack());
            assert_eq!(segment.seq_number().0 as u32, sequence);
        }
    }

    #[test]
    fn a_socket_is_connected_and_goes_on_from_there() {
        for sequence in [0, 0x1234_5678, u32::MAX] {
            let mut sockets = SocketSet::new(Vec::new());
            let handle = sockets.add(closed());
            assert!(establish(&mut sockets, handle, &agreed(sequence), Instant::ZERO));
            let smoltcp::socket::Socket::Tcp(mut socket) = sockets.remove(handle) else {
                panic!("none of TCP")
            };
            assert_eq!(socket.state(), State::Established);
            socket.set_nagle_enabled(false);
            socket.send_slice(&[7; 1500]).unwrap();
            let packets = sent(socket);
            let bytes: Vec<u8> = Ipv4Packet::new_checked(&packets[0][..]).unwrap().payload().to_vec();
            let segment = TcpPacket::new_checked(&bytes).unwrap();
            assert_eq!(segment.seq_number().0 as u32, sequence.wrapping_add(1));
            assert_eq!(segment.ack_number().0 as u32, (!sequence).wrapping_add(1));
            assert_eq!(segment.payload().len(), 1000, "what the other end takes at once");
            assert_eq!(usize::from(segment.window_len()), 200_000 >> Handshake::own_shift(200_000));
            assert_eq!(packets.len(), 2, "data alone: the acknowledgement was sent before");
        }
    }
}
