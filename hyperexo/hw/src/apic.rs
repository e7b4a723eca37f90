//! The local APIC (SDM vol. 3 ch. 12), and the old 8259s, masked.
//!
//! In xAPIC mode its registers are in memory, which every processor offers; in x2APIC mode they are
//! model-specific registers, which cost a virtual machine less. QEMU's TCG and Bochs's older processors offer
//! the first only.

use crate::linear;
use core::arch::x86_64::__cpuid;
use x86::io::outb;
use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, rdmsr, wrmsr};

const ID: usize = 0x20;
const END_OF_INTERRUPT: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const TASK_PRIORITY: usize = 0x80;
const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const COMMAND_PENDING: u32 = 1 << 12;
const LEVEL_ASSERT: u32 = 1 << 14;
const DELIVER_INIT: u32 = 0b101 << 8;
const DELIVER_NMI: u32 = 0b100 << 8;
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
const X2APIC_ENABLE: u64 = 1 << 10;
const DIVIDE_BY_16: u32 = 0b0011;
/// Bits 17–18 of the timer's entry: it fires when the TSC reaches a value.
const TSC_DEADLINE: u32 = 0b10 << 17;
/// Register of x2APIC mode for offset 0 of xAPIC mode; 16 bytes there are one number here.
const X2APIC_BASE: u32 = 0x800;
/// CPUID leaf 1, ECX: x2APIC mode is offered.
const CPUID_X2APIC: u32 = 1 << 21;
/// CPUID leaf 1, ECX: the timer can wait for a value of the TSC.
const CPUID_TSC_DEADLINE: u32 = 1 << 24;

/// Vector that spurious interrupts arrive at. They want no end-of-interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// The local APIC of whichever core uses this value: all have theirs at the same address.
#[derive(Clone, Copy)]
pub struct LocalApic {
    registers: Registers,
}

/// How registers are reached.
#[derive(Clone, Copy)]
enum Registers {
    /// xAPIC: in memory.
    Memory(*mut u32),
    /// x2APIC: model-specific registers.
    Model,
}

// SAFETY: address and numbers lead every core to its own registers, each access is one load or store, and no
// method leaves them in a state that another would not expect.
unsafe impl Send for LocalApic {}
// SAFETY: as above.
unsafe impl Sync for LocalApic {}

impl LocalApic {
    /// Turns the local APIC on in xAPIC mode, with its timer and local pins masked, and masks both 8259s.
    ///
    /// # Safety
    ///
    /// Ring 0; the APIC's page is mapped ([`crate::linear`]) and uncached or emulated; interrupt vectors
    /// 0x20–0x2f and [`SPURIOUS_VECTOR`] have handlers before interrupts are enabled. Every core that uses
    /// the value has called this.
    pub unsafe fn enable() -> LocalApic {
        // SAFETY: the architecture's MSR; the caller is in ring 0.
        let registers = unsafe {
            let base = rdmsr(IA32_APIC_BASE);
            wrmsr(IA32_APIC_BASE, base | GLOBAL_ENABLE);
            Registers::Memory(linear::pointer(base & 0x000f_ffff_ffff_f000))
        };
        // SAFETY: passed on to the caller.
        unsafe { LocalApic { registers }.start() }
    }

    /// As [`LocalApic::enable`], but in x2APIC mode where that is offered. All cores must decide alike.
    ///
    /// # Safety
    ///
    /// As [`LocalApic::enable`].
    pub unsafe fn enable_best() -> LocalApic {
        if __cpuid(1).ecx & CPUID_X2APIC == 0 {
            // SAFETY: passed on to the caller.
            return unsafe { LocalApic::enable() };
        }
        // SAFETY: the processor offers the mode; the way from off leads through xAPIC mode (SDM vol. 3
        // §12.12.5). The rest is passed on to the caller.
        unsafe {
            let base = rdmsr(IA32_APIC_BASE) | GLOBAL_ENABLE;
            wrmsr(IA32_APIC_BASE, base);
            wrmsr(IA32_APIC_BASE, base | X2APIC_ENABLE);
            LocalApic { registers: Registers::Model }.start()
        }
    }

