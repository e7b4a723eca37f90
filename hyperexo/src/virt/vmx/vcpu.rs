//! A virtual CPU on VMX.
//!
//! Its VMCS is *active* on at most one core: from the first [`Vcpu::run`] there until [`Vcpu::leave_core`].
//! What entries and exits do not switch (five MSRs, CR2) moves at those two moments only, so that a hypercall
//! does not pay for it. Everything that the kernel asks or changes in between goes to the current VMCS, on
//! that core.

use super::exit::{self, ControlAccess, ENTRY_FAILURE, Event, reason};
use super::fill::{self, Leash, set};
use super::switch::{Entered, Switch, enter};
use super::vmcs::{self, Region, read};
use super::{CR0_CACHE_DISABLE, CR0_NOT_WRITE_THROUGH, Processor, Vmx, inconsistent};
use crate::log;
use crate::resource::view::List;
use crate::view::ViewChange;
use crate::virt::state::{
    self, CR4_OSXSAVE, Column, EFER_GUEST, EFER_LONG, Keeper, RFLAGS_INTERRUPT, allowed, kept,
};
use crate::virt::{Entry, Exception, NestedFault, Registers, Vcpu, VmExit, listed};
use alloc::boxed::Box;
use core::arch::asm;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::accounting::{Accounting, Exit};
use hyperexo_abi::hypercall::{Status, VIEWS};
use hyperexo_hw::sse::{MXCSR_RESET, SseState};
use x86::dtables::{DescriptorTablePointer, sgdt};
use x86::msr::{rdmsr, wrmsr};
use x86::vmx::vmcs::control::{PrimaryControls, SecondaryControls};
use x86::vmx::vmcs::{control, guest, ro};
use zerocopy::FromZeros;

/// How many MSRs of a guest entries and exits leave alone. The kernel uses none of them.
const LAZY_MSRS: usize = 5;

/// These MSRs: STAR, LSTAR, CSTAR, SFMASK, kernel GS base.
fn lazy_msrs() -> impl Iterator<Item = u32> {
    state::msrs_kept(Column::Vmx, Keeper::Core)
}

/// Blocking by `STI` and by `MOV SS`.
pub(super) const BLOCKED: u64 = 0b11;

/// VM-function control: function 0, which changes the EPTP to one of the list (SDM vol. 3 §25.6.14).
const EPTP_SWITCHING: u64 = 1 << 0;

/// A page for the processor's use.
#[repr(C, align(4096))]
#[derive(FromZeros)]
struct Page([u8; 4096]);

/// A virtual CPU.
pub struct VmxVcpu {
    region: Box<Region>,
    switch: Switch,
    _sse: Box<SseState>,
    /// Where the guest's task priority (CR8) lives.
    task_priority: Box<Page>,
    processor: Processor,
    entry: Entry,
    /// Top frames of the tables in its list of views; entry 0 is its own.
    roots: List,
    /// What has changed in that list and the VMCS does not know yet.
    view_change: Option<ViewChange>,
    vpid: u16,
    /// The VMCS has its contents.
    filled: bool,
    /// The VMCS is current on this core, and the lazy state loaded.
    on_core: bool,
    /// Address of the segment table of the core it ran on last: which core that was.
    core: u64,
    lazy_msrs: [u64; LAZY_MSRS],
    cr2: u64,
    rip: u64,
    /// An event for the next entry.
    event: Option<Event>,
    /// The upcall that waits.
    posted: Option<u8>,
    /// Whether the VMCS asks for an exit when the guest can take an interrupt.
    window: bool,
    /// What the VMCS has in its preemption timer.
    leash: Option<Leash>,
    /// Cached translations of the nested table must go.
    flush: bool,
    /// Frame in which the processor reports nested faults to the guest.
    fault_page: Option<u64>,
    /// The VMCS does not have the optional controls yet that the guest has asked for.
    options_changed: bool,
}

