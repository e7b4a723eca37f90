//! The stacks of the virtual CPUs, with guard pages between them.

use super::heap;
use super::paging::{self, Access, MapError, Mapping, PageSize, Table, Tables};
use super::physical::{acquire_frames, linear_address, root_address};
use super::thread_stacks::thread_stack_of;
use crate::platform::{self, Area};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::{FRAME_BYTES, FRAME_SHIFT};
use hyperexo_hw::descriptor::{MAX_NUMBERS, TrapStacks};

const PAGE: u64 = FRAME_BYTES as u64;

/// Pages of the stack for exceptions that can't be handled on the interrupted stack: the report of a panic
/// needs about one.
const EXCEPTION_STACK_PAGES: u64 = 2;
/// Pages of the stack for interrupts that can't be handled on the interrupted stack.
const INTERRUPT_STACK_PAGES: u64 = 1;
/// Pages of the stack for double faults, NMIs and machine checks.
const CRITICAL_STACK_PAGES: u64 = 2;
/// Pages of all trap stacks.
pub(super) const TRAP_STACK_PAGES: u64 = EXCEPTION_STACK_PAGES + INTERRUPT_STACK_PAGES + CRITICAL_STACK_PAGES;

/// Bytes of the stack of a further virtual CPU.
pub(crate) const CORE_STACK_BYTES: u64 = 16 * PAGE;
/// Where the stacks of further virtual CPUs lie, by number.
const CORE_STACKS: u64 = 0x0000_6000_0000_0000;
/// Bytes that an entry of the top table maps.
const CORE_STACKS_SPACING: u64 = 1 << 39;
/// Distance from the start of such a part to the end of its stack. One lowest table maps stacks and guards.
const CORE_STACK_END: u64 = 1 << 20;
/// Tables that map such a part, the top one not counted.
const CORE_STACK_TABLES: u64 = 3;

/// Where the trap stacks lie, below a stack. The pages between them are guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrapAreas {
    pub exception: Area,
    pub interrupt: Area,
    pub critical: Area,
}

impl TrapAreas {
    /// Trap stacks below the stack that starts at `stack_bottom`, with frames from `physical_start`.
    pub const fn below(stack_bottom: u64, physical_start: u64) -> TrapAreas {
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

/// The stack of virtual CPU `number` (not 0) and its trap stacks. Their frames begin at `physical_start`, the
/// stack's first.
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

/// Maps the stacks of virtual CPU `number`. Called once for each.
///
/// # Errors
///
/// The platform's answer if there are no frames.
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
    // SAFETY: the word is in the top table in use, which is ours and reached through the linear map. Nothing
    // was mapped there, so no processor has a translation cached.
    unsafe { (*(place as *const AtomicU64)).store(entry, Ordering::Release) };
    // SAFETY: the entry of the part's top table has been copied, so nothing uses that table any more.
    unsafe { heap::donate(first) };
    Ok(CoreStacks { stack: stack.virtual_start..stack.virtual_end(), traps: tops(traps) })
}

/// Fills tables that map these stacks and nothing else. Returns the entry of their top table.
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

/// The tops of the first virtual CPU's trap stacks.
pub(crate) fn trap_stacks() -> TrapStacks {
    tops(TrapAreas::below(platform::facts().stack.virtual_start, 0))
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

/// The stack in which an address lies, of any virtual CPU, trap stacks included.
pub(crate) fn stack_of(address: u64) -> Option<Range<u64>> {
    stacks()
        .flat_map(|(stack, traps)| [stack, traps.exception, traps.interrupt, traps.critical])
        .map(|area| area.virtual_start..area.virtual_end())
        .find(|range| range.contains(&address))
        .or_else(|| thread_stack_of(address).filter(|range| range.contains(&address)))
}

/// The stack that has overflowed if an access to `address` faults: what it is, and its size in bytes.
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
        .or_else(|| {
            // All below it in its slot is its guard.
            let stack = thread_stack_of(address).filter(|stack| address < stack.start)?;
            Some(("stack", stack.end - stack.start))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use hyperexo_abi::{LINEAR_BASE, STACK_TOP};

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
            // Their own top table went back to the heap; the entry is in another one from here on.
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
}
