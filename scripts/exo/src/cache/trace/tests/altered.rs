//! Files of every format that are cut off, or have flipped bits and misplaced pieces, by the thousand: an
//! error that names the file and what to do, or what another reader finds in the same bytes. For compressed
//! files that is the compression's own program; for the others, readers that are as plain as the format is.
//!
//! `HYPEREXO_ALTERED=10000` asks for so many files of each format; there are 100 otherwise.

use super::damage::Random;
use super::records::{lcs, vscsi};
use super::*;
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// Files of each format.
fn count() -> usize {
    let asked = std::env::var("HYPEREXO_ALTERED").ok();
    asked.map_or(100, |text| text.parse().expect("HYPEREXO_ALTERED is a number"))
}

/// Blocks that a plain reader believes in: a request of more is refused by `exo`.
const MOST_BLOCKS: u64 = 1 << 20;

/// A part of some bytes.
fn piece(length: usize, random: &mut Random) -> std::ops::Range<usize> {
    let start = random.below(length + 1);
    start..(start + random.below(40)).min(length)
}

/// A file that is cut off, or has up to eight flipped bits, or lacks a piece, or has one that is zero, of
/// another place, or there twice.
fn altered(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let flip = |bytes: &mut Vec<u8>, random: &mut Random| {
        for _ in 0..=random.below(8) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
    };
    match random.below(8) {
        0 | 1 => bytes.truncate(random.below(file.len())),
        2..=4 => flip(&mut bytes, random),
        5 => {
            bytes.truncate(random.below(file.len()));
            flip(&mut bytes, random);
        }
        6 => drop(bytes.splice(piece(file.len(), random), [])),
        _ => {
            let (from, to) = (piece(file.len(), random), piece(file.len(), random));
            let what = if random.below(2) == 0 { vec![0; from.len()] } else { file[from].to_vec() };
            drop(bytes.splice(to, what));
        }
    }
    bytes
}

/// A text without its first line that says something.
fn without_line(file: &[u8]) -> &[u8] {
    let start = file.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let end = file[start..].iter().position(|byte| *byte == b'\n').map_or(file.len(), |end| start + end);
    &file[end..]
}

/// Judges what is read of altered files: the error, or the references, of which `is_right` knows better.
fn judge_all(
    name: &str,
    files: &[Vec<u8>],
    description: &Description,
    is_right: impl Fn(&[u8], &[u64]) -> bool,
) {
    let mut random = Random(0x5851_f42d_4c95_7f2d);
    let (mut read, mut others) = (0, 0);
    for number in 0..count() {
        let file = altered(&files[number % files.len()], &mut random);
        let path = Path::new(name);
        let recorder = read_packed(file.as_slice(), path, description, Recorder::default());
        match recorder.map_err(|fault| fault.of(path)) {
            Ok(recorder) => {
                read += 1;
                let trace = recorder.finish();
                let found: Vec<u64> = trace.references().collect();
                // A line that is taken for a heading is told.
                let heading = trace.notes().iter().any(|note| note.contains("taken for a heading"));
                let file = if heading { without_line(&file) } else { &file };
                // Of what has no checksum, damage is not told from contents, by none of the readers.
                let unchecked = trace.notes().iter().any(|note| note.contains("without checksums"));
                let right = is_right(file, &found);
                others += usize::from(unchecked && !right);
                if !unchecked && !right {
                    let kept = std::env::temp_dir().join(format!("altered-{number}-{name}"));
                    std::fs::write(&kept, file).expect("the file is kept");
                    panic!("{name}, file {number}: {} references in {}", found.len(), kept.display());
                }
            }
            Err(error) => {
                assert!(error.to_string().contains(name), "{name}, file {number}: {error}");
                assert!(error.fix().is_some_and(|fix| !fix.is_empty()), "{name}, file {number}: {error}");
            }
        }
    }
    std::eprintln!("{name}: {read} of {} were read, {others} of them as by no other reader", count());
    // That is rare: the formats check much else.
    assert!(others * 100 <= count(), "{others} files without checksums are read as by no other reader");
}

