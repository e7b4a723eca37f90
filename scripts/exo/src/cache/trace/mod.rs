//! Traces: which blocks a program or a machine referred to, in order.
//!
//! | module | what |
//! |---|---|
//! | [`fault`] | what can be wrong, and where |
//! | [`recorder`] | reference strings, and what collects them |
//! | [`unpack`] | zstd, gzip, xz |
//! | [`detect`] | which format a file is in |
//! | [`lines`], [`fields`], [`table`] | text: lines, what separates their fields, tables |
//! | [`numbers`] | one block number a line: `csv` without columns, `lirs`, `references` |
//! | [`columns`] | columns that the user names: `csv` with columns |
//! | [`disk`] | requests of disks in text: `msr`, `spc`, `arc` |
//! | [`binary`], [`libcachesim`], [`vscsi`] | binary records: `oracle-general`, `lcs`, `vscsi` |
//!
//! A file is read as a stream, once, compressed or not, whatever its size. What is kept is 4 bytes for each
//! reference and about 30 for each distinct block; or a sample of them. What can't be read to its end, or is
//! damaged as far as that can be told, is an error: there is no result of a part of a file.

mod binary;
mod columns;
mod detect;
mod disk;
mod fault;
mod fields;
mod libcachesim;
mod lines;
mod numbers;
mod recorder;
mod table;
mod unpack;
mod vscsi;

pub use columns::Columns;
pub use detect::Format;
pub use fields::Separator;
pub use recorder::Trace;

use crate::error::{Error, Result};
use crate::units::parse_size;
use detect::Start;
use fault::{Fault, Place, Read};
use indicatif::ProgressBar;
use libcachesim::Source;
use libos_fs::cache::{Sample, Sampler};
use numbers::Dialect;
use recorder::Recorder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::str::FromStr;
use unpack::Unchecked;

/// What the user says about a trace; the rest is found out.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Description {
    /// Format of the trace (default: by its contents)
    #[arg(long)]
    pub format: Option<Format>,
    /// Columns of a csv trace: block=NAME (and count=NAME); or offset=NAME and size=NAME in bytes; or
    /// key=NAME for keys of text; file=NAME if addresses are of several files or disks. NAME is the head of a
    /// column, or its number from 1
    #[arg(long, value_name = "KEY=NAME,...")]
    pub columns: Option<Columns>,
    /// What separates the columns of a csv trace: comma, semicolon, tab, pipe, space (any white space), or a
    /// character (default: by its contents)
    #[arg(long)]
    pub separator: Option<Separator>,
    /// Bytes that an address counts, in csv with offset=NAME (default: 1), spc and vscsi (default: 512).
    /// Sizes are in bytes all the same; count=NAME beside offset=NAME counts as the address does
    #[arg(long, value_name = "BYTES")]
    pub unit: Option<Unit>,
}

/// Bytes that an address counts: from 1 to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit(u64);

impl FromStr for Unit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Unit, String> {
        let bytes = parse_size(text)?;
        let sensible = (1..=1 << 30).contains(&bytes);
        sensible
            .then_some(Unit(bytes))
            .ok_or_else(|| format!("{text:?} is no unit of addresses; write 512 or 4K"))
    }
}

/// Reads a trace. `progress` is told of the bytes read.
///
/// # Errors
///
/// [`Error::Trace`] names the line or byte.
pub fn read(path: &Path, description: &Description, progress: &ProgressBar) -> Result<Trace> {
    Ok(read_file(path, description, progress, Recorder::default())?.finish())
}

/// Reads a trace, and keeps a sample of it. With it come the notes, as those of a [`Trace`].
///
/// # Errors
///
/// As with [`read`].
pub fn read_sample(
    path: &Path,
    description: &Description,
    progress: &ProgressBar,
    sampler: Sampler,
) -> Result<(Sample, Vec<String>)> {
    let recorder = read_file(path, description, progress, Recorder::sample(sampler))?;
    recorder.finish_sample().ok_or_else(|| no_references().of(path))
}

/// Reads a file into a recorder.
fn read_file(
    path: &Path,
    description: &Description,
    progress: &ProgressBar,
    recorder: Recorder,
) -> Result<Recorder> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // The length is for the bar alone; a pipe has none.
    progress.set_length(file.metadata().map_or(0, |metadata| metadata.len()));
    let packed = BufReader::with_capacity(1 << 20, progress.wrap_read(file));
    read_packed(packed, path, description, recorder).map_err(|fault| fault.of(path))
}

