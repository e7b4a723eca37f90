//! The processor as every virtual CPU needs to know it: found out and prepared once a core.

use super::controls::{ControlError, Controls, Offers};
use super::features::{Features, large_code_is_safe};
use super::vmcs::{Refused, Region};
use crate::virt::state::{self, Column};
use crate::virt::xstate::Support;
use alloc::boxed::Box;
use core::arch::asm;
use core::fmt;
use x86::msr::{self, rdmsr, wrmsr};
use zerocopy::FromZeros;

const FEATURE_CONTROL_LOCKED: u64 = 1 << 0;
const FEATURE_CONTROL_VMX: u64 = 1 << 2;
/// `CR0`: with the caches off, writes go no further.
pub const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
/// `CR0`: the caches are off.
pub const CR0_CACHE_DISABLE: u64 = 1 << 30;
const CR0_PROTECTION_AND_PAGING: u64 = 1 << 31 | 1;
const CR4_VMX: u64 = 1 << 13;

/// Why VMX can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmxError {
    /// The processor does not have it.
    Absent,
    /// Firmware has locked it off.
    Disabled,
    /// A control is not as it must be.
    Control(ControlError),
    /// Nested paging lacks this.
    Paging(&'static str),
    /// The processor would not enter VMX operation.
    Refused(Refused),
}

impl fmt::Display for VmxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VmxError::Absent => f.write_str("the processor does not offer Intel VMX"),
            VmxError::Disabled => {
                f.write_str("Intel VMX is switched off by firmware (IA32_FEATURE_CONTROL is locked)")
            }
            VmxError::Control(error) => write!(f, "Intel VMX is not enough: {error}"),
            VmxError::Paging(what) => write!(f, "Intel VMX is not enough: EPT without {what}"),
            VmxError::Refused(refused) => write!(f, "Intel VMX can't be turned on: {refused}"),
        }
    }
}

/// Permission maps shared by all guests: every port and nearly every MSR exits.
#[repr(C, align(4096))]
#[derive(FromZeros)]
pub struct Permissions {
    /// A bit a port: it exits.
    pub ports: [u8; 0x2000],
    /// Two bits an MSR: reading, writing it exits.
    pub msrs: [u8; 0x1000],
}

/// Bits of CR0 and CR4 that VMX operation wants to be 1 and lets be 1 in a guest (appendix A.7, A.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Bits that must be 1.
    pub ones: u64,
    /// Bits that may be 1.
    pub may: u64,
}

impl Fixed {
    /// The nearest permitted value.
    pub fn adjust(self, value: u64) -> u64 {
        (value | self.ones) & self.may
    }
}

/// What every virtual CPU needs to know of the processor.
#[derive(Clone, Copy)]
pub struct Processor {
    /// What it offers.
    pub features: Features,
    /// What extended state it has.
    pub support: Support,
    /// Values of the control fields of every guest.
    pub controls: Controls,
    /// What the memory of a control structure begins with.
    pub revision: u32,
    /// Which ports and MSRs exit.
    pub permissions: &'static Permissions,
    /// Bits of CR0 that VMX operation fixes for guests.
    pub cr0: Fixed,
    /// Bits of CR4 that it fixes.
    pub cr4: Fixed,
}

impl Processor {
    /// Whether there is VMX at all.
    pub fn has_vmx() -> bool {
        raw_cpuid::CpuId::new().get_feature_info().is_some_and(|info| info.has_vmx())
    }

    /// Turns VMX on for this core.
    ///
    /// # Errors
    ///
    /// [`VmxError`].
    ///
    /// # Safety
    ///
    /// Ring 0, memory mapped by identity, interrupts disabled.
    pub unsafe fn enable(support: Support) -> Result<Processor, VmxError> {
        if !Processor::has_vmx() {
            return Err(VmxError::Absent);
        }
        // SAFETY: the processor has VMX, so it has its registers; `Offers` and `Features` read only those
        // that exist.
        let read = |register| unsafe { rdmsr(register) };
        let offers = Offers::read(read);
        let controls = Controls::choose(&offers).map_err(VmxError::Control)?;
        let large_code = large_code_is_safe(has_hypervisor(), arch_capabilities(read));
        let features = Features::read(&offers, &controls, read, large_code).map_err(VmxError::Paging)?;
        let fixed = |ones, may| Fixed { ones: read(ones), may: read(may) };
        let cr0 = fixed(msr::IA32_VMX_CR0_FIXED0, msr::IA32_VMX_CR0_FIXED1);
        let cr4 = fixed(msr::IA32_VMX_CR4_FIXED0, msr::IA32_VMX_CR4_FIXED1);
        // Bit 31 is not part of the revision (appendix A.1).
        let revision = read(msr::IA32_VMX_BASIC) as u32 & !(1 << 31);
        // SAFETY: passed on to the caller.
        unsafe {
            unlock()?;
            prepare_control_registers(cr0, cr4);
            let mut region = Region::new_box_zeroed().expect("kernel heap");
            region.set_revision(revision);
            let region: &'static Region = Box::leak(region);
            region.turn_on().map_err(VmxError::Refused)?;
        }
        // An unrestricted guest is free of two of the fixed bits (§27.3.1.1).
        let free = if features.unrestricted_guest { CR0_PROTECTION_AND_PAGING } else { 0 };
        let cr0 = Fixed { ones: cr0.ones & !free, may: cr0.may };
        Ok(Processor { features, support, controls, revision, permissions: permissions(), cr0, cr4 })
    }
}

