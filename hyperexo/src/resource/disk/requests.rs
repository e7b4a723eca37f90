//! A request from its check to its completion.

use super::{COMPLETIONS_AT_ONCE, Disk, Holding, REQUEST_COST, ZEROS_COST};
use crate::machine::id::EnvironmentId;
use crate::resource::frame::Pages;
use crate::resource::{Calls, Work, count};
use core::ops::Range;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::ring::{MAX_REQUEST_BLOCKS, Operation, Outcome, Submission};
use hyperexo_hw::virtio::block;

/// A request in the device's hands.
pub(super) struct InFlight {
    pub(super) environment: EnvironmentId,
    pub(super) submission: Submission,
    /// Blocks of a read that the sender got as zeros instead.
    hidden: u64,
    /// The table's generation when it was checked.
    pub(super) generation: u64,
    /// TSC value at which its time is up.
    pub(super) deadline: u64,
    /// Answered with a timeout, or its sender has ended: nobody waits for it any more.
    pub(super) abandoned: bool,
}

impl InFlight {
    pub(super) fn frames(&self) -> impl Iterator<Item = u64> + Clone + use<> {
        let Submission { frames, count, .. } = self.submission;
        (0..count as usize).map(move |at| frames[at])
    }
}

impl Disk {
    /// Checks a request and hands it to the device; the outcome if it is over already, and what this cost.
    pub(super) fn start(
        &mut self,
        id: EnvironmentId,
        pages: &mut Pages,
        submission: Submission,
        now: u64,
    ) -> (Option<Outcome>, u32) {
        let operation = match self.check_request(id, pages, &submission) {
            Ok(operation) => operation,
            Err(outcome) => return (Some(outcome), REQUEST_COST),
        };
        // A flush names no blocks: what stands there is not for the device.
        let block = if operation == block::Operation::Flush { 0 } else { submission.block };
        let submission = Submission { block, ..submission };
        let mut targets = submission.frames;
        let targets = &mut targets[..submission.count as usize];
        let hidden =
            if operation == block::Operation::Read { self.hide_unwritten(block, targets, pages) } else { 0 };
        let cost = REQUEST_COST + targets.len() as u32 + ZEROS_COST * hidden as u32;
        let nothing_left = hidden != 0 && hidden == targets.len();
        if nothing_left || operation == block::Operation::Flush && !self.device.can_flush() {
            return (Some(Outcome::Ok), cost);
        }
        let request = InFlight {
            environment: id,
            submission,
            hidden: hidden as u64,
            generation: self.extents.generation(),
            deadline: now.saturating_add(self.patience),
            abandoned: false,
        };
        (self.submit(operation, request, targets, pages), cost)
    }

    /// Clears the frames of blocks that nobody has written since they were handed out, and has the device put
    /// what is on the disk elsewhere; returns how many.
    fn hide_unwritten(&self, block: u64, targets: &mut [u64], pages: &Pages) -> usize {
        let mut hidden = 0;
        for (block, target) in (block..).zip(targets.iter_mut()) {
            if self.extents.reads_as_zeros(block, &pages.memory) {
                pages.memory.clear(*target);
                *target = self.scrap_frame;
                hidden += 1;
            }
        }
        hidden
    }

    /// Hands a request that has been checked to the device; the outcome if it is over already.
    fn submit(
        &mut self,
        operation: block::Operation,
        request: InFlight,
        targets: &[u64],
        pages: &mut Pages,
    ) -> Option<Outcome> {
        if !pages.pin(request.frames()) {
            return Some(Outcome::BadRequest);
        }
        // SAFETY: the frames are bound by the environment (`check_request`), hence RAM, and pinned until the
        // completion.
        match unsafe { self.device.submit(operation, request.submission.block, targets) } {
            Ok(slot) => {
                if let Ok(Holding { accounting, .. }) = self.holding(request.environment) {
                    let counter = match operation {
                        block::Operation::Read => &accounting.disk_read_requests,
                        block::Operation::Write => &accounting.disk_write_requests,
                        block::Operation::Flush => &accounting.disk_flush_requests,
                    };
                    count(counter, 1);
                }
                self.in_flight[slot] = Some(request);
                self.untold = true;
                None
            }
            // `serve` made sure that there is a slot; a device whose queue is full all the same is broken.
            Err(block::QueueFull) => {
                pages.unpin(request.frames());
                Some(Outcome::DeviceError)
            }
        }
    }

