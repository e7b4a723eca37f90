//! Hypercalls with forged, stale, narrow and absurd arguments.

use crate::judge::{Attempt, Judge};
use crate::machine;
use crate::memory::{is_free, neighbour};
use alloc::vec::Vec;
use hyperexo_abi::capability::{Capability, Rights};
use hyperexo_abi::hypercall::{CONSOLE_MAX_BYTES, Call, Status};
use hyperexo_abi::{ANY, FRAME_BYTES, FRAME_SHIFT};
use libos_core::exo::{hypercall, start_info};
use libos_core::memory;

/// A frame of the kernel's image.
const KERNEL_FRAME: u64 = 0x100;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("unknown-calls", "hypercalls that do not exist", unknown_calls),
    Attempt::survives("call-registers", "what calls leave in registers that are not theirs", call_registers),
    Attempt::survives("forged-capability", "capabilities with changed bits", forged),
    Attempt::survives("stale-capability", "capabilities after free and revoke", stale),
    Attempt::survives("widen-capability", "deriving more than a capability allows", widen),
    Attempt::survives("missing-right", "freeing, revoking, binding without the right", missing_right),
    Attempt::survives("wrong-resource", "a page capability for disk blocks and the reverse", wrong_resource),
    Attempt::survives("absurd-pages", "allocating and unbinding frames that can't be", absurd_pages),
    Attempt::survives("quota", "owning more than the quota", quota),
    Attempt::survives("console-pointers", "printing memory of others", console_pointers),
    Attempt::survives("foreign-extents", "disk blocks of others", foreign_extents).with_disk(),
];

fn unknown_calls(judge: &mut Judge) {
    let numbers = (Call::ALL.len() as u64..64).chain([255, 1 << 31, 1 << 32, 1 << 63, u64::MAX]);
    for number in numbers {
        judge.refused(
            format_args!("call {number}"),
            machine::call(number, [u64::MAX; 6]),
            Status::UnknownCall,
        );
    }
}

/// Calls that are carried out in three places of the kernel; none may change, or show, a register of somebody
/// else.
fn call_registers(judge: &mut Judge) {
    let before = machine::CallState::distinct();
    let calls = [
        (Call::Null as u64, Status::Ok),
        (u64::MAX, Status::UnknownCall),
        (Call::TimerSet as u64, Status::Ok),
        (Call::PageUnbind as u64, Status::BadArgument),
    ];
    for (number, status) in calls {
        for interrupts in [true, false] {
            let (actual, after) = machine::call_with_state(number, &before, interrupts);
            let what = format_args!("status of {number:#x}, interrupts {interrupts}");
            judge.expect(what, actual, status as u64);
            let what = format_args!("registers after {number:#x}, interrupts {interrupts}");
            judge.expect(what, after == before, true);
        }
    }
}

/// A capability for fresh frames.
fn fresh(judge: &mut Judge, count: u64) -> Option<Capability> {
    judge.allowed("allocating frames", hypercall::page_alloc(ANY, count, 1))
}

fn forged(judge: &mut Judge) {
    let Some(good) = fresh(judge, 2) else { return };
    for word in 0..4 {
        for bit in [0, 1, 8, 11, 31, 32, 47, 48, 63] {
            let mut bad = good;
            bad.0[word] ^= 1 << bit;
            let what = format_args!("word {word} bit {bit}");
            judge.refused(what, machine::page_bind(&bad, Rights::READ), Status::ForgedCapability);
            judge.refused(what, machine::page_free(&bad), Status::ForgedCapability);
            judge.refused(what, hypercall::revoke(&bad), Status::ForgedCapability);
            judge.refused(what, hypercall::disk_free(&bad), Status::ForgedCapability);
            judge.refused(
                what,
                hypercall::derive(&bad, good.0[1], 1, Rights::READ),
                Status::ForgedCapability,
            );
        }
    }
    for bad in [Capability([0; 4]), Capability([u64::MAX; 4])] {
        judge.refused("constant words", machine::page_bind(&bad, Rights::READ), Status::ForgedCapability);
    }
    judge.allowed("the good one", machine::page_free(&good));
}

fn stale(judge: &mut Judge) {
    let Some(freed) = fresh(judge, 2) else { return };
    judge.allowed("freeing", machine::page_free(&freed));
    all_refuse(judge, "freed", &freed, Status::StaleCapability);
    let Some(old) = fresh(judge, 2) else { return };
    let Some(new) = judge.allowed("revoking", hypercall::revoke(&old)) else { return };
    all_refuse(judge, "revoked", &old, Status::StaleCapability);
    judge.allowed("freeing with the fresh one", machine::page_free(&new));
    all_refuse(judge, "fresh one, freed", &new, Status::StaleCapability);
}

