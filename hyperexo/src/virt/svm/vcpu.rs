//! A virtual CPU on SVM.

use super::event::{self, Again};
use super::features::Features;
use super::switch::{self, Switch};
use super::vmcb::{
    CLEAN_ALL, CLEAN_CONTROL_REGISTERS, CLEAN_INTERRUPT, CLEAN_NESTED, EFER_SVM, Segment, Vmcb, exception,
    exit, intercept1, intercept2, tlb_control, virtual_interrupt,
};
use crate::virt::state::{
    self, CODE_SELECTOR, CR0_START, CR4_MACHINE_CHECK, CR4_OSXSAVE, CR4_START, Column, DATA_SELECTOR,
    DR7_RESET, EFER_GUEST, EFER_LONG, EFER_NO_EXECUTE, PAT_RESET, RFLAGS_INTERRUPT, RFLAGS_RESERVED,
};
use crate::virt::vcpu::{
    Access, Exception, Frames, Guest, HostPage, NestedFault, Registers, Roots, Vcpu, VcpuBox, ViewChange,
    VmExit, listed, place,
};
use crate::virt::xstate::{Support, Xstate};
use core::ptr::NonNull;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::accounting::Exit;
use hyperexo_abi::hypercall::VIEWS;
use hyperexo_hw::sse::{MXCSR_RESET, SseState};
use x86::msr::rdmsr;

/// Bits of CR4 that no guest has.
const CR4_REFUSED: u64 = !state::allowed(state::CR4, Column::Svm);

/// How long a guest may run while its upcall is deferred ([`SvmVcpu::shadow`]).
const DEFERRED_US: u64 = 50;
/// How long a guest that was entered with a request for an interrupt may run on TCG. TCG notes the request
/// without an atomic (seen in 7.2), and may forget an interrupt for the host that comes at that moment. Its
/// next one brings it back: the timer.
const REQUESTED_US: u64 = 10_000;

/// What every virtual CPU needs to know of the processor.
pub struct Processor {
    /// What it offers.
    pub features: Features,
    /// What extended state it has.
    pub support: Support,
    /// Physical address of the map of ports.
    pub port_map: u64,
    /// Physical address of the map of MSRs.
    pub msr_map: u64,
}

/// A virtual CPU.
pub struct SvmVcpu {
    /// In a frame of its own.
    vmcb: &'static mut Vmcb,
    switch: Switch,
    sse: SseState,
    xstate: Xstate,
    support: Support,
    features: Features,
    /// What the processor may take as unchanged since the last exit, if it remembers.
    clean: u64,
    /// Its extended state is in the core's registers.
    on_core: bool,
    /// Top frames of the tables in its list of views; entry 0 is its own.
    roots: Roots,
    /// Vector of an upcall that waits for an interrupt shadow to pass (see [`SvmVcpu::shadow`]).
    deferred: Option<u8>,
    /// Where the guest was last seen in the shadow of `STI` or `MOV SS`.
    ///
    /// Hardware takes the shadow into the VMCB at an exit and back at the entry. QEMU's TCG takes it out and
    /// forgets it (seen in 7.2): a virtual interrupt would then come between the `sti` and the `hlt` of a
    /// guest that goes to sleep, and nobody would wake it. So no upcall is requested until the guest has left
    /// that instruction, and one that was requested while the guest's flag forbade it is withdrawn. It waits
    /// until the next exit, which [`Vcpu::patience_us`] lets the kernel hasten. On processors that keep
    /// the shadow this is always empty.
    shadow: Option<u64>,
}

fn segment(selector: u16, attributes: u16) -> Segment {
    Segment { selector, attributes, limit: u32::MAX, base: 0 }
}

