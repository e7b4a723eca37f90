//! What the kernel tells an environment: the start information, and the pages that it keeps up to date.
//!
//! The functions panic if the image does not run as an environment of HyperExo.

use crate::memory;
use crate::platform::{Area, Facts};
use core::sync::atomic::AtomicU64;
use hyperexo_abi::accounting::{Accounting, Owners};
use hyperexo_abi::start::{MAGIC, StartInfo};
use hyperexo_abi::{FRAME_SHIFT, LINEAR_BASE, STACK_TOP};
use spin::Once;

/// The pages that the kernel shares with this environment.
struct Pages {
    start: &'static StartInfo,
    accounting: &'static Accounting,
    owners: &'static Owners,
    free_map: &'static [AtomicU64],
}

static PAGES: Once<Pages> = Once::new();

/// Reads the start information, and notes where the shared pages are.
///
/// `None` if `magic` (register `rsi` at entry) or the page itself says that this is not HyperExo.
///
/// # Safety
///
/// If `magic` is [`MAGIC`], the state must be that described in [`hyperexo_abi::start`]: `physical` is the
/// address of a [`StartInfo`], and the linear map reaches it and the frames it names.
pub(super) unsafe fn read(physical: u64, magic: u64) -> Option<&'static StartInfo> {
    if magic != MAGIC {
        return None;
    }
    let linear = |frame: u64| LINEAR_BASE + (frame << FRAME_SHIFT);
    // SAFETY: by the caller's promise there is a `StartInfo` in the linear map, in a frame of this
    // environment that nobody writes any more.
    let start = unsafe { &*((LINEAR_BASE + physical) as *const StartInfo) };
    if start.magic != MAGIC {
        return None;
    }
    // SAFETY: the kernel keeps these frames bound for the life of the environment. It writes only what are
    // atomics here, and all bit patterns are valid for the types.
    let pages = unsafe {
        Pages {
            start,
            accounting: &*(linear(start.accounting_frame) as *const Accounting),
            owners: &*(linear(start.owners_frame) as *const Owners),
            free_map: core::slice::from_raw_parts(
                linear(start.free_map_first_frame) as *const AtomicU64,
                (start.free_map_frames << FRAME_SHIFT) as usize / size_of::<AtomicU64>(),
            ),
        }
    };
    PAGES.call_once(|| pages);
    Some(start)
}

/// Text in a field that is padded with zeros. It ends where it is no longer UTF-8.
fn text(bytes: &'static [u8]) -> &'static str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The start information in the terms of [`crate::platform`].
pub(super) fn facts(start: &'static StartInfo) -> Facts {
    // The boot code's part of the image is free: it serves boot loaders only.
    let boot = memory::boot_area();
    let frame_of = |address: u64| (start.image_address + (address - start.image_virtual)) >> FRAME_SHIFT;
    let line_bytes = (start.command_line_bytes as usize).min(start.command_line.len());
    Facts {
        name: text(&start.name),
        command_line: text(&start.command_line[..line_bytes]),
        tsc_hz: start.tsc_hz.max(1),
        boot_tsc: start.boot_tsc,
        memory_end_frame: start.memory_end_frame,
        quota_frames: start.quota_frames,
        image: Area {
            virtual_start: start.image_virtual,
            physical_start: start.image_address,
            bytes: start.image_bytes,
        },
        stack: Area {
            virtual_start: STACK_TOP - start.stack_bytes,
            physical_start: start.stack_address,
            bytes: start.stack_bytes,
        },
        devices: 0..0,
        keeps_start_tables: false,
        unused_frames: frame_of(boot.start)..frame_of(boot.end),
    }
}

fn pages() -> &'static Pages {
    PAGES.get().expect("runs only as an environment of HyperExo")
}

/// What the kernel told this environment at its start.
///
/// # Panics
///
/// If the image does not run as an environment of HyperExo.
pub fn start_info() -> &'static StartInfo {
    pages().start
}

/// The counters of this environment.
pub(super) fn accounting() -> &'static Accounting {
    pages().accounting
}

/// Frames and blocks held by each environment.
///
/// # Panics
///
/// As [`start_info`].
pub fn owners() -> &'static Owners {
    pages().owners
}

/// The bitmap of free frames: bit `n % 64` of word `n / 64` is set if nobody owns frame `n`.
///
/// # Panics
///
/// As [`start_info`].
pub fn free_map() -> &'static [AtomicU64] {
    pages().free_map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_zero_or_at_damage() {
        assert_eq!(text(b"hello\0\0x"), "hello");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b"ab\xff\xfe"), "ab");
    }
}
