//! Instructions that are not a guest's to execute.

use crate::judge::{Attempt, Judge};
use crate::machine;
use libos_core::trap::{GENERAL_PROTECTION, INVALID_OPCODE};

pub const ATTEMPTS: &[Attempt] = &[
    Attempt::survives("virtualization", "all instructions of AMD SVM and Intel VMX", virtualization),
    Attempt::survives("privileged", "cache control, performance counters, debug registers", privileged),
    Attempt::survives("msrs", "reading and writing model-specific registers", msrs),
    Attempt::survives("efer", "forbidden bits of EFER", efer),
    Attempt::survives("ports", "reading and writing I/O ports", ports),
    Attempt::survives("xcr0", "values of XCR0 that make no sense", xcr0),
    Attempt::either("control-registers", "bits of CR0 and CR4 that make no sense", control_registers),
    Attempt::either("paging-off", "turning off paging, long mode's page tables, protected mode", paging_off),
    Attempt::survives("cpuid", "what CPUID says about virtualization", cpuid),
];

fn virtualization(judge: &mut Judge) {
    for (name, trap) in machine::virtualization_instructions() {
        judge.traps(name, trap, INVALID_OPCODE);
    }
}

fn privileged(judge: &mut Judge) {
    for (name, trap) in machine::privileged_instructions() {
        judge.traps(name, trap, GENERAL_PROTECTION);
    }
}

/// Registers that a guest must neither read nor write: APIC base, feature control, microcode, miscellaneous,
/// MTRRs, x2APIC, hypervisors' own, system configuration, SMM, SVM.
const FORBIDDEN_MSRS: [u32; 38] = [
    0x1b,
    0x3a,
    0x8b,
    0xce,
    0x17a,
    0x186,
    0x198,
    0x199,
    0x19a,
    0x1a0,
    0x1d9,
    0x200,
    0x20f,
    0x250,
    0x26f,
    0x2ff,
    0x480,
    0x48b,
    0x800,
    0x80b,
    0x830,
    0x83f,
    0x4000_0000,
    0x4000_0001,
    0x4b56_4d00,
    0x4b56_4d01,
    0xc000_0103,
    0xc001_0000,
    0xc001_0010,
    0xc001_0015,
    0xc001_001a,
    0xc001_0020,
    0xc001_0111,
    0xc001_0112,
    0xc001_0113,
    0xc001_0114,
    0xc001_0117,
    0xffff_ffff,
];

fn msrs(judge: &mut Judge) {
    for register in FORBIDDEN_MSRS {
        let read = machine::read_msr(register).err();
        judge.traps(format_args!("reading {register:#x}"), read, GENERAL_PROTECTION);
        for value in [0, 1, u64::MAX] {
            let write = machine::write_msr(register, value);
            judge.traps(format_args!("writing {value:#x} to {register:#x}"), write, GENERAL_PROTECTION);
        }
    }
}

fn efer(judge: &mut Judge) {
    const EFER: u32 = 0xc000_0080;
    const SVM_ENABLE: u64 = 1 << 12;
    const LONG_MODE: u64 = 1 << 8;
    let value = match machine::read_msr(EFER) {
        Ok(value) => value,
        Err(trap) => return judge.expect("reading EFER", Err(trap), Ok(0)),
    };
    judge.expect("EFER.SVME is hidden", value & SVM_ENABLE, 0);
    judge.expect("EFER.LME is set", value & LONG_MODE, LONG_MODE);
    judge.expect("writing what was read", machine::write_msr(EFER, value), None);
    for bit in [8, 10, 12, 13, 15, 20, 40, 63] {
        let trap = machine::write_msr(EFER, value ^ 1 << bit);
        judge.traps(format_args!("changing bit {bit}"), trap, GENERAL_PROTECTION);
    }
}

/// Ports of interrupt controllers, timer, keyboard, clock, DMA, system control, serial, PCI, ACPI, QEMU's
/// exit and reset.
const PORTS: [u16; 30] = [
    0x0, 0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xa1, 0xb2, 0xf4, 0x1f0,
    0x3d4, 0x3f8, 0x402, 0x501, 0x510, 0x511, 0x600, 0x604, 0xb004, 0xcf8, 0xcf9, 0xcfc, 0xffff,
];

fn ports(judge: &mut Judge) {
    for port in PORTS {
        judge.traps(format_args!("in from {port:#x}"), machine::port_in(port), GENERAL_PROTECTION);
        let write = machine::port_out(port, 0xffff_fffe);
        judge.traps(format_args!("out to {port:#x}"), write, GENERAL_PROTECTION);
        let string = machine::port_out_string(port);
        judge.traps(format_args!("outs to {port:#x}"), string, GENERAL_PROTECTION);
    }
}

/// Whether these bits trap is the processor's matter. An emulator may take them and refuse to go on with them
/// later.
fn control_registers(judge: &mut Judge) {
    for bit in [1, 2, 3, 4, 16, 18, 29, 30, 32, 40, 63] {
        machine::set_cr0_bits(1 << bit);
        judge.harmless();
    }
    for bit in [0, 1, 2, 3, 6, 7, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 31, 32, 63] {
        machine::set_cr4_bits(1 << bit);
        judge.harmless();
    }
}

fn xcr0(judge: &mut Judge) {
    for value in [0, 2, 4, 5, 0x20, 0xe0, 0xe2, 1 << 8, 1 << 9, 1 << 17, 1 << 62, u64::MAX] {
        let trap = machine::set_xcr0(value).map(|trap| trap.vector);
        // Without XSAVE the first step, CR4.OSXSAVE or the instruction, is refused already.
        let refused = matches!(trap, Some(GENERAL_PROTECTION | INVALID_OPCODE));
        judge.expect(format_args!("XCR0 = {value:#x}"), refused, true);
    }
}

/// A processor refuses this in 64-bit mode; an emulator may obey, and the guest's next instruction is
/// somewhere else.
fn paging_off(judge: &mut Judge) {
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const PROTECTION: u64 = 1 << 0;
    const PAGING: u64 = 1 << 31;
    machine::set_cr4_bits(PHYSICAL_ADDRESS_EXTENSION);
    machine::set_cr0_bits(PROTECTION);
    machine::set_cr0_bits(PAGING);
    judge.harmless();
}

fn cpuid(judge: &mut Judge) {
    use core::arch::x86_64::__cpuid_count;
    use hyperexo_abi::hypercall::{CPUID_LEAF, CPUID_SIGNATURE};
    const SVM_IN_ECX: u32 = 1 << 2;
    const VMX_IN_ECX: u32 = 1 << 5;
    judge.expect("SVM is not offered", __cpuid_count(0x8000_0001, 0).ecx & SVM_IN_ECX, 0);
    judge.expect("VMX is not offered", __cpuid_count(1, 0).ecx & VMX_IN_ECX, 0);
    let leaf = __cpuid_count(CPUID_LEAF, 0);
    let mut signature = [0; 12];
    for (bytes, register) in signature.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    judge.expect("the kernel says who it is", signature, CPUID_SIGNATURE);
    for leaf in (0..0x30).chain(0x4000_0000..0x4000_0010).chain(0x8000_0000..0x8000_0030).chain([u32::MAX]) {
        __cpuid_count(leaf, u32::MAX);
        judge.harmless();
    }
}
