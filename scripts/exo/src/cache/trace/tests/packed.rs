//! Compressed files: what may follow one another, and what must be told.

use super::*;

/// A zstd frame with a checksum.
pub(super) fn zstd(contents: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let frame = ruzstd::encoding::compress_to_vec(contents, level);
    assert!(frame[4] & 1 << 2 != 0, "the frame has a checksum");
    frame
}

pub(super) fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn xz(contents: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(0);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

/// A skippable zstd frame.
pub(super) fn skippable(nibble: u8, contents: &[u8]) -> Vec<u8> {
    let length = (contents.len() as u32).to_le_bytes();
    [&[0x50 | nibble, 0x2a, 0x4d, 0x18], &length[..], contents].concat()
}

fn read_packed_text(bytes: &[u8]) -> Result<Vec<u64>> {
    read_as("a", bytes, &Description::default())
}

#[test]
fn all_zstd_frames_are_read() {
    let (one, two) = (zstd(b"1\n2\n"), zstd(b"3\n"));
    assert_eq!(read_packed_text(&[&one[..], &two].concat()).unwrap(), [1, 2, 3]);
    let frames =
        [&skippable(0, b"seek")[..], &one, &skippable(15, b""), &zstd(b""), &two, &skippable(7, b"1\n")];
    assert_eq!(read_packed_text(&frames.concat()).unwrap(), [1, 2, 3]);
    // A number may go on in the next frame.
    assert_eq!(read_packed_text(&[zstd(b"1\n2"), zstd(b"3\n")].concat()).unwrap(), [1, 23]);
}

#[test]
fn zstd_is_checked() {
    let frame = zstd(b"1\n2\n3\n");
    let (contents, checksum) = frame.split_at(frame.len() - 4);
    let wrong = [contents, &[checksum[0] ^ 1], &checksum[1..]].concat();
    let message = said(read_packed_text(&wrong));
    assert!(message.contains("checksum") && message.contains("fetch"), "{message}");
    let cut = said(read_packed_text(&[&frame[..], &skippable(1, b"four")[..10]].concat()));
    assert!(cut.contains("4 bytes ends after 2"), "{cut}");
    let more = said(read_packed_text(&[&frame[..], b"\n"].concat()));
    assert!(more.contains("no zstd frame"), "{more}");
    // By hand: a single segment that states 3 bytes, and a raw last block of 2.
    let stated = [b"\x28\xb5\x2f\xfd\x20".as_slice(), &[3, 0x11, 0, 0], b"7\n"].concat();
    let lies = said(read_packed_text(&stated));
    assert!(lies.contains("2 bytes claims to have 3"), "{lies}");
    let truth = [b"\x28\xb5\x2f\xfd\x20".as_slice(), &[2, 0x11, 0, 0], b"7\n"].concat();
    assert_eq!(read_packed_text(&truth).unwrap(), [7]);
}

/// The notes of a reading that succeeds.
fn notes(bytes: &[u8]) -> Vec<String> {
    let path = Path::new("a");
    let recorder = read_packed(bytes, path, &Description::default(), Recorder::default());
    recorder.expect("references").finish().notes().to_vec()
}

#[test]
fn what_has_no_checksum_is_told() {
    // By hand: single segments without a checksum, of one raw block each.
    let unchecked = b"\x28\xb5\x2f\xfd\x20\x02\x11\0\x007\n".as_slice();
    let options = lzma_rust2::XzOptions { check_type: lzma_rust2::CheckType::None, ..Default::default() };
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(b"7\n").unwrap();
    let bare = encoder.finish().unwrap();
    for file in [unchecked, &[unchecked, &zstd(b"8\n")].concat(), &bare] {
        assert!(notes(file).iter().any(|note| note.contains("without checksums")), "{file:?}");
    }
    for file in [zstd(b"8\n"), gzip(b"8\n"), xz(b"8\n"), b"8\n".to_vec()] {
        assert!(notes(&file).is_empty(), "{file:?}");
    }
}

#[test]
fn all_gzip_members_are_read_and_checked() {
    let members = [gzip(b"1\n2"), gzip(b"3\n"), gzip(b"")].concat();
    assert_eq!(read_packed_text(&members).unwrap(), [1, 23]);
    let padded = [&members[..], &[0; 700]].concat();
    assert_eq!(read_packed_text(&padded).unwrap(), [1, 23], "blocks of a tape");
    let more = said(read_packed_text(&[&padded[..], &members].concat()));
    assert!(more.contains("follows the zeros"), "{more}");
    assert!(read_packed_text(&[&members[..], b"rest"].concat()).is_err());
    let mut wrong = gzip(b"1\n2\n");
    let crc = wrong.len() - 8;
    wrong[crc] ^= 1;
    assert!(read_packed_text(&wrong).is_err());
}

#[test]
fn all_xz_streams_are_read_and_checked() {
    let streams = [&xz(b"1\n2")[..], &[0; 8], &xz(b"3\n"), &[0; 4]].concat();
    assert_eq!(read_packed_text(&streams).unwrap(), [1, 23]);
    assert!(read_packed_text(&[&streams[..], &[0]].concat()).is_err(), "padding is by fours");
    assert!(read_packed_text(&[&streams[..], b"rest"].concat()).is_err());
}

#[test]
fn what_is_not_read_is_named() {
    for (start, name, command) in [("BZh91AY", "bzip2", "bzip2 -d"), ("PK\x03\x04..", "zip", "unzip")] {
        let message = failure("a", start.as_bytes(), None, None);
        assert!(message.contains(name) && message.contains(command), "{message}");
    }
    let wide = failure("a", b"\xff\xfe1\0\n\0", None, None);
    assert!(wide.contains("UTF-16") && wide.contains("iconv"), "{wide}");
}

#[test]
fn a_name_promises_a_compression() {
    let broken = records(&[1, 2, 3]);
    for (name, what) in [("a.oracleGeneral.zst", "zstd"), ("a.gz", "gzip"), ("a.XZ", "xz")] {
        let message = failure(name, &broken, None, None);
        assert!(message.contains(&format!("is no {what}")), "{message}");
    }
    assert_eq!(read_as("a.csv.gz", b"1\n", &Description::default()).unwrap(), [1], "unpacked by a browser");
    assert_eq!(read_as("b.zst", &gzip(b"1\n"), &Description::default()).unwrap(), [1]);
}

/// What the usual programs write, which is more than what the libraries of these tests do.
#[test]
fn what_programs_pack_is_unpacked() {
    let test = "what_programs_pack_is_unpacked";
    let text: String = (0..60_000_u64).map(|number| format!("{}\n", number * number % 7919)).collect();
    let expected: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    std::fs::write(&path, text).unwrap();
    let programs = [
        ("zstd", vec!["-1", "-19 --ultra", "-3 --no-check", "-3 -B64KB -T2", "--long=24"]),
        ("xz", vec!["-1", "-6 -T2 --block-size=65536", "--check=sha256", "--check=crc32 --delta --lzma2"]),
        ("gzip", vec!["-1", "-9 -n"]),
    ];
    for (name, ways) in programs {
        let Some(program) = host_needs::program(test, name) else { continue };
        for way in ways {
            let packed = std::process::Command::new(&program)
                .args(way.split(' '))
                .arg("-c")
                .arg(&path)
                .output()
                .unwrap();
            assert!(packed.status.success(), "{name} {way}: {}", String::from_utf8_lossy(&packed.stderr));
            let found = read_packed_text(&packed.stdout).unwrap();
            assert!(found == expected, "{name} {way}");
            let cut = read_packed_text(&packed.stdout[..packed.stdout.len() - 5]);
            assert!(cut.is_err(), "{name} {way}, cut");
        }
    }
}
