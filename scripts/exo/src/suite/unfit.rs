//! Machines and loaders that do not give an image what it needs: one line says what is missing, where there
//! would be silence.

use super::context::{Context, Said, text};
use super::faults::{FILE_BYTES, OFFSET, PHYSICAL, get};
use super::platform::Need;
use super::{Test, Verdict};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("memory-too-small", &[], memory_too_small),
        Test::new("memory-too-small-beside-the-bundle", &[Need::Exokernel], no_room_for_the_bundle),
        Test::new("memory-too-small-for-firmware", &[Need::Qemu, Need::Alone], reset_by_firmware),
        Test::new("memory-above-the-map", &[Need::Qemu], above_the_map),
        Test::new("memory-to-be-plugged", &[Need::Qemu], to_be_plugged),
        Test::new("image-without-pvh-note", &[Need::Alone], without_pvh_note),
        Test::new("image-entered-without-information", &[Need::Alone], entered_otherwise),
        Test::new("says-nothing", &[Need::QemuMachine], says_nothing),
        Test::new("says-something-first", &[Need::QemuMachine], says_something_first),
    ]
}

/// Where the kernel does not lie in memory, nobody but the tool can say so.
fn memory_too_small(context: &Context) -> Verdict {
    context.run(&["hello", "--memory", "1M"])?.fails_with(&["--memory 1.0 MiB", "reaches up to"])
}

/// A bundle that has no place would be put over the kernel.
fn no_room_for_the_bundle(context: &Context) -> Verdict {
    context.run(&["hello", "--memory", "1536K"])?.fails_with(&["with its bundle", "reaches up to"])
}

/// SeaBIOS needs some of the memory where the image lies, and resets the machine.
fn reset_by_firmware(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--memory", "1344K", "--firmware", "seabios"])?;
    said.tells("give it more with --memory")?.fails_with(&["the machine was reset", "(none)"])
}

/// A machine with so much memory, of which the host gives what is used. Its processor must reach all of it.
fn with_memory(context: &Context, size: &str) -> Result<Said, String> {
    let backend = format!("--qemu-arg=memory-backend-ram,id=ram,size={size},reserve=off");
    let qemu = ["--cpu", "max,phys-bits=46", "--qemu-arg=-object", &backend];
    let rest = ["--qemu-arg=-M", "--qemu-arg=memory-backend=ram"];
    context.run(&[&["hello", "--memory", size, "--accel", "tcg"], &qemu[..], &rest].concat())
}

/// What lies above 512 GiB is not used, and that is said. Beyond 1 TiB QEMU puts all above 4 GiB there.
fn above_the_map(context: &Context) -> Verdict {
    let unused = |said: Said, mebibytes: u64| {
        said.succeeded()?.tells(&format!("{mebibytes} MiB of memory are not used: they lie above 512 GiB"))
    };
    // Of q35's memory, 2 GiB lie below 4 GiB.
    unused(with_memory(context, "1000G")?, 998 << 10)?;
    let said = with_memory(context, "600G")?;
    match context.platform.is_direct() {
        true => unused(said, 90 << 10).map(drop),
        // Its tables of frames lie below 4 GiB, and describe no more.
        false => said.fails_with(&["hyperexo: ", "no room below 4 GiB for the frame table", "under 300 GiB"]),
    }
}

/// Places for more memory, beyond what is mapped, are in nobody's way.
fn to_be_plugged(context: &Context) -> Verdict {
    let more = ["--qemu-arg=-m", "--qemu-arg=256M,slots=4,maxmem=700G"];
    context.run(&[&["hello"], &more[..]].concat())?.succeeded().map(drop)
}

