//! The network: hardware addresses, filters, and the rings that packets go through.
//!
//! A *packet* here is an Ethernet frame without its check sequence; a *frame* is memory, as everywhere else.
//!
//! * Each environment on the network has a hardware address of its own, and all share the machine's
//!   ([`MacAddress::of_environment`]).
//! * A [`Filter`] is a predicate on header fields. An environment allocates filters and gets capabilities for
//!   them; who binds one to read gets the packets that match, who binds one to write may send packets to
//!   which an answer would match. No two environments own filters that overlap; among those of one owner the
//!   one with most fields decides.
//! * Packets go through [`NetRings`]: the kernel copies each once out of the sender's frames, judges the
//!   copy, and puts it into the receiver's frames or onto the wire. So a frame is in the kernel's hands
//!   only during a kick (to send), and when a packet comes (to receive).
//! * A packet may lie in several frames, one entry of a ring for each. What it leaves to others to do travels
//!   with it ([`crate::offload`]), to a neighbour as to the device: whoever has rings takes incomplete
//!   checksums, and packets that nobody has cut into segments. What the device does not do, the kernel does
//!   (checksums), or the packet is refused (segments).
//!
//! A submission of the transmit ring needs [`crate::hypercall::Call::NetKick`]; one of the receive ring needs
//! none. A completion of either raises [`crate::upcall::Cause::Net`] if the ring's `wake` is set.

use crate::offload::Offload;
use crate::ring::{Ring, Slot};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER_BYTES: usize = 14;
/// Bytes of the longest packet: header and 1,500 bytes.
pub const MAX_PACKET_BYTES: usize = ETHERNET_HEADER_BYTES + 1500;
/// Entries of each ring: a packet takes one for each frame that it lies in.
pub const RING_PACKETS: usize = 128;
/// Adjacent frames that [`NetRings`] take.
pub const NET_RING_FRAMES: u64 = 4;

/// EtherType of IPv4 (RFC 894).
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHER_ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464).
pub const ETHER_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag (IEEE 802.1Q), behind which the packet's own follows.
pub const ETHER_VLAN: u16 = 0x8100;
/// IPv4 protocol number of TCP (RFC 9293).
pub const PROTOCOL_TCP: u8 = 6;
/// IPv4 protocol number of UDP (RFC 768).
pub const PROTOCOL_UDP: u8 = 17;
/// IPv6 next header of ICMPv6 (RFC 4443).
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Numbers that a VLAN can have are below this.
const VLANS: u16 = 1 << 12;

