//! Random calls by three environments on two cores, pieces of several calls in any order, against
//! [`reference`].
//!
//! A call that runs alone must do exactly what the reference does, or nothing. Where calls overlap, each may
//! find what another has left; then all that the machine is checked for after each piece still holds, and the
//! reference catches up.

mod reference;
mod steps;

use crate::call::After;
use crate::machine::id::{EnvironmentId, VcpuId};
use crate::model::guest::GuestRing;
use crate::model::{Machine, Parts, Share};
use hyperexo_abi::capability::{Capability, Claim, Resource, Rights};
use hyperexo_abi::hypercall::{Results, Status};
use hyperexo_hw::virtio::block::Outcome;
use proptest::prelude::*;
use reference::Reference;
use std::collections::HashMap;
use steps::{Op, Word};

/// Environments.
const ENVIRONMENTS: u16 = 3;
/// Capabilities that are remembered.
const POOL: usize = 48;

/// How much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Enough for all quotas.
    Ample,
    /// Less than the quotas allow: only what always holds is checked.
    Scarce,
}

struct World {
    machine: Machine,
    memory: Memory,
    reference: Reference,
    /// Capabilities that somebody has, good or bad.
    pool: Vec<Capability>,
    rings: HashMap<EnvironmentId, GuestRing>,
    /// Calls that are underway.
    underway: Vec<(VcpuId, Op)>,
    /// Calls have overlapped since the reference caught up.
    overlapped: bool,
    free_at_first: u64,
}

impl World {
    fn new(memory: Memory) -> World {
        let (frames, quotas) = match memory {
            Memory::Ample => (1408, [640, 250, 250]),
            Memory::Scarce => (700, [660, 400, 300]),
        };
        let parts = Parts { frames, environments: ENVIRONMENTS.into(), ..Parts::default() };
        let mut machine = Machine::new(parts);
        for (core, quota) in [0, 1, 0].into_iter().zip(quotas) {
            machine.add(Share { quota, core, ..Share::default() });
        }
        let free_at_first = machine.kernel.pages.frames.free_frames();
        let reference = Reference::of(&machine);
        World {
            machine,
            memory,
            reference,
            pool: vec![Capability::default()],
            rings: HashMap::new(),
            underway: Vec::new(),
            overlapped: false,
            free_at_first,
        }
    }

    /// A virtual CPU; `None` if its environment has ended.
    fn vcpu(&self, word: &Word) -> Option<VcpuId> {
        let id = EnvironmentId::new(1 + word.who() % ENVIRONMENTS, 0);
        let environment =
            self.machine.kernel.environments.get(id).filter(|environment| !environment.ended())?;
        let index = word.index() % environment.vcpus.len();
        Some(VcpuId { environment: id, index, core: environment.vcpus[index].core })
    }

    fn step(&mut self, word: &Word) {
        if word.is_device() {
            return self.device(word);
        }
        let Some(who) = self.vcpu(word) else { return };
        if let Some(at) = self.underway.iter().position(|(other, _)| *other == who) {
            self.overlapped |= self.underway.len() > 1;
            if self.machine.go_on(who) != After::Again {
                let (_, op) = self.underway.remove(at);
                self.over(who, &op);
            }
            return;
        }
        let op = Op::from_word(self, who, word);
        self.overlapped |= !self.underway.is_empty();
        let expected = if self.overlapped { None } else { Some(self.expect(who, &op)) };
        if let Op::Request(request) = &op
            && let Some(ring) = self.rings.get(&who.environment).filter(|ring| ring.has_room())
        {
            ring.submit(request);
        }
        let (call, arguments) = op.call();
        let mut after = self.machine.begin(who, call, &arguments);
        if after == After::Again && word.is_left_underway() {
            self.overlapped = true;
            self.underway.push((who, op));
            return;
        }
        while after == After::Again {
            after = self.machine.go_on(who);
        }
        match (op, expected) {
            (Op::Exit, expected) => self.ended(who, expected.is_some()),
            (op, None) => self.over(who, &op),
            (op, Some(expected)) => self.judge(who, &op, expected),
        }
    }

    /// Something that does not come from a guest.
    fn device(&mut self, word: &Word) {
        if word.index().is_multiple_of(4) {
            self.machine.net.state().inbox.push_back((vec![0; 64], Default::default()));
            self.machine.kernel.signals.note_net();
        }
        let outcome = if word.who().is_multiple_of(5) { Outcome::Failed } else { Outcome::Done };
        (0..word.index() % 5).for_each(|_| {
            self.machine.disk.state().finish(outcome);
        });
        self.machine.kernel.signals.note_disk();
        self.machine.attend(if word.who().is_multiple_of(7) { u64::MAX } else { 0 });
    }

