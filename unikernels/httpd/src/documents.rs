//! Files as they are sent: in pages of the file cache, with their sums.
//!
//! This is the server's own policy (Cheetah, SOSP '97): what is asked for most stays, small files as a whole
//! or not at all; a large file never pushes a small one out.
//!
//! ```text
//! blocks that the server may have
//! ├── passage ──┤├─ small files, whole ─┤├─ blocks of large ones ─┤
//!  file cache:    pages that the cache has lent, until others are
//!  least recently asked for more often; what is left by small ones
//!  used goes      is for large ones
//! ```
//!
//! Requests for files are close to independent of each other: how often a file was asked for says all that
//! can be known of when it will be asked for next, and how long ago says nothing. So requests are counted for
//! files that are not kept, too, and one only gives way to another that was asked for more often.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use libos_fs::{File, FileId, FsError};
use libos_net::SharedBytes;
use libos_net::link::Piece;

/// Bytes of the largest file that is small.
const LARGEST: u64 = 64 * 1024;
/// Bytes of a block.
const BLOCK_BYTES: u64 = libos_fs::BLOCK_BYTES as u64;
/// Names whose requests are counted; beyond, all counts are halved, and those of nothing forgotten.
const MOST_COUNTED: usize = 16 * 1024;
/// Requests for each thing kept after which all counts are halved: what was popular once need not be now.
const LIFE: usize = 64;
/// The life of a count is that of so many things at least.
const LEAST_KEPT: usize = 256;
/// Blocks that the file cache has at least: those of the largest small file.
const LEAST_PASSAGE: usize = (LARGEST / BLOCK_BYTES) as usize;

/// How many of the blocks that the server may have are the file cache's, where documents are kept: files
/// pass through it. The others are for [`Documents`].
pub fn passage(blocks: usize) -> usize {
    (blocks / 32).max(LEAST_PASSAGE).min(blocks)
}

/// Documents that are kept.
pub struct Documents {
    /// Blocks that they may have together.
    most_blocks: usize,
    state: RefCell<State>,
}

/// Small files, and blocks of large ones.
#[derive(Default)]
struct State {
    small: Shelf,
    large: Shelf,
}

/// Blocks that follow one another in a file, and which of its blocks is the first of them.
pub type Lent = (u64, Rc<[SharedBytes]>);
/// A file and the first of its blocks that are kept together.
type Name = (FileId, u64);
/// How often something was asked for, the number of the last request for it, and its name.
type Rank = (u64, u64, Name);

/// What is kept of a kind. `order` has exactly what `kept` has, each with its entry in `asked`.
#[derive(Default)]
struct Shelf {
    kept: BTreeMap<Name, Rc<[SharedBytes]>>,
    /// The one first that goes first.
    order: BTreeSet<Rank>,
    /// Blocks of what is kept.
    blocks: usize,
    /// Requests for each, whether it is kept or not, and the number of the last.
    asked: BTreeMap<Name, (u64, u64)>,
    /// Requests so far.
    requests: u64,
    /// Requests since counts were halved.
    since_halved: usize,
}

impl Documents {
    /// Keeps nothing yet, and never more than so many blocks.
    pub fn new(most_blocks: usize) -> Documents {
        Documents { most_blocks, state: RefCell::default() }
    }

