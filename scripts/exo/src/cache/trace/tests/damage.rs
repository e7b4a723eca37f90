//! Damaged files: every input is cut and has bits turned over. What is read then is an error, or what is
//! right for the bytes there are.

use super::packed::{gzip, skippable, xz, zstd};
use super::records::{lcs, vscsi};
use super::*;

/// Random numbers (G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003), so that a run
/// can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number from 0 to below the limit, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Changes of each file beside those of one bit: so many, of some bytes.
const CHANGES: usize = 200;

/// A file cut at each byte, with each bit turned, and with several bytes changed.
fn damaged(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..bytes.len()).map(|length| bytes[..length].to_vec()).collect();
    for bit in 0..bytes.len() * 8 {
        let mut turned = bytes.to_vec();
        turned[bit / 8] ^= 1 << (bit % 8);
        all.push(turned);
    }
    let mut random = Random(seed);
    for _ in 0..CHANGES {
        let mut changed = bytes.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(changed.len());
            changed[at] = random.below(256) as u8;
        }
        all.push(changed);
    }
    all
}

/// Numbers that compress a little.
fn text() -> String {
    (0..90_u64).map(|number| format!("{}\n", number * number % 61)).collect()
}

#[test]
fn damaged_compression_is_never_taken_for_another_trace() {
    let text = text();
    let whole = Description::default();
    let keys = of_columns("key=1", None, None);
    let named = Description { format: Some(Format::OracleGeneral), ..Description::default() };
    let binary = records(&[3, 4, 3, 1 << 40, 5, 6, 7, 8]);
    let files = [
        ("a.zst", zstd(text.as_bytes())),
        ("b.zst", [skippable(3, b"none"), zstd(text.as_bytes())].concat()),
        ("c.gz", gzip(text.as_bytes())),
        ("d.xz", xz(text.as_bytes())),
        ("e.oracleGeneral.zst", zstd(&binary)),
        ("f.gz", gzip(&binary)),
    ];
    for (name, file) in files {
        let is_text = !name.starts_with(['e', 'f']);
        let ways = if is_text { [&whole, &keys] } else { [&whole, &named] };
        for description in ways {
            let right = read_as(name, &file, description).unwrap();
            for (number, wrong) in damaged(&file, 0x9e37_79b9).iter().enumerate() {
                if let Ok(found) = read_as(name, wrong, description) {
                    assert!(found == right, "{name}, change {number}: {found:?}");
                    assert!(number >= file.len(), "{name}, cut to {number} bytes");
                }
            }
        }
    }
}

/// Judges readings of damaged files by another reader, which is plain and knows nothing of damage.
fn judge(name: &str, file: &[u8], description: &Description, plain: impl Fn(&[u8]) -> Option<Vec<u64>>) {
    assert_eq!(read_as(name, file, description).ok(), plain(file), "{name}, whole");
    for (number, wrong) in damaged(file, 0x7f4a_7c15).iter().enumerate() {
        match read_as(name, wrong, description) {
            Ok(found) => assert_eq!(Some(found), plain(wrong), "{name}, change {number}"),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}

#[test]
fn damaged_records_are_read_as_they_are_or_not_at_all() {
    let objects = |file: &[u8], bytes: usize| -> Option<Vec<u64>> {
        let object = |record: &[u8]| u64::from_le_bytes(record[4..12].try_into().unwrap());
        file.len().is_multiple_of(bytes).then(|| file.chunks_exact(bytes).map(object).collect())
    };
    let any = Description::default();
    judge("a.oracleGeneral", &records(&[3, 4, 3, 9, 1 << 40]), &any, |file| objects(file, 24));
    for version in [1, 2, 3, 8] {
        // The free parts of the head would only take time.
        let file = lcs(version, &[3, 4, 3]);
        let (head, rest) = file.split_at(8192);
        let length = rest.len() / 3;
        for wrong in damaged(rest, 1) {
            let found = read_as("a.lcs", &[head, &wrong].concat(), &any);
            assert!(found.is_err() || found.ok() == objects(&wrong, length), "version {version}");
            assert!(wrong.len() == rest.len() || read_as("a.lcs", &[head, &wrong].concat(), &any).is_err());
        }
        for wrong in damaged(&head[..64], 2) {
            let bytes =
                if wrong.len() < 64 { wrong.clone() } else { [&wrong[..], &head[64..], rest].concat() };
            let found = read_as("a.lcs", &bytes, &any);
            let fine = wrong[..].get(..16) == Some(&head[..16])
                && objects(rest, length) == found.as_ref().ok().cloned();
            assert!(found.is_err() || fine, "version {version}");
        }
    }
    let requests = |file: &[u8], bytes: usize, length_at: usize| -> Option<Vec<u64>> {
        let blocks = |record: &[u8]| {
            let length = u64::from(u32::from_le_bytes(record[length_at..][..4].try_into().unwrap()));
            let offset = u64::from_le_bytes(record[16..24].try_into().unwrap()).checked_mul(512).unwrap();
            let blocks = if length == 0 { 1..1 } else { offset / 4096..(offset + length - 1) / 4096 + 1 };
            blocks.collect::<Vec<u64>>()
        };
        file.len().is_multiple_of(bytes).then(|| file.chunks_exact(bytes).flat_map(blocks).collect())
    };
    judge("b.vscsi", &vscsi(1, &[(8, 4096), (15, 1024)]), &any, |file| requests(file, 32, 4));
    judge("c.vscsi", &vscsi(2, &[(8, 4096), (15, 1024)]), &any, |file| requests(file, 40, 8));
}

#[test]
fn damaged_text_is_read_as_it_is_or_not_at_all() {
    let of = |format| Description { format: Some(format), ..Description::default() };
    let field =
        |line: &str, at: usize| line.split(',').nth(at).and_then(|field| field.trim().parse::<u64>().ok());
    let lines = |file: &[u8], comment: char, plain: &dyn Fn(&str) -> Option<Vec<u64>>| -> Option<Vec<u64>> {
        let text = String::from_utf8_lossy(file);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(comment));
        lines.map(plain).collect::<Option<Vec<_>>>().map(|found| found.concat())
    };
    let number = |line: &str| field(line, 0).map(|number| vec![number]);
    judge("a.csv", b"1\n23\n# no\n1\n", &of(Format::Csv), |file| lines(file, '#', &number));
    judge("a.lirs", b"1\n*\n23\n1\n", &of(Format::Lirs), |file| lines(file, '*', &number));
    let second = |line: &str| field(line, 1).map(|number| vec![number]);
    let columns = of_columns("block=2", Some("comma"), None);
    judge("b.csv", b"5,1,x\n6,23,y\n7,1,z\n", &columns, |file| {
        // Quotes and keys are beyond this reader.
        let plain = lines(file, '#', &second);
        if plain.is_none() || file.contains(&b'"') { read_as("b.csv", file, &columns).ok() } else { plain }
    });
    let request = |line: &str| {
        let (offset, size) = (field(line, 1)?.checked_mul(512)?, field(line, 2)?);
        let blocks = if size == 0 { 1..1 } else { offset / 4096..(offset + size - 1) / 4096 + 1 };
        Some(blocks.collect())
    };
    let sectors = of_columns("offset=2,size=3", Some("comma"), Some("512"));
    judge("c.csv", b"0,8,4096,R,0.5\n0,24,512,w,0.6\n", &sectors, |file| {
        if file.contains(&b'"') { read_as("c.csv", file, &sectors).ok() } else { lines(file, '#', &request) }
    });
}
