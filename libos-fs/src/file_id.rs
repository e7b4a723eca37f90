//! Names of files inside the library.

/// Number of a file in its volume. Never used for another file of the same volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

impl FileId {
    /// Stands for all blocks of an ext4 volume: the cache knows them by their number on the device only.
    pub const WHOLE_DEVICE: FileId = FileId(0);
}
