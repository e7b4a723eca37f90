//! A virtual CPU on VMX.
//!
//! Its VMCS is *active* on at most one core: from the first [`Vcpu::run`] there until [`Vcpu::leave_core`]. What entries and
//! exits do not switch (five MSRs, CR2) moves at those two moments only, so that a hypercall does not pay for it.
//! Everything that the kernel asks or changes in between goes to the current VMCS, on that core.

use super::exit::{self, ControlAccess, ENTRY_FAILURE, Event, UNUSABLE, access_rights, reason};
use super::switch::{Entered, Switch, enter, landing};
use super::vmcs::{self, Region, read, write};
use super::{CR0_CACHE_DISABLE, CR0_NOT_WRITE_THROUGH, CR4_VMX, Processor, Vmx, inconsistent};
use crate::log;
use crate::virt::state::{
    CODE_SELECTOR, CR0_START, CR4_OSXSAVE, CR4_START, DATA_SELECTOR, DR7_RESET, EFER_GUEST, EFER_LONG,
    EFER_NO_EXECUTE, FxState, PAT_RESET, RFLAGS_INTERRUPT, RFLAGS_RESERVED,
};
use crate::virt::{Entry, Exception, Registers, Vcpu, VmExit};
use alloc::boxed::Box;
use core::arch::asm;
use hyperexo_hw::descriptor;
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::msr::{self, rdmsr, wrmsr};
use x86::vmx::vmcs::control::PrimaryControls;
use x86::vmx::vmcs::{control, guest, host, ro};
use zerocopy::FromZeros;

/// MSRs of a guest that entries and exits leave alone: STAR, LSTAR, CSTAR, SFMASK, kernel GS base. The kernel uses none of them.
const LAZY_MSRS: [u32; 5] = [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0102];

/// Bits of CR0 that stay the kernel's; the guest sees those it wrote. Numeric errors VMX wants set; the cache bits
/// would outlive the guest.
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_OWNED: u64 = CR0_NUMERIC_ERROR | CR0_CACHE_DISABLE | CR0_NOT_WRITE_THROUGH;
/// Bits of CR4 that a guest can't set: LA57, VMXE, SMXE, KL, PKE, CET, PKS, UINTR. Their features are hidden from it (see
/// [`crate::virt::cpuid`]), the state behind them is not switched.
const CR4_OWNED: u64 = CR4_VMX | 1 << 12 | 1 << 14 | 1 << 19 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25;

/// Extended page-table pointer: write-back, four levels (SDM vol. 3 §25.6.11).
const EPTP_FLAGS: u64 = 6 | 3 << 3;

/// Blocking by `STI` and by `MOV SS`.
const BLOCKED: u64 = 0b11;

/// Ticks of the TSC after which a guest exits in any case: the bound where an emulator overlooks an interrupt.
const LONGEST_RUN_TICKS: u64 = 1 << 24;

const RSP_NUMBER: u8 = 4;

/// A page for the processor's use.
#[repr(C, align(4096))]
#[derive(FromZeros)]
struct Page([u8; 4096]);

/// A virtual CPU.
pub struct VmxVcpu {
    region: Box<Region>,
    switch: Switch,
    _fx: Box<FxState>,
    /// Where the guest's task priority (CR8) lives.
    task_priority: Box<Page>,
    processor: Processor,
    entry: Entry,
    eptp: u64,
    vpid: u16,
    /// The VMCS has its contents.
    filled: bool,
    /// The VMCS is current on this core, and the lazy state loaded.
    on_core: bool,
    /// Address of the segment table of the core it ran on last: which core that was.
    core: u64,
    lazy_msrs: [u64; LAZY_MSRS.len()],
    cr2: u64,
    rip: u64,
    /// An event for the next entry.
    event: Option<Event>,
    /// The upcall that waits.
    posted: Option<u8>,
    /// Whether the VMCS asks for an exit when the guest can take an interrupt.
    window: bool,
    /// Cached translations of the nested table must go.
    flush: bool,
}

/// Writes a field that does not loosen the guest's confinement.
fn set(field: u32, value: u64) {
    // SAFETY: callers in this module pass registers of the guest, events, or values chosen for confinement (`fill`).
    unsafe { write(field, value) };
}

