//! The 32-byte self-authenticating name of a resource (Engler, Kaashoek, O'Toole, SOSP'95, §3.1).
//!
//! A capability is four words of data, without meaning to anyone but the kernel that issued it: it can be
//! copied, stored, put in a message. The kernel trusts it because the last word is a keyed MAC over the
//! others; holding it is authority. A *generation* that the kernel keeps for every allocation makes old
//! capabilities worthless.
//!
//! ```text
//! word 0   resource 0–7 | rights 8–15 | zero 16–31 | generation, low half 32–63
//! word 1   first frame, block or filter 0–47 | generation, high half 48–63
//! word 2   count 0–47 | zero 48–63
//! word 3   MAC over words 0–2
//! ```

/// The kind of thing a capability names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Resource {
    /// A run of physical frames.
    Page = 1,
    /// A run of disk blocks.
    Disk = 2,
    /// A filter of packets: `first` is its number, `count` 1.
    Filter = 3,
}

/// What the holder may do. A bit set; see the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rights(pub u8);

impl Rights {
    /// Read; of a filter, receive.
    pub const READ: Rights = Rights(1);
    /// Write; of a filter, transmit.
    pub const WRITE: Rights = Rights(2);
    /// Execute (pages only).
    pub const EXECUTE: Rights = Rights(4);
    /// Free, revoke.
    pub const GRANT: Rights = Rights(8);
    /// Read and write.
    pub const READ_WRITE: Rights = Rights(3);
    /// Everything.
    pub const ALL: Rights = Rights(15);

    /// Whether every right of `other` is here too.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights in either.
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// The rights in both.
    pub const fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }
}

/// The largest first or count that fits a capability, and the largest generation.
pub const MAX_FIELD: u64 = (1 << 48) - 1;

/// A capability as it travels: four opaque words. All-zero words are no capability.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct Capability(pub [u64; 4]);

impl Capability {
    /// What the words claim. Worth nothing before the kernel has checked the MAC, but handy for a libOS that
    /// trusts whoever gave it the capability. `None` if they name no resource.
    pub fn claim(&self) -> Option<Claim> {
        let [a, b, c, _] = self.0;
        let resource = match a as u8 {
            1 => Resource::Page,
            2 => Resource::Disk,
            3 => Resource::Filter,
            _ => return None,
        };
        if a >> 16 & 0xffff != 0 || c >> 48 != 0 {
            return None;
        }
        Some(Claim {
            resource,
            rights: Rights((a >> 8) as u8),
            generation: a >> 32 | (b >> 48) << 32,
            first: b & MAX_FIELD,
            count: c & MAX_FIELD,
        })
    }
}

/// The fields of a capability: what it claims to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Kind of resource.
    pub resource: Resource,
    /// What may be done with it.
    pub rights: Rights,
    /// Generation of the allocation, at most [`MAX_FIELD`].
    pub generation: u64,
    /// First frame or block, at most [`MAX_FIELD`].
    pub first: u64,
    /// Number of frames or blocks, at most [`MAX_FIELD`].
    pub count: u64,
}

impl Claim {
    /// The three words that the MAC covers.
    pub fn words(&self) -> [u64; 3] {
        [
            self.resource as u64 | u64::from(self.rights.0) << 8 | self.generation << 32,
            self.first & MAX_FIELD | self.generation >> 32 << 48,
            self.count & MAX_FIELD,
        ]
    }

    /// One past the last frame or block. Does not overflow: both terms have 48 bits.
    pub fn end(&self) -> u64 {
        self.first + self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_claim_are_inverse() {
        let claim = Claim {
            resource: Resource::Disk,
            rights: Rights::READ_WRITE,
            generation: 0xabcd_1234_5678,
            first: MAX_FIELD,
            count: 7,
        };
        let [a, b, c] = claim.words();
        assert_eq!(Capability([a, b, c, 99]).claim(), Some(claim));
    }

    #[test]
    fn stray_bits_and_unknown_resources_are_no_claim() {
        assert_eq!(Capability::default().claim(), None);
        assert_eq!(Capability([1 | 1 << 16, 0, 1, 0]).claim(), None);
        assert_eq!(Capability([1, 0, 1 << 48, 0]).claim(), None);
    }
}
