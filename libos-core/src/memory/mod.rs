//! The address space of a unikernel, and the frames it owns.
//!
//! ```text
//! 0                       nothing: null pointers fault
//! image                   constants R, code RX, data RW: nothing is writable and executable
//!   ...
//! STACK_TOP - stack       guard page | critical trap stack | guard | interrupt | guard | exception | guard | stack
//! STACK_TOP
//! CORE_STACKS             for each further virtual CPU 512 GiB, an entry of the top table: its stack and trap stacks, as above
//! LINEAR_BASE + physical  all RAM, RW, not executable, in 2 MiB pages; the frames of constants and code R, in 4 KiB pages
//! ```
//!
//! The library builds these tables itself, in frames of its own, and gives the frames of the tables that the
//! kernel started it with to the heap. Everything allocated at run time is used through the linear map, so
//! that the frame of an object on the heap is a matter of subtraction ([`frame_of`]).

mod linear;
mod stacks;

pub(crate) use stacks::{
    CORE_STACK_BYTES, CoreStacks, main_stack, map_core_stacks, overflowed_stack, stack_of, trap_stacks,
};

use crate::paging::{Access, MapError, Mapping, PageSize, Table, Tables, tables_needed};
use crate::platform::{self, Area, Facts};
use crate::{heap, paging};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, Page};
use linear::{around_read_only, linear_areas};
use stacks::{TRAP_STACK_PAGES, TrapAreas};

const PAGE: u64 = FRAME_BYTES as u64;

/// Frames acquired at run time, heap and tables.
static ACQUIRED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    // Borders of the image, from the linker script. Only their addresses mean anything.
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

/// The part of the image that only its boot code uses: page tables and a stack.
pub(crate) fn boot_area() -> Range<u64> {
    &raw const hx_boot_start as u64..&raw const hx_data_end as u64
}

/// Addresses of the image's code.
pub(crate) fn text() -> Range<u64> {
    &raw const hx_text_start as u64..&raw const hx_text_end as u64
}

/// Addresses of the image's constants; its code follows.
pub(crate) fn constants() -> Range<u64> {
    &raw const hx_rodata_start as u64..&raw const hx_rodata_end as u64
}

/// Tables needed for the address space of an image, of which these physical addresses are not written.
fn tables_for(facts: &Facts, read_only: &Range<u64>) -> u64 {
    let lowest = TrapAreas::below(facts.stack.virtual_start, 0).critical.virtual_start;
    let large_pages = read_only.end.div_ceil(paging::LARGE_BYTES) - read_only.start / paging::LARGE_BYTES;
    1 + tables_needed(facts.image.virtual_start, facts.image.bytes, PageSize::Small)
        + tables_needed(lowest, facts.stack.virtual_end() - lowest, PageSize::Small)
        + linear_areas(facts)
            .iter()
            .map(|part| tables_needed(part.virtual_start, part.bytes, part.size))
            .sum::<u64>()
        // Large pages that are divided.
        + large_pages
}

/// Physical addresses of the image's constants and code, which nobody writes, by whatever mapping.
fn unwritten(facts: &Facts) -> Range<u64> {
    let physical = |address: u64| facts.image.physical_start + (address - facts.image.virtual_start);
    physical(constants().start)..physical(text().end)
}

/// Fills the tables of an image whose parts have the given borders.
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
/// To be called once, at the start, on the start-up stack, with the linear map in place.
///
/// # Panics
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
    let parts = [
        (constants(), Access::Read),
        (text(), Access::Execute),
        (&raw const hx_data_start as u64..&raw const hx_boot_start as u64, Access::Write),
    ];
    build(&mut tables, facts, traps, &parts, &read_only)
        .unwrap_or_else(|error| panic!("address space: {error:?}"));
    START_ROOT.store(root_address(), Ordering::Relaxed);
    // SAFETY: the new tables map code and data in use where they are, the stack, and the linear map; their
    // frames are written by nobody from now on.
    unsafe { enter(tables.root_frame(), then) }
}

/// Protects what may not be written, and gives what only the start needed to the heap.
///
/// # Safety
/// To be called once, where [`start`] goes on.
pub(crate) unsafe fn settle() {
    let facts = platform::facts();
    // SAFETY: the address space is ours. By the platform's word nothing uses the frames, which are ours too.
    unsafe {
        protect();
        facts.unused_frames.clone().for_each(|frame| heap::donate(frame));
    }
    if facts.keeps_start_tables {
        return;
    }
    let read = |physical: u64| {
        // SAFETY: only words of the old tables are read, which the linear map reaches.
        unsafe { ((LINEAR_BASE + physical) as *const u64).read() }
    };
    let old = START_ROOT.load(Ordering::Relaxed) >> FRAME_SHIFT;
    paging::visit_tables(old, &read, &mut |frame| {
        // SAFETY: the old tables are ours, are not in use any more, and each is visited once and last of its
        // part.
        unsafe { heap::donate(frame) }
    });
}

