//! Text with the requests of disks, in columns that are always the same.

use super::fault::{Place, Read};
use super::fields::{Fields, Separator, is_numeric};
use super::table::{Address, Count, Length, Positions, Table};

/// Bytes of a sector, in which many traces count.
pub(super) const SECTOR_BYTES: u64 = 512;

/// The format of the Microsoft Research traces (D. Narayanan, A. Donnelly, A. Rowstron, "Write off-loading:
/// practical power management for enterprise storage", FAST 2008):
/// `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`, offsets and sizes in bytes. All blocks that
/// a request touches are referred to, in order; reads and writes alike.
pub(super) fn msr(sample: &[(&[u8], Place)]) -> Read<Table> {
    let first = first(sample, Separator::Byte(b','))?;
    let heading = first
        .as_ref()
        .filter(|(fields, _)| fields.get(4).is_some_and(|field| field.eq_ignore_ascii_case(b"offset")));
    Ok(Table {
        separator: Separator::Byte(b','),
        positions: Positions {
            address: Address::Offset { at: 4, unit: 1 },
            length: Length::Bytes(5),
            files: vec![1, 2],
            kind: Some((3, &["Read", "Write"])),
        },
        fields: Some(Count::Exactly(7)),
        heading: heading.map(|(_, place)| *place),
        noted: false,
    })
}

/// The format of the Storage Performance Council ("SPC trace file format specification", revision 1.0.1,
/// 2002): `ASU,LBA,Size,Opcode,Timestamp` and fields that users add. Addresses count `unit` bytes, which the
/// format leaves to the description of each trace: 512 in all that are public. Sizes are in bytes.
pub(super) fn spc(unit: u64) -> Table {
    Table {
        separator: Separator::Byte(b','),
        positions: Positions {
            address: Address::Offset { at: 1, unit },
            length: Length::Bytes(2),
            files: vec![0],
            kind: Some((3, &["R", "W"])),
        },
        fields: Some(Count::AtLeast(5)),
        heading: None,
        noted: false,
    }
}

/// The format of the traces of the ARC paper (N. Megiddo, D. S. Modha, "ARC: a self-tuning, low overhead
/// replacement cache", FAST 2003): first block, blocks, a number that means nothing, number of the request,
/// with white space between them.
pub(super) fn arc() -> Table {
    Table {
        separator: Separator::Space,
        positions: Positions {
            address: Address::Block(0),
            length: Length::Units(1),
            files: Vec::new(),
            kind: None,
        },
        fields: Some(Count::Exactly(4)),
        heading: None,
        noted: false,
    }
}

/// The fields of the first line of a sample.
fn first(sample: &[(&[u8], Place)], separator: Separator) -> Read<Option<(Fields, Place)>> {
    let Some((line, place)) = sample.first() else { return Ok(None) };
    let mut fields = Fields::default();
    fields.split(line, separator, *place)?;
    Ok(Some((fields, *place)))
}

/// Whether a line looks like one of msr: seven fields, the fourth of which says what was done.
pub(super) fn is_msr(line: &[u8]) -> bool {
    let mut fields = Fields::default();
    let kinds: [&[u8]; 3] = [b"read", b"write", b"type"];
    fields.split(line, Separator::Byte(b','), Place::File).is_ok()
        && fields.len() == 7
        && kinds.iter().any(|kind| fields.get(3).is_some_and(|field| field.eq_ignore_ascii_case(kind)))
}

/// Whether a line looks like one of spc: three numbers, what was done, a time.
pub(super) fn is_spc(line: &[u8]) -> bool {
    let mut fields = Fields::default();
    let numeric = |fields: &Fields, at: usize| fields.get(at).is_some_and(is_numeric);
    fields.split(line, Separator::Byte(b','), Place::File).is_ok()
        && fields.len() >= 5
        && [0, 1, 2, 4].iter().all(|at| numeric(&fields, *at))
        && fields.get(3).is_some_and(|field| matches!(field, b"r" | b"R" | b"w" | b"W"))
}

/// Whether a line looks like one of the ARC traces: four numbers with white space between them.
pub(super) fn is_arc(line: &[u8]) -> bool {
    let mut fields = Fields::default();
    fields.split(line, Separator::Space, Place::File).is_ok()
        && fields.len() == 4
        && fields.iter().all(is_numeric)
}