/// A hardware address (IEEE 802 MAC address).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// All stations.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);
    /// The machine's address where it has no network device: locally administered, "HX".
    pub const LOOPBACK: MacAddress = MacAddress([0x02, 0, b'H', b'X', 0, 0]);

    /// The address of environment `number` on a machine with this address: locally administered (bit 1 of the
    /// first byte), as different from those of other machines as their last four bytes are, and never the
    /// machine's own.
    pub const fn of_environment(machine: MacAddress, number: u8) -> MacAddress {
        let [first, _, a, b, c, d] = machine.0;
        MacAddress([if first == 0x02 { 0x06 } else { 0x02 }, number, a, b, c, d])
    }

    /// The environment whose address this is, if it has the form of one on a machine with this address.
    pub fn environment_on(self, machine: MacAddress) -> Option<u8> {
        let number = self.0[1];
        (number != 0 && self == MacAddress::of_environment(machine, number)).then_some(number)
    }

    /// Whether it is for a group of stations: multicast, or broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// As a number, first byte highest.
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// From a number below 2⁴⁸; higher bits are left out.
    pub const fn from_bits(bits: u64) -> MacAddress {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        MacAddress([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whom a filter's packets are addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Destination {
    /// The address of the environment that allocates the filter.
    Own = 0,
    /// The machine's address, which environments share.
    Shared = 1,
    /// Groups of stations. Every environment with such a filter gets a copy, and nothing is sent by it.
    Group = 2,
}

/// Which fields of [`Fields`] are there: a bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(pub u8);

/// Header fields as seen from the receiver: *local* is the destination of a packet, *remote* its source. Of
/// an ARP packet they are the target's and the sender's protocol addresses. So it is with neighbour discovery
/// (RFC 4861): of a solicitation, *local* is the address that is asked for; of an advertisement, *remote* is
/// the address that is claimed, and so it is of a solicitation without source (RFC 4862).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Fields {
    /// Number of the VLAN. No packet without a tag has one. A filter that names none matches packets of every
    /// VLAN and those without a tag. So it overlaps with filters for any VLAN that say the same otherwise.
    pub vlan: Option<u16>,
    /// EtherType; behind the tag, if there is one.
    pub ether_type: Option<u16>,
    /// IPv4 protocol number, or that of what follows the extension headers of IPv6.
    pub protocol: Option<u8>,
    /// Address of the receiver.
    pub local: Option<IpAddr>,
    /// Address of the sender.
    pub remote: Option<IpAddr>,
    /// TCP or UDP port of the receiver. No fragment but the first has ports.
    pub local_port: Option<u16>,
    /// TCP or UDP port of the sender.
    pub remote_port: Option<u16>,
}

const ETHER_TYPE: u8 = 1 << 0;
const PROTOCOL: u8 = 1 << 1;
const LOCAL: u8 = 1 << 2;
const REMOTE: u8 = 1 << 3;
const LOCAL_PORT: u8 = 1 << 4;
const REMOTE_PORT: u8 = 1 << 5;
const VLAN: u8 = 1 << 6;

impl Fields {
    /// Which fields are there.
    pub fn shape(&self) -> Shape {
        let bit = |there: bool, bit: u8| if there { bit } else { 0 };
        Shape(
            bit(self.ether_type.is_some(), ETHER_TYPE)
                | bit(self.protocol.is_some(), PROTOCOL)
                | bit(self.local.is_some(), LOCAL)
                | bit(self.remote.is_some(), REMOTE)
                | bit(self.local_port.is_some(), LOCAL_PORT)
                | bit(self.remote_port.is_some(), REMOTE_PORT)
                | bit(self.vlan.is_some(), VLAN),
        )
    }

    /// The fields of a shape alone; `None` if one of them is not there.
    pub fn only(&self, shape: Shape) -> Option<Fields> {
        let has = |bit: u8| shape.0 & bit != 0;
        let part = Fields {
            vlan: self.vlan.filter(|_| has(VLAN)),
            ether_type: self.ether_type.filter(|_| has(ETHER_TYPE)),
            protocol: self.protocol.filter(|_| has(PROTOCOL)),
            local: self.local.filter(|_| has(LOCAL)),
            remote: self.remote.filter(|_| has(REMOTE)),
            local_port: self.local_port.filter(|_| has(LOCAL_PORT)),
            remote_port: self.remote_port.filter(|_| has(REMOTE_PORT)),
        };
        (part.shape() == shape).then_some(part)
    }

    /// The fields of an answer.
    pub fn swapped(&self) -> Fields {
        Fields {
            local: self.remote,
            remote: self.local,
            local_port: self.remote_port,
            remote_port: self.local_port,
            ..*self
        }
    }

    /// Whether some packet could have all these values: a protocol goes with IP, addresses with IP of their
    /// version or ARP, ports with TCP or UDP.
    pub fn is_consistent(&self) -> bool {
        let addressed =
            [self.local, self.remote].into_iter().flatten().all(|address| match self.ether_type {
                Some(ETHER_IPV4 | ETHER_ARP) => address.is_ipv4(),
                Some(ETHER_IPV6) => address.is_ipv6(),
                _ => false,
            });
        let ported = matches!(self.protocol, Some(PROTOCOL_TCP | PROTOCOL_UDP));
        addressed
            && (matches!(self.ether_type, Some(ETHER_IPV4 | ETHER_IPV6)) || self.protocol.is_none())
            && (ported || self.local_port.is_none() && self.remote_port.is_none())
            && self.vlan.is_none_or(|vlan| vlan < VLANS)
    }

    /// Whether a packet could match both.
    pub fn overlaps(&self, other: &Fields) -> bool {
        fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.zip(other).is_none_or(|(one, other)| one == other)
        }
        agree(self.vlan, other.vlan)
            && agree(self.ether_type, other.ether_type)
            && agree(self.protocol, other.protocol)
            && agree(self.local, other.local)
            && agree(self.remote, other.remote)
            && agree(self.local_port, other.local_port)
            && agree(self.remote_port, other.remote_port)
    }
}

/// A predicate on packets: all that is said must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Whom they are addressed to.
    pub destination: Destination,
    /// Values of header fields; a field that is not there may have any.
    pub fields: Fields,
}

impl Filter {
    /// All packets to a destination.
    pub const fn all(destination: Destination) -> Filter {
        let fields = Fields {
            vlan: None,
            ether_type: None,
            protocol: None,
            local: None,
            remote: None,
            local_port: None,
            remote_port: None,
        };
        Filter { destination, fields }
    }

