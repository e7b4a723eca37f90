//! Builds the address space and enters it.

use super::heap;
use super::image::{constants, data, text};
use super::linear::{around_read_only, linear_areas};
use super::paging::{self, Access, MapError, Mapping, PageSize, Table, Tables, tables_needed};
use super::physical::{acquire_frames, linear_address, root_address};
use super::stacks::{TRAP_STACK_PAGES, TrapAreas};
use crate::platform::{self, Area, Facts};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::{FRAME_SHIFT, LINEAR_BASE};

/// Tables needed for the address space of an image. `read_only`: physical addresses that nobody writes.
pub(super) fn tables_for(facts: &Facts, read_only: &Range<u64>) -> u64 {
    let lowest = TrapAreas::below(facts.stack.virtual_start, 0).critical.virtual_start;
    let large_pages = read_only.end.div_ceil(paging::LARGE_BYTES) - read_only.start / paging::LARGE_BYTES;
    1 + tables_needed(facts.image.virtual_start, facts.image.bytes, PageSize::Small)
        + tables_needed(lowest, facts.stack.virtual_end() - lowest, PageSize::Small)
        + linear_areas(facts)
            .iter()
            .map(|part| tables_needed(part.virtual_start, part.bytes, part.size))
            .sum::<u64>()
        // For large pages that are divided into small ones.
        + large_pages
}

/// Physical addresses of the image's constants and code. No mapping allows to write them.
fn unwritten(facts: &Facts) -> Range<u64> {
    let physical = |address: u64| facts.image.physical_start + (address - facts.image.virtual_start);
    physical(constants().start)..physical(text().end)
}

/// Fills the tables of an image with these parts.
fn build(
    tables: &mut Tables<'_>,
    facts: &Facts,
    traps: TrapAreas,
    parts: &[(Range<u64>, Access)],
    read_only: &Range<u64>,
) -> Result<(), MapError> {
    let small = |area: Area, access| Mapping {
        virtual_start: area.virtual_start,
        physical_start: area.physical_start,
        bytes: area.bytes,
        access,
        size: PageSize::Small,
    };
    for (part, access) in parts {
        let offset = part.start - facts.image.virtual_start;
        let area = Area {
            virtual_start: part.start,
            physical_start: facts.image.physical_start + offset,
            bytes: part.end - part.start,
        };
        tables.map(small(area, *access))?;
    }
    for stack in [traps.exception, traps.interrupt, traps.critical, facts.stack] {
        tables.map(small(stack, Access::Write))?;
    }
    let linear = linear_areas(facts).into_iter().flat_map(|part| around_read_only(part, read_only));
    linear.into_iter().try_for_each(|part| tables.map(part))
}

/// Top page table of the start, as a physical address.
static START_ROOT: AtomicU64 = AtomicU64::new(0);

/// Builds the address space, enters it and goes on at `then`.
///
/// # Safety
///
/// Called once, at the start, on the start-up stack, with the linear map in place.
///
/// # Panics
///
/// If the platform gives no frames, or describes areas that overlap.
pub(crate) unsafe fn start(then: unsafe extern "C" fn() -> !) -> ! {
    let facts = platform::facts();
    let read_only = unwritten(facts);
    let table_count = tables_for(facts, &read_only);
    let first = acquire_frames(table_count + TRAP_STACK_PAGES, 1)
        .unwrap_or_else(|status| panic!("no frames for page tables and trap stacks: {status}"));
    let traps = TrapAreas::below(facts.stack.virtual_start, (first + table_count) << FRAME_SHIFT);
    // SAFETY: the frames are ours, fresh, and reached through the linear map; tables hold any bits.
    let memory =
        unsafe { core::slice::from_raw_parts_mut(linear_address(first) as *mut Table, table_count as usize) };
    let mut tables = Tables::new(memory, first);
    let parts = [(constants(), Access::Read), (text(), Access::Execute), (data(), Access::Write)];
    build(&mut tables, facts, traps, &parts, &read_only)
        .unwrap_or_else(|error| panic!("address space: {error:?}"));
    START_ROOT.store(root_address(), Ordering::Relaxed);
    // SAFETY: the new tables map code and data in use where they are, the stack, and the linear map. Nobody
    // writes their frames from now on.
    unsafe { enter(tables.root_frame(), then) }
}

/// Protects what may not be written, and gives what only the start needed to the heap.
///
/// # Safety
///
/// Called once, where [`start`] goes on.
pub(crate) unsafe fn settle() {
    let facts = platform::facts();
    // SAFETY: the address space is ours. So are the frames, and the platform says that nothing uses them.
    unsafe {
        protect();
        facts.unused_frames.clone().for_each(|frame| heap::donate(frame));
    }
    if facts.keeps_start_tables {
        return;
    }
    let read = |physical: u64| {
        // SAFETY: `visit_tables` reads words of the old tables only, and the linear map reaches them.
        unsafe { ((LINEAR_BASE + physical) as *const u64).read() }
    };
    let old = START_ROOT.load(Ordering::Relaxed) >> FRAME_SHIFT;
    paging::visit_tables(old, &read, &mut |frame| {
        // SAFETY: the old tables are ours and no longer in use. Each is visited once, after those below it.
        unsafe { heap::donate(frame) }
    });
}