/// What the compression's own program makes of a file.
fn unpacked_by(program: &Path, file: &[u8]) -> Option<Vec<u8>> {
    let mut packed = tempfile::tempfile().expect("a file");
    packed.write_all(file).expect("written");
    std::io::Seek::rewind(&mut packed).expect("rewound");
    let output = Command::new(program).args(["-d", "-c", "-q"]).stdin(Stdio::from(packed)).output();
    let output = output.expect("the program runs");
    output.status.success().then_some(output.stdout)
}

/// A file packed in these ways, each by a run of the program.
fn packed_by(program: &Path, ways: &[&str], contents: &[u8]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("numbers");
    std::fs::write(&path, contents).expect("written");
    let pack = |way: &&str| {
        let output = Command::new(program).args(way.split(' ')).arg("-c").arg(&path).output();
        let output = output.expect("the program runs");
        assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    ways.iter().map(pack).collect()
}

/// Most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    peak.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().expect("a number")
}

fn compressed(test: &str, name: &str, ways: &[&str]) {
    let Some(program) = host_needs::program(test, name) else { return };
    let numbers = |count: u64| (0..count).map(|number| format!("{}\n", number * number % 7919)).collect();
    // In a small file, what is altered is mostly its head, its tables and its end.
    let contents: [String; 2] = [numbers(1500), numbers(20)];
    let mut files = contents.map(|contents| packed_by(&program, ways, contents.as_bytes())).concat();
    files.push([files[0].as_slice(), &files[ways.len()]].concat());
    let csv = Description { format: Some(Format::Csv), ..Description::default() };
    let before = peak_kib();
    judge_all("numbers", &files, &csv, |file, found| {
        // A few bytes may have become text.
        let bytes = unpacked_by(&program, file).unwrap_or_else(|| file.to_vec());
        of_numbers(&bytes, '#').as_deref() == Some(found)
    });
    std::eprintln!("{name}: peak from {before} to {} KiB", peak_kib());
}

#[test]
fn altered_gzip() {
    compressed("altered_gzip", "gzip", &["-1", "-9 -n", "-6"]);
}

#[test]
fn altered_zstd() {
    compressed("altered_zstd", "zstd", &["-1", "-19", "-3 --no-check", "-5 -B1KB", "--long=24"]);
}

#[test]
fn altered_xz() {
    let ways =
        ["-1", "-6 --block-size=2048", "--check=sha256", "--check=none", "--check=crc32 --delta --lzma2"];
    compressed("altered_xz", "xz", &ways);
}

/// The lines that say something.
fn lines(file: &[u8], comment: char) -> Vec<String> {
    // A character for each byte, whatever it is: names need not be text.
    let text: String = file.iter().map(|byte| char::from(*byte)).collect();
    let lines = text.split('\n').map(|line| line.trim_ascii().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with(comment)).collect()
}

fn of_numbers(file: &[u8], comment: char) -> Option<Vec<u64>> {
    lines(file, comment).iter().map(|line| line.parse().ok()).collect()
}

/// Blocks of lines with a first block, and how many from there on if there are several.
fn of_calls(file: &[u8]) -> Option<Vec<u64>> {
    let call = |line: &String| {
        let (first, count) = line.split_once('+').unwrap_or((line, "1"));
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        (count < MOST_BLOCKS).then_some(())?;
        Some((first..first.checked_add(count)?).collect::<Vec<u64>>())
    };
    lines(file, '#').iter().map(call).collect::<Option<Vec<_>>>().map(|calls| calls.concat())
}

