//! The virtual machine control structure: its memory, its fields, and what the processor says when it refuses
//! one (SDM vol. 3 ch. 25, 31).

use super::features::Reach;
use core::arch::asm;
use core::fmt;
use x86::bits64::vmx;
use x86::vmx::VmFail;
use x86::vmx::vmcs::ro;
use zerocopy::FromZeros;

/// A page for the processor's use: a VMXON region or a VMCS.
#[derive(FromZeros)]
#[repr(C, align(4096))]
pub struct Region {
    revision: u32,
    rest: [u8; 4092],
}

/// What was attempted with a [`Region`], and how it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The instruction.
    pub instruction: &'static str,
    /// The VM-instruction error number, if there was a current VMCS to hold it.
    pub error: Option<u32>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            Some(number) => {
                write!(f, "{} refused: {} (error {number})", self.instruction, instruction_error(number))
            }
            None => write!(f, "{} refused", self.instruction),
        }
    }
}

impl Refused {
    fn because(instruction: &'static str, failure: VmFail) -> Refused {
        let error = match failure {
            VmFail::VmFailValid => Some(read(ro::VM_INSTRUCTION_ERROR) as u32),
            VmFail::VmFailInvalid => None,
        };
        Refused { instruction, error }
    }
}

impl Region {
    /// Fills in the revision that the processor wants to see (`IA32_VMX_BASIC`).
    pub fn set_revision(&mut self, revision: u32) {
        self.revision = revision;
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }

    /// Enters VMX operation with this region.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    ///
    /// # Safety
    ///
    /// The region is this core's for ever, memory is mapped by identity, `CR4.VMXE` is set and VMX not yet
    /// on.
    pub unsafe fn turn_on(&'static self) -> Result<(), Refused> {
        // SAFETY: passed on to the caller.
        unsafe { vmx::vmxon(self.address()) }.map_err(|failure| Refused::because("vmxon", failure))
    }

    /// Writes back to memory what the core holds of this VMCS, and makes it one that is launched next. It is
    /// not current afterwards.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    ///
    /// # Safety
    ///
    /// VMX is on, memory is mapped by identity, no other core has the VMCS active.
    pub unsafe fn clear(&self) -> Result<(), Refused> {
        // SAFETY: passed on to the caller.
        unsafe { vmx::vmclear(self.address()) }.map_err(|failure| Refused::because("vmclear", failure))
    }

    /// Makes this VMCS the one that [`read`], [`write()`] and entries mean.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    ///
    /// # Safety
    ///
    /// As for [`Region::clear`]; the region stays in place until it is cleared.
    pub unsafe fn make_current(&self) -> Result<(), Refused> {
        // SAFETY: passed on to the caller.
        unsafe { vmx::vmptrld(self.address()) }.map_err(|failure| Refused::because("vmptrld", failure))
    }
}

/// Reads a field of the current VMCS; 0 if there is no such field, or no current VMCS.
///
/// By hand rather than by the crate `x86`: that saves the flags after each, and this is on the way of every
/// hypercall.
#[inline(always)]
pub fn read(field: u32) -> u64 {
    let value: u64;
    // SAFETY: called on cores with VMX on only (`Vmx::enable` made what leads here); reading harms nobody. A
    // refused read leaves the register as it was.
    unsafe {
        asm!("vmread {}, {}", inout(reg) 0u64 => value, in(reg) u64::from(field), options(nomem, nostack));
    }
    value
}

/// Writes a field of the current VMCS.
///
/// # Safety
///
/// The guest stays confined with the new value.
#[inline(always)]
pub unsafe fn write(field: u32, value: u64) {
    // SAFETY: by the caller's promise; VMX is on as for `read`.
    unsafe { asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nostack)) };
}

/// Operand of the flush instructions: 128 bits.
#[repr(C, align(16))]
struct FlushTarget(u64, u64);

/// Forgets translations of nested tables: of the one that `eptp` names, or of all (SDM vol. 3 §29.4.3).
///
/// # Safety
///
/// The processor offers `INVEPT` of this reach, VMX is on.
pub unsafe fn flush_nested(reach: Reach, eptp: u64) {
    let target = FlushTarget(eptp, 0);
    // SAFETY: by the caller's promise; flushing harms nobody.
    unsafe { asm!("invept {}, [{}]", in(reg) reach.operand(), in(reg) &raw const target, options(nostack)) };
}

/// Forgets translations that carry an identifier: this one, or any.
///
/// # Safety
///
/// The processor offers `INVVPID` of this reach, VMX is on.
pub unsafe fn flush_identifier(reach: Reach, vpid: u16) {
    let target = FlushTarget(u64::from(vpid), 0);
    // SAFETY: by the caller's promise; flushing harms nobody.
    unsafe { asm!("invvpid {}, [{}]", in(reg) reach.operand(), in(reg) &raw const target, options(nostack)) };
}

/// What a VM-instruction error number means (SDM vol. 3 §31.4).
pub fn instruction_error(number: u32) -> &'static str {
    match number {
        1 => "VMCALL in VMX root operation",
        2 => "VMCLEAR with invalid physical address",
        3 => "VMCLEAR with VMXON pointer",
        4 => "VMLAUNCH with VMCS that is not clear",
        5 => "VMRESUME with VMCS that was not launched",
        6 => "VMRESUME after VMXOFF",
        7 => "entry with invalid control fields",
        8 => "entry with invalid host state",
        9 => "VMPTRLD with invalid physical address",
        10 => "VMPTRLD with VMXON pointer",
        11 => "VMPTRLD with incorrect revision",
        12 => "access to a VMCS field that is not supported",
        13 => "write to a read-only VMCS field",
        15 => "VMXON in VMX root operation",
        26 => "entry while blocked by MOV SS",
        28 => "invalid operand of INVEPT or INVVPID",
        _ => "not in the manual",
    }
}
