//! A page that a cache lends.

use alloc::boxed::Box;
use core::fmt;
use hyperexo_abi::Page;

/// A block of a file, lent by its cache: it stays as it is while somebody has it, whatever becomes of the
/// file and of the block's place in the cache. A write to the file goes to a copy.
///
/// It is a page of the heap, which a device can read. It counts as the cache's only while the cache has it:
/// who keeps many should have a bound of their own.
pub struct LentPage(pub(crate) Box<Page>);

impl LentPage {
    /// The bytes of the block.
    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }
}

impl AsRef<[Page]> for LentPage {
    fn as_ref(&self) -> &[Page] {
        core::slice::from_ref(&self.0)
    }
}

/// Spares the reader the bytes.
impl fmt::Debug for LentPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LentPage")
    }
}
