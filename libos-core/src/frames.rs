//! Runs of physical frames with an owner: for programs that care where their memory lies.
//!
//! The heap asks for frames by itself; who wants particular ones (by number, by alignment, adjacent) allocates [`Frames`]. Dropping
//! the value gives the frames back.

use crate::{hypercall, memory};
use hyperexo_abi::Page;
use hyperexo_abi::capability::{Capability, Claim, Rights};
use hyperexo_abi::hypercall::Status;

/// Adjacent frames of this environment, bound read-write, seen as pages through the linear map.
///
/// Invariant: the frames of `claim` were allocated with `capability`, are bound read-write, and nobody but this value
/// leads to them.
#[derive(Debug)]
pub struct Frames {
    capability: Capability,
    claim: Claim,
}

impl Frames {
    /// Allocates `count` frames anywhere, the first a multiple of `alignment` (a power of two). They hold zeros.
    ///
    /// # Errors
    /// The kernel's answer: [`Status::QuotaExceeded`], [`Status::Exhausted`], [`Status::BadArgument`].
    pub fn allocate(count: u64, alignment: u64) -> Result<Frames, Status> {
        Frames::take(hyperexo_abi::ANY, count, alignment)
    }

    /// Allocates `count` particular frames from `first` on.
    ///
    /// # Errors
    /// The kernel's answer: as [`Frames::allocate`], and [`Status::InUse`] or [`Status::NoSuch`].
    pub fn allocate_at(first: u64, count: u64) -> Result<Frames, Status> {
        Frames::take(first, count, 1)
    }

    fn take(first: u64, count: u64, alignment: u64) -> Result<Frames, Status> {
        let capability = hypercall::page_alloc(first, count, alignment)?;
        let claim = capability.claim().ok_or(Status::BadArgument)?;
        // SAFETY: the frames are fresh: no Rust object lies in them.
        match unsafe { hypercall::page_bind(&capability, Rights::READ_WRITE) } {
            Ok(()) => Ok(Frames { capability, claim }),
            Err(status) => {
                // SAFETY: as above. A refusal would leave the frames unused until the environment ends.
                let _ = unsafe { hypercall::page_free(&capability) };
                Err(status)
            }
        }
    }

    /// Number of the first frame.
    pub fn first(&self) -> u64 {
        self.claim.first
    }

    /// The capability: derived from it, others can be given a part.
    ///
    /// Whoever gets one with the right to write can change the pages behind the back of [`Frames::pages`]; so that stays a matter
    /// of [`hypercall`], whose functions say what to promise.
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// The frames as pages.
    pub fn pages(&self) -> &[Page] {
        let start = memory::linear_address(self.claim.first) as *const Page;
        // SAFETY: by the invariant the frames are readable memory of this value's alone, and any bytes are a page.
        unsafe { core::slice::from_raw_parts(start, self.claim.count as usize) }
    }

    /// The frames as pages, to be written.
    pub fn pages_mut(&mut self) -> &mut [Page] {
        let start = memory::linear_address(self.claim.first) as *mut Page;
        // SAFETY: by the invariant the frames are writable memory of this value's alone.
        unsafe { core::slice::from_raw_parts_mut(start, self.claim.count as usize) }
    }
}

/// Gives the frames back. If the kernel refuses (others have pinned one), they stay allocated and unused.
impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: by the invariant nobody else leads to the frames, and this value goes.
        let _ = unsafe { hypercall::page_free(&self.capability) };
    }
}
