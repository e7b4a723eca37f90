//! Calls that allocate and bind frames.
//!
//! A piece of a call spends a budget: one unit is some tens of instructions.
#![forbid(unsafe_code)]

use super::{DONE, Outcome, Step, rights_and_view, run};
use crate::environment::underway::{
    AllocPhase, BindPhase, Derive, PageAlloc, PageBind, PageUnbind, Underway,
};
use crate::kernel::Kernel;
use crate::machine::id::EnvironmentId;
use crate::resource::capability::Verified;
use crate::resource::frame::account::Account;
use crate::resource::frame::nested::Counted;
use crate::resource::frame::stale::Stale;
use crate::resource::frame::table::{Owner, Search};
use crate::resource::frame::{Pages, Place};
use core::ops::Range;
use hyperexo_abi::capability::{Capability, Claim, Resource as Kind, Rights};
use hyperexo_abi::hypercall::{MAX_ALLOCATION_FRAMES, Status};
use hyperexo_abi::{ANY, LARGE_FRAMES};

/// What a piece may spend.
pub const BUDGET: u64 = 128;
/// What clearing a frame costs.
const CLEARING: u64 = 8;
/// What looking at a region as a whole costs.
const REGION: u64 = 16;
/// Frames that are bound or unbound one by one for what one unit costs.
const SMALL: u64 = 4;
/// Most frames at once in what is somebody else's, where each is judged by itself.
const OTHERS: u64 = 64;
/// Words of the free map that a piece of a search looks at.
const SEARCHED_WORDS: u64 = 512;

/// The part of a run that lies in one region and is worth no more than `budget` frames, at least one; and
/// what looking at it costs.
pub fn next_part(run: Range<u64>, budget: u64) -> (Range<u64>, u64) {
    let region_end = (run.start / LARGE_FRAMES + 1) * LARGE_FRAMES;
    let end = run.end.min(region_end);
    if end - run.start == LARGE_FRAMES {
        return (run.start..end, REGION);
    }
    let end = end.min(run.start + budget.max(1));
    (run.start..end, end - run.start)
}

/// The same where bindings in a place are judged or changed. Entries for single frames are changed one by
/// one, and in somebody else's view each frame is looked at.
fn next_bound(
    pages: &Pages,
    id: EnvironmentId,
    place: Place,
    run: Range<u64>,
    budget: u64,
) -> (Range<u64>, u64) {
    if !pages.is_own(id, place) {
        let end = run.end.min(run.start + OTHERS);
        return (next_part(run.start..end, OTHERS).0, BUDGET);
    }
    let (part, cost) = next_part(run, budget);
    let frames = part.end - part.start;
    let small = pages.small_entries(place, part.start).min(frames) / SMALL;
    (part, cost + small)
}

/// `PageAlloc`.
pub fn allocate(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64, align: u64) -> Step {
    if count == 0 || !align.is_power_of_two() {
        return Status::BadArgument.into();
    }
    let quota = kernel.pages.holding(id).map_or(0, |holding| holding.quota);
    if count > MAX_ALLOCATION_FRAMES && count <= quota {
        return Status::BadArgument.into();
    }
    let room = kernel.pages.require_room(Place::Own(id), count);
    match room.map(|stale| kernel.settle(stale)) {
        Ok(_) => {}
        Err(status) => return status.into(),
    }
    let pages = &mut kernel.pages;
    let phase = if first == ANY {
        AllocPhase::Search { at: pages.frames.hint(), end: pages.frames.len(), again: false }
    } else if !first.is_multiple_of(align) {
        return Status::BadArgument.into();
    } else if let Err(status) = pages.frames.require_free(first, count) {
        return status.into();
    } else {
        AllocPhase::Take { first, at: first, generation: pages.frames.fresh_generation(), named: true }
    };
    allocate_piece(kernel, id, PageAlloc { count, align, phase })
}

