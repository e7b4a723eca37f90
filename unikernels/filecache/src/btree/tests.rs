use super::*;
use crate::files::FileAccess;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::cell::RefCell;
use libos_fs::FileId;

/// A file in memory.
struct MemoryFile(RefCell<Vec<u8>>);

impl FileAccess for MemoryFile {
    fn id(&self) -> FileId {
        FileId(0)
    }
    fn bytes(&self) -> Result<u64, FileError> {
        Ok(self.0.borrow().len() as u64)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let bytes = self.0.borrow();
        let start = (offset as usize).min(bytes.len());
        let count = into.len().min(bytes.len() - start);
        into[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), FileError> {
        let mut bytes = self.0.borrow_mut();
        let end = offset as usize + from.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(from);
        Ok(())
    }
}

fn open(image: Image) -> Result<Tree, TreeError> {
    let file = |bytes| WorkFile::new(MemoryFile(RefCell::new(bytes)));
    Tree::open(file(image.index), file(image.leaves))
}

/// A value for a key.
fn value(key: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (key.wrapping_mul(31).wrapping_add(at)) as u8).collect()
}

fn numbers(count: usize) -> impl Iterator<Item = u64> {
    let mut state = 7u64;
    core::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 40
    })
    .take(count)
}

/// The tree says what a map says, for every record, in order, and for keys that are not there.
fn check(tree: &Tree, model: &BTreeMap<u64, Vec<u8>>) {
    for (key, value) in model {
        assert_eq!(tree.get(*key, <[u8]>::to_vec), Ok(Some(value.clone())), "{key}");
        for absent in [key.wrapping_add(1), key.wrapping_sub(1)] {
            assert_eq!(
                tree.get(absent, |_| ()).map(|found| found.is_some()),
                Ok(model.contains_key(&absent))
            );
        }
    }
    let mut all = Vec::new();
    let count = tree.scan(0, usize::MAX, |key, value| all.push((key, value.to_vec()))).expect("can be read");
    assert_eq!(count, model.len());
    assert!(all.into_iter().eq(model.iter().map(|(key, value)| (*key, value.clone()))));
}

#[test]
fn trees_made_at_once_hold_their_records() {
    for (count, bytes, fill) in
        [(1, 8, 100), (2, 1000, 100), (4, 1000, 75), (5000, 1000, 75), (20_000, 24, 100)]
    {
        let model: BTreeMap<u64, Vec<u8>> = numbers(count).map(|key| (key, value(key, bytes))).collect();
        let records: Vec<_> = model.iter().map(|(key, value)| (*key, value.clone())).collect();
        check(&open(build(&records, fill)).expect("is a tree"), &model);
    }
}

#[test]
fn insertions_and_changes_agree_with_a_map() {
    // Values so long that the tree gets several levels.
    let mut model = BTreeMap::from([(500, value(500, 2000))]);
    let mut tree = open(build(&[(500, value(500, 2000))], 100)).expect("is a tree");
    for (step, key) in numbers(3000).enumerate() {
        let key = key % 4000;
        let bytes = value(key + step as u64, 2000);
        if step % 3 == 0 {
            let there = model.get_mut(&key).map(|old| old.clone_from(&bytes)).is_some();
            assert_eq!(tree.update(key, |old| old.copy_from_slice(&bytes)), Ok(there));
        } else {
            tree.insert(key, &bytes).expect("there is room");
            model.insert(key, bytes);
        }
    }
    assert!(tree.header.height > 2, "{:?}", tree.header);
    check(&tree, &model);
    let mut some = Vec::new();
    tree.scan(1000, 5, |key, _| some.push(key)).expect("can be read");
    assert!(some.into_iter().eq(model.range(1000..).take(5).map(|(key, _)| *key)));
    // What is on the files is the same tree.
    check(&Tree::open(tree.index.clone(), tree.leaves.clone()).expect("is a tree"), &model);
}

#[test]
fn damage_is_an_error() {
    let records: Vec<_> = (0..100).map(|key| (key, value(key, 1000))).collect();
    let image = build(&records, 100);
    let no_header = Image { index: vec![0; 4096], ..image.clone() };
    assert!(matches!(open(no_header), Err(TreeError::Corrupt { page: 0, .. })));
    let cut = Image { leaves: image.leaves[..5000].to_vec(), ..image.clone() };
    assert_eq!(
        open(cut).expect("has a header").get(99, |_| ()),
        Err(TreeError::Corrupt { what: "not there", page: 24 })
    );
    let mut lying = image;
    lying.leaves[..4].fill(0xff);
    assert!(matches!(open(lying).expect("has a header").get(0, |_| ()), Err(TreeError::Corrupt { .. })));
}
