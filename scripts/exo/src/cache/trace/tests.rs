mod altered;
mod damage;
mod packed;
mod records;
mod text;

use super::*;
use crate::error::Result;
use clap::ValueEnum;
use proptest::prelude::*;
use std::io::Write;

/// Reads bytes as if they were a file of this name, as `description` says.
fn read_as(name: &str, bytes: &[u8], description: &Description) -> Result<Vec<u64>> {
    let path = Path::new(name);
    let recorder =
        read_packed(bytes, path, description, Recorder::default()).map_err(|fault| fault.of(path))?;
    Ok(recorder.finish().references().collect())
}

/// A description of columns and what separates them.
fn of_columns(columns: &str, separator: Option<&str>, unit: Option<&str>) -> Description {
    Description {
        columns: Some(columns.parse().expect("columns")),
        separator: separator.map(|text| text.parse().expect("a separator")),
        unit: unit.map(|text| text.parse().expect("a unit")),
        ..Description::default()
    }
}

/// The message and the advice of an error.
fn said(result: Result<Vec<u64>>) -> String {
    let error = result.expect_err("an error");
    let fix = error.fix().expect("advice");
    format!("{error}; {fix}")
}

/// Reads bytes as if they were a file of this name.
fn read_bytes(name: &str, bytes: &[u8], format: Option<Format>, columns: Option<&str>) -> Result<Vec<u64>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let columns = columns.map(|text| text.parse().unwrap());
    let description = Description { format, columns, ..Description::default() };
    let trace = read(&path, &description, &ProgressBar::hidden())?;
    Ok(trace.references().collect())
}

/// The message and the advice of a reading that must fail.
fn failure(name: &str, bytes: &[u8], format: Option<Format>, columns: Option<&str>) -> String {
    said(read_bytes(name, bytes, format, columns))
}

fn records(objects: &[u64]) -> Vec<u8> {
    let record = |object: &u64| {
        let (time, bytes, next) = (7_u32.to_le_bytes(), 4096_u32.to_le_bytes(), (-1_i64).to_le_bytes());
        [&time[..], &object.to_le_bytes(), &bytes, &next].concat()
    };
    objects.iter().flat_map(record).collect()
}

#[test]
fn every_format_is_recognized_and_read() {
    let msr = b"128166372003061629,src1,0,Read,8192,4096,151\n128166372016382155,src1,0,Write,4095,2,9\n\
                128166372016382156,src1,1,Read,0,12288,9\n";
    let cases: [(&str, Vec<u8>, Vec<u64>); 7] = [
        ("a.csv", b"7\n8\n\n# note\n7\n".to_vec(), vec![7, 8, 7]),
        ("a.txt", b"7\r\n18446744073709551615\r\n".to_vec(), vec![7, u64::MAX]),
        ("a.trc", b"*\n1\n* two\n2\n".to_vec(), vec![1, 2]),
        ("a", b"# hyperexo references 1\n4294967297\n4294967298\n".to_vec(), vec![1 << 32 | 1, 1 << 32 | 2]),
        ("a", b"# hyperexo references 2\n4294967297+2\n7\n".to_vec(), vec![1 << 32 | 1, 1 << 32 | 2, 7]),
        ("a.oracleGeneral.bin", records(&[5, u64::MAX, 5]), vec![5, u64::MAX, 5]),
        ("hour", msr.to_vec(), vec![2, 0, 1, 1 << 32, 1 << 32 | 1, 1 << 32 | 2]),
    ];
    for (name, bytes, expected) in &cases {
        assert_eq!(read_bytes(name, bytes, None, None).unwrap(), *expected, "{name}");
    }
}

#[test]
fn binary_records_are_recognized_whatever_their_name() {
    assert_eq!(read_bytes("w106", &records(&[1, 2]), None, None).unwrap(), [1, 2]);
    let message = failure("noise", &[0xff; 100].map(|byte| byte ^ 0x80), None, None);
    assert!(message.contains("binary") && message.contains("--format"), "{message}");
}

#[test]
fn compressed_traces_are_unpacked() {
    let text = b"1\n2\n1\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    assert_eq!(read_bytes("a.csv.gz", &gzip.finish().unwrap(), None, None).unwrap(), [1, 2, 1]);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(records(&[3, 4]).as_slice(), level);
    assert_eq!(read_bytes("a.oracleGeneral.zst", &zstd, None, None).unwrap(), [3, 4]);
    let cut = failure("a.oracleGeneral.zst", &zstd[..zstd.len() / 2], None, None);
    assert!(cut.contains("cannot be read") && cut.contains("byte"), "{cut}");
}

#[test]
fn named_columns() {
    let text = b"when,disk,lba,n\n1,sda,10,2\n2,sdb,10,1\n3,sda,11,1\n";
    let by_block = read_bytes("a.csv", text, None, Some("block=lba,count=n,file=disk")).unwrap();
    assert_eq!(by_block, [10, 11, 1 << 32 | 10, 11]);
    assert_eq!(read_bytes("a.csv", text, None, Some("block=3")).unwrap(), [10, 10, 11]);
    let bytes = read_bytes("a.csv", b"0,4095,2\n", None, Some("offset=2,size=3")).unwrap();
    assert_eq!(bytes, [0, 1], "a file without a head; the request touches two blocks");
    let far = read_bytes("a.csv", b"18446744073709551615\n1\n", None, Some("block=1")).unwrap_err();
    assert!(far.to_string().contains("line 1"), "{far}");
    assert_eq!(read_bytes("a.csv", b"4611686018427387904\n", None, Some("block=1")).unwrap(), [1 << 62]);
}

