//! Extents against a list of owners.

use super::*;
use proptest::prelude::*;

/// Environments that the table is for.
const ENVIRONMENTS: usize = 4;

fn id(number: u16) -> EnvironmentId {
    EnvironmentId::new(number, 0)
}

fn table(blocks: u64) -> ExtentTable {
    let mut table = ExtentTable::new(blocks);
    table.admit(ENVIRONMENTS).unwrap();
    table
}

/// What the disk does with a table; maps of written blocks are left out.
impl ExtentTable {
    fn allocate_at(&mut self, owner: u16, first: u64, count: u64) -> Result<Claim, Status> {
        let first = self.require_free(id(owner), first, count)?;
        Ok(self.allocate(id(owner), first, count, [None; MAX_EXTENT_MAP_FRAMES]))
    }

    fn current(&self, claim: &Claim) -> Result<Current, Status> {
        self.check(&Verified::believed(*claim))
    }

    fn give_back(&mut self, claim: &Claim) -> Result<EnvironmentId, Status> {
        let current = self.current(claim)?;
        self.free(current).map(|(owner, _)| owner)
    }

    fn revoke_claim(&mut self, claim: &Claim) -> Result<Claim, Status> {
        let current = self.current(claim)?;
        Ok(Claim { generation: self.revoke(current)?, ..*claim })
    }

    fn bind_claim(&self, bindings: &mut Vec<Binding>, claim: &Claim, rights: Rights) -> Result<(), Status> {
        self.bind(bindings, self.current(claim)?, rights)
    }
}

fn bindings() -> Vec<Binding> {
    Vec::with_capacity(MAX_BINDINGS)
}

#[test]
fn extents_do_not_overlap() {
    let mut table = table(100);
    let granted = table.grant(id(1), 10, 20, Rights::READ_WRITE).unwrap();
    assert_eq!(table.allocate_at(2, 29, 1), Err(Status::InUse));
    assert_eq!(table.allocate_at(2, 5, 6), Err(Status::InUse));
    assert_eq!(table.allocate_at(2, 95, 6), Err(Status::NoSuch));
    assert_eq!(table.allocate_at(2, u64::MAX - 3, 6), Err(Status::NoSuch));
    assert_eq!(table.allocate_at(2, 30, 0), Err(Status::BadArgument));
    assert_eq!(table.allocate_at(2, ANY, 10).unwrap().first, 0);
    assert_eq!(table.allocate_at(2, ANY, 70).unwrap().first, 30);
    assert_eq!(table.allocate_at(2, ANY, 1), Err(Status::Exhausted));
    assert_eq!(table.current(&granted).map(|current| current.owner()), Ok(Owner::Environment(id(1))));
    assert_eq!(table.give_back(&granted), Ok(id(1)));
    assert_eq!(table.give_back(&granted), Err(Status::StaleCapability));
}

#[test]
fn only_whole_extents_are_freed_or_revoked() {
    let mut table = table(100);
    let whole = table.allocate_at(1, 10, 20).unwrap();
    let part = Claim { first: 10, count: 19, ..whole };
    assert_eq!(table.give_back(&part), Err(Status::BadArgument));
    assert_eq!(table.revoke_claim(&part), Err(Status::BadArgument));
    assert!(table.current(&part).is_ok());
    for claim in [
        Claim { first: 9, ..whole },
        Claim { count: 21, ..whole },
        Claim { count: 0, ..whole },
        Claim { resource: Resource::Page, ..whole },
        Claim { generation: whole.generation + 1, ..whole },
    ] {
        assert_eq!(table.current(&claim), Err(Status::StaleCapability), "{claim:?}");
    }
}