/// Physical address of the top page table in use.
pub(crate) fn root_address() -> u64 {
    let root: u64;
    // SAFETY: reading CR3 at privilege level 0 has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root & 0x000f_ffff_ffff_f000
}

/// Turns on, on the calling core, what guards an image against its own mistakes: read-only pages hold for
/// this privilege level too (CR0.WP); and where the processor offers it, pages of user level are neither
/// executed nor touched (SMEP, SMAP), and user level learns nothing of the descriptor tables (UMIP; SDM vol.
/// 3 §2.5).
///
/// # Safety
/// In an address space of ours.
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

/// Enters an address space and goes on at `then`, on the same stack: at the addresses where it has a guard
/// page below it, if the caller is not there already.
///
/// # Safety
/// The tables must map all that `then` uses; the stack in use is the start-up stack.
unsafe fn enter(root_frame: u64, then: unsafe extern "C" fn() -> !) -> ! {
    let stack = platform::facts().stack;
    // SAFETY: both addresses of the stack lead to the same memory, and between the switch and its move
    // nothing is pushed; `then` needs nothing of the caller's. EFER.NXE is set, as the tables in use so far
    // have the bit, or the boot code set it.
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

/// The address at which the linear map shows a frame.
pub fn linear_address(frame: u64) -> u64 {
    LINEAR_BASE + (frame << FRAME_SHIFT)
}

/// The physical address behind a virtual one: of the image, of the start-up stack or in the linear map.
/// `None` elsewhere.
pub fn physical_address(address: u64) -> Option<u64> {
    physical_in(platform::facts(), address)
}

fn physical_in(facts: &Facts, address: u64) -> Option<u64> {
    let linear =
        Area { virtual_start: LINEAR_BASE, physical_start: 0, bytes: facts.memory_end_frame << FRAME_SHIFT };
    [facts.image, facts.stack, linear].iter().find_map(|area| area.physical(address))
}

/// The frame that a page of the heap fills. `None` if the page is not in the linear map.
pub fn frame_of(page: &Page) -> Option<u64> {
    let offset = (&raw const *page as u64).checked_sub(LINEAR_BASE)?;
    let frame = offset >> FRAME_SHIFT;
    (frame < platform::facts().memory_end_frame).then_some(frame)
}

/// Allocates adjacent frames from the platform, bound read-write; returns the first. They are never given
/// back.
pub(crate) fn acquire_frames(count: u64, alignment: u64) -> Result<u64, Status> {
    let first = platform::current().allocate_frames(count, alignment)?;
    ACQUIRED.fetch_add(count, Ordering::Relaxed);
    Ok(first)
}

/// Frames that this library has allocated since the start: page tables, trap stacks, heap. Those of the image
/// come on top.
pub fn acquired_frames() -> u64 {
    ACQUIRED.load(Ordering::Relaxed)
}

/// Frames that the unikernel may own, those of its image included.
pub fn quota_frames() -> u64 {
    platform::facts().quota_frames
}

/// Frames of the machine that belong to nobody.
pub fn free_frames() -> u64 {
    platform::current().free_frames()
}

/// Frames of the image: code, data, start-up stack.
pub fn image_frames() -> u64 {
    let facts = platform::facts();
    // A stack of the image is not counted twice.
    let stack = if facts.image.holds(facts.stack) { 0 } else { facts.stack.bytes };
    (facts.image.bytes + stack) >> FRAME_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use hyperexo_abi::STACK_TOP;

    pub const FACTS: Facts = Facts {
        name: "test",
        command_line: "",
        tsc_hz: 1,
        boot_tsc: 0,
        memory_end_frame: 4096,
        quota_frames: 64,
        image: Area { virtual_start: 0x10_0000, physical_start: 0x30_0000, bytes: 0x4000 },
        stack: Area { virtual_start: STACK_TOP - 0x1_0000, physical_start: 0x31_0000, bytes: 0x1_0000 },
        devices: 0..0,
        keeps_start_tables: false,
        unused_frames: 0..0,
    };

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

    #[test]
    fn physical_addresses() {
        assert_eq!(physical_in(&FACTS, 0x10_0010), Some(0x30_0010));
        assert_eq!(physical_in(&FACTS, STACK_TOP - 1), Some(0x31_ffff));
        assert_eq!(physical_in(&FACTS, LINEAR_BASE + 77), Some(77));
        assert_eq!(physical_in(&FACTS, LINEAR_BASE + (16 << 20)), None);
        assert_eq!(physical_in(&FACTS, 0), None);
        assert_eq!(physical_in(&FACTS, STACK_TOP), None);
    }
}
