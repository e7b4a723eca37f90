//! How `sort` caches.
//!
//! Default: it says nothing, and the library operating system keeps what was used last (LRU). Then the cache fills with
//! input and runs that have just been read, which nobody will ever read again.
//!
//! Own: it says "done with" for every block as soon as it has read it: such blocks go first. What stays are runs that
//! are still to be merged. The output is read once more, from its start, to be checked: a loop, so the block of it
//! that was used last is the one to replace.

use core::ops::Range;
use libos_fs::{BufferCache, File, PolicyKind};

/// Priority of the output. Everything else has 0 and is replaced before it.
const OUTPUT: i32 = 1;

/// What `sort` tells the cache.
#[derive(Clone, Copy)]
pub enum Advice<'c> {
    /// Nothing.
    None,
    /// All it knows.
    Own(&'c BufferCache),
}

impl Advice<'_> {
    /// The output has been made and is going to be written, then read once.
    pub fn output_made(self, output: &File) {
        if let Advice::Own(cache) = self {
            cache.set_policy(OUTPUT, PolicyKind::Mru);
            cache.set_priority(output, OUTPUT);
        }
    }

    /// Blocks of the input, of a run or of the output have been read for the last time.
    pub fn read(self, file: &File, blocks: Range<u64>) {
        if let Advice::Own(cache) = self {
            cache.done_with(file, blocks);
        }
    }
}