impl VmxVcpu {
    /// A guest in 64-bit mode at its entry point. `nested_root`: frame of its nested page table; `vpid`: its identifier in
    /// the TLB, not 0 and not another guest's.
    ///
    /// # Safety
    ///
    /// The nested page table confines the guest to what it may touch, and stays in place as long as the value lives.
    pub unsafe fn new(vmx: &Vmx, nested_root: u64, vpid: u16, entry: &Entry) -> VmxVcpu {
        let mut region = Region::new_box_zeroed().expect("kernel heap");
        region.set_revision(vmx.processor.revision);
        let fx = Box::new(FxState::initial());
        let switch = Switch {
            registers: Registers { rdi: entry.rdi, rsi: entry.rsi, ..Registers::default() },
            fx: (&raw const *fx) as u64,
            host_stack: 0,
            launched: 0,
            mxcsr: 0x1f80,
        };
        VmxVcpu {
            region,
            switch,
            _fx: fx,
            task_priority: Page::new_box_zeroed().expect("kernel heap"),
            processor: vmx.processor,
            entry: *entry,
            eptp: nested_root << hyperexo_abi::FRAME_SHIFT | EPTP_FLAGS,
            vpid,
            filled: false,
            on_core: false,
            core: 0,
            lazy_msrs: [0; LAZY_MSRS.len()],
            cr2: 0,
            rip: entry.rip,
            event: None,
            posted: None,
            window: false,
            flush: false,
        }
    }

    /// Makes the VMCS current on this core and loads the lazy state.
    fn take_core(&mut self) -> Result<(), vmcs::Refused> {
        // SAFETY: VMX is on wherever guests run (`Vmx::enable`); the region lives as long as `self` and is cleared on drop; it
        // is active nowhere else (`leave_core`).
        unsafe {
            if !self.filled {
                self.region.clear()?;
            }
            self.region.make_current()?;
        }
        self.switch.launched = 0;
        if !self.filled {
            self.fill();
            self.filled = true;
        }
        let mut segments = DescriptorTablePointer::<u64>::default();
        // SAFETY: stores the register's contents.
        unsafe { sgdt(&mut segments) };
        if segments.base as u64 != self.core {
            self.core = segments.base as u64;
            self.switch.host_stack = 0;
            // SAFETY: the segment table of this core is loaded (`Vcpu::run` is called on cores that have theirs).
            unsafe { fill_host(segments.base) };
            self.flush_all();
        }
        for (register, value) in LAZY_MSRS.iter().zip(self.lazy_msrs) {
            // SAFETY: values that the guest itself had in them, or 0; the kernel uses none of these.
            unsafe { wrmsr(*register, value) };
        }
        // SAFETY: CR2 has no effect.
        unsafe { asm!("mov cr2, {}", in(reg) self.cr2, options(nomem, nostack)) };
        self.on_core = true;
        Ok(())
    }

