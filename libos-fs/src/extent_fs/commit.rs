//! From the metadata in memory to the next state on the disk.

use super::format::{Pointer, SUPERBLOCKS, Superblock};
use super::metadata::Metadata;
use crate::error::FsError;
use alloc::boxed::Box;
use alloc::vec::Vec;
use hyperexo_abi::Page;

/// A volume whose metadata can be committed: on one core or on several. Nobody else changes the metadata
/// while it is.
pub(crate) trait Committing {
    /// Has the metadata changed, or looked at. No I/O meanwhile.
    fn with_metadata<R>(&self, change: impl FnOnce(&mut Metadata) -> R) -> R;
    /// Writes blocks, and waits for the end.
    fn write_metadata(&self, blocks: Vec<(u64, Box<Page>)>) -> Result<(), FsError>;
    /// Makes durable what was written.
    fn flush(&self) -> Result<(), FsError>;
}

/// Makes the changed metadata the state of the volume. All data has been written, and its checksums noted.
pub(crate) fn commit(volume: &impl Committing) -> Result<(), FsError> {
    if volume.with_metadata(|metadata| metadata.tree.changed()) == 0 {
        return Ok(());
    }
    let (places, superblock) = write_nodes(volume)?;
    let written = write_superblocks(volume, &superblock);
    volume.with_metadata(|metadata| {
        let Ok(copy) = written else {
            metadata.commit_unknown = true;
            return Err(FsError::CommitUnknown);
        };
        metadata.superblock = superblock;
        metadata.copy = copy;
        for block in metadata.tree.adopt(&places) {
            metadata.space.release(block);
        }
        metadata.space.committed();
        Ok(())
    })
}

/// Writes the changed nodes to free blocks. Returns their places, root last, and the new superblock.
fn write_nodes(volume: &impl Committing) -> Result<(Vec<Pointer>, Superblock), FsError> {
    let (blocks, root, pages) = volume.with_metadata(|metadata| {
        let blocks = metadata.space.allocate_many(metadata.tree.changed())?;
        match metadata.tree.encode(&blocks) {
            Some((root, pages)) => Ok((blocks, root, pages)),
            None => Err(FsError::Corrupt("tree changed while being written".into())),
        }
    })?;
    let places =
        pages.iter().map(|(block, page)| Pointer { block: *block, checksum: crc32fast::hash(&page.0) });
    let places = places.collect();
    if let Err(error) = volume.write_metadata(pages).and_then(|()| volume.flush()) {
        volume.with_metadata(|metadata| blocks.iter().for_each(|block| metadata.space.release(*block)));
        return Err(error);
    }
    let superblock = volume.with_metadata(|metadata| {
        let old = metadata.superblock;
        Superblock { generation: old.generation + 1, root, next_object: metadata.next_object, ..old }
    });
    Ok((places, superblock))
}

/// Makes a state valid: from the first write on, its fate is the device's. Returns the copy that was written
/// first.
fn write_superblocks(volume: &impl Committing, superblock: &Superblock) -> Result<usize, FsError> {
    let current = volume.with_metadata(|metadata| metadata.copy);
    let first = 1 - current;
    volume.write_metadata(Vec::from([(SUPERBLOCKS[first], superblock.encode())]))?;
    volume.flush()?;
    volume.write_metadata(Vec::from([(SUPERBLOCKS[current], superblock.encode())]))?;
    Ok(first)
}