/// Fills in the control block of a new guest.
fn fill(vmcb: &mut Vmcb, processor: &Processor, guest: &Guest<'_>) {
    let entry = guest.entry;
    let control = &mut vmcb.control;
    control.intercept_dr = u32::MAX;
    // All exceptions are the guest's business but two: the machine check, which is the machine's, and the
    // alignment check, whose delivery a guest can arrange to raise the next one for ever, with no
    // interrupt in between (CVE-2015-5307).
    control.intercept_exceptions = exception::ALIGNMENT_CHECK | exception::MACHINE_CHECK;
    control.intercept1 = intercept1::INTR
        | intercept1::NMI
        | intercept1::INIT
        | intercept1::RDPMC
        | intercept1::CPUID
        | intercept1::RSM
        | intercept1::INVD
        | intercept1::HLT
        | intercept1::INVLPGA
        | intercept1::IOIO
        | intercept1::MSR
        | intercept1::TASK_SWITCH
        | intercept1::SHUTDOWN;
    control.intercept2 = intercept2::VMRUN
        | intercept2::VMMCALL
        | intercept2::VMLOAD
        | intercept2::VMSAVE
        | intercept2::STGI
        | intercept2::CLGI
        | intercept2::SKINIT
        | intercept2::WBINVD
        | intercept2::MONITOR
        | intercept2::MWAIT
        | intercept2::XSETBV
        | intercept2::RDPRU;
    control.io_permissions = processor.port_map;
    control.msr_permissions = processor.msr_map;
    control.asid = u32::from(guest.identifier);
    control.virtual_interrupt = virtual_interrupt::MASKING | virtual_interrupt::IGNORE_PRIORITY;
    control.nested_enable = 1;
    control.nested_cr3 = guest.nested_root << FRAME_SHIFT;
    let save = &mut vmcb.save;
    save.cs = segment(CODE_SELECTOR, 0xa9b);
    for data in [&mut save.ds, &mut save.es, &mut save.ss, &mut save.fs, &mut save.gs] {
        *data = segment(DATA_SELECTOR, 0xc93);
    }
    save.tr = segment(0, 0x8b);
    save.ldtr = segment(0, 0x82);
    save.efer = EFER_SVM | EFER_LONG | EFER_NO_EXECUTE;
    save.cr0 = CR0_START;
    save.cr3 = entry.cr3;
    save.cr4 = CR4_START | CR4_MACHINE_CHECK;
    save.dr6 = 0xffff_0ff0;
    save.dr7 = DR7_RESET;
    save.rflags = RFLAGS_RESERVED;
    save.rip = entry.rip;
    save.rsp = entry.rsp;
    save.pat = PAT_RESET;
}

impl SvmVcpu {
    /// A guest in 64-bit mode at its entry point.
    ///
    /// # Safety
    ///
    /// As for [`Backend::new_vcpu`](crate::virt::Backend::new_vcpu); the maps stay in place, and every port
    /// and MSR exits that [`state`] does not pass.
    pub unsafe fn in_frames(processor: &Processor, frames: Frames, guest: &Guest<'_>) -> VcpuBox {
        let [block, state, _] = frames;
        // SAFETY: the frame is zeroed and ours until the value is dropped (caller); a VMCB is integers only,
        // for which zero is a value.
        let vmcb = unsafe { &mut *((block << FRAME_SHIFT) as *mut Vmcb) };
        fill(vmcb, processor, guest);
        let entry = guest.entry;
        let flush_by_asid = processor.features.flush_by_asid;
        let switch = Switch {
            registers: Registers { rdi: entry.rdi, rsi: entry.rsi, ..Registers::default() },
            guest: block << FRAME_SHIFT,
            host: 0,
            sse: 0,
            hypercalls: (&raw const guest.accounting.exits[Exit::Hypercall as usize]) as u64,
            view_list: 0,
            flush: u32::from(if flush_by_asid { tlb_control::GUEST } else { tlb_control::ALL }),
            mxcsr: MXCSR_RESET,
        };
        let mut roots = [0; VIEWS];
        roots[0] = guest.nested_root;
        let vcpu = SvmVcpu {
            vmcb,
            switch,
            sse: SseState::initial(),
            xstate: Xstate::new(),
            support: processor.support,
            features: processor.features,
            clean: if processor.features.clean_bits { CLEAN_ALL } else { 0 },
            on_core: false,
            roots,
            deferred: None,
            shadow: None,
        };
        // SAFETY: this frame is ours as well.
        let mut vcpu = unsafe { place(state, vcpu) };
        {
            // SAFETY: just made.
            let vcpu: &mut SvmVcpu = unsafe { vcpu.as_mut() };
            vcpu.switch.sse = (&raw const vcpu.sse) as u64;
            vcpu.flush_nested();
        }
        // SAFETY: it is in the frames, which are ours.
        unsafe { VcpuBox::new(vcpu as NonNull<dyn Vcpu>, frames) }
    }

    /// Whether the processor may be QEMU's TCG: that does not offer to save the next instruction's address,
    /// every real processor of the last decade does.
    fn emulated(&self) -> bool {
        !self.features.next_rip
    }

    /// Whether the processor is to interrupt the guest as soon as its interrupt flag allows.
    fn requests_interrupt(&self) -> bool {
        self.vmcb.control.virtual_interrupt & virtual_interrupt::REQUEST != 0
    }

    /// Whether the guest is still at the instruction that it was last seen in a shadow of.
    fn in_shadow(&self) -> bool {
        self.shadow == Some(self.vmcb.save.rip)
    }

    /// Makes the processor interrupt the guest as soon as its interrupt flag allows.
    fn request_interrupt(&mut self, vector: u8) {
        self.vmcb.control.virtual_interrupt = virtual_interrupt::MASKING
            | virtual_interrupt::IGNORE_PRIORITY
            | virtual_interrupt::REQUEST
            | u64::from(vector) << virtual_interrupt::VECTOR_SHIFT;
        self.vmcb.control.clean &= !CLEAN_INTERRUPT;
    }

