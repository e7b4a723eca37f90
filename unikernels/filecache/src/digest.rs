//! A digest of bytes that is cheap on any machine and misses no single damaged word.
//!
//! Every word is folded in by a bijection of the state, so two streams of the same length that differ in one
//! word never share a digest, and blocks that changed places almost never do. It is no defence against
//! somebody who chooses the bytes.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Digest of a stream of bytes, the same however the stream is cut into pieces.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    state: u64,
    length: u64,
    /// The last `length % 8` bytes, not folded in yet.
    rest: [u8; 8],
}

impl Digest {
    /// Appends `bytes` to the stream.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.length % 8) as usize;
        self.length += bytes.len() as u64;
        if held > 0 {
            let taken = bytes.len().min(8 - held);
            self.rest[held..held + taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if held + taken < 8 {
                return;
            }
            self.state = mix(self.state, u64::from_le_bytes(self.rest));
        }
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = self.state;
        for word in words {
            state = mix(state, u64::from_le_bytes(*word));
        }
        self.state = state;
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    /// The digest of everything so far.
    pub fn finish(&self) -> u64 {
        let mut last = [0; 8];
        let held = (self.length % 8) as usize;
        last[..held].copy_from_slice(&self.rest[..held]);
        mix(mix(self.state, u64::from_le_bytes(last)), self.length)
    }
}

/// Digest of `bytes` in one go.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.finish()
}

/// Folds `word` into `state`.
pub fn mix(state: u64, word: u64) -> u64 {
    (state.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 + n / 13) as u8).collect();
        for piece in [1, 3, 7, 8, 9, 64, 999] {
            let mut streamed = Digest::default();
            bytes.chunks(piece).for_each(|chunk| streamed.update(chunk));
            assert_eq!(streamed.finish(), digest(&bytes), "pieces of {piece}");
        }
    }

    #[test]
    fn every_single_byte_counts() {
        let mut bytes: Vec<u8> = (0..300u32).map(|n| n as u8).collect();
        let right = digest(&bytes);
        for index in 0..bytes.len() {
            bytes[index] ^= 0x10;
            assert_ne!(digest(&bytes), right, "byte {index}");
            bytes[index] ^= 0x10;
        }
        assert_ne!(digest(&bytes[..299]), right);
        bytes.push(0);
        assert_ne!(digest(&bytes), right);
        bytes.pop();
        bytes.swap(0, 256 + 1);
        assert_ne!(digest(&bytes), right);
    }
}
