//! Text with columns that the user names.

use super::fault::{Fault, Place, Read};
use super::fields::{Fields, Separator, is_numeric};
use super::table::{Address, Length, Positions, Table};
use std::str::FromStr;

/// Which columns of a csv file hold what: `block=LBA`, or `offset=Offset,size=Size,file=Disk`. A column is
/// named by its head or by its number, from 1; a file whose columns are all named by numbers may have a head
/// or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Number of the first block; or keys of text, if that is what the column holds.
    block: Option<String>,
    /// Keys: any text.
    key: Option<String>,
    /// Blocks touched, or units of the offset; 1 if left out.
    count: Option<String>,
    /// First byte, or unit.
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
                "key" => &mut columns.key,
                "count" => &mut columns.count,
                "offset" => &mut columns.offset,
                "size" => &mut columns.size,
                "file" => &mut columns.file,
                _ => {
                    return Err(format!(
                        "unknown key {key:?}; there are block, key, count, offset, size and file"
                    ));
                }
            };
            if place.replace(name.to_owned()).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        let given = [&columns.block, &columns.key, &columns.offset, &columns.count, &columns.size];
        match given.map(Option::is_some) {
            [true, false, false, _, false]
            | [false, true, false, false, false]
            | [false, false, true, true, false]
            | [false, false, true, false, _] => Ok(columns),
            _ => Err("name either block (and count), or offset (and size, or count), or key".into()),
        }
    }
}

impl Columns {
    /// Whether the addresses are offsets.
    pub(super) fn have_offsets(&self) -> bool {
        self.offset.is_some()
    }

    /// How to read a file that begins with the lines of `sample`, whose offsets count `unit` bytes.
    pub(super) fn table(
        &self,
        sample: &[(&[u8], Place)],
        separator: Option<Separator>,
        unit: u64,
    ) -> Read<Table> {
        let texts: Vec<&[u8]> = sample.iter().map(|(line, _)| *line).collect();
        let separator = separator.unwrap_or_else(|| Separator::detect(&texts));
        let mut lines = Vec::new();
        for (line, place) in sample {
            let mut fields = Fields::default();
            fields.split(line, separator, *place)?;
            lines.push((fields, *place));
        }
        let Some(((first, place), rest)) = lines.split_first() else {
            let fix = "name a file with block references, and remove what comes before them";
            return Err(Fault::new(Place::File, "has no references at its beginning", fix));
        };
        let head = Head { first, place: *place, separator };
        let find = |name: &Option<String>| name.as_ref().map(|name| head.find(name)).transpose();
        let named = |name: &Option<String>| name.as_ref().is_some_and(|name| head.is_named(name));
        let by_name = [&self.block, &self.key, &self.offset, &self.count, &self.size, &self.file]
            .into_iter()
            .any(named);
        let heading = by_name || is_heading(first, rest);
        let data = if heading { rest } else { lines.as_slice() };
        let (address, length) = match (find(&self.block)?, find(&self.key)?, find(&self.offset)?) {
            (Some(at), _, _) if self.count.is_none() && has_keys(at, data) => (Address::Key(at), Length::One),
            (Some(at), _, _) => (Address::Block(at), find(&self.count)?.map_or(Length::One, Length::Units)),
            (_, Some(at), _) => (Address::Key(at), Length::One),
            (_, _, Some(at)) => {
                let units = find(&self.count)?.map(Length::Units);
                let bytes = find(&self.size)?.map(Length::Bytes);
                (Address::Offset { at, unit }, units.or(bytes).unwrap_or(Length::One))
            }
            _ => {
                return Err(Fault::new(
                    Place::File,
                    "no column of addresses is named",
                    "--columns block=NAME",
                ));
            }
        };
        let positions =
            Positions { address, length, files: find(&self.file)?.into_iter().collect(), kind: None };
        let heading = heading.then_some(*place);
        Ok(Table { separator, positions, fields: None, heading, noted: heading.is_some() && !by_name })
    }
}

/// The first line, in which columns are looked for.
struct Head<'f> {
    first: &'f Fields,
    place: Place,
    separator: Separator,
}

impl Head<'_> {
    fn by_number(&self, name: &str) -> Option<usize> {
        let number: usize = name.parse().ok()?;
        number.checked_sub(1).filter(|at| *at < self.first.len())
    }

    fn by_name(&self, name: &str) -> Option<usize> {
        self.first.iter().position(|head| head.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether a column has this name in the first line.
    fn is_named(&self, name: &str) -> bool {
        self.by_number(name).is_none() && self.by_name(name).is_some()
    }

    /// The position of a column that is named by its head or by its number from 1. A number is never taken
    /// for a head: the first line may be one of numbers.
    fn find(&self, name: &str) -> Read<usize> {
        self.by_number(name).or_else(|| self.by_name(name)).ok_or_else(|| {
            let heads = self.first.iter().map(|head| String::from_utf8_lossy(head).into_owned());
            let shown: Vec<String> = heads.take(20).collect();
            let fix = format!(
                "between {}, the line has {} fields: {}; name one, or its number from 1; for other fields, \
                 --separator",
                self.separator,
                self.first.len(),
                shown.join(", ")
            );
            Fault::new(self.place, format!("no column {name:?}"), fix)
        })
    }
}

/// Whether the first line is a heading, though nobody has named a column in it: all its fields are names, and
/// below one of them most lines have numbers. A line with a number in it is never a heading, be it as damaged
/// as it may: it would be lost in silence.
fn is_heading(first: &Fields, rest: &[(Fields, Place)]) -> bool {
    let is_name = |field: &[u8]| {
        let text = std::str::from_utf8(field).unwrap_or_default();
        field.is_empty() || text.starts_with(|first: char| first.is_alphabetic() || "_%(#".contains(first))
    };
    let numbers_below = |at: usize| {
        let below = rest.iter().filter_map(|(fields, _)| fields.get(at));
        let (numbers, all) =
            below.fold((0, 0), |(numbers, all), field| (numbers + usize::from(is_numeric(field)), all + 1));
        numbers * 2 > all
    };
    first.iter().all(is_name)
        && (0..first.len())
            .any(|at| first.get(at).is_some_and(|field| !field.is_empty()) && numbers_below(at))
}

/// Whether a column holds keys of text: most of its fields are no numbers.
fn has_keys(at: usize, lines: &[(Fields, Place)]) -> bool {
    let fields = lines.iter().filter_map(|(fields, _)| fields.get(at)).filter(|field| !field.is_empty());
    let (numbers, all) =
        fields.fold((0, 0), |(numbers, all), field| (numbers + usize::from(is_numeric(field)), all + 1));
    numbers * 2 < all
}
