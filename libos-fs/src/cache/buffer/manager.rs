//! What applications tell the cache: the manager of a file, priorities, policies.

use super::transfer::BufferCache;
use crate::cache::allocation::{ManagerId, ManagerStatistics, Place};
use crate::cache::key::reference;
use crate::cache::policies::{Advice, ReplacementPolicy};
use crate::error::FsError;
use crate::file_id::FileId;
use alloc::boxed::Box;
use core::ops::Range;

/// A manager of a cache, and its calls (those of P. Cao, E. W. Felten, K. Li, OSDI 1994, section 4).
///
/// It has priorities and policies of its own. Its calls concern its own files only: those that it was
/// [given](Manager::take), or that were opened through [`Volume::as_manager`](crate::Volume::as_manager). So
/// a wrong call costs other managers nothing (see [`Allocation`](crate::cache::Allocation)).
///
/// ```
/// use libos_fs::{CacheOptions, PolicyKind, RamDisk, Volume, extent_fs};
///
/// let disk = RamDisk::new(100);
/// extent_fs::make(Box::new(disk.clone()))?;
/// let volume = Volume::mount(Box::new(disk), CacheOptions::default())?;
///
/// let search = volume.as_manager("search");
/// let index = search.create("/index")?;
/// search.manager().set_policy(0, PolicyKind::Mru);
/// search.manager().set_priority(&index, 1)?;
///
/// let log = volume.create("/log")?;
/// assert!(search.manager().set_priority(&log, 5).is_err(), "not its file");
/// # Ok::<(), libos_fs::FsError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Manager<'c> {
    cache: &'c BufferCache,
    id: ManagerId,
}

impl Manager<'_> {
    /// Its number.
    pub fn id(&self) -> ManagerId {
        self.id
    }

    /// Makes a file its own: blocks of it that are in the cache, and all that will be. Looks at every buffer.
    pub fn take(&self, file: impl Into<FileId>) {
        let file = file.into();
        let state = &mut *self.cache.state();
        let managers = state.managers_mut();
        managers.set_place(file, Place { manager: self.id, ..managers.place_of(file) });
    }

    /// Gives a file a priority, see [`BufferCache::set_priority`].
    ///
    /// # Errors
    ///
    /// [`FsError::OtherManager`] if the file is not its own.
    pub fn set_priority(&self, file: impl Into<FileId>, priority: i32) -> Result<(), FsError> {
        let file = self.own(file.into())?;
        self.cache.set_priority(file, priority);
        Ok(())
    }

    /// The priority of a file.
    ///
    /// # Errors
    ///
    /// [`FsError::OtherManager`] if the file is not its own.
    pub fn get_priority(&self, file: impl Into<FileId>) -> Result<i32, FsError> {
        self.own(file.into()).map(|file| self.cache.get_priority(file))
    }

    /// Gives its blocks of a priority another policy. It is told of those in the cache, from the one used
    /// longest ago to the last.
    pub fn set_policy(&self, priority: i32, policy: impl Into<Box<dyn ReplacementPolicy>>) {
        let place = Place { manager: self.id, priority };
        self.cache.state().managers_mut().set_policy(place, policy.into());
    }

    /// Name of the policy of a priority.
    pub fn get_policy(&self, priority: i32) -> &'static str {
        let place = Place { manager: self.id, priority };
        self.cache.look().managers().policy_name(place)
    }

    /// Gives blocks of a file a priority for a time, see [`BufferCache::set_temporary_priority`].
    ///
    /// # Errors
    ///
    /// [`FsError::OtherManager`] if the file is not its own.
    pub fn set_temporary_priority(
        &self,
        file: impl Into<FileId>,
        blocks: Range<u64>,
        priority: i32,
    ) -> Result<(), FsError> {
        let file = self.own(file.into())?;
        self.cache.set_temporary_priority(file, blocks, priority);
        Ok(())
    }

    /// Says that blocks of a file will not be needed soon: temporary priority −1.
    ///
    /// # Errors
    ///
    /// [`FsError::OtherManager`] if the file is not its own.
    pub fn done_with(&self, file: impl Into<FileId>, blocks: Range<u64>) -> Result<(), FsError> {
        self.set_temporary_priority(file, blocks, -1)
    }

    /// Its counters.
    pub fn statistics(&self) -> ManagerStatistics {
        self.cache.look().managers().statistics(self.id)
    }

    fn own(&self, file: FileId) -> Result<FileId, FsError> {
        let manager = self.cache.look().managers().place_of(file).manager;
        if manager == self.id { Ok(file) } else { Err(FsError::OtherManager(file)) }
    }
}

impl BufferCache {
    /// The manager of this name; it is made if there is none. `default` is the one of all files that were
    /// given no other.
    pub fn manager(&self, name: &str) -> Manager<'_> {
        let id = self.state().managers_mut().named(name);
        self.manager_by_id(id)
    }

    pub(crate) fn manager_by_id(&self, id: ManagerId) -> Manager<'_> {
        Manager { cache: self, id }
    }

    /// The manager of a file.
    pub fn manager_of(&self, file: impl Into<FileId>) -> Manager<'_> {
        let id = self.look().managers().place_of(file.into()).manager;
        self.manager_by_id(id)
    }

    /// Gives the blocks of a priority, in the default manager, another policy. It is told of those in the
    /// cache, from the one used longest ago to the last.
    pub fn set_policy(&self, priority: i32, policy: impl Into<Box<dyn ReplacementPolicy>>) {
        self.manager_by_id(ManagerId::DEFAULT).set_policy(priority, policy);
    }

    /// Name of the policy of a priority in the default manager.
    pub fn get_policy(&self, priority: i32) -> &'static str {
        self.manager_by_id(ManagerId::DEFAULT).get_policy(priority)
    }

    /// Gives a file a priority in its manager; files that were given none have 0. Blocks of lower priority
    /// are replaced first. Blocks with a temporary priority keep it. Looks at every buffer.
    pub fn set_priority(&self, file: impl Into<FileId>, priority: i32) {
        let file = file.into();
        let state = &mut *self.state();
        let managers = state.managers_mut();
        managers.set_place(file, Place { priority, ..managers.place_of(file) });
    }

    /// The priority of a file.
    pub fn get_priority(&self, file: impl Into<FileId>) -> i32 {
        self.look().managers().place_of(file.into()).priority
    }

    /// Gives blocks of a file a priority until each is next referenced or replaced. Blocks that are not in
    /// the cache are not concerned.
    pub fn set_temporary_priority(&self, file: impl Into<FileId>, blocks: Range<u64>, priority: i32) {
        self.state().set_temporary_priority(file.into(), blocks, priority);
    }

    /// Says that blocks of a file will not be needed soon: temporary priority −1.
    pub fn done_with(&self, file: impl Into<FileId>, blocks: Range<u64>) {
        self.set_temporary_priority(file, blocks, -1);
    }

    /// Says something about blocks of a file to the replacement policy of its priority. What comes of it is
    /// up to that policy; most ignore it.
    pub fn advise(&self, file: impl Into<FileId>, blocks: Range<u64>, advice: Advice) {
        let file = file.into();
        let last = blocks.end.min(1 << 32).saturating_sub(1);
        if blocks.start <= last {
            let blocks = reference(file, blocks.start)..reference(file, last).saturating_add(1);
            self.state().managers_mut().advise(file, blocks, advice);
        }
    }
}
