//! What calls do, by plain maps: frame by frame, table by table.

use crate::machine::id::EnvironmentId;
use crate::model::Machine;
use crate::resource::frame::Place;
use crate::resource::frame::audit::Walk;
use crate::resource::frame::table::Owner;
use hyperexo_abi::capability::{Claim, Resource, Rights};
use hyperexo_abi::hypercall::{Status, VIEWS};
use std::collections::BTreeMap;

/// Bindings of a table.
type Bindings = BTreeMap<u64, Rights>;

/// Who owns what and has bound what.
pub struct Reference {
    /// Owner and generation of each frame that is an environment's.
    frames: Vec<Option<(EnvironmentId, u64)>>,
    /// What each table binds.
    tables: Vec<(Place, Bindings)>,
    /// Lists of views, by number of the environment.
    lists: BTreeMap<u16, [Option<Place>; VIEWS]>,
    /// Makers of views.
    makers: Vec<(Place, EnvironmentId)>,
    /// Offers that have not been taken.
    offers: Vec<(Place, u16)>,
}

/// The rights of an entry in AMD's format.
fn rights(entry: u64) -> Rights {
    let bit = |is: bool, right: Rights| if is { right } else { Rights(0) };
    Rights::READ.union(bit(entry & 2 != 0, Rights::WRITE)).union(bit(entry >> 63 == 0, Rights::EXECUTE))
}

impl Reference {
    /// What is so on a machine now.
    pub fn of(machine: &Machine) -> Reference {
        let mut new = Reference {
            frames: Vec::new(),
            tables: Vec::new(),
            lists: BTreeMap::new(),
            makers: Vec::new(),
            offers: Vec::new(),
        };
        new.catch_up(machine);
        new
    }

    /// Takes over what has become of calls that overlapped, each of which may have done a part.
    pub fn catch_up(&mut self, machine: &Machine) {
        let pages = &machine.kernel.pages;
        self.frames = frames(machine);
        let tables = pages.all_tables();
        let views = tables.iter().filter_map(|(place, _)| match place {
            Place::View(view) => Some((*place, pages.view_account(*view)?.0)),
            Place::Own(_) => None,
        });
        self.makers = views.collect();
        self.tables = tables.iter().map(|(place, walk)| (*place, Reference::bindings(walk))).collect();
        for environment in machine.kernel.environments.iter() {
            let id = environment.id;
            let at = |entry: usize| pages.place(id, entry as u64).ok().filter(|_| entry != 0);
            self.lists.insert(id.number(), core::array::from_fn(at));
        }
        let makers = &self.makers;
        self.offers.retain(|(view, _)| makers.iter().any(|(place, _)| place == view));
    }

    /// What a table binds, what the kernel shows included.
    fn bindings(walk: &Walk) -> Bindings {
        let mut bindings = Bindings::new();
        for leaf in &walk.leaves {
            let rights = rights(leaf.entry);
            bindings.extend((leaf.first..leaf.first + leaf.frames).map(|frame| (frame, rights)));
        }
        bindings
    }

    /// Checks that the machine is in the same state.
    pub fn compare(&self, machine: &Machine) {
        let now = frames(machine);
        for (frame, expected) in self.frames.iter().enumerate() {
            assert_eq!(now[frame], *expected, "owner and generation of frame {frame:#x}");
        }
        let tables = machine.kernel.pages.all_tables();
        assert_eq!(tables.len(), self.tables.len(), "tables");
        for (place, walk) in &tables {
            let is = Reference::bindings(walk);
            let expected = self.table(*place).expect("a table that should not be there");
            let differ = is.iter().find(|(frame, rights)| expected.get(frame) != Some(rights));
            assert_eq!(
                differ,
                None,
                "bound in {place:?}, expected {:?}",
                differ.map(|(f, _)| expected.get(f))
            );
            let missing = expected.keys().find(|frame| !is.contains_key(frame));
            assert_eq!(missing, None, "not bound in {place:?}");
        }
    }

    fn table(&self, place: Place) -> Option<&Bindings> {
        self.tables.iter().find(|(other, _)| *other == place).map(|(_, bindings)| bindings)
    }

    fn table_mut(&mut self, place: Place) -> &mut Bindings {
        &mut self.tables.iter_mut().find(|(other, _)| *other == place).expect("a table").1
    }

