use super::disk::LOG;
use super::frames::Model;
use super::*;
use libos_fs::RamDisk;
use libos_fs::device::fault::{Dice, PowerCut};

type Contents = BTreeMap<u64, u64>;

const BUCKETS: usize = 24;

/// A table of keys and words: the root refers to buckets, each the first of a chain of (next; key, word).
struct Table(Store<Model>);

impl Table {
    fn create(device: Box<dyn BlockDevice>) -> Result<Table, StoreError> {
        let store = Store::create(device, Model::new(200))?;
        let root = store.allocate(BUCKETS, 0)?;
        store.set_root(root);
        Ok(Table(store))
    }

    fn open(device: Box<dyn BlockDevice>) -> Result<Table, StoreError> {
        Store::open(device, Model::new(200)).map(Table)
    }

    fn put(&self, key: u64, word: u64) -> Result<(), StoreError> {
        let (store, bucket) = (&self.0, key as usize % BUCKETS);
        let mut entry = store.reference(store.root(), bucket);
        while entry != 0 && store.data(entry, 0) != key {
            entry = store.reference(entry, 0);
        }
        if entry == 0 {
            // Some of them fill pages faster than others.
            entry = store.allocate(1, 2 + (key as usize * 7) % 60)?;
            store.set_reference(entry, 0, store.reference(store.root(), bucket));
            store.set_data(entry, 0, key);
            store.set_reference(store.root(), bucket, entry);
        }
        store.set_data(entry, 1, word);
        Ok(())
    }

    fn remove(&self, key: u64) {
        let (store, bucket) = (&self.0, key as usize % BUCKETS);
        let (mut before, mut entry) = (None, store.reference(store.root(), bucket));
        while entry != 0 && store.data(entry, 0) != key {
            (before, entry) = (Some(entry), store.reference(entry, 0));
        }
        if entry != 0 {
            let next = store.reference(entry, 0);
            match before {
                None => store.set_reference(store.root(), bucket, next),
                Some(before) => store.set_reference(before, 0, next),
            }
        }
    }

    fn contents(&self) -> Contents {
        let (store, mut contents) = (&self.0, Contents::new());
        for bucket in 0..if store.root() == 0 { 0 } else { BUCKETS } {
            let mut entry = store.reference(store.root(), bucket);
            while entry != 0 {
                assert!(contents.insert(store.data(entry, 0), store.data(entry, 1)).is_none(), "a key twice");
                entry = store.reference(entry, 0);
            }
        }
        contents
    }
}

/// Random changes with commits between them, until there is no power. Returns what was committed last, and
/// what was being committed when the power went.
fn work(table: &Table, model: &mut Contents, seed: u64, commits: usize) -> (Contents, Option<Contents>) {
    let (mut dice, mut committed) = (Dice::new(seed), model.clone());
    for _ in 0..commits {
        for _ in 0..dice.below(12) {
            let (key, word) = (dice.below(150), dice.roll());
            if dice.below(4) == 0 {
                table.remove(key);
                model.remove(&key);
            } else {
                table.put(key, word).unwrap();
                model.insert(key, word);
            }
        }
        match table.0.commit() {
            Ok(_) => committed = model.clone(),
            Err(StoreError::Device { error: DeviceError::NoPower, .. }) => {
                return (committed, Some(model.clone()));
            }
            Err(error) => panic!("{error}"),
        }
    }
    (committed, None)
}