/// A machine that never says a word is not waited for, unless that is asked for.
fn says_nothing(context: &Context) -> Verdict {
    let stopped = |more: &[&str]| context.run(&[&["hello", "--qemu-arg=-S"], more].concat());
    stopped(&["--silence", "2"])?.fails_with(&["said nothing in 2 s", "it is stopped"])?;
    stopped(&["--silence", "0", "--timeout", "4"])?.fails_with(&["no end after 4 s"])?;
    if !context.platform.is_direct() {
        return Ok(());
    }
    // `jmp` to itself, and `hlt`, which goes on at the byte behind it.
    for (name, code, does) in [("loops", [0xeb, 0xfe], "runs, at"), ("stands", [0xfa, 0xf4], "halts, at")] {
        let mut elf = context.built.apps[0].bytes.clone();
        let entry = pvh_entry(&elf).ok_or("no PVH note")?;
        elf[entry..entry + code.len()].copy_from_slice(&code);
        let path = text(&context.file(&format!("{name}.elf"), &elf)?);
        context.run(&[&path, "--silence", "2"])?.fails_with(&["said nothing in 2 s", does])?;
    }
    Ok(())
}

/// A note of owner "Xen" and type 18: sizes of owner and description, type, owner.
const PVH_NOTE: [u8; 16] = [4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0];

/// Where an image keeps its PVH note.
fn pvh_note(elf: &[u8]) -> Option<usize> {
    elf.windows(PVH_NOTE.len()).position(|bytes| bytes == PVH_NOTE)
}

/// Where the file of an image keeps the code that its PVH note names.
fn pvh_entry(elf: &[u8]) -> Option<usize> {
    let note = pvh_note(elf)? + PVH_NOTE.len();
    let address = u64::from(u32::from_le_bytes(elf.get(note..note + 4)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
    (0..count).find_map(|index| {
        let within = address.checked_sub(get(elf, index, PHYSICAL))?;
        (within < get(elf, index, FILE_BYTES)).then(|| (get(elf, index, OFFSET) + within) as usize)
    })
}

/// Who has said something may be silent for longer than that.
fn says_something_first(context: &Context) -> Verdict {
    context.run(&["hello", "--silence", "5", "--", "sleep-ms=6000"])?.succeeded().map(drop)
}

/// `call` of the Rust function behind the boot code, with its arguments: protocol and information.
const CALL: [u8; 5] = [0x89, 0xf7, 0x89, 0xde, 0xe8];

/// A loader that goes by the ELF header enters in 64-bit mode, as that of Linux kernels does, with nothing
/// that is for us. The boot code is made to do so.
fn entered_otherwise(context: &Context) -> Verdict {
    let mut elf = context.built.apps[0].bytes.clone();
    let call =
        elf.windows(CALL.len()).position(|bytes| bytes == CALL).ok_or("no such boot code")? + CALL.len();
    let entry = u64::from_le_bytes(elf[24..32].try_into().map_err(|_| "no ELF header")?);
    let count = usize::from(u16::from_le_bytes([elf[56], elf[57]]));
    let segment = (0..count).find(|index| {
        let within = (call as u64).checked_sub(get(&elf, *index, OFFSET));
        within.is_some_and(|within| within < get(&elf, *index, FILE_BYTES))
    });
    let segment = segment.ok_or("the boot code is in no segment")?;
    let behind = call as u64 + 4 - get(&elf, segment, OFFSET) + get(&elf, segment, PHYSICAL);
    elf[call..call + 4].copy_from_slice(&(entry.wrapping_sub(behind) as u32).to_le_bytes());
    let path = text(&context.file("entered.elf", &elf)?);
    let said = context.run(&[&path, "--silence", "5"])?;
    said.fails_with(&["entered at its ELF entry", "PVH or Multiboot2"])
}

/// An image without the note that names its entry is nothing that QEMU could start.
fn without_pvh_note(context: &Context) -> Verdict {
    let mut elf = context.built.apps[0].bytes.clone();
    let note = pvh_note(&elf).ok_or("no PVH note")?;
    elf[note + 8] = 17;
    let path = text(&context.file("noteless.elf", &elf)?);
    context.run(&[&path])?.fails_with(&["PVH"])
}
