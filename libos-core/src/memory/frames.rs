//! Runs of physical frames with an owner, for programs that care where their memory lies.
//!
//! The heap asks for frames by itself. A program that wants particular ones (by number, by alignment,
//! adjacent) allocates [`Frames`]. Dropping the value gives the frames back.

use super::physical::linear_address;
use crate::platform::{self, FrameRun};
use alloc::rc::Rc;
use core::ops::Range;
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

/// How often a frame of a colour is asked for by number before the search ends.
const COLOUR_TRIES: u64 = 4096;

impl Frames {
    /// Allocates a frame of a colour: one whose number leaves that remainder when divided by `colours`, the
    /// number of pages that a way of the cache holds. Pages of different colours never meet in the cache (R.
    /// E. Kessler & M. D. Hill, "Page placement algorithms for large real-indexed caches", TOCS 1992).
    ///
    /// # Errors
    ///
    /// [`Status::BadArgument`] if there is no such colour; [`Status::Exhausted`] if no frame of it was found;
    /// as [`Frames::allocate`].
    pub fn allocate_coloured(colour: u64, colours: u64) -> Result<Frames, Status> {
        if colour >= colours {
            return Err(Status::BadArgument);
        }
        // Free memory is where any frame is. It is given back at the end.
        let any = Frames::allocate(1, 1)?;
        if any.first() % colours == colour {
            return Ok(any);
        }
        let end = platform::facts().memory_end_frame;
        let nearest = any.first() - any.first() % colours + colour;
        let candidates =
            (nearest..end).step_by(colours as usize).chain((colour..nearest).step_by(colours as usize));
        for number in candidates.take(COLOUR_TRIES as usize) {
            match Frames::allocate_at(number, 1) {
                Err(Status::InUse | Status::NoSuch) => (),
                found => return found,
            }
        }
        Err(Status::Exhausted)
    }
}

/// Frames that are reached through windows only, as words that others may change: frames of this unikernel,
/// or of another environment. See [`Pages::insert_frame`](super::window::Pages::insert_frame).
#[derive(Debug)]
pub struct SharedFrames(Run);

#[derive(Debug)]
enum Run {
    Own(Frames),
    Bound { frames: Range<u64>, writable: bool },
}

impl SharedFrames {
    /// Makes frames of this unikernel shareable.
    pub fn new(frames: Frames) -> Rc<SharedFrames> {
        Rc::new(SharedFrames(Run::Own(frames)))
    }

    /// Binds the frames of another environment to which a capability of it gives the right.
    ///
    /// If the other frees them, revokes the capability or ends, an access to them ends this unikernel, unless
    /// it has asked for a fault page ([`crate::exo::faults`]).
    ///
    /// # Errors
    ///
    /// The kernel's: the capability is forged or old, or lacks the right. [`Status::NoSuch`] directly on a
    /// machine, where there are no others.
    pub fn accept(capability: &Capability, writable: bool) -> Result<Rc<SharedFrames>, Status> {
        // SAFETY: windows lend what is in these frames as atomics of any bits, and nothing else reaches them.
        let frames = unsafe { platform::current().bind_frames(capability, writable)? };
        Ok(Rc::new(SharedFrames(Run::Bound { frames, writable })))
    }

    /// A capability for another environment: 32 bytes, to be sent in any way.
    ///
    /// # Errors
    ///
    /// [`Status::NoSuch`] directly on a machine, and for frames of others, who lend them themselves.
    pub fn lend(&self, writable: bool) -> Result<Capability, Status> {
        match &self.0 {
            Run::Own(frames) => platform::current().lend_frames(&frames.run, writable),
            Run::Bound { .. } => Err(Status::NoSuch),
        }
    }

    /// Number of the first frame: its name for a device.
    pub fn first(&self) -> u64 {
        match &self.0 {
            Run::Own(frames) => frames.first(),
            Run::Bound { frames, .. } => frames.start,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        match &self.0 {
            Run::Own(frames) => frames.run.count,
            Run::Bound { frames, .. } => frames.end - frames.start,
        }
    }

    /// Whether they may be written.
    pub fn writable(&self) -> bool {
        match &self.0 {
            Run::Own(_) => true,
            Run::Bound { writable, .. } => *writable,
        }
    }
}

impl Drop for SharedFrames {
    fn drop(&mut self) {
        if let Run::Bound { frames, .. } = &self.0 {
            // SAFETY: places of windows that map them hold this value, so none does any more.
            unsafe { platform::current().unbind_frames(frames.clone()) };
        }
    }
}

/// Gives the frames back. If the platform refuses (others have pinned one), they stay allocated and unused.
impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: by the invariant only this value leads to the frames, and it is being dropped.
        unsafe { platform::current().give_back_frames(&self.run) };
    }
}
