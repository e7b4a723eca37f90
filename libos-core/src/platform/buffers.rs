//! A packet, and the pages that it lies in.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};
use hyperexo_abi::offload::{Offload, checksum, ones_sum};
use hyperexo_abi::{FRAME_BYTES, Page};
use zerocopy::FromZeros;

/// Adjacent pages.
pub type Pages = Box<[Page]>;

/// Adjacent pages that hold at least so many bytes. They hold zeros.
///
/// # Panics
///
/// Without memory.
pub fn pages_for(bytes: usize) -> Pages {
    let pages = bytes.div_ceil(FRAME_BYTES).max(1);
    <[Page]>::new_box_zeroed_with_elems(pages)
        .unwrap_or_else(|_| panic!("no memory for {bytes} bytes of a packet"))
}

/// The bytes of adjacent pages.
fn bytes_of(pages: &[Page]) -> &[u8] {
    zerocopy::IntoBytes::as_bytes(pages)
}

/// Who has the pages of a piece.
#[derive(Clone)]
enum Holder {
    Pages(Arc<Pages>),
    Lender(Arc<dyn AsRef<[Page]> + Send + Sync>),
}

impl Holder {
    fn pages(&self) -> &[Page] {
        match self {
            Holder::Pages(pages) => pages,
            Holder::Lender(lender) => (**lender).as_ref(),
        }
    }
}

/// Bytes in pages that others may be reading too: part of a packet without having been copied.
///
/// Nobody can write them while a piece of them is there: the pages live until the device, and everybody else
/// who shares them, is done.
#[derive(Clone)]
pub struct Piece {
    pages: Holder,
    start: usize,
    bytes: usize,
}

impl Piece {
    /// These bytes of the pages.
    ///
    /// # Panics
    ///
    /// If the pages have fewer.
    pub fn new(pages: Arc<Pages>, range: Range<usize>) -> Piece {
        Piece::of(Holder::Pages(pages), range)
    }

    /// The same of pages that somebody lends, such as a file cache: they must always be the same ones, and
    /// stay as they are.
    ///
    /// # Panics
    ///
    /// As [`Piece::new`].
    pub fn lent(lender: Arc<dyn AsRef<[Page]> + Send + Sync>, range: Range<usize>) -> Piece {
        Piece::of(Holder::Lender(lender), range)
    }

    fn of(pages: Holder, range: Range<usize>) -> Piece {
        let (start, end, most) = (range.start, range.end, pages.pages().len() * FRAME_BYTES);
        assert!(start <= end && end <= most, "bytes {start} to {end} of {most}");
        Piece { pages, start, bytes: end - start }
    }

    /// A part of these bytes; `range` counts from the piece's first.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn part(&self, range: Range<usize>) -> Piece {
        assert!(range.end <= self.bytes, "bytes to {} of {}", range.end, self.bytes);
        Piece::of(self.pages.clone(), self.start + range.start..self.start + range.end)
    }

    /// The pages, if nobody else shares them, and nobody has lent them.
    pub fn into_pages(self) -> Option<Pages> {
        match self.pages {
            Holder::Pages(pages) => Arc::try_unwrap(pages).ok(),
            Holder::Lender(_) => None,
        }
    }

    /// The pages, and where in them the bytes begin.
    pub(crate) fn place(&self) -> (&[Page], usize) {
        (self.pages.pages(), self.start)
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytes_of(self.pages.pages())[self.start..][..self.bytes]
    }
}

/// Says how many bytes there are, and spares the reader the bytes.
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.bytes)
    }
}

/// An Ethernet packet without check sequence: a *head*, in pages of its own, and [`Piece`]s that follow it.
/// All headers are in the head, which is what it dereferences to. Most packets have no pieces.
///
/// What is left to the device, or was done by it, travels with the packet ([`Packet::offload`]).
pub struct Packet {
    head: Pages,
    start: usize,
    bytes: usize,
    pieces: Vec<Piece>,
    offload: Offload,
}

impl Packet {
    /// A packet of `bytes` bytes, to be filled in: what these pages hold from their first byte on.
    ///
    /// # Panics
    ///
    /// If they hold fewer.
    pub fn new(pages: Pages, bytes: usize) -> Packet {
        Packet::at(pages, 0, bytes)
    }

    /// The same from byte `start` on.
    pub(crate) fn at(head: Pages, start: usize, bytes: usize) -> Packet {
        let most = head.len() * FRAME_BYTES;
        assert!(start + bytes <= most, "a packet of {bytes} bytes from {start} on, in {most}");
        Packet { head, start, bytes, pieces: Vec::new(), offload: Offload::NONE }
    }

