//! Frames with an owner: by alignment, and by number.

use core::fmt;
use hyperexo_abi::hypercall::Status;
use libos_core::frames::Frames;
use libos_core::println;

/// What went wrong.
pub enum Error {
    /// The platform's answer.
    Refused(Status),
    /// Frames of ours were given a second time.
    GivenTwice(u64),
    /// New frames do not hold zeros.
    NotClear(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(status) => write!(f, "no frames: {status}"),
            Error::GivenTwice(frame) => write!(f, "frame {frame:#x} was given a second time"),
            Error::NotClear(frame) => write!(f, "frame {frame:#x} was given with something in it"),
        }
    }
}

/// Allocates `count` frames, the first a multiple of 16, writes to each, sees them refused a second time,
/// gives them back, and allocates the same again.
pub fn own(count: u64) -> Result<(), Error> {
    let mut frames = Frames::allocate(count, 16).map_err(Error::Refused)?;
    let first = frames.first();
    require_clear(&frames)?;
    frames.pages_mut().iter_mut().for_each(|page| page.0.fill(0xa5));
    if Frames::allocate_at(first, count).err() != Some(Status::InUse) {
        return Err(Error::GivenTwice(first));
    }
    drop(frames);
    let again = Frames::allocate_at(first, count).map_err(Error::Refused)?;
    require_clear(&again)?;
    let capability = if again.capability().is_some() { "a" } else { "no" };
    println!(
        "{{\"frames\":{{\"count\":{},\"aligned\":{}}}}} with {capability} capability",
        again.pages().len(),
        first.is_multiple_of(16)
    );
    Ok(())
}

fn require_clear(frames: &Frames) -> Result<(), Error> {
    let full = frames.pages().iter().position(|page| page.0.iter().any(|byte| *byte != 0));
    full.map_or(Ok(()), |at| Err(Error::NotClear(frames.first() + at as u64)))
}
