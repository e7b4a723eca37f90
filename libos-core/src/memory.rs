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
//! The library builds these tables itself, in frames of its own, and gives the frames of the tables that the kernel
//! started it with to the heap. Everything allocated at run time is used through the linear map, so that the frame
//! of an object on the heap is a matter of subtraction ([`frame_of`]).

use crate::paging::{Access, MapError, Mapping, PageSize, Table, Tables, tables_needed};
use crate::platform::{self, Area, Facts};
use crate::{heap, paging};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT, LINEAR_BASE, Page};
use hyperexo_hw::descriptor::{MAX_NUMBERS, TrapStacks};

const PAGE: u64 = FRAME_BYTES as u64;

/// Pages of the stack for exceptions that can't be handled on the interrupted stack: the report of a panic needs
/// about one.
const EXCEPTION_STACK_PAGES: u64 = 2;
/// Pages of the stack for interrupts that can't be handled on the interrupted stack.
const INTERRUPT_STACK_PAGES: u64 = 1;
/// Pages of the stack for double faults, NMIs and machine checks.
const CRITICAL_STACK_PAGES: u64 = 2;
/// Pages of all trap stacks.
const TRAP_STACK_PAGES: u64 = EXCEPTION_STACK_PAGES + INTERRUPT_STACK_PAGES + CRITICAL_STACK_PAGES;

/// Bytes of the stack of a further virtual CPU.
pub(crate) const CORE_STACK_BYTES: u64 = 16 * PAGE;
/// Where the stacks of further virtual CPUs lie, by number.
const CORE_STACKS: u64 = 0x0000_6000_0000_0000;
/// What an entry of the top table spans.
const CORE_STACKS_SPACING: u64 = 1 << 39;
/// Distance from there to the end of the stack: stacks and guards in one lowest table.
const CORE_STACK_END: u64 = 1 << 20;
/// Tables of such a part of the address space, the top one not counted.
const CORE_STACK_TABLES: u64 = 3;

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

/// Where the trap stacks lie, below a start-up stack: guard pages left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrapAreas {
    exception: Area,
    interrupt: Area,
    critical: Area,
}

impl TrapAreas {
    /// Below the stack that starts at `stack_bottom`, with frames from `physical_start`.
    const fn below(stack_bottom: u64, physical_start: u64) -> TrapAreas {
        const fn area(end: u64, physical_start: u64, pages: u64) -> Area {
            Area { virtual_start: end - pages * PAGE, physical_start, bytes: pages * PAGE }
        }
        let exception = area(stack_bottom - PAGE, physical_start, EXCEPTION_STACK_PAGES);
        let interrupt = area(
            exception.virtual_start - PAGE,
            physical_start + EXCEPTION_STACK_PAGES * PAGE,
            INTERRUPT_STACK_PAGES,
        );
        let critical = area(
            interrupt.virtual_start - PAGE,
            interrupt.physical_start + INTERRUPT_STACK_PAGES * PAGE,
            CRITICAL_STACK_PAGES,
        );
        TrapAreas { exception, interrupt, critical }
    }
}

/// The stack of virtual CPU `number` (not 0), with frames from `physical_start`, and the trap stacks below it, with the
/// frames after those.
fn core_stack(number: usize, physical_start: u64) -> (Area, TrapAreas) {
    let end = CORE_STACKS + number as u64 * CORE_STACKS_SPACING + CORE_STACK_END;
    let stack = Area { virtual_start: end - CORE_STACK_BYTES, physical_start, bytes: CORE_STACK_BYTES };
    (stack, TrapAreas::below(stack.virtual_start, physical_start + CORE_STACK_BYTES))
}

/// The stacks of a further virtual CPU, mapped.
#[derive(Clone, Debug)]
pub(crate) struct CoreStacks {
    /// Where its functions run.
    pub stack: Range<u64>,
    /// Where its traps arrive.
    pub traps: TrapStacks,
}

