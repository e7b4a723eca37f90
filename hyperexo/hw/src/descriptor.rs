//! Descriptor tables of one core: segments, task state with the trap stacks, interrupt gates.
//!
//! [`CoreTables`] holds all three, because they live and die together; each core has its own.
//!
//! Every gate switches to a stack of the interrupt stack table (IST): the precompiled `core` uses the red
//! zone below the stack pointer, so that nothing may be pushed onto the interrupted stack.
//!
//! | IST | vectors | |
//! |---|---|---|
//! | 1 | exceptions | |
//! | 2 | interrupts, 32 to 255 | so that an exception in an interrupt handler finds its own stack |
//! | 3 | double fault, NMI, machine check | can come at any instruction, those on the other trap stacks included |

use crate::trap;
use core::arch::asm;
use core::mem::size_of;

/// Selector of the 64-bit code segment, privilege level 0.
pub const CODE_SELECTOR: u16 = 0x08;
/// Selector of the data segment.
pub const DATA_SELECTOR: u16 = 0x10;
/// Selector of the task state segment.
pub const TASK_SELECTOR: u16 = 0x18;
/// Selector of a segment that nobody loads: its limit is the number given to [`CoreTables::load_numbered`].
pub const NUMBER_SELECTOR: u16 = 0x28;

/// Most numbers of cores that [`core_number`] can tell apart.
pub const MAX_NUMBERS: usize = 16;

/// Descriptor of a 64-bit code segment: present, accessed, readable, long mode.
const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
/// Descriptor of a data segment: present, accessed, writable.
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;

/// Addresses just above the trap stacks of one core, multiples of 16.
#[derive(Clone, Copy, Debug)]
pub struct TrapStacks {
    /// Exceptions.
    pub exception: u64,
    /// Interrupts.
    pub interrupt: u64,
    /// Double fault, NMI, machine check.
    pub critical: u64,
}

/// Which entry of the interrupt stack table (1 to 7) a vector uses.
const fn stack_of(vector: usize) -> u8 {
    match vector {
        2 | 8 | 18 => 3,
        0..32 => 1,
        _ => 2,
    }
}

/// The 64-bit task state segment (Intel SDM volume 3, 8.7), in 32-bit words because its quadwords are
/// misaligned.
#[repr(C)]
struct TaskState {
    words: [u32; 26],
}

impl TaskState {
    const fn new() -> TaskState {
        TaskState { words: [0; 26] }
    }

    /// Says that there is no I/O permission map: it would start beyond the limit.
    fn set_no_port_map(&mut self) {
        self.words[25] = (size_of::<TaskState>() as u32) << 16;
    }

    /// Sets entry `index` (1 to 7) of the interrupt stack table.
    fn set_stack(&mut self, index: usize, top: u64) {
        // IST1 starts at byte 36.
        let word = 9 + 2 * (index - 1);
        self.words[word] = top as u32;
        self.words[word + 1] = (top >> 32) as u32;
    }
}

/// An interrupt gate: interrupts stay disabled when it is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

impl Gate {
    const ABSENT: Gate = Gate { low: 0, high: 0 };

    fn interrupt(target: u64, stack: u8) -> Gate {
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
        Gate {
            low: target & 0xffff
                | u64::from(CODE_SELECTOR) << 16
                | u64::from(stack) << 32
                | PRESENT_INTERRUPT_GATE
                | (target >> 16 & 0xffff) << 48,
            high: target >> 32,
        }
    }
}

/// The descriptor of a task state segment: two words of the global descriptor table.
fn task_descriptor(base: u64, limit: u64) -> [u64; 2] {
    const PRESENT_AVAILABLE_TASK: u64 = 0x89 << 40;
    [
        limit & 0xffff | (base & 0xff_ffff) << 16 | PRESENT_AVAILABLE_TASK | (base >> 24 & 0xff) << 56,
        base >> 32,
    ]
}

/// A data segment, byte-granular, with the number of a core for its limit.
fn number_descriptor(number: usize) -> u64 {
    const PRESENT_DATA: u64 = 0x93 << 40;
    PRESENT_DATA | number as u64 & 0xffff
}

/// The number that the calling core gave to [`CoreTables::load_numbered`]; 0 before that, and always less
/// than [`MAX_NUMBERS`]. A few instructions without any effect on memory, in every context, traps included.
#[inline]
pub fn core_number() -> usize {
    let mut number: u32 = 0;
    // SAFETY: LSL reads a descriptor and changes nothing but its target and the zero flag; a selector beyond
    // the table leaves the target as it is.
    unsafe {
        asm!("lsl {number:e}, {selector:e}", number = inout(reg) number, selector = in(reg) u32::from(NUMBER_SELECTOR),
            options(nomem, nostack));
    }
    number as usize % MAX_NUMBERS
}