    /// What a request may do: the ownership check of every request.
    fn check_request(
        &mut self,
        id: EnvironmentId,
        pages: &Pages,
        submission: &Submission,
    ) -> Result<block::Operation, Outcome> {
        let blocks = submission.count as usize;
        let read_only = self.device.read_only();
        let Disk { holdings, extents, .. } = self;
        let bindings = holdings
            .get(id.index())
            .and_then(Option::as_ref)
            .map_or(&[][..], |holding| &holding.bindings[..]);
        let (operation, of_blocks, of_frames) = match submission.operation {
            op if op == Operation::Read as u8 => (block::Operation::Read, Rights::READ, Rights::WRITE),
            op if op == Operation::Write as u8 => (block::Operation::Write, Rights::WRITE, Rights::READ),
            op if op == Operation::Flush as u8 && blocks == 0 => {
                let allowed = bindings.iter().any(|extent| extent.rights.contains(Rights::WRITE));
                return if allowed { Ok(block::Operation::Flush) } else { Err(Outcome::BlockNotBound) };
            }
            _ => return Err(Outcome::BadRequest),
        };
        if blocks == 0 || blocks > MAX_REQUEST_BLOCKS {
            return Err(Outcome::BadRequest);
        }
        if !extents.permits(bindings, submission.block, blocks as u64, of_blocks) {
            return Err(Outcome::BlockNotBound);
        }
        if !submission.frames[..blocks].iter().all(|frame| pages.has_bound(id, *frame, of_frames)) {
            return Err(Outcome::FrameNotBound);
        }
        if operation == block::Operation::Write && read_only {
            return Err(Outcome::Unsupported);
        }
        Ok(operation)
    }

    /// Takes some of what the device has finished.
    pub(super) fn collect(&mut self, pages: &mut Pages, calls: &mut Calls) -> Work {
        for _ in 0..COMPLETIONS_AT_ONCE {
            let Some((slot, outcome)) = self.device.complete() else { return Work::Done };
            let Some(request) = self.in_flight[slot].take() else { continue };
            pages.unpin(request.frames());
            let outcome = match outcome {
                block::Outcome::Done => Outcome::Ok,
                block::Outcome::Failed => Outcome::DeviceError,
                block::Outcome::Unsupported => Outcome::Unsupported,
            };
            if outcome == Outcome::Ok && request.submission.operation == Operation::Write as u8 {
                let first = request.submission.block;
                (first..first + u64::from(request.submission.count))
                    .for_each(|block| self.extents.mark_written(block, &pages.memory));
            }
            if !request.abandoned {
                self.finish(&request, outcome, calls);
            }
        }
        Work::More
    }

    /// Gives up on what has taken too long.
    pub(super) fn give_up(&mut self, now: u64, calls: &mut Calls) {
        for slot in 0..self.in_flight.len() {
            let late = |request: &&mut InFlight| !request.abandoned && request.deadline <= now;
            let Some(request) = self.in_flight[slot].as_mut().filter(late) else { continue };
            request.abandoned = true;
            let InFlight { environment, submission, hidden, .. } = *request;
            self.tell(environment, &submission, hidden, Outcome::Timeout, calls);
        }
    }

    fn finish(&mut self, request: &InFlight, outcome: Outcome, calls: &mut Calls) {
        self.tell(request.environment, &request.submission, request.hidden, outcome, calls);
    }

    /// Tells the sender how its request ended.
    fn tell(
        &mut self,
        id: EnvironmentId,
        submission: &Submission,
        hidden: u64,
        outcome: Outcome,
        calls: &mut Calls,
    ) {
        let Ok(holding) = self.holding(id) else { return };
        let counters = holding.accounting;
        let blocks = u64::from(submission.count) - hidden;
        match (outcome, submission.operation) {
            (Outcome::Ok, op) if op == Operation::Read as u8 => count(&counters.disk_blocks_read, blocks),
            (Outcome::Ok, op) if op == Operation::Write as u8 => {
                count(&counters.disk_blocks_written, blocks);
            }
            (Outcome::Ok, _) => {}
            _ => count(&counters.disk_errors, 1),
        }
        if let Some(ring) = &mut holding.ring
            && ring.post(submission.tag, outcome)
        {
            calls.add(id, ring.vcpu);
        }
    }
}

/// Whether a request in flight touches any of these blocks.
pub(super) fn touches(in_flight: &[Option<InFlight>], first: u64, count: u64) -> bool {
    let blocks = first..first.saturating_add(count);
    in_flight.iter().flatten().any(|request| touches_one(request, &blocks))
}

pub(super) fn touches_one(request: &InFlight, blocks: &Range<u64>) -> bool {
    let (start, count) = (request.submission.block, u64::from(request.submission.count));
    count != 0 && start < blocks.end && blocks.start < start + count
}
