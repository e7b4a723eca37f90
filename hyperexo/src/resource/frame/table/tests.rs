//! The table of frames against plain lists.

use super::*;
use hyperexo_abi::capability::{Claim, Rights};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn id(number: u16) -> EnvironmentId {
    EnvironmentId::new(number, 0)
}

/// What the calls do with a table.
impl FrameTable {
    /// Takes free frames from `first` on, as one allocation.
    fn allocate_at(&mut self, owner: u16, first: u64, count: u64) -> Result<Claim, Status> {
        let generation = self.fresh_generation();
        self.take(Owner::Environment(id(owner)), first..first + count, generation)?;
        self.note_uniform(first..first + count, generation);
        Ok(Claim { resource: Resource::Page, rights: Rights::ALL, generation, first, count })
    }

    /// Takes free frames wherever they are.
    fn allocate(&mut self, owner: u16, count: u64, align: u64) -> Result<Claim, Status> {
        let first = self.find(count, align).ok_or(Status::Exhausted)?;
        self.allocate_at(owner, first, count)
    }

    /// Whose the frames of a claim are, if it is current.
    fn current(&self, claim: &Claim) -> Result<Owner, Status> {
        self.check(&Verified::believed(*claim))
    }

    fn revoke(&mut self, claim: &Claim) -> Result<Claim, Status> {
        self.current(claim)?;
        let generation = self.fresh_generation();
        self.stamp(claim.first..claim.end(), generation);
        Ok(Claim { generation, ..*claim })
    }

    fn give_back(&mut self, claim: &Claim) -> Result<(), Status> {
        self.current(claim)?;
        self.free(claim.first..claim.end());
        Ok(())
    }

    /// All frames in an environment's list.
    fn listed(&self, owner: u16) -> Vec<u64> {
        let first = self.next_owned(id(owner), None);
        std::iter::successors(first, |frame| self.next_owned(id(owner), Some(*frame))).collect()
    }
}

const ONE: Owner = Owner::Environment(EnvironmentId::new(1, 0));
const TWO: Owner = Owner::Environment(EnvironmentId::new(2, 0));

#[test]
fn specific_frames_are_given_or_refused_explicitly() {
    let mut table = model(90);
    table.reserve(10..12);
    assert_eq!(table.allocate_at(1, 11, 1), Err(Status::InUse));
    assert_eq!(table.allocate_at(1, 89, 2), Err(Status::NoSuch));
    assert_eq!(table.allocate_at(1, 90, 1), Err(Status::NoSuch));
    assert_eq!(table.require_free(u64::MAX - 1, 5), Err(Status::NoSuch));
    assert_eq!(table.allocate(1, 89, 1), Err(Status::Exhausted));
    let claim = table.allocate_at(1, 20, 3).unwrap();
    assert_eq!(table.allocate_at(2, 22, 1), Err(Status::InUse));
    assert_eq!(table.allocate_at(2, 19, 2), Err(Status::InUse), "nothing is taken then");
    assert_eq!((table.owner(19), table.current(&claim)), (Owner::Free, Ok(ONE)));
}

#[test]
fn frames_that_do_not_exist_are_nobodys_to_have() {
    let entries = vec![FrameEntry::ABSENT; 128].leak();
    let regions = vec![Region::default(); 1].leak();
    let map: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
    let mut table = FrameTable::new(entries, regions, map.leak());
    table.reserve(0..64);
    table.release_kernel(0..128);
    assert_eq!((table.free_frames(), table.owner(64)), (64, Owner::Absent), "a hole is not made a frame");
    assert_eq!(table.allocate_at(1, 63, 2), Err(Status::NoSuch));
    assert_eq!(table.find(65, 1), None);
    assert_eq!(table.find(64, 1), Some(0));
}

#[test]
fn capabilities_die_with_free_and_revoke() {
    let mut table = model(64);
    let old = table.allocate(1, 4, 4).unwrap();
    let new = table.revoke(&old).unwrap();
    assert_eq!(table.current(&old), Err(Status::StaleCapability));
    assert_eq!(table.give_back(&old), Err(Status::StaleCapability));
    assert_eq!(table.give_back(&new), Ok(()));
    let again = table.allocate_at(2, new.first, 4).unwrap();
    assert_eq!(table.current(&new), Err(Status::StaleCapability));
    assert_eq!(table.current(&again), Ok(TWO));
}