fn all_refuse(judge: &mut Judge, what: &str, bad: &Capability, status: Status) {
    judge.refused(what, machine::page_bind(bad, Rights::READ), status);
    judge.refused(what, machine::page_free(bad), status);
    judge.refused(what, hypercall::revoke(bad), status);
    let first = bad.claim().map_or(0, |claim| claim.first);
    judge.refused(what, hypercall::derive(bad, first, 1, Rights::READ), status);
}

fn widen(judge: &mut Judge) {
    let Some(whole) = fresh(judge, 4) else { return };
    let Some(claim) = whole.claim() else { return };
    let first = claim.first + 1;
    let Some(part) = judge.allowed("narrowing", hypercall::derive(&whole, first, 2, Rights::READ)) else {
        return;
    };
    for (start, count) in [(first - 1, 2), (first, 3), (first + 1, 2), (first, 0), (u64::MAX, 2), (0, 1)] {
        let what = format_args!("{count} frames from {start}");
        judge.refused(what, hypercall::derive(&part, start, count, Rights::READ), Status::BadArgument);
    }
    for rights in [Rights::WRITE, Rights::READ_WRITE, Rights::EXECUTE, Rights::GRANT, Rights::ALL] {
        let what = format_args!("rights {:#x}", rights.0);
        judge.refused(what, hypercall::derive(&part, first, 2, rights), Status::NoRight);
        judge.refused(what, machine::page_bind(&part, rights.union(Rights::READ)), Status::NoRight);
    }
    let rights = Rights(0x80);
    judge.refused("unknown rights", hypercall::derive(&whole, first, 1, rights), Status::BadArgument);
    judge.refused("unknown rights", machine::page_bind(&whole, rights), Status::BadArgument);
    judge.refused("no right to read", machine::page_bind(&whole, Rights::WRITE), Status::BadArgument);
    judge.allowed("freeing", machine::page_free(&whole));
}

fn missing_right(judge: &mut Judge) {
    let Some(whole) = fresh(judge, 2) else { return };
    let Some(claim) = whole.claim() else { return };
    let narrow = hypercall::derive(&whole, claim.first, 2, Rights::READ_WRITE);
    let Some(narrow) = judge.allowed("narrowing", narrow) else { return };
    judge.refused("freeing", machine::page_free(&narrow), Status::NoRight);
    judge.refused("revoking", hypercall::revoke(&narrow), Status::NoRight);
    judge.refused(
        "binding to execute",
        machine::page_bind(&narrow, Rights::READ.union(Rights::EXECUTE)),
        Status::NoRight,
    );
    judge.allowed("freeing", machine::page_free(&whole));
}

fn wrong_resource(judge: &mut Judge) {
    let Some(page) = fresh(judge, 1) else { return };
    judge.refused("binding pages as extent", hypercall::disk_bind(&page, Rights::READ), Status::NoRight);
    judge.refused("freeing pages as extent", hypercall::disk_free(&page), Status::NoRight);
    judge.allowed("freeing", machine::page_free(&page));
    let disk = start_info().disk_capability;
    if disk.claim().is_some() {
        judge.refused("binding an extent as pages", machine::page_bind(&disk, Rights::READ), Status::NoRight);
        judge.refused("freeing an extent as pages", machine::page_free(&disk), Status::NoRight);
    }
}

fn absurd_pages(judge: &mut Judge) {
    let end = start_info().memory_end_frame;
    let alloc = hypercall::page_alloc;
    judge.refused("no frames", alloc(ANY, 0, 1), Status::BadArgument);
    judge.refused("alignment 0", alloc(ANY, 1, 0), Status::BadArgument);
    judge.refused("alignment 3", alloc(ANY, 1, 3), Status::BadArgument);
    judge.refused("absurd alignment", alloc(ANY, 1, 1 << 63), Status::Exhausted);
    judge.refused("absurd count", alloc(ANY, u64::MAX, 1), Status::QuotaExceeded);
    judge.refused("the kernel's frame", alloc(KERNEL_FRAME, 1, 1), Status::InUse);
    judge.refused("our own frame", alloc(start_info().image_first_frame, 1, 1), Status::InUse);
    judge.refused("beyond memory", alloc(end, 1, 1), Status::NoSuch);
    judge.refused("across the end of memory", alloc(end - 1, 2, 1), Status::NoSuch);
    judge.refused("across the end of numbers", alloc(u64::MAX - 1, 2, 1), Status::NoSuch);
    let unbind = machine::page_unbind;
    judge.refused("unbinding nothing", unbind(start_info().image_first_frame, 0), Status::BadArgument);
    judge.refused("unbinding the kernel", unbind(KERNEL_FRAME, 1), Status::NotBound);
    judge.refused("unbinding beyond memory", unbind(end, 1), Status::NoSuch);
    judge.refused("unbinding everything", unbind(1, u64::MAX), Status::BadArgument);
}