/// Turns on, on the calling core, what guards an image against its own mistakes.
///
/// Read-only pages hold for this privilege level too (CR0.WP). Where the processor offers it, pages of user
/// level are neither executed nor touched (SMEP, SMAP), and user level can't read where the descriptor tables
/// lie (UMIP; SDM vol. 3 §2.5).
///
/// # Safety
///
/// Called in an address space that [`start`] built.
pub(crate) unsafe fn protect() {
    const WRITE_PROTECT: u64 = 1 << 16;
    // SAFETY: nothing that is mapped read-only is written by this library, and it has no pages of user level.
    // Bits of CR4 are set only where CPUID offers them.
    unsafe {
        let (control, features): (u64, u64);
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) control, out(reg) features);
        if control & WRITE_PROTECT == 0 {
            asm!("mov cr0, {}", in(reg) control | WRITE_PROTECT);
        }
        let offered = offered_protection();
        if features & offered != offered {
            asm!("mov cr4, {}", in(reg) features | offered);
        }
    }
}

/// Bits of CR4 for protection that the processor offers (CPUID leaf 7).
fn offered_protection() -> u64 {
    const LEAF: u32 = 7;
    if __cpuid(0).eax < LEAF {
        return 0;
    }
    let offered = __cpuid_count(LEAF, 0);
    let bit = |word: u32, from: u32, to: u32| u64::from(word >> from & 1) << to;
    bit(offered.ebx, 7, 20) | bit(offered.ebx, 20, 21) | bit(offered.ecx, 2, 11)
}

/// Enters an address space and goes on at `then`, on the same stack. If the caller uses the stack by its
/// physical address, it moves to the virtual one, which has a guard page below.
///
/// # Safety
///
/// The tables must map all that `then` uses; the stack in use is the start-up stack.
unsafe fn enter(root_frame: u64, then: unsafe extern "C" fn() -> !) -> ! {
    let stack = platform::facts().stack;
    // SAFETY: both addresses of the stack lead to the same memory, and nothing is pushed between the move and
    // the switch. `then` needs nothing of the caller's. EFER.NXE is set: the tables in use so far have
    // NX bits, or the boot code set it.
    unsafe {
        asm!(
            "mov {offset}, rsp",
            "sub {offset}, {bottom}",
            "cmp {offset}, {bytes}",
            "jb 2f",
            "add rsp, {distance}",
            "2:",
            "mov cr3, {root}",
            "and rsp, -16",
            "xor ebp, ebp",
            "call {then}",
            "ud2",
            offset = in(reg) 0u64,
            bottom = in(reg) stack.virtual_start,
            bytes = in(reg) stack.bytes,
            distance = in(reg) stack.virtual_start.wrapping_sub(stack.physical_start),
            root = in(reg) root_frame << FRAME_SHIFT,
            then = in(reg) then,
            options(noreturn),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const FACTS: Facts = Facts::EXAMPLE;

    #[test]
    fn the_address_space_has_guards_and_rights() {
        let read_only = 0x30_0000..0x30_3000;
        let count = tables_for(&FACTS, &read_only);
        assert_eq!(count, 10);
        let mut memory = vec![Table::EMPTY; count as usize];
        let mut tables = Tables::new(&mut memory, 0x500);
        let traps = TrapAreas::below(FACTS.stack.virtual_start, 0x60_0000);
        let parts = [
            (0x10_0000..0x10_1000, Access::Read),
            (0x10_1000..0x10_3000, Access::Execute),
            (0x10_3000..0x10_4000, Access::Write),
        ];
        build(&mut tables, &FACTS, traps, &parts, &read_only).unwrap();
        let at = |address: u64| {
            paging::translate(0x500, address, |physical| {
                memory[(physical >> 12) as usize - 0x500].0[(physical & 0xfff) as usize / 8]
            })
        };
        assert_eq!(at(0), None);
        assert_eq!(at(0x10_0123), Some((0x30_0123, Access::Read)));
        assert_eq!(at(0x10_2fff), Some((0x30_2fff, Access::Execute)));
        assert_eq!(at(0x10_3000), Some((0x30_3000, Access::Write)));
        assert_eq!(at(FACTS.stack.virtual_start), Some((0x31_0000, Access::Write)));
        for stack in [FACTS.stack, traps.exception, traps.interrupt, traps.critical] {
            assert_eq!(at(stack.virtual_start - 1), None, "guard below {stack:x?}");
            assert!(at(stack.virtual_start).is_some() && at(stack.virtual_end() - 1).is_some());
        }
        assert_eq!(at(traps.critical.virtual_end() - 1), Some((0x60_4fff, Access::Write)));
        assert_eq!(at(LINEAR_BASE + 0xff_f000), Some((0xff_f000, Access::Write)));
        for physical in [0x20_0000, 0x2f_ffff, 0x30_3000, 0x31_0000, 0x3f_ffff, 0x40_0000] {
            assert_eq!(at(LINEAR_BASE + physical), Some((physical, Access::Write)));
        }
        for physical in [0x30_0000, 0x30_1000, 0x30_2fff] {
            assert_eq!(at(LINEAR_BASE + physical), Some((physical, Access::Read)), "constants and code");
        }
    }
}
