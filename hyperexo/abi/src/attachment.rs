//! Where in the exokernel's own file a bundle lies: for boot artefacts that are one ELF file.
//!
//! The host tool extends the kernel's last segment by the bundle, finds [`MAGIC`] in the file, and writes the
//! bundle's addresses behind it. In the file that cargo makes they are 0: no bundle.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// First bytes of an [`Attachment`]; they occur once in a kernel's file.
pub const MAGIC: [u8; 16] = *b"hx attachment 1\n";

/// Offset of [`Attachment`]'s first address from its first byte.
pub const START_OFFSET: usize = MAGIC.len();

/// The place of the bundle. It stands in the kernel's data, so that a loader brings it into memory with the
/// rest.
#[derive(Debug)]
#[repr(C)]
pub struct Attachment {
    /// [`MAGIC`]. The kernel does not compare it: that would put the bytes into its file a second time.
    pub magic: [u8; 16],
    /// Physical address of the first byte.
    start: AtomicU64,
    /// One past the last.
    end: AtomicU64,
}

impl Attachment {
    /// None yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Attachment {
        Attachment { magic: MAGIC, start: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    /// Physical addresses of the bundle, if there is one.
    pub fn bytes(&self) -> Option<Range<u64>> {
        let range = self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_none_until_addresses_are_written() {
        let attachment = Attachment::new();
        assert_eq!(attachment.bytes(), None);
        attachment.end.store(0x20_1000, Ordering::Relaxed);
        attachment.start.store(0x20_0000, Ordering::Relaxed);
        assert_eq!(attachment.bytes(), Some(0x20_0000..0x20_1000));
        assert_eq!(core::mem::offset_of!(Attachment, start), START_OFFSET);
    }
}
