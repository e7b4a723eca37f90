//! The virtual machine control block (APM vol. 2, appendix B).

/// Intercepts of the first vector (offset 0x0c): bits.
pub mod intercept1 {
    #![allow(missing_docs)] // the names are those of the manual
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const INIT: u32 = 1 << 3;
    pub const RDPMC: u32 = 1 << 15;
    pub const CPUID: u32 = 1 << 18;
    pub const RSM: u32 = 1 << 19;
    pub const INVD: u32 = 1 << 22;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IOIO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Intercepts of the second vector (offset 0x10): bits.
pub mod intercept2 {
    #![allow(missing_docs)] // the names are those of the manual
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const WBINVD: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const XSETBV: u32 = 1 << 13;
    pub const RDPRU: u32 = 1 << 14;
}

/// Intercepts of exceptions: bits.
pub mod exception {
    #![allow(missing_docs)] // the names are those of the manual
    pub const ALIGNMENT_CHECK: u32 = 1 << 17;
    pub const MACHINE_CHECK: u32 = 1 << 18;
}

/// Exit codes (appendix C).
pub mod exit {
    #![allow(missing_docs)] // the names are those of the manual
    pub const DR_READ: u64 = 0x20;
    pub const DR_LAST: u64 = 0x3f;
    pub const INTR: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const SMI: u64 = 0x62;
    pub const INIT: u64 = 0x63;
    pub const VINTR: u64 = 0x64;
    pub const RDPMC: u64 = 0x6f;
    pub const CPUID: u64 = 0x72;
    pub const RSM: u64 = 0x73;
    pub const INVD: u64 = 0x76;
    pub const HLT: u64 = 0x78;
    pub const INVLPGA: u64 = 0x7a;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const VMSAVE: u64 = 0x83;
    pub const STGI: u64 = 0x84;
    pub const CLGI: u64 = 0x85;
    pub const SKINIT: u64 = 0x86;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT: u64 = 0x8b;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const ALIGNMENT_CHECK: u64 = 0x51;
    pub const MACHINE_CHECK: u64 = 0x52;
    pub const NPF: u64 = 0x400;
    /// The low half of -1, which some write with 32 and some with 64 bits.
    pub const INVALID: u32 = u32::MAX;
}

/// TLB control: flush nothing, everything, or what belongs to this guest.
pub mod tlb_control {
    #![allow(missing_docs)] // the names are those of the manual
    pub const NOTHING: u8 = 0;
    pub const ALL: u8 = 1;
    pub const GUEST: u8 = 3;
}

/// Bits of [`Control::virtual_interrupt`].
pub mod virtual_interrupt {
    #![allow(missing_docs)] // the names are those of the manual
    pub const REQUEST: u64 = 1 << 8;
    pub const IGNORE_PRIORITY: u64 = 1 << 20;
    pub const MASKING: u64 = 1 << 24;
    pub const VECTOR_SHIFT: u32 = 32;
}

/// `EFER`: SVM is on. The processor wants it set in a guest, too.
pub const EFER_SVM: u64 = 1 << 12;

/// Clean bits of all parts of the VMCB (§15.15.3); the parts that the kernel changes between runs.
pub const CLEAN_ALL: u64 = 0xfff;
/// See [`CLEAN_ALL`].
pub const CLEAN_INTERRUPT: u64 = 1 << 3;
/// See [`CLEAN_ALL`].
pub const CLEAN_NESTED: u64 = 1 << 4;
/// See [`CLEAN_ALL`].
pub const CLEAN_CONTROL_REGISTERS: u64 = 1 << 5;

/// A segment register.
#[derive(Clone, Copy, Default)]
#[repr(C)]
#[allow(missing_docs)] // the names are those of the manual
pub struct Segment {
    pub selector: u16,
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

/// The control area.
#[repr(C)]
#[allow(missing_docs)] // the names are those of the manual
pub struct Control {
    pub intercept_cr: u32,
    pub intercept_dr: u32,
    pub intercept_exceptions: u32,
    pub intercept1: u32,
    pub intercept2: u32,
    pub intercept3: u32,
    reserved_018: [u8; 0x3c - 0x18],
    pub pause_threshold: u16,
    pub pause_count: u16,
    pub io_permissions: u64,
    pub msr_permissions: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: u8,
    reserved_05d: [u8; 3],
    pub virtual_interrupt: u64,
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info1: u64,
    pub exit_info2: u64,
    pub exit_interrupt_info: u64,
    pub nested_enable: u64,
    reserved_098: [u8; 0xa8 - 0x98],
    pub event_injection: u64,
    pub nested_cr3: u64,
    pub lbr_enable: u64,
    /// Bit set: that part of the block has not changed since the last run and may come from the processor's
    /// cache.
    pub clean: u64,
    pub next_rip: u64,
    reserved_0d0: [u8; 0x400 - 0xd0],
}

/// The state save area.
#[repr(C)]
#[allow(missing_docs)] // the names are those of the manual
pub struct Save {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    reserved_0a0: [u8; 0xcb - 0xa0],
    pub cpl: u8,
    reserved_0cc: [u8; 4],
    pub efer: u64,
    reserved_0d8: [u8; 0x148 - 0xd8],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u8; 0x1d8 - 0x180],
    pub rsp: u64,
    reserved_1e0: [u8; 0x1f8 - 0x1e0],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    pub pat: u64,
    reserved_270: [u8; 0xc00 - 0x270],
}

/// The whole block: one page.
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What the kernel says and hears.
    pub control: Control,
    /// The guest's registers.
    pub save: Save,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Control, io_permissions) == 0x40);
    assert!(offset_of!(Control, asid) == 0x58);
    assert!(offset_of!(Control, virtual_interrupt) == 0x60);
    assert!(offset_of!(Control, exit_code) == 0x70);
    assert!(offset_of!(Control, nested_enable) == 0x90);
    assert!(offset_of!(Control, event_injection) == 0xa8);
    assert!(offset_of!(Control, clean) == 0xc0);
    assert!(offset_of!(Save, cpl) == 0xcb);
    assert!(offset_of!(Save, efer) == 0xd0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
};
