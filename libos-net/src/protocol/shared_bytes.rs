//! Bytes that are sent from where they lie.

use crate::link::{Frame, Piece};
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::fmt;
use core::ops::{Deref, Range};
use smoltcp::wire::checksum;

/// Bytes of one sum. An even number, so that all sums begin at even places.
const SUM_BYTES: usize = 64;

/// Bytes that several may read and nobody changes: a block of a file in its cache, a head that is always the
/// same. A connection sends them, and sends them again, without copying them; sums for the checksum are kept
/// with them.
///
/// Clones are the same bytes.
#[derive(Clone)]
pub struct SharedBytes {
    shared: Rc<Shared>,
    start: usize,
    bytes: usize,
}

struct Shared {
    piece: Piece,
    /// Sums of the bytes before each multiple of [`SUM_BYTES`]; made when the first is asked for.
    sums: OnceCell<Vec<u16>>,
}

impl SharedBytes {
    /// Bytes of pages that a device can read; such as a block that a file cache lends.
    pub fn new(piece: Piece) -> SharedBytes {
        let bytes = piece.len();
        SharedBytes { shared: Rc::new(Shared { piece, sums: OnceCell::new() }), start: 0, bytes }
    }

    /// A copy of these bytes, to be sent often.
    pub fn from_bytes(bytes: &[u8]) -> SharedBytes {
        let (pages, _) = Frame::from_bytes(bytes).into_parts();
        SharedBytes::new(Piece::new(Arc::new(pages), 0..bytes.len()))
    }

    /// A part of them, for a frame.
    pub(super) fn piece(&self, range: Range<usize>) -> Piece {
        self.shared.piece.part(self.start + range.start..self.start + range.end)
    }

    /// A part of these bytes; the range counts from the piece's first.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn part(&self, range: Range<usize>) -> SharedBytes {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {}", self.bytes);
        SharedBytes { shared: Rc::clone(&self.shared), start: self.start + range.start, bytes: range.len() }
    }

    /// Sum of 16-bit words of a range, as the Internet's checksum has it (RFC 1071), and how many bytes had
    /// to be looked at for it.
    pub(super) fn sum(&self, range: Range<usize>) -> (u16, usize) {
        let all = &*self.shared.piece;
        let (from, to) = (self.start + range.start, self.start + range.end);
        let first = from.next_multiple_of(SUM_BYTES);
        let last = to / SUM_BYTES * SUM_BYTES;
        if first >= last {
            return (checksum::data(&all[from..to]), to - from);
        }
        let made = if self.shared.sums.get().is_none() { all.len() } else { 0 };
        let sums = self.shared.sums.get_or_init(|| prefix_sums(all));
        // What is before `first` is taken off by its complement.
        let middle = checksum::combine(&[sums[last / SUM_BYTES], !sums[first / SUM_BYTES]]);
        let (head, tail) = (checksum::data(&all[from..first]), checksum::data(&all[last..to]));
        // `first` is even: seen from an odd beginning, the rest is the other half of its words.
        let rest = checksum::combine(&[middle, tail]);
        let rest = if (first - from) % 2 == 1 { rest.swap_bytes() } else { rest };
        (checksum::combine(&[head, rest]), first - from + to - last + made)
    }
}

fn prefix_sums(bytes: &[u8]) -> Vec<u16> {
    let mut sums = Vec::with_capacity(bytes.len() / SUM_BYTES + 1);
    sums.push(0);
    for chunk in bytes.chunks_exact(SUM_BYTES) {
        let before = sums.last().copied().unwrap_or_default();
        sums.push(checksum::combine(&[before, checksum::data(chunk)]));
    }
    sums
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shared.piece[self.start..][..self.bytes]
    }
}

/// Says how many bytes there are, and spares the reader the bytes.
impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({})", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_ranges_are_those_of_their_bytes() {
        let bytes: Vec<u8> = (0..4096_u32).map(|at| (at * at % 251) as u8).collect();
        let piece = SharedBytes::from_bytes(&bytes);
        // Two numbers stand for nothing: all zeros and all ones.
        let same =
            |one: u16, other: u16| one == other || one.is_multiple_of(0xffff) && other.is_multiple_of(0xffff);
        for from in (0..4096).step_by(37).chain([0, 1, 63, 64, 65, 4095]) {
            for to in (from..=4096).step_by(101).chain([from, 4096]) {
                let (sum, looked_at) = piece.sum(from..to);
                assert!(same(sum, checksum::data(&bytes[from..to])), "{from}..{to}");
                assert!(from == 0 || looked_at <= 4 * SUM_BYTES, "{looked_at} bytes for {from}..{to}");
            }
        }
        let part = piece.part(13..1013);
        assert!(same(part.sum(1..900).0, checksum::data(&bytes[14..913])));
    }
}
