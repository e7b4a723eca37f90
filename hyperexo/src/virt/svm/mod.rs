//! AMD SVM with nested paging (APM vol. 2, ch. 15).
//!
//! Optional features (next-RIP save, flush by ASID, clean bits) are used where CPUID leaf 0x8000_000a shows
//! them and done without where not.

pub mod event;
pub mod features;
pub mod switch;
pub mod vmcb;

use super::state::{
    self, CODE_SELECTOR, CR0_START, CR4_MACHINE_CHECK, CR4_OSXSAVE, CR4_START, Column, DATA_SELECTOR,
    DR7_RESET, EFER_GUEST, EFER_LONG, EFER_NO_EXECUTE, PAT_RESET, RFLAGS_INTERRUPT, RFLAGS_RESERVED,
};
use super::{Access, Backend, Entry, Exception, NestedFault, Registers, Vcpu, VmExit, listed};
use crate::resource::view::List;
use crate::view::ViewChange;
use alloc::boxed::Box;
use core::arch::asm;
use event::Again;
use features::Features;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::accounting::{Accounting, Exit};
use hyperexo_abi::hypercall::VIEWS;
use hyperexo_hw::sse::{MXCSR_RESET, SseState};
use switch::Switch;
use vmcb::{Vmcb, exception, exit, intercept1, intercept2, tlb_control, virtual_interrupt};
use x86::msr::{IA32_EFER, rdmsr, wrmsr};
use zerocopy::FromZeros;

const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;
const VM_CR_DISABLED: u64 = 1 << 4;

const EFER_SVM: u64 = 1 << 12;

/// Clean bits of all parts of the VMCB (APM vol. 2 §15.15.3); the parts that the kernel changes between runs.
const CLEAN_ALL: u64 = 0xfff;
const CLEAN_INTERRUPT: u64 = 1 << 3;
const CLEAN_NESTED: u64 = 1 << 4;
const CLEAN_CONTROL_REGISTERS: u64 = 1 << 5;

/// How long a guest may run while its upcall is deferred ([`SvmVcpu::shadow`]).
const DEFERRED_US: u64 = 50;
/// How long a guest that was entered with a request for an interrupt may run on TCG. TCG notes the request
/// without an atomic (seen in 7.2), and may forget an interrupt for the host that comes at that moment. Its next
/// one brings it back: the timer.
const REQUESTED_US: u64 = 10_000;

/// Why SVM can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SvmError {
    /// The processor does not have it.
    Absent,
    /// Firmware has locked it off.
    Disabled,
    /// It has no nested paging.
    NoNestedPaging,
}

impl core::fmt::Display for SvmError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            SvmError::Absent => "the processor does not offer AMD SVM",
            SvmError::Disabled => "AMD SVM is switched off by firmware",
            SvmError::NoNestedPaging => "AMD SVM without nested paging",
        })
    }
}

/// Permission maps shared by all guests: every port and nearly every MSR exits.
#[repr(C, align(4096))]
#[derive(FromZeros)]
struct Permissions {
    ports: [u8; 0x3000],
    msrs: [u8; 0x2000],
}

/// A page for the processor's use.
#[repr(C, align(4096))]
#[derive(FromZeros)]
struct HostPage([u8; 4096]);

/// SVM, turned on, on the core that made this value.
pub struct Svm {
    /// What the processor offers.
    pub features: Features,
    permissions: &'static Permissions,
    host: &'static HostPage,
}

