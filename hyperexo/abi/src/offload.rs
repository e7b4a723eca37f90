//! Work on a packet that is left to somebody else: to complete a checksum, to cut it into segments.
//!
//! Whoever sends a packet may leave its checksum to the device, which completes it as the packet leaves. If
//! the receiver is on the same machine, the packet never leaves it: nobody computes the checksum then, and
//! nobody checks it.

/// Bytes of the longest packet that is to be cut into segments, or has been put together from some: header,
/// and what an IP packet can hold.
pub const MAX_LARGE_PACKET_BYTES: usize = crate::net::ETHERNET_HEADER_BYTES + 65_535;
/// Frames that such a packet may lie in: one of headers, and 64 KiB that begin anywhere in a frame.
pub const MAX_PACKET_FRAMES: usize = 18;
/// The fewest bytes that a segment can be asked to have, headers not counted (Linux: `tcp_min_snd_mss`).
pub const MIN_SEGMENT_BYTES: u16 = 48;

/// What is left to do, or has been done already. The fields are those of `struct virtio_net_hdr` (virtio 1.1,
/// §5.1.6), and may have come from anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes)]
#[repr(C)]
pub struct Offload {
    /// [`Offload::NEEDS_CHECKSUM`] or [`Offload::CHECKSUM_VALID`].
    pub flags: u8,
    /// What it is to be cut into: 0, [`Offload::TCP4`] or [`Offload::TCP6`].
    pub kind: u8,
    /// Bytes of all headers, if it is to be cut.
    pub header_bytes: u16,
    /// Bytes of each segment, headers not counted.
    pub segment_bytes: u16,
    /// Where the checksum begins to count.
    pub checksum_start: u16,
    /// Where the checksum belongs, counted from there. The sum of the pseudo-header is there already.
    pub checksum_offset: u16,
}

impl Offload {
    /// Nothing is left to do, and nothing is known.
    pub const NONE: Offload = zerocopy::transmute!([0_u8; 10]);
    /// Flag: the checksum is not complete.
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// Flag: somebody has checked the checksum.
    pub const CHECKSUM_VALID: u8 = 2;
    /// Kind: segments of TCP over IPv4.
    pub const TCP4: u8 = 1;
    /// Kind: segments of TCP over IPv6.
    pub const TCP6: u8 = 4;

    /// A checksum to complete.
    pub const fn checksum(start: u16, offset: u16) -> Offload {
        let flags = Offload::NEEDS_CHECKSUM;
        Offload { flags, checksum_start: start, checksum_offset: offset, ..Offload::NONE }
    }

    /// Whether the checksum is not complete.
    pub const fn needs_checksum(&self) -> bool {
        self.flags & Offload::NEEDS_CHECKSUM != 0
    }

    /// Whether nobody need look at the checksum: it was checked, or the packet has not been on a wire.
    pub const fn is_checked(&self) -> bool {
        self.flags & (Offload::NEEDS_CHECKSUM | Offload::CHECKSUM_VALID) != 0
    }

    /// Whether it makes sense for a packet of so many bytes whose headers lie in the first `first`.
    pub fn fits(&self, first: usize, bytes: usize) -> bool {
        let field = usize::from(self.checksum_start) + usize::from(self.checksum_offset);
        let checksum = !self.needs_checksum() || field + 2 <= first.min(bytes);
        let headers = usize::from(self.header_bytes);
        let segments = match self.kind {
            0 => true,
            Offload::TCP4 | Offload::TCP6 => {
                self.needs_checksum()
                    && (field + 2..=first.min(bytes)).contains(&headers)
                    && self.segment_bytes >= MIN_SEGMENT_BYTES
            }
            _ => false,
        };
        self.flags <= (Offload::NEEDS_CHECKSUM | Offload::CHECKSUM_VALID) && checksum && segments
    }

    /// As devices have it.
    pub fn to_bytes(self) -> [u8; 10] {
        zerocopy::transmute!(self)
    }

    /// As rings have it.
    pub fn to_words(self) -> [u64; 2] {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&self.to_bytes());
        zerocopy::transmute!(bytes)
    }

    /// From a ring; only the low 16 bits of the second word count.
    pub fn from_words(words: [u64; 2]) -> Offload {
        let bytes: [u8; 16] = zerocopy::transmute!(words);
        Offload::from_bytes(core::array::from_fn(|at| bytes[at]))
    }

    /// Computes the checksum that a packet leaves to the device, if it leaves it one.
    ///
    /// # Panics
    ///
    /// If it does not fit the packet: see [`Offload::fits`].
    pub fn complete(&mut self, packet: &mut [u8]) {
        if self.needs_checksum() {
            let start = usize::from(self.checksum_start);
            let field = start + usize::from(self.checksum_offset);
            let checksum = checksum([ones_sum(&packet[start..])]);
            packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
            self.flags = 0;
        }
    }

    /// From a device.
    pub fn from_bytes(bytes: [u8; 10]) -> Offload {
        zerocopy::transmute!(bytes)
    }
}

