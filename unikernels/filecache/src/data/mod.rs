//! Where the workloads' data come from, and what the workloads must find in them. Host side.
//!
//! | what | where from |
//! |---|---|
//! | source tree | [`sources`]: the sources of the locked dependencies |
//! | cross-reference database | [`crossref`]: made from the source tree |
//! | memory-reference trace | [`trace`]: a program of the host, instruction by instruction |
//! | text | the sources that follow those of the tree |
//! | articles of `gli` | Debian's `perl-doc`; without it, sources of the locked dependencies |
//! | objects of `ldk` | Debian's `libc6-dev`, downloaded or installed |
//! | relations of `pjn` | made, like those of the Wisconsin benchmark |
//! | store of `ycsb` | made, like that of YCSB |
//! | expected results | [`expected`]: plain code, everything in memory |
//!
//! [`build`] makes the disk image with all of it.

pub mod crossref;
mod error;
pub mod expected;
pub mod gli;
mod image;
pub mod ldk;
mod packages;
mod pjn;
pub mod sources;
pub mod trace;
mod ycsb;

pub use error::DataError;
pub use image::{DataSet, ImageFile, copy_out, write};

use crate::catalogue::DataFamily;
use crate::lines::BLOCK_BYTES;
use libos_fs::{BlockDevice, FileDisk};
use sources::SourceFile;
use std::path::Path;

/// How far the work has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: &'static str,
    /// Bytes done.
    pub done: u64,
    /// Bytes to do.
    pub total: u64,
}

/// How large the data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the source tree of `cs`, at least; its database has about two thirds of that besides.
    pub source_bytes: u64,
    /// Bytes of the trace of `din`.
    pub trace_bytes: u64,
    /// Bytes of the text of `sort`.
    pub text_bytes: u64,
    /// Bytes of the articles of `gli`.
    pub article_bytes: u64,
    /// Bytes of the inner relation of `pjn`.
    pub relation_bytes: u64,
    /// Bytes of the records of `ycsb`.
    pub store_bytes: u64,
}

impl Default for Sizes {
    /// Data for which a run takes seconds even on an emulated machine.
    fn default() -> Sizes {
        Sizes {
            source_bytes: 4 << 20,
            trace_bytes: 6 << 20,
            text_bytes: 4 << 20,
            article_bytes: 8 << 20,
            relation_bytes: 8 << 20,
            store_bytes: 6 << 20,
        }
    }
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files in the image.
    pub files: usize,
    /// Bytes in them.
    pub file_bytes: u64,
    /// Blocks of the image.
    pub image_blocks: u64,
    /// Where the data come from, as far as that depends on the host.
    pub notes: Vec<String>,
}

/// All files of a family of workloads, expected results included.
#[derive(Debug)]
pub struct Collected {
    /// The files.
    pub files: Vec<ImageFile>,
    /// Room that the image needs besides them, in bytes: for what the workloads write, and for metadata.
    pub spare_bytes: u64,
    /// Where the data come from, as far as that depends on the host.
    pub notes: Vec<String>,
}

/// Room for metadata.
const METADATA_BYTES: u64 = 8 << 20;

/// Where data come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Folder of the workspace, whose locked dependencies have sources.
    pub workspace: &'a Path,
    /// Folder in which unpacked packages are kept. Made if it is missing.
    pub downloads: &'a Path,
}

/// Makes the data of a family of workloads.
///
/// # Errors
///
/// If cargo can't tell where the dependencies are, if they are too small, if no program can be traced.
pub fn collect(
    family: DataFamily,
    origin: &Origin<'_>,
    sizes: &Sizes,
    progress: &mut dyn FnMut(Progress),
) -> Result<Collected, DataError> {
    match family {
        DataFamily::Texts => texts(origin.workspace, sizes, progress),
        DataFamily::Articles => gli::collect(origin, sizes),
        DataFamily::Objects => ldk::collect(origin),
        DataFamily::Relations => pjn::collect(sizes),
        DataFamily::Store => ycsb::collect(sizes),
    }
}

/// The data of `cs`, `din` and `sort`.
fn texts(
    workspace: &Path,
    sizes: &Sizes,
    progress: &mut dyn FnMut(Progress),
) -> Result<Collected, DataError> {
    let total = sizes.source_bytes + sizes.text_bytes;
    progress(Progress { stage: "collecting sources", done: 0, total });
    let mut tree = sources::collect(workspace, total)?;
    progress(Progress { stage: "collecting sources", done: total, total });
    let rest = tree.split_off(files_with(&tree, sizes.source_bytes));
    let text = text_of(&rest);
    let trace::Recorded { trace, method, single_step_error } =
        trace::record(&text, sizes.trace_bytes as usize, progress)?;
    progress(Progress { stage: "computing expected results", done: 0, total: 1 });
    // The runs and the output of `sort`, and as much again while one is made from the other.
    let spare_bytes = 4 * text.len() as u64 + METADATA_BYTES;
    let failed = single_step_error.map(|error| format!("single steps were not possible: {error}"));
    let notes = std::iter::once(format!("memory-reference trace by {method}")).chain(failed).collect();
    Ok(Collected { files: DataSet { sources: tree, trace, text }.files()?, spare_bytes, notes })
}

/// How many files from the first have at least so many bytes together.
fn files_with(files: &[SourceFile], bytes: u64) -> usize {
    let mut so_far = 0;
    files
        .iter()
        .take_while(|file| {
            let wanted = so_far < bytes;
            so_far += file.text.len() as u64;
            wanted
        })
        .count()
}

/// The lines of the files that hold anything.
fn text_of(files: &[SourceFile]) -> String {
    files
        .iter()
        .flat_map(|file| file.text.split('\n'))
        .filter(|line| !line.trim().is_empty())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Makes the image of a family of workloads in the file `image`, which appears there only when it is
/// complete.
///
/// # Errors
///
/// As [`collect`], and if the image can't be written.
pub fn build(
    family: DataFamily,
    origin: &Origin<'_>,
    image: &Path,
    sizes: &Sizes,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, DataError> {
    let Collected { files, spare_bytes, notes } = collect(family, origin, sizes, progress)?;
    let blocks = |bytes: u64| bytes.div_ceil(BLOCK_BYTES as u64);
    let file_blocks: u64 = files.iter().map(|file| blocks(file.bytes.len() as u64)).sum();
    let image_blocks = file_blocks + blocks(spare_bytes);
    let partial = image.with_extension("partial");
    FileDisk::create(&partial, image_blocks).map_err(DataError::host(&partial))?;
    let mut device = || -> Result<Box<dyn BlockDevice>, DataError> {
        Ok(Box::new(FileDisk::open(&partial).map_err(DataError::host(&partial))?))
    };
    write(&files, &mut device, progress)?;
    std::fs::rename(&partial, image).map_err(DataError::host(image))?;
    let file_bytes = files.iter().map(|file| file.bytes.len() as u64).sum();
    Ok(Summary { files: files.len(), file_bytes, image_blocks, notes })
}
