//! Environments as the user describes them: which images, with which words, memory, disk space and cores.

use crate::build::Source;
use crate::build::image::Image;
use crate::build::symbols::{self, Symbols};
use crate::bundle::{self, Manifest, Writable};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use crate::units::{Extent, parse_size};
use hyperexo_abi::FRAME_BYTES;
use std::path::PathBuf;

/// The environments of a machine; common to several verbs.
#[derive(Clone, Debug, clap::Args)]
pub struct EnvironmentArgs {
    /// Unikernels to run, each as one environment: names of the checkout, directories of applications, or ELF
    /// files
    pub apps: Vec<String>,
    /// Words for the command line of every environment of APPS
    #[arg(last = true)]
    pub args: Vec<String>,
    /// An environment with words of its own: LABEL=APP:WORDS, where LABEL= and :WORDS can be left out; may be
    /// repeated
    #[arg(long = "app", value_name = "APP:WORDS")]
    pub labelled: Vec<String>,
    /// Memory an environment may own, LABEL=SIZE, or SIZE for all; may be repeated (default: an equal share)
    #[arg(long, value_name = "SIZE")]
    pub quota: Vec<String>,
    /// Blocks of the disk for an environment, LABEL=FIRST+COUNT, or FIRST+COUNT (default: all of it for the
    /// first)
    #[arg(long, value_name = "FIRST+COUNT")]
    pub disk_extent: Vec<String>,
    /// Disk space an environment may allocate besides its blocks, LABEL=SIZE, or SIZE for all, in whole MiB
    #[arg(long, value_name = "SIZE")]
    pub disk_quota: Vec<String>,
    /// Core of an environment's first virtual CPU, LABEL=N, or N for all (default: 0)
    #[arg(long, value_name = "N")]
    pub core: Vec<String>,
    /// Cores on which an environment may have virtual CPUs, LABEL=LIST, or LIST for all, as 0,2-3 or all
    /// (default: its own core; all if it is the only environment)
    #[arg(long, value_name = "LIST")]
    pub may_use_cores: Vec<String>,
}

/// What a machine has to give to its environments.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Cores.
    pub cores: u32,
    /// Its disk, if it has one.
    pub disk: Option<Writable>,
    /// Whether it has a network.
    pub network: bool,
}

/// One environment to be.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name.
    pub label: String,
    /// What runs in it.
    pub source: Source,
    /// Its command line.
    pub words: String,
    /// Bytes it may own; an equal share of the machine's memory if `None`.
    pub quota_bytes: Option<u64>,
    /// Its part of the disk.
    pub extent: Option<Extent>,
    /// Disk space it may allocate besides, in MiB.
    pub disk_quota_mib: u32,
    /// Core of its first virtual CPU.
    pub core: u32,
    /// Cores on which it may have virtual CPUs, a bit each; `None`: its own, or all if it is alone.
    pub cores: Option<u32>,
}

impl Environment {
    /// An environment with all defaults: an equal share of the memory, no disk, the first core.
    pub fn new(label: String, source: Source, words: String) -> Environment {
        Environment {
            label,
            source,
            words,
            quota_bytes: None,
            extent: None,
            disk_quota_mib: 0,
            core: 0,
            cores: None,
        }
    }
}

impl EnvironmentArgs {
    /// Whether parts of a machine are given to environments.
    pub fn divides_the_machine(&self) -> bool {
        let parts = [&self.quota, &self.disk_extent, &self.disk_quota, &self.core, &self.may_use_cores];
        parts.iter().any(|list| !list.is_empty())
    }

    /// The environments that the arguments describe, on a machine that has this to give.
    pub fn environments(&self, supply: &Supply, checkout: &Checkout) -> Result<Vec<Environment>> {
        let common = self.args.join(" ");
        let mut list: Vec<Environment> = Vec::new();
        let plain = self.apps.iter().map(|app| (None, app.as_str(), common.as_str()));
        let labelled = self.labelled.iter().map(|text| split_label(text));
        for (label, app, words) in plain.chain(labelled) {
            let source = Source::of(app, checkout)?;
            let label = label.map_or_else(|| unused_label(&source.name(), &list), str::to_owned);
            if list.iter().any(|other| other.label == label) {
                let fix = "give each a name of its own: --app NAME=APP".to_owned();
                return Err(Error::Argument { what: format!("two environments named {label}"), fix });
            }
            list.push(Environment::new(label, source, words.to_owned()));
        }
        if list.is_empty() {
            let fix = format!("exo run hello; there are {}", checkout.unikernels()?.join(", "));
            return Err(Error::Argument { what: "no application to run".into(), fix });
        }
        for text in &self.quota {
            for one in addressed(&mut list, text)?.1 {
                let bytes = parse_size(text.rsplit('=').next().unwrap_or(text));
                one.quota_bytes =
                    Some(bytes.map_err(|what| Error::Argument { what, fix: "--quota 64M".into() })?);
            }
        }
        for text in &self.disk_extent {
            let (extent, chosen) = addressed(&mut list, text)?;
            let extent: Extent = extent
                .parse()
                .map_err(|what| Error::Argument { what, fix: "--disk-extent LABEL=0+1024".into() })?;
            for one in chosen {
                one.extent = Some(extent);
            }
        }
        place(&mut list, self, supply.cores)?;
        if supply.disk.is_some() && self.disk_extent.is_empty() {
            list[0].extent = Some(Extent::ALL);
        }
        Ok(list)
    }
}

