//! What the cache may rely on with any policy of the library, and what it must survive with any other.

use libos_fs::cache::{Advice, Cached, ReplacementPolicy};
use libos_fs::device::fault::{DelayedDevice, Dice};
use libos_fs::{
    BLOCK_BYTES, CacheOptions, File, PolicyKind, RamDisk, ReadAheadKind, Volume, extent_fs, simulate,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What can happen to a policy.
#[derive(Clone, Copy, Debug)]
enum Event {
    Reference(u64),
    Remove(u64),
    Resize(usize),
    Shrink,
    Advise(u64, u64, Advice),
}

fn event() -> impl Strategy<Value = Event> {
    let advice = prop::sample::select(vec![
        Advice::Normal,
        Advice::WillNeed,
        Advice::DoneWith,
        Advice::Sequential,
        Advice::Loop,
        Advice::Random,
    ]);
    prop_oneof![
        20 => (0u64..60).prop_map(Event::Reference),
        2 => (0u64..60).prop_map(Event::Remove),
        1 => (1usize..25).prop_map(Event::Resize),
        1 => Just(Event::Shrink),
        1 => (0u64..60, 0u64..30, advice).prop_map(|(first, count, advice)| Event::Advise(first, count, advice)),
    ]
}

/// A cache without contents that checks every answer of its policy.
struct Checked {
    policy: Box<dyn ReplacementPolicy>,
    capacity: usize,
    slot_of: BTreeMap<u64, usize>,
    free: Vec<usize>,
}

impl Checked {
    fn evict(&mut self, missing: Option<u64>) {
        let victim = self.policy.victim(missing);
        assert_eq!(victim, self.policy.victim(missing), "{} changes its mind", self.policy.name());
        let found = self.slot_of.iter().find(|(_, slot)| Some(**slot) == victim);
        let (block, slot) = found.unwrap_or_else(|| panic!("{} names {victim:?}", self.policy.name()));
        let (block, slot) = (*block, *slot);
        self.slot_of.remove(&block);
        self.free.push(slot);
        self.policy.evicted(Cached { slot, block });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Reference(block) => {
                if let Some(&slot) = self.slot_of.get(&block) {
                    return self.policy.accessed(Cached { slot, block });
                }
                while self.slot_of.len() >= self.capacity {
                    self.evict(Some(block));
                }
                let slot = self.free.pop().unwrap_or(self.slot_of.len());
                self.slot_of.insert(block, slot);
                self.policy.inserted(Cached { slot, block });
            }
            Event::Remove(block) => {
                if let Some(slot) = self.slot_of.remove(&block) {
                    self.free.push(slot);
                    self.policy.removed(Cached { slot, block });
                }
            }
            Event::Resize(capacity) => {
                self.capacity = capacity;
                self.policy.resized(capacity);
                while self.slot_of.len() > capacity {
                    self.evict(None);
                }
            }
            Event::Shrink if self.slot_of.is_empty() => assert_eq!(self.policy.victim(None), None),
            Event::Shrink => self.evict(None),
            Event::Advise(first, count, advice) => self.policy.advised(first..first + count, advice),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A policy names a block in its care whenever it has one, and stands by it.
    #[test]
    fn victims_are_in_the_policy_s_care(events in prop::collection::vec(event(), 0..300), capacity in 1usize..20) {
        for kind in PolicyKind::ALL {
            let policy = kind.build(capacity);
            let mut cache = Checked { policy, capacity, slot_of: BTreeMap::new(), free: Vec::new() };
            events.iter().for_each(|event| cache.happen(*event));
        }
    }

    /// A cache as large as the data misses each block once, whatever the policy.
    #[test]
    fn what_fits_is_read_once(references in prop::collection::vec(0u64..40, 0..300)) {
        let mut distinct = references.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for kind in PolicyKind::ALL {
            prop_assert_eq!(simulate(&mut *kind.build(40), 40, &references), distinct.len() as u64);
        }
    }
}

/// Ways to answer wrongly.
#[derive(Clone, Copy, Debug)]
enum Malice {
    /// Any number, large ones too.
    Random,
    /// Slots of blocks that have left.
    Stale,
    /// Nothing, ever.
    Silent,
    /// The same slot, always.
    Stubborn,
    /// The block used last: the one the caller is about to use.
    Latest,
    /// A slot of another policy's blocks, most of the time.
    Foreign,
}

struct Hostile {
    malice: Malice,
    dice: Dice,
    departed: Vec<usize>,
    latest: Option<usize>,
}

impl ReplacementPolicy for Hostile {
    fn name(&self) -> &'static str {
        "hostile"
    }
    fn inserted(&mut self, block: Cached) {
        self.latest = Some(block.slot);
    }
    fn accessed(&mut self, block: Cached) {
        self.latest = Some(block.slot);
    }
    fn removed(&mut self, block: Cached) {
        self.departed.push(block.slot);
    }
    fn victim(&mut self, _: Option<u64>) -> Option<usize> {
        match self.malice {
            Malice::Random => Some(self.dice.roll() as usize >> self.dice.below(64)),
            Malice::Stale => self.departed.last().copied(),
            Malice::Silent => None,
            Malice::Stubborn => Some(0),
            Malice::Latest => self.latest,
            Malice::Foreign => Some(self.dice.below(16) as usize),
        }
    }
}

fn read(file: &File, block: u64) -> u8 {
    let mut page = [0; BLOCK_BYTES];
    assert_eq!(file.read_at(block * BLOCK, &mut page), Ok(BLOCK_BYTES));
    assert!(page.iter().all(|byte| *byte == page[0]));
    page[0]
}

/// Reads, writes, commits and resizes over a device that finishes late and out of order, with every block's
/// contents known: nothing that was dirty, on its way or in use is lost or mixed up, and everything is on the
/// disk in the end.
fn survive(malice: [Malice; 2], seed: u64) {
    let disk = RamDisk::new(400);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let read_ahead = ReadAheadKind::ALL[seed as usize % ReadAheadKind::ALL.len()];
    let options = CacheOptions { blocks: 10, read_ahead, ..CacheOptions::default() };
    let (device, _) = DelayedDevice::new(disk.clone(), 6, seed);
    let volume = Volume::mount(Box::new(device), options).unwrap();
    let mut dice = Dice::new(seed);
    for (priority, malice) in [0, 1].into_iter().zip(malice) {
        let dice = Dice::new(seed ^ 1);
        let hostile = Hostile { malice, dice, departed: Vec::new(), latest: None };
        let hostile: Box<dyn ReplacementPolicy> = Box::new(hostile);
        volume.cache().set_policy(priority, hostile);
    }
    let files = [0, 1].map(|name: u8| volume.create(&name.to_string()).unwrap());
    files.iter().for_each(|file| file.truncate(30 * BLOCK).unwrap());
    volume.cache().set_priority(&files[1], 1);
    let mut model = [[0u8; 30]; 2];
    for _ in 0..600 {
        let (number, block) = (dice.below(2) as usize, dice.below(30));
        match dice.below(40) {
            0..=15 => {
                let byte = dice.roll() as u8;
                files[number].write_at(block * BLOCK, &[byte; BLOCK_BYTES]).unwrap();
                model[number][block as usize] = byte;
            }
            16 => volume.commit().unwrap(),
            17 => volume.cache().resize(2 + dice.below(16) as usize).unwrap(),
            18 => volume.cache().done_with(&files[number], block..block + 4),
            19 => volume.cache().advise(&files[number], block..block + 9, Advice::Loop),
            _ => assert_eq!(read(&files[number], block), model[number][block as usize]),
        }
        assert!(volume.cache().statistics().resident <= volume.cache().blocks());
    }
    volume.commit().unwrap();
    drop((volume, files));
    assert!(extent_fs::check(Box::new(disk.clone())).unwrap().is_clean());
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    for (name, blocks) in model.iter().enumerate() {
        let file = volume.open(&name.to_string()).unwrap();
        for (block, byte) in blocks.iter().enumerate() {
            assert_eq!(read(&file, block as u64), *byte);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_loses_a_block(first in 0usize..6, second in 0usize..6, seed: u64) {
        let malice = [
            Malice::Random,
            Malice::Stale,
            Malice::Silent,
            Malice::Stubborn,
            Malice::Latest,
            Malice::Foreign,
        ];
        survive([malice[first], malice[second]], seed);
    }
}