#[test]
fn requests_stay_inside_current_bindings() {
    let mut table = table(100);
    let left = table.grant(id(1), 10, 10, Rights::READ_WRITE).unwrap();
    let right = table.grant(id(1), 20, 10, Rights::READ_WRITE).unwrap();
    let mut bound = bindings();
    table.bind_claim(&mut bound, &left, Rights::READ_WRITE).unwrap();
    table.bind_claim(&mut bound, &right, Rights::READ).unwrap();
    assert_eq!(table.bind_claim(&mut bound, &left, Rights::READ), Err(Status::InUse));
    assert!(table.permits(&bound, 15, 10, Rights::READ));
    assert!(!table.permits(&bound, 15, 10, Rights::WRITE));
    assert!(!table.permits(&bound, 9, 2, Rights::READ));
    assert!(!table.permits(&bound, 29, 2, Rights::READ));
    assert!(!table.permits(&bound, 15, 0, Rights::READ));
    assert!(!table.permits(&bound, u64::MAX, 2, Rights::READ));
    table.revoke_claim(&right).unwrap();
    assert!(!table.permits(&bound, 15, 10, Rights::READ));
    assert!(table.permits(&bound, 10, 10, Rights::READ));
    table.drop_stale(&mut bound);
    assert_eq!(bound.len(), 1);
}

/// Each revocation, like each allocation, is newer than all that was said before.
#[test]
fn generations_only_grow() {
    let mut table = table(100);
    let first = table.allocate_at(1, 0, 10).unwrap();
    assert_eq!(table.generation(), first.generation);
    let second = table.revoke_claim(&first).unwrap();
    assert!(second.generation > first.generation && table.generation() == second.generation);
    assert_eq!(table.revoke_claim(&first), Err(Status::StaleCapability));
    table.give_back(&second).unwrap();
    let third = table.allocate_at(2, 0, 10).unwrap();
    assert!(third.generation > second.generation);
    assert_eq!(table.give_back(&second), Err(Status::StaleCapability));
}

#[test]
fn blocks_from_free_space_read_as_zeros_until_written() {
    let memory = crate::machine::memory::model(4);
    (0..4).for_each(|frame| memory.clear(frame));
    let mut table = table(3 * MAP_FRAME_BLOCKS);
    table.grant(id(1), 0, 10, Rights::READ).unwrap();
    let count = MAP_FRAME_BLOCKS + 100;
    let first = table.require_free(id(2), 10, count).unwrap();
    let mut map = [None; MAX_EXTENT_MAP_FRAMES];
    (map[0], map[1]) = (Some(2), Some(3));
    let claim = table.allocate(id(2), first, count, map);
    let zeros = |table: &ExtentTable, block| table.reads_as_zeros(block, &memory);
    assert!(!zeros(&table, 9) && zeros(&table, 10) && zeros(&table, 150) && !zeros(&table, 10 + count));
    let far = 10 + MAP_FRAME_BLOCKS + 3;
    for block in [150, far] {
        table.mark_written(block, &memory);
        assert!(
            !zeros(&table, block) && zeros(&table, block - 1) && zeros(&table, block + 1),
            "block {block}"
        );
    }
    table.mark_written(9, &memory);
    let current = table.current(&claim).unwrap();
    assert_eq!(table.free(current).unwrap(), (id(2), Some(map)), "the frames of the map come back");
}

