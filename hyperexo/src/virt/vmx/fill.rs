//! What a VMCS holds before the guest is entered for the first time: controls, the guest's first state, the
//! state of the core that exits come back to.

use super::exit;
use super::exit::{UNUSABLE, access_rights};
use super::processor::Processor;
use super::vmcs::write;
use crate::virt::state::{
    self, CODE_SELECTOR, CR0_START, CR4_MACHINE_CHECK, CR4_START, Column, DATA_SELECTOR, DR7_RESET,
    EFER_LONG, EFER_NO_EXECUTE, Keeper, PAT_RESET, RFLAGS_INTERRUPT, RFLAGS_RESERVED, allowed, kept,
};
use crate::virt::vcpu::Entry;
use core::arch::asm;
use hyperexo_hw::descriptor;
use x86::dtables::{DescriptorTablePointer, sidt};
use x86::msr::{self, rdmsr};
use x86::vmx::vmcs::{control, guest, host};

/// Bits of CR0 that are not the guest's to change without an exit. Of those that the kernel keeps, the guest
/// sees what it wrote.
pub const CR0_OWNED: u64 = !kept(state::CR0, Column::Vmx, Keeper::Entry);
/// Bits of CR0 that a guest may have.
pub const CR0_ALLOWED: u64 = allowed(state::CR0, Column::Vmx);
/// Bits of CR0 that the kernel keeps, of which the guest sees what it wrote.
pub const CR0_SHOWN: u64 = kept(state::CR0, Column::Vmx, Keeper::Kernel);
/// Bits of CR4 that a guest may have.
pub const CR4_ALLOWED: u64 = allowed(state::CR4, Column::Vmx);
/// Bits of CR4 that the kernel keeps, of which the guest sees what it wrote.
pub const CR4_SHOWN: u64 = kept(state::CR4, Column::Vmx, Keeper::Kernel);
/// Bits of CR4 that are not the guest's to change without an exit.
pub const CR4_OWNED: u64 = !kept(state::CR4, Column::Vmx, Keeper::Entry);

/// Fields that are 0 at the start. A VMCS has no defined contents until they are written (SDM vol. 3
/// §25.11.3).
const ZEROS: [u32; 36] = [
    control::PAGE_FAULT_ERR_CODE_MASK,
    control::PAGE_FAULT_ERR_CODE_MATCH,
    control::CR3_TARGET_COUNT,
    control::VMEXIT_MSR_STORE_COUNT,
    control::VMEXIT_MSR_LOAD_COUNT,
    control::VMENTRY_MSR_LOAD_COUNT,
    control::VMENTRY_INTERRUPTION_INFO_FIELD,
    control::TPR_THRESHOLD,
    control::CR4_READ_SHADOW,
    guest::ES_BASE,
    guest::CS_BASE,
    guest::SS_BASE,
    guest::DS_BASE,
    guest::FS_BASE,
    guest::GS_BASE,
    guest::LDTR_SELECTOR,
    guest::LDTR_BASE,
    guest::LDTR_LIMIT,
    guest::TR_SELECTOR,
    guest::TR_BASE,
    guest::GDTR_BASE,
    guest::GDTR_LIMIT,
    guest::IDTR_BASE,
    guest::IDTR_LIMIT,
    guest::IA32_DEBUGCTL_FULL,
    guest::IA32_SYSENTER_CS,
    guest::IA32_SYSENTER_ESP,
    guest::IA32_SYSENTER_EIP,
    guest::INTERRUPTIBILITY_STATE,
    guest::ACTIVITY_STATE,
    guest::PENDING_DBG_EXCEPTIONS,
    host::FS_SELECTOR,
    host::GS_SELECTOR,
    host::IA32_SYSENTER_CS,
    host::IA32_SYSENTER_ESP,
    host::IA32_SYSENTER_EIP,
];

/// How long a guest may run until it exits in any case.
///
/// Interrupts for the host take the guest out whatever its interrupt flag says; so much for the manual. Bochs
/// 2.7 overlooks one that comes after an entry with the flag clear, until the guest changes the flag. So a
/// guest that is entered like that gets a shorter time: about one slice on Bochs (10 MHz), while on a
/// processor of 3 GHz an exit every 44 µs costs such guests a hundredth or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leash {
    /// Interrupts are noticed.
    Long,
    /// They may not be.
    Short,
}

impl Leash {
    /// For a guest with these flags.
    pub fn of(flags: u64) -> Leash {
        if flags & RFLAGS_INTERRUPT != 0 { Leash::Long } else { Leash::Short }
    }