#[test]
fn after_each_of_500_cuts_the_last_commit_is_whole() {
    let blocks = 1 + LOG as u64 + 100;
    let start = {
        let (device, power) = PowerCut::new(&RamDisk::new(blocks), None, 0);
        let table = Table::create(Box::new(device)).unwrap();
        (0..80).for_each(|key| table.put(key, key).unwrap());
        table.0.commit().unwrap();
        power.survivor()
    };
    let (mut cuts, mut before, mut after) = (0, 0, 0);
    for cut in 0..500 {
        let mut model: Contents = (0..80).map(|key| (key, key)).collect();
        let (device, power) = PowerCut::new(&start, Some(cut), cut);
        let (committed, underway) = match Table::open(Box::new(device)) {
            Ok(table) => work(&table, &mut model, cut / 100, 60),
            // Opening writes too.
            Err(StoreError::Device { error: DeviceError::NoPower, .. }) => (model.clone(), None),
            Err(error) => panic!("{error}"),
        };
        cuts += u64::from(power.is_cut());
        let table =
            Table::open(Box::new(power.survivor())).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        let found = table.contents();
        let is_before = found == committed;
        assert!(is_before || underway.as_ref() == Some(&found), "cut {cut}: neither commit is whole");
        before += u64::from(is_before);
        after += u64::from(!is_before);
        // What is there can be worked with.
        let mut model = found;
        let (committed, _) = work(&table, &mut model, 1000 + cut % 3, 3);
        assert_eq!(table.contents(), committed, "cut {cut}");
    }
    assert_eq!(cuts, 500, "cuts that came");
    assert!(before > 100 && after > 20, "{before} before the commit, {after} after it");
}

#[test]
fn only_what_is_touched_is_read() {
    let disk = RamDisk::new(1 + LOG as u64 + 150);
    let (device, power) = PowerCut::new(&disk, None, 0);
    let store = Store::create(Box::new(device), Model::new(150)).unwrap();
    // A list of which each object has a page of its own.
    let mut last = 0;
    for number in 0..100 {
        let object = store.allocate(1, 500).unwrap();
        store.set_reference(object, 0, last);
        store.set_data(object, 0, number);
        last = object;
    }
    store.set_root(last);
    // The first one has room on the page of the head.
    assert_eq!(store.commit(), Ok(100));
    assert_eq!(store.commit(), Ok(0), "nothing was written since");
    let store = Store::open(Box::new(power.survivor()), Model::new(150)).unwrap();
    assert_eq!(store.brought(), 0);
    let mut object = store.root();
    for number in (90..100).rev() {
        assert_eq!(store.data(object, 0), number);
        object = store.reference(object, 0);
    }
    assert_eq!((store.brought(), store.frames.there()), (11, 11), "the head and ten of the list");
    store.set_data(object, 1, 7);
    assert_eq!(store.commit(), Ok(1));
}

#[test]
fn damage_is_named() {
    let (device, power) = PowerCut::new(&RamDisk::new(1 + LOG as u64 + 10), None, 0);
    let table = Table::create(Box::new(device)).unwrap();
    table.0.commit().unwrap();
    let mut bytes = power.survivor().to_bytes();
    // Both the place and the log, from which opening would mend it.
    bytes[4096 + 100] ^= 1;
    bytes[(1 + LOG) * 4096 + 100] ^= 1;
    let opened = Table::open(Box::new(RamDisk::from_bytes(bytes))).err();
    assert_eq!(opened, Some(StoreError::Damaged { page: 0, what: "its checksum is wrong" }));
    let nothing = Table::open(Box::new(RamDisk::new(1 + LOG as u64 + 10))).err();
    assert!(matches!(nothing, Some(StoreError::Damaged { page: 0, .. })));
    assert_eq!(Table::open(Box::new(RamDisk::new(9))).err(), Some(StoreError::TooSmall { blocks: 9 }));
}

#[test]
fn limits_are_errors() {
    let store = Store::create(Box::new(RamDisk::new(1 + LOG as u64 + 3)), Model::new(10)).unwrap();
    assert_eq!(store.allocate(0, 511), Err(StoreError::ObjectTooLarge { words: 512 }));
    let full = (0..4).map(|_| store.allocate(0, 500)).find_map(Result::err);
    assert_eq!(full, Some(StoreError::Full));
    let mut disk = Disk::new(Box::new(RamDisk::new(2000))).unwrap();
    let many = vec![(0, page::empty()); LOG + 1];
    assert_eq!(disk.commit(&many), Err(StoreError::CommitTooLarge { pages: LOG + 1, most: LOG }));
}