    /// What should come of a call that runs alone.
    fn expect(&mut self, who: VcpuId, op: &Op) -> Result<(), Status> {
        let id = who.environment;
        match op {
            Op::Bind(capability, wanted) => self.reference.bind(id, capability.claim(), *wanted),
            Op::Unbind(first, count, entry) => {
                let pinned = self.machine.kernel.pages.frames.any_pinned(*first..first + count);
                self.reference.unbind(id, (*first, *count, *entry), pinned)
            }
            Op::Free(capability) | Op::Revoke(capability) => self.expect_taken(op, capability),
            Op::Derive(capability, first, count, rights) => {
                let claim = capability.claim().ok_or(Status::ForgedCapability)?;
                if claim.resource != Resource::Page {
                    return Ok(());
                }
                if !self.reference.is_current(&claim) {
                    return Err(Status::StaleCapability);
                }
                if *count == 0 || *first < claim.first || first + count > claim.end() {
                    return Err(Status::BadArgument);
                }
                if claim.rights.contains(*rights) { Ok(()) } else { Err(Status::NoRight) }
            }
            Op::ViewCreate(_) => self.reference.free_entry(id).map(drop).ok_or(Status::Exhausted),
            Op::ViewOffer(entry, to) => self.reference.offer(id, *entry, *to),
            Op::ViewAccept(owner, entry) => {
                let owner = EnvironmentId::new(*owner, 0);
                self.reference.accept(id, owner, *entry).map(drop)
            }
            Op::ViewEnd(entry) => {
                self.reference.place(id, *entry).filter(|_| *entry != 0).map(drop).ok_or(Status::NoSuch)
            }
            _ => Ok(()),
        }
    }

    fn expect_taken(&self, op: &Op, capability: &Capability) -> Result<(), Status> {
        let claim = capability.claim().ok_or(Status::ForgedCapability)?;
        if claim.resource != Resource::Page {
            return Err(Status::NoRight);
        }
        if !claim.rights.contains(Rights::GRANT) {
            return Err(Status::NoRight);
        }
        if !self.reference.is_current(&claim) {
            return Err(Status::StaleCapability);
        }
        let pinned = self.machine.kernel.pages.frames.any_pinned(claim.first..claim.end());
        if pinned && matches!(op, Op::Free(_)) { Err(Status::Busy) } else { Ok(()) }
    }

    /// A call that ran alone is over.
    fn judge(&mut self, who: VcpuId, op: &Op, expected: Result<(), Status>) {
        let outcome = self.machine.outcome(who);
        match (&outcome, expected) {
            (Ok(results), Ok(())) => self.apply(who, op, results),
            // The frame for its list is asked for first.
            (Err(Status::QuotaExceeded | Status::Exhausted), Err(_)) if matches!(op, Op::ViewAccept(..)) => {}
            // Frame after frame is judged: which fault comes first depends on where they are.
            (Err(status), Err(expected))
                if op.faults().contains(status) && op.faults().contains(&expected) => {}
            (Err(status), Err(expected)) => assert_eq!(*status, expected, "{op:?} by {who:?}"),
            // There may be no room, or not where it is wanted: nothing has happened then.
            (Err(_), Ok(())) if op.may_be_refused() => {}
            (Err(Status::QuotaExceeded | Status::Exhausted), Ok(())) => {}
            _ => panic!("{op:?} by {who:?} came to {outcome:?}, expected {expected:?}"),
        }
        self.keep(who, op, outcome);
        if self.memory == Memory::Ample {
            self.reference.compare(&self.machine);
        } else {
            self.reference.catch_up(&self.machine);
        }
    }

    fn apply(&mut self, who: VcpuId, op: &Op, results: &Results) {
        let id = who.environment;
        let claim = |capability: &Capability| capability.claim().expect("judged");
        match op {
            Op::Allocate(..) => self.reference.allocated(id, &claim(&Capability(*results))),
            Op::Bind(capability, wanted) => self.reference.bound(id, &claim(capability), *wanted),
            Op::Unbind(first, count, entry) => self.reference.unbound(id, (*first, *count, *entry)),
            Op::Free(capability) => {
                let Claim { first, .. } = claim(capability);
                self.reference.freed(first, claim(capability).end());
            }
            Op::Revoke(_) => self.reference.revoked(id, &claim(&Capability(*results))),
            Op::ViewCreate(_) | Op::ViewAccept(..) => {
                let place = self.machine.kernel.pages.place(id, results[0]).expect("it was just made");
                let made = matches!(op, Op::ViewCreate(_));
                self.reference.listed(id, results[0] as usize, place, made);
            }
            Op::ViewEnd(entry) => self.reference.left(id, *entry),
            Op::VcpuStart(_) => self.reference.shown(id, results[1]),
            _ => {}
        }
    }