    /// Defers an interrupt that was requested while the guest's flag forbade it, and that has to wait for a
    /// shadow now.
    fn withdraw_interrupt(&mut self) {
        if self.requests_interrupt() {
            let control = &mut self.vmcb.control;
            self.deferred = Some((control.virtual_interrupt >> virtual_interrupt::VECTOR_SHIFT) as u8);
            control.virtual_interrupt &= !virtual_interrupt::REQUEST;
            control.clean &= !CLEAN_INTERRUPT;
        }
    }

    /// Requests the upcall that was deferred, or defers one that was requested, as the shadow has it.
    #[cold]
    fn mind_shadow(&mut self) {
        if self.in_shadow() {
            self.withdraw_interrupt();
        } else if let Some(vector) = self.deferred.take() {
            self.request_interrupt(vector);
        }
    }

    /// Passes the instruction that exited; `bytes` is its length where the processor does not tell.
    fn pass(&mut self, bytes: u64) {
        let next = self.vmcb.control.next_rip;
        self.vmcb.save.rip =
            if self.features.next_rip && next != 0 { next } else { self.vmcb.save.rip + bytes };
        self.vmcb.control.interrupt_shadow = 0;
    }

    /// Keeps an event that an exit interrupted, unless executing its instruction again raises it again.
    fn keep_interrupted_event(&mut self) {
        let control = &mut self.vmcb.control;
        control.event_injection = 0;
        if control.exit_interrupt_info & event::VALID == 0 {
            return;
        }
        match event::again(control.exit_interrupt_info) {
            Again::Inject(information) => control.event_injection = information,
            Again::Request(vector) => self.request_interrupt(vector),
            Again::No => {}
        }
    }

    /// The view that it is in, by its number.
    fn view(&self) -> usize {
        let root = self.vmcb.control.nested_cr3 >> FRAME_SHIFT;
        self.roots.iter().position(|listed| *listed == root).unwrap_or(0)
    }

    /// Goes on with another nested table. Cached translations carry the identifier of the guest, not that of
    /// the table (APM vol. 2 §15.16.1): all of the guest's must go.
    fn set_root(&mut self, root: u64) {
        self.vmcb.control.nested_cr3 = root << FRAME_SHIFT;
        self.vmcb.control.clean &= !CLEAN_NESTED;
        self.flush_nested();
    }

    fn decode(&mut self) -> VmExit {
        let (code, info1, info2) =
            (self.vmcb.control.exit_code, self.vmcb.control.exit_info1, self.vmcb.control.exit_info2);
        match code {
            exit::INTR | exit::NMI | exit::SMI | exit::INIT => VmExit::Interrupt,
            exit::VINTR => VmExit::Window,
            exit::VMMCALL => {
                self.pass(3);
                VmExit::Hypercall
            }
            exit::HLT => {
                self.pass(1);
                VmExit::Halt
            }
            exit::CPUID => {
                self.pass(2);
                VmExit::Cpuid
            }
            exit::MSR => {
                let msr = self.switch.registers.rcx as u32;
                if info1 & 1 == 0 { VmExit::MsrRead(msr) } else { VmExit::MsrWrite(msr) }
            }
            exit::IOIO => VmExit::Port,
            exit::NPF => {
                let access = match (info1 & 1 << 4 != 0, info1 & 1 << 1 != 0) {
                    (true, _) => Access::Execute,
                    (_, true) => Access::Write,
                    _ => Access::Read,
                };
                VmExit::NestedFault(NestedFault {
                    address: info2,
                    access,
                    linear: None,
                    in_delivery: self.vmcb.control.exit_interrupt_info & event::VALID != 0,
                    view: self.view() as u16,
                })
            }
            exit::SHUTDOWN if machine_check_in_progress() => VmExit::MachineCheck,
            exit::SHUTDOWN => VmExit::TripleFault,
            exit::XSETBV => VmExit::Xsetbv,
            exit::ALIGNMENT_CHECK => {
                self.raise(Exception::AlignmentCheck);
                VmExit::Handled
            }
            exit::MACHINE_CHECK => VmExit::MachineCheck,
            exit::RDPRU
            | exit::VMRUN
            | exit::VMLOAD
            | exit::VMSAVE
            | exit::STGI
            | exit::CLGI
            | exit::SKINIT
            | exit::INVLPGA
            | exit::RSM
            | exit::MONITOR
            | exit::MWAIT => VmExit::Undefined,
            exit::WBINVD | exit::INVD | exit::RDPMC | exit::TASK_SWITCH | exit::DR_READ..=exit::DR_LAST => {
                VmExit::Privileged
            }
            // The processor writes -1 of 32 or 64 bits.
            code if code as u32 == exit::INVALID => VmExit::InvalidState,
            other => VmExit::Unknown(other),
        }
    }
}

