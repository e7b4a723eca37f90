//! Two-level replacement against a second implementation, written from the description of LRU-SP on plain
//! lists, and its effects on small examples.

use libos_fs::cache::{Allocation, ManagedSimulation, ManagerId, Referenced, reference};
use libos_fs::{FileId, PolicyKind};
use proptest::prelude::*;

/// A block: its file is its manager's.
type Block = (u64, u64);

/// A cache as the papers describe it. Everything is searched for in lists.
struct Model {
    capacity: usize,
    allocation: Allocation,
    /// All blocks, the one used longest ago first, but for swaps.
    lru_list: Vec<Block>,
    /// By manager, by priority: the blocks in the order in which its policy would give them up.
    pools: Vec<Vec<(i32, PolicyKind, Vec<Block>)>>,
    /// By block with a temporary priority: that priority.
    temporary: Vec<(Block, i32)>,
    /// (B, A): B was given up instead of A. Oldest first.
    placeholders: Vec<(Block, Block)>,
    /// How many placeholders were made after each of them.
    later: Vec<usize>,
}

/// Priority of all blocks without a temporary one.
const USUAL: i32 = 0;

impl Model {
    fn new(capacity: usize, allocation: Allocation, policies: &[PolicyKind]) -> Model {
        let pools = policies
            .iter()
            .map(|kind| {
                vec![(-1, PolicyKind::Lru, vec![]), (USUAL, *kind, vec![]), (1, PolicyKind::Lru, vec![])]
            })
            .collect();
        Model {
            capacity,
            allocation,
            lru_list: vec![],
            pools,
            temporary: vec![],
            placeholders: vec![],
            later: vec![],
        }
    }

    fn leave_pool(&mut self, block: Block) {
        self.pools[block.0 as usize].iter_mut().for_each(|(.., blocks)| blocks.retain(|b| *b != block));
    }

    fn enter_pool(&mut self, block: Block, priority: i32) {
        self.leave_pool(block);
        let pools = &mut self.pools[block.0 as usize];
        let (.., blocks) = pools.iter_mut().find(|(p, ..)| *p == priority).unwrap();
        blocks.push(block);
    }

    fn give_up(&self, manager: u64) -> Block {
        let (_, kind, blocks) =
            self.pools[manager as usize].iter().find(|(.., blocks)| !blocks.is_empty()).unwrap();
        match kind {
            PolicyKind::Mru => *blocks.last().unwrap(),
            _ => blocks[0],
        }
    }

    fn drop_placeholders(&mut self, mut of: impl FnMut(Block, Block) -> bool) {
        let keep: Vec<bool> = self.placeholders.iter().map(|(b, a)| !of(*b, *a)).collect();
        let mut kept = keep.iter();
        self.placeholders.retain(|_| *kept.next().unwrap());
        let mut kept = keep.iter();
        self.later.retain(|_| *kept.next().unwrap());
    }

    fn make_placeholder(&mut self, given_up: Block, candidate: Block) {
        self.later.iter_mut().for_each(|later| *later += 1);
        self.placeholders.push((given_up, candidate));
        self.later.push(0);
        while self.later.first().is_some_and(|later| *later >= self.capacity) {
            self.later.remove(0);
            self.placeholders.remove(0);
        }
    }

    fn replace(&mut self, missing: Block) -> Block {
        let placeholder = self.placeholders.iter().find(|(b, _)| *b == missing).map(|(_, a)| *a);
        let candidate = placeholder.unwrap_or(self.lru_list[0]);
        let given_up = match self.allocation {
            Allocation::GlobalLru => candidate,
            _ => self.give_up(candidate.0),
        };
        if given_up != candidate {
            let position = |list: &[Block], block| list.iter().position(|b| *b == block).unwrap();
            if matches!(self.allocation, Allocation::LruSp | Allocation::LruS) {
                let (a, b) = (position(&self.lru_list, candidate), position(&self.lru_list, given_up));
                self.lru_list.swap(a, b);
            }
            if self.allocation == Allocation::LruSp {
                self.make_placeholder(given_up, candidate);
            }
        }
        self.lru_list.retain(|b| *b != given_up);
        self.leave_pool(given_up);
        self.temporary.retain(|(b, _)| *b != given_up);
        self.drop_placeholders(|_, a| a == given_up);
        given_up
    }

    fn refer(&mut self, block: Block) -> Referenced {
        let temporary = self.temporary.iter().any(|(b, _)| *b == block);
        self.temporary.retain(|(b, _)| *b != block);
        if self.lru_list.contains(&block) {
            self.lru_list.retain(|b| *b != block);
            self.lru_list.push(block);
            self.drop_placeholders(|_, a| a == block);
            let first_in_first_out = self.pools[block.0 as usize][1].1 == PolicyKind::Fifo;
            if temporary || !first_in_first_out {
                self.enter_pool(block, USUAL);
            }
            return Referenced::Hit;
        }
        let full = self.lru_list.len() == self.capacity;
        let replaced = full.then(|| self.replace(block)).map(|(file, block)| reference(FileId(file), block));
        self.lru_list.push(block);
        self.enter_pool(block, USUAL);
        self.drop_placeholders(|b, _| b == block);
        Referenced::Miss { evicted: replaced }
    }