impl VmxVcpu {
    /// A guest in 64-bit mode at its entry point. `nested_root`: frame of its nested page table; `vpid`: its
    /// identifier in the TLB, not 0 and not another guest's.
    ///
    /// # Safety
    ///
    /// The nested page table confines the guest to what it may touch, and stays in place as long as the value
    /// lives.
    pub unsafe fn new(
        vmx: &Vmx,
        nested_root: u64,
        vpid: u16,
        entry: &Entry,
        accounting: &'static Accounting,
    ) -> VmxVcpu {
        let mut region = Region::new_box_zeroed().expect("kernel heap");
        region.set_revision(vmx.processor.revision);
        let sse = Box::new(SseState::initial());
        let switch = Switch {
            registers: Registers { rdi: entry.rdi, rsi: entry.rsi, ..Registers::default() },
            sse: (&raw const *sse) as u64,
            host_stack: 0,
            launched: 0,
            hypercalls: (&raw const accounting.exits[Exit::Hypercall as usize]) as u64,
            view_list: 0,
            mxcsr: MXCSR_RESET,
        };
        let mut roots = [0; VIEWS];
        roots[0] = nested_root;
        VmxVcpu {
            region,
            switch,
            _sse: sse,
            task_priority: Page::new_box_zeroed().expect("kernel heap"),
            processor: vmx.processor,
            entry: *entry,
            roots,
            view_change: None,
            vpid,
            filled: false,
            on_core: false,
            core: 0,
            lazy_msrs: [0; LAZY_MSRS],
            cr2: 0,
            rip: entry.rip,
            event: None,
            posted: None,
            window: false,
            leash: None,
            flush: false,
            fault_page: None,
            options_changed: false,
        }
    }

    /// Makes the VMCS current on this core and loads the lazy state.
    #[cold]
    #[inline(never)]
    fn take_core(&mut self) -> Result<(), vmcs::Refused> {
        // SAFETY: VMX is on wherever guests run (`Vmx::enable`); the region lives as long as `self` and is
        // cleared on drop; it is active nowhere else (`leave_core`).
        unsafe {
            if !self.filled {
                self.region.clear()?;
            }
            self.region.make_current()?;
        }
        self.switch.launched = 0;
        if !self.filled {
            let state = fill::Start {
                processor: &self.processor,
                entry: &self.entry,
                eptp: fill::eptp(self.roots[0]),
                vpid: self.vpid,
                task_priority: (&raw const *self.task_priority) as u64,
            };
            // SAFETY: the VMCS is current; the nested page table confines the guest (`new`).
            unsafe { state.fill() };
            self.filled = true;
        }
        let mut segments = DescriptorTablePointer::<u64>::default();
        // SAFETY: stores the register's contents.
        unsafe { sgdt(&mut segments) };
        if segments.base as u64 != self.core {
            self.core = segments.base as u64;
            self.switch.host_stack = 0;
            // SAFETY: the segment table of this core is loaded (`Vcpu::run` is called on cores that have
            // theirs).
            unsafe { fill::host_state(segments.base) };
            self.flush_all();
        }
        for (register, value) in lazy_msrs().zip(self.lazy_msrs) {
            // SAFETY: values that the guest itself had in them, or 0; the kernel uses none of these.
            unsafe { wrmsr(register, value) };
        }
        // SAFETY: CR2 has no effect.
        unsafe { asm!("mov cr2, {}", in(reg) self.cr2, options(nomem, nostack)) };
        self.on_core = true;
        Ok(())
    }

    /// Forgets whatever this core may have cached under the identifier and the table: a stranger to the core
    /// may find leftovers of an earlier use (SDM vol. 3 §29.4.3.3).
    fn flush_all(&mut self) {
        self.flush = true;
        if let Some(reach) = self.processor.features.invvpid {
            // SAFETY: offered (`Features`), and VMX is on.
            unsafe { vmcs::flush_identifier(reach, self.vpid) };
        }
    }

    /// The view that it is in, by its number. `VMFUNC` writes the field, too.
    fn view(&self) -> usize {
        let eptp = read(control::EPTP_FULL);
        self.roots.iter().position(|root| *root != 0 && fill::eptp(*root) == eptp).unwrap_or(0)
    }

    /// Goes on with another nested table. Nothing is flushed: cached translations carry the table's name (SDM
    /// vol. 3 §29.4.1).
    fn set_view(&self, view: usize) {
        set(control::EPTP_FULL, fill::eptp(self.roots[view]));
        if self.processor.features.virtualization_exception {
            set(control::EPTP_INDEX, view as u64);
        }
    }

