//! How long the kernel's lock is held at once: every call with the largest arguments that it takes.
//!
//! The kernel notes the longest time on the accounting page. Where time is counted in instructions (one core,
//! `-icount`) the figure is the same in every run.

use crate::judge::{Attempt, Judge};
use crate::machine;
use core::sync::atomic::Ordering;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, Call, MAX_ALLOCATION_FRAMES};
use hyperexo_abi::{ANY, FRAME_SHIFT};
use libos_core::exo::{hypercall, start_info};
use libos_core::{accounting, memory, println};

/// Parts of tests of their own.
pub const PARTS: &[Attempt] =
    &[Attempt::survives("holds", "every call with the largest arguments that it takes", holds)];

/// Tells how long the lock was held at once so far, after a kind of call.
fn tell(what: &str) {
    let longest = accounting().longest_hold.load(Ordering::Relaxed);
    println!("{{\"holds\":{{\"after\":\"{what}\",\"longest_hold\":{longest}}}}}");
}

fn holds(judge: &mut Judge) {
    tell("the start");
    let frames = MAX_ALLOCATION_FRAMES.min(start_info().quota_frames / 4);
    pages(judge, frames);
    scattered(judge, frames);
    console(judge);
    views(judge, frames);
    filters();
    disk();
    for call in
        Call::ALL.into_iter().filter(|call| !matches!(call, Call::Exit | Call::VcpuStart | Call::Yield))
    {
        // What makes no sense is refused, and that must not take long either.
        for argument in [0, 1, u64::MAX, u64::MAX >> 16] {
            let _ = machine::call(call as u64, [argument; 6]);
        }
    }
    tell("nonsense");
}

fn pages(judge: &mut Judge, frames: u64) {
    let Some(run) = judge.allowed("a large run", hypercall::page_alloc(ANY, frames, 512)) else { return };
    let Some(claim) = run.claim() else { return };
    tell("page_alloc");
    judge.allowed("binding it", machine::page_bind(&run, Rights::ALL.intersection(Rights(7))));
    tell("page_bind");
    judge.allowed("a part", hypercall::derive(&run, claim.first, frames, Rights::READ));
    tell("derive");
    // Cut off the region's borders, so that large entries have to be split.
    judge.allowed("unbinding most", machine::page_unbind(claim.first + 1, frames - 2));
    tell("page_unbind");
    judge.allowed("binding it again", machine::page_bind(&run, Rights::READ));
    let Some(fresh) = judge.allowed("revoking", hypercall::revoke(&run)) else { return };
    tell("revoke");
    judge.allowed("freeing", machine::page_free(&fresh));
    tell("page_free");
}

/// Every other frame: no region is the same throughout.
fn scattered(judge: &mut Judge, frames: u64) {
    let Some(run) = judge.allowed("a large run", hypercall::page_alloc(ANY, frames, 1)) else { return };
    let Some(claim) = run.claim() else { return };
    for frame in (claim.first..claim.end()).step_by(2) {
        let part = hypercall::derive(&run, frame, 1, Rights::ALL);
        // The whole is not current any more after the first.
        if let Ok(part) = part {
            let _ = machine::page_free(&part);
            break;
        }
    }
    tell("a hole");
    let _ = hypercall::page_alloc(ANY, frames, frames.next_power_of_two());
    tell("a search in vain");
}

fn console(judge: &mut Judge) {
    let mut page = machine::page_of(b' ');
    // Short lines, and few enough for whoever reads them.
    page.0.iter_mut().step_by(64).for_each(|byte| *byte = b'\n');
    let Some(frame) = memory::frame_of(&page) else { return };
    judge.expect(
        "a page of line ends",
        hypercall::console_write(frame << FRAME_SHIFT, CONSOLE_MAX_BYTES).is_ok(),
        true,
    );
    tell("console_write");
}

fn views(judge: &mut Judge, frames: u64) {
    let budget = frames / 2;
    let Some(view) = judge.allowed("a view", hypercall::view_create(budget)) else { return };
    tell("view_create");
    let Some(run) = judge.allowed("a run for it", hypercall::page_alloc(ANY, frames / 2, 1)) else { return };
    judge.allowed("showing it", machine::page_bind_in(view.number, &run, Rights::READ));
    tell("page_bind in a view");
    judge.allowed("freeing it", machine::page_free(&run));
    tell("page_free of what a view shows");
    judge.allowed("ending it", hypercall::view_end(view.number));
    tell("view_end");
}

fn filters() {
    let filter = |port: u64| machine::call(Call::FilterAlloc as u64, [0, 0, 0, 0, port << 32, 1]);
    (1..2000).for_each(|port| {
        let _ = filter(port);
    });
    tell("filter_alloc");
}

fn disk() {
    let mut extents: [Option<Capability>; 64] = [None; 64];
    for extent in &mut extents {
        *extent = hypercall::disk_alloc(ANY, 1).ok();
    }
    for extent in extents.iter().flatten() {
        let _ = hypercall::disk_bind(extent, Rights::READ_WRITE);
    }
    tell("disk_bind");
    for extent in extents.iter().flatten() {
        let _ = hypercall::disk_free(extent);
    }
    tell("disk_free");
}
