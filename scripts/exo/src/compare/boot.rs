//! One boot of a comparison.

use super::Comparison;
use crate::build::symbols::Symbols;
use crate::bundle::environments::{Environment, pack};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use crate::machine::direct;
use crate::session::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::units::Extent;
use hyperexo_abi::BLOCK_BYTES;
use libos_fs::cache::references;
use results::CompareLine;
use std::time::Duration;

/// What is measured.
pub struct Setting<'a> {
    /// Workload.
    pub workload: &'a str,
    /// Size of the cache, as the guest understands it.
    pub cache: &'a str,
    /// Policy.
    pub policy: &'a str,
    /// Whether this boot records references and is not for timing.
    pub record: bool,
    /// Read-ahead; the guest's default if `None`.
    pub read_ahead: Option<&'a str>,
}

/// What came out.
pub struct Sample {
    /// Number of the boot among those of its policy and read-ahead, from 0.
    pub run: u32,
    /// The guest's result line, completed.
    pub line: CompareLine,
    /// Counts of blocks.
    pub counts: Counts,
    /// Lines of code of the policy, where they are known.
    pub policy_lines: Option<u64>,
    /// Recorded references; empty unless asked for.
    pub references: Vec<u64>,
}

/// Blocks moved, counted in up to three places, mounting included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Reads, by the operating system below the workload: the library, or Linux.
    pub system: u64,
    /// Reads and writes, by HyperExo's accounting; `None` without HyperExo.
    pub hyperexo: Option<[u64; 2]>,
    /// Reads and writes, by QEMU; `None` on Bochs, where the disk is a copy in memory.
    pub qemu: Option<[u64; 2]>,
    /// Reads for mounting among `system`.
    pub mounting: u64,
    /// Writes, by the library operating system; `None` on Linux.
    pub writes: Option<u64>,
}

impl Counts {
    /// An error unless all agree exactly. Linux may read a little after its program has counted: that makes
    /// no error, but is told.
    pub fn check(&self, what: &str) -> Result<()> {
        if self.agree() || self.late_reads() <= MOST_LATE_READS {
            return Ok(());
        }
        let mut text =
            format!("{what}: counts differ: {} blocks read by the operating system's count", self.system);
        if let Some(writes) = self.writes {
            text += &format!(" and {writes} written");
        }
        if let Some([reads, writes]) = self.hyperexo {
            text += &format!("; {reads} read by HyperExo's accounting and {writes} written");
        }
        if let Some([reads, writes]) = self.qemu {
            text += &format!("; {reads} read by QEMU and {writes} written");
        }
        Err(Error::Measurement(text))
    }

    /// Blocks that Linux has read after it counted; without end if this is no Linux, or if it counted more.
    fn late_reads(&self) -> u64 {
        match (self.writes, self.qemu) {
            (None, Some([reads, _])) => reads.checked_sub(self.system).unwrap_or(u64::MAX),
            _ => u64::MAX,
        }
    }

    /// Whether all agree.
    pub fn agree(&self) -> bool {
        let others = self.hyperexo.into_iter().chain(self.qemu);
        others
            .into_iter()
            .all(|[reads, writes]| reads == self.system && self.writes.is_none_or(|own| own == writes))
    }
}

/// Blocks that Linux may read after its program has counted: one was seen, in 3 of 400 boots.
const MOST_LATE_READS: u64 = 2;

/// Platform of a result without HyperExo.
pub const DIRECT: &str = "direct";

/// Time limit of a boot unless the user gives one.
pub const LIMIT: Duration = Duration::from_secs(600);

