//! Bytes that nobody can guess, for seeds and keys.
//!
//! They come from the machine's random-number device if the host gives one to the unikernel, else from the
//! processor's generator (RDRAND). Each call may start a device, so a program that needs many numbers should
//! seed a generator.
#![forbid(unsafe_code)]

use crate::platform;

pub use crate::platform::RandomError;

/// Where bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// virtio-rng.
    Device,
    /// RDRAND.
    Processor,
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Source::Device => "virtio-rng",
            Source::Processor => "rdrand",
        })
    }
}

/// Fills `bytes`. If the device fails, the processor's generator does it, if there is one.
///
/// # Errors
///
/// [`RandomError`]. `bytes` holds nothing of use then.
///
/// # Panics
///
/// Outside a unikernel.
pub fn fill(bytes: &mut [u8]) -> Result<Source, RandomError> {
    match platform::current().random_bytes(bytes) {
        Ok(()) => Ok(Source::Device),
        Err(error) => fill_from(hyperexo_hw::random::number, bytes).ok_or(error).map(|()| Source::Processor),
    }
}

/// A seed.
///
/// # Errors
///
/// As [`fill`].
///
/// # Panics
///
/// As [`fill`].
pub fn seed() -> Result<u64, RandomError> {
    let mut bytes = [0; size_of::<u64>()];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills `bytes` with numbers of a generator. `None` as soon as it gives none.
fn fill_from(mut generator: impl FnMut() -> Option<u64>, bytes: &mut [u8]) -> Option<()> {
    for part in bytes.chunks_mut(size_of::<u64>()) {
        let number = generator()?.to_le_bytes();
        part.copy_from_slice(&number[..part.len()]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_to_the_last_byte() {
        let mut bytes = [0xaa; 11];
        let mut numbers = [0x0807_0605_0403_0201, 0x1817_1615_1413_1211].into_iter();
        assert_eq!(fill_from(|| numbers.next(), &mut bytes), Some(()));
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13]);
    }

    #[test]
    fn a_generator_that_dries_up_is_noticed() {
        let mut numbers = [1].into_iter();
        assert_eq!(fill_from(|| numbers.next(), &mut [0; 9]), None);
    }
}
