//! What a guest sees of the processor.
//!
//! Everything that works in a guest without the kernel is passed through; what does not (virtualization,
//! interrupt controllers, machine checks) or would carry state that the kernel does not switch is hidden.
#![forbid(unsafe_code)]

use super::state::XCR0_GUEST;
use hyperexo_abi::hypercall::{CPUID_LEAF, CPUID_SIGNATURE};

/// `eax`, `ebx`, `ecx`, `edx`.
pub type Leaf = [u32; 4];

const ECX: usize = 2;
const EDX: usize = 3;

/// Leaf 1 `ecx`: MONITOR, VMX, SMX, EIST, TM2, PDCM, x2APIC, TSC deadline.
const HIDDEN_1_ECX: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 15 | 1 << 21 | 1 << 24;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 `edx`: MCE, APIC, MTRR, MCA, PAT.
const HIDDEN_1_EDX: u32 = 1 << 7 | 1 << 9 | 1 << 12 | 1 << 14 | 1 << 16;
/// Leaf 7 `ecx`: PKU, OSPKE, WAITPKG, CET shadow stacks, 5-level paging, key locker.
const HIDDEN_7_ECX: u32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 23;
/// Leaf 7 `ebx`: TSC_ADJUST, SGX, MPX, processor trace.
const HIDDEN_7_EBX: u32 = 1 << 1 | 1 << 2 | 1 << 14 | 1 << 25;
/// Leaf 7 `edx`: user interrupts, CET indirect branch tracking, and what is steered by registers the kernel
/// keeps: speculation control, L1D flush, capabilities.
const HIDDEN_7_EDX: u32 = 1 << 5 | 1 << 20 | 0b11_1111 << 26;
/// Leaf 0x8000_0001 `ecx`: SVM, extended APIC space, IBS, SKINIT, watchdog, LWP, performance counters,
/// breakpoint extensions, MONITORX.
const HIDDEN_EXTENDED_ECX: u32 =
    1 << 2 | 1 << 3 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15 | 0b11 << 23 | 0b111 << 26 | 1 << 29;
/// Leaf 0x8000_0001 `edx`: APIC, MTRR.
const HIDDEN_EXTENDED_EDX: u32 = 1 << 9 | 1 << 12;

/// Turns what the processor says of `leaf` into what the guest is told. `guest_osxsave`: the guest has set
/// `CR4.OSXSAVE`.
pub fn filter(leaf: u32, subleaf: u32, mut values: Leaf, guest_osxsave: bool) -> Leaf {
    let [eax, ebx, ecx, edx] = &mut values;
    match (leaf, subleaf) {
        (1, _) => {
            *ecx = *ecx & !(HIDDEN_1_ECX | OSXSAVE) | HYPERVISOR;
            if guest_osxsave {
                *ecx |= OSXSAVE;
            }
            *edx &= !HIDDEN_1_EDX;
        }
        (7, 0) => {
            *ebx &= !HIDDEN_7_EBX;
            *ecx &= !HIDDEN_7_ECX;
            *edx &= !HIDDEN_7_EDX;
        }
        (0x8000_0001, _) => {
            values[ECX] &= !HIDDEN_EXTENDED_ECX;
            values[EDX] &= !HIDDEN_EXTENDED_EDX;
        }
        (0xd, 0) => {
            *eax &= XCR0_GUEST as u32;
            *edx = 0;
        }
        // Speculation control and RDPRU; the address sizes stay.
        (0x8000_0008, _) => *ebx = 0,
        // What these subleaves list is steered by registers that the kernel keeps.
        (7, 1..) | (0xd, 1) => values = [0; 4],
        // Performance counters, processor trace, SGX, SVM.
        (0xa | 0x12 | 0x14 | 0x8000_000a, _) => values = [0; 4],
        (CPUID_LEAF, _) => {
            let word =
                |at: usize| u32::from_le_bytes(core::array::from_fn(|byte| CPUID_SIGNATURE[at + byte]));
            values = [CPUID_LEAF, word(0), word(4), word(8)];
        }
        (0x4000_0001..=0x4fff_ffff, _) => values = [0; 4],
        _ => {}
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualization_is_hidden_and_the_signature_shown() {
        let all = [u32::MAX; 4];
        let leaf = filter(1, 0, all, false);
        assert_eq!(leaf[ECX] & (1 << 5), 0, "VMX");
        assert_eq!(leaf[ECX] & OSXSAVE, 0);
        assert_ne!(leaf[ECX] & HYPERVISOR, 0);
        assert_ne!(filter(1, 0, [0; 4], true)[ECX] & OSXSAVE, 0);
        assert_eq!(filter(0x8000_0001, 0, all, false)[ECX] & (1 << 2), 0, "SVM");
        assert_eq!(filter(0x8000_000a, 0, all, false), [0; 4]);
        let [max, ebx, ecx, edx] = filter(CPUID_LEAF, 0, all, false);
        let text: Vec<u8> = [ebx, ecx, edx].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((max, &text[..]), (CPUID_LEAF, &CPUID_SIGNATURE[..]));
        assert_eq!(filter(0x4000_0100, 0, all, false), [0; 4]);
    }
}
