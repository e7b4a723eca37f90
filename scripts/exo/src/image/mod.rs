//! `exo image`: one file, or one container image, that boots: HyperExo with unikernels, or a unikernel alone.
//!
//! | module | what |
//! |---|---|
//! | [`payload`] | what is booted, whatever the form |
//! | [`elf`] | kernel and bundle as one ELF file |
//! | [`disk`] | disks that boot, with room for data |
//! | [`qcow2`] | QEMU's disk format |
//! | [`oci`] | container images |

mod disk;
mod elf;
mod oci;
mod payload;
mod qcow2;

use crate::build::Freshness;
use crate::bundle::environments::EnvironmentArgs;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::disk_image;
use crate::host::output::{self, Output, write_atomically, write_made};
use crate::machine::iso;
use crate::units::human_bytes;
pub use payload::{BUNDLE_PATH, KERNEL_PATH, Payload, PayloadArgs};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `exo image`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct ImageArgs {
    #[command(flatten)]
    environments: EnvironmentArgs,
    #[command(flatten)]
    payload: PayloadArgs,
    /// Form of the image
    #[arg(long, value_enum)]
    format: Format,
    /// Where to (default: the first application's name with the form's ending, in the current directory)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// An image of data for the first application: behind the boot part of raw and qcow2 (what is written
    /// there stays), a copy in memory with iso, /disk/data.img in oci
    #[arg(long, value_name = "IMG", conflicts_with = "disk")]
    data: Option<PathBuf>,
    /// The machine will have a virtio disk of its own, for the first application
    #[arg(long)]
    disk: bool,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
}

const HELP: &str = "\
Forms:
  elf    kernel and bundle in one file: qemu -kernel, Firecracker, Cloud Hypervisor (by PVH). No words for a unikernel
         alone: its loader has a command line for them
  iso    CD with GRUB: PC firmware (BIOS), QEMU, Bochs, real machines
  raw    disk with GRUB: PC firmware; attached as IDE, SATA or virtio. HyperExo takes the first virtio disk as its disk:
         with --disk, attach the boot disk as something else
  qcow2  the same in QEMU's format
  oci    container image with the files in /boot: a directory, or one file if its name ends with .tar

Examples:
  exo image hello --format iso
  exo image filecache --format raw --data data/filecache.img -- workload=din policy=own cache=80%
  exo image hello --direct --format qcow2 -- greeting=1";

/// Forms of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One ELF file.
    Elf,
    /// A boot CD.
    Iso,
    /// A boot disk.
    Raw,
    /// A boot disk in QEMU's format.
    Qcow2,
    /// An OCI image.
    Oci,
}

impl Format {
    /// Ending of its files.
    fn ending(self) -> &'static str {
        match self {
            Format::Elf => "elf",
            Format::Iso => "iso",
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Oci => "oci",
        }
    }
}

/// The verb.
pub fn image(args: &ImageArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    if args.format != Format::Oci {
        output::expect(&[args.out.as_deref()])?;
    }
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let data = args.data.as_deref().map(|data| Data::of(data, args)).transpose()?;
    let place = data.as_ref().map(|data| data.place(args.format)).transpose()?;
    let disk = args.disk.then_some(crate::units::Extent::ALL).or(place);
    let payload = Payload::make(&checkout, &args.environments, &args.payload, disk, freshness)?;
    let name = format!("{}.{}", payload.name, args.format.ending());
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(name));
    write(&payload, args.format, data.as_ref().map(|data| data.path), &out)?;
    match bytes_of(&out) {
        0 => println!("{}", out.display()),
        bytes => println!("{} ({})", out.display(), human_bytes(bytes)),
    }
    Ok(())
}

/// Data to go with the image.
struct Data<'a> {
    path: &'a Path,
    bytes: u64,
}

