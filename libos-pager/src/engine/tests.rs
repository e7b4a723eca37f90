//! The engine over a page table of the host, whose bits the test sets as a processor would.

use super::*;
use crate::model::Model;
use crate::swap::Swap;
use libos_fs::RamDisk;
use libos_fs::cache::{Numbering, Referenced, Simulation};
use std::string::ToString;

extern crate std;

/// A processor with paged memory of so many pages and frames.
struct Machine {
    map: Model,
    engine: Engine<Model>,
}

impl Machine {
    fn new(pages: u64, frames: usize, policy: PolicyKind) -> Machine {
        let map = Model::new(pages.max(32));
        let boxed = policy.build(frames);
        let mut engine = Engine::new(map.clone(), pages, frames, 4, boxed, References::Sampled);
        if policy == PolicyKind::Clock {
            engine.use_policy(policy, map.bits());
        }
        let pager = Box::new(Swap::new(Box::new(RamDisk::new(pages)), pages).unwrap());
        engine.add(Area { pages: 0..pages, pager, protection: Protection::Write });
        Machine { map, engine }
    }

    /// An access, with the fault it may take.
    fn access(&mut self, page: u64, write: Option<u8>) -> u8 {
        let mut faults = 0;
        loop {
            let done = self.map.access(page, write.is_some(), |page| {
                let before = page.0[9];
                page.0[9] = write.unwrap_or(before);
                before
            });
            match done {
                Some(before) => return before,
                None => self.engine.fault(page, write.is_some()).unwrap(),
            }
            faults += 1;
            assert!(faults < 2, "page {page} after its fault");
        }
    }
}

/// Numbers from a fixed sequence.
fn draw(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) % below
}

#[test]
fn memory_remembers_under_every_policy() {
    for kind in PolicyKind::ALL {
        let mut machine = Machine::new(40, 7, kind);
        let mut expected = [0u8; 40];
        let mut seed = 3;
        for step in 0..4000u64 {
            let page = if step % 3 == 0 { draw(&mut seed, 40) } else { step % 40 };
            let write = (draw(&mut seed, 3) == 0).then_some(step as u8);
            assert_eq!(machine.access(page, write), expected[page as usize], "{} step {step}", kind.name());
            expected[page as usize] = write.unwrap_or(expected[page as usize]);
            if step % 97 == 0 {
                let first = draw(&mut seed, 36);
                machine.engine.discard(first..first + 3);
                expected[first as usize..first as usize + 3].fill(0);
            }
            if step % 61 == 0 {
                let first = draw(&mut seed, 30);
                machine.engine.advise(first..first + 9, Advice::WillNeed).unwrap();
            }
            assert!(machine.engine.resident() <= 7 && machine.map.count() <= 7);
        }
        let done = machine.engine.statistics();
        assert_eq!(done.brought, done.zeroed + done.read);
        assert!(done.written > 0 && done.write_requests <= done.written && done.read_ahead > 0);
        assert_eq!(done.rejected_victims, 0, "{}", kind.name());
    }
}

/// CLOCK with the processor's bits faults as the simulator says of CLOCK, if there each block that comes in
/// is used once more: the access that faulted is made again.
#[test]
fn clock_faults_as_simulated() {
    let mut machine = Machine::new(64, 11, PolicyKind::Clock);
    let mut policy = PolicyKind::Clock.build(11);
    let mut cache = Simulation::new(&mut *policy, 11);
    let (mut misses, mut seed) = (0, 9);
    for step in 0..6000u64 {
        let page = if step % 2 == 0 { draw(&mut seed, 64) } else { draw(&mut seed, 8) };
        machine.access(page, None);
        if cache.reference(page) != Referenced::Hit {
            misses += 1;
            cache.reference(page);
        }
        assert_eq!(machine.engine.statistics().brought, misses, "step {step}");
    }
}

#[test]
fn what_is_recorded_is_every_change_of_page() {
    let mut machine = Machine::new(32, 5, PolicyKind::Lru);
    machine.engine.record();
    let mut seed = 4;
    let pages: Vec<u64> = (0..500).map(|_| draw(&mut seed, 32)).collect();
    pages.iter().for_each(|page| {
        machine.access(*page, Some(1));
    });
    let mut changes = pages.clone();
    changes.dedup();
    let recorded = machine.engine.recorder().unwrap();
    assert!(recorded.pages().iter().map(|page| u64::from(*page)).eq(changes.iter().copied()));
    let mut numbering = Numbering::default();
    changes.iter().for_each(|page| numbering.push(*page).unwrap());
    assert_eq!(numbering.finish().blocks().len(), 32);
}

/// A pager of which writing fails.
struct Failing {
    writes: bool,
}