/// Blocks of requests, each a disk, a first byte and a length in bytes. Disks have numbers as they come.
fn of_requests<D: std::hash::Hash + Eq>(
    requests: impl IntoIterator<Item = Option<(D, u64, u64)>>,
) -> Option<Vec<u64>> {
    let mut disks = HashMap::new();
    let mut blocks = Vec::new();
    for request in requests {
        let (disk, offset, bytes) = request?;
        let next = disks.len() as u64;
        let disk = *disks.entry(disk).or_insert(next);
        if bytes == 0 {
            continue;
        }
        let (first, last) = (offset / 4096, offset.checked_add(bytes - 1)? / 4096);
        if last - first >= MOST_BLOCKS {
            return None;
        }
        blocks.extend((first..=last).map(|block| disk << 32 | block));
    }
    Some(blocks)
}

/// Requests of lines with commas between their fields.
fn of_lines<D: std::hash::Hash + Eq>(
    file: &[u8],
    request: impl Fn(&[&str]) -> Option<(D, u64, u64)>,
) -> Option<Vec<u64>> {
    let lines = lines(file, '#');
    of_requests(lines.iter().map(|line| request(&line.split(',').map(str::trim_ascii).collect::<Vec<_>>())))
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn of_objects(file: &[u8], bytes: usize) -> Option<Vec<u64>> {
    let records = file.chunks_exact(bytes);
    records.remainder().is_empty().then(|| records.map(|record| little_endian(&record[4..12])).collect())
}

fn of_lcs(file: &[u8]) -> Option<Vec<u64>> {
    let (head, records) = file.split_at_checked(8192)?;
    let bytes = match little_endian(&head[8..16]) {
        1 => 24,
        2 => 28,
        version @ 3..=8 => 36 + [0, 4, 8, 16, 32, 64][version as usize - 3],
        _ => return None,
    };
    of_objects(records, bytes)
}

fn of_vscsi(file: &[u8]) -> Option<Vec<u64>> {
    let (bytes, length_at) = if file.get(15) == Some(&1) { (32, 4) } else { (40, 8) };
    let records = file.chunks_exact(bytes);
    let request = |record: &[u8]| {
        let offset = little_endian(&record[16..24]).checked_mul(512)?;
        Some(((), offset, little_endian(&record[length_at..][..4])))
    };
    if records.remainder().is_empty() { of_requests(records.map(request)) } else { None }
}

fn of_msr(file: &[u8]) -> Option<Vec<u64>> {
    of_lines(file, |fields| {
        let [_, host, disk, _, offset, bytes, _] = fields else { return None };
        Some(((host.to_string(), disk.to_string()), offset.parse().ok()?, bytes.parse().ok()?))
    })
}

fn of_spc(file: &[u8]) -> Option<Vec<u64>> {
    of_lines(file, |fields| {
        let [disk, sector, bytes, ..] = fields else { return None };
        Some((disk.to_string(), sector.parse::<u64>().ok()?.checked_mul(512)?, bytes.parse().ok()?))
    })
}

fn of_arc(file: &[u8]) -> Option<Vec<u64>> {
    let lines = lines(file, '#');
    let run = |line: &String| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (first, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (count < MOST_BLOCKS).then_some(())?;
        Some((first..first.checked_add(count)?).collect::<Vec<u64>>())
    };
    lines.iter().map(run).collect::<Option<Vec<_>>>().map(|runs| runs.concat())
}

fn of_keys(file: &[u8]) -> Option<Vec<u64>> {
    let mut keys = HashMap::new();
    let lines = lines(file, '#');
    let number = |line: &String| {
        let key = line.split(',').nth(1)?.trim_ascii().to_owned();
        let next = keys.len() as u64;
        Some(*keys.entry(key).or_insert(next))
    };
    lines.iter().map(number).collect()
}

/// Files of every format without checksums, how they are named or described, and how they are read plainly.
type Plain = fn(&[u8]) -> Option<Vec<u64>>;

fn formats() -> Vec<(&'static str, Description, Vec<Vec<u8>>, Plain)> {
    let of = |format| Description { format: Some(format), ..Description::default() };
    let some = |line: &dyn Fn(u64) -> String| {
        let lines = (0..60_u64).map(|number| line(number * number % 37));
        vec![lines.clone().collect::<String>().into_bytes(), lines.take(7).collect::<String>().into_bytes()]
    };
    let objects: Vec<u64> = (0..40).map(|number| (number * number % 23) << 20).collect();
    let requests: Vec<(u64, u32)> =
        (0..40).map(|number| (number * number % 23, 512 * number as u32)).collect();
    let numbers = some(&|number| format!("{number}\n"));
    let titled = |version: u8, lines: &[u8]| {
        let title = format!("# hyperexo references {version}\n# file 1: 81920 bytes: /a\n");
        [title.as_bytes(), lines].concat()
    };
    let calls = some(&|number| format!("{number}\n{number}+{}\n", number % 5 + 1));
    let references = vec![titled(1, &numbers[0]), titled(2, &numbers[1]), titled(2, &calls[0])];
    vec![
        ("a.csv", of(Format::Csv), numbers, |file| of_numbers(file, '#')),
        ("a.lirs", of(Format::Lirs), some(&|number| format!("*\n{number}\r\n")), |file| {
            of_numbers(file, '*')
        }),
        ("a.refs", of(Format::References), references, of_calls),
        ("a.oracleGeneral", of(Format::OracleGeneral), vec![super::records(&objects)], |file| {
            of_objects(file, 24)
        }),
        ("a.lcs", of(Format::Lcs), (1..=8).map(|version| lcs(version, &objects)).collect(), of_lcs),
        ("a.vscsi", of(Format::Vscsi), vec![vscsi(1, &requests), vscsi(2, &requests)], of_vscsi),
        (
            "a.msr",
            of(Format::Msr),
            some(&|number| {
                format!(
                    "12816,host{},{},Write,{},{},9\n",
                    number % 2,
                    number % 3,
                    number * 4000,
                    number * 999
                )
            }),
            of_msr,
        ),
        (
            "a.spc",
            of(Format::Spc),
            some(&|number| format!("{},{},{},r,0.5\n", number % 3, number * 7, number * 512)),
            of_spc,
        ),
        ("a.lis", of(Format::Arc), some(&|number| format!("{number} {} 0 {number}\n", number % 9)), of_arc),
        (
            "keys.csv",
            of_columns("key=2", Some("comma"), None),
            some(&|number| format!("at,key-{number},get\n")),
            of_keys,
        ),
        (
            "sectors.csv",
            of_columns("offset=2,count=3,file=1", Some("comma"), Some("512")),
            some(&|number| format!("sd{},{},{}\n", number % 2, number * 5, number)),
            |file| {
                of_lines(file, |fields| {
                    let [disk, sector, sectors, ..] = fields else { return None };
                    let bytes = |sectors: &str| sectors.parse::<u64>().ok()?.checked_mul(512);
                    Some((disk.to_string(), bytes(sector)?, bytes(sectors)?))
                })
            },
        ),
    ]
}

#[test]
fn altered_records_and_text() {
    for (name, description, files, plain) in formats() {
        for file in &files {
            assert_eq!(read_as(name, file, &description).ok(), plain(file), "{name}, as it was written");
        }
        judge_all(name, &files, &description, |file, found| {
            // Quotes and byte order marks are beyond the plain readers.
            let plain_text = !file.contains(&b'"') && !file.starts_with(b"\xef\xbb\xbf");
            let is_text =
                !matches!(description.format, Some(Format::OracleGeneral | Format::Lcs | Format::Vscsi));
            is_text && !plain_text || plain(file).as_deref() == Some(found)
        });
    }
}

/// Without a format or a telling name, a file is what its bytes say, altered as they are.
#[test]
fn altered_files_of_any_name() {
    let formats = formats();
    for (name, description, files, _) in &formats {
        if description.columns.is_some() {
            continue;
        }
        judge_all("file", files, &Description::default(), |file, found| {
            let reads = |plain: &Plain| plain(file).as_deref() == Some(found);
            file.contains(&b'"') || formats.iter().any(|(_, _, _, plain)| reads(plain))
        });
        std::eprintln!("(these were {name})");
    }
}