/// Whether this is the processor of a virtual machine.
fn has_hypervisor() -> bool {
    raw_cpuid::CpuId::new().get_feature_info().is_some_and(|info| info.has_hypervisor())
}

/// `IA32_ARCH_CAPABILITIES`, if there is such a register.
fn arch_capabilities(read: impl Fn(u32) -> u64) -> Option<u64> {
    const ARCH_CAPABILITIES: u32 = 0x10a;
    const OFFERED_IN_EDX: u32 = 1 << 29;
    let offered = raw_cpuid::cpuid!(0, 0).eax >= 7 && raw_cpuid::cpuid!(7, 0).edx & OFFERED_IN_EDX != 0;
    offered.then(|| read(ARCH_CAPABILITIES))
}

/// Sees to it that `IA32_FEATURE_CONTROL` permits VMX (SDM vol. 3 §24.7).
///
/// # Safety
///
/// Ring 0, on a processor with VMX.
unsafe fn unlock() -> Result<(), VmxError> {
    // SAFETY: the register exists with VMX; the caller is in ring 0. It can be written until it is locked.
    unsafe {
        let value = rdmsr(msr::IA32_FEATURE_CONTROL);
        if value & FEATURE_CONTROL_LOCKED == 0 {
            wrmsr(msr::IA32_FEATURE_CONTROL, value | FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCKED);
        } else if value & FEATURE_CONTROL_VMX == 0 {
            return Err(VmxError::Disabled);
        }
    }
    Ok(())
}

/// Sets the bits of CR0 and CR4 that VMX operation wants, and turns caches on: not every boot loader does.
///
/// # Safety
///
/// Ring 0, on a processor with VMX.
unsafe fn prepare_control_registers(cr0: Fixed, cr4: Fixed) {
    // SAFETY: the fixed bits are those that the processor asks for; the kernel relies on no other value of
    // them.
    unsafe {
        let mut value: u64;
        asm!("mov {}, cr0", out(reg) value);
        asm!("mov cr0, {}", in(reg) cr0.adjust(value) & !(CR0_CACHE_DISABLE | CR0_NOT_WRITE_THROUGH));
        asm!("mov {}, cr4", out(reg) value);
        asm!("mov cr4, {}", in(reg) cr4.adjust(value | CR4_VMX));
    }
}

/// The maps: all ones, but for [`state::passed_msrs`]. Made by the first core that asks, for all.
fn permissions() -> &'static Permissions {
    static MAPS: spin::Once<&'static Permissions> = spin::Once::new();
    MAPS.call_once(|| Box::leak(new_permissions()))
}

fn new_permissions() -> Box<Permissions> {
    let mut maps = Permissions::new_box_zeroed().expect("kernel heap");
    maps.ports.fill(0xff);
    maps.msrs.fill(0xff);
    for register in state::passed_msrs(Column::Vmx) {
        for (byte, bit) in msr_bits(register) {
            maps.msrs[byte] &= !bit;
        }
    }
    maps
}

/// Byte and bit in the MSR map for reading and for writing a register (SDM vol. 3 §25.6.9: four parts of a
/// kibibyte: reading low, reading high, writing low, writing high registers).
fn msr_bits(register: u32) -> [(usize, u8); 2] {
    const WRITES: usize = 0x800;
    let (base, offset) = if register < 0x2000 { (0, register) } else { (0x400, register & 0x1fff) };
    let (byte, bit) = (base + offset as usize / 8, 1 << (offset % 8));
    [(byte, bit), (byte + WRITES, bit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_msr_map_has_four_parts() {
        assert_eq!(msr_bits(0x174), [(0x2e, 0x10), (0x82e, 0x10)]);
        assert_eq!(msr_bits(0xc000_0081), [(0x410, 2), (0xc10, 2)]);
        let maps = permissions();
        let open: u32 = maps.msrs.iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(open as usize, 2 * state::passed_msrs(Column::Vmx).count());
        assert!(maps.ports.iter().all(|byte| *byte == 0xff));
    }
}