/// A piece of `PageAlloc`.
pub fn allocate_piece(kernel: &mut Kernel, id: EnvironmentId, mut call: PageAlloc) -> Step {
    let pages = &mut kernel.pages;
    let mut budget = BUDGET;
    while budget > 0 {
        budget = match call.phase {
            AllocPhase::Search { at, end, again } => match search(pages, &mut call, at, end, again) {
                Ok(()) => budget.saturating_sub(BUDGET / 2),
                Err(status) => return status.into(),
            },
            AllocPhase::Take { first, at, generation, named } => {
                match take(pages, id, &mut call, (first, at), generation, named, budget) {
                    Ok(left) => left,
                    Err(status) => return status.into(),
                }
            }
            AllocPhase::Clear { first, at, generation } if at < first + call.count => {
                // Cleared before it goes to another owner: whoever had it last.
                pages.memory.clear(at);
                call.phase = AllocPhase::Clear { first, at: at + 1, generation };
                budget.saturating_sub(CLEARING)
            }
            AllocPhase::Clear { first, generation, .. } => {
                let count = call.count;
                pages.frames.note_uniform(first..first + count, generation);
                pages.publish(id);
                let claim = Claim { resource: Kind::Page, rights: Rights::ALL, generation, first, count };
                return Ok(kernel.authority.seal(&claim).0).into();
            }
        };
    }
    Step::More(Underway::Allocate(call))
}

/// Goes on looking for free frames.
fn search(pages: &mut Pages, call: &mut PageAlloc, at: u64, end: u64, again: bool) -> Result<(), Status> {
    call.phase = match pages.frames.search(at, end, call.count, call.align, SEARCHED_WORDS) {
        Search::Found(first) => {
            pages.frames.set_hint(first + call.count);
            let generation = pages.frames.fresh_generation();
            AllocPhase::Take { first, at: first, generation, named: false }
        }
        Search::GoOn(at) => AllocPhase::Search { at, end, again },
        Search::Nowhere if again => return Err(Status::Exhausted),
        // From the bottom on, and across the place where the first round began.
        Search::Nowhere => AllocPhase::Search { at: 0, end: pages.frames.len(), again: true },
    };
    Ok(())
}

/// Takes some of the frames that were found; returns what is left of the budget.
fn take(
    pages: &mut Pages,
    id: EnvironmentId,
    call: &mut PageAlloc,
    (first, at): (u64, u64),
    generation: u64,
    named: bool,
    budget: u64,
) -> Result<u64, Status> {
    let end = (first + call.count).min(at + budget);
    // Others may have been faster since the first piece.
    let taken = if pages.room(id) < end - at {
        Err(Status::QuotaExceeded)
    } else {
        pages.frames.take(Owner::Environment(id), at..end, generation)
    };
    match taken {
        Ok(()) if end == first + call.count => {
            call.phase = AllocPhase::Clear { first, at: first, generation }
        }
        Ok(()) => call.phase = AllocPhase::Take { first, at: end, generation, named },
        Err(status) => {
            pages.frames.give_up(first..at);
            if named || status == Status::QuotaExceeded {
                return Err(status);
            }
            call.phase = AllocPhase::Search { at: 0, end: pages.frames.len(), again: false };
        }
    }
    Ok(budget - (end - at))
}

/// `PageBind`.
pub fn bind(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability, wanted: u64) -> Step {
    let (claim, rights, view) = match judge_bind(kernel, capability, wanted) {
        Ok(judged) => judged,
        Err(status) => return status.into(),
    };
    if (claim.count(), view) == (1, 0)
        && let Some(bound) = kernel.pages.bind_one(id, &claim, rights)
    {
        return at_once(kernel, bound);
    }
    match kernel.pages.place(id, view) {
        Ok(place) => bind_piece(kernel, id, bind_from_start(claim, place, rights)),
        Err(status) => status.into(),
    }
}

/// Ends a call for one frame that needed no pieces.
fn at_once(kernel: &mut Kernel, outcome: Result<Stale, Status>) -> Step {
    match outcome {
        Ok(stale) => {
            let _ = kernel.settle(stale);
            DONE.into()
        }
        Err(status) => status.into(),
    }
}