impl Data<'_> {
    fn of<'a>(path: &'a Path, args: &ImageArgs) -> Result<Data<'a>> {
        let refuse = |what: &str, fix: &str| Err(Error::Argument { what: what.into(), fix: fix.into() });
        match (args.format, args.payload.direct) {
            (Format::Elf, _) => {
                return refuse("an ELF file has no room for data", "attach a disk, and say --disk");
            }
            (Format::Oci, _) | (_, false) => {}
            (_, true) => {
                let fix = "attach the data as a disk of its own, and say --disk";
                return refuse("a unikernel alone takes a whole disk, not a part of the boot disk", fix);
            }
        }
        disk_image::check_raw(path)?;
        let bytes = path.metadata().map_err(Error::io("read", path))?.len();
        Ok(Data { path, bytes })
    }

    /// Blocks of the machine's disk on which it will be.
    fn place(&self, format: Format) -> Result<crate::units::Extent> {
        if self.bytes == 0 || !self.bytes.is_multiple_of(hyperexo_abi::BLOCK_BYTES as u64) {
            let what = format!("{}: {} bytes are no whole number of blocks", self.path.display(), self.bytes);
            let fix =
                format!("blocks have {} bytes; `exo fs make` makes such images", hyperexo_abi::BLOCK_BYTES);
            return Err(Error::Argument { what, fix });
        }
        Ok(match format {
            Format::Raw | Format::Qcow2 => disk::data_extent(self.bytes),
            Format::Elf | Format::Iso | Format::Oci => crate::units::Extent::ALL,
        })
    }
}

/// Writes an image to `out`.
fn write(payload: &Payload, format: Format, data: Option<&Path>, out: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let mut modules: Vec<&Path> = payload.bundle.as_deref().into_iter().collect();
    let contents =
        |modules| iso::Contents { kernel: &payload.kernel, command_line: &payload.command_line, modules };
    match format {
        Format::Elf => write_atomically(out, &one_elf(payload)?),
        Format::Iso => {
            modules.extend(data);
            write_made(out, |out| iso::write(out, &contents(&modules), scratch.path()))
        }
        Format::Raw => write_made(out, |out| disk::write_raw(out, &contents(&modules), data, scratch.path())),
        Format::Qcow2 => {
            let raw = scratch.path().join("disk.raw");
            disk::write_raw(&raw, &contents(&modules), data, scratch.path())?;
            let mut output = Output::create(out)?;
            disk::convert_to_qcow2(&raw, &mut output, out)?;
            output.finish()
        }
        Format::Oci => write_oci(payload, data, out),
    }
}

/// Kernel and bundle as one ELF file.
fn one_elf(payload: &Payload) -> Result<Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).map_err(Error::io("read", path));
    let kernel = read(&payload.kernel)?;
    match &payload.bundle {
        Some(bundle) => elf::attach(&kernel, &read(bundle)?)
            .map_err(|reason| Error::Elf { path: payload.kernel.clone(), reason }),
        None if payload.words.is_empty() => Ok(kernel),
        None => Err(Error::Argument {
            what: "an ELF file has no room for the words of a unikernel alone".into(),
            fix: format!("give them to its loader: -append '{}'", payload.command_line),
        }),
    }
}

fn write_oci(payload: &Payload, data: Option<&Path>, out: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).map_err(Error::io("read", path));
    let mut entries = vec![(payload::KERNEL_PATH[1..].to_owned(), read(&payload.kernel)?)];
    let mut labels = json!({
        "org.opencontainers.image.title": payload.name,
        "hyperexo.kernel": payload::KERNEL_PATH,
        "hyperexo.command-line": payload.command_line,
    });
    if let Some(bundle) = &payload.bundle {
        entries.push((payload::BUNDLE_PATH[1..].to_owned(), read(bundle)?));
        labels["hyperexo.bundle"] = payload::BUNDLE_PATH.into();
    }
    if let Some(data) = data {
        entries.push((payload::DATA_PATH[1..].to_owned(), read(data)?));
        labels["hyperexo.data"] = payload::DATA_PATH.into();
    }
    if out.extension().is_some_and(|ending| ending == "tar") {
        oci::write_archive(out, &entries, &labels)
    } else {
        oci::write_layout(out, &entries, &labels)
    }
}

/// Bytes of a file, or of all files in a directory.
fn bytes_of(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(listing) => listing.filter_map(|entry| Some(bytes_of(&entry.ok()?.path()))).sum(),
        Err(_) => path.metadata().map_or(0, |meta| meta.len()),
    }
}