    /// Forgets cached translations of all tables that it may change to.
    fn flush_tables(&self) {
        for root in self.roots.iter().filter(|root| **root != 0) {
            // SAFETY: offered (`Features`), and VMX is on.
            unsafe { vmcs::flush_nested(self.processor.features.invept, fill::eptp(*root)) };
        }
    }

    /// Takes a new list of views. Tables that are gone are flushed as well as new ones: frames may have
    /// served before.
    #[cold]
    #[inline(never)]
    fn take_views(&mut self, change: &ViewChange) {
        let view = self.view();
        self.flush_tables();
        self.roots[1..].copy_from_slice(&change.roots[1..]);
        self.flush_tables();
        self.switch.view_list = change.list << FRAME_SHIFT;
        if change.kept >> view & 1 == 0 {
            self.set_view(0);
            self.raise(Exception::GeneralProtection);
        }
        self.options_changed = true;
    }

    /// Writes the controls that a guest can ask for.
    #[cold]
    #[inline(never)]
    fn write_options(&self) {
        let mut secondary = SecondaryControls::empty();
        if let Some(frame) = self.fault_page {
            set(control::VIRT_EXCEPTION_INFO_ADDR_FULL, frame << FRAME_SHIFT);
            secondary |= SecondaryControls::EPT_VIOLATION_VE;
        }
        if self.switch.view_list != 0 && self.processor.features.eptp_switching {
            set(control::VM_FUNCTION_CONTROLS_FULL, EPTP_SWITCHING);
            set(control::EPTP_LIST_ADDR_FULL, self.switch.view_list);
            secondary |= SecondaryControls::ENABLE_VM_FUNCTIONS;
        }
        let value = self.processor.controls.secondary | secondary.bits();
        set(control::SECONDARY_PROCBASED_EXEC_CONTROLS, value.into());
    }

    /// Decides what the next entry delivers, whether the guest must say when it can take an interrupt, and
    /// how long it may run at most.
    fn prepare_entry(&mut self) {
        let flags = read(guest::RFLAGS);
        let leash = Leash::of(flags);
        if self.leash != Some(leash) {
            self.leash = Some(leash);
            if let Some(shift) = self.processor.features.preemption_timer_shift {
                set(guest::VMX_PREEMPTION_TIMER_VALUE, leash.timer_value(shift));
            }
        }
        if let Some(event) = self.event.take() {
            self.deliver(event);
        } else if let Some(vector) = self.posted
            && flags & RFLAGS_INTERRUPT != 0
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
        self.rip = read(guest::RIP);
        // The way of every hypercall: kept short.
        if full == reason::VMCALL {
            self.pass();
            return VmExit::Hypercall;
        }
        self.decode_other(full)
    }

    #[inline(never)]
    fn decode_other(&mut self, full: u32) -> VmExit {
        if full & ENTRY_FAILURE != 0 {
            self.log_entry_failure(full & 0xffff);
            return VmExit::InvalidState;
        }
        let vectoring = read(ro::IDT_VECTORING_INFO) as u32;
        self.event = Event::interrupted(vectoring, read(ro::IDT_VECTORING_ERR_CODE) as u32);
        match full & 0xffff {
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
            reason::EPT_VIOLATION => {
                let qualification = read(ro::EXIT_QUALIFICATION);
                VmExit::NestedFault(NestedFault {
                    address: read(ro::GUEST_PHYSICAL_ADDR_FULL),
                    access: exit::access(qualification),
                    linear: exit::has_linear(qualification).then(|| read(ro::GUEST_LINEAR_ADDR)),
                    in_delivery: exit::in_delivery(vectoring),
                    view: self.view() as u16,
                })
            }
            reason::TRIPLE_FAULT => VmExit::TripleFault,
            reason::XSETBV => VmExit::Xsetbv,
            reason::VMFUNC if self.switch.view_list != 0 && self.switch.registers.rax as u32 == 0 => {
                // A view that is not in the list: as with the hypercall, the status says so.
                self.switch.registers.rax = Status::NoSuch as u64;
                self.pass();
                VmExit::Handled
            }
            reason::CONTROL_REGISTER => self.decode_control_register(),
            other => match (exit::undefined_instruction(other), exit::privileged_instruction(other)) {
                (Some(name), _) => VmExit::Undefined(name),
                (_, Some(name)) => VmExit::Privileged(name),
                _ => VmExit::Unknown(other.into()),
            },
        }
    }

