//! What is booted, whatever the form: a kernel, its command line, and perhaps a bundle.

use crate::build::symbols::Symbols;
use crate::build::{Freshness, Source, images};
use crate::bundle::Writable;
use crate::bundle::environments::{Environment, EnvironmentArgs, Supply, pack};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::write_atomically;
use crate::units::{Extent, parse_size};
use std::path::PathBuf;

/// Path of the kernel in images that have paths.
pub const KERNEL_PATH: &str = "/boot/kernel.elf";
/// Path of the bundle.
pub const BUNDLE_PATH: &str = "/boot/bundle";
/// Path of the data.
pub const DATA_PATH: &str = "/disk/data.img";

/// What is to be booted; common to several verbs.
#[derive(Clone, Debug, clap::Args)]
pub struct PayloadArgs {
    /// The unikernel alone, without HyperExo
    #[arg(long)]
    pub direct: bool,
    /// HyperExo with the unikernels (the default)
    #[arg(long, conflicts_with = "direct")]
    pub hyperexo: bool,
    /// Memory of the machine that it is for: environments without --quota get equal shares of it
    #[arg(long, default_value = "256M", value_parser = parse_size, value_name = "SIZE")]
    pub memory: u64,
    /// Cores of the machine that it is for
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cores: u32,
    /// Lets the environments use the machine's network
    #[arg(long)]
    pub network: bool,
    /// Words for the kernel's command line, such as slice-us=1000
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub kernel_args: Vec<String>,
}

/// What is booted.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Name of the first application.
    pub name: String,
    /// ELF of HyperExo, or of the unikernel.
    pub kernel: PathBuf,
    /// Its command line.
    pub command_line: String,
    /// The application's part of it; empty with HyperExo, where that is in the bundle.
    pub words: String,
    /// The bundle, with HyperExo.
    pub bundle: Option<PathBuf>,
}

impl Payload {
    /// Builds what the arguments describe. `disk` is the part of the machine's disk that the data are on:
    /// environments count their blocks from its first.
    pub fn make(
        checkout: &Checkout,
        environments: &EnvironmentArgs,
        args: &PayloadArgs,
        disk: Option<Extent>,
        freshness: Freshness,
    ) -> Result<Payload> {
        let rights = disk.map(|_| Writable::Yes);
        let supply =
            Supply { memory_bytes: args.memory, cores: args.cores, disk: rights, network: args.network };
        let mut list = environments.environments(&supply, checkout)?;
        let name = list[0].label.clone();
        if args.direct {
            return alone(checkout, environments, args, &list, freshness);
        }
        if let Some(disk) = disk {
            list.iter_mut().try_for_each(|one| place(one, disk))?;
        }
        let sources: Vec<Source> = list.iter().map(|one| one.source.clone()).collect();
        let built = images(checkout, &sources, freshness)?;
        let bundle = pack(checkout, &built.kernel, &built.apps, &list, &supply, &mut Symbols::default())?;
        let command_line = [&["end=exit".to_owned()], &args.kernel_args[..]].concat().join(" ");
        let kernel = built.kernel_file;
        Ok(Payload { name, kernel, command_line, words: String::new(), bundle: Some(bundle) })
    }
}

/// A unikernel without HyperExo.
fn alone(
    checkout: &Checkout,
    environments: &EnvironmentArgs,
    args: &PayloadArgs,
    list: &[Environment],
    freshness: Freshness,
) -> Result<Payload> {
    let [one] = list else {
        let what = format!("{} applications without HyperExo in one image", list.len());
        return Err(Error::Argument { what, fix: "name one, or leave out --direct".into() });
    };
    if environments.divides_the_machine() {
        return Err(Error::Argument {
            what: "quotas, extents and cores of environments mean nothing without HyperExo".into(),
            fix: "leave them out, or leave out --direct".into(),
        });
    }
    let built = images(checkout, std::slice::from_ref(&one.source), freshness)?;
    let kernel = checkout.artefacts("images")?.join(format!("{}.elf", one.label));
    write_atomically(&kernel, &built.apps[0].bytes)?;
    let own = [&[format!("name={}", one.label)], &args.kernel_args[..]].concat().join(" ");
    let command_line = format!("{own} -- {}", one.words).trim_end().to_owned();
    Ok(Payload { name: one.label.clone(), kernel, command_line, words: one.words.clone(), bundle: None })
}

/// Moves an environment's blocks to where the data are.
fn place(one: &mut Environment, disk: Extent) -> Result<()> {
    let Some(extent) = &mut one.extent else { return Ok(()) };
    if *extent == Extent::ALL {
        *extent = disk;
        return Ok(());
    }
    let outside = || Error::Argument {
        what: format!("{}: blocks {}+{} are not all on the disk", one.label, extent.first, extent.count),
        fix: format!("the data have {} blocks", disk.count),
    };
    let most = disk.count.checked_sub(extent.first).ok_or_else(outside)?;
    let count = if extent.count == hyperexo_abi::ANY { most } else { extent.count };
    if count > most {
        return Err(outside());
    }
    *extent = Extent { first: disk.first + extent.first, count };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_from_where_the_data_begin() {
        let disk = Extent { first: 100, count: 50 };
        let placed = |extent: &str| {
            let source = Source::Member("hello".into());
            let mut one = Environment::new("a".into(), source, String::new());
            one.extent = Some(extent.parse().unwrap());
            place(&mut one, disk).map(|()| one.extent.unwrap())
        };
        assert_eq!(placed("0+").unwrap(), disk);
        assert_eq!(placed("10+").unwrap(), Extent { first: 110, count: 40 });
        assert_eq!(placed("10+40").unwrap(), Extent { first: 110, count: 40 });
        assert!(placed("10+41").unwrap_err().to_string().contains("blocks 10+41"));
        assert!(placed("51+").is_err());
    }
}
