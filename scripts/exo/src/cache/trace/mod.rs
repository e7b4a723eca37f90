//! Traces: which blocks a program or a machine referred to, in order.
//!
//! | module | formats |
//! |---|---|
//! | [`oracle_general`] | libCacheSim's binary records |
//! | [`numbers`] | one block number a line: `csv` without columns, `lirs`, `references` |
//! | [`columns`] | byte or block addresses in named columns: `csv` with columns, `msr` |
//! | [`detect`] | which of them a file is in |
//!
//! A file is read as a stream, once, compressed or not, whatever its size. What is kept is 4 bytes for each
//! reference and about 30 for each distinct block.

mod columns;
mod detect;
mod numbers;
mod oracle_general;

pub use columns::Columns;
pub use detect::Format;

use crate::error::{Error, Result};
use hyperexo_abi::BLOCK_BYTES;
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A reference string.
#[derive(Debug, Default)]
pub struct Trace {
    /// The distinct blocks, in the order of their first use.
    blocks: Vec<u64>,
    /// Indices into `blocks`.
    references: Vec<u32>,
}

impl Trace {
    /// The block numbers referred to, in order.
    pub fn references(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
        self.references.iter().map(|index| self.blocks[*index as usize])
    }

    /// Number of references.
    pub fn length(&self) -> usize {
        self.references.len()
    }

    /// Number of distinct blocks.
    pub fn distinct(&self) -> usize {
        self.blocks.len()
    }

    /// A trace of these references; `None` if they are too many.
    pub fn of(references: &[u64]) -> Option<Trace> {
        let mut recorder = Recorder::default();
        references.iter().try_for_each(|block| recorder.push(*block)).ok()?;
        Some(recorder.trace)
    }
}

/// Where in a file something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// A byte, from 0, after decompression.
    Byte(u64),
    /// Nowhere in particular.
    File,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number) => write!(f, ", line {number}"),
            Place::Byte(offset) => write!(f, ", byte {offset}"),
            Place::File => Ok(()),
        }
    }
}

/// What is wrong with a trace, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    place: Place,
    reason: String,
    fix: String,
}

impl Fault {
    fn new(place: Place, reason: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault { place, reason: reason.into(), fix: fix.into() }
    }

    /// For what the operating system or the decompressor refused.
    fn unreadable(place: Place, error: &io::Error) -> Fault {
        Fault::new(place, format!("cannot be read: {error}"), "fetch or record the file again")
    }
}

/// Collects references while a file is read.
#[derive(Default)]
struct Recorder {
    index_of: HashMap<u64, u32>,
    trace: Trace,
}

/// References that a trace can have: positions are kept in 32 bits.
const MOST_REFERENCES: usize = u32::MAX as usize - 1;
/// Blocks that one request of a trace may touch (1 GiB): more is a damaged line, not a request.
const MOST_BLOCKS_OF_A_REQUEST: u64 = 1 << 18;
/// Blocks of a file or disk: [`libos_fs::cache::reference`] leaves 32 bits for them.
const MOST_BLOCKS_OF_A_DISK: u64 = 1 << 32;

/// The trace is longer than [`MOST_REFERENCES`].
#[derive(Debug)]
struct TooLong;

impl Recorder {
    fn push(&mut self, block: u64) -> std::result::Result<(), TooLong> {
        if self.trace.references.len() >= MOST_REFERENCES {
            return Err(TooLong);
        }
        let next = self.trace.blocks.len() as u32;
        let index = *self.index_of.entry(block).or_insert(next);
        if index == next {
            self.trace.blocks.push(block);
        }
        self.trace.references.push(index);
        Ok(())
    }

    /// Records a block; `place` is for the error.
    fn block(&mut self, block: u64, place: Place) -> std::result::Result<(), Fault> {
        self.push(block).map_err(|TooLong| {
            let reason = format!("more than {MOST_REFERENCES} references");
            Fault::new(place, reason, "cut the trace, for instance with `head -n 4000000000`")
        })
    }

    /// Records the blocks that `bytes` from `offset` touch, on a disk or file with a number of its own.
    fn bytes(&mut self, disk: u64, offset: u64, bytes: u64, place: Place) -> std::result::Result<(), Fault> {
        let size = BLOCK_BYTES as u64;
        if bytes == 0 {
            return Ok(());
        }
        let last = offset.checked_add(bytes - 1).ok_or_else(|| {
            Fault::new(place, format!("{bytes} bytes from {offset} on: that is beyond 2^64"), NO_LINE)
        })?;
        self.run(Some(disk), offset / size, last / size - offset / size + 1, place)
    }

