//! The network: filters, who owns them, who has bound them, and whose a packet is.
//!
//! The kernel knows no protocol but what it takes to find header fields ([`headers`]). All filters together
//! are one classifier: for each destination there is a list of the *shapes* (sets of fields) that filters for
//! it have, and all filters are in one hash table. To classify a packet, its fields are looked up once for
//! each shape, most fields first; so the cost depends on the shapes of one destination, of which there are at
//! most [`MAX_SHAPES`], and not on the number of filters. (A packet filter for each endpoint, tried one by
//! one, is what Mogul, Rashid and Accetta had in SOSP'87; merging them is DPF's idea, Engler and Kaashoek,
//! SIGCOMM'96.)
//!
//! Keys are chosen by environments, so the hash has a key that they do not know: none can make its filters
//! collide.
//!
//! Invariants: no two filters of different owners for one destination overlap; entry `n` of the table is in
//! the hash table under its own key and nobody else's; the list of a destination counts exactly the shapes of
//! its filters.
#![forbid(unsafe_code)]

pub mod headers;

use super::page::EnvironmentId;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use hashbrown::HashMap;
use hyperexo_abi::accounting::MAX_ENVIRONMENTS;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{Destination, Fields, Filter, Shape};
use siphasher::sip::SipHasher13;

/// Most filters that the table holds: what environments can make the kernel remember is bounded.
pub const MAX_FILTERS: usize = 4096;
/// Most filters of one environment.
pub const MAX_FILTERS_PER_OWNER: usize = 1024;
/// Sets of fields that a filter can have: none; EtherType, with or without each of two addresses; the same
/// with a protocol; and with one or both ports.
pub const MAX_SHAPES: usize = 1 + 4 + 4 + 12;

/// Whom packets are addressed to, as the classifier keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// An environment's own address.
    Own(EnvironmentId),
    /// The address that environments share.
    Shared,
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
    /// Who may send packets that it answers: a bit for each environment.
    writers: u64,
}

impl Entry {
    fn is_bound_by(&self, who: EnvironmentId) -> bool {
        self.reader == Some(who) || self.writers & bit(who) != 0
    }
}

const _: () = assert!(MAX_ENVIRONMENTS <= u64::BITS as usize, "`Entry::writers` has a bit for each");

fn bit(environment: EnvironmentId) -> u64 {
    1 << environment
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
    /// A free place is `None`.
    entries: Vec<Option<Entry>>,
    index: HashMap<Key, usize, Secret>,
    shapes: HashMap<Place, Vec<ShapeCount>, Secret>,
    next_generation: u64,
}

impl FilterTable {
    /// A table without filters. `secret` keys its hashes: nobody else may know it.
    pub fn new(secret: [u8; 16]) -> FilterTable {
        let secret = Secret(secret);
        FilterTable {
            entries: Vec::new(),
            index: HashMap::with_hasher(secret.clone()),
            shapes: HashMap::with_hasher(secret),
            next_generation: 1,
        }
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
        let overlapping = |entry: &&Entry| {
            entry.owner != owner && entry.key.place == key.place && entry.key.fields.overlaps(&key.fields)
        };
        if self.index.contains_key(&key) || self.entries.iter().flatten().any(|entry| overlapping(&entry)) {
            return Err(Status::InUse);
        }
        if self.entries.iter().flatten().filter(|entry| entry.owner == owner).count() >= MAX_FILTERS_PER_OWNER
        {
            return Err(Status::QuotaExceeded);
        }
        let number = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if number >= MAX_FILTERS {
            return Err(Status::Exhausted);
        }
        self.reserve()?;
        let generation = self.fresh_generation();
        let entry = Entry { key, owner, generation, reader: None, writers: 0 };
        match self.entries.get_mut(number) {
            Some(place) => *place = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        self.index.insert(key, number);
        self.add_shape(&key);
        let rights = match filter.destination {
            Destination::Own | Destination::Shared => Rights::READ_WRITE.union(Rights::GRANT),
            // A group is nobody's source address.
            Destination::Group => Rights::READ.union(Rights::GRANT),
        };
        Ok(Claim { resource: Resource::Filter, rights, generation, first: number as u64, count: 1 })
    }

    /// Makes room for one more filter.
    fn reserve(&mut self) -> Result<(), Status> {
        let vector = self.entries.try_reserve(1).is_ok();
        let maps = self.index.try_reserve(1).is_ok() && self.shapes.try_reserve(1).is_ok();
        if vector && maps { Ok(()) } else { Err(Status::Exhausted) }
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
        if list.is_empty() {
            self.shapes.remove(&key.place);
        }
    }

    fn current(&mut self, claim: &Claim) -> Result<(usize, &mut Entry), Status> {
        let stale = Status::StaleCapability;
        let number = usize::try_from(claim.first).map_err(|_| stale)?;
        let named = claim.resource == Resource::Filter && claim.count == 1;
        match self.entries.get_mut(number).and_then(Option::as_mut) {
            Some(entry) if named && entry.generation == claim.generation => Ok((number, entry)),
            _ => Err(stale),
        }
    }

    /// The owner of a claim's filter, if the claim is current.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn check(&mut self, claim: &Claim) -> Result<EnvironmentId, Status> {
        Ok(self.current(claim)?.1.owner)
    }

    /// Ends a filter and all bindings of it.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn free(&mut self, claim: &Claim) -> Result<(), Status> {
        let (number, _) = self.current(claim)?;
        self.remove(number);
        Ok(())
    }

    fn remove(&mut self, number: usize) {
        if let Some(entry) = self.entries[number].take() {
            self.index.remove(&entry.key);
            self.remove_shape(&entry.key);
        }
    }

    /// Gives a filter a new generation and ends all bindings of it but those of `except`.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`].
    pub fn revoke(&mut self, claim: &Claim, except: EnvironmentId) -> Result<Claim, Status> {
        let generation = self.fresh_generation();
        let (_, entry) = self.current(claim)?;
        entry.generation = generation;
        entry.reader = entry.reader.filter(|reader| *reader == except);
        entry.writers &= bit(except);
        Ok(Claim { generation, ..*claim })
    }

    /// Binds a filter with some rights, besides those that the environment has bound it with already.
    ///
    /// # Errors
    ///
    /// [`Status::StaleCapability`]; [`Status::BadArgument`] without [`Rights::READ`] and [`Rights::WRITE`];
    /// [`Status::InUse`] to read what another environment reads.
    pub fn bind(&mut self, who: EnvironmentId, claim: &Claim, rights: Rights) -> Result<(), Status> {
        let (_, entry) = self.current(claim)?;
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
            entry.writers |= bit(who);
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

    /// Ends all filters of an environment, and its bindings of others'.
    pub fn release_all(&mut self, environment: EnvironmentId) {
        for number in 0..self.entries.len() {
            match &mut self.entries[number] {
                Some(entry) if entry.owner == environment => self.remove(number),
                Some(entry) => release(entry, environment),
                None => {}
            }
        }
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
        shapes.iter().filter_map(|count| answer.only(count.shape)).any(|fields| {
            self.find(&Key { place, fields }).is_some_and(|entry| entry.writers & bit(who) != 0)
        })
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
    entry.writers &= !bit(who);
}

#[cfg(test)]
mod tests;