    /// Blocks of a file of which `block` is one, and which of its blocks is the first of them: all of a small
    /// file, one of a large one; the last cut to what the file has of it. `None` if the cache can't lend
    /// them: then they are copied.
    ///
    /// # Errors
    ///
    /// If the volume can't be read.
    pub fn blocks(&self, file: &File, length: u64, block: u64) -> Result<Option<Lent>, FsError> {
        let is_small = length <= LARGEST;
        let these = if is_small { 0..length.div_ceil(BLOCK_BYTES) } else { block..block + 1 };
        let (first, name) = (these.start, (file.id(), these.start));
        let state = &mut *self.state.borrow_mut();
        let shelf = if is_small { &mut state.small } else { &mut state.large };
        let rank = shelf.count(name);
        if let Some(blocks) = shelf.kept.get(&name) {
            return Ok(Some((first, Rc::clone(blocks))));
        }
        let mut blocks = Vec::new();
        for block in these {
            let Some(shared) = lend(file, block, length)? else { return Ok(None) };
            blocks.push(shared);
        }
        let blocks: Rc<[SharedBytes]> = blocks.into();
        let free = self.most_blocks.saturating_sub(state.small.blocks + state.large.blocks);
        let has_room = match is_small {
            true => state.make_room(blocks.len(), free, rank.0),
            // Without this request: what follows in the same file is asked for in a moment, and would go.
            false => state.large.make_room(1, free, rank.0 - 1),
        };
        if has_room {
            let shelf = if is_small { &mut state.small } else { &mut state.large };
            shelf.put(rank, Rc::clone(&blocks));
        }
        Ok(Some((first, blocks)))
    }
}

impl State {
    /// Room for a small file: large ones go first, then small ones that were asked for fewer `times`.
    fn make_room(&mut self, wanted: usize, free: usize, times: u64) -> bool {
        let of_large = self.large.blocks.min(wanted.saturating_sub(free));
        let has_room = self.small.make_room(wanted, free + of_large, times);
        if has_room {
            let going: Vec<Rank> = self.large.order.iter().take(of_large).copied().collect();
            going.into_iter().for_each(|gone| self.large.take(gone));
        }
        has_room
    }
}

impl Shelf {
    fn rank(&self, name: Name) -> Rank {
        let (times, last) = self.asked.get(&name).copied().unwrap_or_default();
        (times, last, name)
    }

    /// Counts a request; how it ranks now.
    fn count(&mut self, name: Name) -> Rank {
        self.requests += 1;
        let is_kept = self.order.remove(&self.rank(name));
        let (times, last) = self.asked.entry(name).or_default();
        (*times, *last) = (*times + 1, self.requests);
        if is_kept {
            self.order.insert(self.rank(name));
        }
        self.since_halved += 1;
        let life = LIFE * self.kept.len().max(LEAST_KEPT);
        if self.asked.len() > MOST_COUNTED || self.since_halved > life {
            self.halve();
        }
        self.rank(name)
    }

    fn halve(&mut self) {
        self.since_halved = 0;
        self.asked.retain(|name, (times, _)| {
            *times /= 2;
            *times > 0 || self.kept.contains_key(name)
        });
        self.order = self.kept.keys().map(|name| self.rank(*name)).collect();
    }

    /// Takes out what was asked for fewer `times`, until there is room for `wanted` blocks; nothing, if there
    /// can't be.
    fn make_room(&mut self, wanted: usize, mut free: usize, times: u64) -> bool {
        let mut going = Vec::new();
        let less = self.order.iter().take_while(|least| least.0 < times);
        for least in less {
            if free >= wanted {
                break;
            }
            free += self.kept[&least.2].len();
            going.push(*least);
        }
        if free >= wanted {
            going.into_iter().for_each(|gone| self.take(gone));
        }
        free >= wanted
    }

    fn take(&mut self, gone: Rank) {
        self.order.remove(&gone);
        self.blocks -= self.kept.remove(&gone.2).map_or(0, |gone| gone.len());
    }

    fn put(&mut self, rank: Rank, blocks: Rc<[SharedBytes]>) {
        self.blocks += blocks.len();
        self.order.insert(rank);
        self.kept.insert(rank.2, blocks);
    }
}

/// A block as the cache lends it, cut to the length of its file.
///
/// # Errors
///
/// If the volume can't be read.
fn lend(file: &File, block: u64, length: u64) -> Result<Option<SharedBytes>, FsError> {
    let bytes = (length - block * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
    Ok(file.lend(block)?.map(|page| SharedBytes::new(Piece::lent(page, 0..bytes))))
}
