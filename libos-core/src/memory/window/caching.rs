//! How the processor's caches treat pages of a window.

use super::{Caching, Entry, Pages, end_translation};
use crate::memory::physical::linear_address;
use crate::platform::{self, Host};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, _mm_clflush, _mm_mfence};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::{FRAME_BYTES, LARGE_FRAMES};
use hyperexo_hw::descriptor::core_number;

/// Why a page is not cached in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachingError {
    /// The page attribute table would have to be changed: HyperExo refuses that register, and not every
    /// processor has it.
    NotOffered,
    /// There is no page.
    NotThere,
}

impl fmt::Display for CachingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CachingError::NotOffered => {
                "write-combining takes the page attribute table, which can't be changed here"
            }
            CachingError::NotThere => "no page is there",
        })
    }
}

impl core::error::Error for CachingError {}

impl Pages {
    /// Has a page that is there cached in another way, from now on and until it is taken out. Its lines leave
    /// the caches first. All that the page is reached by must be cached alike: where it is in several
    /// windows, change it in all before it is used.
    ///
    /// Write-back, write-through and uncached are in the page attribute table of every processor after a
    /// reset. Under HyperExo on Intel's processors the nested tables say write-back whatever this says (SDM
    /// vol. 3 §29.3.7, "ignore PAT").
    ///
    /// # Errors
    ///
    /// [`CachingError`].
    pub fn set_caching(&self, page: u64, caching: Caching) -> Result<(), CachingError> {
        if caching == Caching::WriteCombining && !offer_write_combining() {
            return Err(CachingError::NotOffered);
        }
        let frame = self.frame(page).ok_or(CachingError::NotThere)?;
        let large = self.is_large(page);
        let (frame, frames) = if large { (frame - page % LARGE_FRAMES, LARGE_FRAMES) } else { (frame, 1) };
        let change = |old| Some(Entry(old).cached(caching, large).0);
        let _ = self.entry(page).fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
        end_translation(self.slot.address(page));
        flush(linear_address(frame), frames as usize * FRAME_BYTES);
        Ok(())
    }
}

/// Writes lines back and takes them out of all caches.
fn flush(start: u64, bytes: usize) {
    /// No processor with 64 bits has shorter ones.
    const LINE: usize = 64;
    for line in (start..start + bytes as u64).step_by(LINE) {
        // SAFETY: the linear map shows the frames, which are there as long as they are in the window. What
        // memory holds does not change. Every processor with 64 bits has the instruction.
        unsafe { _mm_clflush(line as *const u8) };
    }
    // SAFETY: a fence; every processor with 64 bits has it.
    unsafe { _mm_mfence() };
}

/// Makes an entry of the page attribute table write-combining, if that can be had. Windows stay on their
/// core, and nobody has used the entry before: so this core alone does it, and no cache need be emptied
/// (SDM vol. 3 §12.12.4).
fn offer_write_combining() -> bool {
    const PAGE_ATTRIBUTES: u32 = 0x277;
    const OFFERED: u32 = 1 << 16;
    /// A bit for each core.
    static DONE: AtomicU64 = AtomicU64::new(0);
    if platform::current().host() != Host::Machine || __cpuid(1).edx & OFFERED == 0 {
        return false;
    }
    let core = 1 << (core_number() % 64);
    if DONE.fetch_or(core, Ordering::AcqRel) & core == 0 {
        let (low, high) = (Caching::PAT as u32, (Caching::PAT >> 32) as u32);
        // SAFETY: the processor has the register, and only an entry changes that no page uses.
        unsafe {
            asm!("wrmsr", in("ecx") PAGE_ATTRIBUTES, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        }
    }
    true
}
