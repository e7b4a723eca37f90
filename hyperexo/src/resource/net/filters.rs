//! The network: filters, who owns them, who has bound them, and whose a packet is.
//!
//! The kernel knows no protocol but what it takes to find header fields ([`super::headers`]). All filters
//! together are one classifier: for each destination there is a list of the *shapes* (sets of fields) that
//! filters for it have, and all filters are in one hash table. To classify a packet, its fields are looked up
//! once for each shape, most fields first; so the cost depends on the shapes of one destination, of which
//! there are at most [`MAX_SHAPES`], and not on the number of filters. (A packet filter for each endpoint,
//! tried one by one, is what Mogul, Rashid and Accetta had in SOSP'87; merging them is DPF's idea, Engler and
//! Kaashoek, SIGCOMM'96.)
//!
//! Keys are chosen by environments, so the hash has a key that they do not know: none can make its filters
//! collide.
//!
//! Invariants: no two filters of different owners for one destination overlap; entry `n` of the table is in
//! the hash table under its own key and nobody else's; the list of a destination counts exactly the shapes of
//! its filters.
#![forbid(unsafe_code)]

use crate::machine::id::{EnvironmentId, EnvironmentSet};
use crate::resource::capability::{Current, Verified};
use crate::resource::frame::table::Owner;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::ops::Range;
use hashbrown::HashMap;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{Destination, Fields, Filter, Shape};
use siphasher::sip::SipHasher13;

/// Most filters that the table holds: each environment has a part of them for itself.
pub const MAX_FILTERS: usize = 2048;
/// Most filters of one environment.
pub const MAX_FILTERS_PER_OWNER: usize = 1024;
/// Filters that [`FilterTable::release_some`] ends at once.
const RELEASED_AT_ONCE: usize = 16;
/// Sets of fields that a filter can have: none; EtherType, with or without each of two addresses; the same
/// with a protocol; and with one or both ports. All that with or without a VLAN.
pub const MAX_SHAPES: usize = 2 * (1 + 4 + 4 + 12);

/// Whom packets are addressed to, as the classifier keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// An environment's own address.
    Own(EnvironmentId),
    /// The address that environments share.
    Shared,
    /// An address of this machine that no environment has.
    Nobody,
    /// Groups of stations, as one environment wants to hear them.
    Group(EnvironmentId),
}

impl Place {
    fn of(owner: EnvironmentId, destination: Destination) -> Place {
        match destination {
            Destination::Own => Place::Own(owner),
            Destination::Shared => Place::Shared,
            Destination::Group => Place::Group(owner),
        }
    }
}

/// What a packet is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    place: Place,
    fields: Fields,
}

/// A filter.
struct Entry {
    key: Key,
    owner: EnvironmentId,
    generation: u64,
    /// Who gets the packets.
    reader: Option<EnvironmentId>,
    /// Who may send packets that it answers.
    writers: EnvironmentSet,
}

impl Entry {
    fn is_bound_by(&self, who: EnvironmentId) -> bool {
        self.reader == Some(who) || self.writers.contains(who)
    }
}

/// A shape among the filters of a destination, and how many have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShapeCount {
    shape: Shape,
    filters: u32,
}

impl ShapeCount {
    /// Most fields first; among as many, any order, but always the same.
    fn rank(shape: Shape) -> (u32, u8) {
        (u8::MAX.count_ones() - shape.0.count_ones(), shape.0)
    }
}

/// Makes hashers with a secret key.
#[derive(Clone)]
struct Secret([u8; 16]);

impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(0);
        hasher
    }
}

/// What the classifier says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Who gets it.
    pub reader: Option<EnvironmentId>,
    /// Look-ups in hash tables that it took.
    pub look_ups: usize,
}

/// The table.
pub struct FilterTable {
    /// Each environment's part, one behind the other. A free place is `None`.
    entries: Vec<Option<Entry>>,
    /// Places of each environment.
    share: usize,
    index: HashMap<Key, usize, Secret>,
    shapes: HashMap<Place, Vec<ShapeCount>, Secret>,
    next_generation: u64,
    /// Places of an environment that ends which have been looked at.
    released: Vec<usize>,
}

impl FilterTable {
    /// A table without room for filters. `secret` keys its hashes: nobody else may know it.
    pub fn new(secret: [u8; 16]) -> FilterTable {
        let secret = Secret(secret);
        FilterTable {
            entries: Vec::new(),
            share: 0,
            index: HashMap::with_hasher(secret.clone()),
            shapes: HashMap::with_hasher(secret),
            next_generation: 1,
            released: Vec::new(),
        }
    }

