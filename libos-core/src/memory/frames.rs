//! Runs of physical frames with an owner, for programs that care where their memory lies.
//!
//! The heap asks for frames by itself. A program that wants particular ones (by number, by alignment,
//! adjacent) allocates [`Frames`]. Dropping the value gives the frames back.

use super::physical::linear_address;
use crate::platform::{self, FrameRun};
use hyperexo_abi::Page;
use hyperexo_abi::capability::Capability;
use hyperexo_abi::hypercall::Status;

/// Adjacent frames of this unikernel, readable and writable, seen as pages through the linear map.
///
/// Invariant: the frames of `run` came from the platform (`Platform::take_frames`), and only this value leads
/// to them.
#[derive(Debug)]
pub struct Frames {
    run: FrameRun,
}

impl Frames {
    /// Allocates `count` frames anywhere, the first a multiple of `alignment` (a power of two). They hold
    /// zeros.
    ///
    /// # Errors
    ///
    /// [`Status::QuotaExceeded`], [`Status::Exhausted`]; [`Status::BadArgument`] if `count` is 0 or the
    /// alignment no power of two.
    pub fn allocate(count: u64, alignment: u64) -> Result<Frames, Status> {
        Frames::take(hyperexo_abi::ANY, count, alignment)
    }

    /// Allocates `count` particular frames from `first` on.
    ///
    /// # Errors
    ///
    /// As [`Frames::allocate`]; [`Status::InUse`] if one has an owner, [`Status::NoSuch`] if there is no
    /// memory.
    pub fn allocate_at(first: u64, count: u64) -> Result<Frames, Status> {
        Frames::take(first, count, 1)
    }

    fn take(first: u64, count: u64, alignment: u64) -> Result<Frames, Status> {
        platform::current().take_frames(first, count, alignment).map(|run| Frames { run })
    }

    /// Number of the first frame.
    pub fn first(&self) -> u64 {
        self.run.first
    }

    /// The capability, from which one for a part can be derived for others. `None` directly on a machine,
    /// where there are no others.
    ///
    /// Somebody with the right to write can change the pages behind the back of [`Frames::pages`]. So giving
    /// that right away takes a call of [`crate::exo::hypercall`] that says what to promise.
    pub fn capability(&self) -> Option<&Capability> {
        self.run.capability.as_ref()
    }

    /// The frames as pages.
    pub fn pages(&self) -> &[Page] {
        let start = linear_address(self.run.first) as *const Page;
        // SAFETY: by the invariant the frames are readable and this value's alone, and any bytes are a page.
        unsafe { core::slice::from_raw_parts(start, self.run.count as usize) }
    }

    /// The frames as pages, to be written.
    pub fn pages_mut(&mut self) -> &mut [Page] {
        let start = linear_address(self.run.first) as *mut Page;
        // SAFETY: by the invariant the frames are writable and this value's alone.
        unsafe { core::slice::from_raw_parts_mut(start, self.run.count as usize) }
    }
}

/// Gives the frames back. If the platform refuses (others have pinned one), they stay allocated and unused.
impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: by the invariant only this value leads to the frames, and it is being dropped.
        unsafe { platform::current().give_back_frames(&self.run) };
    }
}