fn judge_bind(
    kernel: &Kernel,
    capability: &Capability,
    wanted: u64,
) -> Result<(Verified, Rights, u64), Status> {
    let (rights, view) = rights_and_view(wanted)?;
    if !rights.contains(Rights::READ) {
        return Err(Status::BadArgument);
    }
    Ok((kernel.authority.verify(capability, Kind::Page, rights)?, rights, view))
}

fn bind_from_start(claim: Verified, place: Place, rights: Rights) -> PageBind {
    let phase = BindPhase::Check { at: claim.first(), needed: 0, counted: Counted::default() };
    PageBind { claim, place, rights, phase }
}

/// A piece of `PageBind`.
pub fn bind_piece(kernel: &mut Kernel, id: EnvironmentId, mut call: PageBind) -> Step {
    // It may have left the view since the last piece, or the view may be no more.
    if !kernel.pages.has_place(id, call.place) {
        return Status::NoSuch.into();
    }
    let mut budget = BUDGET;
    while budget > 0 {
        let spent = match call.phase {
            BindPhase::Check { at, .. } if at == call.claim.end() => begin_map(kernel, &mut call),
            BindPhase::Check { .. } => check_bind(&kernel.pages, id, &mut call, budget),
            BindPhase::Map { at } if at == call.claim.end() => {
                kernel.pages.publish(id);
                return DONE.into();
            }
            BindPhase::Map { at } => map_part(kernel, id, &mut call, at, budget),
        };
        match spent {
            Ok(spent) => budget = budget.saturating_sub(spent),
            Err(status) => return status.into(),
        }
    }
    Step::More(Underway::Bind(call))
}

/// Judges a part of what is to be bound; returns what that cost.
fn check_bind(pages: &Pages, id: EnvironmentId, call: &mut PageBind, budget: u64) -> Result<u64, Status> {
    let BindPhase::Check { at, needed, mut counted } = call.phase else { return Ok(0) };
    let (part, cost) = next_bound(pages, id, call.place, at..call.claim.end(), budget);
    pages.check(&call.claim.part(part.clone()))?;
    let needed = needed + pages.tables_needed(call.place, part.clone(), call.rights, &mut counted);
    call.phase = BindPhase::Check { at: part.end, needed, counted };
    // Elsewhere than at home, what is there stays as whoever made it wanted it.
    if !matches!(call.place, Place::Own(_)) && !pages.may_change(id, call.place, part) {
        return Err(Status::InUse);
    }
    Ok(cost)
}

/// All or nothing: once there is room for the tables, nothing can go wrong.
fn begin_map(kernel: &mut Kernel, call: &mut PageBind) -> Result<u64, Status> {
    let BindPhase::Check { needed, .. } = call.phase else { return Ok(0) };
    if needed > kernel.pages.table_room(call.place) {
        let stale = kernel.pages.require_room(call.place, needed)?;
        let _ = kernel.settle(stale);
        // The table that had to go may be one that was not counted because it was there.
        call.phase = BindPhase::Check { at: call.claim.first(), needed: 0, counted: Counted::default() };
        return Ok(0);
    }
    if needed > kernel.pages.frames.free_frames() {
        return Err(Status::Exhausted);
    }
    call.phase = BindPhase::Map { at: call.claim.first() };
    Ok(0)
}

/// Binds a part; returns what that cost. What has been revoked since it was judged is refused here.
fn map_part(
    kernel: &mut Kernel,
    id: EnvironmentId,
    call: &mut PageBind,
    at: u64,
    budget: u64,
) -> Result<u64, Status> {
    let (part, cost) = next_bound(&kernel.pages, id, call.place, at..call.claim.end(), budget);
    let current = kernel.pages.check(&call.claim.part(part.clone()))?;
    let elsewhere = !matches!(call.place, Place::Own(_));
    if elsewhere && !kernel.pages.may_change(id, call.place, part.clone()) {
        return Err(Status::InUse);
    }
    let stale = kernel.pages.bind(call.place, current, call.rights)?;
    let _ = kernel.settle(stale);
    call.phase = BindPhase::Map { at: part.end };
    // Where code has no large entries, a region is bound frame by frame.
    let small = call.rights.contains(Rights::EXECUTE);
    Ok(if small { cost.max((part.end - part.start) / SMALL) } else { cost })
}

