//! Borders of the image, from its linker script.

use core::ops::Range;

unsafe extern "C" {
    // Only the addresses mean anything.
    static hx_rodata_start: u8;
    static hx_rodata_end: u8;
    static hx_text_start: u8;
    static hx_text_end: u8;
    static hx_data_start: u8;
    static hx_boot_start: u8;
    static hx_data_end: u8;
}

/// Addresses of the image.
pub(crate) fn image() -> Range<u64> {
    &raw const hx_rodata_start as u64..&raw const hx_data_end as u64
}

/// Addresses of the image's constants. Its code follows.
pub(crate) fn constants() -> Range<u64> {
    &raw const hx_rodata_start as u64..&raw const hx_rodata_end as u64
}

/// Addresses of the image's code.
pub(crate) fn text() -> Range<u64> {
    &raw const hx_text_start as u64..&raw const hx_text_end as u64
}

/// Addresses of the image's data, without what only its boot code uses.
pub(super) fn data() -> Range<u64> {
    &raw const hx_data_start as u64..&raw const hx_boot_start as u64
}

/// The part of the image that only its boot code uses: page tables and a stack.
pub(crate) fn boot_area() -> Range<u64> {
    &raw const hx_boot_start as u64..&raw const hx_data_end as u64
}
