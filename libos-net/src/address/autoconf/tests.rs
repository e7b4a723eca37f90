use super::super::hear;
use super::super::message::emit_ipv6;
use super::*;
use alloc::vec;
use smoltcp::time::Duration;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Repr, NdiscNeighborFlags, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};

const OURS: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 9]);
const THEIRS: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 1]);
const ROUTER: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OWN: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 9);
const SECOND: i64 = 1_000_000;

fn frame(source: Ipv6Address, message: NdiscRepr<'_>) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let mut bytes = vec![0; 14 + 40 + message.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: THEIRS, dst_addr: OURS, ethertype: EthernetProtocol::Ipv6 }.emit(&mut frame);
    let all = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    emit_ipv6(source, all, &message, frame.payload_mut());
    bytes
}

/// What a router says of itself and of the prefix fd00:`number`::/64.
fn advert(router_s: u64, number: u16, valid_s: u64) -> Vec<u8> {
    let prefix = NdiscPrefixInformation {
        prefix_len: 64,
        flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
        valid_lifetime: Duration::from_secs(valid_s),
        preferred_lifetime: Duration::from_secs(valid_s),
        prefix: Ipv6Address::new(0xfd00, number, 0, 0, 0, 0, 0, 0),
    };
    let message = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::from_secs(router_s),
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: None,
        mtu: None,
        prefix_info: Some(prefix),
    };
    frame(ROUTER, message)
}

fn take(autoconf: &mut Autoconf, bytes: &[u8], now_us: i64) {
    autoconf.take(&hear(bytes).expect("a message of discovery"), now_us);
}

/// With the address of the link, at one second.
fn started() -> Autoconf {
    let mut autoconf = Autoconf::new(OURS, true, None);
    assert_eq!(autoconf.due_us(), Some(i64::MIN));
    let wanted = Message::Solicit { source: Ipv6Address::UNSPECIFIED, target: OWN };
    assert_eq!(autoconf.poll(0), [wanted]);
    assert_eq!((autoconf.addresses().count(), autoconf.due_us()), (0, Some(SECOND)));
    assert_eq!(autoconf.poll(SECOND), [Message::SolicitRouters { source: OWN }]);
    assert!(autoconf.has_changed() && autoconf.addresses().eq([Ipv6Cidr::new(OWN, 64)]));
    autoconf
}

#[test]
fn the_address_of_the_link_is_used_when_nobody_has_objected_for_a_second() {
    let mut autoconf = started();
    // No router: three questions, then silence.
    assert_eq!(autoconf.due_us(), Some(5 * SECOND));
    assert_eq!(autoconf.poll(5 * SECOND).len() + autoconf.poll(9 * SECOND).len(), 2);
    assert_eq!((autoconf.due_us(), autoconf.poll(100 * SECOND).len()), (None, 0));
}

#[test]
fn an_address_that_somebody_has_or_wants_is_not_taken() {
    let taken =
        NdiscRepr::NeighborAdvert { flags: NdiscNeighborFlags::OVERRIDE, target_addr: OWN, lladdr: None };
    let wanted = NdiscRepr::NeighborSolicit { target_addr: OWN, lladdr: None };
    for (source, message) in [(OWN, taken), (Ipv6Address::UNSPECIFIED, wanted)] {
        let mut autoconf = Autoconf::new(OURS, true, None);
        autoconf.poll(0);
        take(&mut autoconf, &frame(source, message), SECOND / 2);
        assert!(autoconf.poll(SECOND).is_empty());
        assert_eq!((autoconf.addresses().count(), autoconf.duplicates(), autoconf.due_us()), (0, 1, None));
    }
    // One that has an address only asks for ours, and one that comes too late changes nothing.
    let mut autoconf = Autoconf::new(OURS, true, None);
    autoconf.poll(0);
    take(&mut autoconf, &frame(ROUTER, wanted), SECOND / 2);
    autoconf.poll(SECOND);
    take(&mut autoconf, &frame(OWN, taken), 2 * SECOND);
    assert_eq!((autoconf.addresses().count(), autoconf.duplicates()), (1, 0));
}

#[test]
fn a_prefix_makes_an_address_and_its_router_is_the_way() {
    let mut autoconf = started();
    take(&mut autoconf, &advert(1800, 7, 10_000), 2 * SECOND);
    let address = Ipv6Address::new(0xfd00, 7, 0, 0, 0, 0xff, 0xfe00, 9);
    let wanted = Message::Solicit { source: Ipv6Address::UNSPECIFIED, target: address };
    assert_eq!(autoconf.poll(2 * SECOND), [wanted]);
    assert!(autoconf.poll(3 * SECOND).is_empty(), "nobody asks for routers any more");
    assert!(autoconf.has_changed());
    assert_eq!(autoconf.addresses().last(), Some(Ipv6Cidr::new(address, 64)));
    assert_eq!((autoconf.router(), autoconf.due_us()), (Some(ROUTER), Some(1802 * SECOND)));
    // The router goes, the address stays for its time.
    autoconf.poll(1802 * SECOND);
    assert_eq!((autoconf.router(), autoconf.addresses().count()), (None, 2));
    autoconf.poll(10_002 * SECOND);
    assert!(autoconf.has_changed());
    assert_eq!((autoconf.addresses().count(), autoconf.due_us()), (1, None));
}

#[test]
fn nobody_shortens_the_life_of_an_address_below_two_hours() {
    let mut autoconf = started();
    take(&mut autoconf, &advert(0, 7, 100_000), 0);
    autoconf.poll(0);
    autoconf.poll(SECOND);
    take(&mut autoconf, &advert(0, 7, 1), SECOND);
    assert_eq!(autoconf.due_us(), Some(7201 * SECOND));
    autoconf.poll(7200 * SECOND);
    assert_eq!(autoconf.addresses().count(), 2);
    autoconf.poll(7201 * SECOND);
    assert_eq!(autoconf.addresses().count(), 1);
}

#[test]
fn many_prefixes_take_no_more_than_their_room() {
    let mut autoconf = started();
    for number in 0..1000 {
        take(&mut autoconf, &advert(1800, number, 10_000), SECOND);
    }
    autoconf.poll(SECOND);
    autoconf.poll(2 * SECOND);
    assert_eq!(autoconf.addresses().count(), 1 + MOST);
}

#[test]
fn what_did_not_come_from_the_link_is_not_believed() {
    let good = advert(1800, 7, 10_000);
    assert!(hear(&good).is_some());
    let mut far = good.clone();
    far[14 + 7] = 254;
    assert_eq!(hear(&far), None, "a hop limit");
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(hear(&damaged), None, "a checksum");
    // A prefix that is not for addresses of hosts, in a frame with a checksum that is right.
    let mut autoconf = started();
    let mut other = good;
    let flags = 14 + 40 + 16 + 3;
    other[flags] &= !0x40;
    let sum = u16::from_be_bytes([other[14 + 42], other[14 + 43]]);
    let sum = sum.checked_add(0x40).expect("no carry in this frame");
    other[14 + 42..14 + 44].copy_from_slice(&sum.to_be_bytes());
    take(&mut autoconf, &other, 2 * SECOND);
    autoconf.poll(2 * SECOND);
    autoconf.poll(3 * SECOND);
    assert_eq!((autoconf.addresses().count(), autoconf.router()), (1, Some(ROUTER)));
}
