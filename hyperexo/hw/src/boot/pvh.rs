//! The start information of PVH (Xen's `hvm_start_info`, version 1).

use super::{BootError, BootInfo, Region, Regions};

const MAGIC: u32 = 0x336e_c578;
/// Type of usable RAM in the memory map, as in E820.
const RAM: u32 = 1;
const MAP_ENTRY_BYTES: u64 = 24;
const MODULE_ENTRY_BYTES: u64 = 32;
/// Longest command line that is looked at.
const COMMAND_LINE_BYTES: usize = 4096;

/// # Safety
///
/// See [`BootInfo::read`].
pub(super) unsafe fn read(information: u64) -> Result<BootInfo, BootError> {
    // SAFETY: the caller vouches for the structure, for what it points to, and for the identity map.
    let at = |address: u64| unsafe { (address as *const u64).read_unaligned() };
    // SAFETY: as above.
    let kind = |address: u64| unsafe { (address as *const u32).read_unaligned() };
    let word = |offset: u64| kind(information + offset);

    let magic = word(0);
    if magic != MAGIC {
        return Err(BootError::BadPvhMagic(magic));
    }
    let mut loader = Regions::default();
    loader.push(Region { start: information, end: information + 56 });

    let modules_at = at(information + 16);
    let module_count = u64::from(word(12));
    let mut modules = Regions::default();
    for index in 0..module_count {
        let entry = modules_at + index * MODULE_ENTRY_BYTES;
        let start = at(entry);
        modules.push(Region { start, end: start.saturating_add(at(entry + 8)) });
    }
    loader.push(Region { start: modules_at, end: modules_at + module_count * MODULE_ENTRY_BYTES });

    let map_at = at(information + 40);
    let map_count = u64::from(word(48));
    if map_at == 0 || map_count == 0 {
        return Err(BootError::NoMemoryMap);
    }
    let mut memory = Regions::default();
    for index in 0..map_count {
        let entry = map_at + index * MAP_ENTRY_BYTES;
        if kind(entry + 16) == RAM {
            let start = at(entry);
            memory.push(Region { start, end: start.saturating_add(at(entry + 8)) });
        }
    }
    loader.push(Region { start: map_at, end: map_at + map_count * MAP_ENTRY_BYTES });

    let line_at = at(information + 24);
    // SAFETY: as above.
    let command_line = unsafe { text(line_at) };
    loader.push(Region { start: line_at, end: line_at + command_line.len() as u64 + 1 });
    let rsdp = at(information + 32);
    Ok(BootInfo { memory, modules, loader, command_line, rsdp: (rsdp != 0).then_some(rsdp) })
}

/// # Safety
///
/// `address` is 0 or the address of a string that ends with a zero byte within mapped memory and is never
/// changed.
unsafe fn text(address: u64) -> &'static str {
    if address == 0 {
        return "";
    }
    let bytes = address as *const u8;
    let mut len = 0;
    // SAFETY: every byte up to and including the terminator is readable (caller).
    while len < COMMAND_LINE_BYTES && unsafe { bytes.add(len).read() } != 0 {
        len += 1;
    }
    // SAFETY: the bytes were just read, and nobody changes them (caller).
    let bytes = unsafe { core::slice::from_raw_parts(bytes, len) };
    core::str::from_utf8(bytes).unwrap_or("")
}
