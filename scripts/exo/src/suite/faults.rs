//! What must fail: each with one clear line that names the thing, and without success.

use super::context::{Context, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::build::KERNEL;
use crate::bundle::{self, Manifest, Writable};
use crate::units::Extent;
use hyperexo_abi::FRAME_BYTES;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("disk-image-missing", &[], disk_image_missing),
        Test::new("no-disk", &[], no_disk),
        Test::new("disk-is-no-volume", &[Need::Disk], no_volume),
        Test::new("bundle-truncated", &[Need::Exokernel], bundle_truncated),
        Test::new("bundle-corrupt", &[Need::Exokernel], bundle_corrupt),
        Test::new("bundle-is-none", &[Need::Exokernel], bundle_is_none),
        Test::new("elf-is-none", &[Need::Exokernel], |context| {
            bad_elf(context, "none", "", |elf| elf[0] = 0)
        }),
        Test::new("elf-truncated", &[Need::Exokernel], |context| {
            bad_elf(context, "truncated", "", |elf| elf.truncate(2000))
        }),
        Test::new("elf-segment-outside-file", &[Need::Exokernel], |context| {
            bad_elf(context, "outside", "", |elf| put(elf, 1, FILE_BYTES, 1 << 40))
        }),
        Test::new("elf-segments-overlap", &[Need::Exokernel], |context| {
            bad_elf(context, "overlapping", "", |elf| {
                let first = get(elf, 0, VIRTUAL);
                put(elf, 1, VIRTUAL, first);
                put(elf, 1, PHYSICAL, first);
            })
        }),
        Test::new("elf-segment-wraps", &[Need::Exokernel], |context| {
            bad_elf(context, "wrapping", "", |elf| put(elf, 1, VIRTUAL, 0xffff_ffff_ffff_f000))
        }),
        Test::new("elf-entry-outside", &[Need::Exokernel], |context| {
            bad_elf(context, "nowhere", "", |elf| elf[24..32].copy_from_slice(&0x7000_0000u64.to_le_bytes()))
        }),
        Test::new("image-larger-than-memory", &[Need::Exokernel], |context| {
            bad_elf(context, "huge", "", |elf| put(elf, 2, MEMORY_BYTES, 1 << 30))
        }),
        Test::new("image-larger-than-quota", &[Need::Exokernel], larger_than_quota),
        Test::new("disk-extent-outside", &[Need::Exokernel, Need::Disk], extent_outside),
        Test::new("disk-errors", &[Need::Disk, Need::DiskFaults], disk_errors),
        Test::new("disk-timeout", &[Need::Disk, Need::DiskThrottling], disk_timeout),
        Test::new("disk-full", &[Need::Disk], disk_full),
        Test::new("disk-read-only", &[Need::Disk], disk_read_only),
        Test::new("machine-without-virtualization", &[Need::Exokernel], without_virtualization),
        Test::new("processor-too-old", &[Need::QemuMachine], processor_too_old),
        Test::new("core-missing", &[Need::Exokernel, Need::Cores(2)], core_missing),
        Test::new("unknown-application", &[], unknown_application),
        Test::new("time-limit", &[], time_limit),
    ]
}

fn disk_image_missing(context: &Context) -> Verdict {
    context.run(&["hello", "--disk", "/nowhere/at-all.img"])?.fails_with(&["/nowhere/at-all.img"])
}

fn no_disk(context: &Context) -> Verdict {
    let said = context.run(&["filecache", "--", "workload=din"])?;
    said.shows("disk")?.fails_with(&["environment filecache ended"])
}

fn no_volume(context: &Context) -> Verdict {
    let image = text(&context.file("zeros.img", &[0; 1 << 20])?);
    let said = context.run(&["filecache", "--disk", &image, "--", "workload=din"])?;
    said.shows("no known file system")?.fails_with(&["environment filecache ended"])
}

/// A bundle of `hello`, as bytes.
fn bundle_of_hello(context: &Context) -> std::result::Result<Vec<u8>, String> {
    bundle_with(context, "", None)
}

/// A bundle of `hello` with these words and this part of the disk.
pub fn bundle_with(
    context: &Context,
    words: &str,
    disk: Option<(Extent, Writable)>,
) -> std::result::Result<Vec<u8>, String> {
    let manifest = Manifest {
        name: "hello".into(),
        command_line: words.into(),
        quota_frames: 4096,
        disk,
        disk_quota_mib: 0,
        core: 0,
        cores: 0,
        network: false,
    };
    bundle::write(&[(manifest, &context.built.apps[0].bytes)]).map_err(|error| error.to_string())
}

fn bundle_truncated(context: &Context) -> Verdict {
    let mut bytes = bundle_of_hello(context)?;
    bytes.truncate(bytes.len() / 2);
    let path = text(&context.file("short.bundle", &bytes)?);
    context.run(&["--bundle", &path])?.fails_with(&["hyperexo: ", "bundle is truncated"])
}

fn bundle_corrupt(context: &Context) -> Verdict {
    let sound = bundle_of_hello(context)?;
    let path = text(&context.file("sound.bundle", &sound)?);
    context.run(&["--bundle", &path])?.succeeded()?;
    // In the image, and in the table.
    for at in [sound.len() - 100, 60] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        let path = text(&context.file("corrupt.bundle", &bytes)?);
        context.run(&["--bundle", &path])?.fails_with(&["hyperexo: ", "bundle is corrupt"])?;
    }
    Ok(())
}