impl Svm {
    /// Whether the processor has SVM at all.
    pub fn is_offered() -> bool {
        let cpuid = raw_cpuid::CpuId::new();
        cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|info| info.has_svm())
    }

    /// What the processor offers, without turning anything on.
    ///
    /// # Errors
    ///
    /// [`SvmError`].
    pub fn probe() -> Result<Features, SvmError> {
        let cpuid = raw_cpuid::CpuId::new();
        let svm = cpuid.get_svm_info().filter(|_| Svm::is_offered()).ok_or(SvmError::Absent)?;
        if !svm.has_nested_paging() {
            return Err(SvmError::NoNestedPaging);
        }
        Ok(Features {
            asids: svm.supported_asids(),
            next_rip: svm.has_nrip(),
            flush_by_asid: svm.has_flush_by_asid(),
            clean_bits: svm.has_vmcb_clean_bits(),
            decode_assists: svm.has_decode_assists(),
            avic: raw_cpuid::cpuid!(0x8000_000a, 0).edx & features::AVIC != 0,
        })
    }

    /// Turns SVM on for this core.
    ///
    /// # Errors
    ///
    /// [`SvmError`].
    ///
    /// # Safety
    ///
    /// Ring 0, memory mapped by identity, interrupts disabled, the descriptor tables of this core loaded for
    /// good (what `VMSAVE` stores here is restored at every exit).
    pub unsafe fn enable() -> Result<Svm, SvmError> {
        let features = Svm::probe()?;
        // SAFETY: the processor has SVM, so it has these registers.
        if unsafe { rdmsr(VM_CR) } & VM_CR_DISABLED != 0 {
            return Err(SvmError::Disabled);
        }
        let save: &'static HostPage = Box::leak(HostPage::new_box_zeroed().expect("kernel heap"));
        let host: &'static HostPage = Box::leak(HostPage::new_box_zeroed().expect("kernel heap"));
        // SAFETY: the pages are leaked, hence the processor's for ever; identity mapping makes addresses
        // physical.
        unsafe {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SVM);
            wrmsr(VM_HSAVE_PA, core::ptr::from_ref(save) as u64);
            asm!("vmsave rax", in("rax") core::ptr::from_ref(host));
        }
        Ok(Svm { features, permissions: permissions(), host })
    }

    /// Sees to it that every interrupt that is pending ends the next halt of this core.
    ///
    /// A processor needs none of it. QEMU's TCG on several cores can forget an interrupt ([`REQUESTED_US`]), which
    /// a write of CR8 makes it look for, and lose GIF ([`hyperexo_hw::sse`]), which a guest on another core can
    /// still bring about.
    pub fn prepare_halt(&self) {
        // SAFETY: ring 0, SVM is on (`enable`). The kernel's task priority is always 0. Interrupts are disabled by
        // the flag, so that GIF, which is set outside `switch::enter`, lets nothing in.
        unsafe { asm!("mov cr8, {zero}", "stgi", zero = in(reg) 0u64, options(nostack)) };
    }
}

/// The maps: all ones, but for [`state::passed_msrs`] (APM vol. 2 §15.11: two bits a register, read and write). Made
/// by the first core that asks, for all.
fn permissions() -> &'static Permissions {
    static MAPS: spin::Once<&'static Permissions> = spin::Once::new();
    MAPS.call_once(|| Box::leak(new_permissions()))
}

fn new_permissions() -> Box<Permissions> {
    let mut maps = Permissions::new_box_zeroed().expect("kernel heap");
    maps.ports.fill(0xff);
    maps.msrs.fill(0xff);
    for msr in state::passed_msrs(Column::Svm) {
        let (base, offset) = if msr < 0x2000 { (0, msr) } else { (0x800, msr - 0xc000_0000) };
        maps.msrs[base + offset as usize / 4] &= !(0b11 << (offset % 4 * 2));
    }
    maps
}