    /// Initial value of a preemption timer that counts once per `1 << shift` ticks of the TSC.
    pub fn timer_value(self, shift: u8) -> u64 {
        const LONG_TICKS: u64 = 1 << 24;
        const SHORT_TICKS: u64 = 1 << 17;
        let ticks = if self == Leash::Long { LONG_TICKS } else { SHORT_TICKS };
        (ticks >> shift).max(1)
    }
}

/// Writes a field of the current VMCS that does not loosen the guest's confinement.
pub(super) fn set(field: u32, value: u64) {
    // SAFETY: callers pass registers of the guest, events, or values chosen for confinement (here).
    unsafe { write(field, value) };
}

/// Has the next entry deliver an event.
pub(super) fn deliver(event: exit::Event) {
    if event.has_error_code() {
        set(control::VMENTRY_EXCEPTION_ERR_CODE, event.error_code.into());
    }
    set(control::VMENTRY_INTERRUPTION_INFO_FIELD, event.information.into());
}

/// The extended page-table pointer for a nested table with its top in this frame: write-back, four levels
/// (SDM vol. 3 §25.6.11).
pub fn eptp(nested_root: u64) -> u64 {
    nested_root << hyperexo_abi::FRAME_SHIFT | 6 | 3 << 3
}

/// What a new guest is made of.
pub struct Start<'a> {
    /// The processor.
    pub processor: &'a Processor,
    /// The guest's first state.
    pub entry: &'a Entry,
    /// See [`eptp`].
    pub eptp: u64,
    /// The guest's identifier in the TLB.
    pub vpid: u16,
    /// Physical address of the page with the guest's task priority.
    pub task_priority: u64,
    /// Address of the code to which exits go.
    pub landing: u64,
}

impl Start<'_> {
    /// Fills in the current VMCS, but for [`host_state`].
    ///
    /// # Safety
    ///
    /// There is a current VMCS. The nested page table confines the guest; it and the page of the task
    /// priority stay in place as long as the VMCS is used. The
    /// code at `landing` takes exits.
    pub unsafe fn fill(&self) {
        ZEROS.iter().for_each(|field| set(*field, 0));
        self.controls();
        self.guest_state();
    }

    fn controls(&self) {
        let Processor { controls, permissions, .. } = self.processor;
        let ports = (&raw const permissions.ports) as u64;
        for (field, value) in [
            (control::PINBASED_EXEC_CONTROLS, controls.pin.into()),
            (control::PRIMARY_PROCBASED_EXEC_CONTROLS, controls.primary.into()),
            (control::SECONDARY_PROCBASED_EXEC_CONTROLS, controls.secondary.into()),
            (control::VMEXIT_CONTROLS, controls.exit.into()),
            (control::VMENTRY_CONTROLS, controls.entry.into()),
            (control::EXCEPTION_BITMAP, 1 << exit::ALIGNMENT_CHECK | 1 << exit::MACHINE_CHECK),
            (control::IO_BITMAP_A_ADDR_FULL, ports),
            (control::IO_BITMAP_B_ADDR_FULL, ports + 0x1000),
            (control::MSR_BITMAPS_ADDR_FULL, (&raw const permissions.msrs) as u64),
            (control::VIRT_APIC_ADDR_FULL, self.task_priority),
            (control::EPTP_FULL, self.eptp),
            (control::CR0_GUEST_HOST_MASK, CR0_OWNED),
            (control::CR0_READ_SHADOW, CR0_START),
            (control::CR4_GUEST_HOST_MASK, CR4_OWNED),
            (host::RIP, self.landing),
        ] {
            set(field, value);
        }
        if controls.catches_encls() {
            set(control::ENCLS_EXITING_BITMAP_FULL, u64::MAX);
        }
        if controls.uses_vpid() {
            set(control::VPID, self.vpid.into());
        }
    }

    fn guest_state(&self) {
        for (selector, rights, limit) in [
            (guest::ES_SELECTOR, guest::ES_ACCESS_RIGHTS, guest::ES_LIMIT),
            (guest::SS_SELECTOR, guest::SS_ACCESS_RIGHTS, guest::SS_LIMIT),
            (guest::DS_SELECTOR, guest::DS_ACCESS_RIGHTS, guest::DS_LIMIT),
            (guest::FS_SELECTOR, guest::FS_ACCESS_RIGHTS, guest::FS_LIMIT),
            (guest::GS_SELECTOR, guest::GS_ACCESS_RIGHTS, guest::GS_LIMIT),
        ] {
            set(selector, DATA_SELECTOR.into());
            set(rights, access_rights(0xc93).into());
            set(limit, u32::MAX.into());
        }
        for (field, value) in [
            (guest::CS_SELECTOR, CODE_SELECTOR.into()),
            (guest::CS_ACCESS_RIGHTS, access_rights(0xa9b).into()),
            (guest::CS_LIMIT, u32::MAX.into()),
            (guest::LDTR_ACCESS_RIGHTS, UNUSABLE.into()),
            (guest::TR_ACCESS_RIGHTS, access_rights(0x8b).into()),
            (guest::TR_LIMIT, 0x67),
            (guest::CR0, self.processor.cr0.adjust(CR0_START)),
            (guest::CR3, self.entry.cr3),
            (guest::CR4, self.processor.cr4.adjust(CR4_START | CR4_MACHINE_CHECK)),
            (guest::IA32_EFER_FULL, EFER_LONG | EFER_NO_EXECUTE),
            (guest::IA32_PAT_FULL, PAT_RESET),
            (guest::DR7, DR7_RESET),
            (guest::RIP, self.entry.rip),
            (guest::RSP, self.entry.rsp),
            (guest::RFLAGS, RFLAGS_RESERVED),
            // No other VMCS behind this one.
            (guest::LINK_PTR_FULL, u64::MAX),
        ] {
            set(field, value);
        }
    }
}