    /// Makes room for `environments` environments, as much for each, in about `bytes` bytes: later the table
    /// never grows, and nobody takes anybody else's room.
    ///
    /// # Errors
    ///
    /// [`Status::Exhausted`] without memory.
    pub fn admit(&mut self, environments: usize, bytes: usize) -> Result<(), Status> {
        /// Bytes of a filter in all tables; the hash table has up to twice as many places as it has filters.
        const FILTER_BYTES: usize = size_of::<Option<Entry>>() + 2 * (size_of::<(Key, usize)>() + 1);
        let environments = environments.max(1);
        let fit = (bytes / FILTER_BYTES).min(MAX_FILTERS);
        self.share = (fit / environments).clamp(1, MAX_FILTERS_PER_OWNER);
        let filters = self.share * environments;
        // An environment's own address and groups; the shared address.
        let places = 2 * environments + 1;
        let reserved = self
            .entries
            .try_reserve_exact(filters)
            .is_ok()
            .then(|| self.index.try_reserve(filters).and(self.shapes.try_reserve(places)));
        if reserved != Some(Ok(())) {
            return Err(Status::Exhausted);
        }
        self.entries.resize_with(filters, || None);
        self.released.try_reserve_exact(environments + 1).map_err(|_| Status::Exhausted)?;
        self.released.resize(environments + 1, 0);
        Ok(())
    }

    /// The places of an environment in the table.
    fn places(&self, owner: EnvironmentId) -> Range<usize> {
        let first = (owner.index() - 1) * self.share;
        first.min(self.entries.len())..(first + self.share).min(self.entries.len())
    }

    /// Makes a filter, bound by nobody.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] for fields that no packet has together; [`Status::InUse`] if it overlaps
    /// somebody else's filter, or the owner has the same already; [`Status::QuotaExceeded`] beyond
    /// [`MAX_FILTERS_PER_OWNER`]; [`Status::Exhausted`] beyond [`MAX_FILTERS`] or without memory.
    pub fn allocate(&mut self, owner: EnvironmentId, filter: &Filter) -> Result<Claim, Status> {
        if !filter.fields.is_consistent() {
            return Err(Status::BadArgument);
        }
        let key = Key { place: Place::of(owner, filter.destination), fields: filter.fields };
        // Own addresses and groups are kept apart by owner; only the shared address can be contested.
        let contested = key.place == Place::Shared;
        if self.index.contains_key(&key) || contested && self.overlaps_others(owner, &key) {
            return Err(Status::InUse);
        }
        let mut places = self.places(owner);
        let number = places.find(|place| self.entries[*place].is_none()).ok_or(Status::QuotaExceeded)?;
        self.reserve_shape(&key)?;
        let generation = self.fresh_generation();
        self.entries[number] =
            Some(Entry { key, owner, generation, reader: None, writers: EnvironmentSet::EMPTY });
        self.index.insert(key, number);
        self.add_shape(&key);
        let rights = match filter.destination {
            Destination::Own | Destination::Shared => Rights::READ_WRITE.union(Rights::GRANT),
            // A group is nobody's source address.
            Destination::Group => Rights::READ.union(Rights::GRANT),
        };
        Ok(Claim { resource: Resource::Filter, rights, generation, first: number as u64, count: 1 })
    }

    /// Whether another environment has a filter for the same place that matches packets that this one would
    /// match.
    fn overlaps_others(&self, owner: EnvironmentId, key: &Key) -> bool {
        self.entries.iter().flatten().any(|entry| {
            entry.owner != owner && entry.key.place == key.place && entry.key.fields.overlaps(&key.fields)
        })
    }

    /// Makes room for the shape of one more filter.
    fn reserve_shape(&mut self, key: &Key) -> Result<(), Status> {
        let list = self.shapes.entry(key.place).or_default();
        let missing = MAX_SHAPES - list.len();
        list.try_reserve_exact(missing).map_err(|_| Status::Exhausted)
    }

    fn add_shape(&mut self, key: &Key) {
        let shape = key.fields.shape();
        let list = self.shapes.entry(key.place).or_default();
        match list.binary_search_by_key(&ShapeCount::rank(shape), |count| ShapeCount::rank(count.shape)) {
            Ok(at) => list[at].filters += 1,
            Err(at) => list.insert(at, ShapeCount { shape, filters: 1 }),
        }
    }

    fn remove_shape(&mut self, key: &Key) {
        let shape = key.fields.shape();
        let Some(list) = self.shapes.get_mut(&key.place) else { return };
        list.iter_mut().filter(|count| count.shape == shape).for_each(|count| count.filters -= 1);
        list.retain(|count| count.filters != 0);
    }

