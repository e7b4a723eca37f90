//! From the data to a disk image.

use super::sources::SourceFile;
use super::{DataError, Progress, crossref, expected};
use crate::cs::Variant;
use crate::{cs, din, sort};
use libos_fs::{BlockDevice, CacheOptions, EntryKind, FsError, RamDisk, Volume, extent_fs};
use std::collections::BTreeSet;
use std::path::Path;

/// What the workloads work on.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// Source tree of `cs`.
    pub sources: Vec<SourceFile>,
    /// Trace of `din`, in the format of [`crate::din`].
    pub trace: String,
    /// Text of `sort`; every line ends with a line feed.
    pub text: String,
}

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Path in the image.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Queries of each variant of `cs`: eight symbols and four texts in P. Cao et al., OSDI 1994; ten passes in
/// T. Zussman et al., SOSP 2025.
const CS_PASSES: [(Variant, usize); 5] = [
    (Variant::BOTH, 8),
    (Variant::SYMBOLS, 8),
    (Variant::TEXTS, 4),
    (Variant::PART, 4),
    (Variant::REPEATED, 10),
];

/// How many of so many source files the smaller tree has: as 10 MB to 18 MB, as in the paper.
fn part_of(files: usize) -> usize {
    files * 10 / 18
}

/// Directory of the source tree in the image.
const SOURCE_DIRECTORY: &str = "cs/src";

impl DataSet {
    /// All files of the image: the data, the cross-reference database, and the tasks with the expected
    /// results.
    pub fn files(&self) -> Result<Vec<ImageFile>, DataError> {
        let sources: Vec<SourceFile> = self
            .sources
            .iter()
            .map(|file| SourceFile {
                path: format!("{SOURCE_DIRECTORY}/{}", file.path),
                text: file.text.clone(),
            })
            .collect();
        let database = crossref::build(&sources);
        let list: String = sources.iter().flat_map(|file| [&file.path, "\n"]).collect();
        let part = &sources[..part_of(sources.len())];
        let part_list: String = part.iter().flat_map(|file| [&file.path, "\n"]).collect();
        let mut files = vec![file(cs::LIST_PATH, list), file(cs::PART_LIST_PATH, part_list)];
        for (variant, passes) in CS_PASSES {
            let searched = if variant.list == Some(cs::PART_LIST_PATH) { part } else { &sources };
            files.push(json(variant.task, &expected::cs_task(variant, passes, searched, &database))?);
        }
        files.push(file(cs::DATABASE_PATH, database));
        files.extend(sources.into_iter().map(|source| file(&source.path, source.text)));
        files.push(json(din::TASK_PATH, &expected::din_task(&self.trace))?);
        files.push(file(din::TRACE_PATH, self.trace.clone()));
        files.push(json(sort::TASK_PATH, &expected::sort_task(&self.text))?);
        files.push(file(sort::INPUT_PATH, self.text.clone()));
        Ok(files)
    }
}

fn file(path: &str, text: String) -> ImageFile {
    ImageFile { path: path.to_string(), bytes: text.into_bytes() }
}

/// A task as a file.
pub(super) fn json(path: &str, task: &impl serde::Serialize) -> Result<ImageFile, DataError> {
    Ok(file(path, serde_json::to_string(task).map_err(DataError::Task)?))
}

/// Blocks of cache for writing the image.
const CACHE_BLOCKS: usize = 4096;
/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Makes a volume on a device and writes the files. `device` is asked for the same device again, once to make
/// the volume and once to mount it.
pub fn write(
    files: &[ImageFile],
    device: &mut dyn FnMut() -> Result<Box<dyn BlockDevice>, DataError>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let failed = |path: &str| {
        let path = path.to_string();
        move |error: FsError| DataError::Volume { path, error }
    };
    extent_fs::make(device()?).map_err(failed(""))?;
    let options = CacheOptions { blocks: CACHE_BLOCKS, ..CacheOptions::default() };
    let volume = Volume::mount(device()?, options).map_err(failed(""))?;
    for directory in directories(files) {
        volume.create_dir(directory).map_err(failed(directory))?;
    }
    let total = files.iter().map(|file| file.bytes.len() as u64).sum();
    let mut done = 0;
    for ImageFile { path, bytes } in files {
        let file = volume.create(path).map_err(failed(path))?;
        for piece in bytes.chunks(WRITE_BYTES) {
            file.append(piece).map_err(failed(path))?;
            done += piece.len() as u64;
            progress(Progress { stage: "writing the image", done, total });
        }
    }
    volume.unmount().map_err(failed(""))
}

/// All directories that the files need, each after the one it is in.
fn directories(files: &[ImageFile]) -> BTreeSet<&str> {
    let parents =
        |file: &'_ ImageFile| -> Vec<usize> { file.path.match_indices('/').map(|(at, _)| at).collect() };
    files.iter().flat_map(|file| parents(file).into_iter().map(|end| &file.path[..end])).collect()
}

/// Copies all files of an image into a folder of the host.
///
/// # Errors
///
/// If the image can't be read or the folder can't be written.
pub fn copy_out(image: &[u8], folder: &Path) -> Result<(), DataError> {
    let failed = |path: &str| {
        let path = path.to_string();
        move |error: FsError| DataError::Volume { path, error }
    };
    let options = CacheOptions { blocks: CACHE_BLOCKS, ..CacheOptions::default() };
    let device = Box::new(RamDisk::from_bytes(image.to_vec()));
    let volume = Volume::mount(device, options).map_err(failed(""))?;
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        let target = folder.join(&directory);
        std::fs::create_dir_all(&target).map_err(DataError::host(&target))?;
        for entry in volume.list(&directory).map_err(failed(&directory))? {
            let path = if directory.is_empty() { entry.name } else { format!("{directory}/{}", entry.name) };
            if entry.kind == EntryKind::Directory {
                pending.push(path);
                continue;
            }
            let mut bytes = vec![0; entry.bytes as usize];
            let file = volume.open(&path).map_err(failed(&path))?;
            file.read_at(0, &mut bytes).map_err(failed(&path))?;
            let target = folder.join(&path);
            std::fs::write(&target, bytes).map_err(DataError::host(&target))?;
        }
    }
    Ok(())
}
