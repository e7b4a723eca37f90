//! Disks that are unlike the usual one, or go away: each works, or ends in one clear line.

use super::context::{Context, Said, text};
use super::platform::{Need, Platform};
use super::{Test, Verdict};
use crate::session::qmp::Qmp;
use std::process::Command;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    let disk = [Need::Qemu, Need::Disk];
    let faults = [Need::Disk, Need::DiskFaults];
    vec![
        Test::new("disk-of-large-sectors", &[Need::Disk, Need::DiskFaults], large_sectors),
        Test::new("disk-with-short-queue", &[Need::Disk, Need::DiskFaults], short_queue),
        Test::new("disk-interrupts-by-pin", &disk, by_pin),
        Test::new("disk-without-indirect-descriptors", &faults, without_indirect),
        Test::new("disk-without-space", &faults, without_space),
        Test::new("disk-taken-away", &faults, taken_away),
        Test::new("disk-asked-to-go", &disk, asked_to_go),
        Test::new("disk-whatever-the-firmware", &disk, whatever_the_firmware),
        Test::new("disk-behind-bridges", &disk, behind_bridges),
        Test::new("random-bytes", &[], random_bytes),
        Test::new("random-bytes-of-a-device", &[], random_bytes_of_a_device),
    ]
}

/// Runs `hello`, which reads 64 blocks of a disk whose device has these properties.
fn read_from(context: &Context, properties: &str) -> std::result::Result<Said, String> {
    let disk = text(&context.small_disk()?);
    context.run(&["hello", "--disk", &disk, "--disk-device", properties, "--", "read-blocks=64"])
}

/// Sum of all bytes of the first 64 blocks of [`Context::small_disk`], each filled with its number.
const SUM: u64 = 4096 * (63 * 64 / 2);

pub fn right(said: Said) -> Verdict {
    said.succeeded()?.shows(&read_line()).map(drop)
}

/// What `hello` prints when it has read these blocks.
pub fn read_line() -> String {
    format!("{{\"read\":{{\"blocks\":64,\"sum\":{SUM}}}}}")
}

fn large_sectors(context: &Context) -> Verdict {
    right(read_from(context, "logical_block_size=4096,physical_block_size=4096")?)
}

/// The shortest queue that QEMU makes. Without PCI a driver says how long a queue shall be, and the device
/// makes it so.
fn short_queue(context: &Context) -> Verdict {
    let said = read_from(context, "queue-size=4")?;
    match context.platform {
        Platform::DirectMicrovm => right(said),
        _ => refused(context, said, "its queue has 4 entries, 64 are needed"),
    }
}

/// What is wrong with the disk is told by whoever drives it: the image, or the kernel, which then can't give
/// the extent that was promised. The run fails.
fn refused(context: &Context, said: Said, why: &str) -> Verdict {
    if context.platform.is_direct() {
        return said.shows(why)?.fails_with(&["environment hello ended: exit code 4"]);
    }
    said.tells(why)?.fails_with(&["hyperexo: hello", "the machine has no disk that can be used"])
}

/// HyperExo wants messages; an image that has the machine to itself makes do with a pin. The disk is so slow
/// that the image sleeps until it answers: whether the firmware has named the right pin or not.
fn by_pin(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    let slow = ["--disk", &disk, "--disk-iops", "50", "--disk-device", "vectors=0"];
    for (machine, firmware) in FIRMWARE {
        let on = ["hello", "--machine", machine, "--firmware", firmware];
        let said = context.run(&[&on[..], &slow, &["--", "read-blocks=64"]].concat())?;
        let judged = match context.platform {
            Platform::Direct => right(said),
            _ => refused(context, said, "it has no working MSI-X interrupt"),
        };
        judged.map_err(|error| format!("{machine}, {firmware}: {error}"))?;
    }
    Ok(())
}

/// Machine types with PCI, and what they start with.
const FIRMWARE: [(&str, &str); 4] =
    [("q35", "seabios"), ("q35", "qboot"), ("pc", "seabios"), ("pc", "qboot")];

