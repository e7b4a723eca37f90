//! The same workload in a Linux guest: the same program, built for Linux, in the same machine, on a disk of
//! the same size with the same files.

use super::boot::{Counts, Heard, LIMIT, Sample, Setting};
use super::{Comparison, families};
use crate::build::symbols::Symbols;
use crate::error::{Error, Result};
use crate::linux::{DISK_MODULES, Kernel, LinuxGuest, Step, static_program};
use crate::machine::args::MachineArgs;
use crate::session;
use filecache::DataFamily;
use filecache::linux::{PeerPolicy, ReplacementKind};
use hyperexo_abi::BLOCK_BYTES;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Name of the disk in the guest.
const DISK: &str = "vda";
/// Where it is mounted there.
const FOLDER: &str = "/data";
/// The program in the guest.
const PROGRAM: &str = "/filecache";
/// Switch of multi-generational LRU in a kernel's configuration.
const GENERATIONS: &str = "CONFIG_LRU_GEN=y";

/// A kernel and the program to run on it.
pub struct Peer {
    kernel: Kernel,
    program: PathBuf,
    /// The same files as on the disks of the others, as ext4.
    disks: BTreeMap<DataFamily, PathBuf>,
}

impl Peer {
    /// Fetches the kernel, builds the program, makes the disks.
    ///
    /// # Errors
    ///
    /// If the kernel is not offered here, or the program can't be built.
    pub fn prepare(comparison: &Comparison<'_>) -> Result<Peer> {
        let kernel = Kernel::fetch(&comparison.checkout)?;
        let program = static_program(&comparison.checkout, "filecache", &["linux"])?;
        let mut disks = BTreeMap::new();
        for family in families(&comparison.args.workloads) {
            disks.insert(family, crate::data::prepare_ext4(&comparison.checkout, family)?);
        }
        Ok(Peer { kernel, program, disks })
    }

    /// Whether the kernel has the replacement that a policy needs, as far as its configuration tells.
    pub fn offers(&self, policy: PeerPolicy) -> bool {
        let configuration = self.kernel.image.with_file_name(format!("config-{}", self.kernel.version));
        let text = std::fs::read_to_string(configuration).unwrap_or_default();
        policy.replacement == ReplacementKind::Lists || text.lines().any(|line| line == GENERATIONS)
    }

    /// Boots, waits for the result, and completes it.
    pub fn boot(&self, comparison: &Comparison<'_>, setting: &Setting<'_>, run: u32) -> Result<Sample> {
        let Setting { workload, cache, policy, .. } = setting;
        let what = format!("{workload} under {policy}");
        let mut guest = LinuxGuest::new(self.kernel.clone());
        guest.modules = DISK_MODULES.to_vec();
        guest.file_systems = true;
        guest.files = vec![(PROGRAM.into(), self.program.clone())];
        let words = [
            format!("{FOLDER}@{DISK}"),
            format!("workload={workload}"),
            format!("policy={policy}"),
            format!("cache={cache}"),
        ];
        guest.steps = vec![
            Step::Mount {
                kind: "ext4".into(),
                source: format!("/dev/{DISK}"),
                target: FOLDER.into(),
                options: "noatime".into(),
            },
            Step::Run { path: PROGRAM.into(), words: words.into() },
        ];
        let family = families(&[(*workload).to_owned()]).next();
        let disk = family.and_then(|family| self.disks.get(&family).cloned());
        let arguments = MachineArgs { disk, ..comparison.machine.clone() };
        let machine = guest.machine(&comparison.checkout, &arguments)?;
        if comparison.args.verbose {
            eprintln!("exo: {}", machine.shell_command());
        }
        let limit = arguments.limit().unwrap_or(LIMIT);
        let mut heard = Heard::new(workload, comparison.args.verbose);
        let mut symbols = Symbols::default();
        let outcome = session::run(&machine, Some(limit), &mut |line, _| heard.line(line, &mut symbols))?;
        if let Err(error) = outcome.check()
            && heard.line.as_ref().is_none_or(|line| line.verified)
        {
            heard.said.iter().for_each(|line| eprintln!("{line}"));
            return Err(error);
        }
        let missing = |why: &str| Error::Measurement(format!("{what}: {why}"));
        let mut line = heard.line.ok_or_else(|| missing("no result line"))?;
        line.platform = Some("qemu-linux".into());
        line.accel = Some(machine.accel.name().into());
        let stats = outcome.block_stats.ok_or_else(|| missing("QEMU reports no disk"))?;
        let counts = Counts {
            system: line.reads + line.mount_reads,
            hyperexo: None,
            qemu: Some([stats.rd_bytes, stats.wr_bytes].map(|bytes| bytes.div_ceil(BLOCK_BYTES as u64))),
            mounting: line.mount_reads,
            // What mounting wrote is not in the line.
            writes: None,
        };
        Ok(Sample { run, line, counts, references: heard.references, policy_lines: None })
    }
}