    /// What an environment means by a number in its list.
    pub fn place(&self, id: EnvironmentId, entry: u64) -> Option<Place> {
        match entry {
            0 => Some(Place::Own(id)),
            _ => *self.lists[&id.number()].get(usize::try_from(entry).ok()?)?,
        }
    }

    /// Whether a claim for frames is current.
    pub fn is_current(&self, claim: &Claim) -> bool {
        let stamped = |frame: u64| {
            let frame = self.frames.get(frame as usize).copied().flatten();
            frame.is_some_and(|(_, generation)| generation == claim.generation)
        };
        claim.resource == Resource::Page && (claim.first..claim.end()).all(stamped)
    }

    /// Whether an environment may change what is bound of these frames, where something is.
    fn may_change(&self, id: EnvironmentId, place: Place, first: u64, count: u64) -> bool {
        let made = self.makers.contains(&(place, id)) || place == Place::Own(id);
        let own = |frame: u64| self.frames[frame as usize].is_some_and(|(owner, _)| owner == id);
        let vacant = |frame| self.table(place).is_none_or(|table| !table.contains_key(&frame));
        made || (first..first + count).all(|frame| own(frame) || vacant(frame))
    }

    /// Frames have been allocated.
    pub fn allocated(&mut self, id: EnvironmentId, claim: &Claim) {
        for frame in claim.first..claim.end() {
            let before = self.frames[frame as usize].replace((id, claim.generation));
            assert_eq!(before, None, "frame {frame:#x} was somebody's");
        }
    }

    /// Whether a binding should be refused, and why.
    pub fn bind(&self, id: EnvironmentId, claim: Option<Claim>, wanted: u64) -> Result<(), Status> {
        let (rights, entry) = (Rights(wanted as u8), wanted >> 8);
        if !Rights::ALL.contains(rights) || !rights.contains(Rights::READ) {
            return Err(Status::BadArgument);
        }
        let claim = claim.ok_or(Status::ForgedCapability)?;
        if claim.resource != Resource::Page || !claim.rights.contains(rights) {
            return Err(Status::NoRight);
        }
        let place = self.place(id, entry).ok_or(Status::NoSuch)?;
        if !self.is_current(&claim) {
            return Err(Status::StaleCapability);
        }
        if entry != 0 && !self.may_change(id, place, claim.first, claim.count) {
            return Err(Status::InUse);
        }
        Ok(())
    }

    /// Frames have been bound.
    pub fn bound(&mut self, id: EnvironmentId, claim: &Claim, wanted: u64) {
        let rights = Rights(wanted as u8 & 7);
        let place = self.place(id, wanted >> 8).expect("judged");
        self.table_mut(place).extend((claim.first..claim.end()).map(|frame| (frame, rights)));
    }

    /// The kernel shows an environment a frame.
    pub fn shown(&mut self, id: EnvironmentId, frame: u64) {
        self.table_mut(Place::Own(id)).insert(frame, Rights::READ_WRITE);
    }

    /// Whether an unbinding should be refused, and why.
    pub fn unbind(
        &self,
        id: EnvironmentId,
        (first, count, entry): (u64, u64, u64),
        pinned: bool,
    ) -> Result<(), Status> {
        let place = self.place(id, entry).ok_or(Status::NoSuch)?;
        if entry == 0 && pinned {
            return Err(Status::Busy);
        }
        let table = self.table(place).expect("a table");
        let all = (first..first + count).all(|frame| table.contains_key(&frame));
        match (all, self.may_change(id, place, first, count)) {
            (true, true) => Ok(()),
            (_, false) => Err(Status::NoRight),
            (false, true) => Err(Status::NotBound),
        }
    }

    /// Frames have been unbound.
    pub fn unbound(&mut self, id: EnvironmentId, (first, count, entry): (u64, u64, u64)) {
        let place = self.place(id, entry).expect("judged");
        self.table_mut(place).retain(|frame, _| !(first..first + count).contains(frame));
    }

    /// Frames have been freed.
    pub fn freed(&mut self, first: u64, end: u64) {
        self.frames[first as usize..end as usize].fill(None);
        for (_, table) in &mut self.tables {
            table.retain(|frame, _| !(first..end).contains(frame));
        }
    }

