//! When connections want to be polled.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

/// A heap of deadlines. A connection's later deadlines replace its earlier ones lazily: an entry that is no
/// longer what the connection says is thrown away when it comes up.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Deadlines {
    /// A connection is due at this time, in microseconds.
    pub(crate) fn insert(&mut self, due_us: i64, connection: usize) {
        self.heap.push(Reverse((due_us, connection)));
    }

    /// The first deadline; `is_valid` says whether it still is that of its connection.
    pub(crate) fn next(&mut self, mut is_valid: impl FnMut(i64, usize) -> bool) -> Option<i64> {
        while let Some(Reverse((due_us, connection))) = self.heap.peek().copied() {
            if is_valid(due_us, connection) {
                return Some(due_us);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes a connection that is due by now, or whose entry is stale.
    pub(crate) fn take_due(&mut self, now_us: i64) -> Option<(i64, usize)> {
        let Reverse((due_us, _)) = self.heap.peek()?;
        if *due_us > now_us {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Entries, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Throws away all stale entries: for when they are many.
    pub(crate) fn retain(&mut self, mut is_valid: impl FnMut(i64, usize) -> bool) {
        self.heap.retain(|Reverse((due_us, connection))| is_valid(*due_us, *connection));
    }
}
