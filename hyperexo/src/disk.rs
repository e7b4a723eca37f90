//! The disk as environments see it: rings in, requests to the device, completions back.
//!
//! Every request is checked against what its sender has bound (blocks and frames), its frames are pinned, and
//! the device moves the data straight between disk and frames. A request whose time is up is answered with
//! [`Outcome::Timeout`]; its frames stay pinned until the device gives them back, because it may still write
//! to them.

use crate::device::block::BlockDevice;
use crate::env::{Environment, count};
use crate::memory::PhysicalMemory;
use crate::resource::disk::{Binding, ExtentTable};
use crate::resource::page::{EnvironmentId, FrameTable};
use crate::ring::KernelRing;
use alloc::boxed::Box;
use hyperexo_abi::capability::Rights;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::ring::{
    COMPLETIONS, Completion, CompletionSlot, DiskRing, MAX_REQUEST_BLOCKS, Operation, Outcome, SUBMISSIONS,
    Submission, SubmissionSlot,
};
use hyperexo_abi::upcall::Cause;
use hyperexo_hw::virtio::block::{self, SLOTS};

/// The kernel's side of an environment's ring.
pub struct Ring {
    ring: KernelRing<SubmissionSlot, CompletionSlot, SUBMISSIONS, COMPLETIONS>,
    /// First frame of the ring.
    pub first_frame: u64,
    /// Index of the virtual CPU that bound it, and that is called.
    vcpu: usize,
    /// Requests taken whose completions have not been posted.
    outstanding: u32,
}

impl Ring {
    /// # Safety
    ///
    /// `shared` lies in pinned frames of the environment from `first_frame` on.
    pub unsafe fn new(shared: &'static DiskRing, first_frame: u64, vcpu: usize) -> Ring {
        Ring { ring: KernelRing::new(shared), first_frame, vcpu, outstanding: 0 }
    }

    /// Whether one more completion is sure to find a place.
    fn has_room(&self) -> bool {
        // No more than half of the device for one environment: others find room.
        self.ring.has_room(self.outstanding) && self.outstanding < SLOTS as u32 / 2
    }

    fn take(&mut self) -> Submission {
        self.outstanding += 1;
        self.ring.take()
    }

    /// Posts a completion. Returns whether the environment wants to be called.
    fn post(&mut self, tag: u64, outcome: Outcome) -> bool {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ring.post(&Completion { tag, outcome })
    }
}

/// A request in the device's hands.
struct InFlight {
    environment: EnvironmentId,
    submission: Submission,
    /// Blocks of a read that the sender got as zeros instead.
    hidden: u64,
    /// TSC value at which its time is up.
    deadline: u64,
    /// Answered with a timeout: nobody waits for it any more.
    abandoned: bool,
}

impl InFlight {
    fn frames(&self) -> &[u64] {
        &self.submission.frames[..self.submission.count as usize]
    }
}

/// The disk.
pub struct Disk {
    device: BlockDevice,
    /// Who owns which blocks.
    pub extents: ExtentTable,
    /// Indexed by the device's number of the request.
    in_flight: Box<[Option<InFlight>]>,
    /// Where the device may put blocks that nobody may see.
    scrap_frame: u64,
    /// Ticks that the device has for a request.
    patience: u64,
}

impl Disk {
    /// A disk on this device; `scrap_frame` is a frame of the kernel, `patience` in ticks of the TSC.
    pub fn new(device: BlockDevice, scrap_frame: u64, patience: u64) -> Disk {
        let extents = ExtentTable::new(device.blocks());
        let in_flight = (0..SLOTS).map(|_| None).collect();
        Disk { device, extents, in_flight, scrap_frame, patience }
    }

    /// Whether the device refuses writes.
    pub fn read_only(&self) -> bool {
        self.device.read_only()
    }

    /// When the first request in flight runs out of time.
    pub fn next_deadline(&self) -> Option<u64> {
        self.in_flight
            .iter()
            .flatten()
            .filter(|request| !request.abandoned)
            .map(|request| request.deadline)
            .min()
    }

    /// Whether a request in flight touches any of these blocks.
    pub fn uses(&self, first: u64, count: u64) -> bool {
        touches(&self.in_flight, first, count)
    }

