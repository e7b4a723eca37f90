//! What the kernel does in place of the processor: CPUID, model-specific registers, XCR0, refused
//! instructions.

use crate::call;
use crate::virt::{Exception, Vcpu, VmExit, cpuid};
use hyperexo_hw::time::ticks;

const MSR_TSC: u32 = 0x10;
const MSR_EFER: u32 = 0xc000_0080;

/// Answers an exit that concerns nothing but the virtual CPU, which its core holds: no other core has a say
/// in it, so it takes no lock. Returns whether it was one.
pub fn answer(vcpu: &mut dyn Vcpu, exit: VmExit) -> bool {
    match exit {
        VmExit::Hypercall => return call::answer(vcpu),
        VmExit::Cpuid => cpuid(vcpu),
        VmExit::MsrRead(msr) => msr_read(vcpu, msr),
        VmExit::MsrWrite(msr) => msr_write(vcpu, msr),
        VmExit::Port | VmExit::Privileged => vcpu.raise(Exception::GeneralProtection),
        VmExit::Undefined => vcpu.raise(Exception::InvalidOpcode),
        VmExit::Xsetbv => xsetbv(vcpu),
        VmExit::Handled => {}
        _ => return false,
    }
    true
}

/// Answers CPUID; the instruction has been passed.
fn cpuid(vcpu: &mut dyn Vcpu) {
    let osxsave = vcpu.uses_xsave();
    let registers = vcpu.registers();
    let (leaf, subleaf) = (registers.rax as u32, registers.rcx as u32);
    let raw = raw_cpuid::cpuid!(leaf, subleaf);
    let [eax, ebx, ecx, edx] = cpuid::filter(leaf, subleaf, [raw.eax, raw.ebx, raw.ecx, raw.edx], osxsave);
    (registers.rax, registers.rbx) = (eax.into(), ebx.into());
    (registers.rcx, registers.rdx) = (ecx.into(), edx.into());
}

/// Reads a register for the guest, or tells it that there is none.
fn msr_read(vcpu: &mut dyn Vcpu, msr: u32) {
    let value = match msr {
        MSR_EFER => vcpu.efer(),
        MSR_TSC => ticks(),
        _ => return vcpu.raise(Exception::GeneralProtection),
    };
    let registers = vcpu.registers();
    (registers.rax, registers.rdx) = (value & 0xffff_ffff, value >> 32);
    vcpu.skip(2);
}

/// Writes a register for the guest, or tells it that it can't.
fn msr_write(vcpu: &mut dyn Vcpu, msr: u32) {
    let registers = vcpu.registers();
    let value = registers.rax & 0xffff_ffff | registers.rdx << 32;
    if msr == MSR_EFER && vcpu.set_efer(value) {
        vcpu.skip(2);
    } else {
        vcpu.raise(Exception::GeneralProtection);
    }
}

/// Sets XCR0 for the guest, or tells it that it can't.
fn xsetbv(vcpu: &mut dyn Vcpu) {
    let registers = vcpu.registers();
    let (index, value) = (registers.rcx as u32, registers.rax & 0xffff_ffff | registers.rdx << 32);
    if index == 0 && vcpu.set_xcr0(value) {
        vcpu.skip(3);
    } else {
        vcpu.raise(Exception::GeneralProtection);
    }
}