#[test]
fn nobody_has_a_claim_on_what_is_free_or_the_kernels() {
    let mut table = model(64);
    table.reserve(0..8);
    let claim =
        |first| Claim { resource: Resource::Page, rights: Rights::ALL, generation: 0, first, count: 1 };
    for first in [0, 8, 63, 64, u64::MAX >> 16] {
        assert_eq!(table.current(&claim(first)), Err(Status::StaleCapability), "frame {first}");
    }
    let good = table.allocate(1, 2, 1).unwrap();
    assert_eq!(table.current(&Claim { count: 0, ..good }), Err(Status::StaleCapability));
    assert_eq!(table.current(&Claim { resource: Resource::Disk, ..good }), Err(Status::StaleCapability));
}

#[test]
fn part_of_an_allocation_can_be_freed() {
    let mut table = model(64);
    let whole = table.allocate_at(1, 8, 8).unwrap();
    table.give_back(&Claim { first: 10, count: 2, ..whole }).unwrap();
    assert_eq!(table.current(&whole), Err(Status::StaleCapability));
    assert_eq!(table.current(&Claim { first: 12, count: 4, ..whole }), Ok(ONE));
    assert_eq!(table.owned_by(id(1)), 6);
}

#[test]
fn pinned_frames_outlive_their_owner_and_no_longer() {
    let mut table = model(64);
    let claim = table.allocate_at(1, 5, 2).unwrap();
    assert!(table.pin(5) && table.pin(5) && !table.pin(64) && !table.pin(u64::MAX));
    assert!(table.any_pinned(0..64) && !table.any_pinned(6..64));
    table.give_back(&claim).unwrap();
    assert_eq!((table.owner(5), table.owner(6)), (Owner::Leaving, Owner::Free));
    assert_eq!((table.owned_by(id(1)), table.free_frames()), (0, 63));
    assert_eq!(table.current(&Claim { count: 1, ..claim }), Err(Status::StaleCapability));
    assert_eq!(table.allocate_at(2, 5, 1), Err(Status::InUse), "not before the device has given it back");
    table.unpin(5);
    assert_eq!(table.owner(5), Owner::Leaving);
    table.unpin(5);
    assert_eq!((table.owner(5), table.free_frames()), (Owner::Free, 64));
}

#[test]
fn a_frame_is_not_pinned_more_often_than_is_counted() {
    let mut table = model(64);
    assert!((0..u16::MAX).all(|_| table.pin(3)) && !table.pin(3));
    (0..u16::MAX).for_each(|_| table.unpin(3));
    assert!(!table.any_pinned(0..64));
}

#[test]
#[should_panic(expected = "must not be freed")]
fn what_is_bound_is_not_freed() {
    let mut table = model(1024);
    table.allocate_at(1, 512, 512).unwrap();
    table.bound(512, true);
    table.free(700..701);
}

/// A region as a whole says the same as its frames one by one, whichever way it has come about.
#[test]
fn a_region_with_one_generation_is_known_as_such() {
    let mut table = model(2048);
    let whole = table.allocate_at(1, 512, 1024).unwrap();
    let uniform = |table: &FrameTable| [1, 2].map(|region: usize| table.regions[region].generation);
    assert_eq!(uniform(&table), [whole.generation; 2]);
    let part = table.revoke(&Claim { first: 600, count: 1, ..whole }).unwrap();
    assert_eq!(uniform(&table), [0, whole.generation]);
    assert_eq!(table.current(&whole), Err(Status::StaleCapability));
    assert_eq!(table.current(&Claim { first: 1024, count: 512, ..whole }), Ok(ONE));
    table.give_back(&part).unwrap();
    table.give_back(&Claim { first: 1500, count: 1, ..whole }).unwrap();
    assert_eq!(uniform(&table), [0, 0]);
}

#[test]
fn bindings_and_pins_of_a_region_are_those_of_its_frames() {
    let mut table = model(1024);
    table.bound(512, true);
    assert!(table.any_bound(1000..1001) && table.any_bound(512..1024) && !table.any_bound(0..512));
    table.unbound(512, true);
    table.bound(700, false);
    assert!(table.any_bound(700..701) && table.any_bound(512..1024) && !table.any_bound(701..1024));
    table.unbound(700, false);
    assert!(!table.any_bound(0..1024));
    assert!(table.pin(700) && table.any_pinned(512..1024) && !table.any_pinned(512..700));
    table.unpin(700);
    assert!(!table.any_pinned(0..1024));
}

