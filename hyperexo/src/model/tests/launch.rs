//! Launch: what an environment is given, and images and manifests that are no good.

use crate::launch::image::{self, ImageError};
use crate::launch::{LaunchError, MAX_STACK_BYTES};
use crate::model::{Machine, Parts};
use hyperexo_abi::ANY;
use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::bundle::{Entry, Image};
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{Call, Status};
use hyperexo_abi::start::{MAGIC, StartInfo};
use zerocopy::{FromBytes, FromZeros};

/// A small program.
fn elf() -> Vec<u8> {
    image::model(0x10_0010, &[(5, 0, 0x10_0000, 100, 100), (6, 0, 0x10_2000, 50, 0x2001)])
}

/// A manifest that can be had.
fn manifest() -> Entry {
    Entry { quota_frames: 600, stack_bytes: 8192, cores: 2, ..Entry::new_zeroed() }
}

fn image<'a>(elf: &'a [u8], entry: &'a Entry) -> Image<'a> {
    Image { name: "model", command_line: "a=1", entry, elf }
}

/// What the kernel tells an environment, which lies behind its image and its stack.
fn start_info(machine: &Machine, frame: u64) -> StartInfo {
    let mut bytes = [0; FRAME_BYTES];
    machine.kernel.pages.memory.read(frame, 0, &mut bytes);
    StartInfo::read_from_prefix(&bytes).unwrap().0
}

#[test]
fn an_environment_is_told_what_it_has_and_has_it() {
    let mut machine = Machine::new(Parts::default());
    let entry =
        Entry { disk_first: 8, disk_count: ANY, disk_rights: 3, network: 1, disk_quota_mib: 1, ..manifest() };
    let who = machine.launch(&image(&elf(), &entry)).unwrap();
    let id = who.environment;
    let frames = &machine.kernel.pages.frames;
    let first = (0..frames.len()).find(|frame| frames.generation(*frame) != 0).unwrap();
    let info = start_info(&machine, first + 5 + 2);
    assert_eq!((info.magic, info.environment, info.quota_frames), (MAGIC, 1, 600));
    assert_eq!((info.image_first_frame, info.image_frames), (first, frames.owned_by(id)));
    assert_eq!((info.disk_blocks, info.cores, &info.name[..6]), (64, 2, b"model\0".as_slice()));
    assert_eq!(&info.command_line[..info.command_line_bytes as usize], b"a=1");
    let pages = &machine.kernel.pages;
    for frame in [info.accounting_frame, info.free_map_first_frame, info.owners_frame] {
        assert_eq!(pages.lookup(id, frame), Some(Rights::READ));
    }
    assert_eq!(pages.lookup(id, info.doorbell_frame), Some(Rights::READ_WRITE));
    assert!((first..first + info.image_frames).all(|frame| pages.has_bound(id, frame, Rights::READ_WRITE)));
    // The capabilities are good: part of the image is given back, the extent is bound.
    let part =
        machine.call_with(who, Call::Derive, info.image_capability, &[first, 1 | 15 << 56]).map(Capability);
    machine.call_with(who, Call::PageFree, part.unwrap(), &[]).unwrap();
    let extent = info.disk_capability.claim().unwrap();
    assert_eq!((extent.first, extent.count), (8, 56));
    machine.call_with(who, Call::DiskBind, info.disk_capability, &[3]).unwrap();
    assert_eq!(machine.call_with(who, Call::DiskFree, info.disk_capability, &[]), Err(Status::NoRight));
    // Its own core and the second, no other.
    machine.call(who, Call::VcpuStart, &[1, 0, 0, 0, 0]).unwrap();
    machine.end(who);
    assert!(machine.kernel.finished() && machine.kernel.pages.frames.owned_by(id) == 0);
}

#[test]
fn each_fault_of_an_image_or_manifest_has_its_name() {
    let elf = elf();
    let refused = |entry: Entry, elf: &[u8], blocks: u64| {
        let mut machine = Machine::new(Parts { blocks, ..Parts::default() });
        let launched = machine.launch(&image(elf, &entry));
        launched.expect_err(&format!(
            "{:?}",
            (entry.disk_first, entry.disk_count, entry.core, entry.quota_frames)
        ))
    };
    assert_eq!(refused(manifest(), b"no", 64), LaunchError::Image(ImageError::NotElf));
    let stack_bytes = MAX_STACK_BYTES + 1;
    assert_eq!(
        refused(Entry { stack_bytes, ..manifest() }, &elf, 64),
        LaunchError::Stack { bytes: stack_bytes }
    );
    assert_eq!(refused(Entry { core: 2, ..manifest() }, &elf, 64), LaunchError::NoCore { core: 2, cores: 2 });
    let quota = refused(Entry { quota_frames: 7, ..manifest() }, &elf, 64);
    assert!(matches!(quota, LaunchError::Quota { needed: 8.., quota: 7 }), "{quota}");
    let large = Entry { stack_bytes: 9 << 20, quota_frames: 4000, ..manifest() };
    let memory = refused(large, &elf, 64);
    assert!(matches!(memory, LaunchError::Memory { needed: 2304.., free: ..2048 }), "{memory}");
    let with_disk = |first, count| Entry { disk_first: first, disk_count: count, ..manifest() };
    assert_eq!(refused(with_disk(0, 1), &elf, 0), LaunchError::NoDisk);
    for (first, count, status) in [
        (64, 1, Status::NoSuch),
        (60, 5, Status::NoSuch),
        (u64::MAX - 1, 2, Status::NoSuch),
        (64, ANY, Status::BadArgument),
    ] {
        let expected = if count == ANY { 0 } else { count };
        let error = refused(with_disk(first, count), &elf, 64);
        assert_eq!(error, LaunchError::Extent { first, count: expected, disk: 64, status });
    }
}

/// Two extents that overlap can't both be had.
#[test]
fn manifests_do_not_share_blocks() {
    let (mut machine, elf) = (Machine::new(Parts::default()), elf());
    let entry = Entry { disk_first: 0, disk_count: 10, disk_rights: 1, ..manifest() };
    machine.launch(&image(&elf, &entry)).unwrap();
    let next = Entry { disk_first: 9, ..entry };
    let error = machine.launch(&image(&elf, &next)).unwrap_err();
    assert!(matches!(error, LaunchError::Extent { status: Status::InUse, .. }), "{error}");
}
