//! Machines with several disks, or with disks of other kinds than virtio-blk: the one that is named is read,
//! and never another one.

use super::context::{Context, Said, text};
use super::devices::{read_line, right};
use super::faults::bundle_with;
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::bundle::Writable;
use crate::units::Extent;
use hyperexo_abi::BLOCK_BYTES;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("disk-of-several", &[Need::QemuMachine, Need::Disk], of_several),
        Test::new("disk-of-several-by-place", &[Need::Qemu, Need::Disk], by_place),
        Test::new("disk-of-another-kind", &[Need::Qemu], of_another_kind),
    ]
}

/// Blocks that each test reads.
const BLOCKS: u64 = 64;
/// Arguments of QEMU for an image behind a drive named `other`.
fn drive(image: &str) -> [String; 2] {
    ["--qemu-arg=-drive".into(), format!("--qemu-arg=if=none,id=other,file={image},format=raw,snapshot=on")]
}

/// Runs `hello`, which reads a disk, on a machine that has a second one with nothing but zeros.
fn with_zeros(context: &Context, place: [&str; 2], options: &[&str]) -> Result<Said, String> {
    let disk = text(&context.small_disk()?);
    let zeros = text(&context.file("zeros-disk.img", &[0; BLOCKS as usize * BLOCK_BYTES])?);
    let [first, second] = drive(&zeros);
    let kind = match context.platform {
        Platform::DirectMicrovm => "virtio-blk-device",
        _ => "virtio-blk-pci",
    };
    let device = format!("--qemu-arg={kind},drive=other{}", place[1]);
    let mut arguments = vec!["hello", "--disk", &disk, &first, &second, "--qemu-arg=-device", &device];
    if !place[0].is_empty() {
        arguments.extend(["--disk-device", place[0]]);
    }
    let words = format!("read-blocks={BLOCKS}");
    context.run(&[&arguments[..], options, &["--", &words]].concat())
}

/// What `hello` prints when it has read zeros.
fn zeros_line() -> String {
    format!("{{\"read\":{{\"blocks\":{BLOCKS},\"sum\":0}}}}")
}

/// Nothing is read, and it is said why.
fn refused(context: &Context, said: Said, why: &[&str]) -> Verdict {
    if !context.platform.is_direct() {
        // Said even if nobody wanted a disk, where there would have been one.
        let said = if why[0].contains("virtio disk") { said.tells("hyperexo: warning: ")? } else { said };
        return said.fails_with(&[&["hyperexo: hello: its manifest names a disk extent"], why].concat());
    }
    let mut said = said;
    for word in why {
        said = said.shows(word)?;
    }
    said.fails_with(&["environment hello ended: exit code 4"])
}

/// Without a name none is taken; each number means one of them.
fn of_several(context: &Context) -> Verdict {
    let run = |options: &[&str]| with_zeros(context, ["", ""], options);
    refused(context, run(&[])?, &["the machine has 2 virtio disks (0 at ", ", 1 at ", "disk=0"])?;
    refused(context, run(&["--kernel-args", "disk=2"])?, &["there is no virtio disk 2, only 0 at "])?;
    let [first, second] = ["disk=0", "disk=1"].map(|option| run(&["--kernel-args", option]));
    let (first, second) = (first?.succeeded()?, second?.succeeded()?);
    let seen = |said: &Said| (said.out.contains(&read_line()), said.out.contains(&zeros_line()));
    match (seen(&first), seen(&second)) {
        ((true, false), (false, true)) | ((false, true), (true, false)) => Ok(()),
        other => Err(format!("each should be one of the two: {other:?}")),
    }
}

/// A place on PCI means the disk there, whatever is found first.
fn by_place(context: &Context) -> Verdict {
    for (own, other) in [(6, 7), (7, 6)] {
        let places = [format!("addr={own:#x}"), format!(",addr={other:#x}")];
        let named = |device: u32| {
            let option = format!("disk=00:{device:02x}.0");
            with_zeros(context, [&places[0], &places[1]], &["--kernel-args", &option])
        };
        right(named(own)?)?;
        named(other)?.succeeded()?.shows(&zeros_line())?;
        refused(
            context,
            named(5)?,
            &["there is no virtio disk at 00:05.0, only 0 at 00:06.0, 1 at 00:07.0"],
        )?;
    }
    Ok(())
}

/// Controllers of disks that nothing here drives: machine type, further devices, and what is said of them.
const OTHERS: [(&str, &[&str], &str); 4] = [
    ("q35", &["nvme,drive=other,serial=1,addr=0x4"], "NVMe at 00:04.0"),
    ("q35", &["virtio-scsi-pci,addr=0x4", "scsi-hd,drive=other"], "virtio-scsi at 00:04.0"),
    ("q35", &["ide-hd,drive=other"], "AHCI at 00:1f.2"),
    ("pc", &["ide-hd,drive=other"], "IDE at 00:01.1"),
];

/// They are named, and what is needed instead.
fn of_another_kind(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    let words = format!("read-blocks={BLOCKS}");
    let extent = (Extent { first: 0, count: BLOCKS }, Writable::No);
    let bundle = text(&context.file("reader.bundle", &bundle_with(context, &words, Some(extent))?)?);
    for (machine, devices, name) in OTHERS {
        let mut qemu = Vec::from(drive(&disk));
        for device in devices {
            qemu.extend(["--qemu-arg=-device".into(), format!("--qemu-arg={device}")]);
        }
        let mut arguments = vec!["--machine", machine];
        arguments.extend(qemu.iter().map(String::as_str));
        match context.platform.is_direct() {
            true => arguments.extend(["hello", "--", &words]),
            false => arguments.extend(["--bundle", &bundle]),
        }
        refused(context, context.run(&arguments)?, &["no virtio-blk disk, which is needed", name])?;
    }
    Ok(())
}