/// Likewise: without them requests of one fill the queue for others, but here there are no others.
fn without_indirect(context: &Context) -> Verdict {
    let said = read_from(context, "indirect_desc=off")?;
    match context.platform.is_direct() {
        true => right(said),
        false => refused(context, said, "it has no indirect descriptors"),
    }
}

/// The host has no room for what is written.
fn without_space(context: &Context) -> Verdict {
    use filecache::sort::{INPUT_PATH, TASK_PATH};
    let image = text(&context.volume_of("sort.img", &[INPUT_PATH, TASK_PATH], 8 << 20)?);
    let rules = "[inject-error]\nevent = \"write_aio\"\nerrno = \"28\"\niotype = \"write\"\n";
    let rules = text(&context.file("no-space.conf", rules.as_bytes())?);
    // Writes go to the image itself: a snapshot above it would take them.
    let arguments = ["filecache", "--disk", &image, "--keep-writes", "--disk-faults", &rules];
    let said = context.run(&[&arguments[..], &["--", "workload=sort"]].concat())?;
    said.shows("I/O error")?.fails_with(&["environment filecache ended"])
}

/// In the middle of a workload on a slow disk, the host takes the disk away. The device itself stays.
fn taken_away(context: &Context) -> Verdict {
    let slow = ["--disk-iops", "50", "--", "workload=din", "policy=default"];
    let said = disturbed(context, &slow, Qmp::remove_drive)?;
    said.shows("I/O error")?.fails_with(&["environment filecache ended: exit code"])
}

/// The host asks for the device itself. It can't be taken: QEMU's `pc` waits for the guest to eject it, as
/// ACPI has it (q35's root bus and microvm refuse to ask). Nothing here ejects a disk that is in use, so the
/// workload goes on to its end.
fn asked_to_go(context: &Context) -> Verdict {
    let machine = ["--machine", "pc", "--disk-device", "id=asked", "--disk-iops", "30"];
    let workload = ["--", "workload=din", "policy=own", "cache=80%"];
    let said =
        disturbed(context, &[&machine[..], &workload].concat(), |control| control.remove_device("asked"))?;
    said.succeeded()?.shows("\"verified\":true").map(drop)
}

/// Runs `filecache` with these arguments, and does something to the machine while it reads.
fn disturbed(
    context: &Context,
    arguments: &[&str],
    disturb: fn(&mut Qmp) -> crate::error::Result<()>,
) -> std::result::Result<Said, String> {
    let disk = text(&context.data);
    let arguments = [&["filecache", "--disk", &disk], arguments].concat();
    context.run_with_control(&arguments, |control, _| {
        // A program that ends before that closes the socket, which is an error.
        while control.block_stats()?.unwrap_or_default().rd_operations < READS_BEFORE {
            std::thread::sleep(Duration::from_millis(10));
        }
        disturb(control)
    })
}

/// SeaBIOS gives the disk's registers a place; qboot leaves some of them without one.
fn whatever_the_firmware(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    for (machine, firmware) in FIRMWARE {
        let on = ["--machine", machine, "--firmware", firmware];
        let said =
            context.run(&[&["hello", "--disk", &disk], &on[..], &["--", "read-blocks=64"]].concat())?;
        right(said).map_err(|error| format!("{machine}, {firmware}: {error}"))?;
    }
    Ok(())
}

/// Machines whose disk is not on bus 0: firmware, machine type, and the bridges with the disk's bus last. The
/// first two are what libvirt makes: ports that are functions of one device, some of them without a device.
const BRIDGES: [(&str, &str, &[&str]); 5] = [
    ("seabios", "q35", ROOT_PORTS),
    ("qboot", "q35", ROOT_PORTS),
    ("seabios", "pc", &["pci-bridge,id=own,chassis_nr=1"]),
    ("qboot", "pc", &["pci-bridge,id=own,chassis_nr=1"]),
    // Bridges behind bridges work as far as firmware sees to them.
    (
        "seabios",
        "q35",
        &[
            "pcie-root-port,id=top,chassis=1",
            "x3130-upstream,id=upstream,bus=top",
            "xio3130-downstream,id=own,bus=upstream,chassis=2",
        ],
    ),
];
const ROOT_PORTS: &[&str] = &[
    "pcie-root-port,id=first,chassis=1,port=8,addr=0x1,multifunction=on",
    "pcie-root-port,id=own,chassis=2,port=9,addr=0x1.0x1",
    "pcie-root-port,id=third,chassis=3,port=10,addr=0x1.0x2",
    "qemu-xhci,bus=first",
];
/// How the disk begins in the printed command.
const DISK: &str = "-device virtio-blk-pci,";