    /// Frames have been revoked: those of others are unbound, and so are those in views that others have.
    pub fn revoked(&mut self, id: EnvironmentId, fresh: &Claim) {
        for frame in &mut self.frames[fresh.first as usize..fresh.end() as usize] {
            frame.as_mut().expect("current").1 = fresh.generation;
        }
        let users = |place: Place| self.lists.iter().filter(move |(_, list)| list.contains(&Some(place)));
        let private: Vec<Place> = self
            .tables
            .iter()
            .map(|(place, _)| *place)
            .filter(|place| match place {
                Place::Own(owner) => *owner == id,
                Place::View(_) => users(*place).all(|(number, _)| *number == id.number()),
            })
            .collect();
        for (place, table) in &mut self.tables {
            if !private.contains(place) {
                table.retain(|frame, _| !(fresh.first..fresh.end()).contains(frame));
            }
        }
    }

    /// The entry that a new view gets.
    pub fn free_entry(&self, id: EnvironmentId) -> Option<usize> {
        (1..VIEWS).find(|entry| self.lists[&id.number()][*entry].is_none())
    }

    /// A view has been made, or taken.
    pub fn listed(&mut self, id: EnvironmentId, entry: usize, place: Place, made: bool) {
        self.lists.get_mut(&id.number()).expect("a list")[entry] = Some(place);
        if made {
            self.tables.push((place, Bindings::new()));
            self.makers.push((place, id));
        } else {
            self.offers.retain(|offer| *offer != (place, id.number()));
        }
    }

    /// Whether an offer should be refused, and why.
    pub fn offer(&mut self, id: EnvironmentId, entry: u64, to: u64) -> Result<(), Status> {
        let place = self.place(id, entry).filter(|_| entry != 0).ok_or(Status::NoSuch)?;
        if !self.makers.contains(&(place, id)) {
            return Err(Status::NoRight);
        }
        self.offers.push((place, to as u16));
        Ok(())
    }

    /// A view has been offered while calls overlapped.
    pub fn offered(&mut self, place: Result<Place, Status>, to: u16) {
        self.offers.extend(place.ok().map(|place| (place, to)));
    }

    /// An offer has been taken while calls overlapped.
    pub fn taken(&mut self, place: Result<Place, Status>, by: u16) {
        self.offers.retain(|(offered, to)| (Ok(*offered), *to) != (place, by));
    }

    /// Whether taking an offer should be refused, and why; the view.
    pub fn accept(&self, id: EnvironmentId, owner: EnvironmentId, entry: u64) -> Result<Place, Status> {
        let place = self.place(owner, entry).filter(|_| entry != 0).ok_or(Status::NoSuch)?;
        if !self.makers.contains(&(place, owner)) {
            return Err(Status::NoSuch);
        }
        if self.lists[&id.number()].contains(&Some(place)) {
            return Err(Status::InUse);
        }
        if !self.offers.contains(&(place, id.number())) {
            return Err(Status::NoRight);
        }
        self.free_entry(id).map(|_| place).ok_or(Status::Exhausted)
    }

    /// Somebody has left a view.
    pub fn left(&mut self, id: EnvironmentId, entry: u64) {
        let place = self.place(id, entry).expect("judged");
        if self.makers.contains(&(place, id)) {
            self.makers.retain(|(view, _)| *view != place);
            self.offers.retain(|(view, _)| *view != place);
            self.tables.retain(|(view, _)| *view != place);
            for entry in self.lists.values_mut().flatten().filter(|entry| **entry == Some(place)) {
                *entry = None;
            }
            return;
        }
        self.lists.get_mut(&id.number()).expect("a list")[entry as usize] = None;
        let Reference { tables, frames, .. } = self;
        let table = &mut tables.iter_mut().find(|(view, _)| *view == place).expect("a view").1;
        table.retain(|frame, _| frames[*frame as usize].is_none_or(|(owner, _)| owner != id));
    }

    /// An environment has ended.
    pub fn ended(&mut self, id: EnvironmentId) {
        (1..VIEWS as u64)
            .filter(|entry| self.place(id, *entry).is_some())
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|entry| self.left(id, entry));
        self.tables.retain(|(place, _)| *place != Place::Own(id));
        for frame in 0..self.frames.len() as u64 {
            if self.frames[frame as usize].is_some_and(|(owner, _)| owner == id) {
                self.freed(frame, frame + 1);
            }
        }
    }
}

/// Owner and generation of each frame.
fn frames(machine: &Machine) -> Vec<Option<(EnvironmentId, u64)>> {
    let table = &machine.kernel.pages.frames;
    let of = |frame| match table.owner(frame) {
        Owner::Environment(id) => Some((id, table.generation(frame))),
        _ => None,
    };
    (0..table.len()).map(of).collect()
}
