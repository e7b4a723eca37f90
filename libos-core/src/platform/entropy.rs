//! What a host may fail at when it is asked for random bytes.
#![forbid(unsafe_code)]

use super::device::DeviceFault;

/// Why there are no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomError {
    /// Neither the machine nor the processor has a generator.
    NoSource,
    /// There is a device, but it can't be used.
    Unusable(DeviceFault),
    /// The device did not answer.
    Silent,
}

impl core::fmt::Display for RandomError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RandomError::NoSource => f.write_str(
                "no source of random numbers: the processor has no RDRAND, and there is no virtio-rng (exo run --direct --rng)",
            ),
            RandomError::Unusable(fault) => write!(f, "the random-number device can't be used: {fault}"),
            RandomError::Silent => f.write_str("the random-number device does not answer"),
        }
    }
}
