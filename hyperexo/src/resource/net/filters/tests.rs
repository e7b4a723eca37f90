//! The table against a list of filters that is searched one by one.

use super::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use hyperexo_abi::net::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use proptest::prelude::*;
use std::vec::Vec;

/// Environments that the table is for.
const ENVIRONMENTS: usize = 4;

fn table() -> FilterTable {
    let mut table = FilterTable::new([7; 16]);
    table.admit(ENVIRONMENTS, 1 << 20).unwrap();
    table
}

fn id(number: u16) -> EnvironmentId {
    EnvironmentId::new(number, 0)
}

/// The claim as if it had been sealed and were current; the error if it is not.
fn current(table: &FilterTable, claim: &Claim) -> Result<Current, Status> {
    table.check(&Verified::believed(*claim))
}

/// What the kernel does with a capability for a filter.
trait Calls {
    fn bind_claim(&mut self, who: u16, claim: &Claim, rights: Rights) -> Result<(), Status>;
    fn free_claim(&mut self, claim: &Claim) -> Result<(), Status>;
    fn revoke_claim(&mut self, claim: &Claim, except: u16) -> Result<Claim, Status>;
    fn end(&mut self, who: u16);
}

impl Calls for FilterTable {
    fn bind_claim(&mut self, who: u16, claim: &Claim, rights: Rights) -> Result<(), Status> {
        let current = current(self, claim)?;
        self.bind(id(who), current, rights)
    }

    fn free_claim(&mut self, claim: &Claim) -> Result<(), Status> {
        let current = current(self, claim)?;
        self.free(current);
        Ok(())
    }

    fn revoke_claim(&mut self, claim: &Claim, except: u16) -> Result<Claim, Status> {
        let current = current(self, claim)?;
        let generation = self.revoke(current, id(except))?;
        Ok(Claim { generation, ..*claim })
    }

    fn end(&mut self, who: u16) {
        while !self.release_some(id(who)) {}
    }
}

fn udp_port(destination: Destination, port: u16) -> Filter {
    let fields = Fields {
        ether_type: Some(ETHER_IPV4),
        protocol: Some(PROTOCOL_UDP),
        local_port: Some(port),
        ..Fields::default()
    };
    Filter { destination, fields }
}

/// A UDP packet with all fields.
fn packet(local_port: u16) -> Fields {
    Fields {
        vlan: Some(7),
        local: Some(Ipv4Addr::new(10, 0, 0, 2).into()),
        remote: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
        remote_port: Some(1000),
        ..udp_port(Destination::Own, local_port).fields
    }
}

#[test]
fn the_filter_with_most_fields_decides() {
    let mut table = table();
    let all = table.allocate(id(1), &Filter::all(Destination::Own)).unwrap();
    let dns = table.allocate(id(1), &udp_port(Destination::Own, 53)).unwrap();
    table.bind_claim(1, &all, Rights::READ).unwrap();
    table.bind_claim(2, &dns, Rights::READ).unwrap();
    let reader = |table: &FilterTable, port| table.classify(Place::Own(id(1)), &packet(port)).reader;
    assert_eq!((reader(&table, 53), reader(&table, 54)), (Some(id(2)), Some(id(1))));
    // A filter that nobody reads still takes its packets.
    table.unbind(id(2), dns.first).unwrap();
    assert_eq!(reader(&table, 53), None);
    table.free_claim(&dns).unwrap();
    assert_eq!(reader(&table, 53), Some(id(1)));
}

#[test]
fn filters_of_different_owners_do_not_overlap() {
    let mut table = table();
    let shared = Destination::Shared;
    table.allocate(id(1), &udp_port(shared, 53)).unwrap();
    assert_eq!(table.allocate(id(2), &udp_port(shared, 53)), Err(Status::InUse));
    assert_eq!(table.allocate(id(2), &Filter::all(shared)), Err(Status::InUse));
    assert_eq!(table.allocate(id(1), &udp_port(shared, 53)), Err(Status::InUse));
    assert!(table.allocate(id(2), &udp_port(shared, 54)).is_ok());
    assert_eq!(table.allocate(id(1), &Filter::all(shared)), Err(Status::InUse));
    // Own addresses and what is heard of groups are apart.
    for destination in [Destination::Own, Destination::Group] {
        for owner in [1, 2] {
            assert!(table.allocate(id(owner), &Filter::all(destination)).is_ok());
        }
    }
}

