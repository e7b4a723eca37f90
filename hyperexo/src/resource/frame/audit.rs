//! What tests of the whole kernel ask of pages: every nested table there is, walked entry by entry.

use super::*;
use crate::resource::frame::account::Holding;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LARGE_FRAMES};
use std::collections::{BTreeMap, BTreeSet};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;

/// What a nested table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Its top frame.
    pub root: u64,
    /// Frames of its tables, with the entries of each.
    pub tables: BTreeMap<u64, u16>,
    /// Entries for one frame.
    pub small: BTreeSet<u64>,
    /// First frames of entries for 512.
    pub large: BTreeSet<u64>,
    /// All leaves: first frame, level, and the entry itself.
    pub leaves: BTreeMap<(u64, u32), u64>,
}

impl Walk {
    /// Whether a frame is bound.
    pub fn binds(&self, frame: u64) -> bool {
        self.small.contains(&frame) || self.large.contains(&(frame / LARGE_FRAMES * LARGE_FRAMES))
    }
}

/// Walks the nested table with this top frame.
pub fn walk(memory: &PhysicalMemory, root: u64) -> Walk {
    let mut walk = Walk { root, ..Walk::default() };
    descend(memory, root, 3, 0, &mut walk);
    walk
}

fn descend(memory: &PhysicalMemory, table: u64, level: u32, first: u64, walk: &mut Walk) {
    let (mut entries, mut words) = (0, [0; FRAME_BYTES]);
    memory.read(table, 0, &mut words);
    let words = words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    for (index, entry) in words.enumerate().filter(|(_, entry)| *entry != 0) {
        assert!(entry & PRESENT != 0, "table {table:#x} has a remnant at {index}");
        entries += 1;
        let frame = entry >> FRAME_SHIFT & ((1 << 40) - 1);
        let named = first + ((index as u64) << (9 * level));
        let large = level == 1 && entry & LARGE != 0;
        if level != 0 && !large {
            descend(memory, frame, level - 1, named, walk);
            continue;
        }
        assert_eq!(frame, named, "an entry of {table:#x} translates");
        if large {
            walk.large.insert(frame)
        } else {
            walk.small.insert(frame)
        };
        walk.leaves.insert((frame, level), entry);
    }
    assert!(walk.tables.insert(table, entries).is_none(), "table {table:#x} is there twice");
}

impl Pages {
    /// All nested tables there are, those of views that are being taken apart included.
    pub fn all_tables(&self) -> Vec<(Place, Walk)> {
        let own = self.holdings.iter().flatten().filter_map(|holding| {
            Some((Place::Own(holding.id), walk(&self.memory, holding.nested.as_ref()?.root())))
        });
        let views = (0..).map_while(|number| self.views.nth(number)).flatten();
        let views = views.filter_map(|view| {
            Some((Place::View(view), walk(&self.memory, self.views.get(view)?.nested.root())))
        });
        own.chain(views).collect()
    }

    /// A view's owner, the frames it has paid for, and those that its tables take.
    pub fn view_account(&self, view: ViewId) -> Option<(EnvironmentId, u64, u64)> {
        self.views.get(view).map(|view| (view.owner, view.budget, view.tables))
    }

    /// Frames on an environment's account, and whether its list of views is among them.
    pub fn charged(&self, id: EnvironmentId) -> (u64, bool) {
        let holding: &Holding = self.holding(id).expect("admitted");
        (holding.charged, holding.view_list.is_some())
    }
}
