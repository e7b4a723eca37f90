//! The kernel's side of a ring in memory that an environment can write.
//!
//! The kernel's own indices are kept here: those in the ring are the environment's to spoil. Slots are
//! copied, then judged.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;
use hyperexo_abi::ring::{Ring, Slot};

/// The kernel's side of a ring.
pub struct KernelRing<S: 'static, C: 'static, const SUBMISSIONS: usize, const COMPLETIONS: usize> {
    shared: &'static Ring<S, C, SUBMISSIONS, COMPLETIONS>,
    sq_head: u32,
    cq_tail: u32,
}

impl<S: Slot, C: Slot, const SUBMISSIONS: usize, const COMPLETIONS: usize>
    KernelRing<S, C, SUBMISSIONS, COMPLETIONS>
{
    /// Goes on where the ring's indices stand, and asks for kicks.
    pub fn new(shared: &'static Ring<S, C, SUBMISSIONS, COMPLETIONS>) -> Self {
        let (sq_head, cq_tail) =
            (shared.sq_head.0.load(Ordering::Relaxed), shared.cq_tail.0.load(Ordering::Relaxed));
        shared.need_kick.0.store(1, Ordering::Release);
        KernelRing { shared, sq_head, cq_tail }
    }

    /// Submissions waiting, or `None` if the environment's index can't be.
    pub fn waiting(&self) -> Option<u32> {
        let waiting = self.shared.sq_tail.0.load(Ordering::Acquire).wrapping_sub(self.sq_head);
        (waiting <= SUBMISSIONS as u32).then_some(waiting)
    }

    /// Whether a completion is sure to find a place, besides `outstanding` others that are still to come.
    /// Never, if the environment's index can't be.
    pub fn has_room(&self, outstanding: u32) -> bool {
        self.unread().len().saturating_add(outstanding as usize) < COMPLETIONS
    }

    /// Slots of completions that the environment has not taken, the last one first.
    pub fn unread(&self) -> impl ExactSizeIterator<Item = usize> {
        let unread = self.cq_tail.wrapping_sub(self.shared.cq_head.0.load(Ordering::Acquire));
        (0..unread).map(move |at| self.cq_tail.wrapping_sub(1 + at) as usize % COMPLETIONS).take(COMPLETIONS)
    }

    /// A copy of one of the next submissions, which stays there; the caller has seen that it is waiting.
    pub fn peek(&self, ahead: u32) -> S::Value {
        self.shared.submissions[self.sq_head.wrapping_add(ahead) as usize % SUBMISSIONS].load()
    }

    /// Passes over the next submission.
    pub fn pass(&mut self) {
        self.sq_head = self.sq_head.wrapping_add(1);
        self.shared.sq_head.0.store(self.sq_head, Ordering::Release);
    }

    /// Takes the next submission; the caller has seen that one is waiting.
    pub fn take(&mut self) -> S::Value {
        let submission = self.peek(0);
        self.pass();
        submission
    }

    /// Posts a completion; the caller has seen that there is room. Returns whether the environment wants to
    /// be called.
    pub fn post(&mut self, completion: &C::Value) -> bool {
        self.shared.completions[self.cq_tail as usize % COMPLETIONS].store(completion);
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.shared.cq_tail.0.store(self.cq_tail, Ordering::Release);
        self.shared.wake.0.swap(0, Ordering::AcqRel) != 0
    }
}
