//! `exo data`: the disk image with the data of the workloads of `filecache`.

use crate::checkout::Checkout;
use crate::error::{Error, Result};
use crate::units::human_bytes;
use filecache::data::{Progress, Sizes, Summary};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Arguments of `exo data`.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// Makes the image anew even if nothing has changed
    #[arg(long)]
    force: bool,
}

/// What the image depends on: the code that makes it and reads it, and the locked dependencies whose sources it holds.
const SOURCES: [&str; 3] = ["unikernels/filecache/src", "libos-fs/src/extent_fs", "Cargo.lock"];

/// The verb.
pub fn data(args: &DataArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let image = prepare(&checkout, args.force)?;
    println!("{}", image.display());
    Ok(())
}

/// The image of `filecache`, made if it is missing or its sources have changed since.
pub fn prepare(checkout: &Checkout, force: bool) -> Result<PathBuf> {
    let folder = checkout.root.join("data");
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    // Two tools at once: the second waits, then finds the image made.
    let lock_path = folder.join("making.lock");
    let lock = std::fs::File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;

    let image = folder.join("filecache.img");
    let stamp = folder.join("filecache.stamp");
    let wanted = fingerprint(&checkout.root)?;
    let fresh = image.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if fresh && !force {
        return Ok(image);
    }
    eprintln!("exo: making {} (a minute or so, once)", image.display());
    let mut shown = Shown::default();
    let summary = filecache::data::build(&checkout.root, &image, &Sizes::default(), &mut |progress| {
        shown.show(progress)
    });
    shown.end();
    let summary =
        summary.map_err(|error| Error::FileSystem { image: image.clone(), reason: error.to_string() })?;
    describe(&summary);
    std::fs::write(&stamp, wanted).map_err(Error::io("write", &stamp))?;
    Ok(image)
}

fn describe(summary: &Summary) {
    let bytes = human_bytes(summary.file_bytes);
    eprintln!("exo: {} files, {bytes}; memory-reference trace by {:?}", summary.files, summary.trace_method);
    if let Some(reason) = &summary.single_step_error {
        eprintln!("exo: single steps were not possible: {reason}");
    }
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