    /// The owner of a claim's filter, if the claim is current.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn check(&self, claim: &Verified) -> Result<Current, Status> {
        let stale = Status::StaleCapability;
        let number = usize::try_from(claim.first()).map_err(|_| stale)?;
        let named = claim.resource() == Resource::Filter && claim.count() == 1;
        match self.entries.get(number).and_then(Option::as_ref) {
            Some(entry) if named && entry.generation == claim.generation() => {
                Ok(Current::new(*claim, Owner::Environment(entry.owner)))
            }
            _ => Err(stale),
        }
    }

    fn entry(&mut self, current: &Current) -> Result<&mut Entry, Status> {
        let number = current.range().start as usize;
        self.entries.get_mut(number).and_then(Option::as_mut).ok_or(Status::StaleCapability)
    }

    /// Ends a filter and all bindings of it.
    pub fn free(&mut self, current: Current) {
        self.remove(current.range().start as usize);
    }

    fn remove(&mut self, number: usize) {
        if let Some(entry) = self.entries[number].take() {
            self.index.remove(&entry.key);
            self.remove_shape(&entry.key);
        }
    }

    /// Gives a filter a new generation, which it returns, and ends all bindings of it but those of `except`.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`] if there is no such filter.
    pub fn revoke(&mut self, current: Current, except: EnvironmentId) -> Result<u64, Status> {
        let generation = self.fresh_generation();
        let entry = self.entry(&current)?;
        entry.generation = generation;
        entry.reader = entry.reader.filter(|reader| *reader == except);
        let others = entry.writers.without(EnvironmentSet::of(except));
        entry.writers = entry.writers.without(others);
        Ok(generation)
    }

    /// Binds a filter with some rights, besides those that the environment has bound it with already.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`]; [`Status::BadArgument`] without [`Rights::READ`] and [`Rights::WRITE`];
    /// [`Status::InUse`] to read what another environment reads.
    pub fn bind(&mut self, who: EnvironmentId, current: Current, rights: Rights) -> Result<(), Status> {
        let entry = self.entry(&current)?;
        let (read, write) = (rights.contains(Rights::READ), rights.contains(Rights::WRITE));
        if !read && !write {
            return Err(Status::BadArgument);
        }
        if read && entry.reader.is_some_and(|reader| reader != who) {
            return Err(Status::InUse);
        }
        if read {
            entry.reader = Some(who);
        }
        if write {
            entry.writers.insert(who);
        }
        Ok(())
    }

    /// Ends an environment's binding of a filter.
    ///
    /// # Errors
    ///
    /// [`Status::NotBound`].
    pub fn unbind(&mut self, who: EnvironmentId, number: u64) -> Result<(), Status> {
        let entry = usize::try_from(number).ok().and_then(|number| self.entries.get_mut(number));
        let entry = entry.and_then(Option::as_mut).filter(|entry| entry.is_bound_by(who));
        release(entry.ok_or(Status::NotBound)?, who);
        Ok(())
    }

    /// Ends some filters of an environment, and its bindings of some others'; returns whether those were the
    /// last.
    pub fn release_some(&mut self, environment: EnvironmentId) -> bool {
        // Without anybody on the network there is room for nobody.
        let Some(&first) = self.released.get(environment.index()) else { return true };
        let end = (first + RELEASED_AT_ONCE).min(self.entries.len());
        for number in first..end {
            match &mut self.entries[number] {
                Some(entry) if entry.owner == environment => self.remove(number),
                Some(entry) => release(entry, environment),
                None => {}
            }
        }
        let last = end == self.entries.len();
        if let Some(released) = self.released.get_mut(environment.index()) {
            *released = if last { 0 } else { end };
        }
        last
    }

    /// Filters that there are.
    pub fn filters(&self) -> usize {
        self.index.len()
    }

    /// Who gets a packet for a place with these fields: the reader of the filter with most fields among those
    /// that match, if it has one.
    pub fn classify(&self, place: Place, fields: &Fields) -> Class {
        let mut look_ups = 1;
        let shapes = self.shapes.get(&place).map_or(&[][..], Vec::as_slice);
        for count in shapes {
            let Some(fields) = fields.only(count.shape) else { continue };
            look_ups += 1;
            if let Some(entry) = self.find(&Key { place, fields }) {
                return Class { reader: entry.reader, look_ups };
            }
        }
        Class { reader: None, look_ups }
    }

    /// Whether an environment may send a packet from a place of which `answer` are the fields of an answer:
    /// it has bound, to write, a filter that the answer matches.
    pub fn permits(&self, who: EnvironmentId, place: Place, answer: &Fields) -> bool {
        let shapes = self.shapes.get(&place).map_or(&[][..], Vec::as_slice);
        shapes
            .iter()
            .filter_map(|count| answer.only(count.shape))
            .any(|fields| self.find(&Key { place, fields }).is_some_and(|entry| entry.writers.contains(who)))
    }

    fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries[*self.index.get(key)?].as_ref()
    }

    fn fresh_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }
}

/// Ends an environment's binding of one filter.
fn release(entry: &mut Entry, who: EnvironmentId) {
    entry.reader = entry.reader.filter(|reader| *reader != who);
    entry.writers.remove(who);
}

#[cfg(test)]
mod tests;