fn quota(judge: &mut Judge) {
    let mut taken = Vec::with_capacity(4096);
    let mut step = 64;
    let last = loop {
        match hypercall::page_alloc(ANY, step, 1) {
            Ok(capability) if taken.len() < taken.capacity() => taken.push(capability),
            Ok(capability) => {
                judge.allowed("freeing one too many", machine::page_free(&capability));
                break Status::Exhausted;
            }
            Err(_) if step > 1 => step /= 2,
            Err(status) => break status,
        }
    };
    let refused = matches!(last, Status::QuotaExceeded | Status::Exhausted);
    judge.expect("the end of the quota", refused, true);
    let total: u64 = taken.iter().filter_map(Capability::claim).map(|claim| claim.count).sum();
    judge.expect("no more than the quota", total <= start_info().quota_frames, true);
    for capability in &taken {
        judge.allowed("giving back", machine::page_free(capability));
    }
    if let Some(capability) = fresh(judge, 1) {
        judge.allowed("freeing", machine::page_free(&capability));
    }
}

fn console_pointers(judge: &mut Judge) {
    let write = hypercall::console_write;
    let page = machine::zero_page();
    let own = memory::frame_of(&page).unwrap_or_default() << FRAME_SHIFT;
    let end = start_info().memory_end_frame << FRAME_SHIFT;
    judge.refused("the kernel's memory", write(KERNEL_FRAME << FRAME_SHIFT, 16), Status::NotBound);
    judge.refused("beyond memory", write(end, 16), Status::NotBound);
    judge.refused("beyond addresses", write(u64::MAX - 3, 16), Status::BadArgument);
    judge.refused("highest address", write(u64::MAX - 20, 16), Status::NotBound);
    judge.refused("too long", write(own, CONSOLE_MAX_BYTES + 1), Status::BadArgument);
    judge.refused("absurdly long", write(own, u64::MAX), Status::BadArgument);
    let below = neighbour();
    let Some(before) = fresh_frame_before_free(judge) else { return };
    let across = (before << FRAME_SHIFT) + FRAME_BYTES as u64 - 8;
    judge.refused("from our frame into a free one", write(across, 16), Status::NotBound);
    judge.refused(
        "from a foreign frame into ours",
        write((below << FRAME_SHIFT) + 4090, 16),
        Status::NotBound,
    );
    judge.allowed("nothing", write(own, 0));
}

/// A frame of ours, bound, after which comes a frame that belongs to nobody.
fn fresh_frame_before_free(judge: &mut Judge) -> Option<u64> {
    let end = start_info().memory_end_frame;
    let pair = (1..end - 1).rev().find(|frame| is_free(*frame) && is_free(*frame + 1));
    let first = judge.found("two free frames", pair)?;
    let capability = judge.allowed("allocating one", hypercall::page_alloc(first, 1, 1))?;
    judge.allowed("binding it", machine::page_bind(&capability, Rights::READ_WRITE))?;
    Some(first)
}

fn foreign_extents(judge: &mut Judge) {
    let start = start_info();
    let Some(own) = start.disk_capability.claim() else { return };
    judge.refused("our own blocks", hypercall::disk_alloc(own.first, 1), Status::InUse);
    judge.refused("beyond the disk", hypercall::disk_alloc(start.disk_blocks, 1), Status::NoSuch);
    judge.refused("across the end of numbers", hypercall::disk_alloc(u64::MAX - 1, 2), Status::NoSuch);
    judge.refused("no blocks", hypercall::disk_alloc(ANY, 0), Status::BadArgument);
    judge.refused("too many blocks", hypercall::disk_alloc(ANY, start.disk_blocks + 1), Status::Exhausted);
    judge.refused("freeing the manifest's", hypercall::disk_free(&start.disk_capability), Status::NoRight);
    judge.refused("revoking it", hypercall::revoke(&start.disk_capability), Status::NoRight);
    judge.refused("unbinding what is not bound", hypercall::disk_unbind(own.first, 1), Status::NotBound);
    judge.refused("unbinding the world", hypercall::disk_unbind(0, u64::MAX), Status::NotBound);
    let wide = hypercall::derive(&start.disk_capability, own.first, own.count + 1, Rights::READ);
    judge.refused("a wider extent", wide, Status::BadArgument);
    let missing = if own.rights.contains(Rights::WRITE) { Rights::EXECUTE } else { Rights::WRITE };
    judge.refused(
        "a right the manifest does not give",
        hypercall::disk_bind(&start.disk_capability, missing),
        Status::NoRight,
    );
}
