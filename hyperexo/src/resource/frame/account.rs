//! Accounts: what the kernel spends for an environment, and memory for nested page tables on that account.
#![forbid(unsafe_code)]

use super::nested::{TableMemory, TableReader};
use super::table::FrameTable;
use crate::machine::id::EnvironmentId;
use crate::machine::memory::PhysicalMemory;
use hyperexo_abi::accounting::Accounting;

/// On whose account a change of tables is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// That of who asked for it, within its quota.
    Environment,
    /// The kernel's: what it must do whatever anybody's quota says.
    Kernel,
}

/// What an environment may have of memory, and has.
pub struct Holding {
    /// Whose this is.
    pub id: EnvironmentId,
    /// Its nested page table; none before it is made, and while the environment is taken apart.
    pub(super) nested: Option<super::nested::NestedTable>,
    /// Frames that it may own, those on its account included.
    pub quota: u64,
    /// Frames of the kernel on its account: those of its nested page table, of its virtual CPUs and their
    /// doorbells, of its list of views, of its console, of its extents' maps, and those that it has paid for
    /// tables of views.
    pub(super) charged: u64,
    /// Frame with the list of its views, once it has any.
    pub(super) view_list: Option<u64>,
    /// Most frames it ever had, those on its account included.
    pub peak_frames: u64,
    /// Its counters, in a page that it can read.
    pub accounting: &'static Accounting,
}

/// Frames of zeros that are the kernel's, on an environment's account, and used for nothing yet.
#[derive(Debug)]
pub struct Charged<const FRAMES: usize>([u64; FRAMES]);

impl<const FRAMES: usize> Charged<FRAMES> {
    /// For [`super::Pages::charge_many`] alone.
    pub(super) fn new(frames: [u64; FRAMES]) -> Self {
        Charged(frames)
    }

    /// Their numbers. The caller owns the frames from now on.
    pub fn into_frames(self) -> [u64; FRAMES] {
        self.0
    }
}

/// Memory for nested page tables, on somebody's account.
pub struct NestedMemory<'a> {
    /// All frames.
    pub(super) frames: &'a mut FrameTable,
    /// Where they are.
    pub(super) memory: PhysicalMemory,
    /// Frames that may be taken. `u64::MAX` when the kernel changes a table by force.
    pub(super) room: u64,
    /// Frames taken, on the account of whoever pays for the tables.
    pub(super) charged: &'a mut u64,
}

impl TableReader for NestedMemory<'_> {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.memory.word(table, index)
    }
}

impl TableMemory for NestedMemory<'_> {
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        self.memory.set_word(table, index, entry);
    }

    fn allocate(&mut self) -> Option<u64> {
        if self.room == 0 {
            return None;
        }
        let frame = self.frames.take_any()?;
        self.room -= 1;
        *self.charged += 1;
        self.memory.clear(frame);
        Some(frame)
    }

    fn release(&mut self, table: u64) {
        self.frames.set_entries_of(table, 0);
        self.frames.release_kernel(table..table + 1);
        self.room = self.room.saturating_add(1);
        *self.charged -= 1;
    }

    fn entries(&self, table: u64) -> u16 {
        self.frames.entries_of(table)
    }

    fn set_entries(&mut self, table: u64, entries: u16) {
        self.frames.set_entries_of(table, entries);
    }

    fn bound(&mut self, frame: u64, large: bool) {
        self.frames.bound(frame, large);
    }

    fn unbound(&mut self, frame: u64, large: bool) {
        self.frames.unbound(frame, large);
    }

    fn split(&mut self, first: u64) {
        self.frames.split_binding(first);
    }
}

impl TableReader for PhysicalMemory {
    fn read(&self, table: u64, index: usize) -> u64 {
        self.word(table, index)
    }
}
