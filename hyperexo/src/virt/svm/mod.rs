//! AMD SVM with nested paging (APM vol. 2, ch. 15).
//!
//! | module | what |
//! |---|---|
//! | [`features`] | what the processor offers beyond the necessary |
//! | [`vmcb`] | the control block |
//! | [`event`] | events in coded form |
//! | [`switch`] | into the guest and back |
//! | [`vcpu`] | the virtual CPU |
//!
//! Optional features (next-RIP save, flush by ASID, clean bits) are used where CPUID leaf 0x8000_000a shows
//! them and done without where not.

pub mod event;
pub mod features;
pub mod switch;
pub mod vcpu;
pub mod vmcb;

use super::backend::Backend;
use super::state::{self, Column};
use super::vcpu::{Frames, Guest, HostPage, VcpuBox};
use super::xstate::Support;
use crate::resource::frame::nested::EntryFormat;
use alloc::boxed::Box;
use core::arch::asm;
use core::fmt;
use features::Features;
use hyperexo_abi::FRAME_SHIFT;
use hyperexo_abi::start::HYPERCALL_VMMCALL;
use vcpu::{Processor, SvmVcpu};
use vmcb::EFER_SVM;
use x86::msr::{IA32_EFER, rdmsr, wrmsr};
use zerocopy::FromZeros;

const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;
const VM_CR_DISABLED: u64 = 1 << 4;

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

impl fmt::Display for SvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
struct Page([u8; 4096]);

/// SVM, turned on, on the core that made this value.
pub struct Svm {
    /// What the processor offers.
    pub features: Features,
    /// What extended state it has.
    support: Support,
    permissions: &'static Permissions,
    host: &'static Page,
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
    pub unsafe fn enable(support: Support) -> Result<Svm, SvmError> {
        let features = Svm::probe()?;
        // SAFETY: the processor has SVM, so it has these registers.
        if unsafe { rdmsr(VM_CR) } & VM_CR_DISABLED != 0 {
            return Err(SvmError::Disabled);
        }
        let save: &'static Page = Box::leak(Page::new_box_zeroed().expect("kernel heap"));
        let host: &'static Page = Box::leak(Page::new_box_zeroed().expect("kernel heap"));
        // SAFETY: the pages are leaked, hence the processor's for ever; identity mapping makes addresses
        // physical.
        unsafe {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SVM);
            wrmsr(VM_HSAVE_PA, core::ptr::from_ref(save) as u64);
            asm!("vmsave rax", in("rax") core::ptr::from_ref(host));
        }
        Ok(Svm { features, support, permissions: permissions(), host })
    }
}

impl Backend for Svm {
    fn entry_format(&self) -> EntryFormat {
        EntryFormat::Npt
    }

    fn max_guests(&self) -> u64 {
        // Identifier 0 is the host's.
        u64::from(self.features.asids) - 1
    }

    fn hypercall_instruction(&self) -> u64 {
        HYPERCALL_VMMCALL
    }

    fn view_entry(&self, root: u64) -> u64 {
        root << FRAME_SHIFT
    }

    fn switches_views(&self) -> bool {
        false
    }

    fn host_page(&self) -> HostPage {
        HostPage(core::ptr::from_ref(self.host) as u64)
    }

    /// A processor needs none of it. QEMU's TCG on several cores can forget an interrupt ([`vcpu`]), which a
    /// write of CR8 makes it look for, and lose GIF ([`hyperexo_hw::sse`]), which a guest on another core can
    /// still bring about.
    fn prepare_halt(&self) {
        // SAFETY: ring 0, SVM is on (`enable`). The kernel's task priority is always 0. Interrupts are
        // disabled by the flag, so that GIF, which is set outside `switch::enter`, lets nothing in.
        unsafe { asm!("mov cr8, {zero}", "stgi", zero = in(reg) 0u64, options(nostack)) };
    }

    unsafe fn new_vcpu(&self, frames: Frames, guest: &Guest<'_>) -> VcpuBox {
        let processor = Processor {
            features: self.features,
            support: self.support,
            port_map: (&raw const self.permissions.ports) as u64,
            msr_map: (&raw const self.permissions.msrs) as u64,
        };
        // SAFETY: passed on to the caller; the maps are the processor's for ever.
        unsafe { SvmVcpu::in_frames(&processor, frames, guest) }
    }
}

impl fmt::Display for Svm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.features.fmt(f)
    }
}

/// The maps: all ones, but for [`state::passed_msrs`] (APM vol. 2 §15.11: two bits a register, read and
/// write). Made by the first core that asks, for all.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virt::vcpu::{Entry, VCPU_FRAMES};
    use hyperexo_abi::accounting::Accounting;
    use std::boxed::Box;

    /// Frames of the test program, in the state in which the kernel hands frames over.
    fn arena() -> (Box<[[u64; 1024]]>, Frames) {
        let memory = vec![[0; 1024]; 2 * VCPU_FRAMES].into_boxed_slice();
        let first = (memory.as_ptr() as u64).div_ceil(1 << FRAME_SHIFT);
        (memory, core::array::from_fn(|index| first + 2 * index as u64))
    }

    #[test]
    fn a_virtual_cpu_lies_in_its_frames_and_nowhere_else() {
        let (memory, frames) = arena();
        let features = Features { asids: 16, next_rip: true, flush_by_asid: true, clean_bits: true };
        let processor =
            Processor { features, support: Support::default(), port_map: 0x1000, msr_map: 0x4000 };
        let accounting: &'static Accounting = Box::leak(Box::default());
        let entry = Entry { rip: 0x10_0000, rsp: 0x20_0000, cr3: 0x30_0000, rdi: 1, rsi: 2 };
        let guest = Guest { nested_root: 7, identifier: 3, entry: &entry, accounting };
        // SAFETY: frames of this test's own, zeroed; the guest never runs.
        let mut vcpu = unsafe { SvmVcpu::in_frames(&processor, frames, &guest) };
        assert_eq!((vcpu.rip(), vcpu.registers().rdi, vcpu.registers().rsi), (0x10_0000, 1, 2));
        vcpu.post_upcall(0x40);
        assert!(vcpu.upcall_posted() && !vcpu.interrupts_enabled());
        assert_eq!(vcpu.patience_us(), None, "only an emulator's guests are looked after");
        assert_eq!(vcpu.dismantle(), frames);
        // Between the frames, which are every other one, nothing was written.
        let bytes = memory.as_ptr() as u64;
        for frame in frames {
            let gap = ((frame + 1) << FRAME_SHIFT) - bytes;
            let words = memory.as_flattened();
            let at = gap as usize / 8;
            assert!(words[at..words.len().min(at + 512)].iter().all(|word| *word == 0));
        }
    }

    #[test]
    fn the_msr_map_has_two_bits_a_register() {
        let maps = new_permissions();
        let open: u32 = maps.msrs.iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(open as usize, 2 * state::passed_msrs(Column::Svm).count());
        // SYSENTER_CS is register 0x174; TSC_AUX, bits 6 and 7 of its byte, is refused.
        assert_eq!((maps.msrs[0x174 / 4], maps.msrs[0x800 + 0x103 / 4]), (0b1100_0000, 0b1100_0000));
        assert!(maps.ports.iter().all(|byte| *byte == 0xff));
    }
}
