//! `exo bench papers`: the tables of the papers that this system revives, with its own figures and Linux's
//! beside them.
//!
//! | module | what |
//! |---|---|
//! | [`tables`] | the papers' figures, as data |
//! | [`boots`] | ours and Linux's: images and a guest that are booted and say what they measured |
//! | [`report`] | rows, tables, the page |
//!
//! Counts are those that repeat: instructions under QEMU's `-icount shift=0`, ticks on Bochs. They are no
//! time. A paper's microseconds are never divided by them: what is compared is how many times less each takes
//! than the system beside it, on the same machine.

mod boots;
mod report;
mod tables;

use crate::build::{Freshness, Source, images};
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_atomically, write_lines};
use crate::machine::args::MachineArgs;
use boots::Platform;
use report::rows;
use std::path::PathBuf;
use tables::{TABLES, Table};

/// Arguments of `exo bench papers`.
#[derive(Debug, clap::Args)]
pub struct PapersArgs {
    /// Tables, by name; all if none is named
    #[arg(long, value_name = "TABLE", value_delimiter = ',', value_parser = table_names())]
    only: Vec<String>,
    /// Only under HyperExo in QEMU, in small batches, and without Linux
    #[arg(long)]
    quick: bool,
    /// Without the Linux guest
    #[arg(long)]
    no_linux: bool,
    /// Where ours is measured; all if none is named
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', value_enum)]
    platform: Vec<Platform>,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with bars
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Names that `--only` takes.
fn table_names() -> clap::builder::PossibleValuesParser {
    TABLES.iter().map(|table| table.name).collect::<Vec<_>>().into()
}

impl PapersArgs {
    fn tables(&self) -> Vec<&'static Table> {
        let wanted = |table: &&Table| self.only.is_empty() || self.only.iter().any(|name| name == table.name);
        TABLES.iter().filter(wanted).collect()
    }

    fn platforms(&self) -> Vec<Platform> {
        match (self.platform.as_slice(), self.quick) {
            ([], true) => vec![Platform::QemuSvm],
            ([], false) => Platform::ALL.to_vec(),
            (named, _) => named.to_vec(),
        }
    }
}

/// The verb.
pub fn papers(args: &PapersArgs) -> Result<()> {
    expect(&[args.json.as_deref(), args.html.as_deref()])?;
    if args.machine.on.is_some() {
        let fix = "name platforms with --platform".to_owned();
        return Err(Error::Argument { what: "--on says nothing here".into(), fix });
    }
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let built = images(&checkout, &[Source::Member(boots::APP.into())], freshness)?;
    let tables = args.tables();
    let mut groups: Vec<&str> = tables.iter().flat_map(|table| table.groups).copied().collect();
    groups.sort_unstable();
    groups.dedup();
    let linux = if args.quick || args.no_linux {
        None
    } else {
        Some(boots::linux(&checkout, &args.machine, &groups)?)
    };
    let mut found = Vec::new();
    for platform in args.platforms() {
        let measured = boots::ours(&checkout, &built, &args.machine, platform, &groups, args.quick)?;
        let beside = linux.as_ref().filter(|_| platform.counts_as_linux());
        found.extend(rows(&tables, &measured, beside, platform));
    }
    for table in &tables {
        print!("{}", report::text(table, &found));
    }
    print!("{}", report::losses(&found));
    if let Some(path) = &args.html {
        write_atomically(path, report::page(&tables, &found).as_bytes())?;
    }
    args.json.as_deref().map_or(Ok(()), |path| write_lines(path, found.iter()))
}
