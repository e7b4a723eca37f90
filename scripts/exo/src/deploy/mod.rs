//! `exo deploy`: what a hypervisor or a service manager wants to be told to run HyperExo with unikernels, or
//! a unikernel alone.
//!
//! | module | for | boots | checked in tests against |
//! |---|---|---|---|
//! | [`libvirt`] | libvirt with QEMU | PVH | libvirt's own schema, by `virt-xml-validate` |
//! | [`systemd`] | systemd and QEMU | PVH | `systemd-analyze verify`; its command is run |
//! | [`firecracker`] | Firecracker | PVH | models made from its API description (crate `firepilot_models`) |
//! | [`cloud_hypervisor`] | Cloud Hypervisor | PVH | the same (crate `cloud-hypervisor-client`) |
//! | [`kubevirt`] | KubeVirt | PVH, from a container image | nothing: no package that we know of has its schema |
//!
//! HyperExo needs a processor with virtualization in its machine ("nesting"); a unikernel alone does not.

mod cloud_hypervisor;
mod firecracker;
mod kubevirt;
mod libvirt;
mod systemd;

use crate::build::Freshness;
use crate::bundle::environments::EnvironmentArgs;
use crate::error::{Error, Result};
use crate::host::checkout::Checkout;
use crate::host::disk_image;
use crate::host::output::write_atomically;
use crate::image::{Payload, PayloadArgs};
use crate::units::Extent;
use std::path::{Path, PathBuf};

/// Arguments of `exo deploy`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file goes to standard output, the command that uses it to standard error too.\n\nExamples:\n  exo \
                        deploy hello --direct --print firecracker >hello.json\n  exo deploy filecache --print libvirt \
                        --disk /srv/data.img --out /srv/filecache -- workload=din\n  exo deploy hello --print kubevirt \
                        --container-image registry.example/hello:1"
)]
pub struct DeployArgs {
    #[command(flatten)]
    environments: EnvironmentArgs,
    #[command(flatten)]
    payload: PayloadArgs,
    /// Who is to be told
    #[arg(long, value_enum)]
    print: Target,
    /// Raw image to attach as a virtio disk, for the first application; what is written there stays
    #[arg(long, value_name = "IMG")]
    disk: Option<PathBuf>,
    /// Where the container image (`exo image --format oci`) will be found; for kubevirt
    #[arg(long, value_name = "REFERENCE")]
    container_image: Option<String>,
    /// Puts kernel, bundle and the file into this directory; without this they stay in the target directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Uses the images of the last build
    #[arg(long)]
    no_build: bool,
}

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// A domain of libvirt.
    Libvirt,
    /// A configuration file of Firecracker.
    Firecracker,
    /// A machine configuration of Cloud Hypervisor.
    CloudHypervisor,
    /// A virtual machine of KubeVirt.
    Kubevirt,
    /// A service of systemd.
    Systemd,
}

impl Target {
    /// Ending of the file's name.
    fn ending(self) -> &'static str {
        match self {
            Target::Libvirt => "xml",
            Target::Firecracker | Target::CloudHypervisor => "json",
            Target::Kubevirt => "yaml",
            Target::Systemd => "service",
        }
    }
}

/// What is deployed.
#[derive(Clone, Debug)]
struct Deployment {
    /// Kernel, command line, bundle. Paths are absolute.
    payload: Payload,
    /// Bytes of memory of the machine.
    memory_bytes: u64,
    /// Its cores.
    cores: u32,
    /// Image of its disk; absolute.
    disk: Option<PathBuf>,
    /// Reference of the container image.
    container_image: String,
}

impl Deployment {
    /// Whether the machine must offer virtualization itself.
    fn nests(&self) -> bool {
        self.payload.bundle.is_some()
    }

    /// Memory in whole MiB.
    fn memory_mib(&self) -> u64 {
        self.memory_bytes.div_ceil(1 << 20)
    }
}

/// The file, and what to do with it.
struct Description {
    /// Content of the file.
    text: String,
    /// The command that uses it, one line; `FILE` stands for its path.
    command: String,
    /// What does not work there; empty for nothing.
    limits: Vec<&'static str>,
    /// What a comment starts and ends with; `None` where the file can have none.
    comment: Option<(&'static str, &'static str)>,
}

