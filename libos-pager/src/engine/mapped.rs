//! The engine over a mapped file.

use super::*;
use crate::file::MappedFile;
use crate::model::Model;
use libos_fs::device::fault::Dice;
use libos_fs::{BLOCK_BYTES, CacheOptions, File, RamDisk, Volume, extent_fs};

/// A volume with a file of so many pages and a bit, each full of its number.
fn volume(pages: u64, blocks: usize) -> (Volume, File) {
    let disk = RamDisk::new(512);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let options = CacheOptions { blocks, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(disk), options).unwrap();
    let file = volume.create("/mapped").unwrap();
    (0..pages).for_each(|page| {
        file.append(&[page as u8; BLOCK_BYTES]).unwrap();
    });
    file.append(b"the end").unwrap();
    volume.commit().unwrap();
    (volume, file)
}

struct Mapping {
    model: Model,
    engine: Engine<Model>,
}

impl Mapping {
    fn new(volume: &Volume, file: &File, frames: usize) -> Mapping {
        let pager = MappedFile::new(volume, file.clone()).unwrap();
        let pages = pager.pages();
        let model = Model::new(pages);
        let policy = PolicyKind::Lru.build(frames);
        let references = crate::References::Sampled;
        let mut engine = Engine::new(model.clone(), pages, frames, 4, policy, references);
        engine.add(Area { pages: 0..pages, pager: Box::new(pager), protection: Protection::Write });
        Mapping { model, engine }
    }

    fn byte(&mut self, at: u64, write: Option<u8>) -> u8 {
        let (page, offset) = (at / BLOCK_BYTES as u64, at as usize % BLOCK_BYTES);
        loop {
            let access = |page: &mut Page| {
                let before = page.0[offset];
                page.0[offset] = write.unwrap_or(before);
                before
            };
            match self.model.access(page, write.is_some(), access) {
                Some(byte) => return byte,
                None => self.engine.fault(page, write.is_some()).unwrap(),
            }
        }
    }
}

/// Words written through a mapping are the file's after a sync, and nothing else is.
#[test]
fn a_mapped_file_is_the_file() {
    let (volume, file) = volume(20, 64);
    let length = file.len().unwrap();
    let mut expected = alloc::vec![0; length as usize];
    file.read_at(0, &mut expected).unwrap();
    let (mut mapping, mut dice) = (Mapping::new(&volume, &file, 5), Dice::new(3));
    for step in 0..2000u64 {
        let at = dice.below(length);
        let write = (step % 3 == 0).then_some(step as u8);
        assert_eq!(mapping.byte(at, write), expected[at as usize], "byte {at} at step {step}");
        expected[at as usize] = write.unwrap_or(expected[at as usize]);
    }
    assert_eq!(mapping.byte(length + 5, None), 0, "beyond the end there are zeros");
    mapping.byte(length + 5, Some(9));
    mapping.engine.sync(0..21).unwrap();
    let mut found = alloc::vec![0; length as usize];
    file.read_at(0, &mut found).unwrap();
    assert!(found == expected && file.len().unwrap() == length, "and are not kept");
}

/// The cache keeps most of what others read, however much is paged in and out: of what is mapped there is no
/// second copy that takes room from them for long. Without `done_with` all ten would be missing.
#[test]
fn what_is_mapped_displaces_little() {
    let (volume, file) = volume(60, 24);
    let other = volume.create("/other").unwrap();
    (0..10).for_each(|page| {
        other.append(&[page; BLOCK_BYTES]).unwrap();
    });
    volume.commit().unwrap();
    let read = || {
        let before = volume.cache().statistics().blocks_read;
        let mut bytes = alloc::vec![0; 10 * BLOCK_BYTES];
        other.read_at(0, &mut bytes).unwrap();
        assert!(bytes.iter().enumerate().all(|(at, byte)| at / BLOCK_BYTES == usize::from(*byte)));
        volume.cache().statistics().blocks_read - before
    };
    read();
    let mut mapping = Mapping::new(&volume, &file, 8);
    for round in 0..3 {
        (0..60).for_each(|page| {
            mapping.byte(page * BLOCK_BYTES as u64 + 1, Some(round));
        });
        let missing = read();
        assert!(missing <= 3, "{missing} of 10 blocks of the other file are missing after round {round}");
    }
}