    /// A packet with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Packet {
        let mut packet = Packet::new(pages_for(bytes.len()), bytes.len());
        packet.copy_from_slice(bytes);
        packet
    }

    /// Appends bytes that lie elsewhere. Nothing if there are none.
    pub fn push(&mut self, piece: Piece) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    /// What follows the head.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes of head and pieces.
    pub fn total_bytes(&self) -> usize {
        self.bytes + self.pieces.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// What the device did, or is to do.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Says what the device is to do.
    pub fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// Pages of the head, and the pieces.
    pub fn into_parts(self) -> (Pages, Vec<Piece>) {
        (self.head, self.pieces)
    }

    /// The head's pages, and where in them the packet begins.
    pub(crate) fn place(&self) -> (&[Page], usize) {
        (&self.head, self.start)
    }

    /// Copies all bytes, one after the other, into as many of `into`.
    ///
    /// # Panics
    ///
    /// If `into` has another number of bytes.
    pub fn copy_to(&self, into: &mut [u8]) {
        assert_eq!(into.len(), self.total_bytes(), "room for exactly the packet");
        let (head, mut rest) = into.split_at_mut(self.bytes);
        head.copy_from_slice(self);
        for piece in &self.pieces {
            let (part, behind) = rest.split_at_mut(piece.len());
            part.copy_from_slice(piece);
            rest = behind;
        }
    }

    /// Computes the checksum that the packet leaves to the device, if it leaves it one.
    ///
    /// # Panics
    ///
    /// If its place is not in the head: see [`Offload::fits`].
    pub fn complete_checksum(&mut self) {
        if !self.offload.needs_checksum() {
            return;
        }
        let start = usize::from(self.offload.checksum_start);
        let field = start + usize::from(self.offload.checksum_offset);
        let mut at = self.bytes - start;
        let head = ones_sum(&self[start..]);
        let sums = self.pieces.iter().map(|piece| {
            let sum = ones_sum(piece);
            let is_odd = at % 2 == 1;
            at += piece.len();
            // Behind an odd number of bytes, each is the other half of its word (RFC 1071, section 2 B).
            if is_odd { sum.swap_bytes() } else { sum }
        });
        let checksum = checksum(core::iter::once(head).chain(sums));
        self[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        self.offload.flags = 0;
    }
}

impl Clone for Packet {
    /// Copies the head, and shares the pieces.
    fn clone(&self) -> Packet {
        let mut packet = Packet::from_bytes(self);
        packet.pieces.clone_from(&self.pieces);
        packet.offload = self.offload;
        packet
    }
}

impl Deref for Packet {
    type Target = [u8];

    /// The head.
    fn deref(&self) -> &[u8] {
        &bytes_of(&self.head)[self.start..][..self.bytes]
    }
}

impl DerefMut for Packet {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut zerocopy::IntoBytes::as_mut_bytes(&mut *self.head)[self.start..][..self.bytes]
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes, {:?}, {:?})", self.bytes, self.pieces, self.offload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of 40 + `lengths` bytes, gathered, whose checksum begins at 20.
    fn gathered(lengths: &[usize]) -> Packet {
        let bytes: Vec<u8> = (0..8192).map(|at| (at * 7 % 251) as u8).collect();
        let shared = Arc::new(Packet::from_bytes(&bytes).into_parts().0);
        let mut packet = Packet::from_bytes(&bytes[..40]);
        packet[36..38].fill(0);
        let mut at = 100;
        for length in lengths {
            packet.push(Piece::new(Arc::clone(&shared), at..at + length));
            at += length;
        }
        packet.set_offload(Offload::checksum(20, 16));
        packet
    }

    #[test]
    fn gathering_copies_nothing_and_copying_gathers() {
        let packet = gathered(&[3, 0, 5000, 1]);
        assert_eq!((packet.pieces().len(), packet.total_bytes(), packet.len()), (3, 5044, 40));
        let mut copy = alloc::vec![0; 5044];
        packet.copy_to(&mut copy);
        assert_eq!(
            (copy[..40].to_vec(), copy[40], copy[5043]),
            (packet.to_vec(), 198, ((5103 * 7) % 251) as u8)
        );
        let address = |piece: &Piece| piece.as_ptr();
        let clone = packet.clone();
        assert_eq!(address(&clone.pieces()[1]), address(&packet.pieces()[1]), "pieces are shared");
        assert_eq!(packet.pieces()[1].part(1..3)[..], packet.pieces()[1][1..3]);
    }

    #[test]
    fn pages_come_back_when_the_last_piece_is_gone() {
        let (_, mut pieces) = gathered(&[3, 4]).into_parts();
        let last = pieces.pop().unwrap();
        assert!(last.clone().into_pages().is_none());
        drop(pieces);
        assert_eq!(last.into_pages().unwrap().len(), 2);
    }

    #[test]
    fn a_completed_checksum_is_that_of_the_bytes_wherever_they_lie() {
        for lengths in [&[][..], &[1], &[3, 5], &[7, 1, 1, 4000, 9]] {
            let mut packet = gathered(lengths);
            packet.complete_checksum();
            assert!(!packet.offload().needs_checksum());
            let mut all = alloc::vec![0; packet.total_bytes()];
            packet.copy_to(&mut all);
            assert_eq!(ones_sum(&all[20..]), 0xffff, "{lengths:?}");
        }
    }

    #[test]
    #[should_panic(expected = "bytes 4095 to 4097 of 4096")]
    fn no_piece_is_larger_than_its_pages() {
        Piece::new(Arc::new(pages_for(1)), 4095..4097);
    }
}