/// Whether a machine check is being dealt with. A guest that has cleared `CR4.MCE` is shut down by one, as by
/// a triple fault.
fn machine_check_in_progress() -> bool {
    const MCG_STATUS: u32 = 0x17a;
    const IN_PROGRESS: u64 = 1 << 2;
    let offered = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|info| info.has_mca());
    // SAFETY: the register exists with machine-check banks; reading it has no effect.
    offered && unsafe { rdmsr(MCG_STATUS) } & IN_PROGRESS != 0
}

impl Vcpu for SvmVcpu {
    // `VMLOAD` and `VMSAVE` around every run move all the rest.
    fn take_core(&mut self) {
        if !core::mem::replace(&mut self.on_core, true) {
            self.xstate.load(&self.support);
        }
    }

    fn leave_core(&mut self) {
        if core::mem::take(&mut self.on_core) {
            self.xstate.save(&self.support);
        }
    }

    fn run(&mut self, host: HostPage) -> VmExit {
        self.switch.host = host.0;
        if self.shadow.is_some() || self.deferred.is_some() {
            self.mind_shadow();
        }
        self.vmcb.save.rax = self.switch.registers.rax;
        let rip = self.vmcb.save.rip;
        // SAFETY: `Svm::enable` turned SVM on and saved the host's state; `new` made VMCB and SSE state,
        // which `self` owns; the nested page table confines the guest (`new`).
        unsafe { switch::enter(&mut self.switch) };
        self.switch.registers.rax = self.vmcb.save.rax;
        self.vmcb.control.tlb_control = tlb_control::NOTHING;
        self.vmcb.control.clean = self.clean;
        if self.vmcb.control.exit_code as u32 == exit::INVALID {
            // The processor has overwritten the guest's state with the host's, which is nobody's business.
            self.vmcb.save.rip = rip;
        }
        if self.vmcb.save.cr4 & CR4_REFUSED != 0 {
            return VmExit::InvalidState;
        }
        self.keep_interrupted_event();
        if self.vmcb.control.interrupt_shadow & 1 != 0 && self.emulated() {
            self.shadow = Some(self.vmcb.save.rip);
        } else if self.shadow.is_some() && !self.in_shadow() {
            self.shadow = None;
        }
        self.decode()
    }

    fn registers(&mut self) -> &mut Registers {
        &mut self.switch.registers
    }

    fn rip(&self) -> u64 {
        self.vmcb.save.rip
    }

    fn skip(&mut self, bytes: u64) {
        self.pass(bytes);
    }

    fn raise(&mut self, exception: Exception) {
        self.vmcb.control.event_injection = event::exception(exception, self.emulated());
    }

    fn post_upcall(&mut self, vector: u8) {
        if self.in_shadow() {
            self.deferred = Some(vector);
        } else {
            self.request_interrupt(vector);
        }
    }

    fn upcall_posted(&self) -> bool {
        self.deferred.is_some() || self.requests_interrupt()
    }

    fn patience_us(&self) -> Option<u64> {
        if self.deferred.is_some() {
            Some(DEFERRED_US)
        } else {
            (self.emulated() && self.requests_interrupt()).then_some(REQUESTED_US)
        }
    }

    fn interrupts_enabled(&self) -> bool {
        self.vmcb.save.rflags & RFLAGS_INTERRUPT != 0
    }

    fn uses_xsave(&self) -> bool {
        self.vmcb.save.cr4 & CR4_OSXSAVE != 0
    }

    fn set_xcr0(&mut self, value: u64) -> bool {
        self.xstate.set_xcr0(value, &self.support)
    }

    fn efer(&self) -> u64 {
        self.vmcb.save.efer & !EFER_SVM
    }

    fn set_efer(&mut self, value: u64) -> bool {
        if value & !EFER_GUEST != 0 || (value ^ self.efer()) & EFER_LONG != 0 {
            return false;
        }
        self.vmcb.save.efer = value | EFER_SVM;
        self.vmcb.control.clean &= !CLEAN_CONTROL_REGISTERS;
        true
    }

    fn flush_nested(&mut self) {
        self.vmcb.control.tlb_control = self.switch.flush as u8;
    }

    fn change_views(&mut self, change: &ViewChange) {
        let view = self.view();
        self.roots[1..].copy_from_slice(&change.roots[1..]);
        self.switch.view_list = change.list << FRAME_SHIFT;
        if change.kept >> view & 1 == 0 {
            self.set_root(self.roots[0]);
            self.raise(Exception::GeneralProtection);
        }
        self.flush_nested();
    }

    fn switch_view(&mut self, entry: u64) -> bool {
        let root = listed(&self.roots, entry);
        if let Some(root) = root {
            self.set_root(root);
        }
        root.is_some()
    }
}