fn no_references() -> Fault {
    let fix = "name a file with block references, and its format with --format if it has no usual one";
    Fault::new(Place::File, "has no references", fix)
}

/// Reads a trace that may be compressed; `path` is for its name.
fn read_packed(
    mut packed: impl BufRead,
    path: &Path,
    description: &Description,
    mut recorder: Recorder,
) -> Read<Recorder> {
    let mut start = Vec::new();
    let taken = (&mut packed).take(detect::ENOUGH_PACKED).read_to_end(&mut start);
    taken.map_err(|error| Fault::unreadable(Place::Byte(0), &error))?;
    if let Some(fault) = detect::broken_promise(path, &start) {
        return Err(fault);
    }
    let packed = start.as_slice().chain(packed);
    let unchecked = Unchecked::default();
    read_stream(&mut unpack::unpacked(&start, packed, &unchecked)?, path, description, &mut recorder)?;
    if unchecked.get() {
        recorder.note("is compressed without checksums: if it is damaged, that may go unnoticed".into());
    }
    if recorder.references() == 0 { Err(no_references()) } else { Ok(recorder) }
}

/// Reads a stream that is no longer compressed.
fn read_stream(
    input: &mut dyn BufRead,
    path: &Path,
    description: &Description,
    recorder: &mut Recorder,
) -> Read<()> {
    // A compressed stream may give little at first: enough for a guess is asked for.
    let mut bytes = Vec::new();
    let taken = (&mut *input).take(detect::ENOUGH).read_to_end(&mut bytes);
    taken.map_err(|error| Fault::unreadable(Place::Byte(bytes.len() as u64), &error))?;
    if bytes.is_empty() {
        return Ok(());
    }
    let start = Start { bytes: &bytes, whole: (bytes.len() as u64) < detect::ENOUGH };
    let format = match (description.format, &description.columns) {
        (Some(format), _) => format,
        (None, Some(_)) => Format::Csv,
        (None, None) => detect::detect(path, start)?,
    };
    description.fits(format)?;
    let whole = &mut BufReader::with_capacity(1 << 16, bytes.as_slice().chain(input));
    let source = if description.format.is_some() { Source::User } else { Source::Guess };
    let unit = |default| description.unit.map_or(default, |Unit(bytes)| bytes);
    match (format, &description.columns) {
        (Format::OracleGeneral, _) => libcachesim::read_oracle_general(whole, source, recorder),
        (Format::Lcs, _) => libcachesim::read_lcs(whole, recorder),
        (Format::Vscsi, _) => vscsi::read(whole, &bytes, unit(disk::SECTOR_BYTES), recorder),
        (Format::Csv, Some(columns)) => {
            columns.table(&start.lines(), description.separator, unit(1))?.read(whole, recorder)
        }
        (Format::Msr, _) => disk::msr(&start.lines())?.read(whole, recorder),
        (Format::Spc, _) => disk::spc(unit(disk::SECTOR_BYTES)).read(whole, recorder),
        (Format::Arc, _) => disk::arc().read(whole, recorder),
        (Format::Csv, None) => numbers::read(whole, Dialect::Csv, recorder),
        (Format::Lirs, _) => numbers::read(whole, Dialect::Lirs, recorder),
        (Format::References, _) => numbers::read(whole, Dialect::References, recorder),
    }
}

impl Description {
    /// Whether all that was said means something for this format.
    fn fits(&self, format: Format) -> Read<()> {
        let columns = self.columns.as_ref();
        let has_unit = match format {
            Format::Csv => columns.is_some_and(Columns::have_offsets),
            Format::Spc | Format::Vscsi => true,
            _ => false,
        };
        let fault = |reason, fix: &str| Err(Fault::new(Place::File, reason, fix));
        if columns.is_some() && format != Format::Csv {
            let reason = format!("--columns are for csv, and this is {format}");
            return fault(reason, "leave --columns out, or add --format csv");
        }
        if self.separator.is_some() && columns.is_none() {
            let reason = format!("--separator is for csv with columns, and this is {format}");
            return fault(reason, "leave --separator out, or name the columns with --columns");
        }
        if self.unit.is_some() && !has_unit {
            let reason = format!("--unit is for addresses in units, and this is {format} without them");
            return fault(
                reason,
                "leave --unit out, or name the column of addresses with --columns offset=NAME",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
