//! A service of systemd that runs QEMU (systemd.service(5), systemd.exec(5)).

use super::{Deployment, Description, path_text};
use crate::error::{Error, Result};
use crate::host::programs::program_path;
use std::path::Path;

/// The program.
const QEMU: &str = "qemu-system-x86_64";

/// The service.
pub fn describe(deployment: &Deployment) -> Result<Description> {
    let missing = || Error::NotInstalled { program: QEMU.into(), package: "qemu-system-x86" };
    let qemu = program_path(QEMU).ok_or_else(missing)?;
    let (text, command) =
        (service(deployment, &qemu), "cp FILE /run/systemd/system/ && systemctl start NAME");
    let command = command.replace("NAME", &format!("{}.service", deployment.payload.name));
    let mut limits = Vec::new();
    if deployment.nests() {
        limits.push(
            "without nesting (kvm_intel or kvm_amd with nested=1) QEMU must emulate: put tcg in kvm's place",
        );
    }
    Ok(Description { text, command, limits, comment: Some(("# ", "")) })
}

fn service(deployment: &Deployment, qemu: &Path) -> String {
    let words = arguments(deployment);
    let words: Vec<String> = std::iter::once(path_text(qemu)).chain(words).map(|word| quote(&word)).collect();
    // QEMU ends with 2S + 1 for the kernel's status S: 1 is success, and 0 the end by a signal to it.
    let disk = deployment
        .disk
        .as_deref()
        .map_or_else(String::new, |disk| format!("ReadWritePaths={}\n", quote(&path_text(disk))));
    format!(
        "[Unit]
Description=Unikernel {name}

[Service]
ExecStart={command}
SuccessExitStatus=1
Restart=no
NoNewPrivileges=yes
PrivateNetwork=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
{disk}DevicePolicy=closed
DeviceAllow=/dev/kvm rw

[Install]
WantedBy=multi-user.target
",
        name = deployment.payload.name,
        command = words.join(" \\\n    "),
    )
}

/// Arguments of QEMU.
fn arguments(deployment: &Deployment) -> Vec<String> {
    let payload = &deployment.payload;
    let mut arguments: Vec<String> =
        ["-M", "q35", "-accel", "kvm", "-accel", "tcg", "-cpu", "max", "-m"].map(str::to_owned).into();
    arguments.push(format!("{}M", deployment.memory_mib()));
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-smp", deployment.cores.to_string());
    add("-kernel", path_text(&payload.kernel));
    if let Some(bundle) = &payload.bundle {
        add("-initrd", path_text(bundle));
    }
    add("-append", payload.command_line.clone());
    if let Some(disk) = &deployment.disk {
        // In QEMU's option syntax a comma inside a value is doubled.
        let file = path_text(disk).replace(',', ",,");
        add("-drive", format!("if=none,id=d0,format=raw,file={file}"));
        add("-device", "virtio-blk-pci,drive=d0,rerror=report,werror=report".into());
    }
    add("-device", "isa-debug-exit,iobase=0xf4".into());
    arguments
        .extend(["-serial", "stdio", "-display", "none", "-nodefaults", "-no-reboot"].map(str::to_owned));
    arguments
}

/// A word of a command line, as systemd reads it (systemd.service(5), "Command lines"; systemd.unit(5),
/// "Specifiers").
fn quote(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=,:+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '%' | '$' => out.extend([character, character]),
            other => out.push(other),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::sample;

    #[test]
    fn words_are_quoted_for_systemd() {
        assert_eq!(quote("a=b"), "a=b");
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("50% of \"$HOME\"\\"), r#""50%% of \"$$HOME\"\\""#);
        let text = service(&sample(true), Path::new("/usr/bin/qemu"));
        assert!(text.contains("ExecStart=/usr/bin/qemu \\\n    -M \\\n    q35"), "{text}");
        assert!(text.contains(r#""/srv/a & b/kernel.elf""#) && text.contains("ReadWritePaths=/srv/data.img"));
        assert!(text.contains("d=50%% e=$$HOME"));
    }
}