/// Maps the stacks of virtual CPU `number`: once for each.
///
/// # Errors
/// The platform's answer when there are no frames.
pub(crate) fn map_core_stacks(number: usize) -> Result<CoreStacks, Status> {
    let tables = 1 + CORE_STACK_TABLES;
    let first = acquire_frames(tables + TRAP_STACK_PAGES + CORE_STACK_BYTES / PAGE, 1)?;
    let (stack, traps) = core_stack(number, (first + tables) << FRAME_SHIFT);
    // SAFETY: the frames are ours, fresh, and reached through the linear map; tables hold any bits.
    let memory =
        unsafe { core::slice::from_raw_parts_mut(linear_address(first) as *mut Table, tables as usize) };
    let entry = build_core_stacks(memory, first, stack, traps)
        .unwrap_or_else(|error| panic!("address space of another core: {error:?}"));
    let place =
        linear_address(root_address() >> FRAME_SHIFT) + 8 * paging::root_index(stack.virtual_start) as u64;
    // SAFETY: the word is in the top table in use, which is ours and reached through the linear map. Nothing was mapped
    // there, so that no processor remembers anything.
    unsafe { (*(place as *const AtomicU64)).store(entry, Ordering::Release) };
    // SAFETY: the top table of the part has served; its entry has been copied.
    unsafe { heap::donate(first) };
    Ok(CoreStacks { stack: stack.virtual_start..stack.virtual_end(), traps: tops(traps) })
}

/// Fills tables that map these stacks and nothing else; returns the entry of their top table.
fn build_core_stacks(
    memory: &mut [Table],
    first: u64,
    stack: Area,
    traps: TrapAreas,
) -> Result<u64, MapError> {
    let mut tables = Tables::new(memory, first);
    for area in [stack, traps.exception, traps.interrupt, traps.critical] {
        tables.map(Mapping {
            virtual_start: area.virtual_start,
            physical_start: area.physical_start,
            bytes: area.bytes,
            access: Access::Write,
            size: PageSize::Small,
        })?;
    }
    Ok(memory[0].0[paging::root_index(stack.virtual_start)])
}

