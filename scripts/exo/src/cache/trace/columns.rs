//! Text with columns: `csv` with columns that the user names, and the format of the Microsoft Research
//! traces.

use super::{Fault, Place, Recorder};
use std::collections::HashMap;
use std::io::BufRead;
use std::str::FromStr;

/// Which columns of a csv file hold what: `block=LBA`, or `offset=Offset,size=Size,file=Disk`. A column is
/// named by its head or by its number, from 1; a file whose columns are all named by numbers may have a head
/// or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Number of the first block.
    block: Option<String>,
    /// Blocks touched; 1 if left out.
    count: Option<String>,
    /// First byte.
    offset: Option<String>,
    /// Bytes touched; 1 if left out.
    size: Option<String>,
    /// File or disk: a number, or any name. All the same if left out.
    file: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for word in text.split(',') {
            let (key, name) = word.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
                format!("{word:?} is not KEY=COLUMN; write block=NAME or offset=NAME,size=NAME")
            })?;
            let place = match key {
                "block" => &mut columns.block,
                "count" => &mut columns.count,
                "offset" => &mut columns.offset,
                "size" => &mut columns.size,
                "file" => &mut columns.file,
                _ => {
                    return Err(format!(
                        "unknown key {key:?}; there are block, count, offset, size and file"
                    ));
                }
            };
            if place.replace(name.to_owned()).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        let by_blocks = columns.block.is_some() && columns.offset.is_none() && columns.size.is_none();
        let by_bytes = columns.offset.is_some() && columns.block.is_none() && columns.count.is_none();
        if by_blocks || by_bytes {
            Ok(columns)
        } else {
            Err("name either block (and count), or offset (and size)".into())
        }
    }
}

/// Where in a line the values are.
struct Positions {
    /// Of the address, and whether it is in bytes.
    address: (usize, Unit),
    length: Option<usize>,
    files: Vec<usize>,
}

/// What addresses and lengths count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Blocks,
    Bytes,
}

impl Columns {
    /// Reads all lines.
    pub(super) fn read(&self, input: &mut dyn BufRead, recorder: &mut Recorder) -> Result<(), Fault> {
        read_lines(input, recorder, |first| self.positions(first))
    }

    /// Where the columns are, given the first line; and whether that is a head.
    fn positions(&self, first: &csv::ByteRecord) -> Result<(Positions, bool), Fault> {
        let find = |name: &Option<String>| name.as_ref().map(|name| position(name, first)).transpose();
        let (name, unit) = match (&self.block, &self.offset) {
            (Some(_), _) => (&self.block, Unit::Blocks),
            (None, _) => (&self.offset, Unit::Bytes),
        };
        let length = if unit == Unit::Blocks { &self.count } else { &self.size };
        let Some(address) = find(name)? else {
            return Err(Fault::new(Place::File, "no column of addresses is named", "--columns block=NAME"));
        };
        let positions = Positions {
            address: (address, unit),
            length: find(length)?,
            files: find(&self.file)?.into_iter().collect(),
        };
        let head = first.get(address).is_none_or(|field| number(field).is_none());
        Ok((positions, head))
    }
}

/// The position of a column that is named by its head or by its number from 1. A number is never taken for a
/// head: the first line may be one of numbers.
fn position(name: &str, first: &csv::ByteRecord) -> Result<usize, Fault> {
    let heads = || first.iter().map(|head| String::from_utf8_lossy(head.trim_ascii()).into_owned());
    let by_name = heads().position(|head| head.eq_ignore_ascii_case(name));
    let by_number =
        name.parse().ok().and_then(|number: usize| number.checked_sub(1)).filter(|at| *at < first.len());
    by_number.or(by_name).ok_or_else(|| {
        let reason = format!("no column {name:?}");
        let shown: Vec<String> = heads().take(20).collect();
        let fix = format!(
            "the first line has {} fields: {}; name one, or its number from 1",
            first.len(),
            shown.join(", ")
        );
        Fault::new(Place::Line(1), reason, fix)
    })
}

