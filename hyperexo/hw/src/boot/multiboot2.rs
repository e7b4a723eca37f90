//! The boot information of Multiboot2 (specification 2.0, §3.6), read by the crate `multiboot2`.

use super::{BootError, BootInfo, Region, Regions};
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

/// # Safety
///
/// See [`BootInfo::read`].
pub(super) unsafe fn read(information: u64) -> Result<BootInfo, BootError> {
    // SAFETY: the caller vouches for the structure and the identity map.
    let tags = unsafe { BootInformation::<'static>::load(information as *const BootInformationHeader) }
        .map_err(|_| BootError::BadMultiboot2)?;

    let mut memory = Regions::default();
    for area in tags.memory_map_tag().ok_or(BootError::NoMemoryMap)?.memory_areas() {
        if area.typ() == MemoryAreaType::Available {
            memory.push(Region { start: area.start_address(), end: area.end_address() });
        }
    }
    let mut modules = Regions::default();
    for module in tags.module_tags() {
        modules.push(Region { start: module.start_address().into(), end: module.end_address().into() });
    }
    let mut loader = Regions::default();
    loader.push(Region { start: tags.start_address() as u64, end: tags.end_address() as u64 });

    // The string borrows from `tags`; its bytes live as long as the loader's memory, hence the detour by
    // address.
    let command_line = match tags.command_line_tag().and_then(|tag| tag.cmdline().ok()) {
        // SAFETY: the bytes are the loader's, valid UTF-8, and untouched for as long as the caller promised.
        Some(line) => unsafe {
            core::str::from_utf8_unchecked(core::slice::from_raw_parts(line.as_ptr(), line.len()))
        },
        None => "",
    };
    // The tag holds a copy of the root pointer behind its 8-byte header.
    let copy = |tag: *const u8| tag as u64 + 8;
    let rsdp = tags
        .rsdp_v2_tag()
        .map(|tag| copy(core::ptr::from_ref(tag).cast()))
        .or_else(|| tags.rsdp_v1_tag().map(|tag| copy(core::ptr::from_ref(tag).cast())));
    Ok(BootInfo { memory, modules, loader, command_line, rsdp })
}
