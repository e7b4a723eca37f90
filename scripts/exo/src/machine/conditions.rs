//! Under which conditions something was measured: goes into every result.

use crate::host::checkout::Checkout;
use crate::host::programs::version;
use crate::machine::accel::Accel;
use crate::machine::args::MachineArgs;
use serde::Serialize;
use std::process::Command;

/// Host, tools and machine of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Commit of the checkout, with `+` if there are changes; "unknown" outside a repository.
    pub commit: String,
    /// Version of the emulator.
    pub emulator: String,
    /// Processor of the host.
    pub host_cpu: String,
    /// Cores of the host.
    pub host_cores: usize,
    /// Machine type, on Bochs with the processor model.
    pub machine: String,
    /// What the machine starts with, if not what its type has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<&'static str>,
    /// Cores of the machine.
    pub cores: u32,
    /// Bytes of memory of the machine.
    pub memory_bytes: u64,
    /// Limit of requests a second, if the disk was slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_iops: Option<u64>,
    /// Limit of megabytes a second, if the disk was slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mbps: Option<u64>,
}

impl Conditions {
    /// Looks at host and arguments.
    pub fn look(checkout: &Checkout, machine: &MachineArgs) -> Conditions {
        let unknown = || "unknown".to_owned();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        Conditions {
            commit: commit(checkout).unwrap_or_else(unknown),
            emulator: emulator(machine).unwrap_or_else(unknown),
            host_cpu: model.map_or_else(unknown, |text| text.trim_start_matches(['\t', ' ', ':']).to_owned()),
            host_cores: std::thread::available_parallelism().map_or(1, usize::from),
            machine: board(machine),
            firmware: if on_bochs(machine) { None } else { machine.firmware_file() },
            cores: machine.cores,
            memory_bytes: machine.memory,
            disk_iops: machine.disk_iops,
            disk_mbps: machine.disk_mbps,
        }
    }

    /// The limits of the disk in words.
    pub fn disk(&self) -> String {
        match (self.disk_iops, self.disk_mbps) {
            (None, None) => "disk not slowed down".into(),
            (Some(iops), None) => format!("disk limited to {iops} requests/s"),
            (None, Some(rate)) => format!("disk limited to {rate} MB/s"),
            (Some(iops), Some(rate)) => format!("disk limited to {iops} requests/s and {rate} MB/s"),
        }
    }
}

fn on_bochs(machine: &MachineArgs) -> bool {
    machine.accelerator().is_ok_and(|(accel, _)| accel == Accel::Bochs)
}

fn emulator(machine: &MachineArgs) -> Option<String> {
    if on_bochs(machine) { crate::machine::bochs::version() } else { version(&machine.qemu) }
}

fn board(machine: &MachineArgs) -> String {
    match on_bochs(machine) {
        true => format!("i440fx, {}", machine.bochs_cpu),
        false => format!("{:?}", machine.machine).to_lowercase(),
    }
}

fn commit(checkout: &Checkout) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&checkout.root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(if dirty { format!("{hash}+") } else { hash })
}