/// A virtual CPU.
pub struct SvmVcpu {
    vmcb: Box<Vmcb>,
    switch: Switch,
    _sse: Box<SseState>,
    features: Features,
    /// Top frames of the tables in its list of views; entry 0 is its own.
    roots: List,
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

fn segment(selector: u16, attributes: u16) -> vmcb::Segment {
    vmcb::Segment { selector, attributes, limit: u32::MAX, base: 0 }
}

impl SvmVcpu {
    /// A guest in 64-bit mode at its entry point. `nested_root`: frame of its nested page table; `asid`: its
    /// address space identifier, not 0 and not another guest's.
    ///
    /// # Safety
    ///
    /// The nested page table confines the guest to what it may touch, and stays in place as long as the value
    /// lives.
    pub unsafe fn new(
        svm: &Svm,
        nested_root: u64,
        asid: u32,
        entry: &Entry,
        accounting: &'static Accounting,
    ) -> SvmVcpu {
        // SAFETY: a VMCB is integers only, for which zero is a value.
        let mut vmcb: Box<Vmcb> = unsafe { Box::new_zeroed().assume_init() };
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
        control.io_permissions = (&raw const svm.permissions.ports) as u64;
        control.msr_permissions = (&raw const svm.permissions.msrs) as u64;
        control.asid = asid;
        control.virtual_interrupt = virtual_interrupt::MASKING | virtual_interrupt::IGNORE_PRIORITY;
        control.nested_enable = 1;
        control.nested_cr3 = nested_root << FRAME_SHIFT;
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
        let sse = Box::new(SseState::initial());
        let switch = Switch {
            registers: Registers { rdi: entry.rdi, rsi: entry.rsi, ..Registers::default() },
            guest: (&raw const *vmcb) as u64,
            host: core::ptr::from_ref(svm.host) as u64,
            sse: (&raw const *sse) as u64,
            hypercalls: (&raw const accounting.exits[Exit::Hypercall as usize]) as u64,
            view_list: 0,
            flush: u32::from(if svm.features.flush_by_asid { tlb_control::GUEST } else { tlb_control::ALL }),
            mxcsr: MXCSR_RESET,
        };
        let mut roots = [0; VIEWS];
        roots[0] = nested_root;
        let features = svm.features;
        let mut vcpu = SvmVcpu { vmcb, switch, _sse: sse, features, roots, deferred: None, shadow: None };
        vcpu.flush_nested();
        vcpu
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
            exit::IOIO => VmExit::Port((info1 >> 16) as u16),
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
            exit::RDPRU => VmExit::Undefined("rdpru"),
            exit::VMRUN => VmExit::Undefined("vmrun"),
            exit::VMLOAD => VmExit::Undefined("vmload"),
            exit::VMSAVE => VmExit::Undefined("vmsave"),
            exit::STGI => VmExit::Undefined("stgi"),
            exit::CLGI => VmExit::Undefined("clgi"),
            exit::SKINIT => VmExit::Undefined("skinit"),
            exit::INVLPGA => VmExit::Undefined("invlpga"),
            exit::RSM => VmExit::Undefined("rsm"),
            exit::MONITOR => VmExit::Undefined("monitor"),
            exit::MWAIT => VmExit::Undefined("mwait"),
            exit::WBINVD => VmExit::Privileged("wbinvd"),
            exit::INVD => VmExit::Privileged("invd"),
            exit::RDPMC => VmExit::Privileged("rdpmc"),
            exit::TASK_SWITCH => VmExit::Privileged("task switch"),
            exit::DR_READ..=exit::DR_LAST => VmExit::Privileged("debug register"),
            // The processor writes -1 of 32 or 64 bits.
            code if code as u32 == exit::INVALID => VmExit::InvalidState,
            other => VmExit::Unknown(other),
        }
    }
}

/// Whether a machine check is being dealt with. A guest that has cleared `CR4.MCE` is shut down by one, as by a
/// triple fault.
fn machine_check_in_progress() -> bool {
    const MCG_STATUS: u32 = 0x17a;
    const IN_PROGRESS: u64 = 1 << 2;
    let offered = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|info| info.has_mca());
    // SAFETY: the register exists with machine-check banks; reading it has no effect.
    offered && unsafe { rdmsr(MCG_STATUS) } & IN_PROGRESS != 0
}

impl Vcpu for SvmVcpu {
    fn run(&mut self, backend: &Backend) -> VmExit {
        let Backend::Svm(svm) = backend else { return VmExit::InvalidState };
        self.switch.host = core::ptr::from_ref(svm.host) as u64;
        if self.in_shadow() {
            self.withdraw_interrupt();
        } else if let Some(vector) = self.deferred.take() {
            self.request_interrupt(vector);
        }
        self.vmcb.save.rax = self.switch.registers.rax;
        let rip = self.vmcb.save.rip;
        // SAFETY: `Svm::enable` turned SVM on and saved the host's state; `new` made VMCB and SSE state, which
        // `self` owns; the nested page table confines the guest (`new`).
        unsafe { switch::enter(&mut self.switch) };
        self.switch.registers.rax = self.vmcb.save.rax;
        self.vmcb.control.tlb_control = tlb_control::NOTHING;
        self.vmcb.control.clean = if self.features.clean_bits { CLEAN_ALL } else { 0 };
        if self.vmcb.control.exit_code as u32 == exit::INVALID {
            // The processor has overwritten the guest's state with the host's, which is nobody's business.
            self.vmcb.save.rip = rip;
        }
        if self.vmcb.save.cr4 & !state::allowed(state::CR4, Column::Svm) != 0 {
            return VmExit::InvalidState;
        }
        self.keep_interrupted_event();
        if self.emulated() && self.vmcb.control.interrupt_shadow & 1 != 0 {
            self.shadow = Some(self.vmcb.save.rip);
        } else if !self.in_shadow() {
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

    // `VMLOAD` and `VMSAVE` around every run move everything.
    fn leave_core(&mut self) {}
}
