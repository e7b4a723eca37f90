//! QEMU's disk format, written from a raw image: clusters of nothing but zeros take no room.
//!
//! The tool that does this, `qemu-img`, is in a package of its own that is often not there where QEMU is; and
//! the format is simple as long as nothing is changed, shared or compressed. From its specification,
//! `docs/interop/qcow2.txt` of QEMU, version 3:
//!
//! ```text
//! cluster 0                header
//! 1                        table of reference-count blocks
//! then                     reference-count blocks: a 1 for each cluster of the file
//! then                     L1 table: where the L2 tables are
//! then                     L2 tables: where the clusters of the disk are, 0 for those of zeros
//! then                     those clusters, in their order on the disk
//! ```
//!
//! All numbers are big-endian.

use std::io::{Read, Result, Seek, Write};

/// log2 of [`CLUSTER_BYTES`].
const CLUSTER_BITS: u32 = 16;
/// Bytes in a cluster: QEMU's default.
const CLUSTER_BYTES: usize = 1 << CLUSTER_BITS;
/// Entries of a table that fills a cluster.
const TABLE_ENTRIES: u64 = CLUSTER_BYTES as u64 / 8;
/// Reference counts in a block: 16 bits each.
const COUNTS: u64 = CLUSTER_BYTES as u64 / 2;
/// log2 of a reference count's bits.
const COUNT_ORDER: u32 = 4;
/// Mark of a cluster with one reference.
const COPIED: u64 = 1 << 63;
/// Bytes of the header.
const HEADER_BYTES: u32 = 104;

/// Where the parts of the file begin, in clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    count_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
    end: u64,
    l1_entries: u64,
}

impl Plan {
    /// For a disk of `clusters`, of which `used` are not zeros.
    fn new(clusters: u64, used: u64) -> Plan {
        let l1_entries = clusters.div_ceil(TABLE_ENTRIES);
        let others = 2 + l1_entries.div_ceil(TABLE_ENTRIES) + l1_entries + used;
        // The blocks count themselves as well, so each has room for one cluster less.
        let blocks = others.div_ceil(COUNTS - 1);
        let l1 = 2 + blocks;
        let l2 = l1 + l1_entries.div_ceil(TABLE_ENTRIES);
        let data = l2 + l1_entries;
        Plan { count_blocks: blocks, l1, l2, data, end: data + used, l1_entries }
    }
}

/// Writes the raw image `raw` to `out` as qcow2.
pub fn write(raw: &mut (impl Read + Seek), out: &mut impl Write) -> Result<()> {
    let mut used = Vec::new();
    let bytes = each_cluster(raw, |cluster| {
        used.push(cluster.iter().any(|byte| *byte != 0));
        Ok(())
    })?;
    let plan = Plan::new(used.len() as u64, used.iter().filter(|used| **used).count() as u64);
    out.write_all(&padded(header(bytes, &plan)))?;
    let blocks = (0..plan.count_blocks).map(|block| (2 + block) << CLUSTER_BITS);
    out.write_all(&padded(blocks.flat_map(u64::to_be_bytes).collect()))?;
    let counted = (0..plan.count_blocks * COUNTS).map(|cluster| u16::from(cluster < plan.end));
    out.write_all(&counted.flat_map(u16::to_be_bytes).collect::<Vec<u8>>())?;
    let tables = (0..plan.l1_entries).map(|table| ((plan.l2 + table) << CLUSTER_BITS) | COPIED);
    out.write_all(&padded(tables.flat_map(u64::to_be_bytes).collect()))?;
    let mut next = plan.data;
    let places = used.iter().map(|used| {
        next += u64::from(*used);
        if *used { ((next - 1) << CLUSTER_BITS) | COPIED } else { 0 }
    });
    out.write_all(&padded(places.flat_map(u64::to_be_bytes).collect()))?;
    let mut used = used.iter();
    each_cluster(raw, |cluster| if used.next() == Some(&true) { out.write_all(cluster) } else { Ok(()) })?;
    out.flush()
}

/// Calls `visit` with each cluster, the last filled up with zeros; returns the bytes there are.
fn each_cluster(raw: &mut (impl Read + Seek), mut visit: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    raw.rewind()?;
    let mut bytes = 0;
    loop {
        let mut cluster = Vec::with_capacity(CLUSTER_BYTES);
        let count = raw.by_ref().take(CLUSTER_BYTES as u64).read_to_end(&mut cluster)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes += count as u64;
        cluster.resize(CLUSTER_BYTES, 0);
        visit(&cluster)?;
    }
}

fn header(disk_bytes: u64, plan: &Plan) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    let mut put32 = |value: u32| header.extend(value.to_be_bytes());
    // Version; then no backing file: its offset and the length of its name.
    [3, 0, 0, 0, CLUSTER_BITS].into_iter().for_each(&mut put32);
    header.extend(disk_bytes.to_be_bytes());
    header.extend([0, plan.l1_entries as u32].into_iter().flat_map(u32::to_be_bytes)); // not encrypted
    header.extend([plan.l1 << CLUSTER_BITS, 1 << CLUSTER_BITS].into_iter().flat_map(u64::to_be_bytes));
    header.extend([1, 0].into_iter().flat_map(u32::to_be_bytes)); // clusters of the table of blocks; no snapshots
    header.extend([0u64; 4].into_iter().flat_map(u64::to_be_bytes)); // nor their offset, nor features
    header.extend([COUNT_ORDER, HEADER_BYTES].into_iter().flat_map(u32::to_be_bytes));
    header
}

/// Filled up with zeros to whole clusters.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(CLUSTER_BYTES), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn word(file: &[u8], at: u64) -> u64 {
        u64::from_be_bytes(file[at as usize..][..8].try_into().unwrap())
    }

    /// Follows the tables from the header to the byte at `address` of the disk.
    fn byte(file: &[u8], address: u64) -> u8 {
        let (cluster, offset) = (address >> CLUSTER_BITS, address % CLUSTER_BYTES as u64);
        let l2 = word(file, word(file, 40) + cluster / TABLE_ENTRIES * 8) & !COPIED;
        match word(file, l2 + cluster % TABLE_ENTRIES * 8) & !COPIED {
            0 => 0,
            place => file[(place + offset) as usize],
        }
    }

    #[test]
    fn every_byte_is_found_again_and_zeros_take_no_room() {
        let mut raw = vec![0u8; 40 * CLUSTER_BYTES + 512];
        for at in [0, 5 * CLUSTER_BYTES + 7, 39 * CLUSTER_BYTES, 40 * CLUSTER_BYTES + 511] {
            raw[at] = (at % 251) as u8 + 1;
        }
        let mut file = Vec::new();
        write(&mut Cursor::new(&raw), &mut file).unwrap();
        assert_eq!(word(&file, 24), raw.len() as u64);
        assert!((0..raw.len()).step_by(7).chain([raw.len() - 1]).all(|at| byte(&file, at as u64) == raw[at]));
        // Header, two of reference counts, L1, L2, and the four.
        assert_eq!(file.len(), 9 * CLUSTER_BYTES);
    }

    #[test]
    fn every_cluster_of_the_file_is_counted() {
        for used in [0, 1, 7, COUNTS / 2, COUNTS - 5, COUNTS - 4, COUNTS, 3 * COUNTS - 6, 1_000_000] {
            let plan = Plan::new(used.max(1) * 3, used);
            assert!(plan.end <= plan.count_blocks * COUNTS, "{plan:?}");
            assert_eq!(plan.l1, 2 + plan.count_blocks);
        }
    }
}