    /// As it travels:
    ///
    /// ```text
    /// words 0–1   local address: low half, high half
    /// words 2–3   remote address
    /// word 4      local port 0–15 | remote port 16–31 | EtherType 32–47 | protocol 48–55
    /// word 5      shape 0–6 | destination 8–9 | VLAN 16–27
    /// ```
    pub fn to_words(&self) -> [u64; 6] {
        let Fields { vlan, ether_type, protocol, local, remote, local_port, remote_port } = self.fields;
        let address = |address: Option<IpAddr>| match address {
            None => 0,
            Some(IpAddr::V4(address)) => address.to_bits().into(),
            Some(IpAddr::V6(address)) => address.to_bits(),
        };
        let (local, remote) = (address(local), address(remote));
        let short = |value: Option<u16>| u64::from(value.unwrap_or(0));
        [
            local as u64,
            (local >> 64) as u64,
            remote as u64,
            (remote >> 64) as u64,
            short(local_port)
                | short(remote_port) << 16
                | short(ether_type) << 32
                | u64::from(protocol.unwrap_or(0)) << 48,
            u64::from(self.fields.shape().0) | (self.destination as u64) << 8 | short(vlan) << 16,
        ]
    }

    /// From words of somebody untrusted. `None` if they make no sense: no such destination, bits of a field
    /// that is not there, fields that no packet has together.
    pub fn from_words(words: [u64; 6]) -> Option<Filter> {
        let [local, local_high, remote, remote_high, rest, kinds] = words;
        let has = |bit: u8| kinds as u8 & bit != 0;
        let short = |shift: u32| (rest >> shift) as u16;
        let ether_type = has(ETHER_TYPE).then(|| short(32));
        let address = |low: u64, high: u64| match ether_type {
            Some(ETHER_IPV6) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))),
            _ => IpAddr::V4(Ipv4Addr::from_bits(low as u32)),
        };
        let destination = match kinds >> 8 & 3 {
            0 => Destination::Own,
            1 => Destination::Shared,
            2 => Destination::Group,
            _ => return None,
        };
        let fields = Fields {
            vlan: has(VLAN).then_some((kinds >> 16) as u16),
            ether_type,
            protocol: has(PROTOCOL).then_some((rest >> 48) as u8),
            local: has(LOCAL).then(|| address(local, local_high)),
            remote: has(REMOTE).then(|| address(remote, remote_high)),
            local_port: has(LOCAL_PORT).then(|| short(0)),
            remote_port: has(REMOTE_PORT).then(|| short(16)),
        };
        let filter = Filter { destination, fields };
        (fields.is_consistent() && filter.to_words() == words).then_some(filter)
    }
}

/// How a packet's way through a ring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PacketOutcome {
    /// Sent, or received.
    Ok = 0,
    /// Shorter than an Ethernet header; or longer than [`MAX_PACKET_BYTES`], or, if it is to be cut into
    /// segments and not for a group, than [`crate::offload::MAX_LARGE_PACKET_BYTES`]; or part of it beyond a
    /// frame; or it does not end within [`crate::offload::MAX_PACKET_FRAMES`].
    BadLength = 1,
    /// The frame is not bound by the environment with the right that is needed.
    FrameNotBound = 2,
    /// To send it, the environment would have to have bound a filter that an answer matches.
    NotAllowed = 3,
    /// The device has taken no packets for too long.
    Timeout = 4,
    /// The work that it leaves to others makes no sense, or is not done here.
    Unsupported = 5,
}

impl PacketOutcome {
    /// The outcome with this number; `None` if nobody defined it.
    pub fn from_number(number: u32) -> Option<PacketOutcome> {
        [Self::Ok, Self::BadLength, Self::FrameNotBound, Self::NotAllowed, Self::Timeout, Self::Unsupported]
            .into_iter()
            .find(|outcome| *outcome as u32 == number)
    }
}

impl fmt::Display for PacketOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PacketOutcome::Ok => "done",
            PacketOutcome::BadLength => "too short or too long for a packet",
            PacketOutcome::FrameNotBound => "frame is not bound",
            PacketOutcome::NotAllowed => "no filter bound for sending is answered by it",
            PacketOutcome::Timeout => "the device has stopped taking packets",
            PacketOutcome::Unsupported => "what it leaves to the device makes no sense, or is not done",
        })
    }
}

