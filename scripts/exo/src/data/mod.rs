//! `exo data`: the disk images with the data of the workloads of `filecache`.

use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{write_atomically, write_made};
use crate::units::human_bytes;
use filecache::data::{Origin, Progress, Sizes, Summary};
use filecache::{DataFamily, Workload};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `exo data`.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// Workloads whose data to make, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "cs,din,sort")]
    workloads: Vec<Workload>,
    /// Makes the images anew even if nothing has changed
    #[arg(long)]
    force: bool,
    /// Makes them in the format of Linux, too
    #[arg(long)]
    ext4: bool,
}

/// What the images depend on: the code that makes them and reads them, and the locked dependencies whose
/// sources they hold.
const SOURCES: [&str; 11] = [
    "unikernels/filecache/src/data",
    "unikernels/filecache/src/btree",
    "unikernels/filecache/src/cs",
    "unikernels/filecache/src/din",
    "unikernels/filecache/src/gli",
    "unikernels/filecache/src/ldk",
    "unikernels/filecache/src/pjn",
    "unikernels/filecache/src/sort",
    "unikernels/filecache/src/ycsb",
    "libos-fs/src/extent_fs",
    "Cargo.lock",
];

/// The verb.
pub fn data(args: &DataArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let families: BTreeSet<DataFamily> = args.workloads.iter().map(|workload| workload.family()).collect();
    for family in families {
        println!("{}", prepare(&checkout, family, args.force)?.display());
        if args.ext4 {
            println!("{}", prepare_ext4(&checkout, family)?.display());
        }
    }
    Ok(())
}

/// The disk image of a family of workloads, made if it is missing or its sources have changed since.
pub fn prepare(checkout: &Checkout, family: DataFamily, force: bool) -> Result<PathBuf> {
    let folder = checkout.root.join("data");
    let wanted = fingerprint(&checkout.root)?;
    made(&folder, &format!("{}.img", family.name()), &wanted, force, |image| {
        let origin = Origin { workspace: &checkout.root, downloads: &checkout.artefacts("packages")? };
        let mut shown = Shown::default();
        let summary = filecache::data::build(family, &origin, image, &Sizes::default(), &mut |progress| {
            shown.show(progress)
        });
        shown.end();
        describe(&summary.map_err(|error| unusable(image, error))?);
        Ok(())
    })
}

/// The same files as an ext4 image of the same size, for Linux. Made by `mke2fs` without a journal, so that
/// Linux need not write one.
pub fn prepare_ext4(checkout: &Checkout, family: DataFamily) -> Result<PathBuf> {
    let own = prepare(checkout, family, false)?;
    let bytes = std::fs::read(&own).map_err(Error::io("read", &own))?;
    let wanted = format!("{:08x} {}", crc32fast::hash(&bytes), bytes.len());
    let folder = checkout.root.join("data");
    made(&folder, &format!("{}.ext4.img", family.name()), &wanted, false, |image| {
        let scratch =
            tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
        filecache::data::copy_out(&bytes, scratch.path()).map_err(|error| unusable(&own, error))?;
        make_ext4(scratch.path(), image, bytes.len() as u64)
    })
}

/// Puts the files of a folder on an ext4 image of so many bytes.
fn make_ext4(files: &Path, image: &Path, bytes: u64) -> Result<()> {
    let made = Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-O",
            "^has_journal",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=0",
            "-F",
            "-d",
        ])
        .arg(files)
        .arg(image)
        .arg((bytes / 4096).to_string())
        .output();
    let output = match made {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotInstalled { program: "mke2fs".into(), package: "e2fsprogs" });
        }
        made => made.map_err(Error::io("run", Path::new("mke2fs")))?,
    };
    if output.status.success() {
        return Ok(());
    }
    Err(unusable(image, String::from_utf8_lossy(&output.stderr).trim()))
}

/// A file of the data folder, made by `make` unless it is there already and was made from what is `wanted`
/// now.
fn made(
    folder: &Path,
    name: &str,
    wanted: &str,
    force: bool,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    // Two tools at once: the second waits, then finds the image made.
    let lock_path = folder.join(format!("{name}.lock"));
    let lock = std::fs::File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;

    let image = folder.join(name);
    let stamp = image.with_extension("stamp");
    let fresh = image.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if !fresh || force {
        eprintln!("exo: making {} (a minute or so, once)", image.display());
        write_made(&image, make)?;
        write_atomically(&stamp, wanted.as_bytes())?;
    }
    Ok(image)
}

fn unusable(image: &Path, reason: impl ToString) -> Error {
    Error::FileSystem { image: image.to_path_buf(), reason: reason.to_string() }
}

fn describe(summary: &Summary) {
    let bytes = human_bytes(summary.file_bytes);
    eprintln!("exo: {} files, {bytes}", summary.files);
    summary.notes.iter().for_each(|note| eprintln!("exo: {note}"));
}

/// Checksum over names and contents of everything the image depends on.
fn fingerprint(root: &Path) -> Result<String> {
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = 0;
    let mut pending: Vec<PathBuf> = SOURCES.iter().rev().map(|path| root.join(path)).collect();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let listing = std::fs::read_dir(&path).map_err(Error::io("list", &path))?;
            let mut inside: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
            inside.sort();
            pending.extend(inside.into_iter().rev());
        } else {
            let content = std::fs::read(&path).map_err(Error::io("read", &path))?;
            hasher.update(path.to_string_lossy().as_bytes());
            hasher.update(&content);
            bytes += content.len();
        }
    }
    Ok(format!("{:08x} {bytes}", hasher.finalize()))
}

/// Progress on standard error: a line that changes on a terminal, one line a stage elsewhere.
#[derive(Default)]
struct Shown {
    stage: &'static str,
    percent: u64,
}

impl Shown {
    fn show(&mut self, progress: Progress) {
        let percent = (progress.done * 100).checked_div(progress.total).unwrap_or(0);
        let terminal = std::io::stderr().is_terminal();
        if terminal && (self.stage, self.percent) != (progress.stage, percent) {
            eprint!("\rexo: {:<40} {percent:>3} %", progress.stage);
        } else if self.stage != progress.stage {
            eprintln!("exo: {}", progress.stage);
        }
        (self.stage, self.percent) = (progress.stage, percent);
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() && !self.stage.is_empty() {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_follows_the_sources() {
        let scratch = tempfile::tempdir().unwrap();
        for path in SOURCES {
            let path = scratch.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "one").unwrap();
        }
        let before = fingerprint(scratch.path()).unwrap();
        assert_eq!(before, fingerprint(scratch.path()).unwrap());
        std::fs::write(scratch.path().join("Cargo.lock"), "two").unwrap();
        assert_ne!(before, fingerprint(scratch.path()).unwrap());
    }
}
