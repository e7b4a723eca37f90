//! Names what is wrong with a guest state that the processor refuses (exit reason 33).
//!
//! The processor does not say which of its checks failed. These are the ones (SDM vol. 3 §27.3.1) that guest
//! code or a mistake in this backend could get wrong, in the processor's order.
#![forbid(unsafe_code)]

use super::exit::UNUSABLE;
use crate::virt::state::{EFER_GUEST, RFLAGS_INTERRUPT, RFLAGS_RESERVED};
use x86::vmx::vmcs::{control, guest};

/// Bits of CR0 and CR4 that VMX operation wants to be 1 and lets be 1 in a guest (appendix A.7, A.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Bits that must be 1.
    pub ones: u64,
    /// Bits that may be 1.
    pub may: u64,
}

impl Fixed {
    /// Whether a register may have this value.
    pub fn permits(self, value: u64) -> bool {
        value & self.ones == self.ones && value & !self.may == 0
    }

    /// The nearest permitted value.
    pub fn adjust(self, value: u64) -> u64 {
        (value | self.ones) & self.may
    }
}

const PROTECTION: u64 = 1;
const PAGING: u64 = 1 << 31;
const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const PROCESS_CONTEXT: u64 = 1 << 17;
const IA32E_GUEST: u64 = control::EntryControls::IA32E_MODE_GUEST.bits() as u64;
const LONG_ENABLE: u64 = 1 << 8;
const LONG_ACTIVE: u64 = 1 << 10;

/// The first inconsistency in the guest state that `read` reads, field by field.
pub fn find(read: impl Fn(u32) -> u64, cr0_fixed: Fixed, cr4_fixed: Fixed) -> Option<&'static str> {
    let (cr0, cr4) = (read(guest::CR0), read(guest::CR4));
    let long = read(control::VMENTRY_CONTROLS) & IA32E_GUEST != 0;
    let efer = read(guest::IA32_EFER_FULL);
    let flags = read(guest::RFLAGS);
    let event = read(control::VMENTRY_INTERRUPTION_INFO_FIELD);
    let blocking = read(guest::INTERRUPTIBILITY_STATE);
    let external = event & (1 << 31 | 7 << 8) == 1 << 31;
    let interrupts = flags & RFLAGS_INTERRUPT != 0;
    let checks = [
        (cr0_fixed.permits(cr0), "guest CR0: bits that VMX operation fixes"),
        (cr0 & PAGING == 0 || cr0 & PROTECTION != 0, "guest CR0: paging without protection"),
        (cr4_fixed.permits(cr4), "guest CR4: bits that VMX operation fixes"),
        (!long || cr0 & PAGING != 0, "guest CR0: long mode without paging"),
        (!long || cr4 & PHYSICAL_ADDRESS_EXTENSION != 0, "guest CR4: long mode without PAE"),
        (long || cr4 & PROCESS_CONTEXT == 0, "guest CR4: PCIDE outside long mode"),
        (read(guest::CR3) >> 52 == 0, "guest CR3: beyond physical addresses"),
        (canonical(read(guest::IA32_SYSENTER_ESP)), "guest IA32_SYSENTER_ESP: not canonical"),
        (canonical(read(guest::IA32_SYSENTER_EIP)), "guest IA32_SYSENTER_EIP: not canonical"),
        (efer & !EFER_GUEST == 0, "guest IA32_EFER: reserved bits"),
        (
            (efer & LONG_ACTIVE != 0) == long,
            "guest IA32_EFER: LMA differs from the IA-32e mode guest control",
        ),
        (
            cr0 & PAGING == 0 || (efer & LONG_ACTIVE != 0) == (efer & LONG_ENABLE != 0),
            "guest IA32_EFER: LMA differs from LME",
        ),
        (usable(&read, guest::CS_ACCESS_RIGHTS), "guest CS: unusable"),
        (
            usable(&read, guest::TR_ACCESS_RIGHTS)
                && matches!(read(guest::TR_ACCESS_RIGHTS) & 0x9f, 0x83 | 0x8b),
            "guest TR: not a busy task segment",
        ),
        (canonical(read(guest::FS_BASE)), "guest FS base: not canonical"),
        (canonical(read(guest::GS_BASE)), "guest GS base: not canonical"),
        (canonical(read(guest::GDTR_BASE)), "guest GDTR base: not canonical"),
        (canonical(read(guest::IDTR_BASE)), "guest IDTR base: not canonical"),
        (!long || canonical(read(guest::RIP)), "guest RIP: not canonical"),
        (long || read(guest::RIP) >> 32 == 0, "guest RIP: more than 32 bits outside long mode"),
        (
            flags & RFLAGS_RESERVED != 0 && flags & (1 << 3 | 1 << 5 | 1 << 15) == 0 && flags >> 22 == 0,
            "guest RFLAGS: reserved bits",
        ),
        (!external || interrupts, "guest RFLAGS: interrupt injected with IF clear"),
        (!external || blocking & 3 == 0, "guest interruptibility: interrupt injected while blocked"),
        (blocking & 1 == 0 || interrupts, "guest interruptibility: blocked by STI with IF clear"),
        (read(guest::ACTIVITY_STATE) <= 3, "guest activity state: unknown"),
        (read(guest::LINK_PTR_FULL) == u64::MAX, "VMCS link pointer: not empty"),
    ];
    checks.into_iter().find(|(good, _)| !good).map(|(_, name)| name)
}

fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

fn usable(read: impl Fn(u32) -> u64, rights: u32) -> bool {
    read(rights) & u64::from(UNUSABLE) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virt::state::{CR0_START, CR4_START, EFER_LONG};
    use std::collections::HashMap;

    const CR0_FIXED: Fixed = Fixed { ones: 1 << 5, may: 0xffff_ffff };
    const CR4_FIXED: Fixed = Fixed { ones: 1 << 13, may: 0x0017_27ff };

    fn good() -> HashMap<u32, u64> {
        HashMap::from([
            (guest::CR0, CR0_FIXED.adjust(CR0_START)),
            (guest::CR4, CR4_FIXED.adjust(CR4_START)),
            (control::VMENTRY_CONTROLS, IA32E_GUEST),
            (guest::IA32_EFER_FULL, EFER_LONG),
            (guest::RFLAGS, RFLAGS_RESERVED),
            (guest::CS_ACCESS_RIGHTS, 0xa09b),
            (guest::TR_ACCESS_RIGHTS, 0x8b),
            (guest::LINK_PTR_FULL, u64::MAX),
        ])
    }

    fn verdict(changes: &[(u32, u64)]) -> Option<&'static str> {
        let mut state = good();
        state.extend(changes.iter().copied());
        find(|field| state.get(&field).copied().unwrap_or(0), CR0_FIXED, CR4_FIXED)
    }

    #[test]
    fn the_state_of_a_new_guest_is_consistent() {
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn each_mistake_is_named() {
        for (field, value, name) in [
            (guest::CR0, 1 << 5 | PAGING, "guest CR0: paging without protection"),
            (guest::CR4, CR4_START, "guest CR4: bits that VMX operation fixes"),
            (guest::RIP, 1 << 47, "guest RIP: not canonical"),
            (guest::RFLAGS, 0, "guest RFLAGS: reserved bits"),
            (guest::IA32_EFER_FULL, EFER_LONG | 1 << 12, "guest IA32_EFER: reserved bits"),
            (guest::TR_ACCESS_RIGHTS, 0x89, "guest TR: not a busy task segment"),
            (guest::LINK_PTR_FULL, 0, "VMCS link pointer: not empty"),
            (
                control::VMENTRY_INTERRUPTION_INFO_FIELD,
                0x8000_0040,
                "guest RFLAGS: interrupt injected with IF clear",
            ),
        ] {
            assert_eq!(verdict(&[(field, value)]), Some(name));
        }
    }

    #[test]
    fn canonical_addresses_repeat_bit_47() {
        assert!(canonical(0x7fff_ffff_ffff) && canonical(0xffff_8000_0000_0000));
        assert!(!canonical(0x8000_0000_0000) && !canonical(0xffff_0000_0000_0000));
    }
}