/// A part of a packet to be sent, or room for a part of one that comes: that is the whole frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketSubmission {
    /// The frame.
    pub frame: u64,
    /// Returned with the completion; means nothing to the kernel.
    pub tag: u32,
    /// Bytes to be sent. Of no meaning for room, as is all that follows.
    pub bytes: u32,
    /// Where in the frame they begin.
    pub offset: u16,
    /// The packet goes on with the next entry.
    pub more: bool,
    /// What it leaves to others. Only that of a packet's first entry counts.
    pub offload: Offload,
}

/// What has become of a packet that was sent, with the tag of its first entry; or of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCompletion {
    /// Tag of the submission.
    pub tag: u32,
    /// Bytes sent, or received in this frame; 0 unless all went well.
    pub bytes: u32,
    /// Further frames of the packet that has come: each has a completion, right behind this one.
    pub more: u16,
    /// How it ended. `None`: a number that nobody defined.
    pub outcome: Option<PacketOutcome>,
    /// What a packet that has come leaves to others, or was done already.
    pub offload: Offload,
}

/// Memory of a submission: frame; tag | bytes << 32; offload; offload | offset << 16 | more << 32.
#[repr(C)]
pub struct PacketSubmissionSlot([AtomicU64; 4]);

impl Slot for PacketSubmissionSlot {
    type Value = PacketSubmission;

    fn store(&self, submission: &PacketSubmission) {
        let [low, high] = submission.offload.to_words();
        let words = [
            submission.frame,
            u64::from(submission.tag) | u64::from(submission.bytes) << 32,
            low,
            high | u64::from(submission.offset) << 16 | u64::from(submission.more) << 32,
        ];
        self.0.iter().zip(words).for_each(|(slot, word)| slot.store(word, Ordering::Relaxed));
    }

    fn load(&self) -> PacketSubmission {
        let [frame, tag_and_bytes, low, high] =
            core::array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        PacketSubmission {
            frame,
            tag: tag_and_bytes as u32,
            bytes: (tag_and_bytes >> 32) as u32,
            offset: (high >> 16) as u16,
            more: high >> 32 != 0,
            offload: Offload::from_words([low, high]),
        }
    }
}

/// Memory of a completion: tag | bytes << 32; offload; offload | more << 16 | outcome << 32.
#[repr(C)]
pub struct PacketCompletionSlot([AtomicU64; 3]);

impl Slot for PacketCompletionSlot {
    type Value = PacketCompletion;

    fn store(&self, completion: &PacketCompletion) {
        let outcome = completion.outcome.map_or(u64::from(u32::MAX), |outcome| outcome as u64);
        let [low, high] = completion.offload.to_words();
        let words = [
            u64::from(completion.tag) | u64::from(completion.bytes) << 32,
            low,
            high | u64::from(completion.more) << 16 | outcome << 32,
        ];
        self.0.iter().zip(words).for_each(|(slot, word)| slot.store(word, Ordering::Relaxed));
    }

    fn load(&self) -> PacketCompletion {
        let [tag_and_bytes, low, high] = core::array::from_fn(|index| self.0[index].load(Ordering::Relaxed));
        PacketCompletion {
            tag: tag_and_bytes as u32,
            bytes: (tag_and_bytes >> 32) as u32,
            more: (high >> 16) as u16,
            outcome: PacketOutcome::from_number((high >> 32) as u32),
            offload: Offload::from_words([low, high]),
        }
    }
}

/// A ring of packets, one direction.
pub type PacketRing = Ring<PacketSubmissionSlot, PacketCompletionSlot, RING_PACKETS, RING_PACKETS>;

/// The rings of an environment. Frames of zeros are empty rings.
#[repr(C)]
pub struct NetRings {
    /// Packets to be sent.
    pub transmit: PacketRing,
    /// Room for packets that come, taken in order, as many frames as the packet needs.
    pub receive: PacketRing,
}