/// Writes the state that exits give back to the kernel: that of this core.
///
/// # Safety
///
/// There is a current VMCS. `segments` is the loaded segment table; the task register is loaded.
pub unsafe fn host_state(segments: *const u64) {
    let mut interrupts = DescriptorTablePointer::<u64>::default();
    // SAFETY: these store registers' contents, or read registers without effect.
    let (cr0, cr3, cr4) = unsafe {
        sidt(&mut interrupts);
        let (cr0, cr3, cr4): (u64, u64, u64);
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4);
        (cr0, cr3, cr4)
    };
    // SAFETY: the descriptor of the task register is two words of the table.
    let task = unsafe {
        let descriptor = segments.add(usize::from(descriptor::TASK_SELECTOR) / 8);
        [descriptor.read(), descriptor.add(1).read()]
    };
    // SAFETY: registers that every processor with VMX has.
    let read_msr = |register| unsafe { rdmsr(register) };
    for (field, value) in [
        (host::CS_SELECTOR, descriptor::CODE_SELECTOR.into()),
        (host::SS_SELECTOR, descriptor::DATA_SELECTOR.into()),
        (host::DS_SELECTOR, descriptor::DATA_SELECTOR.into()),
        (host::ES_SELECTOR, descriptor::DATA_SELECTOR.into()),
        (host::TR_SELECTOR, descriptor::TASK_SELECTOR.into()),
        (host::TR_BASE, descriptor_base(task)),
        (host::FS_BASE, read_msr(msr::IA32_FS_BASE)),
        (host::GS_BASE, read_msr(msr::IA32_GS_BASE)),
        (host::GDTR_BASE, segments as u64),
        (host::IDTR_BASE, interrupts.base as u64),
        (host::CR0, cr0),
        (host::CR3, cr3),
        (host::CR4, cr4),
        (host::IA32_EFER_FULL, read_msr(msr::IA32_EFER)),
        (host::IA32_PAT_FULL, read_msr(msr::IA32_PAT)),
    ] {
        set(field, value);
    }
}

/// Base address in a descriptor of 16 bytes.
fn descriptor_base([low, high]: [u64; 2]) -> u64 {
    low >> 16 & 0xff_ffff | (low >> 56) << 24 | high << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_a_task_segment_is_put_together() {
        let descriptor = [0x1200_8934_5678_0067, 0xffff_8000];
        assert_eq!(descriptor_base(descriptor), 0xffff_8000_1234_5678);
    }

    #[test]
    fn a_guest_that_masks_interrupts_is_kept_shorter() {
        assert_eq!(Leash::of(RFLAGS_RESERVED), Leash::Short);
        assert_eq!(Leash::of(RFLAGS_RESERVED | RFLAGS_INTERRUPT), Leash::Long);
        assert_eq!((Leash::Short.timer_value(5), Leash::Long.timer_value(0)), (1 << 12, 1 << 24));
        assert_eq!(Leash::Short.timer_value(31), 1, "0 would exit before the first instruction");
    }

    #[test]
    fn the_pointer_to_the_nested_table_is_coded() {
        assert_eq!(eptp(0x1234), 0x123_401e);
    }
}
