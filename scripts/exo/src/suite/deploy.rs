//! What others are told to run an image, by their own checks.

use super::context::{Context, text};
use super::devices::read_line;
use super::libvirt;
use super::platform::Need;
use super::{Test, Verdict};
use std::path::PathBuf;
use std::process::{Command, Output};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "deploy-libvirt",
            &[Need::Exokernel, Need::Qemu, Need::Program("virt-xml-validate")],
            follows_libvirts_schema,
        ),
        Test::new("deploy-libvirt-starts", &[Need::Exokernel, Need::Qemu, Need::Libvirt], libvirt_starts),
        Test::new(
            "deploy-systemd",
            &[Need::Exokernel, Need::Qemu, Need::Program("systemd-analyze")],
            systemd,
        ),
    ]
}

/// Forms of what is deployed: HyperExo with a unikernel, and that alone.
const FORMS: [&str; 2] = ["--hyperexo", "--direct"];
/// Words with characters that must be quoted everywhere.
const WORDS: &str = "greeting=<50%> & \"more\" $HOME";

/// Lets the tool write the file for `target`, with `more` arguments; returns its path.
fn written(context: &Context, target: &str, ending: &str, more: &[&str]) -> Result<PathBuf, String> {
    let folder = context.scratch.path().join(format!("deploy {target}"));
    let disk = text(&context.small_disk()?);
    let out = text(&folder);
    let own = [
        "deploy",
        "hello",
        "--no-build",
        "--memory",
        "64M",
        "--print",
        target,
        "--out",
        &out,
        "--disk",
        &disk,
    ];
    context.exo(&[&own, more].concat())?.succeeded()?;
    Ok(folder.join(format!("hello.{ending}")))
}

/// What a checker said that ended with success.
fn accepted(output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| error.to_string())?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() {
        Ok(said.concat())
    } else {
        Err(format!("{}: {}", output.status, said.concat()))
    }
}

/// The domain follows libvirt's schema; one with an element too many does not.
fn follows_libvirts_schema(context: &Context) -> Verdict {
    let validate =
        |path: &PathBuf| accepted(Command::new("virt-xml-validate").arg(path).arg("domain").output());
    for form in FORMS {
        let file = written(context, "libvirt", "xml", &[form, "--", WORDS])?;
        validate(&file)?;
        let domain = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let wrong = context.file("wrong.xml", domain.replace("<os>", "<os><bundle/>").as_bytes())?;
        if validate(&wrong).is_ok() {
            return Err("an element that libvirt does not know was accepted: is its schema there?".into());
        }
    }
    Ok(())
}

/// The machine that libvirt starts for the domain, with the disk behind a port of its own, boots, finds the
/// disk and reads it.
fn libvirt_starts(context: &Context) -> Verdict {
    for form in FORMS {
        let file = written(context, "libvirt", "xml", &[form, "--", "read-blocks=64", WORDS])?;
        let root = tempfile::tempdir_in(context.scratch.path()).map_err(|error| error.to_string())?;
        let started = libvirt::start(&file, "hello", root.path(), context.platform.seconds())?;
        let wrong = |what: &str| {
            let libvirt::Started { command, out, status } = &started;
            Err(format!("{form}: {what}: {status}\n{out}\n    {command}"))
        };
        if !started.command.contains("\"driver\":\"virtio-blk-pci\",\"bus\":\"pci.") {
            return wrong("the disk is not behind a port");
        }
        if started.status.code() != Some(1) || !started.out.contains(&read_line()) {
            return wrong("it did not read the disk");
        }
        if !started.out.contains("greeting=<50%> &") {
            return wrong("it did not get its words");
        }
    }
    Ok(())
}

/// systemd finds nothing wrong with the service, and its command boots the image.
fn systemd(context: &Context) -> Verdict {
    for form in FORMS {
        let file = written(context, "systemd", "service", &[form, "--", WORDS])?;
        let said = accepted(Command::new("systemd-analyze").arg("verify").arg(&file).output())?;
        // What it only warns of has the name of the file in it.
        if let Some(line) = said.lines().find(|line| line.contains("hello.service")) {
            return Err(format!("{form}: {line}"));
        }
    }
    let file = written(context, "systemd", "service", &["--", "greeting=service"])?;
    let service = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let command =
        service.split("ExecStart=").nth(1).and_then(|rest| rest.split("\nSuccessExitStatus=1\n").next());
    // Quoted as for the shell, as these words need no more. On a host that can't nest, QEMU emulates.
    let command = command.ok_or("no command")?.replacen("-accel \\\n    kvm", "", 1);
    let script = format!("timeout {} {command}", context.platform.seconds());
    let output = Command::new("sh").arg("-c").arg(script).output().map_err(|error| error.to_string())?;
    let out = String::from_utf8_lossy(&output.stdout);
    match output.status.code() == Some(1) && out.contains("greeting=service") {
        true => Ok(()),
        false => Err(format!("{}: {out}{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}
