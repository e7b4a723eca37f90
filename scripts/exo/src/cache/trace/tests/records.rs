//! Binary records: what is refused, LCS, vscsi.

use super::*;

/// A record of oracleGeneral.
pub(super) fn record(time_s: u32, object: u64, size: u32, next: i64) -> Vec<u8> {
    [&time_s.to_le_bytes()[..], &object.to_le_bytes(), &size.to_le_bytes(), &next.to_le_bytes()].concat()
}

/// An LCS file of this version with these objects.
pub(super) fn lcs(version: usize, objects: &[u64]) -> Vec<u8> {
    const FEATURES: [usize; 8] = [0, 0, 0, 1, 2, 4, 8, 16];
    let mut bytes = vec![0; 8192];
    bytes[..8].copy_from_slice(&libcachesim::LCS_MAGIC);
    bytes[8184..].copy_from_slice(&libcachesim::LCS_MAGIC);
    bytes[8] = version as u8;
    bytes[24..32].copy_from_slice(&(objects.len() as i64).to_le_bytes());
    for object in objects {
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(object.to_le_bytes());
        match version {
            1 | 2 => bytes.extend(4096_u32.to_le_bytes()),
            _ => bytes.extend(4096_i64.to_le_bytes()),
        }
        bytes.extend(vec![1; if version > 1 { 4 } else { 0 } + if version > 2 { 4 } else { 0 }]);
        bytes.extend((-1_i64).to_le_bytes());
        bytes.extend(vec![3; 4 * FEATURES[version - 1]]);
    }
    bytes
}

/// A file of vscsi records of this version with these addresses and lengths.
pub(super) fn vscsi(version: u8, requests: &[(u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (address, length)) in (0_u32..).zip(requests) {
        let command = [0x28, 0, 0, version];
        let counts = [number.to_le_bytes(), length.to_le_bytes(), 1_u32.to_le_bytes()].concat();
        let (first, second) =
            if version == 1 { (&counts[..], &command[..]) } else { (&command[..], &counts[..]) };
        bytes.extend([first, second, &address.to_le_bytes(), &1_000_000_u64.to_le_bytes()].concat());
        bytes.extend(vec![9; if version == 1 { 0 } else { 8 }]);
    }
    bytes
}

#[test]
fn foreign_binaries_are_no_records() {
    let fine = [record(1, 5, 10, 2), record(1, 6, 10, -1), record(2, 5, 10, i64::MAX)].concat();
    assert_eq!(read_bytes("a", &fine, None, None).unwrap(), [5, 6, 5]);
    let falls = [record(2, 5, 10, -1), record(1, 6, 10, -1)].concat();
    let empty = [record(2, 5, 10, -1), record(2, 6, 0, -1)].concat();
    let back = [record(2, 5, 10, 1), record(2, 6, 10, 1)].concat();
    let negative = [record(2, 5, 10, -1), record(2, 6, 10, -7)].concat();
    let far = [record(2, 5, 10, 1 << 50), record(2, 6, 10, -1)].concat();
    for wrong in [&falls[..], &empty, &back, &negative, &far, &fine[..50], &[0; 240], &[0xff; 240]] {
        let message = failure("a", wrong, None, None);
        assert!(message.contains("no format that is known") && message.contains("--format"), "{message}");
    }
    for (wrong, what) in [(&falls, "time falls from 2 to 1"), (&empty, "0 bytes")] {
        let message = failure("a.oracleGeneral", wrong, None, None);
        assert!(message.contains(what) && message.contains("byte 24"), "{message}");
        let told = read_bytes("a", wrong, Some(Format::OracleGeneral), None).unwrap();
        assert_eq!(told, [5, 6], "who says what it is is believed");
    }
    let message = failure("a", &back, Some(Format::OracleGeneral), None);
    assert!(message.contains("byte 24") && message.contains("number 1"), "{message}");
}

#[test]
fn every_version_of_lcs_is_read() {
    for version in 1..=8 {
        let file = lcs(version, &[5, u64::MAX, 5]);
        assert_eq!(read_bytes("a", &file, None, None).unwrap(), [5, u64::MAX, 5], "version {version}");
        let cut = failure("a", &file[..file.len() - 1], None, None);
        assert!(cut.contains("bytes of a record"), "{cut}");
    }
    let file = lcs(1, &[5, 6]);
    let short = failure("a.lcs.zst", &packed::zstd(&file[..file.len() - 24]), None, None);
    assert!(short.contains("1 records") && short.contains("says 2"), "{short}");
    let mut newer = file.clone();
    newer[8] = 9;
    assert!(failure("a", &newer, None, None).contains("version 9"));
    let mut early = file.clone();
    early[8184] = 0;
    assert!(failure("a", &early, None, None).contains("early version"));
    assert!(failure("a", b"1\n", Some(Format::Lcs), None).contains("does not begin as LCS"));
}

#[test]
fn both_versions_of_vscsi_are_read() {
    for version in [1, 2] {
        let file = vscsi(version, &[(8, 4096), (15, 1024), (8, 512)]);
        assert_eq!(read_bytes("w106", &file, None, None).unwrap(), [1, 1, 2, 1], "version {version}");
        let cut = failure("a.vscsi", &file[..file.len() - 1], None, None);
        assert!(cut.contains("bytes of a record"), "{cut}");
        let odd = failure("a.vscsi", &vscsi(version, &[(8, 4096), (8, 100)]), None, None);
        assert!(odd.contains("a request of 100 bytes"), "{odd}");
    }
    let mixed = [vscsi(1, &[(1, 512)]), vscsi(2, &[(1, 512), (2, 512)])].concat();
    assert!(failure("a.vscsi", &mixed, None, None).contains("byte 32"), "versions are not mixed");
    assert!(failure("a.vscsi", b"1\n", None, None).contains("no record of vscsi"));
}