/// The verb.
pub fn deploy(args: &DeployArgs) -> Result<()> {
    let checkout = Checkout::find()?;
    let freshness = if args.no_build { Freshness::AsIs } else { Freshness::Build };
    let extent = args.disk.as_ref().map(|_| Extent::ALL);
    let mut payload = Payload::make(&checkout, &args.environments, &args.payload, extent, freshness)?;
    let disk = args.disk.as_deref().map(|disk| disk.canonicalize().map_err(Error::io("open", disk)));
    args.disk.as_deref().map_or(Ok(()), disk_image::check_raw)?;
    let folder = args.out.as_deref().map(|out| std::path::absolute(out).map_err(Error::io("resolve", out)));
    let folder = folder.transpose()?;
    if let Some(folder) = &folder {
        move_to(folder, &mut payload)?;
    }
    let name = format!("{}.{}", payload.name, args.print.ending());
    let container_image = args.container_image.clone();
    let deployment = Deployment {
        container_image: container_image
            .unwrap_or_else(|| format!("registry.example/{}:latest", payload.name)),
        payload,
        memory_bytes: args.payload.memory,
        cores: args.payload.cores,
        disk: disk.transpose()?,
    };
    let described = describe(args.print, &deployment)?;
    let file = folder.map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name));
    let command = described.command.replace("FILE", &crate::units::shell_quote(&file.to_string_lossy()));
    let text = commented(&described, &command);
    if args.out.is_some() {
        write_atomically(&file, text.as_bytes())?;
    }
    print!("{text}");
    eprintln!("exo: {command}");
    described.limits.iter().for_each(|limit| eprintln!("exo: note: {limit}"));
    Ok(())
}

fn describe(target: Target, deployment: &Deployment) -> Result<Description> {
    match target {
        Target::Libvirt => Ok(libvirt::describe(deployment)),
        Target::Firecracker => firecracker::describe(deployment),
        Target::CloudHypervisor => cloud_hypervisor::describe(deployment),
        Target::Kubevirt => Ok(kubevirt::describe(deployment)),
        Target::Systemd => systemd::describe(deployment),
    }
}

/// The file's text, with the command and the limits as comments where there can be any.
fn commented(described: &Description, command: &str) -> String {
    let Some((start, end)) = described.comment else { return described.text.clone() };
    let lines = std::iter::once(command).chain(described.limits.iter().copied());
    // Two hyphens would end a comment of XML.
    let lines = lines.map(|line| if end.is_empty() { line.to_owned() } else { line.replace("--", "- -") });
    lines.map(|line| format!("{start}{line}{end}\n")).collect::<String>() + &described.text
}

/// Copies kernel and bundle to `folder`, and names them there.
fn move_to(folder: &Path, payload: &mut Payload) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let copy = |path: &mut PathBuf, name: String| {
        let place = folder.join(name);
        let bytes = std::fs::read(&*path).map_err(Error::io("copy", path))?;
        write_atomically(&place, &bytes)?;
        *path = place;
        Ok(())
    };
    let name = payload.name.clone();
    copy(
        &mut payload.kernel,
        if payload.bundle.is_some() { "hyperexo.elf".into() } else { format!("{name}.elf") },
    )?;
    payload.bundle.as_mut().map_or(Ok(()), |bundle| copy(bundle, format!("{name}.bundle")))
}

/// Text of a JSON document.
fn json_text(value: &serde_json::Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Measurement(error.to_string()))?;
    Ok(text + "\n")
}

/// A path as text.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What all tests of the descriptions use.
#[cfg(test)]
fn sample(direct: bool) -> Deployment {
    let words = "greeting=<a> b=\"c\" d=50% e=$HOME";
    let command_line = if direct { format!("name=hello -- {words}") } else { "end=exit".into() };
    Deployment {
        payload: Payload {
            name: "hello".into(),
            kernel: "/srv/a & b/kernel.elf".into(),
            command_line,
            words: if direct { words.into() } else { String::new() },
            bundle: (!direct).then(|| "/srv/a & b/hello.bundle".into()),
        },
        memory_bytes: 64 << 20,
        cores: 2,
        disk: Some("/srv/data.img".into()),
        container_image: "registry.example/hello:1".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_hold_the_command() {
        let described = Description {
            text: "text\n".into(),
            command: "run --now FILE".into(),
            limits: vec!["not always"],
            comment: Some(("<!-- ", " -->")),
        };
        let text = commented(&described, "run --now hello.xml");
        assert_eq!(text, "<!-- run - -now hello.xml -->\n<!-- not always -->\ntext\n");
        let plain = Description { comment: None, ..described };
        assert_eq!(commented(&plain, "run"), "text\n");
    }
}
