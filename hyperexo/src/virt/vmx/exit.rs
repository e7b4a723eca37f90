//! Exit reasons, and what goes in and out of a VMCS in coded form: interruption information, qualifications,
//! access rights (SDM vol. 3 §25.8.3, §25.9, §28.2, appendix C).
#![forbid(unsafe_code)]

use crate::virt::vcpu::{Access, Exception, Registers};

/// Basic exit reasons (appendix C).
pub mod reason {
    #![allow(missing_docs)] // the names are those of the manual
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INIT: u32 = 3;
    pub const STARTUP: u32 = 4;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const RDPMC: u32 = 15;
    pub const RSM: u32 = 17;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CONTROL_REGISTER: u32 = 28;
    pub const MOV_DR: u32 = 29;
    pub const PORT: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const INVALID_GUEST_STATE: u32 = 33;
    pub const MSR_LOADING: u32 = 34;
    pub const MWAIT: u32 = 36;
    pub const MONITOR: u32 = 39;
    pub const MACHINE_CHECK_AT_ENTRY: u32 = 41;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const VMFUNC: u32 = 59;
    pub const ENCLS: u32 = 60;
}

/// The exit reason's bit that says that the guest was not entered.
pub const ENTRY_FAILURE: u32 = 1 << 31;

/// Whether an exit reason stands for an instruction for which the processor would raise #UD without VMX.
pub fn is_undefined(reason: u32) -> bool {
    matches!(
        reason,
        reason::GETSEC | reason::RSM | reason::VMCLEAR
            ..=reason::VMXON
                | reason::MWAIT
                | reason::MONITOR
                | reason::INVEPT
                | reason::INVVPID
                | reason::VMFUNC
                | reason::ENCLS
    )
}

/// Whether an exit reason stands for an instruction that wants more privilege than a guest has.
pub fn is_privileged(reason: u32) -> bool {
    matches!(reason, reason::TASK_SWITCH | reason::INVD | reason::RDPMC | reason::MOV_DR | reason::WBINVD)
}

/// Blocking by `STI` and by `MOV SS`, in a guest's interruptibility state.
pub const BLOCKED: u64 = 0b11;

/// What the guest wanted, from the qualification of an EPT violation (table 28-7).
pub fn access(qualification: u64) -> Access {
    match (qualification & 1 << 2 != 0, qualification & 1 << 1 != 0) {
        (true, _) => Access::Execute,
        (_, true) => Access::Write,
        _ => Access::Read,
    }
}

/// Whether the guest's linear address counts, from the qualification of an EPT violation.
pub fn has_linear(qualification: u64) -> bool {
    qualification & 1 << 7 != 0
}

/// Whether an exit came while an event was being delivered, from its IDT-vectoring information (§28.2.4).
pub fn in_delivery(vectoring: u32) -> bool {
    vectoring & VALID != 0
}

/// An access to a control register, from the exit's qualification (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAccess {
    /// `MOV` to this control register from this general register.
    Load {
        /// Number of the control register.
        control: u8,
        /// Number of the general register.
        general: u8,
    },
    /// Any other.
    Other,
}

/// Decodes the qualification of a control-register access.
pub fn control_access(qualification: u64) -> ControlAccess {
    if qualification >> 4 & 3 != 0 {
        return ControlAccess::Other;
    }
    ControlAccess::Load { control: qualification as u8 & 0xf, general: (qualification >> 8) as u8 & 0xf }
}

/// A general register by its number in instructions. The stack pointer (`rsp`) is not among `registers`.
pub fn general(registers: &Registers, number: u8, rsp: u64) -> u64 {
    match number {
        0 => registers.rax,
        1 => registers.rcx,
        2 => registers.rdx,
        3 => registers.rbx,
        4 => rsp,
        5 => registers.rbp,
        6 => registers.rsi,
        7 => registers.rdi,
        8 => registers.r8,
        9 => registers.r9,
        10 => registers.r10,
        11 => registers.r11,
        12 => registers.r12,
        13 => registers.r13,
        14 => registers.r14,
        _ => registers.r15,
    }
}

const VALID: u32 = 1 << 31;
const DELIVERS_ERROR_CODE: u32 = 1 << 11;
const KIND_SHIFT: u32 = 8;
const KIND_EXTERNAL: u32 = 0;
/// Vector of the alignment check, whose delivery a guest can arrange to raise the next one for ever, with no
/// interrupt in between (CVE-2015-5307): it exits.
pub const ALIGNMENT_CHECK: u8 = 17;
/// Vector of the machine check, which is the machine's: it exits.
pub const MACHINE_CHECK: u8 = 18;

const KIND_NMI: u32 = 2;
const KIND_EXCEPTION: u32 = 3;

/// An event that an entry delivers (§25.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The VM-entry interruption-information field.
    pub information: u32,
    /// The error code, if the event has one.
    pub error_code: u32,
}