fn bundle_is_none(context: &Context) -> Verdict {
    let path = text(&context.file("none.bundle", &[7; 9000])?);
    context.run(&["--bundle", &path])?.fails_with(&["hyperexo: ", "not a bundle"])
}

/// Offsets in a program header.
pub const OFFSET: usize = 8;
const VIRTUAL: usize = 16;
pub const PHYSICAL: usize = 24;
pub const FILE_BYTES: usize = 32;
const MEMORY_BYTES: usize = 40;

/// Where a field of program header number `index` lies: the headers follow the ELF header.
fn field(index: usize, offset: usize) -> std::ops::Range<usize> {
    let start = 64 + 56 * index + offset;
    start..start + 8
}

/// A field of program header number `index`.
pub fn get(elf: &[u8], index: usize, offset: usize) -> u64 {
    elf[field(index, offset)].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn put(elf: &mut [u8], index: usize, offset: usize, value: u64) {
    elf[field(index, offset)].copy_from_slice(&value.to_le_bytes());
}

/// `hello` with something spoilt must be refused, by name.
fn bad_elf(context: &Context, name: &str, word: &str, spoil: impl Fn(&mut Vec<u8>)) -> Verdict {
    let mut elf = context.built.apps[0].bytes.clone();
    spoil(&mut elf);
    let path = text(&context.file(&format!("{name}.elf"), &elf)?);
    context.run(&[&path])?.fails_with(&["hyperexo: ", name, word])
}

fn larger_than_quota(context: &Context) -> Verdict {
    let quota = (4 * FRAME_BYTES).to_string();
    context.run(&["hello", "--quota", &quota])?.fails_with(&["hyperexo: ", "hello", "quota"])
}

fn extent_outside(context: &Context) -> Verdict {
    let data = text(&context.small_disk()?);
    let arguments = ["hello", "--disk", &data, "--disk-extent", "4000000000+8"];
    context.run(&arguments)?.fails_with(&["hyperexo: ", "hello", "4000000000"])
}

fn disk_errors(context: &Context) -> Verdict {
    let data = text(&context.data);
    let rules = "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\niotype = \"read\"\n";
    let rules = text(&context.file("rules.conf", rules.as_bytes())?);
    let said = context.run(&["filecache", "--disk", &data, "--disk-faults", &rules, "--", "workload=din"])?;
    said.shows("I/O error")?.fails_with(&["environment filecache ended"])
}

fn disk_timeout(context: &Context) -> Verdict {
    let data = text(&context.data);
    let said = context.run(&[
        "filecache",
        "--disk",
        &data,
        "--disk-iops",
        "1",
        "--kernel-args",
        "disk-timeout-ms=300",
        "--",
        "workload=din",
    ])?;
    said.shows("did not answer in time")?.fails_with(&["environment filecache ended"])
}

/// A volume with room for the text of `sort` and hardly anything else.
fn disk_full(context: &Context) -> Verdict {
    use filecache::sort::{INPUT_PATH, TASK_PATH};
    let image = text(&context.volume_of("full.img", &[INPUT_PATH, TASK_PATH], 512 << 10)?);
    let said = context.run(&["filecache", "--disk", &image, "--", "workload=sort"])?;
    said.shows("disk full")?.fails_with(&["environment filecache ended"])
}

fn disk_read_only(context: &Context) -> Verdict {
    use filecache::sort::{INPUT_PATH, TASK_PATH};
    let data = text(&context.volume_of("sort.img", &[INPUT_PATH, TASK_PATH], 8 << 20)?);
    let said = context.run(&["filecache", "--disk", &data, "--disk-read-only", "--", "workload=sort"])?;
    said.shows("read-only")?.fails_with(&["environment filecache ended"])
}

fn without_virtualization(context: &Context) -> Verdict {
    let (arguments, word) = context.platform.without_virtualization();
    let said = context.run(&[&["hello"], arguments].concat())?;
    said.fails_with(&[KERNEL, word])
}

/// The first instructions see that nothing behind them would work.
fn processor_too_old(context: &Context) -> Verdict {
    for model in ["qemu32", "qemu64,-nx", "qemu64,-lm"] {
        let arguments = ["hello", "--accel", "tcg", "--cpu", model, "--timeout", "60"];
        context.run(&arguments)?.fails_with(&["lacks 64-bit mode or NX"])?;
    }
    Ok(())
}

/// The kernel, not only the tool, refuses a core that is not there.
fn core_missing(context: &Context) -> Verdict {
    let arguments = ["hello", "--cores", "2", "--core", "1", "--kernel-args", "cores=1"];
    context.run(&arguments)?.fails_with(&["hyperexo: ", "hello", "core 1"])
}

fn unknown_application(context: &Context) -> Verdict {
    context.run(&["no-such-thing"])?.fails_with(&["no-such-thing"])
}

fn time_limit(context: &Context) -> Verdict {
    context.run(&["hello", "--timeout", "2", "--", "spin-ms=600000"])?.fails_with(&["no end after 2 s"])
}
