//! One boot of a comparison.

use super::Comparison;
use crate::error::{Error, Result};
use crate::run::{Environment, pack};
use crate::serial::{Line, parse};
use crate::session::{self, Outcome};
use crate::symbols::Symbols;
use crate::units::Extent;
use filecache::references;
use hyperexo_abi::BLOCK_BYTES;
use results::CompareLine;
use std::time::Duration;

/// What is measured.
pub struct Setting<'a> {
    /// Workload.
    pub workload: &'a str,
    /// Policy.
    pub policy: &'a str,
    /// Whether this boot records references and is not for timing.
    pub record: bool,
}

/// What came out.
pub struct Sample {
    /// Number of the boot among those of its policy, from 0.
    pub run: u32,
    /// The guest's result line, completed.
    pub line: CompareLine,
    /// Three counts of block reads.
    pub counts: Counts,
    /// Recorded references; empty unless asked for.
    pub references: Vec<u64>,
}

/// Blocks moved, counted in three places, mounting included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Reads, by the library operating system.
    pub libos: u64,
    /// Reads, by HyperExo's accounting.
    pub hyperexo: u64,
    /// Reads, by QEMU.
    pub qemu: u64,
    /// Reads for mounting among `libos`.
    pub mounting: u64,
    /// Writes, by the library operating system, HyperExo and QEMU.
    pub writes: [u64; 3],
}

impl Counts {
    /// An error unless all three agree exactly.
    pub fn check(&self, what: &str) -> Result<()> {
        if self.agree() {
            return Ok(());
        }
        let [libos, hyperexo, qemu] = self.writes;
        Err(Error::Measurement(format!(
            "{what}: counts differ: {} blocks read by the libOS, {} by HyperExo's accounting, {} by QEMU; {libos}, \
             {hyperexo} and {qemu} written",
            self.libos, self.hyperexo, self.qemu
        )))
    }

    /// Whether all three agree.
    pub fn agree(&self) -> bool {
        let [libos, hyperexo, qemu] = self.writes;
        self.libos == self.hyperexo && self.hyperexo == self.qemu && libos == hyperexo && hyperexo == qemu
    }
}

/// Time limit of a boot unless the user gives one.
const LIMIT: Duration = Duration::from_secs(600);

/// Boots, waits for the result, and completes it.
pub fn boot(comparison: &Comparison<'_>, setting: &Setting<'_>, run: u32) -> Result<Sample> {
    let Setting { workload, policy, record } = setting;
    let mut words = format!("workload={workload} policy={policy} cache={}", comparison.cache);
    if let Some(read_ahead) = &comparison.args.read_ahead {
        words.push_str(&format!(" read_ahead={read_ahead}"));
    }
    if *record {
        words.push_str(" record=1");
    }
    let label = comparison.source.name();
    let environment = Environment {
        label: label.clone(),
        source: comparison.source.clone(),
        words,
        quota_bytes: None,
        extent: Some(Extent::ALL),
    };
    let mut machine_args = comparison.machine.clone();
    if *record {
        (machine_args.disk_iops, machine_args.disk_mbps) = (None, None);
    }
    let mut symbols = Symbols::default();
    let environments = [environment];
    let bundle = pack(&comparison.checkout, &comparison.built, &environments, &machine_args, &mut symbols)?;
    let machine = machine_args.machine(&comparison.built.kernel_file, &bundle)?;
    if comparison.args.verbose {
        eprintln!("exo: {}", machine.shell_command());
    }
    let mut heard = Heard { workload, verbose: comparison.args.verbose, ..Heard::default() };
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
    line.platform = Some("qemu-svm".into());
    line.accel = Some(machine.accel.name().into());
    let counts = counts(&line, &outcome, &label)?;
    Ok(Sample { run, line, counts, references: heard.references })
}

/// The three counts of a boot.
fn counts(line: &CompareLine, outcome: &Outcome, label: &str) -> Result<Counts> {
    let missing = |what: &str| Error::Measurement(format!("{} under {}: {what}", line.workload, line.policy));
    let accounting = outcome.accounting_of(label).ok_or_else(|| missing("no accounting line of HyperExo"))?;
    let stats = outcome.block_stats.ok_or_else(|| missing("QEMU reports no disk"))?;
    let blocks = |bytes: u64| -> Result<u64> {
        let whole = bytes.is_multiple_of(BLOCK_BYTES as u64);
        let reason = || missing(&format!("QEMU counts {bytes} bytes, which are no whole blocks"));
        whole.then_some(bytes / BLOCK_BYTES as u64).ok_or_else(reason)
    };
    Ok(Counts {
        libos: line.reads + line.mount_reads,
        hyperexo: accounting.disk_blocks_read,
        qemu: blocks(stats.rd_bytes)?,
        mounting: line.mount_reads,
        writes: [line.writes, accounting.disk_blocks_written, blocks(stats.wr_bytes)?],
    })
}

/// What is taken from the lines of a boot.
#[derive(Default)]
struct Heard<'a> {
    workload: &'a str,
    verbose: bool,
    line: Option<CompareLine>,
    references: Vec<u64>,
    bad_reference: Option<references::BadRun>,
    /// Lines that are none of these.
    said: Vec<String>,
}

impl Heard<'_> {
    fn line(&mut self, line: &str, symbols: &mut Symbols) {
        let text = match parse(line) {
            Line::Guest { name, text } => {
                match references::parse_line(self.workload, text, &mut self.references) {
                    Some(Ok(())) => return,
                    Some(Err(error)) => self.bad_reference = Some(error),
                    None => {}
                }
                if let Ok(found) = CompareLine::parse(text) {
                    self.line = Some(found);
                }
                symbols.annotate(name, text)
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
