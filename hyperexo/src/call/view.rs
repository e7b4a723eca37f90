//! Calls that make, share and end views.
#![forbid(unsafe_code)]

use super::{DONE, Outcome, Step};
use crate::environment::underway::{Underway, ViewEnd};
use crate::kernel::Kernel;
use crate::machine::id::EnvironmentId;
use crate::resource::frame::views::Left;

/// A view's number, and whether `VMFUNC` knows it.
fn results(kernel: &mut Kernel, id: EnvironmentId, entry: usize) -> Outcome {
    kernel.pages.publish(id);
    Ok([entry as u64, kernel.backend.switches_views().into(), 0, 0])
}

/// `ViewCreate`.
pub fn create(kernel: &mut Kernel, id: EnvironmentId, budget: u64) -> Outcome {
    let (entry, stale) = kernel.pages.create_view(id, budget)?;
    let _ = kernel.settle(stale);
    results(kernel, id, entry)
}

/// `ViewOffer`.
pub fn offer(kernel: &mut Kernel, id: EnvironmentId, entry: u64, to: u64) -> Outcome {
    kernel.pages.offer_view(id, entry, to).and(DONE)
}

/// `ViewAccept`.
pub fn accept(kernel: &mut Kernel, id: EnvironmentId, owner: u64, entry: u64) -> Outcome {
    let (entry, stale) = kernel.pages.accept_view(id, owner, entry)?;
    let _ = kernel.settle(stale);
    results(kernel, id, entry)
}

/// `ViewEnd`.
pub fn end(kernel: &mut Kernel, id: EnvironmentId, entry: u64) -> Step {
    match kernel.pages.leave_view(id, entry) {
        Err(status) => status.into(),
        Ok((left, stale)) => {
            let _ = kernel.settle(stale);
            let call = match left {
                Left::Ended(view, _) => ViewEnd::Own { view, cursor: 0 },
                Left::Remains(view) => ViewEnd::Guest { view, last: None },
            };
            end_piece(kernel, id, call)
        }
    }
}

/// A piece of `ViewEnd`.
pub fn end_piece(kernel: &mut Kernel, id: EnvironmentId, call: ViewEnd) -> Step {
    let next = match call {
        ViewEnd::Own { view, mut cursor } => {
            let last = kernel.pages.take_view_apart(view, &mut cursor);
            (!last).then_some(ViewEnd::Own { view, cursor })
        }
        ViewEnd::Guest { view, last } => {
            let last = kernel.leave_frames(id, view, last);
            last.map(|last| ViewEnd::Guest { view, last: Some(last) })
        }
    };
    match next {
        Some(call) => Step::More(Underway::EndView(call)),
        None => {
            kernel.pages.publish(id);
            DONE.into()
        }
    }
}
