//! What applications and file systems ask of the cache of a volume.

use super::fetch::Locate;
use super::record::Observer;
use super::statistics::CacheStatistics;
use super::transfer::BufferCache;
use crate::cache::key::Key;
use crate::cache::policies::ReadAhead;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::lent_page::LentPage;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use hyperexo_abi::Page;

/// For applications.
impl BufferCache {
    /// Chooses another read-ahead policy. What was disclosed to the old one is forgotten.
    pub fn set_read_ahead(&self, policy: impl Into<Box<dyn ReadAhead>>) {
        self.state().set_read_ahead(policy.into());
    }

    /// Whether read-ahead makes use of what is disclosed by [`File::will_need`](crate::File::will_need): for
    /// applications that would have to find out first what they will need.
    pub fn uses_disclosures(&self) -> bool {
        self.look().uses_disclosures()
    }

    /// Counters. Waits for what is on its way, so that they agree with those of the device.
    pub fn statistics(&self) -> CacheStatistics {
        self.finish_all();
        self.look().statistics()
    }

    /// Blocks it may hold.
    pub fn blocks(&self) -> usize {
        self.look().slots().capacity()
    }

    /// Changes how many blocks it may hold (at least 1). Blocks that no longer fit are replaced as usual.
    ///
    /// # Errors
    ///
    /// If a dirty block can't be written the cache stays larger than asked for until it can be.
    pub fn resize(&self, blocks: usize) -> Result<(), FsError> {
        self.state().set_capacity(blocks);
        self.finish_all();
        while self.is_over_full() {
            let slot = self.take_slot(None)?;
            self.state().give_back(slot);
        }
        Ok(())
    }

    fn is_over_full(&self) -> bool {
        let state = self.look();
        state.slots().occupied() > state.slots().capacity()
    }

    /// Drops all blocks that need not be written, those in staging included.
    pub fn drop_clean(&self) {
        self.finish_all();
        self.state().drop_clean();
    }

    /// Starts to record references; see [`reference()`](crate::cache::reference()) for their numbers.
    pub fn start_recording(&self) {
        self.state().record().start_recording();
    }

    /// Ends recording and returns the references since its start, as the replacement policies saw them.
    pub fn take_references(&self) -> Vec<u64> {
        self.state().record().take_references()
    }

    /// From here on, tells `observer` of every event; `None` ends that.
    pub fn observe(&self, observer: Option<Observer>) {
        self.state().record().observe(observer);
    }
}

/// For file systems.
impl BufferCache {
    /// From here on, metadata reads are no longer counted as part of mounting.
    pub(crate) fn end_of_mount(&self) {
        self.state().end_of_mount();
    }

    /// Prints all references from here on, as [`references`](crate::cache::references) describes.
    pub(crate) fn log_references(&self, print: fn(&str)) {
        self.state().record().log_references(print);
    }

    /// References a block and shows its contents, or says `false` for a hole; see [`BufferCache::access`] for
    /// `certain` and `locate`.
    pub(crate) fn read(
        &self,
        key: Key,
        certain: u64,
        locate: Locate<'_>,
        show: impl FnOnce(&Page),
    ) -> Result<bool, FsError> {
        let Some(slot) = self.access(key, certain, locate)? else { return Ok(false) };
        {
            let state = &mut *self.state();
            if certain > 0 {
                state.record().call_goes_on((key.0, key.1 + 1));
            }
            if let Some(page) = state.slots().page(slot) {
                show(page);
            }
        }
        // Now, as the block may have to go for others.
        self.prefetch(key.0, locate);
        Ok(true)
    }

    /// The same as [`BufferCache::read`], but lends the block. `None` for a hole.
    pub(crate) fn lend(
        &self,
        key: Key,
        certain: u64,
        locate: Locate<'_>,
    ) -> Result<Option<Arc<LentPage>>, FsError> {
        let Some(slot) = self.access(key, certain, locate)? else { return Ok(None) };
        let lent = self.state().lend(slot);
        self.prefetch(key.0, locate);
        Ok(lent)
    }

    /// References a block and changes it. Without `locate` its old contents don't matter; holes hold zeros.
    ///
    /// `place` says where on the device it will go from now on; it is called after the old contents have
    /// arrived, with nothing borrowed. If it fails the block is unchanged.
    pub(crate) fn write(
        &self,
        key: Key,
        locate: Option<Locate<'_>>,
        place: impl FnOnce() -> Result<u64, FsError>,
        change: impl FnOnce(&mut Page),
    ) -> Result<(), FsError> {
        let old = match locate {
            Some(locate) => self.access(key, 0, locate)?,
            None => None,
        };
        let slot = match old {
            Some(slot) => slot,
            None => self.enter(key)?,
        };
        let placed = place();
        let state = &mut *self.state();
        if placed.is_err() && state.slots().is_unplaced(slot) {
            state.forget(slot);
        }
        if let Some(page) = state.rewrite(slot, placed?) {
            change(page);
        }
        Ok(())
    }

    /// Drops blocks of a file without writing them: it was cut or removed.
    pub(crate) fn forget(&self, file: FileId, blocks: Range<u64>) {
        self.finish_writes();
        self.state().forget_blocks(file, &blocks);
    }

    /// Forgets the manager, the priority and the write order of a file that is gone.
    pub(crate) fn forget_place(&self, file: FileId) {
        self.state().forget_file(file);
    }

    /// Prints the last references, where they are printed as they are made: for a program that ends without
    /// dropping its volume.
    pub fn end_reference_log(&self) {
        self.state().record().end_reference_log();
    }

    /// Whether there are blocks whose checksums the file system does not have yet.
    pub(crate) fn has_news(&self) -> bool {
        self.look().dirty().has_news()
    }

    /// Checksums of the blocks written to the device since the last call.
    pub(crate) fn take_written(&self) -> BTreeMap<Key, u32> {
        self.state().take_written()
    }
}
