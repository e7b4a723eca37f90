//! A virtual CPU on VMX.
//!
//! Its VMCS is *active* on at most one core: from the first [`Vcpu::run`] there until [`Vcpu::leave_core`].
//! What entries and exits do not switch (five MSRs, CR2) moves at those two moments only, so that a hypercall
//! does not pay for it. Everything that the kernel asks or changes in between goes to the current VMCS, on
//! that core.

use super::exit::{self, BLOCKED, ControlAccess, ENTRY_FAILURE, Event, reason};
use super::fill::{self, CR0_ALLOWED, CR0_SHOWN, CR4_ALLOWED, CR4_SHOWN, Leash, set};
use super::lazy::Lazy;
use super::processor::{CR0_CACHE_DISABLE, CR0_NOT_WRITE_THROUGH, Processor};
use super::refusal;
use super::switch::{Entered, Switch, enter, landing};
use super::views::{EPTP_SWITCHING, Views};
use super::vmcs::{self, Region, read};
use crate::log;
use crate::virt::state::{CR4_OSXSAVE, EFER_GUEST, EFER_LONG, RFLAGS_INTERRUPT};
use crate::virt::vcpu::{
    Entry, Exception, Frames, Guest, HostPage, NestedFault, Registers, Vcpu, VcpuBox, ViewChange, VmExit,
    place,
};
use crate::virt::xstate::Xstate;
use core::arch::asm;
use core::ptr::NonNull;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::accounting::Exit;
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::sse::{MXCSR_RESET, SseState};
use x86::dtables::{DescriptorTablePointer, sgdt};
use x86::vmx::vmcs::control::{PrimaryControls, SecondaryControls};
use x86::vmx::vmcs::{control, guest, ro};

/// A virtual CPU.
pub struct VmxVcpu {
    /// In a frame of its own.
    region: &'static Region,
    switch: Switch,
    sse: SseState,
    xstate: Xstate,
    /// Frame in which the guest's task priority (CR8) lives.
    task_priority: u64,
    processor: Processor,
    entry: Entry,
    views: Views,
    /// What has changed in that list and the VMCS does not know yet.
    view_change: Option<ViewChange>,
    vpid: u16,
    /// The VMCS has its contents.
    filled: bool,
    /// Its extended state is in the core's registers.
    on_core: bool,
    /// The VMCS is current on this core, and the lazy state loaded.
    active: bool,
    /// Address of the segment table of the core it ran on last: which core that was.
    core: u64,
    lazy: Lazy,
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
    /// A guest in 64-bit mode at its entry point.
    ///
    /// # Safety
    ///
    /// As for [`Backend::new_vcpu`](crate::virt::Backend::new_vcpu).
    pub unsafe fn in_frames(processor: &Processor, frames: Frames, guest: &Guest<'_>) -> VcpuBox {
        let [region, state, task_priority] = frames;
        // SAFETY: the frame is zeroed and ours until the value is dropped (caller); a region is integers
        // only.
        let region = unsafe { &mut *((region << FRAME_SHIFT) as *mut Region) };
        region.set_revision(processor.revision);
        let entry = guest.entry;
        let switch = Switch {
            registers: Registers { rdi: entry.rdi, rsi: entry.rsi, ..Registers::default() },
            sse: 0,
            host_stack: 0,
            launched: 0,
            hypercalls: (&raw const guest.accounting.exits[Exit::Hypercall as usize]) as u64,
            view_list: 0,
            mxcsr: MXCSR_RESET,
        };
        let vcpu = VmxVcpu {
            region,
            switch,
            sse: SseState::initial(),
            xstate: Xstate::new(),
            task_priority,
            processor: *processor,
            entry: *entry,
            views: Views::new(guest.nested_root, processor.features),
            view_change: None,
            vpid: guest.identifier,
            filled: false,
            on_core: false,
            active: false,
            core: 0,
            lazy: Lazy::default(),
            rip: entry.rip,
            event: None,
            posted: None,
            window: false,
            leash: None,
            flush: false,
            fault_page: None,
            options_changed: false,
        };
        // SAFETY: this frame is ours as well.
        let mut vcpu = unsafe { place(state, vcpu) };
        {
            // SAFETY: just made.
            let vcpu: &mut VmxVcpu = unsafe { vcpu.as_mut() };
            vcpu.switch.sse = (&raw const vcpu.sse) as u64;
        }
        // SAFETY: it is in the frames, which are ours.
        unsafe { VcpuBox::new(vcpu as NonNull<dyn Vcpu>, frames) }
    }