#[test]
fn blocks_of_the_dead_are_not_given_away_while_their_requests_are_in_flight() {
    let mut table = table(100);
    let old = table.allocate_at(1, ANY, 10).unwrap();
    let other = table.allocate_at(1, 50, 10).unwrap();
    let in_use = |first, count| (first, count) == (0, 10);
    assert_eq!(table.release_one(id(1), in_use), Some(None), "an orphan keeps its map");
    assert!(matches!(table.release_one(id(1), in_use), Some(Some(_))), "the other goes at once");
    assert_eq!(table.release_one(id(1), in_use), None, "that was all");
    for claim in [old, other] {
        assert_eq!(table.give_back(&claim), Err(Status::StaleCapability));
    }
    let orphan = Claim { generation: table.generation(), ..old };
    assert_eq!(
        table.current(&orphan),
        Err(Status::StaleCapability),
        "an orphan is nobody's, whatever is claimed"
    );
    assert_eq!(table.allocate_at(2, 5, 1), Err(Status::InUse));
    assert_eq!(table.allocate_at(2, ANY, 10).unwrap().first, 10);
    assert_eq!(table.release_orphan(|_, _| true), None);
    assert_eq!(table.allocate_at(2, 5, 1), Err(Status::InUse));
    assert!(matches!(table.release_orphan(|_, _| false), Some((owner, Some(_))) if owner == id(1)));
    assert_eq!((table.owned_by(id(1)), table.allocated_by(id(1))), (0, 0));
    assert!(table.allocate_at(2, 5, 1).is_ok());
}

#[test]
fn who_has_many_extents_takes_nobodys_place() {
    let mut table = table(1 << 40);
    let limit = (MAX_EXTENTS / ENVIRONMENTS).min(MAX_EXTENTS_PER_OWNER);
    for owner in 1..=ENVIRONMENTS as u16 {
        (0..limit).for_each(|_| assert!(table.allocate_at(owner, ANY, 1).is_ok()));
        assert_eq!(table.allocate_at(owner, ANY, 1), Err(Status::Exhausted));
        assert_eq!(table.grant(id(owner), 1 << 30, 1, Rights::READ), Err(Status::Exhausted));
    }
}

#[test]
fn bindings_are_as_many_as_there_is_room_for() {
    let mut table = table(1000);
    let claims: Vec<_> = (0..3).map(|at| table.allocate_at(1, 10 * at, 10).unwrap()).collect();
    let mut bound = Vec::new();
    bound.reserve_exact(2);
    for claim in &claims[..2] {
        table.bind_claim(&mut bound, claim, Rights::READ).unwrap();
    }
    assert_eq!(table.bind_claim(&mut bound, &claims[2], Rights::READ), Err(Status::Exhausted));
}

proptest! {
    #[test]
    fn no_two_owners_of_one_block(
        steps in prop::collection::vec((1u16..4, 0u64..66, 1u64..20, 0u8..8), 1..60),
    ) {
        let mut table = table(64);
        let mut model = [0u16; 64];
        let mut claims: Vec<Claim> = Vec::new();
        for (owner, place, count, kind) in steps {
            match kind {
                0..4 => {
                    let run = model.get(place as usize..(place + count) as usize);
                    let free = run.is_some_and(|run| run.iter().all(|owner| *owner == 0));
                    let claim = table.allocate_at(owner, place, count);
                    prop_assert_eq!(claim.is_ok(), free);
                    if let Ok(claim) = claim {
                        model[place as usize..(place + count) as usize].fill(owner);
                        claims.push(claim);
                    }
                }
                4..6 if !claims.is_empty() => {
                    let claim = claims.swap_remove(place as usize % claims.len());
                    let owner = table.give_back(&claim);
                    prop_assert_eq!(owner, Ok(id(model[claim.first as usize])));
                    model[claim.first as usize..claim.end() as usize].fill(0);
                }
                6 if !claims.is_empty() => {
                    let place = place as usize % claims.len();
                    claims[place] = table.revoke_claim(&claims[place]).unwrap();
                }
                7 => {
                    while table.release_one(id(owner), |_, _| false).is_some() {}
                    claims.retain(|claim| model[claim.first as usize] != owner);
                    model.iter_mut().filter(|one| **one == owner).for_each(|one| *one = 0);
                }
                _ => {}
            }
            for owner in 1..4 {
                let owned = model.iter().filter(|one| **one == owner).count() as u64;
                prop_assert_eq!((table.owned_by(id(owner)), table.allocated_by(id(owner))), (owned, owned));
            }
            prop_assert!(claims.iter().all(|claim| table.current(claim).is_ok()));
        }
    }
}
