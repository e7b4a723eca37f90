//! Writing bundles: several images and their manifests in one file.

pub mod environments;

use crate::error::{Error, Result};
use hyperexo_abi::bundle::{
    Bundle, DEFAULT_STACK_BYTES, ENTRY_BYTES, Entry, Header, MAGIC, MAX_ENTRIES, VERSION, table_checksum,
};
use hyperexo_abi::capability::Rights;
use hyperexo_abi::start::{COMMAND_LINE_BYTES, NAME_BYTES};
use hyperexo_abi::{FRAME_BYTES, Page};
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// What one environment gets.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the environment.
    pub name: String,
    /// Its command line.
    pub command_line: String,
    /// Frames that it may own.
    pub quota_frames: u64,
    /// Blocks of the disk, and whether it may write them.
    pub disk: Option<(crate::units::Extent, Writable)>,
    /// Disk space it may allocate besides, in MiB.
    pub disk_quota_mib: u32,
    /// Core of its first virtual CPU.
    pub core: u32,
    /// Cores on which it may have virtual CPUs, a bit each; its own always counts.
    pub cores: u32,
    /// Whether it may use the network.
    pub network: bool,
}

/// Whether an environment may write its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// Reads and writes.
    Yes,
    /// Reads only.
    No,
}

impl Manifest {
    fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::new_zeroed();
        put_text(&mut entry.name, &self.name, "name")?;
        put_text(&mut entry.command_line, &self.command_line, "command line")?;
        entry.command_line_bytes = self.command_line.len() as u32;
        entry.quota_frames = self.quota_frames;
        entry.stack_bytes = DEFAULT_STACK_BYTES;
        entry.slices = 1;
        entry.core = self.core;
        entry.cores = self.cores;
        entry.network = self.network.into();
        entry.disk_quota_mib = self.disk_quota_mib;
        if let Some((extent, writable)) = self.disk {
            entry.disk_first = extent.first;
            entry.disk_count = extent.count;
            let rights = if writable == Writable::Yes { Rights::READ_WRITE } else { Rights::READ };
            entry.disk_rights = rights.0.into();
        }
        Ok(entry)
    }
}