/// A disk is found behind bridges, whether firmware has numbered their buses or not.
fn behind_bridges(context: &Context) -> Verdict {
    let disk = text(&context.small_disk()?);
    for (firmware, machine, bridges) in BRIDGES {
        let on = ["--machine", machine, "--firmware", firmware, "--print-command"];
        let words = [&["hello", "--disk", &disk], &on[..], &["--", "read-blocks=64"]].concat();
        let command = context.run(&words)?.succeeded()?.out;
        let bridges: String = bridges.iter().map(|bridge| format!("-device {bridge} ")).collect();
        let moved = command.replacen(DISK, &format!("{bridges}{DISK}bus=own,addr=BEHIND,"), 1);
        if moved == command {
            return Err(format!("no such command as expected: {command}"));
        }
        // A bridge of conventional PCI keeps slot 0 for itself, a port of PCI Express has no other.
        let moved = moved.replacen("BEHIND", if machine == "pc" { "0x1" } else { "0x0" }, 1);
        let script = format!("timeout {} {}", context.platform.seconds(), moved.trim_end());
        let said = Command::new("sh").arg("-c").arg(&script).output().map_err(|error| error.to_string())?;
        let out = String::from_utf8_lossy(&said.stdout);
        if !out.contains(&read_line()) {
            let err = String::from_utf8_lossy(&said.stderr);
            return Err(format!("{firmware}, {machine}: {:?}, {out}{err}\n    {script}", said.status.code()));
        }
    }
    Ok(())
}

/// Bytes drawn by the tests of random numbers: more than the device is asked for at once, and no multiple
/// of 8.
const DRAWN: u64 = 4099;

/// Whether about half the bits that a run drew are set: within a twentieth, nine times the deviation to
/// expect. What is left of zeros if one of the parts was never filled is further off.
fn about_half_are_set(said: Said, source: &str) -> Verdict {
    let said = said.succeeded()?.shows(&format!("\"source\":\"{source}\""))?;
    let field = said.out.split("\"ones\":").nth(1).and_then(|rest| rest.split(',').next());
    let ones: u64 = field.and_then(|text| text.parse().ok()).ok_or("no count of bits")?;
    let half = DRAWN * 8 / 2;
    if ones.abs_diff(half) < half / 20 {
        Ok(())
    } else {
        Err(format!("{ones} bits are set, not about {half}"))
    }
}

/// The processor's generator serves an image everywhere, under HyperExo too.
fn random_bytes(context: &Context) -> Verdict {
    let drawn = format!("random-bytes={DRAWN}");
    about_half_are_set(context.run(&["hello", "--", &drawn])?, "rdrand")
}

/// Where the processor has none, a device does; where there is none either, that is said. HyperExo has no
/// device to give.
fn random_bytes_of_a_device(context: &Context) -> Verdict {
    let drawn = format!("random-bytes={DRAWN}");
    if !context.platform.is_direct() {
        let said = context.run(&["hello", "--rng", "--", &drawn])?;
        return said.fails_with(&["--rng", "directly on QEMU"]);
    }
    let plain = ["--accel", "tcg", "--cpu", "max,-rdrand"];
    let run = |more: &[&str]| context.run(&[&["hello"], &plain[..], more, &["--", &drawn]].concat());
    about_half_are_set(run(&["--rng"])?, "virtio-rng")?;
    let said = run(&[])?.shows("error: no source of random numbers")?;
    said.fails_with(&["environment hello ended: exit code 5"])
}

/// After so many requests the workload is in the midst of its reading: firmware and mounting take some ten,
/// the whole workload more than a hundred.
const READS_BEFORE: u64 = 50;