    /// Makes the extents of an environment that has ended nobody's, as soon as no request touches them.
    pub fn release_all(&mut self, environment: EnvironmentId) {
        let in_flight = &self.in_flight;
        self.extents.release_all(environment, |first, count| touches(in_flight, first, count));
    }

    /// Whether the device holds nothing but requests whose time was up: it has stopped answering.
    fn is_dead(&self) -> bool {
        self.device.in_flight() == SLOTS && self.in_flight.iter().flatten().all(|request| request.abandoned)
    }

    /// Takes what is in an environment's ring, as far as device and ring have room.
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] when the ring's index makes no sense; nothing is taken then.
    pub fn serve(
        &mut self,
        environment: &mut Environment,
        frames: &mut FrameTable,
        memory: PhysicalMemory,
        now: u64,
    ) -> Result<(), Status> {
        let mut call = false;
        let mut result = Ok(());
        // As many as the ring can hold: its indices may move while we look, so the loop has its own bound.
        for _ in 0..SUBMISSIONS {
            let dead = self.is_dead();
            let Some(ring) = &mut environment.ring else { return Err(Status::NotBound) };
            let Some(waiting) = ring.ring.waiting() else {
                result = Err(Status::BadArgument);
                break;
            };
            if waiting == 0 || !ring.has_room() || self.device.in_flight() == SLOTS && !dead {
                break;
            }
            let submission = ring.take();
            let outcome = match dead {
                true => Some(Outcome::Timeout),
                false => self.start(environment, frames, memory, submission, now),
            };
            if let Some(outcome) = outcome {
                if outcome != Outcome::Ok {
                    count(&environment.accounting.disk_errors, 1);
                }
                if let Some(ring) = &mut environment.ring {
                    call |= ring.post(submission.tag, outcome);
                }
            }
        }
        self.device.notify();
        if call {
            call_owner(environment);
        }
        result
    }

    /// Checks a request and hands it to the device; the outcome if it is over already.
    fn start(
        &mut self,
        environment: &mut Environment,
        frames: &mut FrameTable,
        memory: PhysicalMemory,
        submission: Submission,
        now: u64,
    ) -> Option<Outcome> {
        let operation = match self.check(environment, memory, &submission) {
            Ok(operation) => operation,
            Err(outcome) => return Some(outcome),
        };
        // A flush names no blocks: what stands there is not for the device.
        let block = if operation == block::Operation::Flush { 0 } else { submission.block };
        let submission = Submission { block, ..submission };
        let mut hidden = 0;
        let mut targets = submission.frames;
        let targets = &mut targets[..submission.count as usize];
        if operation == block::Operation::Read {
            for (block, target) in (submission.block..).zip(targets.iter_mut()) {
                if self.extents.reads_as_zeros(block) {
                    memory.clear(*target);
                    *target = self.scrap_frame;
                    hidden += 1;
                }
            }
            if hidden == targets.len() {
                return Some(Outcome::Ok);
            }
        }
        if operation == block::Operation::Flush && !self.device.can_flush() {
            return Some(Outcome::Ok);
        }
        let request = InFlight {
            environment: environment.id,
            submission,
            hidden: hidden as u64,
            deadline: now.saturating_add(self.patience),
            abandoned: false,
        };
        for (index, frame) in request.frames().iter().enumerate() {
            if !frames.pin(*frame) {
                request.frames()[..index].iter().for_each(|frame| frames.unpin(*frame));
                return Some(Outcome::BadRequest);
            }
        }
        // SAFETY: the frames are bound by the environment (`check`), hence RAM, and pinned until the
        // completion.
        match unsafe { self.device.submit(operation, submission.block, targets) } {
            Ok(slot) => {
                let counters = environment.accounting;
                let counter = match operation {
                    block::Operation::Read => &counters.disk_read_requests,
                    block::Operation::Write => &counters.disk_write_requests,
                    block::Operation::Flush => &counters.disk_flush_requests,
                };
                count(counter, 1);
                self.in_flight[slot] = Some(request);
                None
            }
            // `serve` made sure that there is a slot; a device whose queue is full all the same is broken.
            Err(block::QueueFull) => {
                request.frames().iter().for_each(|frame| frames.unpin(*frame));
                Some(Outcome::DeviceError)
            }
        }
    }

    /// What a request may do: the ownership check of every request.
    fn check(
        &self,
        environment: &Environment,
        memory: PhysicalMemory,
        submission: &Submission,
    ) -> Result<block::Operation, Outcome> {
        let blocks = submission.count as usize;
        let (operation, of_blocks, of_frames) = match submission.operation {
            op if op == Operation::Read as u8 => (block::Operation::Read, Rights::READ, Rights::WRITE),
            op if op == Operation::Write as u8 => (block::Operation::Write, Rights::WRITE, Rights::READ),
            op if op == Operation::Flush as u8 && blocks == 0 => {
                let may_write = |extent: &Binding| extent.rights.contains(Rights::WRITE);
                let allowed = environment.extents.iter().any(may_write);
                return if allowed { Ok(block::Operation::Flush) } else { Err(Outcome::BlockNotBound) };
            }
            _ => return Err(Outcome::BadRequest),
        };
        if blocks == 0 || blocks > MAX_REQUEST_BLOCKS {
            return Err(Outcome::BadRequest);
        }
        if !self.extents.permits(&environment.extents, submission.block, blocks as u64, of_blocks) {
            return Err(Outcome::BlockNotBound);
        }
        let nested = environment.nested.as_ref().ok_or(Outcome::FrameNotBound)?;
        let bound =
            |frame: &u64| nested.lookup(&memory, *frame).is_some_and(|rights| rights.contains(of_frames));
        if !submission.frames[..blocks].iter().all(bound) {
            return Err(Outcome::FrameNotBound);
        }
        if operation == block::Operation::Write && self.device.read_only() {
            return Err(Outcome::Unsupported);
        }
        Ok(operation)
    }

    /// Takes what the device has finished, and gives up on what has taken too long.
    pub fn collect(&mut self, environments: &mut [Environment], frames: &mut FrameTable, now: u64) {
        while let Some((slot, outcome)) = self.device.complete() {
            let Some(request) = self.in_flight[slot].take() else { continue };
            request.frames().iter().for_each(|frame| frames.unpin(*frame));
            let outcome = match outcome {
                block::Outcome::Done => Outcome::Ok,
                block::Outcome::Failed => Outcome::DeviceError,
                block::Outcome::Unsupported => Outcome::Unsupported,
            };
            if outcome == Outcome::Ok && request.submission.operation == Operation::Write as u8 {
                let first = request.submission.block;
                (first..first + u64::from(request.submission.count))
                    .for_each(|b| self.extents.mark_written(b));
            }
            if !request.abandoned {
                finish(&request, outcome, environments);
            }
        }
        let in_flight = &self.in_flight;
        self.extents.release_orphans(|first, count| touches(in_flight, first, count));
        for request in self.in_flight.iter_mut().flatten() {
            if !request.abandoned && request.deadline <= now {
                request.abandoned = true;
                finish(request, Outcome::Timeout, environments);
            }
        }
    }
}

