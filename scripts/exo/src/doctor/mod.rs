//! `exo doctor`: what this host can run, and why not.

use crate::error::{Error, Result};
use crate::host::programs::{program_path, version};
use crate::machine::accel::{Extension, Host};
use crate::machine::bochs;
use crate::machine::iso;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `exo doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is.
    Ok,
    /// It is not, and some things will not work.
    Missing,
    /// It is not, and nothing of daily use needs it.
    Optional,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: String) -> Finding {
        Finding { check, state: State::Ok, detail, fix: None }
    }

    fn lacking(check: &'static str, state: State, detail: &str, fix: &str) -> Finding {
        Finding { check, state, detail: detail.to_owned(), fix: Some(fix.to_owned()) }
    }
}

/// The verb.
pub fn doctor(args: &DoctorArgs) -> Result<()> {
    let findings = examine();
    for finding in &findings {
        if args.json {
            let text = serde_json::to_string(finding);
            println!("{}", text.map_err(|error| Error::Measurement(error.to_string()))?);
            continue;
        }
        let mark = match finding.state {
            State::Ok => "ok     ",
            State::Missing => "MISSING",
            State::Optional => "-      ",
        };
        println!("{mark}  {:<22} {}", finding.check, finding.detail);
        if let Some(fix) = &finding.fix {
            println!("         {:<22} fix: {fix}", "");
        }
    }
    match findings.iter().find(|finding| finding.state == State::Missing) {
        None => Ok(()),
        Some(finding) => Err(Error::Argument {
            what: format!("{}: {}", finding.check, finding.detail),
            fix: finding.fix.clone().unwrap_or_default(),
        }),
    }
}

/// Programs looked for: what for, name, Debian package, and whether the main job needs it.
const PROGRAMS: [(&str, &str, &str, State); 9] = [
    ("rust toolchain", "cargo", "rustup", State::Missing),
    ("host linker", "cc", "gcc", State::Missing),
    ("QEMU", "qemu-system-x86_64", "qemu-system-x86", State::Missing),
    ("ext4 images", "mke2fs", "e2fsprogs", State::Optional),
    ("Bochs", "bochs", "bochs", State::Optional),
    ("boot images: GRUB", "grub-mkrescue", "grub-common", State::Optional),
    ("boot images: xorriso", "xorriso", "xorriso", State::Optional),
    ("boot images: mtools", "mtools", "mtools", State::Optional),
    ("memory traces", "valgrind", "valgrind", State::Optional),
];

fn examine() -> Vec<Finding> {
    let mut findings: Vec<Finding> = PROGRAMS.iter().map(|program| examine_program(*program)).collect();
    findings.push(emulated_svm());
    findings.extend(parts());
    findings.push(emulated_vmx());
    findings.extend(virtualization(&Host::look()));
    findings
}

fn examine_program((check, name, package, state): (&'static str, &str, &str, State)) -> Finding {
    let Some(path) = program_path(name) else {
        let fix = match name {
            "cargo" => "install rustup (rustup.rs), then run `cargo --version` in the checkout".to_owned(),
            _ => format!("apt-get install {package}"),
        };
        return Finding::lacking(check, state, &format!("{name} is not installed"), &fix);
    };
    let detail = match name {
        "cargo" | "qemu-system-x86_64" => version(name),
        "bochs" => bochs::version(),
        _ => None,
    };
    Finding::ok(check, detail.unwrap_or_else(|| path.display().to_string()))
}

/// Whether QEMU's emulator offers AMD SVM with nested paging: asked of QEMU itself.
fn emulated_svm() -> Finding {
    let check = "emulated SVM (TCG)";
    let fix = "apt-get install qemu-system-x86 (7.2 or newer)";
    let Some(qemu) = program_path("qemu-system-x86_64") else {
        return Finding::lacking(check, State::Missing, "needs QEMU", fix);
    };
    let output = Command::new(qemu).args(["-cpu", "help"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.contains(&"svm") && words.contains(&"npt") {
        Finding::ok(check, "-accel tcg -cpu max: the whole system, on any machine".into())
    } else {
        Finding::lacking(check, State::Missing, "this QEMU knows neither svm nor npt", fix)
    }
}

/// What Bochs and its boot images need besides programs.
fn parts() -> Vec<Finding> {
    let files = bochs::files().into_iter().map(|(name, package, path)| ("for Bochs", name, package, path));
    let modules = Path::new(iso::MODULES).is_dir().then(|| PathBuf::from(iso::MODULES));
    let grub = ("boot images: modules", "its modules", "grub-pc-bin", modules);
    files
        .chain([grub])
        .map(|(check, name, package, path)| match path {
            Some(path) => Finding::ok(check, path.display().to_string()),
            None => {
                let fix = format!("apt-get install {package}");
                Finding::lacking(check, State::Optional, &format!("{name} not found"), &fix)
            }
        })
        .collect()
}

/// Whether machines with Intel VMX can be run.
fn emulated_vmx() -> Finding {
    match bochs::missing() {
        None => Finding::ok("emulated VMX (Bochs)", "exo run --on bochs: exact, and slow".into()),
        Some((what, package)) => Finding::lacking(
            "emulated VMX (Bochs)",
            State::Optional,
            &format!("lacks {what}; QEMU alone serves"),
            &format!("apt-get install {package}"),
        ),
    }
}

fn virtualization(host: &Host) -> Vec<Finding> {
    let extension = match host.extension {
        Some(Extension::Svm) => Finding::ok("processor", "shows svm".into()),
        Some(Extension::Vmx) => Finding::ok("processor", "shows vmx".into()),
        None => Finding::lacking(
            "processor",
            State::Optional,
            "/proc/cpuinfo shows neither vmx nor svm: emulation only",
            "enable virtualization in the firmware, or nesting in the hypervisor above",
        ),
    };
    let kvm = match (host.kvm_present, host.kvm_usable) {
        (true, true) => Finding::ok("/dev/kvm", "can be opened".into()),
        (true, false) => Finding::lacking(
            "/dev/kvm",
            State::Optional,
            "exists but can't be opened",
            "add yourself to the group kvm: usermod -aG kvm $USER, then log in again",
        ),
        (false, _) => {
            Finding::lacking("/dev/kvm", State::Optional, "does not exist", "modprobe kvm_amd (or kvm_intel)")
        }
    };
    let nested = match (host.extension, host.nested) {
        (Some(_), true) => Finding::ok("nested virtualization", "allowed by the KVM module".into()),
        (Some(Extension::Svm), false) => Finding::lacking(
            "nested virtualization",
            State::Optional,
            "not allowed by kvm_amd",
            "modprobe -r kvm_amd && modprobe kvm_amd nested=1",
        ),
        (Some(Extension::Vmx), false) => Finding::lacking(
            "nested virtualization",
            State::Optional,
            "not allowed by kvm_intel",
            "modprobe -r kvm_intel && modprobe kvm_intel nested=1",
        ),
        (None, _) => Finding::lacking(
            "nested virtualization",
            State::Optional,
            "needs a processor with vmx or svm",
            "none here; emulation serves",
        ),
    };
    let (accel, why) = host.choose();
    let choice = Finding::ok("exo run will use", format!("{}: {why}", accel.name()));
    vec![extension, kvm, nested, choice]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_comes_with_a_fix() {
        let host = Host { extension: None, kvm_usable: false, kvm_present: true, nested: false };
        let findings = virtualization(&host);
        assert!(findings.iter().all(|finding| (finding.state == State::Ok) == finding.fix.is_none()));
        let missing = examine_program(("a test", "no-such-program-here", "nothing", State::Missing));
        assert_eq!(missing.state, State::Missing);
        assert_eq!(missing.fix.as_deref(), Some("apt-get install nothing"));
    }
}
