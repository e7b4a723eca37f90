//! Images of every form must boot, without this tool, on what they are for.

use super::context::{Context, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::host::programs::program_path;
use crate::machine::args::MachineArgs;
use crate::machine::bochs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tests.
pub fn tests() -> Vec<Test> {
    let grub = [Need::Exokernel, Need::BootImages];
    let raw = [Need::Exokernel, Need::Qemu, Need::BootImages];
    let alone = [Need::Alone, Need::Qemu, Need::BootImages];
    let oci = [Need::Exokernel, Need::Qemu, Need::Program("skopeo"), Need::Program("umoci")];
    let checked = [Need::Exokernel, Need::Qemu, Need::BootImages, Need::Program("qemu-img")];
    vec![
        Test::new("image-elf", &[Need::Exokernel, Need::Qemu], |context| {
            let file = made(context, "hello.elf", &["hello", "--format", "elf", "--", WORDS])?;
            greets(&qemu(context, &["-kernel", &file])?)
        }),
        Test::new("image-iso", &grub, iso),
        Test::new("image-raw", &raw, raw_with_data),
        Test::new("image-qcow2-checked", &checked, |context| {
            let file = made(context, "checked.qcow2", &["hello", "--format", "qcow2", "--", WORDS])?;
            ended_with(Command::new("qemu-img").args(["check", &file]), 0).map(drop)
        }),
        Test::new("image-qcow2", &raw, |context| {
            let file = made(context, "hello.qcow2", &["hello", "--format", "qcow2", "--", WORDS])?;
            greets(&qemu(context, &["-drive", &format!("file={file},format=qcow2,if=virtio")])?)
        }),
        Test::new("image-oci", &oci, container_image),
        Test::new("image-direct", &alone, direct),
    ]
}

/// Words for the program: it must show that it got them.
const WORDS: &str = "greeting=image";

/// Makes an image; returns its path.
fn made(context: &Context, name: &str, arguments: &[&str]) -> std::result::Result<String, String> {
    let path = text(&context.scratch.path().join(name));
    let own = ["image", "--no-build", "--memory", "64M", "--out", &path];
    context.exo(&[&own, arguments].concat())?.succeeded()?.shows(&path)?;
    Ok(path)
}

/// Boots a machine without a kernel of ours on its command line; returns what it printed, if it ended as it
/// should.
fn qemu(context: &Context, boot: &[&str]) -> std::result::Result<String, String> {
    let seconds = context.platform.seconds();
    let mut command = Command::new("timeout");
    command.args([seconds, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "128M"]);
    command.args(["-serial", "stdio", "-display", "none", "-nodefaults", "-no-reboot"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4"]).args(boot);
    ended_with(&mut command, 1)
}

/// Runs a command to its end; returns what it printed, if its status is the one expected.
fn ended_with(command: &mut Command, status: i32) -> std::result::Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(status) {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = out.lines().chain(err.lines()).rev().take(8).collect();
    Err(format!("{}, expected {status}; backwards: {tail:#?}", output.status))
}

fn greets(out: &str) -> Verdict {
    match out.contains("Hello from hello") && out.contains(WORDS) {
        true => Ok(()),
        false => Err(format!("no greeting, or without its words, in: {out}")),
    }
}

/// The same CD on either emulator.
fn iso(context: &Context) -> Verdict {
    let file = made(context, "hello.iso", &["hello", "--format", "iso", "--", WORDS])?;
    match context.platform {
        Platform::BochsVmx => greets(&on_bochs(context, Path::new(&file))?),
        _ => greets(&qemu(context, &["-cdrom", &file])?),
    }
}

/// Boots a CD on Bochs: a machine for something else, with the CD changed.
fn on_bochs(context: &Context, image: &Path) -> std::result::Result<String, String> {
    let failed = |error: crate::error::Error| error.to_string();
    let folder = context.scratch.path().join("bochs-image");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let arguments = MachineArgs::of(&["--on", "bochs", "--memory", "128M"]).map_err(failed)?;
    let kernel = context.built.kernel_file.clone();
    let machine = arguments.machine(&kernel, &kernel).map_err(failed)?;
    let prepared = bochs::prepare(&machine, &folder).map_err(failed)?;
    std::fs::copy(image, folder.join("image.iso")).map_err(|error| error.to_string())?;
    let script = prepared.shell_command();
    let mut command = Command::new("timeout");
    ended_with(command.args([context.platform.seconds(), "sh", "-c", &script]), 0)
}

/// A boot disk attached in two ways, and one with a volume behind its boot part: its program reads that.
fn raw_with_data(context: &Context) -> Verdict {
    let file = made(context, "hello.raw", &["hello", "--format", "raw", "--", WORDS])?;
    for kind in ["ide", "virtio"] {
        greets(&qemu(context, &["-drive", &format!("file={file},format=raw,if={kind}")])?)?;
    }
    let data = text(&context.small_disk()?);
    let words = ["--data", &data, "--", "read-blocks=4"];
    let file = made(context, "data.raw", &[&["hello", "--format", "raw"], &words[..]].concat())?;
    let out = qemu(context, &["-drive", &format!("file={file},format=raw,if=virtio")])?;
    // Block N of that disk holds nothing but the byte N.
    let sum = (0..4u64).map(|block| block * hyperexo_abi::BLOCK_BYTES as u64).sum::<u64>();
    match out.contains("{\"read\":{\"blocks\":4,") && out.contains(&sum.to_string()) {
        true => Ok(()),
        false => Err(format!("not the bytes of the data (their sum is {sum}): {out}")),
    }
}

/// The unikernel alone, from a disk, from a CD, and as the ELF file that it is.
fn direct(context: &Context) -> Verdict {
    let of = |format| {
        made(context, &format!("direct.{format}"), &["hello", "--direct", "--format", format, "--", WORDS])
    };
    let raw = of("raw")?;
    greets(&qemu(context, &["-drive", &format!("file={raw},format=raw,if=virtio")])?)?;
    greets(&qemu(context, &["-cdrom", &of("iso")?])?)?;
    let elf = made(context, "direct.elf", &["hello", "--direct", "--format", "elf"])?;
    greets(&qemu(context, &["-kernel", &elf, "-append", &format!("name=hello -- {WORDS}")])?)
}

/// The container tools of others understand the image, and what they unpack boots.
fn container_image(context: &Context) -> Verdict {
    let layout = made(context, "hello.oci", &["hello", "--format", "oci", "--", WORDS])?;
    let seen = ended_with(Command::new("skopeo").args(["inspect", &format!("oci:{layout}:latest")]), 0)?;
    if !seen.contains("\"hyperexo.kernel\": \"/boot/kernel.elf\"") {
        return Err(format!("skopeo sees no label of ours: {seen}"));
    }
    let bundle: PathBuf = context.scratch.path().join("unpacked");
    let mut umoci = Command::new(program_path("umoci").ok_or("umoci is gone")?);
    umoci.args(["unpack", "--rootless", "--image", &format!("{layout}:latest")]).arg(&bundle);
    ended_with(&mut umoci, 0)?;
    let boot = bundle.join("rootfs/boot");
    let (kernel, initrd) = (text(&boot.join("kernel.elf")), text(&boot.join("bundle")));
    greets(&qemu(context, &["-kernel", &kernel, "-initrd", &initrd, "-append", "end=exit"])?)
}