#[test]
fn columns_are_judged() {
    let wrong = "lba block= block=a,offset=b size=a block=a,size=b rows=1 block=1,block=2 key=1,block=2 key=1,size=2 \
                 offset=1,size=2,count=3";
    for wrong in wrong.split(' ') {
        assert!(wrong.parse::<Columns>().is_err(), "{wrong}");
    }
    let message = failure("a.csv", b"a,b\n1,2\n", None, Some("block=c"));
    assert!(message.contains("line 1") && message.contains("\"c\"") && message.contains("a, b"), "{message}");
    let message = failure("a.csv", b"a,b\n1,2\n1,3\n1,x\n", None, Some("block=b"));
    assert!(message.contains("line 4") && message.contains("\"x\""), "{message}");
    let message = failure("a.trc", b"1\n", Some(Format::Lirs), Some("block=1"));
    assert!(message.contains("lirs") && message.contains("--format csv"), "{message}");
}

#[test]
fn faults_name_the_place_and_the_remedy() {
    let csv = |text: &str| failure("a.csv", text.as_bytes(), Some(Format::Csv), None);
    assert!(csv("1\nx\n").contains("line 2: \"x\" is no block number"), "{}", csv("1\nx\n"));
    assert!(csv("1\n-2\n").contains("line 2"));
    assert!(csv("1,2\n").contains("--columns"));
    assert!(csv("18446744073709551616\n").contains("larger than 18446744073709551615"));
    assert!(csv(&"1".repeat(5000)).contains("longer than 1024 bytes"));
    let cut = failure("a.oracleGeneral", &records(&[1, 2])[..40], None, None);
    assert!(cut.contains("byte 24") && cut.contains("16 of the 24") && cut.contains("head -c 24"), "{cut}");
    let newer = failure("a", b"# hyperexo references 3\n1\n", None, None);
    assert!(newer.contains("line 1") && newer.contains("version 3"), "{newer}");
    let untitled = failure("a", b"1\n", Some(Format::References), None);
    assert!(untitled.contains("--format csv"), "{untitled}");
    let unknown = failure("a", b"when,lba\n1,2\n", None, None);
    assert!(unknown.contains("when,lba") && unknown.contains("--format"), "{unknown}");
}

#[test]
fn requests_that_cannot_be_meant_are_refused() {
    let msr = |offset: &str, size: &str| {
        failure("a", format!("1,h,0,Read,0,1,1\n1,h,0,Read,{offset},{size},1\n").as_bytes(), None, None)
    };
    assert!(msr("18446744073709551615", "4096").contains("line 2: 4096 bytes from 18446744073709551615"));
    assert!(msr("0", "18446744073709551615").contains("line 2: a request of 4503599627370496 blocks"));
    assert!(msr("18014398509481984", "1").contains("line 2: 1 blocks from 4398046511104"));
    assert!(msr("99999999999999999999", "1").contains("no number below 2^64"));
    assert!(msr("x", "1").contains("column 5"));
    let short = failure("a", b"1,h,0,Read,0,1,1\n1,h\n", None, None);
    assert!(short.contains("line 2: 2 fields instead of 7"), "{short}");
}

#[test]
fn empty_files_have_no_references() {
    let formats =
        [None, Some(Format::Csv), Some(Format::Msr), Some(Format::Lirs), Some(Format::OracleGeneral)];
    for format in formats {
        let message = failure("a", b"", format, None);
        assert!(message.contains("has no references"), "{format:?}: {message}");
    }
    assert!(failure("a", b"# hyperexo references 1\n", None, None).contains("has no references"));
    assert!(
        failure("a", b"Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime\n", None, None)
            .contains("has no references")
    );
}

proptest! {
    /// Whatever the bytes: an answer or an error, never a panic; and numbers come back as they were written.
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..600), format in 0..10usize) {
        let format = Format::value_variants().get(format).copied();
        let _ = read_bytes("a", &bytes, format, None);
        let _ = read_bytes("a", &bytes, None, Some("block=1,count=2"));
        let _ = read_bytes("a", &bytes, None, Some("key=2"));
    }

    #[test]
    fn numbers_survive_each_format(blocks in proptest::collection::vec(any::<u64>(), 1..50)) {
        let lines: String = blocks.iter().map(|block| format!("{block}\n")).collect();
        prop_assert_eq!(&read_bytes("a.csv", lines.as_bytes(), None, None).unwrap(), &blocks);
        let titled = format!("{}1\n{lines}", crate::recorded::TITLE);
        prop_assert_eq!(&read_bytes("a", titled.as_bytes(), None, None).unwrap(), &blocks);
        prop_assert_eq!(&read_bytes("a.oracleGeneral", &records(&blocks), None, None).unwrap(), &blocks);
    }
}