fn put_text(field: &mut [u8], text: &str, what: &str) -> Result<()> {
    let limit = field.len();
    let room = field.get_mut(..text.len()).ok_or_else(|| Error::Argument {
        what: format!("{what} of {} bytes: {:.40}…", text.len(), text),
        fix: format!(
            "{limit} bytes is the most ({NAME_BYTES} for names, {COMMAND_LINE_BYTES} for command lines)"
        ),
    })?;
    room.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Packs images with their manifests. Every image starts on a page of its own.
pub fn write(environments: &[(Manifest, &[u8])]) -> Result<Vec<u8>> {
    if environments.is_empty() || environments.len() > MAX_ENTRIES {
        return Err(Error::Argument {
            what: format!("{} environments in one bundle", environments.len()),
            fix: format!("1 to {MAX_ENTRIES} are possible"),
        });
    }
    let mut offset = size_of::<Header>() + environments.len() * ENTRY_BYTES;
    let mut entries = Vec::with_capacity(environments.len());
    for (manifest, image) in environments {
        offset = offset.next_multiple_of(FRAME_BYTES);
        entries.push(Entry {
            offset: offset as u64,
            bytes: image.len() as u64,
            crc: crc32fast::hash(image),
            ..manifest.entry()?
        });
        offset += image.len();
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION,
        count: entries.len() as u32,
        total_bytes: offset as u64,
        crc: 0,
        reserved: 0,
    };
    header.crc = table_checksum(&header, &entries);
    let mut bytes = vec![0; offset];
    header.write_to_prefix(&mut bytes).map_err(|_| too_small())?;
    entries.write_to_prefix(&mut bytes[size_of::<Header>()..]).map_err(|_| too_small())?;
    for (entry, (_, image)) in entries.iter().zip(environments) {
        bytes[entry.offset as usize..][..image.len()].copy_from_slice(image);
    }
    Ok(bytes)
}

fn too_small() -> Error {
    Error::Measurement("the bundle's table does not fit the space computed for it".into())
}

/// Names of the environments in a bundle file, after checking all of it.
pub fn names(path: &Path, bytes: &[u8]) -> Result<Vec<String>> {
    let wrong = |reason| Error::Bundle { path: path.to_path_buf(), reason };
    // The parser wants an aligned start, which a vector of bytes does not promise.
    let mut pages = vec![Page::new_zeroed(); bytes.len().div_ceil(FRAME_BYTES)];
    let aligned = &mut pages.as_mut_bytes()[..bytes.len()];
    aligned.copy_from_slice(bytes);
    let bundle = Bundle::parse(aligned).map_err(wrong)?;
    (0..bundle.len()).map(|index| Ok(bundle.image(index).map_err(wrong)?.name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Extent;
    use hyperexo_abi::bundle::BundleError;

    fn manifest(name: &str) -> Manifest {
        Manifest {
            name: name.into(),
            command_line: format!("who={name} é"),
            quota_frames: 1000,
            disk: Some((Extent { first: 5, count: 7 }, Writable::No)),
            disk_quota_mib: 3,
            core: 1,
            cores: 0b110,
            network: true,
        }
    }

    fn sample() -> Vec<u8> {
        write(&[(manifest("one"), b"first image"), (manifest("two"), &[7; 5000])]).unwrap()
    }

    fn parse(bytes: &[u8]) -> std::result::Result<(), BundleError> {
        let mut pages = vec![Page::new_zeroed(); bytes.len().div_ceil(FRAME_BYTES)];
        let aligned = &mut pages.as_mut_bytes()[..bytes.len()];
        aligned.copy_from_slice(bytes);
        let bundle = Bundle::parse(aligned)?;
        (0..bundle.len()).try_for_each(|index| bundle.image(index).map(|_| ()))
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let mut pages = vec![Page::new_zeroed(); bytes.len().div_ceil(FRAME_BYTES)];
        let aligned = &mut pages.as_mut_bytes()[..bytes.len()];
        aligned.copy_from_slice(&bytes);
        let bundle = Bundle::parse(aligned).unwrap();
        assert_eq!(bundle.len(), 2);
        let two = bundle.image(1).unwrap();
        assert_eq!((two.name, two.command_line), ("two", "who=two é"));
        assert_eq!(two.elf, &[7; 5000]);
        assert_eq!((two.entry.quota_frames, two.entry.disk_first, two.entry.disk_count), (1000, 5, 7));
        assert_eq!(two.entry.disk_rights, u32::from(Rights::READ.0));
        assert_eq!(two.entry.cores, 0b110);
        assert_eq!((two.entry.core, two.entry.disk_quota_mib, two.entry.network), (1, 3, 1));
        assert_eq!(bundle.image(0).unwrap().elf, b"first image");
        assert_eq!(names(Path::new("x"), &bytes).unwrap(), ["one", "two"]);
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn every_flipped_byte_that_counts_is_noticed() {
        let bytes = sample();
        // Only the padding between table and images, and between images, is not covered.
        let table = size_of::<Header>() + 2 * ENTRY_BYTES;
        let first = table.next_multiple_of(FRAME_BYTES);
        let second = (first + 11).next_multiple_of(FRAME_BYTES);
        let covered = (0..table).chain(first..first + 11).chain(second..bytes.len());
        for at in covered {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(parse(&damaged).is_err(), "byte {at}");
        }
    }

    /// `HYPEREXO_ALTERED` says how many; 1000 otherwise.
    #[test]
    fn altered_bundles_are_refused_or_say_the_same() {
        let asked = std::env::var("HYPEREXO_ALTERED").ok();
        let count = asked.map_or(1000, |text| text.parse().expect("HYPEREXO_ALTERED is a number"));
        let (bytes, mut random) = (sample(), libos_fs::device::fault::Dice::new(5));
        let mut read = 0;
        for number in 0..count {
            let mut altered = bytes.clone();
            if random.below(3) == 0 {
                altered.truncate(random.below(bytes.len() as u64) as usize);
            }
            // Half of the flips hit the table, which is most of what can be wrong.
            let table = size_of::<Header>() + 2 * ENTRY_BYTES;
            for _ in 0..random.below(4) {
                let end = if random.below(2) == 0 { table.min(altered.len()) } else { altered.len() };
                if end > 0 {
                    altered[random.below(end as u64) as usize] ^= 1 << random.below(8);
                }
            }
            if let Ok(found) = names(Path::new("x"), &altered) {
                assert_eq!(found, ["one", "two"], "bundle {number}");
                read += 1;
            }
        }
        assert!(read > 0 && read < count, "{read} of {count}");
    }

    #[test]
    fn names_that_are_too_long_are_refused() {
        let long = manifest(&"x".repeat(NAME_BYTES + 1));
        assert!(matches!(write(&[(long, b"")]), Err(Error::Argument { .. })));
        assert!(write(&[]).is_err());
    }
}
