//! Frames of others.

use crate::judge::{Attempt, Judge};
use crate::machine;
use core::sync::atomic::Ordering;
use hyperexo_abi::accounting::Exit;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::{ANY, FRAME_SHIFT, LARGE_FRAMES};
use libos_core::exo::{self, hypercall, start_info};
use libos_core::{accounting, argument, memory, println};

/// Physical address of the kernel's image.
const KERNEL: u64 = 0x10_0000;
/// Physical address of the local APIC's registers.
const APIC: u64 = 0xfee0_0000;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::killed("read-kernel", "reads the kernel's memory", |_| show(machine::read_word(linear(KERNEL)))),
    Attempt::killed("write-kernel", "writes the kernel's memory", |_| machine::write_word(linear(KERNEL), 0)),
    Attempt::killed("execute-kernel", "executes the kernel's code", |_| {
        machine::execute(machine::map_everything_allowed(0) + KERNEL);
    }),
    Attempt::killed("read-neighbour", "reads a frame of another environment (frame=N chooses which)", |_| {
        show(machine::read_word(memory::linear_address(neighbour())));
    }),
    Attempt::killed("write-neighbour", "writes a frame of another environment (frame=N)", |_| {
        machine::write_word(memory::linear_address(neighbour()), 0);
    }),
    Attempt::killed("read-free-frame", "reads a frame that belongs to nobody", |_| {
        show(machine::read_word(memory::linear_address(free_frame())));
    }),
    Attempt::killed("touch-apic", "reads a register of the interrupt controller", |_| {
        let base = machine::map_everything_allowed(APIC & !((LARGE_FRAMES << FRAME_SHIFT) - 1));
        show(machine::read_word(base + APIC % (LARGE_FRAMES << FRAME_SHIFT) + 0x20));
    }),
    Attempt::killed("foreign-page-table", "takes the kernel's memory for its page table", |_| {
        machine::load_cr3(KERNEL);
    }),
    Attempt::killed("write-accounting", "writes its own accounts", |_| {
        machine::write_word(memory::linear_address(start_info().accounting_frame), 0);
    }),
    Attempt::killed("write-free-map", "writes the map of free frames", |_| {
        machine::write_word(memory::linear_address(start_info().free_map_first_frame), u64::MAX);
    }),
    Attempt::killed("write-owners", "writes the table of owners", |_| {
        machine::write_word(memory::linear_address(start_info().owners_frame), 0);
    }),
    Attempt::killed("use-after-free", "reads a frame it has given back", |_| {
        if let Some((capability, first)) = frames(1, Rights::READ_WRITE) {
            machine::write_word(memory::linear_address(first), 1);
            if machine::page_free(&capability).is_ok() {
                show(machine::read_word(memory::linear_address(first)));
            }
        }
    }),
    Attempt::killed("use-after-unbind", "reads a frame whose binding it has ended", |_| {
        if let Some((_, first)) = frames(1, Rights::READ_WRITE) {
            machine::write_word(memory::linear_address(first), 1);
            if machine::page_unbind(first, 1).is_ok() {
                show(machine::read_word(memory::linear_address(first)));
            }
        }
    }),
    Attempt::killed("use-before-bind", "reads a frame it owns but has not bound", |_| {
        if let Some(claim) = hypercall::page_alloc(ANY, 1, 1).ok().and_then(|capability| capability.claim()) {
            show(machine::read_word(memory::linear_address(claim.first)));
        }
    }),
    Attempt::killed("write-read-only", "writes a frame it has bound for reading", |_| {
        if let Some((_, first)) = frames(1, Rights::READ) {
            show(machine::read_word(memory::linear_address(first)));
            machine::write_word(memory::linear_address(first), 1);
        }
    }),
    Attempt::killed("execute-data", "executes a frame it has bound for reading and writing", |_| {
        if let Some((_, first)) = frames(1, Rights::READ_WRITE) {
            const RETURN: u64 = 0xc3;
            machine::write_word(memory::linear_address(first), RETURN);
            let large = first & !(LARGE_FRAMES - 1);
            let base = machine::map_everything_allowed(large << FRAME_SHIFT);
            machine::execute(base + ((first - large) << FRAME_SHIFT));
        }
    }),
    Attempt::survives("information", "reads the pages that everybody may read", information),
];

fn linear(physical: u64) -> u64 {
    memory::linear_address(physical >> FRAME_SHIFT)
}

/// Uses a value that should never have been read.
fn show(value: u64) {
    println!("read {value:#x}");
}

/// A frame that is somebody else's: `frame=N`, or the next one below this environment's image that belongs to
/// somebody and is not one of those that the kernel shows to all.
pub fn neighbour() -> u64 {
    let start = start_info();
    let shared = |frame: u64| {
        frame == start.owners_frame
            || (start.free_map_first_frame..start.free_map_first_frame + start.free_map_frames)
                .contains(&frame)
    };
    let below = || (0..start.image_first_frame).rev().find(|frame| !shared(*frame) && !is_free(*frame));
    argument("frame").and_then(|number| number.parse().ok()).or_else(below).unwrap_or(0)
}

/// Whether a frame belongs to nobody.
pub fn is_free(frame: u64) -> bool {
    exo::free_map()
        .get(frame as usize / 64)
        .is_some_and(|word| word.load(Ordering::Relaxed) >> (frame % 64) & 1 != 0)
}

/// The highest frame that belongs to nobody, or frame 0.
fn free_frame() -> u64 {
    let words = exo::free_map().iter().enumerate().rev();
    words
        .map(|(index, word)| (index as u64, word.load(Ordering::Relaxed)))
        .find(|(_, word)| *word != 0)
        .map_or(0, |(index, word)| index * 64 + 63 - u64::from(word.leading_zeros()))
}

/// Frames of ours, bound with these rights: capability and first.
fn frames(count: u64, rights: Rights) -> Option<(hyperexo_abi::capability::Capability, u64)> {
    let capability = hypercall::page_alloc(ANY, count, 1).ok()?;
    machine::page_bind(&capability, rights).ok()?;
    Some((capability, capability.claim()?.first))
}

fn information(judge: &mut Judge) {
    let accounting = accounting();
    judge.expect(
        "accounting counts hypercalls",
        accounting.exits[Exit::Hypercall as usize].load(Ordering::Relaxed) > 0,
        true,
    );
    judge.expect("accounting counts frames", accounting.frames.load(Ordering::Relaxed) > 0, true);
    let owners = exo::owners();
    let own = owners.frames[start_info().environment as usize].load(Ordering::Relaxed);
    judge.expect("owners knows us", own, accounting.frames.load(Ordering::Relaxed));
    let free: u64 =
        exo::free_map().iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum();
    judge.expect("the map agrees with the count", free, owners.free_frames.load(Ordering::Relaxed));
    let image = start_info().image_first_frame;
    let word = exo::free_map()[image as usize / 64].load(Ordering::Relaxed);
    judge.expect("our frames are not free", word >> (image % 64) & 1, 0);
}