    /// A call that may have overlapped with others is over.
    fn over(&mut self, who: VcpuId, op: &Op) {
        let outcome = self.machine.outcome(who);
        let place = |entry: u64| self.machine.kernel.pages.place(who.environment, entry);
        // Offers can't be seen from outside.
        match (op, &outcome) {
            (Op::ViewOffer(entry, to), Ok(_)) => self.reference.offered(place(*entry), *to as u16),
            (Op::ViewAccept(..), Ok([entry, ..])) => {
                self.reference.taken(place(*entry), who.environment.number());
            }
            _ => {}
        }
        self.keep(who, op, outcome);
        self.rest();
    }

    /// If no call is underway, the reference catches up.
    fn rest(&mut self) {
        if self.underway.is_empty() && self.overlapped {
            self.overlapped = false;
            self.reference.catch_up(&self.machine);
        }
    }

    fn keep(&mut self, who: VcpuId, op: &Op, outcome: Result<Results, Status>) {
        let Ok(results) = outcome else { return };
        if let Op::RingBind(first) = op {
            self.rings.insert(who.environment, GuestRing::at(&self.machine, *first));
        }
        if op.gives_capability() {
            if self.pool.len() == POOL {
                self.pool.remove(1);
            }
            self.pool.push(Capability(results));
        }
    }

    fn ended(&mut self, who: VcpuId, alone: bool) {
        self.underway.retain(|(other, _)| other.environment != who.environment);
        self.machine.bury();
        self.rings.remove(&who.environment);
        if alone {
            self.reference.ended(who.environment);
            self.reference.compare(&self.machine);
        }
        self.rest();
    }

    /// All end, and everything comes back.
    fn end(mut self) {
        for number in 1..=ENVIRONMENTS {
            let id = EnvironmentId::new(number, 0);
            if self.machine.kernel.environments.get(id).is_some_and(|environment| !environment.ended()) {
                self.machine.end(self.machine.vcpu(number));
            }
        }
        let requests = self.machine.disk.state().working.len();
        self.machine.finish(requests);
        let pages = &self.machine.kernel.pages;
        let kept = u64::from(ENVIRONMENTS);
        let charged: u64 = self.machine.kernel.environments.iter().map(|e| pages.charged(e.id).0).sum();
        assert_eq!(charged, kept, "only consoles");
        assert!(pages.all_tables().is_empty() && pages.frames.free_frames() >= self.free_at_first);
        assert_eq!(self.machine.kernel.net.filter_count(), 0);
    }
}

fn run(memory: Memory, words: &[Word]) {
    let mut world = World::new(memory);
    words.iter().for_each(|word| world.step(word));
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn calls_do_what_plain_maps_say(words in prop::collection::vec(any::<[u32; 4]>().prop_map(Word), 1..80)) {
        run(Memory::Ample, &words);
    }

    #[test]
    fn what_always_holds_holds_when_memory_is_scarce(
        words in prop::collection::vec(any::<[u32; 4]>().prop_map(Word), 1..80),
    ) {
        run(Memory::Scarce, &words);
    }
}

/// As many steps as the variable `HYPEREXO_FUZZ_STEPS` says, from a seed in `HYPEREXO_FUZZ_SEED`.
#[test]
#[ignore = "as long as HYPEREXO_FUZZ_STEPS says"]
fn random_calls_for_a_long_time() {
    /// Steps on one machine.
    const STEPS: u64 = 2000;
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let steps: u64 = number("HYPEREXO_FUZZ_STEPS", 100_000);
    let first: u64 = number("HYPEREXO_FUZZ_SEED", 1);
    for seed in first..first + steps.div_ceil(STEPS) {
        println!("seed {seed}");
        let memory = if seed % 3 == 0 { Memory::Scarce } else { Memory::Ample };
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as u32
        };
        let words: Vec<Word> = (0..STEPS).map(|_| Word([draw(), draw(), draw(), draw()])).collect();
        run(memory, &words);
    }
}
