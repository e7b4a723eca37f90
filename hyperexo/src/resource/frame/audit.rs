//! What tests of the whole kernel ask of pages: every nested table there is, walked entry by entry.

use super::*;
use crate::resource::frame::account::Holding;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;

/// An entry that binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First frame that it binds.
    pub first: u64,
    /// How many.
    pub frames: u64,
    /// The entry itself.
    pub entry: u64,
}

/// What a nested table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Its top frame.
    pub root: u64,
    /// Frames of its tables, with the entries of each.
    pub tables: Vec<(u64, u16)>,
    /// What it binds, lowest first.
    pub leaves: Vec<Leaf>,
}

impl Walk {
    /// Whether a frame is bound.
    pub fn binds(&self, frame: u64) -> bool {
        let behind = self.leaves.partition_point(|leaf| leaf.first <= frame);
        behind.checked_sub(1).is_some_and(|at| frame < self.leaves[at].first + self.leaves[at].frames)
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
        walk.leaves.push(Leaf { first: frame, frames: 1 << (9 * level), entry });
    }
    walk.tables.push((table, entries));
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
