//! What an observer of the cache is told.

use libos_fs::cache::{Event, PolicyKind, Referenced, Simulation, reference};
use libos_fs::{BLOCK_BYTES, CacheOptions, FileId, RamDisk, ReadAheadKind, Volume, extent_fs};
use std::cell::RefCell;
use std::rc::Rc;

/// The cache and the simulator tell the same story about the same references.
#[test]
fn the_cache_does_what_the_simulator_does() {
    let pattern: Vec<u64> = (0..300).map(|step| step * step % 17 + step / 60).collect();
    for kind in PolicyKind::ALL {
        let disk = RamDisk::new(512);
        extent_fs::make(Box::new(disk.clone())).unwrap();
        let read_ahead = ReadAheadKind::None;
        let options = CacheOptions { blocks: 8, policy: kind.into(), read_ahead, ..CacheOptions::default() };
        let volume = Volume::mount(Box::new(disk), options).unwrap();
        let file = volume.create("data").unwrap();
        file.write_at(0, &vec![1; 32 * BLOCK_BYTES]).unwrap();
        volume.commit().unwrap();
        volume.cache().drop_clean();
        let story = Rc::new(RefCell::new(Vec::new()));
        let heard = story.clone();
        volume.cache().observe(Some(Box::new(move |event| heard.borrow_mut().push(event))));
        // The policy begins with nothing, as in the simulation.
        volume.cache().set_policy(0, kind);
        let mut byte = [0];
        for block in &pattern {
            file.read_at(block * BLOCK_BYTES as u64, &mut byte).unwrap();
        }
        volume.cache().observe(None);
        file.read_at(0, &mut byte).unwrap();
        let number = |block: &u64| reference(FileId::from(&file), *block);
        assert_eq!(*story.borrow(), simulated(kind, pattern.iter().map(number)), "{}", kind.name());
    }
}

fn simulated(kind: PolicyKind, references: impl Iterator<Item = u64>) -> Vec<Event> {
    let mut policy = kind.build(8);
    let mut cache = Simulation::new(&mut *policy, 8);
    let mut story = Vec::new();
    for block in references {
        match cache.reference(block) {
            Referenced::Hit => story.push(Event::Hit(block)),
            Referenced::Miss { evicted } => {
                story.extend(evicted.map(Event::Evicted));
                story.push(Event::Miss(block));
            }
        }
    }
    story
}