/// `PageUnbind`.
pub fn unbind(kernel: &mut Kernel, id: EnvironmentId, first: u64, count: u64, view: u64) -> Step {
    if (count, view) == (1, 0)
        && first < kernel.pages.frames.len()
        && let Some(unbound) = kernel.pages.unbind_one(id, first)
    {
        return at_once(kernel, unbound);
    }
    let begun = run(first, count).and_then(|frames| {
        if frames.end > kernel.pages.frames.len() {
            return Err(Status::NoSuch);
        }
        let place = kernel.pages.place(id, view)?;
        Ok(PageUnbind { at: frames.start, frames, place, checked: false })
    });
    match begun {
        Ok(call) => unbind_piece(kernel, id, call),
        Err(status) => status.into(),
    }
}

/// A piece of `PageUnbind`.
pub fn unbind_piece(kernel: &mut Kernel, id: EnvironmentId, mut call: PageUnbind) -> Step {
    if !kernel.pages.has_place(id, call.place) {
        return Status::NoSuch.into();
    }
    let mut budget = BUDGET;
    while budget > 0 {
        if call.at == call.frames.end {
            if call.checked {
                kernel.pages.publish(id);
                return DONE.into();
            }
            let run = call.frames.clone();
            if let Err(status) = kernel.pages.require_split_room(call.place, run, Account::Environment) {
                return status.into();
            }
            (call.checked, call.at) = (true, call.frames.start);
        }
        let (part, cost) = next_bound(&kernel.pages, id, call.place, call.at..call.frames.end, budget);
        if let Err(status) = may_unbind(&kernel.pages, id, call.place, part.clone(), call.checked) {
            return status.into();
        }
        if call.checked {
            let stale = kernel.pages.unmap(call.place, part.clone(), Account::Environment);
            let _ = kernel.settle(stale);
        }
        call.at = part.end;
        budget = budget.saturating_sub(cost);
    }
    Step::More(Underway::Unbind(call))
}

/// Whether an environment may end its bindings of some frames now. What was judged before may be gone
/// meanwhile.
fn may_unbind(
    pages: &Pages,
    id: EnvironmentId,
    place: Place,
    part: Range<u64>,
    judged: bool,
) -> Result<(), Status> {
    // What devices use is what is bound in the environment's own table.
    if matches!(place, Place::Own(_)) && pages.frames.any_pinned(part.clone()) {
        return Err(Status::Busy);
    }
    if !judged && !pages.all_bound(place, part.clone()) {
        return Err(if pages.may_change(id, place, part) { Status::NotBound } else { Status::NoRight });
    }
    if pages.may_change(id, place, part) { Ok(()) } else { Err(Status::NoRight) }
}

/// `Derive` of pages.
pub fn derive(kernel: &mut Kernel, claim: Verified, first: u64, count: u64, rights: Rights) -> Step {
    let at = claim.first();
    derive_piece(kernel, Derive { claim, at, first, count, rights })
}

/// A piece of `Derive`.
pub fn derive_piece(kernel: &mut Kernel, mut call: Derive) -> Step {
    let mut budget = BUDGET;
    if call.claim.count() == 0 {
        return Status::StaleCapability.into();
    }
    while call.at < call.claim.end() {
        if budget == 0 {
            return Step::More(Underway::Derive(call));
        }
        let (part, cost) = next_part(call.at..call.claim.end(), budget);
        if let Err(status) = kernel.pages.check(&call.claim.part(part.clone())) {
            return status.into();
        }
        call.at = part.end;
        budget = budget.saturating_sub(cost);
    }
    let derived: Outcome = kernel
        .authority
        .derive(&call.claim, call.first, call.count, call.rights)
        .map(|capability| capability.0);
    derived.into()
}