/// Whether a request in flight touches any of these blocks.
fn touches(in_flight: &[Option<InFlight>], first: u64, count: u64) -> bool {
    in_flight.iter().flatten().any(|request| {
        let (start, blocks) = (request.submission.block, u64::from(request.submission.count));
        blocks != 0 && start < first.saturating_add(count) && first < start + blocks
    })
}

/// Tells the sender how its request ended.
fn finish(request: &InFlight, outcome: Outcome, environments: &mut [Environment]) {
    let Some(environment) = environments.iter_mut().find(|environment| environment.id == request.environment)
    else {
        return;
    };
    let blocks = u64::from(request.submission.count) - request.hidden;
    match (outcome, request.submission.operation) {
        (Outcome::Ok, op) if op == Operation::Read as u8 => {
            count(&environment.accounting.disk_blocks_read, blocks)
        }
        (Outcome::Ok, op) if op == Operation::Write as u8 => {
            count(&environment.accounting.disk_blocks_written, blocks);
        }
        (Outcome::Ok, _) => {}
        _ => count(&environment.accounting.disk_errors, 1),
    }
    let wants_call = environment.ring.as_mut().is_some_and(|ring| ring.post(request.submission.tag, outcome));
    if wants_call {
        call_owner(environment);
    }
}

/// Tells the virtual CPU that bound the ring.
fn call_owner(environment: &mut Environment) {
    if let Some(vcpu) = environment.ring.as_ref().map(|ring| ring.vcpu) {
        environment.upcall(vcpu, Cause::Disk);
    }
}
