//! How often each leaf of the store was used in earlier runs: a file beside the store, two bytes for a leaf,
//! little-endian, in their order.

use super::Mix;
use crate::files::Advice;
use crate::lines::LineBatches;
use crate::workload::{Context, RunError, done_with, open};
use alloc::format;
use alloc::vec::Vec;

/// Bytes of a count.
const COUNT_BYTES: usize = 2;

/// Reads the counts, from the first leaf on. None for who has no use for them: without a policy of its own, and
/// under the mix whose policy does not count.
pub(super) fn read(context: &Context<'_>, mix: Mix) -> Result<Vec<u16>, RunError> {
    let (Some(path), Advice::Own(_)) = (mix.history(), context.advice) else { return Ok(Vec::new()) };
    let file = open(context, path)?;
    let mut bytes = Vec::new();
    let mut batches = LineBatches::new(&file);
    while let Some(batch) = batches.next_batch().map_err(|error| RunError::file(path, error))? {
        bytes.extend_from_slice(batch);
    }
    done_with(context, &file);
    let (counts, rest) = bytes.as_chunks::<COUNT_BYTES>();
    if !rest.is_empty() {
        return Err(RunError::malformed(path, format!("{} bytes are no whole counts", bytes.len())));
    }
    Ok(counts.iter().map(|count| u16::from_le_bytes(*count)).collect())
}

/// The bytes of such a file.
#[cfg(feature = "data")]
pub(crate) fn to_bytes(counts: &[u16]) -> Vec<u8> {
    counts.iter().flat_map(|count| count.to_le_bytes()).collect()
}