#[test]
fn sending_is_permitted_by_what_answers_match() {
    let mut table = table();
    let dns = table.allocate(id(1), &udp_port(Destination::Own, 53)).unwrap();
    assert!(!table.permits(id(1), Place::Own(id(1)), &packet(53)));
    table.bind_claim(1, &dns, Rights::WRITE).unwrap();
    assert!(table.permits(id(1), Place::Own(id(1)), &packet(53)));
    assert!(!table.permits(id(1), Place::Own(id(1)), &packet(54)));
    assert!(!table.permits(id(2), Place::Own(id(1)), &packet(53)));
    assert!(!table.permits(id(1), Place::Own(id(2)), &packet(53)));
    assert!(!table.permits(id(1), Place::Shared, &packet(53)));
    table.bind_claim(2, &dns, Rights::WRITE).unwrap();
    assert!(table.permits(id(2), Place::Own(id(1)), &packet(53)));
    let fresh = table.revoke_claim(&dns, 1).unwrap();
    assert!(table.permits(id(1), Place::Own(id(1)), &packet(53)));
    assert!(!table.permits(id(2), Place::Own(id(1)), &packet(53)));
    assert_eq!(table.bind_claim(2, &dns, Rights::WRITE), Err(Status::StaleCapability));
    assert!(table.bind_claim(2, &fresh, Rights::WRITE).is_ok());
}

#[test]
fn groups_cannot_be_sources() {
    let mut table = table();
    let group = table.allocate(id(1), &Filter::all(Destination::Group)).unwrap();
    assert!(!group.rights.contains(Rights::WRITE));
}

#[test]
fn one_environment_reads_a_filter() {
    let mut table = table();
    let all = table.allocate(id(1), &Filter::all(Destination::Own)).unwrap();
    table.bind_claim(1, &all, Rights::READ).unwrap();
    assert_eq!(table.bind_claim(2, &all, Rights::READ), Err(Status::InUse));
    assert_eq!(table.bind_claim(2, &all, Rights::GRANT), Err(Status::BadArgument));
    assert_eq!(table.unbind(id(2), all.first), Err(Status::NotBound));
    table.unbind(id(1), all.first).unwrap();
    assert_eq!(table.unbind(id(1), all.first), Err(Status::NotBound));
    assert_eq!(table.unbind(id(1), u64::MAX), Err(Status::NotBound));
    assert!(table.bind_claim(2, &all, Rights::READ).is_ok());
}

#[test]
fn nothing_of_an_environment_outlives_it() {
    let mut table = table();
    let own = table.allocate(id(1), &Filter::all(Destination::Own)).unwrap();
    let others = table.allocate(id(2), &Filter::all(Destination::Own)).unwrap();
    table.bind_claim(1, &own, Rights::READ_WRITE).unwrap();
    table.bind_claim(1, &others, Rights::READ_WRITE).unwrap();
    table.end(1);
    assert_eq!(current(&table, &own), Err(Status::StaleCapability));
    assert_eq!(table.classify(Place::Own(id(2)), &packet(1)).reader, None);
    assert!(!table.permits(id(1), Place::Own(id(2)), &packet(1)));
    let shapes: usize = table.shapes.values().map(Vec::len).sum();
    assert_eq!((table.filters(), shapes, table.index.len()), (1, 1, 1));
    // The number is used again, by the next environment in the slot; the capability is not good again.
    let next = table.allocate(EnvironmentId::new(1, 1), &Filter::all(Destination::Own)).unwrap();
    assert_eq!(next.first, own.first);
    assert_eq!(table.free_claim(&own), Err(Status::StaleCapability));
}

#[test]
fn hoarding_ends() {
    let mut table = table();
    let share = table.share as u16;
    assert!(usize::from(share) * ENVIRONMENTS <= MAX_FILTERS && share > 100);
    let mut allocate = |owner, port| table.allocate(id(owner), &udp_port(Destination::Own, port)).map(drop);
    for owner in 1..=ENVIRONMENTS as u16 {
        (0..share).for_each(|port| allocate(owner, port).unwrap());
        assert_eq!(allocate(owner, u16::MAX), Err(Status::QuotaExceeded), "and nobody else has less");
    }
}

