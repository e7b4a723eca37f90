//! Calls that end bindings of all environments: `PageFree`, `Revoke`.
//!
//! Both first give the frames a new generation, so that nobody can bind them again. Then they end the
//! bindings, one part of the frames after the other.
#![forbid(unsafe_code)]

use super::frame::{BUDGET, next_part};
use super::{DONE, Outcome, Step};
use crate::environment::underway::{PageFree, PageRevoke, TakePhase, Underway};
use crate::kernel::Kernel;
use crate::machine::id::EnvironmentId;
use crate::resource::capability::Verified;
use crate::resource::frame::Place;
use crate::resource::frame::account::Account;
use crate::resource::frame::binding::Everywhere;
use crate::resource::frame::table::Owner;
use core::ops::Range;
use hyperexo_abi::LARGE_FRAMES;
use hyperexo_abi::capability::{Capability, Claim, Resource as Kind, Rights};
use hyperexo_abi::hypercall::Status;

/// Nested tables that are looked at for one part before others get the lock.
const TABLES_AT_ONCE: usize = 8;
/// Most frames of a part, if it is not one entry.
const PART: u64 = 64;

/// `PageFree`.
pub fn free(kernel: &mut Kernel, id: EnvironmentId, capability: &Capability) -> Step {
    match kernel.authority.verify(capability, Kind::Page, Rights::GRANT) {
        Ok(claim) if claim.count() == 0 => Status::StaleCapability.into(),
        Ok(claim) => {
            free_piece(kernel, id, PageFree { phase: TakePhase::Check { at: claim.first() }, claim })
        }
        Err(status) => status.into(),
    }
}

/// A piece of `PageFree`.
pub fn free_piece(kernel: &mut Kernel, id: EnvironmentId, mut call: PageFree) -> Step {
    let mut budget = BUDGET;
    while budget > 0 {
        let end = call.claim.end();
        let next = match call.phase {
            TakePhase::Unbind { at, .. } if at == end => {
                kernel.pages.publish(id);
                return DONE.into();
            }
            TakePhase::Check { at } if at == end => may_free(kernel, &call.claim),
            TakePhase::Check { at } => check_part(kernel, &call.claim, at, true, &mut budget),
            TakePhase::Stamp { at, generation } => {
                Ok(stamp_part(kernel, &call.claim, at, generation, &mut budget))
            }
            TakePhase::Unbind { at, generation, progress } => {
                let part = part_to_unbind(kernel, at..end);
                Ok(free_part(kernel, part, generation, progress, &mut budget))
            }
        };
        match next {
            Ok(next) => call.phase = next,
            Err(status) => return status.into(),
        }
    }
    Step::More(Underway::Free(call))
}

/// Judges a part.
fn check_part(
    kernel: &mut Kernel,
    claim: &Verified,
    at: u64,
    freeing: bool,
    budget: &mut u64,
) -> Result<TakePhase, Status> {
    let (part, cost) = next_part(at..claim.end(), *budget);
    *budget = budget.saturating_sub(cost);
    let current = kernel.pages.check(&claim.part(part.clone()))?;
    if freeing && !matches!(current.owner(), Owner::Environment(_)) {
        return Err(Status::NoRight);
    }
    if freeing && kernel.pages.frames.any_pinned(part.clone()) {
        return Err(Status::Busy);
    }
    Ok(TakePhase::Check { at: part.end })
}

/// Whether all of a run that has been judged can be freed without harm to what else its owner has bound.
fn may_free(kernel: &mut Kernel, claim: &Verified) -> Result<TakePhase, Status> {
    let Owner::Environment(owner) = kernel.pages.frames.owner(claim.first()) else {
        return Err(Status::NoRight);
    };
    let run = claim.first()..claim.end();
    kernel.pages.require_split_room(Place::Own(owner), run, Account::Kernel)?;
    Ok(TakePhase::Stamp { at: claim.first(), generation: kernel.pages.frames.fresh_generation() })
}

/// The part of a run whose bindings are ended next: a whole region, if nobody has entries for single frames
/// of it.
fn part_to_unbind(kernel: &Kernel, run: Range<u64>) -> Range<u64> {
    let (part, _) = next_part(run.clone(), PART);
    let large = part.end - part.start == LARGE_FRAMES && !kernel.pages.frames.any_bound_singly(part.start);
    if large { part } else { run.start..part.end.min(run.start + PART) }
}

