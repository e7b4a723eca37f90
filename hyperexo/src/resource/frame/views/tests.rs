//! Views against a model of who has what, and of a processor that remembers translations until it is told to
//! forget them.

use super::*;
use crate::resource::frame::nested::{EntryFormat, TableMemory, TableReader};
use hyperexo_abi::capability::Rights;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// Frames for tables, lowest first: those of a table that is gone serve the next.
#[derive(Default)]
struct Memory {
    tables: HashMap<u64, [u64; 512]>,
    entries: HashMap<u64, u16>,
}

impl TableReader for Memory {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.tables[&table][index]
    }
}

impl TableMemory for Memory {
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        self.tables.get_mut(&table).unwrap()[index] = entry;
    }
    fn allocate(&mut self) -> Option<u64> {
        let frame = (1000..).find(|frame| !self.tables.contains_key(frame))?;
        self.tables.insert(frame, [0; 512]);
        Some(frame)
    }
    fn release(&mut self, table: u64) {
        self.tables.remove(&table).expect("release of a table that is not there");
        self.entries.remove(&table);
    }
    fn entries(&self, table: u64) -> u16 {
        self.entries.get(&table).copied().unwrap_or(0)
    }
    fn set_entries(&mut self, table: u64, entries: u16) {
        self.entries.insert(table, entries);
    }
    fn bound(&mut self, _frame: u64, _large: bool) {}
    fn split(&mut self, _first: u64) {}
    fn unbound(&mut self, _frame: u64, _large: bool) {}
}

/// One more than there are environments.
const ENVIRONMENTS: u16 = 4;

fn id(number: u16) -> EnvironmentId {
    EnvironmentId::new(number, 0)
}

fn views() -> ViewTable {
    let mut table = ViewTable::default();
    table.expect(ENVIRONMENTS.into()).unwrap();
    table
}

/// Takes a view apart that has ended, and forgets it.
fn take_apart(table: &mut ViewTable, memory: &mut Memory, view: ViewId) {
    let (mut cursor, nested) = (0, &mut table.get_mut(view).unwrap().nested);
    while let Some(next) = nested.take_apart(memory, cursor) {
        cursor = next;
    }
    table.forget(view);
}

/// Processors, one for each environment: what each remembers, by top frame and frame, and in which of the
/// tables it is.
#[derive(Default)]
struct Processors {
    remembered: HashMap<(EnvironmentId, u64, u64), Rights>,
    inside: HashMap<EnvironmentId, u64>,
    seen: HashMap<EnvironmentId, (List, List)>,
}

impl Processors {
    /// A virtual CPU is told of its list, as before its next entry: what it remembers of tables old and new
    /// goes, and so does it, from a view that is not the same any more.
    fn tell(&mut self, table: &ViewTable, id: EnvironmentId) {
        let new = (table.identities(id), table.roots(id));
        let old = self.seen.insert(id, new).unwrap_or_default();
        for root in old.1.iter().chain(&new.1) {
            self.remembered.retain(|(of, tag, _), _| (*of, *tag) != (id, *root));
        }
        let inside = self.inside.entry(id).or_default();
        if crate::virt::kept(&old.0, &new.0) >> *inside & 1 == 0 {
            *inside = 0;
        }
    }

    /// All translations of these tables go.
    fn flush(&mut self, table: &ViewTable, id: EnvironmentId) {
        for root in table.roots(id) {
            self.remembered.retain(|(of, tag, _), _| (*of, *tag) != (id, root));
        }
    }

    /// The rights that a virtual CPU has on a frame where it is: those remembered, else those in the table,
    /// remembered from now on.
    fn touch(&mut self, table: &ViewTable, memory: &Memory, id: EnvironmentId, frame: u64) -> Option<Rights> {
        let entry = self.inside.get(&id).copied().unwrap_or(0);
        let view = table.get(table.at(id, entry)?)?;
        let key = (id, view.nested.root(), frame);
        if let Some(rights) = self.remembered.get(&key) {
            return Some(*rights);
        }
        let rights = view.nested.lookup(memory, frame)?;
        self.remembered.insert(key, rights);
        Some(rights)
    }
}

