//! One boot of a server, asked by a client on a tap device, and what it counted.

use super::{APP, Build, Comparison, Setting};
use crate::build::symbols::Symbols;
use crate::bundle::environments::{Environment, pack};
use crate::compare::boot::{DIRECT, whole_blocks};
use crate::error::{Error, Result};
use crate::host::tap::{MACHINE, TapNetwork};
use crate::linux::servers::{Server, guest};
use crate::machine::{Machine, direct};
use crate::served::client::exchange;
use crate::served::machine::{End, Served, serve};
use crate::session::Outcome;
use crate::units::Extent;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Instant;

/// Has QEMU count one instruction a nanosecond.
const ICOUNT: &str = "shift=0";
/// Port of the server.
const PORT: u16 = 80;

/// What a server printed at its end.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Counted {
    /// Requests that were answered.
    pub requests: u64,
    /// Frames that came in, and went out.
    pub frames_received: u64,
    /// See above.
    pub frames_sent: u64,
    /// Blocks of files read from the disk.
    pub blocks_read: u64,
    /// References to blocks that were not in the file cache.
    pub block_misses: u64,
    /// Other blocks read from the disk.
    pub metadata_blocks_read: u64,
    /// Crossings into HyperExo.
    pub exits: u64,
    /// Bytes that went out by TCP.
    pub bytes_sent: u64,
    /// Bytes copied on their way, each as often as it was.
    pub bytes_copied: u64,
    /// Bytes over which a sum was computed in software.
    pub bytes_summed: u64,
}

/// What a boot came to.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Counts of the server itself; Linux has none.
    #[serde(flatten)]
    pub counted: Option<Counted>,
    /// Instructions of the machine, its kernel included, from the first request to the last answer.
    pub instructions: u64,
    /// From the first request to the last answer, without counting instructions.
    pub elapsed_ms: f64,
    /// Platform.
    pub platform: &'static str,
    /// Accelerator of the boot that counted no instructions.
    pub accel: &'static str,
}

impl Comparison<'_> {
    /// Boots twice, once to count instructions, and asks everything each time.
    pub fn measure(&self, setting: &Setting<'_>) -> Result<Measured> {
        let address = SocketAddr::new(MACHINE.parse().expect("an address"), PORT);
        let ask = || exchange(address, setting.requests.iter().map(|request| self.site.exchange(request)));
        let timed = || -> Result<f64> {
            let start = Instant::now();
            ask()?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        let (machine, platform) = self.machine(setting, None, "")?;
        let accel = machine.accel.name();
        let (counted, elapsed_ms) = match setting.build {
            Build::Linux => (None, serve(&machine, address, End::Taken, |_| timed())?.done),
            Build::Default | Build::Own => {
                let served = serve(&machine, address, End::Itself, |_| timed())?;
                let elapsed_ms = served.done;
                (Some(self.counted(setting, &served)?), elapsed_ms)
            }
        };
        let (machine, _) = self.machine(setting, Some(ICOUNT), "")?;
        let instructions = serve(&machine, address, End::Taken, |control| {
            let before = control.instructions()?;
            ask()?;
            Ok(control.instructions()? - before)
        })?;
        Ok(Measured { counted, instructions: instructions.done, elapsed_ms, platform, accel })
    }

    /// What a server prints that is told to record its references.
    pub fn recorded(&self, setting: &Setting<'_>) -> Result<Vec<String>> {
        let address = SocketAddr::new(MACHINE.parse().expect("an address"), PORT);
        let (machine, _) = self.machine(setting, None, "record-references=1")?;
        let served = serve(&machine, address, End::Itself, |_| {
            exchange(address, setting.requests.iter().map(|request| self.site.exchange(request)))
        })?;
        Ok(served.lines)
    }

    /// The counts of a boot, if all who count blocks agree.
    fn counted<T>(&self, setting: &Setting<'_>, served: &Served<T>) -> Result<Counted> {
        #[derive(Deserialize)]
        struct Line {
            httpd: Counted,
        }
        let what = setting.what();
        let missing = |why: &str| Error::Measurement(format!("{what}: {why}"));
        let found = served.lines.iter().find_map(|line| serde_json::from_str::<Line>(line.trim()).ok());
        let counted = found.ok_or_else(|| missing("no line of counts"))?.httpd;
        if counted.requests != setting.requests.len() as u64 {
            return Err(missing(&format!("{} requests were answered", counted.requests)));
        }
        let own = counted.blocks_read + counted.metadata_blocks_read;
        let outcome = served.outcome.as_ref().ok_or_else(|| missing("no end"))?;
        for (who, reads) in self.others_count(outcome, &what)? {
            if reads != own {
                return Err(missing(&format!("{own} blocks read by the server's count, {reads} by {who}'s")));
            }
        }
        Ok(counted)
    }

    fn others_count(&self, outcome: &Outcome, what: &str) -> Result<Vec<(&'static str, u64)>> {
        let mut counts = Vec::new();
        if let Some(own) = outcome.accounting_of(APP).filter(|_| !self.args.direct) {
            counts.push(("HyperExo", own.disk_blocks_read));
        }
        if let Some(stats) = outcome.block_stats {
            counts.push(("QEMU", whole_blocks(stats.rd_bytes, what)?));
        }
        Ok(counts)
    }

    /// The machine, and the platform's name; `words` are further ones for the unikernel.
    fn machine(
        &self,
        setting: &Setting<'_>,
        icount: Option<&str>,
        words: &str,
    ) -> Result<(Machine, &'static str)> {
        let Comparison { args, checkout, built, machine: arguments, .. } = self;
        let mut arguments = arguments.clone();
        arguments.icount = icount.map(str::to_owned).or(arguments.icount);
        let label = APP.to_owned();
        let stack = if setting.build == Build::Own { "own" } else { "default" };
        // Who counts instructions is asked after the last answer, and must still be there. How often a server
        // looks for a request that has not come yet is the client's doing, and no cost of the request.
        let how = match icount {
            None => format!("requests={}", setting.requests.len()),
            Some(_) => "looks=0".to_owned(),
        };
        let address = TapNetwork::word();
        let words = format!("{address} quiet=1 stack={stack} cache={} {how} {words}", setting.blocks);
        let source = crate::build::Source::Member(APP.into());
        let environment = Environment::new(label, source, words.trim().to_owned());
        let (machine, platform) = match setting.build {
            Build::Linux => {
                arguments.disk = None;
                let guest = guest(
                    checkout,
                    Server::Nginx { site: &self.scratch.path().join(super::SITE) },
                    &TapNetwork::machine(),
                )?;
                (guest.machine(checkout, &arguments)?, "qemu-linux")
            }
            _ if args.direct => {
                (direct::machine(checkout, &built.apps[0], &environment, &arguments)?, DIRECT)
            }
            _ => {
                let environment = Environment { extent: Some(Extent::ALL), ..environment };
                let (supply, symbols) = (arguments.supply(), &mut Symbols::default());
                let bundle = pack(checkout, &built.kernel, &built.apps, &[environment], &supply, symbols)?;
                let machine = arguments.machine(&built.kernel_file, &bundle)?;
                let platform = machine.accel.platform();
                (machine, platform)
            }
        };
        if args.verbose {
            eprintln!("exo: {}", machine.shell_command());
        }
        Ok((machine, platform))
    }
}
