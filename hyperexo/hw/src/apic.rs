//! The local APIC in xAPIC mode (memory-mapped registers; SDM vol. 3 ch. 12), and the old 8259s, masked.
//!
//! xAPIC because QEMU's TCG and Bochs's older processors offer no other.

use x86::io::outb;
use x86::msr::{IA32_APIC_BASE, rdmsr, wrmsr};

const ID: usize = 0x20;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const TASK_PRIORITY: usize = 0x80;
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const COMMAND_PENDING: u32 = 1 << 12;
const LEVEL_ASSERT: u32 = 1 << 14;
const DELIVER_INIT: u32 = 0b101 << 8;
const DELIVER_STARTUP: u32 = 0b110 << 8;
const TIMER: usize = 0x320;
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const ERROR: usize = 0x370;
const TIMER_INITIAL: usize = 0x380;
const TIMER_CURRENT: usize = 0x390;
const TIMER_DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const GLOBAL_ENABLE: u64 = 1 << 11;
const DIVIDE_BY_16: u32 = 0b0011;

/// Vector that spurious interrupts arrive at. They want no end-of-interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// The local APIC of whichever core uses this value: all have theirs at the same address.
#[derive(Clone, Copy)]
pub struct LocalApic {
    registers: *mut u32,
}

// SAFETY: the address leads every core to its own registers, each access is one volatile load or store, and no method leaves
// them in a state that another would not expect.
unsafe impl Send for LocalApic {}
// SAFETY: as above.
unsafe impl Sync for LocalApic {}

impl LocalApic {
    /// Turns the local APIC on, with its timer and local pins masked, and masks both 8259s.
    ///
    /// # Safety
    ///
    /// Ring 0; the APIC's page is mapped by identity and uncached or emulated; interrupt vectors 0x20–0x2f and
    /// [`SPURIOUS_VECTOR`] have handlers before interrupts are enabled. Every core that uses the value has called this.
    pub unsafe fn enable() -> LocalApic {
        // SAFETY: the architecture's MSR and ports; the caller is in ring 0. The 8259s are moved off the exceptions'
        // vectors before they are masked, because a spurious interrupt can still come out of a masked 8259.
        let apic = unsafe {
            let base = rdmsr(IA32_APIC_BASE);
            wrmsr(IA32_APIC_BASE, base | GLOBAL_ENABLE);
            for (command, vector, wiring) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
                outb(command, 0x11);
                outb(command + 1, vector);
                outb(command + 1, wiring);
                outb(command + 1, 1);
                outb(command + 1, 0xff);
            }
            LocalApic { registers: (base & 0x000f_ffff_ffff_f000) as *mut u32 }
        };
        apic.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
        apic.write(TASK_PRIORITY, 0);
        for local in [TIMER, LINT0, LINT1, ERROR] {
            apic.write(local, MASKED);
        }
        apic.write(TIMER_DIVIDE, DIVIDE_BY_16);
        apic
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `registers` is the mapped APIC page (`enable`), the offset one of its registers.
        unsafe { self.registers.byte_add(offset).read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`.
        unsafe { self.registers.byte_add(offset).write_volatile(value) }
    }

    /// Number of this APIC, the destination of interrupts sent to this core.
    pub fn id(&self) -> u8 {
        (self.read(ID) >> 24) as u8
    }

    /// Says that the interrupt in service has been handled.
    pub fn end_of_interrupt(&self) {
        self.write(END_OF_INTERRUPT, 0);
    }

    /// Sends an interrupt to the core with local APIC number `apic_id`.
    pub fn send(&self, apic_id: u8, vector: u8) {
        self.command(apic_id, LEVEL_ASSERT | u32::from(vector));
    }

    /// Resets the core with local APIC number `apic_id`: it waits for [`LocalApic::send_startup`].
    pub fn send_init(&self, apic_id: u8) {
        self.command(apic_id, LEVEL_ASSERT | DELIVER_INIT);
    }

    /// Starts a core that was reset, in real mode at the beginning of page `page`.
    pub fn send_startup(&self, apic_id: u8, page: u8) {
        self.command(apic_id, LEVEL_ASSERT | DELIVER_STARTUP | u32::from(page));
    }

    fn command(&self, apic_id: u8, low: u32) {
        // Bounded: an APIC that never sends would be broken, and hanging on it would not mend it.
        for _ in 0..1_000_000 {
            if self.read(COMMAND_LOW) & COMMAND_PENDING == 0 {
                break;
            }
        }
        self.write(COMMAND_HIGH, u32::from(apic_id) << 24);
        self.write(COMMAND_LOW, low);
    }

    /// Starts the timer: after `count` steps it raises `vector`, once. 0 stops it.
    pub fn one_shot(&self, vector: u8, count: u32) {
        self.write(TIMER, u32::from(vector));
        self.write(TIMER_INITIAL, count);
    }

    /// Lets the timer count down from its largest value without interrupting, for calibration.
    pub fn run_free(&self) {
        self.write(TIMER, MASKED);
        self.write(TIMER_INITIAL, u32::MAX);
    }

    /// What the timer has left to count.
    pub fn timer_count(&self) -> u32 {
        self.read(TIMER_CURRENT)
    }
}