    /// Brings registers into a known state, and masks both 8259s.
    ///
    /// # Safety
    ///
    /// As [`LocalApic::enable`]; the APIC is on.
    unsafe fn start(self) -> LocalApic {
        // SAFETY: the architecture's ports; the caller is in ring 0. The 8259s are moved off the exceptions'
        // vectors before they are masked, because a spurious interrupt can still come out of a masked 8259.
        unsafe {
            for (command, vector, wiring) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
                outb(command, 0x11);
                outb(command + 1, vector);
                outb(command + 1, wiring);
                outb(command + 1, 1);
                outb(command + 1, 0xff);
            }
        }
        self.write(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
        self.write(TASK_PRIORITY, 0);
        for local in [TIMER, LINT0, LINT1, ERROR] {
            self.write(local, MASKED);
        }
        self.write(TIMER_DIVIDE, DIVIDE_BY_16);
        self
    }

    /// Has the calling core take an NMI from the pin where machines have it (LINT1): a watchdog, or an
    /// operator who wants to know what a machine is at that answers no more.
    ///
    /// # Safety
    ///
    /// The vector of NMIs has a handler, on a stack of its own.
    pub unsafe fn accept_nmi(&self) {
        self.write(LINT1, DELIVER_NMI);
    }

    fn read(&self, offset: usize) -> u32 {
        match self.registers {
            // SAFETY: the mapped APIC page (`enable`), the offset one of its registers.
            Registers::Memory(start) => unsafe { start.byte_add(offset).read_volatile() },
            // SAFETY: the APIC is in x2APIC mode, and `offset` one of its registers.
            Registers::Model => unsafe { rdmsr(X2APIC_BASE + (offset >> 4) as u32) as u32 },
        }
    }

    fn write(&self, offset: usize, value: u32) {
        match self.registers {
            // SAFETY: as in `read`.
            Registers::Memory(start) => unsafe { start.byte_add(offset).write_volatile(value) },
            // SAFETY: as in `read`.
            Registers::Model => unsafe { wrmsr(X2APIC_BASE + (offset >> 4) as u32, value.into()) },
        }
    }

    /// Number of this APIC, the destination of interrupts sent to this core.
    pub fn id(&self) -> u8 {
        match self.registers {
            Registers::Memory(_) => (self.read(ID) >> 24) as u8,
            // Numbers above 255 belong to machines larger than any that is supported.
            Registers::Model => self.read(ID) as u8,
        }
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
        if let Registers::Model = self.registers {
            let command = u64::from(apic_id) << 32 | u64::from(low);
            // SAFETY: as in `read`; both halves are one register in this mode, and the APIC is never busy.
            return unsafe { wrmsr(X2APIC_BASE + (COMMAND_LOW >> 4) as u32, command) };
        }
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

    /// Whether the timer can wait for a value of the TSC ([`LocalApic::at_tick`]).
    pub fn has_tsc_deadline() -> bool {
        __cpuid(1).ecx & CPUID_TSC_DEADLINE != 0
    }

    /// Has the timer raise `vector`, once, when the TSC reaches `tick`: at once if it has; never if it is 0.
    ///
    /// # Safety
    ///
    /// The processor has it ([`LocalApic::has_tsc_deadline`]).
    pub unsafe fn at_tick(&self, vector: u8, tick: u64) {
        self.write(TIMER, TSC_DEADLINE | u32::from(vector));
        // SAFETY: the register is there (caller). The fence orders the two writes where the first is one to
        // memory (SDM vol. 3 §12.5.4.1).
        unsafe {
            core::arch::x86_64::_mm_mfence();
            wrmsr(IA32_TSC_DEADLINE, tick);
        }
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