/// Which work a device, or whoever is in its place, does: a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads(pub u8);

impl Offloads {
    /// None.
    pub const NONE: Offloads = Offloads(0);
    /// It completes checksums of TCP and UDP, and tells those it has checked.
    pub const CHECKSUM: Offloads = Offloads(1);
    /// It cuts TCP over IPv4 into segments.
    pub const SEGMENTS4: Offloads = Offloads(2);
    /// It cuts TCP over IPv6 into segments.
    pub const SEGMENTS6: Offloads = Offloads(4);

    /// Those among the features of a virtio network device (virtio 1.1, §5.1.3).
    pub const fn from_features(features: u64) -> Offloads {
        Offloads((features & 1 | features >> 10 & 6) as u8)
    }

    /// Both.
    pub const fn union(self, other: Offloads) -> Offloads {
        Offloads(self.0 | other.0)
    }

    /// Whether all of `other` is there.
    pub const fn contains(self, other: Offloads) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The sum of the 16-bit words of some bytes in one's complement (RFC 1071), not complemented. The last byte
/// of an odd number counts as if a zero followed.
pub fn ones_sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let add = |sum, word: &[u8; 4]| sum + u64::from(u32::from_be_bytes(*word));
    fold(words.iter().fold(add(0, &last), add))
}

/// A sum in 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The checksum that belongs into a packet with this sum, the pseudo-header's included: never 0, which in UDP
/// means that there is none (RFC 768).
pub fn checksum(sums: impl IntoIterator<Item = u16>) -> u16 {
    match !fold(sums.into_iter().map(u64::from).sum()) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_offloads_are_inverse() {
        let offload = Offload {
            flags: 1,
            kind: 4,
            header_bytes: 0x0102,
            segment_bytes: 0x0304,
            checksum_start: 0x0506,
            checksum_offset: 0x0708,
        };
        assert_eq!(offload.to_bytes(), [1, 4, 2, 1, 4, 3, 6, 5, 8, 7]);
        assert_eq!(Offload::from_bytes(offload.to_bytes()), offload);
        assert_eq!(Offload::from_words(offload.to_words()), offload);
        assert!(offload.to_words()[1] < 1 << 16);
    }

    #[test]
    fn what_reaches_beyond_the_packet_does_not_fit() {
        let plain = Offload::checksum(34, 16);
        assert!(Offload::NONE.fits(0, 0) && plain.fits(52, 52) && !plain.fits(51, 60) && !plain.fits(60, 51));
        assert!(!Offload::checksum(u16::MAX, u16::MAX).fits(65_549, 65_549));
        assert!(!Offload { flags: 4, ..Offload::NONE }.fits(60, 60));
        let cut = Offload { kind: Offload::TCP4, header_bytes: 54, segment_bytes: 1448, ..plain };
        assert!(cut.fits(54, 3000));
        for wrong in [
            Offload { segment_bytes: 0, ..cut },
            Offload { segment_bytes: MIN_SEGMENT_BYTES - 1, ..cut },
            Offload { header_bytes: 51, ..cut },
            Offload { header_bytes: 3001, ..cut },
            Offload { flags: 0, ..cut },
            Offload { kind: 3, ..cut },
            Offload { kind: 0x81, ..cut },
        ] {
            assert!(!wrong.fits(3000, 3000), "{wrong:?}");
        }
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        // RFC 1071, section 3.
        assert_eq!(ones_sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(ones_sum(&[1]), 0x0100);
        assert_eq!(ones_sum(&[0xff; 65_536]), 0xffff);
        assert_eq!((checksum([0xddf2]), checksum([0xffff])), (0x220d, 0xffff));
        let bytes: [u8; 61] = core::array::from_fn(|at| (at * 37) as u8);
        let naive = bytes.chunks(2).fold(0, |sum: u32, pair| {
            let word = u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            (sum + word) % 0xffff
        });
        assert_eq!(u32::from(ones_sum(&bytes)) % 0xffff, naive);
    }
}