/// The cost of a packet depends on the shapes for its destination, not on the number of filters.
#[test]
fn look_ups_do_not_grow_with_filters() {
    let mut table = table();
    let mut claims = Vec::new();
    for count in 1..=500 {
        let claim = table.allocate(id(1), &udp_port(Destination::Own, count)).unwrap();
        table.bind_claim(1, &claim, Rights::READ).unwrap();
        claims.push(claim);
        let class = table.classify(Place::Own(id(1)), &packet(count));
        assert_eq!(class, Class { reader: Some(id(1)), look_ups: 2 }, "{count} filters");
        assert_eq!(table.classify(Place::Own(id(1)), &packet(0)).look_ups, 2, "{count} filters, no match");
    }
    // What others do is not felt, and gone shapes cost nothing.
    table.allocate(id(2), &Filter::all(Destination::Own)).unwrap();
    let all = table.allocate(id(1), &Filter::all(Destination::Own)).unwrap();
    assert_eq!(table.classify(Place::Own(id(1)), &packet(0)).look_ups, 3);
    table.free_claim(&all).unwrap();
    assert_eq!(table.classify(Place::Own(id(1)), &packet(0)).look_ups, 2);
}

#[test]
fn there_are_as_many_shapes_as_are_told() {
    let full = packet(1);
    let consistent = (0..128).filter_map(|shape| full.only(Shape(shape))).filter(Fields::is_consistent);
    assert_eq!(consistent.count(), MAX_SHAPES);
}

/// A few values of each field, so that filters and packets meet.
fn some_fields() -> impl Strategy<Value = Fields> {
    let ether_type = prop::option::of(prop::sample::select(&[ETHER_IPV4, ETHER_IPV6, ETHER_ARP, 0x88b5][..]));
    let protocol = prop::option::of(prop::sample::select(&[PROTOCOL_UDP, PROTOCOL_TCP, PROTOCOL_ICMPV6][..]));
    let address = || prop::option::of(1u8..3);
    let port = || prop::option::of(1u16..3);
    let vlan = prop::option::of(1u16..3);
    (vlan, ether_type, protocol, address(), address(), port(), port())
        .prop_map(|(vlan, ether_type, protocol, local, remote, local_port, remote_port)| {
            // Two that differ in their first half only, so that no part of an address decides.
            let address = |last: u8| match ether_type {
                Some(ETHER_IPV6) => Ipv6Addr::new(last.into(), 0, 0, 0, 0, 0, 0, 1).into(),
                _ => IpAddr::from([10, 0, 0, last]),
            };
            let (local, remote) = (local.map(address), remote.map(address));
            Fields { vlan, ether_type, protocol, local, remote, local_port, remote_port }
        })
        .prop_filter("a packet has them together", Fields::is_consistent)
}

/// Whether a packet has all that a filter asks for.
fn matches(filter: &Fields, packet: &Fields) -> bool {
    packet.only(filter.shape()).as_ref() == Some(filter)
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u16, Filter),
    Free(usize),
    Bind(u16, usize, Rights),
    Unbind(u16, usize),
    Revoke(usize, u16),
    End(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let environment = || 1u16..4;
    let destination = prop::sample::select(
        &[Destination::Own, Destination::Shared, Destination::Shared, Destination::Group][..],
    );
    let filter =
        (destination, some_fields()).prop_map(|(destination, fields)| Filter { destination, fields });
    let rights = (1u8..4).prop_map(Rights);
    prop_oneof![
        6 => (environment(), filter).prop_map(|(owner, filter)| Step::Allocate(owner, filter)),
        1 => (0usize..20).prop_map(Step::Free),
        6 => (environment(), 0usize..20, rights).prop_map(|(who, at, rights)| Step::Bind(who, at, rights)),
        1 => (environment(), 0usize..20).prop_map(|(who, at)| Step::Unbind(who, at)),
        1 => (0usize..20, environment()).prop_map(|(at, except)| Step::Revoke(at, except)),
        1 => environment().prop_map(Step::End),
    ]
}