impl Event {
    /// An exception that the kernel raises.
    pub fn exception(exception: Exception) -> Event {
        let vector = match exception {
            Exception::InvalidOpcode => 6,
            Exception::GeneralProtection => 13 | DELIVERS_ERROR_CODE,
            Exception::AlignmentCheck => 17 | DELIVERS_ERROR_CODE,
            Exception::Virtualization => u32::from(hyperexo_abi::fault::VECTOR),
        };
        Event { information: VALID | KIND_EXCEPTION << KIND_SHIFT | vector, error_code: 0 }
    }

    /// An interrupt.
    pub fn interrupt(vector: u8) -> Event {
        Event { information: VALID | KIND_EXTERNAL << KIND_SHIFT | u32::from(vector), error_code: 0 }
    }

    /// The event whose delivery an exit interrupted (§28.2.4), unless executing its instruction again raises
    /// it again.
    pub fn interrupted(vectoring: u32, error_code: u32) -> Option<Event> {
        const MEANINGFUL: u32 = VALID | DELIVERS_ERROR_CODE | 7 << KIND_SHIFT | 0xff;
        let kind = vectoring >> KIND_SHIFT & 7;
        let again = matches!(kind, KIND_EXTERNAL | KIND_NMI | KIND_EXCEPTION);
        (vectoring & VALID != 0 && again).then_some(Event { information: vectoring & MEANINGFUL, error_code })
    }

    /// Whether the error code counts.
    pub fn has_error_code(self) -> bool {
        self.information & DELIVERS_ERROR_CODE != 0
    }
}

/// Whether the interruption information of an exit is that of a non-maskable interrupt.
pub fn is_nmi(information: u32) -> bool {
    information >> KIND_SHIFT & 7 == KIND_NMI
}

/// Access rights of a segment register that can't be used (§25.4.1).
pub const UNUSABLE: u32 = 1 << 16;

/// Access rights as VMX wants them, from a descriptor's attributes in AMD's packed form.
pub fn access_rights(attributes: u16) -> u32 {
    u32::from(attributes & 0xff) | u32::from(attributes & 0xf00) << 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_coded_as_the_manual_says() {
        assert_eq!(Event::exception(Exception::InvalidOpcode).information, 0x8000_0306);
        let protection = Event::exception(Exception::GeneralProtection);
        assert_eq!((protection.information, protection.has_error_code()), (0x8000_0b0d, true));
        assert_eq!(Event::interrupt(0x40).information, 0x8000_0040);
    }

    #[test]
    fn interrupted_events_come_again_unless_their_instruction_does() {
        let fault = Event { information: 0x8000_0b0e, error_code: 2 };
        // Bit 12 (NMI unblocking) means nothing at an entry and must be 0 there.
        assert_eq!(Event::interrupted(0x8000_1b0e, 2), Some(fault));
        assert_eq!(Event::interrupted(0x8000_0040, 0), Some(Event::interrupt(0x40)));
        assert_eq!(Event::interrupted(0x8000_0202, 0).map(|event| event.information), Some(0x8000_0202));
        for software in [0x8000_0480, 0x8000_0501, 0x8000_0603] {
            assert_eq!(Event::interrupted(software, 0), None, "{software:#x}");
        }
        assert_eq!(Event::interrupted(0x0000_0b0e, 2), None, "not valid");
    }

    #[test]
    fn reasons_of_instructions_are_told_apart() {
        assert!((19..=27).all(is_undefined) && !is_undefined(reason::VMCALL) && !is_undefined(28));
        assert!(is_privileged(reason::MOV_DR) && !is_privileged(reason::PORT));
        assert!((0..64).all(|reason| !is_undefined(reason) || !is_privileged(reason)));
    }

    #[test]
    fn qualifications_are_read() {
        assert_eq!(
            [access(0x181), access(0x182), access(0x184)],
            [Access::Read, Access::Write, Access::Execute]
        );
        assert_eq!(access(0x183), Access::Write, "read and write");
        assert_eq!(control_access(0x304), ControlAccess::Load { control: 4, general: 3 });
        assert_eq!(control_access(0x014), ControlAccess::Other, "mov from");
        assert_eq!(control_access(0x030), ControlAccess::Other, "lmsw");
    }

    #[test]
    fn registers_have_the_numbers_of_instructions() {
        let registers = Registers { rcx: 1, rbx: 3, rdi: 7, r15: 15, ..Registers::default() };
        for number in [1, 3, 7, 15] {
            assert_eq!(general(&registers, number, 99), number.into());
        }
        assert_eq!(general(&registers, 4, 99), 99);
    }

    #[test]
    fn access_rights_leave_room_for_the_limit() {
        assert_eq!(access_rights(0xa9b), 0xa09b);
        assert_eq!(access_rights(0xc93), 0xc093);
        assert_eq!(access_rights(0x8b), 0x8b);
    }
}