fn add(table: &mut ViewTable, memory: &mut Memory, owner: EnvironmentId) -> Result<usize, Status> {
    table.free_entry(owner)?;
    let nested = NestedTable::new(EntryFormat::Ept, memory).unwrap();
    Ok(table.add(owner, nested, 1, 8).ok().expect("there is a place"))
}

#[test]
fn both_must_agree() {
    let (mut table, mut memory) = (views(), Memory::default());
    assert_eq!(add(&mut table, &mut memory, id(1)), Ok(1));
    assert_eq!(table.accept(id(2), id(1), 1), Err(Status::NoRight), "not offered");
    assert_eq!(table.offer(id(2), 1, 1), Err(Status::NoSuch), "not in its list");
    assert_eq!(table.offer(id(1), 1, 1), Err(Status::NoSuch), "to itself");
    assert_eq!(table.offer(id(1), 1, 2), Ok(()));
    assert_eq!(table.accept(id(3), id(1), 1), Err(Status::NoRight), "offered to another");
    assert_eq!(table.accept(id(2), id(1), 1), Ok(1));
    assert_eq!(table.accept(id(2), id(1), 1), Err(Status::InUse));
    assert_eq!(table.offer(id(2), 1, 3), Err(Status::NoRight), "not its own to offer");
    assert_eq!(table.accept(id(3), id(2), 1), Err(Status::NoSuch), "nor there to be taken");
    assert!(matches!(table.leave(id(2), 1), Ok(Left::Remains(_))));
    assert_eq!(table.accept(id(2), id(1), 1), Err(Status::NoRight), "an offer holds once");
    assert!(table.get(table.at(id(1), 1).unwrap()).unwrap().is_private_to(id(1)));
}

#[test]
fn a_view_in_the_place_of_another_is_not_the_same() {
    let (mut table, mut memory) = (views(), Memory::default());
    add(&mut table, &mut memory, id(1)).unwrap();
    let (identities, roots) = (table.identities(id(1)), table.roots(id(1)));
    let Ok(Left::Ended(view, _)) = table.leave(id(1), 1) else { panic!("the owner's end is the view's") };
    take_apart(&mut table, &mut memory, view);
    add(&mut table, &mut memory, id(1)).unwrap();
    assert_eq!(table.roots(id(1)), roots, "the same frame and number");
    assert_ne!(table.identities(id(1)), identities);
}

/// The successor of a view has its frames, and so the name under which the processor remembers translations.
#[test]
fn what_was_remembered_of_a_view_that_is_gone_is_forgotten() {
    let (mut table, mut memory, mut processors) = (views(), Memory::default(), Processors::default());
    add(&mut table, &mut memory, id(1)).unwrap();
    processors.tell(&table, id(1));
    let view = table.at(id(1), 1).unwrap();
    table.get_mut(view).unwrap().nested.map(&mut memory, 7, 1, Rights::READ).unwrap();
    processors.inside.insert(id(1), 1);
    assert_eq!(processors.touch(&table, &memory, id(1), 7), Some(Rights::READ));
    let Ok(Left::Ended(view, _)) = table.leave(id(1), 1) else { panic!("the owner's end is the view's") };
    processors.tell(&table, id(1));
    assert_eq!(processors.inside[&id(1)], 0, "thrown out");
    take_apart(&mut table, &mut memory, view);
    add(&mut table, &mut memory, id(1)).unwrap();
    processors.tell(&table, id(1));
    processors.inside.insert(id(1), 1);
    assert_eq!(processors.touch(&table, &memory, id(1), 7), None);
}