/// A filter as the model keeps it.
#[derive(Clone, Debug)]
struct Known {
    claim: Claim,
    place: Place,
    owner: u16,
    fields: Fields,
    reader: Option<u16>,
    writers: Vec<u16>,
}

/// A list, searched one by one.
#[derive(Default)]
struct Model(Vec<Known>);

impl Model {
    fn apply(&mut self, table: &mut FilterTable, step: Step) {
        let known = self.0.len();
        match step {
            Step::Allocate(owner, filter) => {
                let place = Place::of(id(owner), filter.destination);
                let refused = self.0.iter().any(|other| {
                    other.place == place
                        && (other.fields == filter.fields
                            || other.owner != owner && other.fields.overlaps(&filter.fields))
                });
                let result = table.allocate(id(owner), &filter);
                assert_eq!(result.is_err(), refused, "{filter:?}");
                let new = |claim| Known {
                    claim,
                    place,
                    owner,
                    fields: filter.fields,
                    reader: None,
                    writers: vec![],
                };
                self.0.extend(result.ok().map(new));
            }
            Step::Free(at) if at < known => table.free_claim(&self.0.remove(at).claim).unwrap(),
            Step::Bind(who, at, rights) if at < known => {
                let one = &mut self.0[at];
                let taken = rights.contains(Rights::READ) && one.reader.is_some_and(|reader| reader != who);
                assert_eq!(table.bind_claim(who, &one.claim, rights).is_err(), taken);
                if !taken {
                    one.reader = if rights.contains(Rights::READ) { Some(who) } else { one.reader };
                    one.writers.extend(rights.contains(Rights::WRITE).then_some(who));
                }
            }
            Step::Unbind(who, at) if at < known => {
                let bound = self.0[at].reader == Some(who) || self.0[at].writers.contains(&who);
                assert_eq!(table.unbind(id(who), self.0[at].claim.first).is_ok(), bound);
                self.leave(at, who);
            }
            Step::Revoke(at, except) if at < known => {
                let fresh = table.revoke_claim(&self.0[at].claim, except).unwrap();
                assert_eq!(current(table, &self.0[at].claim), Err(Status::StaleCapability));
                self.0[at].claim = fresh;
                (1..4).filter(|who| *who != except).for_each(|who| self.leave(at, who));
            }
            Step::End(who) => {
                table.end(who);
                self.0.retain(|one| one.owner != who);
                (0..self.0.len()).for_each(|at| self.leave(at, who));
            }
            _ => {}
        }
    }

    fn leave(&mut self, at: usize, who: u16) {
        let one = &mut self.0[at];
        one.reader = one.reader.filter(|reader| *reader != who);
        one.writers.retain(|writer| *writer != who);
    }

    fn reader(&self, place: Place, packet: &Fields) -> Option<u16> {
        let matching = self.0.iter().filter(|one| one.place == place && matches(&one.fields, packet));
        matching.min_by_key(|one| ShapeCount::rank(one.fields.shape())).and_then(|one| one.reader)
    }

    fn permits(&self, who: u16, place: Place, answer: &Fields) -> bool {
        let mut matching = self.0.iter().filter(|one| one.place == place && matches(&one.fields, answer));
        matching.any(|one| one.writers.contains(&who))
    }
}

proptest! {
    #[test]
    fn agrees_with_a_list_searched_one_by_one(
        steps in prop::collection::vec(step(), 1..60),
        packets in prop::collection::vec(some_fields(), 1..20),
    ) {
        let (mut table, mut model) = (table(), Model::default());
        let [one, two, three] = [1, 2, 3].map(id);
        let places = [Place::Shared, Place::Own(one), Place::Own(two), Place::Group(one), Place::Group(three)];
        for step in steps {
            model.apply(&mut table, step);
            for packet in &packets {
                for place in places {
                    let class = table.classify(place, packet);
                    prop_assert_eq!(class.reader, model.reader(place, packet).map(id));
                    prop_assert!(class.look_ups <= 1 + MAX_SHAPES);
                    for who in 1..4 {
                        prop_assert_eq!(table.permits(id(who), place, packet), model.permits(who, place, packet));
                    }
                }
            }
        }
    }
}