/// Gives a part its new generation, if it still has the old one.
fn stamp_part(
    kernel: &mut Kernel,
    claim: &Verified,
    at: u64,
    generation: u64,
    budget: &mut u64,
) -> TakePhase {
    if at == claim.end() {
        return TakePhase::Unbind { at: claim.first(), generation, progress: Everywhere::default() };
    }
    let (part, cost) = next_part(at..claim.end(), *budget);
    // A region is stamped frame by frame all the same.
    *budget = budget.saturating_sub(cost.max((part.end - part.start) / 8));
    if kernel.pages.check(&claim.part(part.clone())).is_ok() {
        kernel.pages.frames.stamp(part.clone(), generation);
    } else {
        // Another call has taken some of them since they were judged.
        let frames = &mut kernel.pages.frames;
        for frame in part.clone() {
            if frames.generation(frame) == claim.generation() {
                frames.stamp(frame..frame + 1, generation);
            }
        }
    }
    TakePhase::Stamp { at: part.end, generation }
}

/// Ends all bindings of a part, and frees it after the last: [`PART`] frames of it, for each costs more than an entry.
/// Nobody can have bound the rest again when the next call of this sees to it.
fn free_part(
    kernel: &mut Kernel,
    part: Range<u64>,
    generation: u64,
    mut progress: Everywhere,
    budget: &mut u64,
) -> TakePhase {
    *budget = budget.saturating_sub(2 * (part.end - part.start));
    // What another call has taken meanwhile is not this one's: the rest of it, up to there.
    let frames = &kernel.pages.frames;
    let mine = |frame: &u64| frames.generation(*frame) == generation;
    let first = part.clone().find(mine).unwrap_or(part.end);
    let end = (first..part.end).find(|frame| !mine(frame)).unwrap_or(part.end);
    if first != part.start {
        return TakePhase::Unbind { at: first, generation, progress: Everywhere::default() };
    }
    let (stale, last) = kernel.pages.unbind_everywhere(first..end, None, &mut progress, TABLES_AT_ONCE);
    let settled = kernel.settle(stale);
    if !last {
        return TakePhase::Unbind { at: first, generation, progress };
    }
    let owner = kernel.pages.frames.owner(first);
    let end = end.min(first + PART);
    kernel.pages.free(first..end, &settled);
    if let Owner::Environment(owner) = owner {
        kernel.pages.publish(owner);
    }
    TakePhase::Unbind { at: end, generation, progress: Everywhere::default() }
}

/// `Revoke` of pages.
pub fn revoke(kernel: &mut Kernel, id: EnvironmentId, claim: Verified) -> Step {
    if claim.count() == 0 {
        return Status::StaleCapability.into();
    }
    revoke_piece(kernel, id, PageRevoke { phase: TakePhase::Check { at: claim.first() }, claim })
}

/// A piece of `Revoke`.
pub fn revoke_piece(kernel: &mut Kernel, id: EnvironmentId, mut call: PageRevoke) -> Step {
    let mut budget = BUDGET;
    while budget > 0 {
        let end = call.claim.end();
        let next = match call.phase {
            TakePhase::Unbind { at, generation, .. } if at == end => {
                let fresh = Claim { generation, ..call.claim.claim() };
                // Tables may have come and gone.
                kernel.pages.publish(id);
                let sealed: Outcome = Ok(kernel.authority.seal(&fresh).0);
                return sealed.into();
            }
            TakePhase::Check { at } if at == end => Ok(TakePhase::Stamp {
                at: call.claim.first(),
                generation: kernel.pages.frames.fresh_generation(),
            }),
            TakePhase::Check { at } => check_part(kernel, &call.claim, at, false, &mut budget),
            TakePhase::Stamp { at, generation } => {
                Ok(stamp_part(kernel, &call.claim, at, generation, &mut budget))
            }
            TakePhase::Unbind { at, generation, mut progress } => {
                let part = part_to_unbind(kernel, at..end);
                let (stale, last) =
                    kernel.pages.unbind_everywhere(part.clone(), Some(id), &mut progress, TABLES_AT_ONCE);
                let _ = kernel.settle(stale);
                budget = budget.saturating_sub(2 * (part.end - part.start));
                Ok(match last {
                    true => TakePhase::Unbind { at: part.end, generation, progress: Everywhere::default() },
                    false => TakePhase::Unbind { at, generation, progress },
                })
            }
        };
        match next {
            Ok(next) => call.phase = next,
            Err(status) => return status.into(),
        }
    }
    Step::More(Underway::Revoke(call))
}