    /// Makes the VMCS current on this core and loads the lazy state.
    #[cold]
    #[inline(never)]
    fn activate(&mut self) -> Result<(), vmcs::Refused> {
        // SAFETY: VMX is on wherever guests run (`Vmx::enable`); the region lives as long as `self` and is
        // cleared on drop; it is active nowhere else (`deactivate`).
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
                eptp: self.views.own(),
                vpid: self.vpid,
                task_priority: self.task_priority << FRAME_SHIFT,
                landing: landing as *const () as u64,
            };
            // SAFETY: the VMCS is current; the nested page table confines the guest
            // (`in_frames`), and `landing` takes exits.
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
        // SAFETY: on this core, nobody else's guest runs before `deactivate`.
        unsafe { self.lazy.load() };
        self.active = true;
        Ok(())
    }

    /// Takes the lazy state from this core, and the VMCS, of which the processor may hold parts that it
    /// writes back later.
    fn deactivate(&mut self) {
        if !core::mem::take(&mut self.active) {
            return;
        }
        self.lazy.store();
        // SAFETY: VMX is on; the VMCS is active here and nowhere else.
        let cleared = unsafe { self.region.clear() };
        if let Err(refused) = cleared {
            log!("vmx: {refused}");
        }
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

    /// Takes a new list of views.
    #[cold]
    #[inline(never)]
    fn take_views(&mut self, change: &ViewChange) {
        if !self.views.change(change) {
            self.raise(Exception::GeneralProtection);
        }
        self.switch.view_list = change.list << FRAME_SHIFT;
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
            fill::deliver(event);
        } else if let Some(vector) = self.posted
            && flags & RFLAGS_INTERRUPT != 0
            && read(guest::INTERRUPTIBILITY_STATE) & BLOCKED == 0
        {
            self.posted = None;
            fill::deliver(Event::interrupt(vector));
        }
        let window = self.posted.is_some();
        if window != self.window {
            self.window = window;
            let bit = if window { PrimaryControls::INTERRUPT_WINDOW_EXITING.bits() } else { 0 };
            let primary = self.processor.controls.primary | bit;
            set(control::PRIMARY_PROCBASED_EXEC_CONTROLS, primary.into());
        }
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
            refusal::log_failed_entry(full & 0xffff);
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
            reason::PORT => VmExit::Port,
            reason::EPT_VIOLATION => {
                let qualification = read(ro::EXIT_QUALIFICATION);
                VmExit::NestedFault(NestedFault {
                    address: read(ro::GUEST_PHYSICAL_ADDR_FULL),
                    access: exit::access(qualification),
                    linear: exit::has_linear(qualification).then(|| read(ro::GUEST_LINEAR_ADDR)),
                    in_delivery: exit::in_delivery(vectoring),
                    view: self.views.current() as u16,
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
            other if exit::is_undefined(other) => VmExit::Undefined,
            other if exit::is_privileged(other) => VmExit::Privileged,
            other => VmExit::Unknown(other.into()),
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
                if value & !CR0_ALLOWED != 0 || !caching {
                    return VmExit::Privileged;
                }
                set(control::CR0_READ_SHADOW, value & CR0_SHOWN);
                VmExit::Handled
            }
            ControlAccess::Load { control: 4, general } => {
                let value = exit::general(&self.switch.registers, general, read(guest::RSP));
                if value & !CR4_ALLOWED != 0 {
                    return VmExit::Privileged;
                }
                set(control::CR4_READ_SHADOW, value & CR4_SHOWN);
                VmExit::Handled
            }
            _ => VmExit::Privileged,
        }
    }
}

impl Vcpu for VmxVcpu {
    fn take_core(&mut self) {
        if !core::mem::replace(&mut self.on_core, true) {
            self.xstate.load(&self.processor.support);
        }
    }

    fn leave_core(&mut self) {
        if core::mem::take(&mut self.on_core) {
            self.xstate.save(&self.processor.support);
        }
        self.deactivate();
    }

    fn run(&mut self, _host: HostPage) -> VmExit {
        if !self.active
            && let Err(refused) = self.activate()
        {
            log!("vmx: {refused}");
            return VmExit::InvalidState;
        }
        if let Some(change) = self.view_change.take() {
            self.take_views(&change);
        }
        if core::mem::take(&mut self.flush) {
            self.views.flush();
        }
        if core::mem::take(&mut self.options_changed) {
            self.write_options();
        }
        self.prepare_entry();
        // SAFETY: VMX is on, `activate` made the VMCS current and complete, with this core's host state; the
        // nested page table confines the guest (`in_frames`); the switch belongs to this VMCS.
        match Entered::from_code(unsafe { enter(&mut self.switch) }) {
            Entered::Exit => self.decode(),
            refused => {
                refusal::log_refused(refused);
                VmExit::InvalidState
            }
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

    fn set_xcr0(&mut self, value: u64) -> bool {
        self.xstate.set_xcr0(value, &self.processor.support)
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
        let known = self.views.has(entry);
        if known {
            self.views.select(entry as usize);
        }
        known
    }

    fn flush_nested(&mut self) {
        self.flush = true;
    }
}

impl Drop for VmxVcpu {
    fn drop(&mut self) {
        self.deactivate();
    }
}