    /// An alignment check goes on to the guest, a machine check is the machine's; all else is a non-maskable
    /// interrupt, which the exit has taken from the host.
    fn decode_exception(&mut self) -> VmExit {
        let information = read(ro::VMEXIT_INTERRUPTION_INFO) as u32;
        if !exit::is_nmi(information) {
            return match information as u8 {
                exit::ALIGNMENT_CHECK => {
                    self.raise(Exception::AlignmentCheck);
                    VmExit::Handled
                }
                exit::MACHINE_CHECK => VmExit::MachineCheck,
                _ => VmExit::Unknown(reason::EXCEPTION_OR_NMI.into()),
            };
        }
        // SAFETY: the host's handler for the vector; its return lets the next one in.
        unsafe { asm!("int 2") };
        VmExit::Interrupt
    }

    /// A write that differs in bits that the kernel owns: the guest is shown what it wants to see, then the
    /// instruction is executed again and does the rest without an exit, with all of the processor's checks.
    fn decode_control_register(&mut self) -> VmExit {
        match exit::control_access(read(ro::EXIT_QUALIFICATION)) {
            ControlAccess::Load { control: 0, general } => {
                let value = exit::general(&self.switch.registers, general, read(guest::RSP));
                let caching = value & CR0_NOT_WRITE_THROUGH == 0 || value & CR0_CACHE_DISABLE != 0;
                if value & !allowed(state::CR0, Column::Vmx) != 0 || !caching {
                    return VmExit::Privileged("mov to cr0");
                }
                set(control::CR0_READ_SHADOW, value & kept(state::CR0, Column::Vmx, Keeper::Kernel));
                VmExit::Handled
            }
            ControlAccess::Load { control: 4, general } => {
                let value = exit::general(&self.switch.registers, general, read(guest::RSP));
                if value & !allowed(state::CR4, Column::Vmx) != 0 {
                    return VmExit::Privileged("mov to cr4");
                }
                set(control::CR4_READ_SHADOW, value & kept(state::CR4, Column::Vmx, Keeper::Kernel));
                VmExit::Handled
            }
            _ => VmExit::Privileged("control register"),
        }
    }

    #[cold]
    #[inline(never)]
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

/// Says why the processor did not even try.
#[cold]
#[inline(never)]
fn refused(refusal: Entered) -> VmExit {
    match refusal {
        Entered::NoVmcs => log!("vmx: entry without a current VMCS"),
        _ => {
            let error = read(ro::VM_INSTRUCTION_ERROR) as u32;
            log!("vmx: {} (error {error})", vmcs::instruction_error(error));
        }
    }
    VmExit::InvalidState
}

impl Vcpu for VmxVcpu {
    fn run(&mut self, _backend: &crate::virt::Backend) -> VmExit {
        if !self.on_core
            && let Err(refused) = self.take_core()
        {
            log!("vmx: {refused}");
            return VmExit::InvalidState;
        }
        if let Some(change) = self.view_change.take() {
            self.take_views(&change);
        }
        if core::mem::take(&mut self.flush) {
            self.flush_tables();
        }
        if core::mem::take(&mut self.options_changed) {
            self.write_options();
        }
        self.prepare_entry();
        // SAFETY: VMX is on, `take_core` made the VMCS current and complete, with this core's host state; the
        // nested page table confines the guest (`new`); the switch belongs to this VMCS.
        match Entered::from_code(unsafe { enter(&mut self.switch) }) {
            Entered::Exit => self.decode(),
            refusal => refused(refusal),
        }
    }

    fn leave_core(&mut self) {
        if !core::mem::take(&mut self.on_core) {
            return;
        }
        for (register, value) in lazy_msrs().zip(&mut self.lazy_msrs) {
            // SAFETY: registers that every processor with long mode has.
            *value = unsafe { rdmsr(register) };
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

    fn deliver_faults(&mut self, page: Option<u64>) {
        if self.processor.features.virtualization_exception {
            self.fault_page = page;
            self.options_changed = true;
        }
    }

    // The VMCS may not be current yet.
    fn change_views(&mut self, change: &ViewChange) {
        self.view_change = Some(*change);
    }

    fn switch_view(&mut self, entry: u64) -> bool {
        let known = listed(&self.roots, entry).is_some();
        if known {
            self.set_view(entry as usize);
        }
        known
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