/// Boots, waits for the result, and completes it.
pub fn boot(comparison: &Comparison<'_>, setting: &Setting<'_>, run: u32) -> Result<Sample> {
    let Setting { workload, cache, policy, record, read_ahead } = setting;
    let cores = comparison.cores_of(setting);
    let mut words = format!("workload={workload} policy={policy} cache={cache}");
    if let Some(read_ahead) = read_ahead {
        words.push_str(&format!(" read_ahead={read_ahead}"));
    }
    if *record {
        words.push_str(" record=1");
    }
    if let Some(cores) = cores {
        words.push_str(&format!(" cores={cores}"));
    }
    let label = comparison.source.name();
    let environment = Environment {
        extent: Some(Extent::ALL),
        ..Environment::new(label.clone(), comparison.source.clone(), words)
    };
    let mut machine_args = comparison.machine_of(workload);
    if *record {
        (machine_args.disk_iops, machine_args.disk_mbps) = (None, None);
    }
    let mut symbols = Symbols::default();
    let machine = machine(comparison, environment, &machine_args, &mut symbols)?;
    if comparison.args.verbose && machine.accel != Accel::Bochs {
        eprintln!("exo: {}", machine.shell_command());
    }
    let mut heard = Heard::new(workload, comparison.args.verbose);
    let limit = machine_args.limit().unwrap_or(LIMIT);
    let outcome = session::run(&machine, Some(limit), &mut |line, _| heard.line(line, &mut symbols))?;
    if let Err(error) = outcome.check() {
        // What the guest said explains its end.
        heard.said.iter().for_each(|line| eprintln!("{line}"));
        // A wrong result is judged, with all others, after the table has been printed.
        if heard.line.as_ref().is_none_or(|line| line.verified) {
            return Err(error);
        }
    }
    let mut line = heard.line.ok_or_else(|| {
        Error::Measurement(format!("{workload} under {policy}: {label} printed no result line"))
    })?;
    if let Some(error) = heard.bad_reference {
        return Err(Error::Measurement(format!("{workload}: {error}")));
    }
    // Where the clock runs on instructions, it has nothing to do with the host's.
    if machine.accel != Accel::Bochs && machine.icount.is_none() {
        let guest_s = (line.elapsed_ms + line.mount_ms) / 1e3;
        check_clock(guest_s, outcome.elapsed.as_secs_f64())
            .map_err(|why| Error::Measurement(format!("{workload} under {policy}: {why}")))?;
    }
    line.platform = Some(if comparison.args.direct { DIRECT } else { machine.accel.platform() }.to_owned());
    line.accel = Some(machine.accel.name().into());
    if let (true, Some(asked)) = (line.read_ahead.is_empty(), read_ahead) {
        line.read_ahead = (*asked).to_owned();
    }
    let counts = counts(&line, &outcome, &label, &machine)?;
    Ok(Sample { run, line, counts, references: heard.references, policy_lines: None })
}

/// The machine for an environment: under HyperExo, or the image by itself.
fn machine(
    comparison: &Comparison<'_>,
    environment: Environment,
    args: &MachineArgs,
    symbols: &mut Symbols,
) -> Result<Machine> {
    let (checkout, built) = (&comparison.checkout, &comparison.built);
    let mut machine = if comparison.args.direct {
        symbols.add(&environment.label, &built.apps[0].elf);
        direct::machine(checkout, &built.apps[0], &environment, args)?
    } else {
        let supply = args.supply();
        let bundle = pack(checkout, &built.kernel, &built.apps, &[environment], &supply, symbols)?;
        args.machine(&built.kernel_file, &bundle)?
    };
    args.make_boot_image(&mut machine, checkout)?;
    Ok(machine)
}

/// The guest's own time against the host's: an error if the guest's clock must be wrong. Starting and ending
/// take the host some time of which the guest knows nothing.
fn check_clock(guest_s: f64, host_s: f64) -> std::result::Result<(), String> {
    let possible = guest_s <= host_s * 1.02 && host_s <= guest_s * 4.0 + 10.0;
    let why = || format!("the guest's clock is wrong: {guest_s:.2} s by it, {host_s:.2} s by the host's");
    if possible { Ok(()) } else { Err(why()) }
}