/// Reads the format of the Microsoft Research traces (D. Narayanan, A. Donnelly, A. Rowstron, "Write
/// off-loading: practical power management for enterprise storage", FAST 2008):
/// `Timestamp,Hostname,DiskNumber,Type,Offset,Size, ResponseTime`, offsets and sizes in bytes. All blocks
/// that a request touches are referred to, in order; reads and writes alike.
pub(super) fn read_msr(input: &mut dyn BufRead, recorder: &mut Recorder) -> Result<(), Fault> {
    read_lines(input, recorder, |first| {
        if first.len() != 7 {
            let reason = format!("{} fields instead of the 7 of msr", first.len());
            return Err(Fault::new(
                Place::Line(1),
                reason,
                "if it is another csv, name its columns with --columns",
            ));
        }
        let head = number(&first[4]).is_none() && first[4].eq_ignore_ascii_case(b"offset");
        Ok((Positions { address: (4, Unit::Bytes), length: Some(5), files: vec![1, 2] }, head))
    })
}

/// Reads lines whose positions `judge` finds in the first of them, which it may call a head.
fn read_lines(
    input: &mut dyn BufRead,
    recorder: &mut Recorder,
    judge: impl FnOnce(&csv::ByteRecord) -> Result<(Positions, bool), Fault>,
) -> Result<(), Fault> {
    let mut lines =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).comment(Some(b'#')).from_reader(input);
    let mut line = csv::ByteRecord::new();
    let mut next = |line: &mut csv::ByteRecord| {
        lines.read_byte_record(line).map_err(|error| {
            let at = error.position().map_or(Place::File, |position| Place::Line(position.line()));
            Fault::new(at, format!("cannot be read: {error}"), "fetch or record the file again")
        })
    };
    if !next(&mut line)? {
        return Ok(());
    }
    let (positions, head) = judge(&line)?;
    let mut files = Files::default();
    if !head {
        positions.record(&line, &mut files, recorder)?;
    }
    while next(&mut line)? {
        positions.record(&line, &mut files, recorder)?;
    }
    Ok(())
}

impl Positions {
    /// Records what a line refers to.
    fn record(
        &self,
        line: &csv::ByteRecord,
        files: &mut Files,
        recorder: &mut Recorder,
    ) -> Result<(), Fault> {
        let place = Place::Line(line.position().map_or(0, csv::Position::line));
        let value = |position: usize| {
            let field = line.get(position).unwrap_or_default();
            number(field).ok_or_else(|| {
                let shown: String = String::from_utf8_lossy(field).chars().take(40).collect();
                let reason = format!("column {} has {shown:?}, which is no number below 2^64", position + 1);
                Fault::new(place, reason, "correct or remove the line, or name other columns")
            })
        };
        let (position, unit) = self.address;
        let first = value(position)?;
        let length = self.length.map_or(Ok(1), value)?;
        let file = files.number(self.files.iter().map(|position| line.get(*position).unwrap_or_default()));
        match unit {
            Unit::Blocks => recorder.run((!self.files.is_empty()).then_some(file), first, length, place),
            Unit::Bytes => recorder.bytes(file, first, length, place),
        }
    }
}

/// Numbers for files or disks, in the order in which their names appear.
#[derive(Default)]
struct Files {
    known: HashMap<Vec<u8>, u64>,
    name: Vec<u8>,
}

impl Files {
    /// The number of the file with this name, which may be in several columns.
    fn number<'f>(&mut self, fields: impl Iterator<Item = &'f [u8]>) -> u64 {
        self.name.clear();
        for field in fields {
            self.name.extend_from_slice(field.trim_ascii());
            self.name.push(b',');
        }
        if let Some(number) = self.known.get(&self.name) {
            return *number;
        }
        let number = self.known.len() as u64;
        self.known.insert(self.name.clone(), number);
        number
    }
}

/// A decimal number.
fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}
