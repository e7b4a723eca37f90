//! `exo fs`: file systems on disk images, from the host.

mod names;

use crate::error::{Error, Result};
use crate::host::disk_image::{self, Access};
use crate::host::output::{self, Output, write_made};
use crate::host::streams;
use crate::units::{human_bytes, parse_size};
use libos_fs::extent_fs;
use libos_fs::{BLOCK_BYTES, BlockDevice, CacheOptions, EntryKind, File, FileDisk, FsError, Volume};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Arguments of `exo fs`.
#[derive(Debug, clap::Subcommand)]
pub enum FsVerb {
    /// Makes an image with an empty volume of HyperExo's own format
    Make {
        /// Image to make; an existing one is replaced
        image: PathBuf,
        /// Size of the image, such as 64M
        #[arg(long, default_value = "64M", value_parser = parse_size)]
        size: u64,
        /// Fills the volume with the contents of this directory
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Copies files and directories of the host into an image
    Put {
        /// Image
        image: PathBuf,
        /// Files or directories of the host; `-` is standard input (give the path with --to)
        #[arg(required = true)]
        sources: Vec<PathBuf>,
        /// Path in the image: a directory, or the new name if one file is copied (default: /)
        #[arg(long)]
        to: Option<OsString>,
    },
    /// Copies a file out of an image (own format or ext4)
    Get {
        /// Image
        image: PathBuf,
        /// Path in the image
        path: OsString,
        /// File of the host; standard output if left out or `-`
        to: Option<PathBuf>,
    },
    /// Lists a directory of an image (own format or ext4)
    Ls {
        /// Image
        image: PathBuf,
        /// Directory in the image
        #[arg(default_value = "/")]
        path: OsString,
        /// Directories in it as well
        #[arg(long, short)]
        recursive: bool,
    },
    /// Removes a file or an empty directory from an image
    Rm {
        /// Image
        image: PathBuf,
        /// Path in the image
        path: OsString,
    },
    /// Reads everything on a volume of HyperExo's own format and says what is wrong
    Check {
        /// Image
        image: PathBuf,
    },
}

/// Blocks of cache for host access.
const CACHE_BLOCKS: usize = 4096;
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;
/// Largest image that `make` agrees to.
const MOST_BLOCKS: u64 = 1 << 32;

/// The verb.
pub fn files(verb: &FsVerb) -> Result<()> {
    match verb {
        FsVerb::Make { image, size, from } => make(image, *size, from.as_deref()),
        FsVerb::Put { image, sources, to } => put(image, sources, to.as_deref()),
        FsVerb::Get { image, path, to } => get(image, path, to.as_deref()),
        FsVerb::Ls { image, path, recursive } => {
            let volume = Mounted::open(image, Access::Read)?;
            volume.list(&names::path(volume.volume.format(), path)?, *recursive)
        }
        FsVerb::Rm { image, path } => {
            let volume = Mounted::open(image, Access::Write)?;
            volume.volume.remove(names::text(path)?).map_err(failed(image))?;
            volume.commit()
        }
        FsVerb::Check { image } => check(image),
    }
}

/// Makes an error about `image` of what the file system says.
fn failed(image: &Path) -> impl Fn(FsError) -> Error {
    let image = image.to_path_buf();
    move |error| Error::FileSystem { image: image.clone(), reason: names::shown_message(&error.to_string()) }
}

fn device(image: &Path, access: Access) -> Result<Box<dyn BlockDevice>> {
    let file = disk_image::open(image, access)?;
    let disk = FileDisk::from_file(file, access == Access::Read);
    Ok(Box::new(disk.map_err(Error::io("open disk image", image))?))
}

fn make(image: &Path, bytes: u64, from: Option<&Path>) -> Result<()> {
    let blocks = bytes / BLOCK_BYTES as u64;
    if blocks > MOST_BLOCKS {
        let fix = format!("at most {} blocks of {BLOCK_BYTES} bytes are possible", MOST_BLOCKS);
        return Err(Error::Argument { what: format!("an image of {blocks} blocks"), fix });
    }
    output::expect(&[Some(image)])?;
    disk_image::check_unused(image)?;
    write_made(image, |partial| {
        let disk = FileDisk::create(partial, blocks).map_err(Error::io("create", image))?;
        extent_fs::make(Box::new(disk)).map_err(failed(image))?;
        let Some(folder) = from else { return Ok(()) };
        let volume = Mounted { image: image.to_path_buf(), ..Mounted::open(partial, Access::Write)? };
        volume.copy_in_entries(folder, "")?;
        volume.commit()
    })?;
    eprintln!("exo: {}: {} blocks, {}", image.display(), blocks, human_bytes(blocks * BLOCK_BYTES as u64));
    Ok(())
}

fn put(image: &Path, sources: &[PathBuf], to: Option<&OsStr>) -> Result<()> {
    let volume = Mounted::open(image, Access::Write)?;
    let target = names::text(to.unwrap_or(OsStr::new("/")))?;
    let into_directory = target.ends_with('/') || volume.is_directory(target);
    if sources.len() > 1 && !into_directory {
        let fix = format!("end the path with / to make a directory: --to {target}/");
        return Err(Error::Argument { what: format!("several files can't all become {target}"), fix });
    }
    for source in sources {
        let name = names::text(source.file_name().unwrap_or_default())?;
        let is_input = source.as_os_str() == "-";
        if is_input && into_directory {
            let fix = "--to PATH names it".to_owned();
            return Err(Error::Argument { what: "standard input has no name".into(), fix });
        }
        let path = if into_directory { format!("{target}/{name}") } else { target.to_owned() };
        volume.make_parents(&path)?;
        if is_input {
            volume.copy_in(&mut std::io::stdin().lock(), Path::new("standard input"), &path)?;
        } else if source.is_dir() {
            volume.make_directory(&path)?;
            volume.copy_in_entries(source, &path)?;
        } else {
            let mut input = std::fs::File::open(source).map_err(Error::io("open", source))?;
            volume.copy_in(&mut input, source, &path)?;
        }
    }
    volume.commit()
}

fn get(image: &Path, path: &OsStr, to: Option<&Path>) -> Result<()> {
    let volume = Mounted::open(image, Access::Read)?;
    let path = names::path(volume.volume.format(), path)?;
    let file = volume.volume.open(&path).map_err(failed(image))?;
    let to = to.unwrap_or(Path::new("-"));
    let mut output = Output::create(to)?;
    volume.copy_out(&file, &mut output, to)?;
    output.finish()
}

fn check(image: &Path) -> Result<()> {
    let report = extent_fs::check(device(image, Access::Read)?).map_err(failed(image))?;
    println!(
        "{}: commit {}, {} blocks, {} in use ({} of metadata), {} files, {} directories",
        image.display(),
        report.generation,
        report.blocks,
        report.used,
        report.metadata,
        report.files,
        report.directories
    );
    report.notes.iter().for_each(|note| println!("note: {note}"));
    report.problems.iter().for_each(|problem| println!("PROBLEM: {problem}"));
    match report.problems.len() {
        0 => Ok(()),
        count => {
            let reason = format!("{count} problems, the first: {}", report.problems[0]);
            Err(Error::FileSystem { image: image.to_path_buf(), reason })
        }
    }
}

/// A volume and the image it is on.
struct Mounted {
    image: PathBuf,
    volume: Volume,
}

impl Mounted {
    fn open(image: &Path, access: Access) -> Result<Mounted> {
        let options = CacheOptions { blocks: CACHE_BLOCKS, ..CacheOptions::default() };
        let volume = Volume::mount(device(image, access)?, options).map_err(failed(image))?;
        Ok(Mounted { image: image.to_path_buf(), volume })
    }