/// Operand of `lgdt` and `lidt`.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Segments, task state and interrupt gates of one core. About 4.3 KiB.
#[repr(C, align(16))]
pub struct CoreTables {
    gates: [Gate; 256],
    segments: [u64; 6],
    task: TaskState,
}

impl CoreTables {
    /// Tables that [`CoreTables::load`] has yet to fill: zeros, which take no room in the file of an image.
    pub const fn new() -> CoreTables {
        CoreTables { gates: [Gate::ABSENT; 256], segments: [0; 6], task: TaskState::new() }
    }

    /// Fills the tables and makes this core use them: GDT, segment registers (except FS and GS), TR and IDT,
    /// every vector of which leads to [`crate::trap`]. Where the traps go from there is the matter of
    /// [`trap::set_dispatcher`].
    ///
    /// # Safety
    ///
    /// The core runs in 64-bit mode at privilege level 0; each stack is writable memory below its address,
    /// used by nobody else, and stays so. `self` must be mapped at its address as long as the core runs.
    pub unsafe fn load(&'static mut self, stacks: TrapStacks) {
        // SAFETY: by the caller's promise.
        unsafe { self.load_numbered(stacks, 0) };
    }

    /// As [`CoreTables::load`], and gives the core a number below [`MAX_NUMBERS`], which [`core_number`]
    /// tells.
    ///
    /// # Safety
    ///
    /// As [`CoreTables::load`].
    pub unsafe fn load_numbered(&'static mut self, stacks: TrapStacks, number: usize) {
        self.task.set_no_port_map();
        self.task.set_stack(1, stacks.exception);
        self.task.set_stack(2, stacks.interrupt);
        self.task.set_stack(3, stacks.critical);
        let task = task_descriptor((&raw const self.task) as u64, size_of::<TaskState>() as u64 - 1);
        self.segments = [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR, task[0], task[1], number_descriptor(number)];
        for (vector, gate) in self.gates.iter_mut().enumerate() {
            *gate = Gate::interrupt(trap::entry_address(vector as u8), stack_of(vector));
        }
        let segments =
            TablePointer { limit: size_of::<[u64; 6]>() as u16 - 1, base: (&raw const self.segments) as u64 };
        let gates =
            TablePointer { limit: size_of::<[Gate; 256]>() as u16 - 1, base: (&raw const self.gates) as u64 };
        // SAFETY: the tables are filled, and stay valid as `self` is static. The new segments are flat like
        // those of any 64-bit code, so that the far return goes to the next instruction.
        unsafe {
            asm!(
                "lgdt [{segments}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "mov ss, {data:e}",
                "ltr {task:x}",
                "lidt [{gates}]",
                segments = in(reg) &raw const segments,
                gates = in(reg) &raw const gates,
                code = in(reg) u64::from(CODE_SELECTOR),
                data = in(reg) u32::from(DATA_SELECTOR),
                task = in(reg) TASK_SELECTOR,
                scratch = out(reg) _,
            );
        }
    }
}

impl Default for CoreTables {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_spread_the_address() {
        let gate = Gate::interrupt(0x1122_3344_5566_7788, 3);
        assert_eq!(gate, Gate { low: 0x5566_8e03_0008_7788, high: 0x1122_3344 });
    }

    #[test]
    fn task_descriptors_spread_the_base() {
        let [low, high] = task_descriptor(0xaabb_ccdd_1122_3344, 0x67);
        assert_eq!((low, high), (0x1100_8922_3344_0067, 0xaabb_ccdd));
    }

    #[test]
    fn numbers_are_limits() {
        assert_eq!(number_descriptor(0), 0x0000_9300_0000_0000);
        assert_eq!(number_descriptor(7), 0x0000_9300_0000_0007);
        assert_eq!(usize::from(NUMBER_SELECTOR) / 8, 5, "the place in `segments`");
    }

    #[test]
    fn stacks_lie_where_the_processor_looks() {
        assert_eq!(size_of::<TaskState>(), 104);
        let mut task = TaskState::new();
        task.set_stack(1, 0x1_0000_0002);
        task.set_stack(7, 0x3_0000_0004);
        task.set_no_port_map();
        assert_eq!(task.words[9..11], [2, 1]);
        assert_eq!(task.words[21..23], [4, 3]);
        assert_eq!(task.words[25] >> 16, 104);
    }
}
