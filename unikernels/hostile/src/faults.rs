//! Nested faults that the environment takes itself: it learns of them, and nothing else.

use crate::judge::{Attempt, Judge};
use crate::machine::{self, Touch};
use crate::memory::neighbour;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{ANY, LARGE_FRAMES};
use libos_core::exo::{faults, hypercall, start_info};
use libos_core::memory;

/// A frame of the kernel's image.
const KERNEL_FRAME: u64 = 0x100;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("fault-page", "having faults reported to frames of others", fault_page),
    Attempt::survives("faults-handled", "touching what is not bound, with a handler for that", handled),
    Attempt::killed("fault-in-handler", "touches what is not bound while it handles that", |judge| {
        judge.allowed("a handler", faults::set_handler(|_, _| machine::read_foreign(KERNEL_FRAME)));
        machine::read_foreign(KERNEL_FRAME);
    }),
    Attempt::killed("fault-in-delivery", "has its descriptor table where nothing is bound", |judge| {
        judge.allowed("a handler", machine::catch_faults());
        machine::trap_through(memory::linear_address(KERNEL_FRAME));
    }),
];

fn fault_page(judge: &mut Judge) {
    let start = start_info();
    let foreign = [
        ("the kernel", KERNEL_FRAME),
        ("a neighbour", neighbour()),
        ("the accounts", start.accounting_frame),
        ("the doorbell, which is the kernel's", start.doorbell_frame),
        ("the map of free frames", start.free_map_first_frame),
        ("beyond memory", start.memory_end_frame),
        ("beyond numbers", u64::MAX - 1),
    ];
    for (what, frame) in foreign {
        judge.refused(what, machine::fault_page(Some(frame)), Status::NotBound);
    }
    let Some(own) = judge.allowed("allocating", hypercall::page_alloc(ANY, 1, 1)) else { return };
    let Some(claim) = own.claim() else { return };
    judge.refused("not bound", machine::fault_page(Some(claim.first)), Status::NotBound);
    judge.allowed("binding", machine::page_bind(&own, Rights::READ));
    judge.refused("bound read-only", machine::fault_page(Some(claim.first)), Status::NotBound);
    judge.allowed("binding", machine::page_bind(&own, Rights::READ_WRITE));
    for _ in 0..2 {
        judge.allowed("our own", machine::fault_page(Some(claim.first)));
        judge.refused("freeing it", machine::page_free(&own), Status::Busy);
        judge.refused("unbinding it", machine::page_unbind(claim.first, 1), Status::Busy);
    }
    judge.allowed("no more", machine::fault_page(None));
    judge.allowed("no more, again", machine::fault_page(None));
    judge.allowed("freeing it", machine::page_free(&own));
}

fn handled(judge: &mut Judge) {
    judge.allowed("a handler", machine::catch_faults());
    let start = start_info();
    let (read, write) = (Touch::Read, Touch::Write);
    for (what, frame, touch) in [
        ("reading the kernel", KERNEL_FRAME, read),
        ("writing the kernel", KERNEL_FRAME, write),
        ("reading a neighbour", neighbour(), read),
        ("writing a neighbour", neighbour(), write),
        ("writing our accounts", start.accounting_frame, write),
        ("writing the table of owners", start.owners_frame, write),
    ] {
        let physical = frame << hyperexo_abi::FRAME_SHIFT;
        judge.expect(what, machine::touch(frame, touch), Err((physical, touch)));
    }
    let Some(own) = judge.allowed("allocating", hypercall::page_alloc(ANY, LARGE_FRAMES, 1)) else { return };
    let Some(first) = own.claim().map(|claim| claim.first) else { return };
    // Many times: every report must have been taken before the next.
    for frame in first..first + LARGE_FRAMES {
        let what = format_args!("frame {frame}");
        judge.expect(what, machine::touch(frame, write).is_err(), true);
        let one = hypercall::derive(&own, frame, 1, Rights::READ_WRITE);
        judge.allowed(what, one.and_then(|one| machine::page_bind(&one, Rights::READ_WRITE)));
        judge.expect(what, machine::touch(frame, write), Ok(()));
        judge.expect(what, machine::touch(frame, read), Ok(()));
    }
    judge.allowed("freeing", machine::page_free(&own));
    judge.expect("after that", machine::touch(first, read).is_err(), true);
    judge.allowed("no handler", faults::clear_handler());
}