    fn commit(&self) -> Result<()> {
        self.volume.commit().map_err(failed(&self.image))
    }

    fn is_directory(&self, path: &str) -> bool {
        self.volume.list(path).is_ok()
    }

    fn make_directory(&self, path: &str) -> Result<()> {
        if self.is_directory(path) {
            return Ok(());
        }
        self.volume.create_dir(path).map_err(failed(&self.image))
    }

    fn make_parents(&self, path: &str) -> Result<()> {
        path.match_indices('/')
            .filter(|(at, _)| *at > 0)
            .try_for_each(|(at, _)| self.make_directory(&path[..at]))
    }

    /// Copies what is in a directory of the host, with the directories in it. Symbolic links are followed.
    fn copy_in_entries(&self, folder: &Path, to: &str) -> Result<()> {
        let listing = std::fs::read_dir(folder).map_err(Error::io("list", folder))?;
        let paths: std::io::Result<Vec<PathBuf>> = listing.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(Error::io("list", folder))?;
        paths.sort();
        for source in paths {
            let path = format!("{to}/{}", names::text(source.file_name().unwrap_or_default())?);
            if source.is_dir() {
                self.make_directory(&path)?;
                self.copy_in_entries(&source, &path)?;
            } else if source.is_file() {
                let mut input = std::fs::File::open(&source).map_err(Error::io("open", &source))?;
                self.copy_in(&mut input, &source, &path)?;
            } else {
                eprintln!("exo: warning: {} is neither file nor directory: left out", source.display());
            }
        }
        Ok(())
    }

