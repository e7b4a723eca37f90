//! How `sort` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU). Then the cache fills with
//! input and runs that have just been read, which nobody will ever read again.
//!
//! Own: it says "done with" for every block as soon as it has read it: such blocks go first (free behind). What stays
//! are runs that are still to be merged, oldest first, and then the output, which is read once more from its start. So
//! whatever was written last is needed last, and is the one to replace.

use core::ops::Range;
use libos_fs::{BufferCache, File, PolicyKind};

/// What `sort` tells the cache.
#[derive(Clone, Copy)]
pub enum Advice<'c> {
    /// Nothing.
    None,
    /// All it knows.
    Own(&'c BufferCache),
}

impl Advice<'_> {
    /// The sort starts.
    pub fn start(self) {
        if let Advice::Own(cache) = self {
            cache.set_policy(0, PolicyKind::Mru);
        }
    }

    /// Blocks of the input, of a run or of the output have been read for the last time.
    pub fn read(self, file: &File, blocks: Range<u64>) {
        if let Advice::Own(cache) = self {
            cache.done_with(file, blocks);
        }
    }
}