    /// Writes the controls and the guest's first state.
    fn fill(&mut self) {
        self.fill_controls();
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
            (guest::CR4, self.processor.cr4.adjust(CR4_START)),
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

    fn fill_controls(&self) {
        let Processor { controls, permissions, features, .. } = &self.processor;
        let ports = (&raw const permissions.ports) as u64;
        for (field, value) in [
            (control::PINBASED_EXEC_CONTROLS, controls.pin.into()),
            (control::PRIMARY_PROCBASED_EXEC_CONTROLS, controls.primary.into()),
            (control::SECONDARY_PROCBASED_EXEC_CONTROLS, controls.secondary.into()),
            (control::VMEXIT_CONTROLS, controls.exit.into()),
            (control::VMENTRY_CONTROLS, controls.entry.into()),
            (control::IO_BITMAP_A_ADDR_FULL, ports),
            (control::IO_BITMAP_B_ADDR_FULL, ports + 0x1000),
            (control::MSR_BITMAPS_ADDR_FULL, (&raw const permissions.msrs) as u64),
            (control::VIRT_APIC_ADDR_FULL, (&raw const *self.task_priority) as u64),
            (control::EPTP_FULL, self.eptp),
            (control::CR0_GUEST_HOST_MASK, CR0_OWNED),
            (control::CR0_READ_SHADOW, CR0_START),
            (control::CR4_GUEST_HOST_MASK, CR4_OWNED),
            (host::RIP, landing as *const () as u64),
        ] {
            set(field, value);
        }
        if controls.uses_vpid() {
            set(control::VPID, self.vpid.into());
        }
        if let Some(shift) = features.preemption_timer_shift {
            set(guest::VMX_PREEMPTION_TIMER_VALUE, (LONGEST_RUN_TICKS >> shift).max(1));
        }
    }

    /// Forgets whatever this core may have cached under the identifier and the table: a stranger to the core may find
    /// leftovers of an earlier use (SDM vol. 3 §29.4.3.3).
    fn flush_all(&mut self) {
        self.flush = true;
        if let Some(reach) = self.processor.features.invvpid {
            // SAFETY: offered (`Features`), and VMX is on.
            unsafe { vmcs::flush_identifier(reach, self.vpid) };
        }
    }

    /// Decides what the next entry delivers, and whether the guest must say when it can take an interrupt.
    fn prepare_event(&mut self) {
        if let Some(event) = self.event.take() {
            self.deliver(event);
        } else if let Some(vector) = self.posted
            && self.interrupts_enabled()
            && read(guest::INTERRUPTIBILITY_STATE) & BLOCKED == 0
        {
            self.posted = None;
            self.deliver(Event::interrupt(vector));
        }
        let window = self.posted.is_some();
        if window != self.window {
            self.window = window;
            let bit = if window { PrimaryControls::INTERRUPT_WINDOW_EXITING.bits() } else { 0 };
            let primary = self.processor.controls.primary | bit;
            set(control::PRIMARY_PROCBASED_EXEC_CONTROLS, primary.into());
        }
    }

    fn deliver(&self, event: Event) {
        if event.has_error_code() {
            set(control::VMENTRY_EXCEPTION_ERR_CODE, event.error_code.into());
        }
        set(control::VMENTRY_INTERRUPTION_INFO_FIELD, event.information.into());
    }

    /// Passes the instruction that exited.
    fn pass(&mut self) {
        self.rip += read(ro::VMEXIT_INSTRUCTION_LEN);
        set(guest::RIP, self.rip);
        let blocking = read(guest::INTERRUPTIBILITY_STATE);
        if blocking & BLOCKED != 0 {
            set(guest::INTERRUPTIBILITY_STATE, blocking & !BLOCKED);
        }
    }

    fn decode(&mut self) -> VmExit {
        let full = read(ro::EXIT_REASON) as u32;
        if full & ENTRY_FAILURE != 0 {
            self.log_entry_failure(full & 0xffff);
            return VmExit::InvalidState;
        }
        self.rip = read(guest::RIP);
        let vectoring = read(ro::IDT_VECTORING_INFO) as u32;
        self.event = Event::interrupted(vectoring, read(ro::IDT_VECTORING_ERR_CODE) as u32);
        match full & 0xffff {
            reason::VMCALL => {
                self.pass();
                VmExit::Hypercall
            }
            reason::EXCEPTION_OR_NMI => self.decode_exception(),
            reason::EXTERNAL_INTERRUPT | reason::PREEMPTION_TIMER | reason::INIT | reason::STARTUP => {
                VmExit::Interrupt
            }
            reason::INTERRUPT_WINDOW => VmExit::Window,
            reason::HLT => {
                self.pass();
                VmExit::Halt
            }
            reason::CPUID => {
                self.pass();
                VmExit::Cpuid
            }
            reason::RDMSR => VmExit::MsrRead(self.switch.registers.rcx as u32),
            reason::WRMSR => VmExit::MsrWrite(self.switch.registers.rcx as u32),
            reason::PORT => VmExit::Port(exit::port(read(ro::EXIT_QUALIFICATION))),
            reason::EPT_VIOLATION => VmExit::NestedFault {
                address: read(ro::GUEST_PHYSICAL_ADDR_FULL),
                access: exit::access(read(ro::EXIT_QUALIFICATION)),
            },
            reason::TRIPLE_FAULT => VmExit::TripleFault,
            reason::XSETBV => VmExit::Xsetbv,
            reason::CONTROL_REGISTER => self.decode_control_register(),
            other => match (exit::undefined_instruction(other), exit::privileged_instruction(other)) {
                (Some(name), _) => VmExit::Undefined(name),
                (_, Some(name)) => VmExit::Privileged(name),
                _ => VmExit::Unknown(other.into()),
            },
        }
    }

    /// No exception exits, so that it is a non-maskable interrupt, which the exit has taken from the host.
    fn decode_exception(&self) -> VmExit {
        let information = read(ro::VMEXIT_INTERRUPTION_INFO);
        if !exit::is_nmi(information as u32) {
            return VmExit::Unknown(reason::EXCEPTION_OR_NMI.into());
        }
        // SAFETY: the host's handler for the vector; its return lets the next one in.
        unsafe { asm!("int 2") };
        VmExit::Interrupt
    }

    /// A write that differs in bits that the kernel owns.
    fn decode_control_register(&mut self) -> VmExit {
        match exit::control_access(read(ro::EXIT_QUALIFICATION)) {
            ControlAccess::Load { control: 0, general } => {
                let value = self.general(general);
                if value & CR0_NOT_WRITE_THROUGH != 0 && value & CR0_CACHE_DISABLE == 0 {
                    return VmExit::Privileged("mov to cr0");
                }
                // The guest is shown what it wants to see; executed again, the instruction does the rest without an exit, with all
                // of the processor's checks.
                set(control::CR0_READ_SHADOW, value & CR0_OWNED);
                VmExit::Handled
            }
            _ => VmExit::Privileged("control register"),
        }
    }

    /// A general register by its number in instructions.
    fn general(&self, number: u8) -> u64 {
        let registers = &self.switch.registers;
        match number {
            0 => registers.rax,
            1 => registers.rcx,
            2 => registers.rdx,
            3 => registers.rbx,
            RSP_NUMBER => read(guest::RSP),
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

    fn log_entry_failure(&self, basic: u32) {
        let what = match basic {
            reason::INVALID_GUEST_STATE => inconsistent::find(read, self.processor.cr0, self.processor.cr4)
                .unwrap_or("a check that is not known here"),
            reason::MSR_LOADING => "loading of model-specific registers",
            reason::MACHINE_CHECK_AT_ENTRY => "a machine check",
            _ => "unknown",
        };
        log!("vmx: entry failed (reason {basic}, qualification {:#x}): {what}", read(ro::EXIT_QUALIFICATION));
    }
}

/// Writes the state that exits give back to the kernel: that of this core.
///
/// # Safety
///
/// `segments` is the loaded segment table; the task register is loaded.
unsafe fn fill_host(segments: *const u64) {
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

impl Vcpu for VmxVcpu {
    fn run(&mut self) -> VmExit {
        if !self.on_core
            && let Err(refused) = self.take_core()
        {
            log!("vmx: {refused}");
            return VmExit::InvalidState;
        }
        if core::mem::take(&mut self.flush) {
            // SAFETY: offered (`Features`), and VMX is on.
            unsafe { vmcs::flush_nested(self.processor.features.invept, self.eptp) };
        }
        self.prepare_event();
        // SAFETY: VMX is on, `take_core` made the VMCS current and complete, with this core's host state; the nested
        // page table confines the guest (`new`); the switch belongs to this VMCS.
        match Entered::from_code(unsafe { enter(&mut self.switch) }) {
            Entered::Exit => self.decode(),
            Entered::Refused => {
                let error = read(ro::VM_INSTRUCTION_ERROR) as u32;
                log!("vmx: {} (error {error})", vmcs::instruction_error(error));
                VmExit::InvalidState
            }
            Entered::NoVmcs => {
                log!("vmx: no current VMCS");
                VmExit::InvalidState
            }
        }
    }

    fn leave_core(&mut self) {
        if !core::mem::take(&mut self.on_core) {
            return;
        }
        for (register, value) in LAZY_MSRS.iter().zip(&mut self.lazy_msrs) {
            // SAFETY: registers that every processor with long mode has.
            *value = unsafe { rdmsr(*register) };
        }
        // SAFETY: reading CR2 has no effect; the VMCS is active here and nowhere else.
        let cleared = unsafe {
            asm!("mov {}, cr2", out(reg) self.cr2, options(nomem, nostack));
            self.region.clear()
        };
        if let Err(refused) = cleared {
            log!("vmx: {refused}");
        }
    }

    fn registers(&mut self) -> &mut Registers {
        &mut self.switch.registers
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn skip(&mut self, _bytes: u64) {
        self.pass();
    }

    fn raise(&mut self, exception: Exception) {
        self.event = Some(Event::exception(exception));
    }

    fn post_upcall(&mut self, vector: u8) {
        self.posted = Some(vector);
    }

    fn upcall_posted(&self) -> bool {
        self.posted.is_some()
    }

    fn interrupts_enabled(&self) -> bool {
        read(guest::RFLAGS) & RFLAGS_INTERRUPT != 0
    }

    fn uses_xsave(&self) -> bool {
        read(guest::CR4) & CR4_OSXSAVE != 0
    }

    fn efer(&self) -> u64 {
        read(guest::IA32_EFER_FULL)
    }

    fn set_efer(&mut self, value: u64) -> bool {
        if value & !EFER_GUEST != 0 || (value ^ self.efer()) & EFER_LONG != 0 {
            return false;
        }
        set(guest::IA32_EFER_FULL, value);
        true
    }

    fn flush_nested(&mut self) {
        self.flush = true;
    }
}

impl Drop for VmxVcpu {
    fn drop(&mut self) {
        // The processor may hold parts of the VMCS and write them back later.
        self.leave_core();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_a_task_segment_is_put_together() {
        let descriptor = [0x1200_8934_5678_0067, 0xffff_8000];
        assert_eq!(descriptor_base(descriptor), 0xffff_8000_1234_5678);
    }
}