    /// Makes or replaces a file.
    fn copy_in(&self, input: &mut dyn Read, source: &Path, path: &str) -> Result<()> {
        let file = match self.volume.open(path) {
            Ok(file) => {
                file.truncate(0).map_err(failed(&self.image))?;
                file
            }
            Err(FsError::NotFound(_)) => self.volume.create(path).map_err(failed(&self.image))?,
            Err(error) => return Err(failed(&self.image)(error)),
        };
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = input.read(&mut buffer).map_err(Error::io("read", source))?;
            if count == 0 {
                return Ok(());
            }
            file.append(&buffer[..count]).map_err(failed(&self.image))?;
        }
    }

    fn copy_out(&self, file: &File, output: &mut dyn Write, to: &Path) -> Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        loop {
            let count = file.read_at(offset, &mut buffer).map_err(failed(&self.image))?;
            if count == 0 {
                return Ok(());
            }
            output.write_all(&buffer[..count]).map_err(Error::io("write", to))?;
            offset += count as u64;
        }
    }

    fn list(&self, path: &str, recursive: bool) -> Result<()> {
        for entry in self.volume.list(path).map_err(failed(&self.image))? {
            if streams::failed() {
                return Ok(());
            }
            let full = format!("{}/{}", path.trim_end_matches('/'), entry.name);
            let shown = names::shown(self.volume.format(), &full);
            match entry.kind {
                EntryKind::File => println!("{:>12}  {shown}", entry.bytes),
                EntryKind::Directory => println!("{:>12}  {shown}/", "-"),
                EntryKind::Other => println!("{:>12}  {shown}", "special"),
            }
            // An ext4 directory may list itself and its parent.
            let real = entry.name != "." && entry.name != "..";
            if recursive && real && entry.kind == EntryKind::Directory {
                self.list(&full, recursive)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_in_and_come_out() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("a.img");
        let tree = scratch.path().join("tree");
        std::fs::create_dir_all(tree.join("deep/er")).unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
        std::fs::write(tree.join("deep/er/big"), &content).unwrap();
        std::fs::write(tree.join("small"), "text").unwrap();
        make(&image, 16 << 20, Some(&tree)).unwrap();
        check(&image).unwrap();
        let out = scratch.path().join("out");
        get(&image, OsStr::new("deep/er/big"), Some(&out)).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), content);

        put(&image, &[tree.join("small")], Some(OsStr::new("/other/name"))).unwrap();
        put(&image, std::slice::from_ref(&tree), None).unwrap();
        get(&image, OsStr::new("/other/name"), Some(&out)).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), b"text");
        get(&image, OsStr::new("tree/deep/er/big"), Some(&out)).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), content);
        files(&FsVerb::Rm { image: image.clone(), path: "other/name".into() }).unwrap();
        assert!(get(&image, OsStr::new("other/name"), Some(&out)).is_err());
        check(&image).unwrap();
    }

    #[test]
    fn damage_is_reported_with_the_image() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("a.img");
        std::fs::write(scratch.path().join("f"), vec![1; 100_000]).unwrap();
        make(&image, 1 << 20, Some(scratch.path())).unwrap_err();
        let tree = scratch.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("f"), vec![1; 100_000]).unwrap();
        make(&image, 1 << 20, Some(&tree)).unwrap();
        let mut bytes = std::fs::read(&image).unwrap();
        let at = bytes.windows(4096).position(|window| window.iter().all(|byte| *byte == 1)).unwrap();
        bytes[at + 5] = 2;
        std::fs::write(&image, bytes).unwrap();
        let error = check(&image).unwrap_err().to_string();
        assert!(error.contains("a.img"), "{error}");
        let full = put(&image, &[std::env::current_exe().unwrap()], None).unwrap_err().to_string();
        assert!(full.contains("disk full"), "{full}");
    }
}