impl Pager for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    fn holds(&self, page: u64) -> bool {
        page >= 8
    }
    fn page_in(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        Err(PageFailure { pages, error: PagerError::Other("no".into()) })
    }
    fn page_out(&mut self, _: u64, pages: Vec<Box<Page>>) -> Result<Vec<Box<Page>>, PageFailure> {
        if self.writes { Ok(pages) } else { Err(PageFailure { pages, error: PagerError::Full }) }
    }
    fn discard(&mut self, _: Range<u64>) {}
}

#[test]
fn a_pager_that_fails_loses_nothing() {
    let mut machine = Machine::new(1, 4, PolicyKind::Lru);
    let pager = Box::new(Failing { writes: false });
    machine.engine.areas[0] = Area { pages: 0..16, pager, protection: Protection::Write };
    assert_eq!(machine.engine.fault(9, false), Err(PagerError::Other("no".into())));
    assert!(machine.engine.fault(16, false).is_err(), "no region");
    (0..3).for_each(|page| {
        machine.access(page, Some(7));
    });
    machine.access(3, None);
    // Page 0 is named, but can't go; page 3 is clean.
    machine.access(4, Some(7));
    assert!(!machine.map.is_there(3));
    assert_eq!(machine.engine.statistics().rejected_victims, 1);
    // None can go now.
    assert_eq!(machine.engine.fault(5, true), Err(PagerError::Full));
    for page in [0, 1, 2, 4] {
        assert_eq!(machine.access(page, None), 7, "page {page} is still there");
        assert!(machine.map.written(page), "and has still to be written");
    }
    let pager = Box::new(Failing { writes: true });
    machine.engine.areas[0].pager = pager;
    machine.access(5, Some(7));
    let areas = &mut machine.engine.areas;
    areas[0].protection = Protection::Read;
    assert!(machine.engine.fault(1, true).unwrap_err().to_string().contains("may not be written"));
}

/// What a snapshot shows is what was there, whatever is written, discarded or paged afterwards.
#[test]
fn a_snapshot_is_what_was() {
    for kind in crate::TranslationKind::ALL {
        let mut machine = Machine::new(20, 6, PolicyKind::Clock);
        machine.engine.use_translation(kind);
        let mut seed = 5;
        (0..15).for_each(|page| {
            machine.access(page, Some(100 + page as u8));
        });
        let store = Box::new(Swap::new(Box::new(RamDisk::new(20)), 20).unwrap());
        machine.engine.snapshot(0, store).unwrap();
        let another = Box::new(Swap::new(Box::new(RamDisk::new(20)), 20).unwrap());
        assert!(machine.engine.snapshot(3, another).is_err(), "one at a time");
        let mut expected: Vec<u8> = (0..20).map(|page| if page < 15 { 100 + page } else { 0 }).collect();
        let before = expected.clone();
        for step in 0..300u64 {
            let page = draw(&mut seed, 20);
            if step % 29 == 0 {
                machine.engine.discard(page..page + 1);
                expected[page as usize] = 0;
            }
            let write = (step % 3 == 0).then_some(step as u8);
            assert_eq!(machine.access(page, write), expected[page as usize], "step {step}");
            expected[page as usize] = write.unwrap_or(expected[page as usize]);
            let mut seen = Page([1; FRAME_BYTES]);
            let old = draw(&mut seed, 20);
            machine.engine.read_snapshot(old, &mut seen).unwrap();
            assert_eq!(seen.0[9], before[old as usize], "page {old} at step {step}, {}", kind.name());
        }
        machine.engine.end_snapshot(0);
        assert!(machine.engine.read_snapshot(0, &mut Page([0; FRAME_BYTES])).is_err());
        (0..20).for_each(|page| assert_eq!(machine.access(page, Some(1)), expected[page as usize]));
    }
}

#[test]
fn pinned_pages_stay_in_their_frames() {
    let mut machine = Machine::new(20, 4, PolicyKind::Lru);
    machine.access(3, Some(33));
    machine.engine.pin(3..5).unwrap();
    machine.engine.pin(4..5).unwrap();
    for page in 5..20 {
        machine.access(page, Some(page as u8));
        assert!(machine.map.is_there(3) && machine.map.is_there(4), "after page {page}");
    }
    machine.engine.discard(0..20);
    assert!(machine.map.is_there(3) && machine.engine.resident() == 2);
    let error = machine.engine.pin(7..9).unwrap_err();
    assert!(error.to_string().contains("3 of 4 frames are pinned"), "{error}");
    machine.engine.sync(0..20).unwrap();
    assert!(machine.map.written(3), "not while a device has it");
    machine.engine.unpin(3..5);
    (5..10).for_each(|page| {
        machine.access(page, None);
    });
    assert!(!machine.map.is_there(3) && machine.map.is_there(4), "pinned twice");
    machine.engine.unpin(4..5);
    assert_eq!((machine.access(3, None), machine.access(4, None)), (33, 0));
    assert_eq!(machine.engine.statistics().rejected_victims, 0);
}