#[derive(Clone, Debug)]
enum Step {
    Add(EnvironmentId),
    Offer(EnvironmentId, u64, EnvironmentId),
    Accept(EnvironmentId, EnvironmentId, u64),
    Leave(EnvironmentId, u64),
    Bind(EnvironmentId, u64, u64, bool),
    Unbind(EnvironmentId, u64, u64),
    Switch(EnvironmentId, u64),
    Touch(EnvironmentId, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || (1..ENVIRONMENTS).prop_map(id);
    let entry = || 0u64..4;
    let frame = || 0u64..3;
    let step = prop_oneof![
        2 => id().prop_map(Step::Add),
        3 => (id(), entry(), id()).prop_map(|(a, b, c)| Step::Offer(a, b, c)),
        3 => (id(), id(), entry()).prop_map(|(a, b, c)| Step::Accept(a, b, c)),
        1 => (id(), entry()).prop_map(|(a, b)| Step::Leave(a, b)),
        4 => (id(), entry(), frame(), any::<bool>()).prop_map(|(a, b, c, d)| Step::Bind(a, b, c, d)),
        3 => (id(), entry(), frame()).prop_map(|(a, b, c)| Step::Unbind(a, b, c)),
        4 => (id(), entry()).prop_map(|(a, b)| Step::Switch(a, b)),
        8 => (id(), frame()).prop_map(|(a, b)| Step::Touch(a, b)),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// What the kernel does at each step, and a processor that would make use of
    /// any flush forgotten.
    #[test]
    fn nobody_reaches_more_than_the_view_it_is_in_shows(steps in steps()) {
        let (mut table, mut memory) = (views(), Memory::default());
        let mut processors = Processors::default();
        let mut agreed: HashSet<(EnvironmentId, u64)> = HashSet::new();
        let mut offers: HashSet<(EnvironmentId, u64)> = HashSet::new();
        for step in steps {
            match step {
                Step::Add(id) => {
                    if add(&mut table, &mut memory, id).is_ok() {
                        let made = *table.identities(id).iter().max().unwrap();
                        agreed.insert((id, made));
                        processors.tell(&table, id);
                    }
                }
                Step::Offer(id, entry, to) => {
                    if table.offer(id, entry, to.number().into()).is_ok() {
                        offers.insert((to, table.identities(id)[entry as usize]));
                    }
                }
                Step::Accept(id, owner, entry) => {
                    if let Ok(place) = table.accept(id, owner, entry) {
                        let view = table.identities(id)[place];
                        prop_assert!(offers.remove(&(id, view)), "taken without an offer");
                        agreed.insert((id, view));
                        processors.tell(&table, id);
                    }
                }
                Step::Leave(id, entry) => match table.leave(id, entry) {
                    Ok(Left::Remains(view)) => {
                        agreed.remove(&(id, view.0));
                        processors.tell(&table, id);
                    }
                    Ok(Left::Ended(view, users)) => {
                        users.numbers().for_each(|user| processors.tell(&table, self::id(user)));
                        agreed.retain(|(_, agreed)| *agreed != view.0);
                        take_apart(&mut table, &mut memory, view);
                    }
                    Err(status) => prop_assert_eq!(status, Status::NoSuch),
                },
                Step::Bind(id, entry, frame, write) => {
                    let Some(view) = table.at(id, entry) else { continue };
                    let view = table.get_mut(view).unwrap();
                    let rights = if write { Rights::READ_WRITE } else { Rights::READ };
                    view.nested.map(&mut memory, frame, 1, rights).unwrap();
                    settle(&mut table, &mut processors, id, entry);
                }
                Step::Unbind(id, entry, frame) => {
                    let Some(view) = table.at(id, entry) else { continue };
                    table.get_mut(view).unwrap().nested.unmap(&mut memory, frame, 1);
                    settle(&mut table, &mut processors, id, entry);
                }
                Step::Switch(id, entry) => {
                    if entry == 0 || table.at(id, entry).is_some() {
                        processors.inside.insert(id, entry);
                    }
                }
                Step::Touch(id, frame) => {
                    let entry = processors.inside.get(&id).copied().unwrap_or(0);
                    let view = table.at(id, entry).and_then(|view| table.get(view));
                    let shown = view.and_then(|view| view.nested.lookup(&memory, frame));
                    prop_assert_eq!(processors.touch(&table, &memory, id, frame), shown);
                }
            }
            for id in (1..ENVIRONMENTS).map(id) {
                for view in table.identities(id).into_iter().filter(|view| *view != 0) {
                    prop_assert!(agreed.contains(&(id, view)), "in a list without consent");
                }
            }
        }
    }
}

/// As the kernel settles a change of a view.
fn settle(table: &mut ViewTable, processors: &mut Processors, id: EnvironmentId, entry: u64) {
    let view = table.at(id, entry).and_then(|view| table.get_mut(view)).unwrap();
    if view.nested.take_flush() {
        let users = view.users();
        users.numbers().for_each(|user| processors.flush(table, self::id(user)));
    }
}