#[test]
fn the_list_of_an_environment_yields_runs_within_regions() {
    let mut table = model(2048);
    assert_eq!(table.some_owned(id(1), 64), None);
    table.allocate_at(1, 500, 30).unwrap();
    let mut seen = BTreeSet::new();
    while let Some(run) = table.some_owned(id(1), 8) {
        assert!(run.end - run.start <= 8 && run.start / 512 == (run.end - 1) / 512, "{run:?}");
        seen.extend(run.clone());
        table.free(run);
    }
    assert_eq!(seen, (500..530).collect());
}

/// The first run that fits, frame by frame.
fn naive(table: &FrameTable, start: u64, end: u64, count: u64, align: u64) -> Option<u64> {
    (start..end.saturating_sub(count - 1))
        .filter(|first| first.is_multiple_of(align))
        .find(|first| (*first..first + count).all(|frame| table.owner(frame) == Owner::Free))
}

/// The same, by pieces.
fn in_pieces(
    table: &FrameTable,
    (mut at, end): (u64, u64),
    count: u64,
    align: u64,
    words: u64,
) -> Option<u64> {
    for _ in 0..10_000 {
        match table.search(at, end, count, align, words) {
            Search::Found(first) => return Some(first),
            Search::Nowhere => return None,
            Search::GoOn(next) => {
                assert!(next >= at, "never back");
                at = next;
            }
        }
    }
    panic!("a search that does not get on");
}

#[derive(Clone, Debug)]
enum Step {
    Any { owner: u16, count: u64, align: u64 },
    At { owner: u16, first: u64, count: u64 },
    GiveBack(usize),
    Revoke(usize),
    Pin(u64),
    Unpin(usize),
    End(u16),
    Kernel,
}

const FRAMES: u64 = 1100;

fn step() -> impl Strategy<Value = Step> {
    let count = || prop_oneof![4 => 1u64..9, 1 => 500u64..600];
    let align = prop::sample::select(&[1u64, 1, 2, 8, 64, 512][..]);
    let owner = || 1u16..4;
    prop_oneof![
        4 => (owner(), count(), align).prop_map(|(owner, count, align)| Step::Any { owner, count, align }),
        3 => (owner(), 0..FRAMES + 9, count()).prop_map(|(owner, first, count)| Step::At { owner, first, count }),
        3 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Revoke),
        2 => (0..FRAMES + 9).prop_map(Step::Pin),
        2 => any::<usize>().prop_map(Step::Unpin),
        1 => owner().prop_map(Step::End),
        1 => Just(Step::Kernel),
    ]
}

/// What the table should say: the owner of each frame, its generation and its pins.
struct Model {
    owners: Vec<Owner>,
    generations: Vec<u64>,
    pins: Vec<u64>,
    pinned: Vec<u64>,
    claims: Vec<Claim>,
}

impl Model {
    fn new() -> Model {
        let size = FRAMES as usize;
        let (owners, generations) = (vec![Owner::Free; size], vec![0; size]);
        Model { owners, generations, pins: vec![0; size], pinned: Vec::new(), claims: Vec::new() }
    }

    fn is_current(&self, claim: &Claim) -> bool {
        (claim.first..claim.end()).all(|frame| self.generations[frame as usize] == claim.generation)
    }

    fn take(&mut self, owner: u16, claim: Claim) {
        for frame in claim.first..claim.end() {
            assert_eq!(self.owners[frame as usize], Owner::Free, "frame {frame} is taken");
            self.owners[frame as usize] = Owner::Environment(id(owner));
            self.generations[frame as usize] = claim.generation;
        }
        self.claims.push(claim);
    }

    fn free(&mut self, frame: u64) {
        let pinned = self.pins[frame as usize] != 0;
        self.owners[frame as usize] = if pinned { Owner::Leaving } else { Owner::Free };
        self.generations[frame as usize] = 0;
    }

