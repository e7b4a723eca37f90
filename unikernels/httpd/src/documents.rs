//! Small files as they are sent: whole, in pages of the file cache, with their sums.
//!
//! This is the server's own policy (Cheetah, SOSP '97): what is asked for most stays, as a whole or not at
//! all; a large file never pushes a small one out.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use libos_fs::{File, FileId, FsError};
use libos_net::SharedBytes;
use libos_net::link::Piece;

/// Bytes of the largest file that is kept.
const LARGEST: u64 = 64 * 1024;
/// Bytes of a block.
const BLOCK_BYTES: u64 = libos_fs::BLOCK_BYTES as u64;
/// Files whose requests are counted; beyond, all counts are halved, and those of nothing forgotten.
const MOST_COUNTED: usize = 16 * 1024;

/// Documents that are kept.
pub struct Documents {
    /// Blocks that they may have together.
    most_blocks: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<FileId, Rc<[SharedBytes]>>,
    blocks: usize,
    /// How often each file was asked for.
    asked: BTreeMap<FileId, u64>,
}

impl Documents {
    /// Keeps nothing yet, and never more than so many blocks.
    pub fn new(most_blocks: usize) -> Documents {
        Documents { most_blocks, state: RefCell::default() }
    }

    /// The blocks of a small file, its last one cut to what the file has of it. `None` for a large one, and
    /// one whose blocks the cache can't lend: it is sent block by block, or copied.
    ///
    /// # Errors
    ///
    /// If the volume can't be read.
    pub fn blocks(&self, file: &File, length: u64) -> Result<Option<Rc<[SharedBytes]>>, FsError> {
        if length == 0 || length > LARGEST {
            return Ok(None);
        }
        let id = file.id();
        self.count(id);
        if let Some(blocks) = self.state.borrow().kept.get(&id) {
            return Ok(Some(Rc::clone(blocks)));
        }
        let mut blocks = Vec::new();
        for block in 0..length.div_ceil(BLOCK_BYTES) {
            let Some(shared) = lend(file, block, length)? else { return Ok(None) };
            blocks.push(shared);
        }
        let blocks: Rc<[SharedBytes]> = blocks.into();
        self.keep(id, &blocks);
        Ok(Some(blocks))
    }

    fn count(&self, id: FileId) {
        let state = &mut *self.state.borrow_mut();
        *state.asked.entry(id).or_default() += 1;
        if state.asked.len() > MOST_COUNTED {
            state.asked.retain(|_, asked| {
                *asked /= 2;
                *asked > 0
            });
        }
    }

    /// Keeps a document if those that would have to go for it were asked for less often.
    fn keep(&self, id: FileId, blocks: &Rc<[SharedBytes]>) {
        let state = &mut *self.state.borrow_mut();
        let asked = |state: &State, id| state.asked.get(&id).copied().unwrap_or(0);
        let own = asked(state, id);
        while state.blocks + blocks.len() > self.most_blocks {
            let least = state.kept.keys().copied().min_by_key(|id| asked(state, *id));
            let Some(least) = least.filter(|least| asked(state, *least) < own) else { return };
            state.blocks -= state.kept.remove(&least).map_or(0, |gone| gone.len());
        }
        state.blocks += blocks.len();
        state.kept.insert(id, Rc::clone(blocks));
    }
}

/// A block as the cache lends it, cut to the length of its file.
///
/// # Errors
///
/// If the volume can't be read.
pub fn lend(file: &File, block: u64, length: u64) -> Result<Option<SharedBytes>, FsError> {
    let bytes = (length - block * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
    Ok(file.lend(block)?.map(|page| SharedBytes::new(Piece::lent(page, 0..bytes))))
}
