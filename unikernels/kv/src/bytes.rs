//! Strings of bytes: short ones lie in the value itself, without an allocation.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// Bytes of a string that lies in the value itself at most.
const INLINE: usize = 30;

/// A string of bytes of any length and content. 30 bytes or fewer need no memory of their own.
#[derive(Clone)]
pub struct Bytes(Form);

#[derive(Clone)]
enum Form {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Vec<u8>),
}

impl Bytes {
    /// The empty string.
    pub const fn new() -> Self {
        Self(Form::Inline { length: 0, bytes: [0; INLINE] })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Form::Heap(bytes) => bytes,
        }
    }

    /// The bytes, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Form::Inline { length, bytes } => &mut bytes[..usize::from(*length)],
            Form::Heap(bytes) => bytes,
        }
    }

    /// Changes the length. New bytes are zero.
    pub fn resize(&mut self, length: usize) {
        match &mut self.0 {
            Form::Inline { length: old, bytes } if length <= INLINE => {
                bytes[length.min(usize::from(*old))..].fill(0);
                *old = length as u8;
            }
            Form::Inline { .. } => {
                let mut heap = Vec::with_capacity(length);
                heap.extend_from_slice(self.as_slice());
                heap.resize(length, 0);
                self.0 = Form::Heap(heap);
            }
            Form::Heap(bytes) => bytes.resize(length, 0),
        }
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        if let Form::Heap(bytes) = &mut self.0 {
            return bytes.extend_from_slice(more);
        }
        let start = self.len();
        self.resize(start + more.len());
        self.as_mut_slice()[start..].copy_from_slice(more);
    }

    /// Bytes of memory that belong to the string beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Heap(bytes) => bytes.capacity(),
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for Bytes {
    fn from(slice: &[u8]) -> Self {
        if slice.len() > INLINE {
            return Self(Form::Heap(slice.to_vec()));
        }
        let mut bytes = [0; INLINE];
        bytes[..slice.len()].copy_from_slice(slice);
        Self(Form::Inline { length: slice.len() as u8, bytes })
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() > INLINE { Self(Form::Heap(bytes)) } else { Self::from(bytes.as_slice()) }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn strings_grow_out_of_their_place_and_keep_what_they_have() {
        let mut text = Bytes::from(&b"abc"[..]);
        let mut plain = b"abc".to_vec();
        for length in [5, 30, 31, 100, 20, 0, 30, 40] {
            text.resize(length);
            plain.resize(length, 0);
            assert_eq!(text.as_slice(), plain);
            text.extend_from_slice(b"xy");
            plain.extend_from_slice(b"xy");
            assert_eq!(text.as_slice(), plain);
        }
        assert_eq!(size_of::<Bytes>(), 32);
    }

    #[test]
    fn what_was_cut_off_is_gone() {
        let mut text = Bytes::from(&b"secret"[..]);
        text.resize(2);
        text.resize(6);
        assert_eq!(text.as_slice(), b"se\0\0\0\0");
        assert_eq!(Bytes::from(vec![7; 31]).heap_bytes(), 31);
        assert_eq!(Bytes::from(vec![7; 30]).heap_bytes(), 0);
    }
}
