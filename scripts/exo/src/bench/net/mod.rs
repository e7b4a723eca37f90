//! `exo bench net`: servers on libos-net, directly and under HyperExo, beside Debian's in a Linux guest, in
//! the same QEMU, on a tap device in a network namespace.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | what is asked of whom |
//! | [`programs`] | `wrk` and `redis-benchmark` |
//! | [`counts`] | instructions, exits, bytes copied for a request |
//! | [`report`] | the table and the lines |
//!
//! Counts come first, from runs of their own with a fixed number of requests. Rates are those of interleaved
//! rounds: in each, every mode boots once and is asked everything. A ratio to Linux is one of the same round.

mod counts;
mod plan;
mod programs;
mod report;

use crate::build::{Built, Freshness, Source, images};
use crate::error::{Error, Result};
use crate::fs::{FsVerb, files};
use crate::host::checkout::Checkout;
use crate::host::output::{expect, write_lines};
use crate::host::tap::TapNetwork;
use crate::machine::args::MachineArgs;
use crate::machine::conditions::Conditions;
use crate::served::machine::{End, serve};
use plan::{App, Case, Machines, Mode};
use report::{Row, rows, table};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `exo bench net`.
#[derive(Debug, clap::Args)]
pub struct NetArgs {
    /// Servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = App::ALL)]
    apps: Vec<App>,
    /// Modes
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "quick", default_values_t = Mode::ALL)]
    modes: Vec<Mode>,
    /// One and 16 clients, directly and on Linux, two rounds
    #[arg(long)]
    quick: bool,
    /// Rounds (default: 5, with --quick 2)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds for which each rate is measured
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Requests of a run that counts
    #[arg(long, default_value_t = 4000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    requests: u64,
    /// Without the runs that count
    #[arg(long)]
    no_counts: bool,
    /// Writes JSON lines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
    /// The machine; its network is this bench's own
    #[command(flatten)]
    machine: MachineArgs,
}

/// Bytes of the pages of the site: small, large, and the limit of what a page cache of the server holds.
const PAGES: [(&str, usize); 2] = [("1k", 1024), ("64k", 64 * 1024)];

/// A case's rates in one round.
struct Rate {
    case: Case,
    mode: Mode,
    round: u32,
    per_second: f64,
}

/// The verb.
pub fn net(args: &NetArgs) -> Result<()> {
    expect(&[args.json.as_deref()])?;
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let known = checkout.unikernels()?;
    let apps: Vec<App> =
        args.apps.iter().copied().filter(|app| known.contains(&app.unikernel().to_owned())).collect();
    for absent in args.apps.iter().filter(|app| !apps.contains(app)) {
        eprintln!("exo: without {}: there is no such unikernel", absent.unikernel());
    }
    let sources: Vec<Source> = apps.iter().map(|app| Source::Member(app.unikernel().into())).collect();
    let built = images(&checkout, &sources, freshness)?;
    let network = TapNetwork::new()?;
    let site = Site::make(&checkout)?;
    let modes = modes(args, &apps, &checkout, &site)?;
    let rows = network.within(|| {
        apps.iter().enumerate().try_fold(Vec::new(), |mut all, (index, app)| {
            all.extend(measure(args, &checkout, &built, index, *app, &site, &modes)?);
            Ok(all)
        })
    })?;
    print!("{}", table(&rows));
    let conditions = Conditions::look(&checkout, &args.machine);
    let Some(path) = &args.json else { return Ok(()) };
    write_lines(path, rows.iter().map(|row| report::Json { bench: "net", row, conditions: &conditions }))
}

/// The pages that are asked for: as a directory, for nginx, and on a disk, for httpd.
struct Site {
    folder: PathBuf,
    image: PathBuf,
}

impl Site {
    fn make(checkout: &Checkout) -> Result<Site> {
        let place = checkout.artefacts("net")?;
        let (folder, image) = (place.join("site"), place.join("site.img"));
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        for (name, bytes) in PAGES {
            let path = folder.join(name);
            let page: Vec<u8> = (0..bytes).map(|at| b'a' + (at % 23) as u8).collect();
            std::fs::write(&path, page).map_err(Error::io("write", &path))?;
        }
        files(&FsVerb::Make { image: image.clone(), size: 4 << 20, from: Some(folder.clone()) })?;
        Ok(Site { folder, image })
    }
}

/// The modes that can be had. What Linux needs is fetched here: the namespace has no way out.
fn modes(args: &NetArgs, apps: &[App], checkout: &Checkout, site: &Site) -> Result<Vec<Mode>> {
    let mut modes = if args.quick { vec![Mode::Direct, Mode::Linux] } else { args.modes.clone() };
    if modes.contains(&Mode::Linux) {
        let fetched = apps.iter().try_for_each(|app| app.fetch_peer(checkout, &site.folder));
        match fetched {
            Ok(()) => {}
            Err(error @ Error::NotOffered { .. }) => {
                eprintln!("exo: without Linux: {error}");
                modes.retain(|mode| *mode != Mode::Linux);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(modes)
}

/// All of one server.
fn measure(
    args: &NetArgs,
    checkout: &Checkout,
    built: &Built,
    index: usize,
    app: App,
    site: &Site,
    modes: &[Mode],
) -> Result<Vec<Row>> {
    let machine_args = MachineArgs {
        net: TapNetwork::net().parse().map_err(Error::Measurement)?,
        disk: Some(site.image.clone()),
        ..args.machine.clone()
    };
    let machines = Machines { checkout, built, index, app, site: &site.folder, args: machine_args };
    let cases = app.cases(args.quick);
    let mut found = Vec::new();
    if !args.no_counts {
        for mode in modes {
            for case in &cases {
                eprintln!("exo: {} {}: counts of {}", app.name(), mode.name(), case.name());
                found.push((*case, *mode, counts::counts(&machines, *mode, case, args.requests)?));
            }
        }
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 5 });
    let mut rates = Vec::new();
    for round in 0..rounds {
        for mode in modes {
            eprintln!("exo: [{}/{rounds}] {} {}", round + 1, app.name(), mode.name());
            let machine = machines.machine(*mode, None, "")?;
            let duration = Duration::from_secs(args.seconds);
            let ask = |case: &Case| {
                let per_second = case.rate(app.address(), duration)?;
                Ok(Rate { case: *case, mode: *mode, round, per_second })
            };
            let work = |_: &mut _| cases.iter().map(ask).collect::<Result<Vec<_>>>();
            rates.extend(serve(&machine, app.address(), End::Taken, work)?.done);
        }
    }
    Ok(rows(app, &cases, modes, &found, &rates))
}