    /// Records a run of blocks: of a disk or file, or, with `None`, of all there are.
    fn run(
        &mut self,
        disk: Option<u64>,
        first: u64,
        count: u64,
        place: Place,
    ) -> std::result::Result<(), Fault> {
        let fault = |reason| Fault::new(place, reason, NO_LINE);
        if count > MOST_BLOCKS_OF_A_REQUEST {
            return Err(fault(format!(
                "a request of {count} blocks; at most {MOST_BLOCKS_OF_A_REQUEST} make sense"
            )));
        }
        let (base, limit) = match disk {
            None => (0, u64::MAX),
            Some(disk) if disk < 1 << 32 => (disk << 32, MOST_BLOCKS_OF_A_DISK),
            Some(disk) => return Err(fault(format!("disk {disk}: there are 2^32 at most"))),
        };
        let end = first.checked_add(count).filter(|end| *end <= limit);
        let end =
            end.ok_or_else(|| fault(format!("{count} blocks from {first} on; the last can be {limit}")))?;
        (first..end).try_for_each(|block| self.block(base | block, place))
    }
}

/// What to do about a line that can't be meant.
const NO_LINE: &str = "this is no line of a trace: remove it, or cut the file there";

/// Reads a trace. `format` is found out if it is not given; `columns` are for `csv`; `progress` is told of
/// the bytes read.
///
/// # Errors
///
/// [`Error::Trace`] names the line or byte.
pub fn read(
    path: &Path,
    format: Option<Format>,
    columns: Option<&Columns>,
    progress: &ProgressBar,
) -> Result<Trace> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // The length is for the bar alone; a pipe has none.
    progress.set_length(file.metadata().map_or(0, |metadata| metadata.len()));
    let judged = |fault: Fault| Error::Trace {
        path: path.to_path_buf(),
        place: fault.place.to_string(),
        reason: fault.reason,
        fix: fault.fix,
    };
    let mut input =
        decompressed(BufReader::with_capacity(1 << 20, progress.wrap_read(file))).map_err(judged)?;
    let mut recorder = Recorder::default();
    read_stream(&mut input, path, format, columns, &mut recorder).map_err(judged)?;
    if recorder.trace.references.is_empty() {
        let fix = "name a file with block references, and its format with --format if it has no usual one";
        return Err(judged(Fault::new(Place::File, "has no references", fix)));
    }
    Ok(recorder.trace)
}

/// Reads a stream that is no longer compressed.
fn read_stream(
    input: &mut dyn BufRead,
    path: &Path,
    format: Option<Format>,
    columns: Option<&Columns>,
    recorder: &mut Recorder,
) -> std::result::Result<(), Fault> {
    // A compressed stream may give little at first: enough for a guess is asked for.
    let mut start = Vec::new();
    let taken = Read::take(&mut *input, detect::ENOUGH).read_to_end(&mut start);
    taken.map_err(|error| Fault::unreadable(Place::Byte(start.len() as u64), &error))?;
    if start.is_empty() {
        return Ok(());
    }
    let format = match (format, columns) {
        (Some(format), _) => format,
        (None, Some(_)) => Format::Csv,
        (None, None) => detect::detect(path, &start)?,
    };
    if columns.is_some() && format != Format::Csv {
        let reason = format!("--columns are for csv, and this is {format}");
        return Err(Fault::new(Place::File, reason, "leave --columns out, or add --format csv"));
    }
    let mut whole = BufReader::with_capacity(1 << 16, start.as_slice().chain(input));
    match (format, columns) {
        (Format::OracleGeneral, _) => oracle_general::read(&mut whole, recorder),
        (Format::Csv, Some(columns)) => columns.read(&mut whole, recorder),
        (Format::Msr, _) => columns::read_msr(&mut whole, recorder),
        (Format::Csv, None) => numbers::read(&mut whole, numbers::Dialect::Csv, recorder),
        (Format::Lirs, _) => numbers::read(&mut whole, numbers::Dialect::Lirs, recorder),
        (Format::References, _) => numbers::read(&mut whole, numbers::Dialect::References, recorder),
    }
}

/// The stream without its zstd or gzip compression, which its first bytes show.
fn decompressed<'r>(mut input: impl BufRead + 'r) -> std::result::Result<Box<dyn BufRead + 'r>, Fault> {
    const ZSTD: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes(); // RFC 8878, section 3.1.1
    const GZIP: [u8; 2] = [0x1f, 0x8b]; // RFC 1952, section 2.3.1
    let start = input.fill_buf().map_err(|error| Fault::unreadable(Place::Byte(0), &error))?;
    if start.starts_with(&ZSTD) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(input).map_err(|error| {
            let reason = format!("looks like zstd, but can't be unpacked: {error}");
            Fault::new(Place::Byte(0), reason, "unpack it with `zstd -d`, or fetch it again")
        })?;
        return Ok(Box::new(BufReader::with_capacity(1 << 20, decoder)));
    }
    if start.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(1 << 20, flate2::bufread::MultiGzDecoder::new(input))));
    }
    Ok(Box::new(input))
}

#[cfg(test)]
mod tests;