/// Reads `--disk-quota`, `--core` and `--may-use-cores`.
fn place(list: &mut [Environment], args: &EnvironmentArgs, cores: u32) -> Result<()> {
    for text in &args.disk_quota {
        let (size, chosen) = addressed(list, text)?;
        let wrong = |what| Error::Argument { what, fix: "--disk-quota LABEL=16M".into() };
        let bytes = parse_size(size).map_err(wrong)?;
        let mib = u32::try_from(bytes >> 20).ok().filter(|mib| u64::from(*mib) << 20 == bytes);
        let mib = mib.ok_or_else(|| wrong(format!("{size} is not a number of whole MiB")))?;
        chosen.into_iter().for_each(|one| one.disk_quota_mib = mib);
    }
    for text in &args.core {
        let (number, chosen) = addressed(list, text)?;
        let core = number.parse().ok().filter(|core| *core < cores).ok_or_else(|| Error::Argument {
            what: format!("{number:?} is none of the machine's cores"),
            fix: format!("there are {cores}, from 0 on; --cores N gives it more"),
        })?;
        chosen.into_iter().for_each(|one| one.core = core);
    }
    for text in &args.may_use_cores {
        let (set, chosen) = addressed(list, text)?;
        let set = core_set(set, cores)?;
        chosen.into_iter().for_each(|one| one.cores = Some(set));
    }
    Ok(())
}

/// A list of cores of a machine that has `cores`, as `0,2-3` or `all`: a bit each.
fn core_set(text: &str, cores: u32) -> Result<u32> {
    let all = 1u32.checked_shl(cores).map_or(u32::MAX, |end| end - 1);
    if text == "all" {
        return Ok(all);
    }
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        (first <= last && last < cores.min(u32::BITS))
            .then(|| (first..=last).fold(0, |set, core| set | 1 << core))
    };
    let parts: Option<Vec<u32>> = text.split(',').map(part).collect();
    let parts = parts.ok_or_else(|| Error::Argument {
        what: format!("{text:?} is no list of the machine's cores"),
        fix: format!("as 0,2-3 or all; there are {cores}, from 0 on; --cores N gives it more"),
    })?;
    Ok(parts.into_iter().fold(0, |set, part| set | part))
}

/// `[LABEL=]APP[:WORDS]` into its parts.
fn split_label(text: &str) -> (Option<&str>, &str, &str) {
    let (left, words) = text.split_once(':').unwrap_or((text, ""));
    match left.split_once('=') {
        Some((label, app)) => (Some(label), app, words),
        None => (None, left, words),
    }
}

/// The value of `[LABEL=]VALUE` and the environments it is for: the one of that label, or all.
fn addressed<'t, 'l>(
    list: &'l mut [Environment],
    text: &'t str,
) -> Result<(&'t str, Vec<&'l mut Environment>)> {
    let Some((label, value)) = text.split_once('=') else {
        return Ok((text, list.iter_mut().collect()));
    };
    let labels: Vec<String> = list.iter().map(|one| one.label.clone()).collect();
    match list.iter_mut().find(|one| one.label == label) {
        Some(one) => Ok((value, vec![one])),
        None => Err(Error::Argument {
            what: format!("{text:?}: no environment named {label}"),
            fix: format!("there are {}", labels.join(", ")),
        }),
    }
}

fn unused_label(name: &str, taken: &[Environment]) -> String {
    let free = |label: &String| taken.iter().all(|other| other.label != *label);
    std::iter::once(name.to_owned())
        .chain((2..).map(|number| format!("{name}-{number}")))
        .find(free)
        .unwrap_or_default()
}

/// Packs the environments, whose images are `apps`, into a bundle file and tells `symbols` where their
/// symbols are. The file is named after its content, so that runs do not get into each other's way and a
/// printed command stays valid.
pub fn pack(
    checkout: &Checkout,
    kernel: &Image,
    apps: &[Image],
    environments: &[Environment],
    supply: &Supply,
    symbols: &mut Symbols,
) -> Result<PathBuf> {
    symbols.add(symbols::KERNEL, &kernel.elf);
    let share = supply.memory_bytes / environments.len().max(1) as u64;
    let mut parts = Vec::new();
    for (one, image) in environments.iter().zip(apps) {
        symbols.add(&one.label, &image.elf);
        let manifest = Manifest {
            name: one.label.clone(),
            command_line: one.words.clone(),
            quota_frames: one.quota_bytes.unwrap_or(share) / FRAME_BYTES as u64,
            disk: one.extent.zip(supply.disk),
            disk_quota_mib: one.disk_quota_mib,
            core: one.core,
            // Alone there is nobody to take a core from.
            cores: one.cores.unwrap_or(if environments.len() == 1 { u32::MAX } else { 0 }),
            network: supply.network,
        };
        parts.push((manifest, image.bytes.as_slice()));
    }
    let bytes = bundle::write(&parts)?;
    let name: Vec<&str> = environments.iter().map(|one| one.label.as_str()).take(3).collect();
    let file = format!("{}-{:08x}.bundle", name.join("+"), crc32fast::hash(&bytes));
    let path = checkout.artefacts("bundles")?.join(file);
    write_atomically(&path, &bytes)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(split_label("hello"), (None, "hello", ""));
        assert_eq!(split_label("a=hello:x=1 y=2"), (Some("a"), "hello", "x=1 y=2"));
        assert_eq!(split_label("hello:x=1"), (None, "hello", "x=1"));
    }

    #[test]
    fn lists_of_cores() {
        assert_eq!(core_set("all", 4).unwrap(), 0b1111);
        assert_eq!(core_set("all", 64).unwrap(), u32::MAX);
        assert_eq!(core_set("0,2-3", 4).unwrap(), 0b1101);
        assert_eq!(core_set("1", 2).unwrap(), 0b10);
        for wrong in ["", "4", "3-2", "0,", "-1", "x", "0-9"] {
            assert!(core_set(wrong, 4).is_err(), "{wrong}");
        }
    }
}