    fn set_temporary(&mut self, block: Block, priority: i32) {
        if self.lru_list.contains(&block) {
            self.temporary.retain(|(b, _)| *b != block);
            self.temporary.push((block, priority));
            self.enter_pool(block, priority);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Refer(u64, u64),
    /// A manager goes through a range.
    Pass(u64, u64),
    Temporary(u64, u64, i32),
}

fn a_step(managers: u64) -> impl Strategy<Value = Step> {
    let block = (0..managers, 0u64..14);
    prop_oneof![
        8 => block.clone().prop_map(|(manager, block)| Step::Refer(manager, block)),
        2 => block.clone().prop_map(|(manager, blocks)| Step::Pass(manager, blocks)),
        1 => (block, prop_oneof![Just(-1), Just(1)]).prop_map(|((m, b), p)| Step::Temporary(m, b, p)),
    ]
}

fn a_policy() -> impl Strategy<Value = PolicyKind> {
    prop_oneof![Just(PolicyKind::Lru), Just(PolicyKind::Mru), Just(PolicyKind::Fifo)]
}

fn simulation(capacity: usize, allocation: Allocation, policies: &[PolicyKind]) -> ManagedSimulation {
    let mut cache = ManagedSimulation::new(capacity, allocation);
    for (number, kind) in policies.iter().enumerate() {
        let manager = if number == 0 { ManagerId::DEFAULT } else { cache.manager(&number.to_string()) };
        cache.set_priority(manager, FileId(number as u64), USUAL);
        cache.set_policy(manager, USUAL, *kind);
    }
    cache
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_description_reference_by_reference(
        capacity in 1usize..24,
        policies in prop::collection::vec(a_policy(), 1..5),
        steps in prop::collection::vec(a_step(5), 1..300),
    ) {
        for allocation in Allocation::ALL {
            let managers = policies.len() as u64;
            let mut model = Model::new(capacity, allocation, &policies);
            let mut cache = simulation(capacity, allocation, &policies);
            for (number, step) in steps.iter().enumerate() {
                match *step {
                    Step::Refer(manager, block) => {
                        let manager = manager % managers;
                        let found = cache.refer(FileId(manager), block);
                        prop_assert_eq!(found, model.refer((manager, block)), "{:?} step {}", allocation, number);
                    }
                    Step::Pass(manager, blocks) => {
                        let manager = manager % managers;
                        for block in 0..blocks {
                            let found = cache.refer(FileId(manager), block);
                            prop_assert_eq!(
                                found, model.refer((manager, block)), "{:?} step {}", allocation, number
                            );
                        }
                    }
                    Step::Temporary(manager, block, priority) => {
                        let manager = manager % managers;
                        cache.set_temporary_priority(FileId(manager), block..block + 1, priority);
                        model.set_temporary((manager, block), priority);
                    }
                }
            }
        }
    }

    /// The first criterion in its purest form: if nobody overrules, it is LRU.
    #[test]
    fn oblivious_managers_see_one_lru(
        capacity in 1usize..24,
        references in prop::collection::vec((0u64..4, 0u64..14), 1..400),
    ) {
        let lru = [PolicyKind::Lru; 4];
        let mut one = simulation(capacity, Allocation::LruSp, &lru[..1]);
        for allocation in Allocation::ALL {
            let mut several = simulation(capacity, allocation, &lru);
            for (file, block) in &references {
                let alone = one.refer(FileId(*file), *block);
                prop_assert_eq!(several.refer(FileId(*file), *block), alone);
            }
            one = simulation(capacity, Allocation::LruSp, &lru[..1]);
        }
    }
}

/// The counters tell who overruled, and who was wrong.
#[test]
fn who_errs_pays() {
    for (allocation, overruled, mistakes, others) in [
        (Allocation::LruSp, true, true, 40),
        (Allocation::LruS, true, false, 40),
        (Allocation::AllocLru, true, false, 40),
        (Allocation::GlobalLru, false, false, 40),
    ] {
        let mut cache = simulation(100, allocation, &[PolicyKind::Lru, PolicyKind::Mru]);
        let fool = cache.manager("1");
        // Goes round in 50 blocks, and then in 50 others: with MRU it keeps what it needs no more.
        for part in [0..50, 50..100] {
            for _ in 0..20 {
                for block in part.clone() {
                    cache.refer(FileId(1), block);
                    cache.refer(FileId(0), block % 40);
                }
            }
        }
        let (fool, other) = (cache.statistics(fool), cache.statistics(ManagerId::DEFAULT));
        assert_eq!((fool.overruled > 0, fool.mistakes > 0), (overruled, mistakes), "{allocation:?} {fool:?}");
        assert_eq!(other.overruled, 0);
        assert_eq!(fool.references, fool.hits + fool.misses);
        assert_eq!(fool.misses, fool.evictions + fool.resident as u64);
        assert_eq!(other.misses, others, "{allocation:?}");
    }
}
