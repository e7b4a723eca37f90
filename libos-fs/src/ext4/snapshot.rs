//! Names and places of an image as they are in memory, so that several cores can look at them.

use super::{Ext4Volume, corrupt, error};
use crate::device::BLOCK_BYTES;
use crate::error::FsError;
use crate::file_id::FileId;
use crate::file_system::{DirectoryEntry, EntryKind, FileSystem};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Symbolic links that a path may lead through.
const MOST_LINKS: usize = 40;

/// What a path without links stands for.
enum Node {
    Directory(Vec<DirectoryEntry>),
    File(usize),
    /// Text of a symbolic link.
    Link(String),
    Special,
}

/// A file, or why it can't be read.
struct File {
    bytes: u64,
    /// In the order of the file.
    places: Result<Vec<Place>, FsError>,
}

/// Bytes in a row.
struct Place {
    /// Where in the file they end.
    end: u64,
    /// Where on the device the byte is that would be the file's first; nothing if they are zeros.
    origin: Option<u64>,
}

/// Names and places of all files of an image.
pub(crate) struct Ext4Names {
    /// By path, without slashes at the ends; the root is empty.
    nodes: BTreeMap<String, Node>,
    files: Vec<File>,
    device_blocks: u64,
}

impl Ext4Volume {
    /// Reads all names, and where all files are. Of a file that is damaged or encrypted, opening it will
    /// tell.
    pub(crate) fn into_names(self) -> Result<Ext4Names, FsError> {
        let device_blocks = self.cache.device_blocks();
        let mut found = Ext4Names { nodes: BTreeMap::new(), files: Vec::new(), device_blocks };
        let mut directories = Vec::from([String::new()]);
        while let Some(directory) = directories.pop() {
            let entries = self.list(&format!("/{directory}"))?;
            for entry in &entries {
                let path = if directory.is_empty() {
                    entry.name.clone()
                } else {
                    format!("{directory}/{}", entry.name)
                };
                match entry.kind {
                    EntryKind::Directory => directories.push(path),
                    EntryKind::File => {
                        found
                            .files
                            .push(File { bytes: entry.bytes, places: self.places(&path, device_blocks) });
                        found.nodes.insert(path, Node::File(found.files.len() - 1));
                    }
                    EntryKind::Other => {
                        let node = self.link(&path).map_or(Node::Special, Node::Link);
                        found.nodes.insert(path, node);
                    }
                }
            }
            found.nodes.insert(directory, Node::Directory(entries));
        }
        Ok(found)
    }

    /// The text of a symbolic link, if it is one.
    fn link(&self, path: &str) -> Option<String> {
        let text = self.image.read_link(&Ext4Volume::absolute(path).ok()?).ok()?;
        Some(super::name_from_bytes(text.as_ref()))
    }

    /// Where the bytes of a file are.
    fn places(&self, path: &str, device_blocks: u64) -> Result<Vec<Place>, FsError> {
        let opened = self.image.open(&Ext4Volume::absolute(path)?).map_err(|e| error(path, e))?;
        let (root, bytes) = (self.root(path, &opened)?, opened.metadata().len());
        let block_bytes = self.nodes.geometry.block_bytes;
        let mut places: Vec<Place> = Vec::new();
        let mut at = 0;
        while at < bytes {
            let found = self.nodes.stretch(&root, at / block_bytes)?;
            let end = at.saturating_add(found.blocks.saturating_mul(block_bytes)).min(bytes);
            let start = found.start.map(|start| start.saturating_mul(block_bytes));
            if start.is_some_and(|start| start + (end - at) > device_blocks * BLOCK_BYTES as u64) {
                return Err(corrupt("the image is cut off: something lies beyond the end of the device"));
            }
            let origin = start.map(|start| start.wrapping_sub(at));
            match places.last_mut() {
                Some(last) if last.origin == origin => last.end = end,
                _ => places.push(Place { end, origin }),
            }
            at = end;
        }
        Ok(places)
    }
}

impl Ext4Names {
    pub(crate) fn device_blocks(&self) -> u64 {
        self.device_blocks
    }

    /// The node of a path, links followed.
    fn resolve(&self, path: &str) -> Result<(String, &Node), FsError> {
        let mut left: Vec<String> = path.split('/').rev().map(str::to_string).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop() {
            match name.as_str() {
                "." | "" => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(name),
            }
            match self.nodes.get(&at.join("/")) {
                None => return Err(self.missing(path, &at)),
                Some(Node::Link(text)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(FsError::BadPath(path.to_string(), "too many symbolic links"));
                    }
                    at.pop();
                    if text.starts_with('/') {
                        at.clear();
                    }
                    left.extend(text.split('/').rev().map(str::to_string));
                }
                Some(Node::File(_) | Node::Special) if !left.is_empty() => {
                    return Err(FsError::NotADirectory(path.to_string()));
                }
                Some(_) => {}
            }
        }
        let at = at.join("/");
        match self.nodes.get(&at) {
            Some(node) => Ok((at, node)),
            None => Err(FsError::NotFound(path.to_string())),
        }
    }

    fn missing(&self, path: &str, at: &[String]) -> FsError {
        match self.nodes.get(&at[..at.len() - 1].join("/")) {
            Some(Node::Directory(_)) | None => FsError::NotFound(path.to_string()),
            Some(_) => FsError::NotADirectory(path.to_string()),
        }
    }

    pub(crate) fn open(&self, path: &str) -> Result<FileId, FsError> {
        match self.resolve(path)?.1 {
            Node::File(number) => {
                self.files[*number].places.as_ref().map_err(Clone::clone)?;
                Ok(FileId(*number as u64 + 1))
            }
            Node::Directory(_) => Err(FsError::IsADirectory(path.to_string())),
            Node::Link(_) | Node::Special => Err(FsError::Unsupported("special files")),
        }
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, FsError> {
        match self.resolve(path)?.1 {
            Node::Directory(entries) => Ok(entries.clone()),
            _ => Err(FsError::NotADirectory(path.to_string())),
        }
    }

    fn file(&self, file: FileId) -> Result<&File, FsError> {
        self.files.get(Ext4Volume::number(file)).ok_or(FsError::Removed)
    }

    pub(crate) fn bytes(&self, file: FileId) -> Result<u64, FsError> {
        Ok(self.file(file)?.bytes)
    }

    /// Where on the device a byte of a file is, if it is no zero, and how many follow in a row.
    pub(crate) fn place(&self, file: FileId, at: u64) -> (Option<u64>, u64) {
        let Ok(File { places: Ok(places), .. }) = self.file(file) else { return (None, u64::MAX) };
        let place = places.get(places.partition_point(|place| place.end <= at));
        place.map_or((None, u64::MAX), |place| {
            (place.origin.map(|origin| origin.wrapping_add(at)), place.end - at)
        })
    }
}