/// The counts of a boot.
fn counts(line: &CompareLine, outcome: &Outcome, label: &str, machine: &Machine) -> Result<Counts> {
    let missing = |what: &str| Error::Measurement(format!("{} under {}: {what}", line.workload, line.policy));
    let hyperexo = match (&machine.direct, outcome.accounting_of(label)) {
        (Some(_), _) => None,
        (None, Some(counted)) => Some([counted.disk_blocks_read, counted.disk_blocks_written]),
        (None, None) => return Err(missing("no accounting line of HyperExo")),
    };
    let blocks = |bytes| whole_blocks(bytes, &format!("{} under {}", line.workload, line.policy));
    let qemu = match (machine.accel, outcome.block_stats) {
        (Accel::Bochs, _) => None,
        (_, Some(stats)) => Some([blocks(stats.rd_bytes)?, blocks(stats.wr_bytes)?]),
        (_, None) => return Err(missing("QEMU reports no disk")),
    };
    Ok(Counts {
        system: line.reads + line.mount_reads,
        hyperexo,
        qemu,
        mounting: line.mount_reads,
        writes: Some(line.writes),
    })
}

/// Bytes as blocks; an error if they are no whole blocks.
pub fn whole_blocks(bytes: u64, what: &str) -> Result<u64> {
    let whole = bytes.is_multiple_of(BLOCK_BYTES as u64);
    let reason =
        || Error::Measurement(format!("{what}: QEMU counts {bytes} bytes, which are no whole blocks"));
    whole.then_some(bytes / BLOCK_BYTES as u64).ok_or_else(reason)
}

/// What is taken from the lines of a boot.
pub struct Heard<'a> {
    workload: &'a str,
    verbose: bool,
    /// The result line.
    pub line: Option<CompareLine>,
    /// Recorded references.
    pub references: Vec<u64>,
    bad_reference: Option<references::BadRun>,
    /// Lines that are none of these.
    pub said: Vec<String>,
}

impl<'a> Heard<'a> {
    /// Nothing yet. `verbose` shows the lines as they come.
    pub fn new(workload: &'a str, verbose: bool) -> Heard<'a> {
        let (line, references, bad_reference, said) = Default::default();
        Heard { workload, verbose, line, references, bad_reference, said }
    }

    /// Takes a line of the machine.
    pub fn line(&mut self, line: &str, symbols: &mut Symbols) {
        let text = match parse(line) {
            Line::Guest { name, text } => {
                let mut runs = Vec::new();
                match references::parse_line(self.workload, text, &mut runs) {
                    Some(Ok(())) => {
                        self.references.extend(runs.into_iter().flat_map(|run| run.references()));
                        return;
                    }
                    Some(Err(error)) => self.bad_reference = Some(error),
                    None => {}
                }
                if let Ok(found) = CompareLine::parse(text) {
                    self.line = Some(found);
                }
                symbols.annotate(name, text)
            }
            Line::Other(text) => {
                // A guest without HyperExo.
                if let Ok(found) = CompareLine::parse(text) {
                    self.line = Some(found);
                }
                text.to_owned()
            }
            _ => line.to_owned(),
        };
        if self.verbose {
            eprintln!("{text}");
        } else {
            self.said.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_may_read_a_little_late_and_nobody_else() {
        let counts = |writes, reads| Counts {
            system: 100,
            hyperexo: None,
            qemu: Some([reads, 2]),
            mounting: 4,
            writes,
        };
        assert!(counts(None, 101).check("linux").is_ok() && !counts(None, 101).agree());
        for (writes, reads) in [(None, 103), (None, 99), (Some(2), 101)] {
            assert!(counts(writes, reads).check("one").is_err(), "{writes:?} {reads}");
        }
    }

    #[test]
    fn a_clock_that_runs_wild_is_noticed() {
        assert!(check_clock(2.0, 2.3).is_ok());
        assert!(check_clock(0.01, 3.0).is_ok(), "a busy host is slow to start");
        assert!(check_clock(2.5, 2.3).is_err());
        assert!(check_clock(1.0, 15.5).is_err());
    }
}
