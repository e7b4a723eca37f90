//! Devices that misbehave on demand: wrappers around any [`BlockDevice`](super::BlockDevice), to test what
//! stands on top.
//!
//! | wrapper | misbehaviour |
//! |---|---|
//! | [`FailingDevice`] | requests that touch certain blocks, or every request of a kind, fail |
//! | [`BitFlipper`] | a bit of a block is wrong whenever it is read |
//! | [`DelayedDevice`] | completions come late and out of order, and the depth of the queue is measured |
//! | [`PowerCut`] | after so many written blocks the power is gone; un-flushed writes are lost, kept or torn |
//!
//! Each is steered and questioned through a handle that can be cloned, while the device itself is in the
//! hands of a volume.

mod delay;
mod failure;
mod power;

pub use delay::{DelayControl, DelayedDevice};
pub use failure::{BitFlipper, FailingDevice, FailureControl};
pub use power::{PowerControl, PowerCut};

/// A small generator of pseudo-random numbers (SplitMix64: G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014):
/// the same seed gives the same faults.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or(0)
    }
}