fn tops(traps: TrapAreas) -> TrapStacks {
    TrapStacks {
        exception: traps.exception.virtual_end(),
        interrupt: traps.interrupt.virtual_end(),
        critical: traps.critical.virtual_end(),
    }
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

/// What the linear map shows: RAM, around the addresses of device registers, and these.
fn linear_areas(facts: &Facts) -> [Mapping; 3] {
    let end = (facts.memory_end_frame << FRAME_SHIFT).next_multiple_of(paging::LARGE_BYTES);
    let devices = &facts.devices;
    let part = |start: u64, end: u64, access| Mapping {
        virtual_start: LINEAR_BASE + start,
        physical_start: start,
        bytes: end.saturating_sub(start),
        access,
        size: PageSize::Large,
    };
    let low_end = if devices.is_empty() { end } else { end.min(devices.start) };
    [
        part(0, low_end, Access::Write),
        part(devices.start, devices.end, Access::Device),
        part(devices.end.max(low_end), end, Access::Write),
    ]
}

/// The mappings of a part of the linear map: large pages, and where one has to do with frames that are not to be written, small
/// ones.
fn around_read_only(part: Mapping, read_only: &Range<u64>) -> [Mapping; 5] {
    let within = |address: u64| address.clamp(part.physical_start, part.physical_start + part.bytes);
    let borders = [
        part.physical_start,
        within(read_only.start / paging::LARGE_BYTES * paging::LARGE_BYTES),
        within(read_only.start),
        within(read_only.end),
        within(read_only.end.next_multiple_of(paging::LARGE_BYTES)),
        part.physical_start + part.bytes,
    ];
    core::array::from_fn(|at| Mapping {
        virtual_start: LINEAR_BASE + borders[at],
        physical_start: borders[at],
        bytes: borders[at + 1] - borders[at],
        access: if at == 2 { Access::Read } else { part.access },
        size: if (1..=3).contains(&at) { PageSize::Small } else { PageSize::Large },
    })
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

/// The tops of the first virtual CPU's trap stacks.
pub(crate) fn trap_stacks() -> TrapStacks {
    tops(TrapAreas::below(platform::facts().stack.virtual_start, 0))
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
    // SAFETY: the new tables map code and data in use where they are, the stack, and the linear map; their frames are
    // written by nobody from now on.
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
        // SAFETY: the old tables are ours, are not in use any more, and each is visited once and last of its part.
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

/// Turns on, on the calling core, what guards an image against its own mistakes: read-only pages hold for this privilege level
/// too (CR0.WP); and where the processor offers it, pages of user level are neither executed nor touched (SMEP, SMAP), and user
/// level learns nothing of the descriptor tables (UMIP; SDM vol. 3 §2.5).
///
/// # Safety
/// In an address space of ours.
pub(crate) unsafe fn protect() {
    const WRITE_PROTECT: u64 = 1 << 16;
    // SAFETY: nothing that is mapped read-only is written by this library, and it has no pages of user level. Bits of CR4
    // are set only where CPUID offers them.
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

/// Enters an address space and goes on at `then`, on the same stack: at the addresses where it has a guard page below it, if
/// the caller is not there already.
///
/// # Safety
/// The tables must map all that `then` uses; the stack in use is the start-up stack.
unsafe fn enter(root_frame: u64, then: unsafe extern "C" fn() -> !) -> ! {
    let stack = platform::facts().stack;
    // SAFETY: both addresses of the stack lead to the same memory, and between the switch and its move nothing is pushed;
    // `then` needs nothing of the caller's. EFER.NXE is set, as the tables in use so far have the bit, or the boot code set it.
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

/// The physical address behind a virtual one: of the image, of the start-up stack or in the linear map. `None` elsewhere.
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

/// Allocates adjacent frames from the platform, bound read-write; returns the first. They are never given back.
pub(crate) fn acquire_frames(count: u64, alignment: u64) -> Result<u64, Status> {
    let first = platform::current().allocate_frames(count, alignment)?;
    ACQUIRED.fetch_add(count, Ordering::Relaxed);
    Ok(first)
}

/// Frames that this library has allocated since the start: page tables, trap stacks, heap. Those of the image come on top.
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

/// The start-up stack.
pub(crate) fn main_stack() -> Range<u64> {
    let stack = platform::facts().stack;
    stack.virtual_start..stack.virtual_end()
}

/// The stacks of all virtual CPUs that there can be, each with its trap stacks.
fn stacks() -> impl Iterator<Item = (Area, TrapAreas)> {
    let main = platform::facts().stack;
    let first = (main, TrapAreas::below(main.virtual_start, 0));
    core::iter::once(first).chain((1..MAX_NUMBERS).map(|number| core_stack(number, 0)))
}

/// The stack in which an address lies: the start-up stack, that of another virtual CPU, or a trap stack.
pub(crate) fn stack_of(address: u64) -> Option<Range<u64>> {
    stacks()
        .flat_map(|(stack, traps)| [stack, traps.exception, traps.interrupt, traps.critical])
        .map(|area| area.virtual_start..area.virtual_end())
        .find(|range| range.contains(&address))
}

/// Which stack has overflowed if an access to `address` faults: what it is, and its size in bytes.
pub(crate) fn overflowed_stack(address: u64) -> Option<(&'static str, u64)> {
    stacks()
        .enumerate()
        .flat_map(|(number, (stack, traps))| {
            let name = if number == 0 { "start-up stack" } else { "stack of another core" };
            [
                (name, stack),
                ("exception stack", traps.exception),
                ("interrupt stack", traps.interrupt),
                ("critical stack", traps.critical),
            ]
        })
        .find(|(_, area)| (area.virtual_start - PAGE..area.virtual_start).contains(&address))
        .map(|(name, area)| (name, area.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use hyperexo_abi::STACK_TOP;

    const FACTS: Facts = Facts {
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
    fn device_registers_lie_beside_memory() {
        let gigabyte = 1 << 30;
        let parts = |memory_bytes: u64| {
            let facts = Facts {
                memory_end_frame: memory_bytes >> FRAME_SHIFT,
                devices: 3 * gigabyte..4 * gigabyte,
                ..FACTS
            };
            linear_areas(&facts).map(|part| (part.physical_start >> 20, part.bytes >> 20, part.access))
        };
        let devices = (3 << 10, 1 << 10, Access::Device);
        assert_eq!(parts(3 << 20), [(0, 4, Access::Write), devices, (4 << 10, 0, Access::Write)]);
        assert_eq!(
            parts(5 * gigabyte),
            [(0, 3 << 10, Access::Write), devices, (4 << 10, 1 << 10, Access::Write)]
        );
    }

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
    fn the_linear_map_is_whole_wherever_the_image_lies() {
        let [part, ..] = linear_areas(&FACTS);
        let large = paging::LARGE_BYTES;
        for read_only in [
            0..PAGE,
            PAGE..large,
            large..2 * large,
            large - PAGE..large + PAGE,
            8 * large - PAGE..8 * large,
            0..0,
        ] {
            let mappings = around_read_only(part, &read_only);
            let mut next = 0;
            for mapping in mappings {
                assert_eq!((mapping.physical_start, mapping.virtual_start), (next, LINEAR_BASE + next));
                assert!(mapping.bytes.is_multiple_of(mapping.size.bytes()), "{read_only:x?}: {mapping:x?}");
                next += mapping.bytes;
            }
            assert_eq!(next, part.bytes);
            let read: u64 = mappings.iter().filter(|m| m.access == Access::Read).map(|m| m.bytes).sum();
            assert_eq!(read, read_only.end - read_only.start);
            let needed = tables_for(&FACTS, &read_only) - tables_for(&FACTS, &(0..0));
            let small: u64 = mappings.iter().filter(|m| m.size == PageSize::Small).map(|m| m.bytes).sum();
            assert_eq!(needed, small / large);
        }
        // Other parts of the map have nothing to do with it.
        let high = Mapping { physical_start: 32 << 20, virtual_start: LINEAR_BASE + (32 << 20), ..part };
        let mappings = around_read_only(high, &(large..large + PAGE));
        assert_eq!(mappings.iter().filter(|mapping| mapping.bytes > 0).collect::<Vec<_>>(), [&high]);
    }

    #[test]
    fn other_cores_have_stacks_of_their_own() {
        let count = 1 + CORE_STACK_TABLES;
        for number in [1, 2, MAX_NUMBERS - 1] {
            let mut memory = vec![Table::EMPTY; count as usize];
            let (stack, traps) = core_stack(number, 0x70_0000);
            let entry = build_core_stacks(&mut memory, 0x600, stack, traps).unwrap();
            let mut top = Table::EMPTY;
            let slot = paging::root_index(stack.virtual_start);
            top.0[slot] = entry;
            let taken = [0, LINEAR_BASE, STACK_TOP - 1].map(paging::root_index);
            assert!(!taken.contains(&slot), "the entry is nobody else's");
            // The tables' own top table goes back to the heap: from here on it is another one.
            memory[0] = top;
            let at = |address: u64| {
                paging::translate(0x600, address, |physical| {
                    memory[(physical >> 12) as usize - 0x600].0[(physical & 0xfff) as usize / 8]
                })
            };
            assert_eq!(at(stack.virtual_start), Some((0x70_0000, Access::Write)));
            assert_eq!(at(stack.virtual_end()), None);
            for area in [stack, traps.exception, traps.interrupt, traps.critical] {
                assert_eq!(at(area.virtual_start - 1), None, "guard below {area:x?}");
                assert_eq!(at(area.virtual_end() - 1).map(|(_, access)| access), Some(Access::Write));
            }
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
