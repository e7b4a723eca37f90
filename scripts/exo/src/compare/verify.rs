//! `--verify`: every workload under every policy once more, without read-ahead, with its references recorded;
//! then the same on the host, and by the simulator. All must have read the same blocks.

use super::Comparison;
use super::boot::{self, Sample, Setting};
use crate::error::{Error, Result};
use crate::units::thousands;
use filecache::linux::PeerPolicy;
use filecache::{Options, Outcome, Policy, Workload};
use libos_fs::cache::simulate;
use libos_fs::{RamDisk, ReadAheadKind};

/// Runs all of it and says what agrees.
///
/// # Errors
///
/// With the first difference.
pub fn verify(comparison: &Comparison<'_>) -> Result<()> {
    for workload in &comparison.args.workloads {
        for cache in &comparison.caches {
            for policy in comparison.policies.iter().filter(|name| PeerPolicy::named(name).is_none()) {
                eprintln!("exo: verifying {workload}, cache {cache}: {policy}");
                let asked = Setting { workload, cache, policy, record: true, read_ahead: Some("none") };
                // In blocks, so that it has that size from the start, as in the simulator.
                let blocks = on_host(comparison, &asked)?.line.cache_blocks.to_string();
                let setting = Setting { cache: &blocks, ..asked };
                let sample = boot::boot(comparison, &setting, 0)?;
                sample.counts.check(&format!("{workload} under {policy}"))?;
                println!("{}", check(comparison, &setting, &sample)?);
            }
        }
    }
    Ok(())
}

/// Compares a boot with the same run on the host and with the simulator.
fn check(comparison: &Comparison<'_>, setting: &Setting<'_>, sample: &Sample) -> Result<String> {
    let Setting { workload, cache, policy, .. } = setting;
    let what = format!("{workload}, cache {cache}, {policy}");
    let differ = |where_else: &str, guest: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Error::Measurement(format!("{what}: {guest:?} in the guest, {other:?} {where_else}"))
    };
    let options = options(setting)?;
    let host = on_host(comparison, setting)?;
    let line = &sample.line;
    if sample.references != host.references {
        return Err(differ("on the host", &sample.references.len(), &host.references.len()));
    }
    for (guest, other) in [
        (line.reads, host.line.reads),
        (line.mount_reads, host.line.mount_reads),
        (line.misses, host.line.misses),
        (line.writes, host.line.writes),
    ] {
        if guest != other {
            return Err(differ("on the host", &guest, &other));
        }
    }
    if line.reads_digest != host.line.reads_digest {
        return Err(differ("on the host", &line.reads_digest, &host.line.reads_digest));
    }
    let reads = thousands(line.reads);
    let mut said = format!("{what}: {reads} blocks read, block by block the same on the host");
    if let Some(kind) = simulated(&options) {
        let blocks = line.cache_blocks as usize;
        let misses = simulate(&mut *kind.build(blocks), blocks, &sample.references);
        if misses != line.misses {
            return Err(differ("missed by the simulator", &line.misses, &misses));
        }
        said += &format!("; {} misses, as many as the simulator has", thousands(misses));
    }
    Ok(said)
}

/// The same run on the host.
fn on_host(comparison: &Comparison<'_>, setting: &Setting<'_>) -> Result<Outcome> {
    let disk = comparison.machine_of(setting.workload).disk.unwrap_or_default();
    let image = std::fs::read(&disk).map_err(Error::io("read", &disk))?;
    filecache::run(Box::new(RamDisk::from_bytes(image)), &options(setting)?, &|| 0).map_err(|error| {
        Error::Measurement(format!("{} under {}: on the host: {error}", setting.workload, setting.policy))
    })
}

/// The policy that a simulator can follow: one for everything. It is told nothing of removed files, which
/// make room in a real cache.
fn simulated(options: &Options) -> Option<libos_fs::PolicyKind> {
    match options.policy {
        Policy::Own => None,
        _ if options.workload == Workload::Sort => None,
        policy => Some(policy.kind()),
    }
}

/// The guest's command line as it understands it.
fn options(setting: &Setting<'_>) -> Result<Options> {
    let read_ahead = ReadAheadKind::None.name();
    let value = |key: &str| match key {
        "workload" => Some(setting.workload),
        "policy" => Some(setting.policy),
        "cache" => Some(setting.cache),
        "read_ahead" => Some(read_ahead),
        "record" => Some("1"),
        _ => None,
    };
    Options::parse(value).map_err(|error| Error::Measurement(error.to_string()))
}