const _: () = assert!(size_of::<NetRings>() == NET_RING_FRAMES as usize * crate::FRAME_BYTES);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn full() -> Filter {
        Filter {
            destination: Destination::Shared,
            fields: Fields {
                vlan: Some(4095),
                ether_type: Some(ETHER_IPV4),
                protocol: Some(PROTOCOL_UDP),
                local: Some(Ipv4Addr::new(10, 0, 2, 15).into()),
                remote: Some(Ipv4Addr::new(255, 1, 0, 254).into()),
                local_port: Some(53),
                remote_port: Some(0xfffe),
            },
        }
    }

    /// The same over IPv6.
    fn full6() -> Fields {
        Fields {
            ether_type: Some(ETHER_IPV6),
            local: Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7))),
            remote: Some(IpAddr::V6(Ipv6Addr::new(0xffff, 1, 2, 3, 4, 5, 6, 0xffff))),
            ..full().fields
        }
    }

    #[test]
    fn words_and_filters_are_inverse() {
        for (shape, all) in (0..128).flat_map(|shape| [(shape, full().fields), (shape, full6())]) {
            let fields = all.only(Shape(shape)).unwrap();
            assert_eq!(fields.shape(), Shape(shape));
            for destination in [Destination::Own, Destination::Shared, Destination::Group] {
                let filter = Filter { destination, fields };
                let expected = fields.is_consistent().then_some(filter);
                assert_eq!(Filter::from_words(filter.to_words()), expected, "{filter:?}");
            }
        }
    }

    #[test]
    fn words_that_make_no_sense_are_no_filter() {
        let all = Filter::all(Destination::Own).to_words();
        let http6 = Filter { destination: Destination::Own, fields: full6() }.to_words();
        assert!(Filter::from_words(all).is_some() && Filter::from_words(http6).is_some());
        for (word, bit) in [(0, 0), (1, 63), (2, 0), (4, 0), (4, 63), (5, 7), (5, 9), (5, 16), (5, 28)] {
            let mut words = all;
            words[word] |= 1 << bit;
            if bit == 9 {
                words[word] |= 1 << 8;
            }
            assert_eq!(Filter::from_words(words), None, "bit {bit} of word {word}");
        }
        let four_in_six = Fields { local: full().fields.local, ..full6() };
        assert!(!four_in_six.is_consistent() && full6().is_consistent());
        assert!(!Fields { vlan: Some(4096), ..full6() }.is_consistent());
        assert!(!Fields { ether_type: Some(ETHER_ARP), ..full6() }.is_consistent());
        let mut icmp_port = full();
        icmp_port.fields.protocol = Some(1);
        assert_eq!(Filter::from_words(icmp_port.to_words()), None);
    }

    #[test]
    fn overlap_means_that_a_packet_matches_both() {
        let all = full().fields;
        let http = Fields { local_port: Some(80), ..all };
        assert!(!all.overlaps(&http));
        assert!(Fields::default().overlaps(&all));
        let to_port = Fields { local: None, remote: None, remote_port: None, ..all };
        let from_host = Fields { local_port: None, ..all };
        assert!(to_port.overlaps(&from_host) && from_host.overlaps(&to_port));
    }

    #[test]
    fn answers_swap_the_sides() {
        let all = full().fields;
        assert_eq!(all.swapped().local, all.remote);
        assert_eq!(all.swapped().remote_port, all.local_port);
        assert_eq!(all.swapped().swapped(), all);
    }

    #[test]
    fn environments_have_addresses_of_their_own() {
        let machine = MacAddress([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);
        let seven = MacAddress::of_environment(machine, 7);
        assert_eq!(seven.to_string(), "02:07:00:12:34:56");
        assert_eq!(seven.environment_on(machine), Some(7));
        assert_eq!(machine.environment_on(machine), None);
        assert_eq!(seven.environment_on(MacAddress::LOOPBACK), None);
        assert_eq!(MacAddress::LOOPBACK.environment_on(MacAddress::LOOPBACK), None);
        // A machine whose own address looks like that of an environment.
        assert_eq!(seven.environment_on(seven), None);
        assert_eq!(MacAddress::of_environment(seven, 7).environment_on(seven), Some(7));
        assert_eq!(MacAddress::from_bits(seven.to_bits()), seven);
        assert!(MacAddress::BROADCAST.is_group() && !seven.is_group());
    }

    #[test]
    fn slots_give_back_what_was_stored() {
        let slot = PacketSubmissionSlot([const { AtomicU64::new(0) }; 4]);
        let offload = Offload { segment_bytes: u16::MAX, ..Offload::checksum(34, u16::MAX) };
        let submission = PacketSubmission {
            frame: 1 << 51,
            tag: u32::MAX,
            bytes: 1514,
            offset: 4095,
            more: true,
            offload,
        };
        for submission in [submission, PacketSubmission { more: false, offset: 0, ..submission }] {
            slot.store(&submission);
            assert_eq!(slot.load(), submission);
        }
        let slot = PacketCompletionSlot([const { AtomicU64::new(0) }; 3]);
        for outcome in 0..6 {
            let outcome = PacketOutcome::from_number(outcome);
            let completion = PacketCompletion { tag: u32::MAX, bytes: 65_549, more: 16, outcome, offload };
            slot.store(&completion);
            assert_eq!(slot.load(), completion);
        }
        slot.0[2].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(slot.load().outcome, None);
    }
}