    fn apply(&mut self, table: &mut FrameTable, step: &Step) {
        match *step {
            Step::Any { owner, count, align } => {
                let fits = naive(table, 0, FRAMES, count, align).is_some();
                match table.allocate(owner, count, align) {
                    Ok(claim) => {
                        assert!(claim.first.is_multiple_of(align));
                        self.take(owner, claim);
                    }
                    Err(_) => assert!(!fits, "a run was there but not found"),
                }
            }
            Step::At { owner, first, count } => {
                let run = self.owners.get(first as usize..(first + count) as usize);
                let free = run.is_some_and(|run| run.iter().all(|owner| *owner == Owner::Free));
                let claim = table.allocate_at(owner, first, count);
                assert_eq!(claim.is_ok(), free);
                claim.into_iter().for_each(|claim| self.take(owner, claim));
            }
            Step::GiveBack(at) if !self.claims.is_empty() => {
                let claim = self.claims.swap_remove(at % self.claims.len());
                let current = self.is_current(&claim);
                assert_eq!(table.give_back(&claim).is_ok(), current);
                (claim.first..claim.end()).filter(|_| current).for_each(|frame| self.free(frame));
            }
            Step::Revoke(at) if !self.claims.is_empty() => {
                let at = at % self.claims.len();
                let old = self.claims[at];
                // A part of it, so that regions and their frames come to differ.
                let part = Claim { first: old.first + old.count / 3, count: old.count.div_ceil(3), ..old };
                let current = self.is_current(&part);
                let fresh = table.revoke(&part);
                assert_eq!(fresh.is_ok(), current);
                if let Ok(fresh) = fresh {
                    self.generations[part.first as usize..part.end() as usize].fill(fresh.generation);
                    self.claims.push(fresh);
                }
            }
            Step::Pin(frame) => {
                let exists = frame < FRAMES;
                assert_eq!(table.pin(frame), exists);
                if exists {
                    self.pins[frame as usize] += 1;
                    self.pinned.push(frame);
                }
            }
            Step::Unpin(at) if !self.pinned.is_empty() => {
                let frame = self.pinned.swap_remove(at % self.pinned.len());
                table.unpin(frame);
                self.pins[frame as usize] -= 1;
                if self.pins[frame as usize] == 0 && self.owners[frame as usize] == Owner::Leaving {
                    self.free(frame);
                }
            }
            Step::End(owner) => {
                while let Some(run) = table.some_owned(id(owner), 64) {
                    table.free(run.clone());
                    run.for_each(|frame| self.free(frame));
                }
            }
            Step::Kernel => {
                let frame = table.take_any();
                assert_eq!(frame.is_some(), self.owners.contains(&Owner::Free));
                if let Some(frame) = frame {
                    table.release_kernel(frame..frame + 1);
                }
            }
            Step::GiveBack(_) | Step::Revoke(_) | Step::Unpin(_) => {}
        }
    }

    fn agrees(&self, table: &FrameTable) {
        let frames = || 0..FRAMES;
        for frame in frames() {
            assert_eq!(table.owner(frame), self.owners[frame as usize], "owner of {frame}");
            assert_eq!(table.generation(frame), self.generations[frame as usize], "generation of {frame}");
            assert_eq!(table.is_free(frame), table.owner(frame) == Owner::Free, "map at {frame}");
        }
        let free = self.owners.iter().filter(|owner| **owner == Owner::Free).count() as u64;
        assert_eq!(table.free_frames(), free);
        for owner in 1..4 {
            let is = |frame: &u64| self.owners[*frame as usize] == Owner::Environment(id(owner));
            let (mut listed, expected) = (table.listed(owner), frames().filter(is).collect::<Vec<_>>());
            listed.sort_unstable();
            assert_eq!((listed, table.owned_by(id(owner))), (expected.clone(), expected.len() as u64));
        }
        for (number, region) in table.regions.iter().enumerate() {
            let frames = number * 512..((number + 1) * 512).min(FRAMES as usize);
            let uniform = self.generations[frames.clone()].iter().all(|one| *one == region.generation);
            assert!(region.generation == 0 || uniform, "region {number} is not uniform");
            assert_eq!(u64::from(region.pins), self.pins[frames].iter().sum::<u64>(), "pins of {number}");
        }
        for claim in &self.claims {
            assert_eq!(table.current(claim).is_ok(), self.is_current(claim), "{claim:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn agrees_with_a_list_of_owners(steps in prop::collection::vec(step(), 1..60)) {
        let (mut table, mut lists) = (model(FRAMES), Model::new());
        for step in &steps {
            lists.apply(&mut table, step);
            lists.agrees(&table);
        }
    }

    #[test]
    fn a_search_in_pieces_finds_what_a_naive_one_finds(
        taken in prop::collection::vec((0u64..700, prop_oneof![1u64..4, 1u64..90]), 0..40),
        start in 0u64..700,
        end in 0u64..=700,
        count in prop_oneof![1u64..9, 60u64..140],
        align in prop::sample::select(&[1u64, 2, 4, 32, 64, 128, 512, 1 << 40][..]),
    ) {
        let mut table = model(700);
        for (first, frames) in taken {
            table.reserve(first..first + frames);
        }
        let expected = naive(&table, start, end, count, align);
        for words in [4, 7, 16, u64::MAX] {
            prop_assert_eq!(in_pieces(&table, (start, end), count, align, words), expected);
        }
    }
}
