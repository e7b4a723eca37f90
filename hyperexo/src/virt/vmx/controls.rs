//! VM-execution, VM-exit and VM-entry controls: what is wanted, and what the processor's capability registers
//! make of it (SDM vol. 3 §25.6–25.8, appendix A.2–A.5).
#![forbid(unsafe_code)]

use core::fmt;
use x86::msr;
use x86::vmx::vmcs::control::{
    EntryControls as Entry, ExitControls as Exit, PinbasedControls as Pin, PrimaryControls as Primary,
    SecondaryControls as Secondary,
};

/// `IA32_VMX_BASIC`: the TRUE capability registers exist.
const BASIC_TRUE_CONTROLS: u64 = 1 << 55;

/// What a capability register says of 32 controls: which must be 1, which may be 1 (appendix A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    must: u32,
    may: u32,
}

impl Allowed {
    /// From the register's value.
    pub fn new(capability: u64) -> Allowed {
        Allowed { must: capability as u32, may: (capability >> 32) as u32 }
    }

    /// Whether these controls can be 1.
    pub fn offers(self, bits: u32) -> bool {
        self.may & bits == bits
    }

    /// The value that fulfils the wishes. Controls that nobody mentions are as the processor insists, else 0.
    ///
    /// # Errors
    ///
    /// [`ControlError`], naming the first wish that can't be fulfilled.
    pub fn adjust(self, wishes: &[Wish]) -> Result<u32, ControlError> {
        let mut value = self.must;
        for Wish { bit, name, want } in wishes {
            match want {
                Want::On if !self.offers(*bit) => return Err(ControlError::NotOffered(name)),
                Want::On => value |= bit,
                Want::IfOffered => value |= bit & self.may,
                Want::Off if self.must & bit != 0 => return Err(ControlError::StuckOn(name)),
                Want::Off => {}
            }
        }
        Ok(value)
    }
}

/// How a control should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// 1; the backend does not work without.
    On,
    /// 1 where the processor has it.
    IfOffered,
    /// 0; the backend does not work with it.
    Off,
}

/// What is wanted of one control.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    bit: u32,
    name: &'static str,
    want: Want,
}

const fn wish(bit: u32, name: &'static str, want: Want) -> Wish {
    Wish { bit, name, want }
}

/// Why a processor's VMX is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The control (its name) can't be turned on.
    NotOffered(&'static str),
    /// The control (its name) can't be turned off.
    StuckOn(&'static str),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::NotOffered(name) => write!(f, "the control '{name}' is not offered"),
            ControlError::StuckOn(name) => write!(f, "the control '{name}' can't be turned off"),
        }
    }
}

const PIN: &[Wish] = &[
    wish(Pin::EXTERNAL_INTERRUPT_EXITING.bits(), "external-interrupt exiting", Want::On),
    wish(Pin::NMI_EXITING.bits(), "NMI exiting", Want::On),
    wish(Pin::VMX_PREEMPTION_TIMER.bits(), "activate VMX-preemption timer", Want::IfOffered),
];

const PRIMARY: &[Wish] = &[
    wish(Primary::INTERRUPT_WINDOW_EXITING.bits(), "interrupt-window exiting", Want::Off),
    wish(Primary::HLT_EXITING.bits(), "HLT exiting", Want::On),
    wish(Primary::INVLPG_EXITING.bits(), "INVLPG exiting", Want::Off),
    wish(Primary::MWAIT_EXITING.bits(), "MWAIT exiting", Want::On),
    wish(Primary::RDPMC_EXITING.bits(), "RDPMC exiting", Want::On),
    wish(Primary::RDTSC_EXITING.bits(), "RDTSC exiting", Want::Off),
    wish(Primary::CR3_LOAD_EXITING.bits(), "CR3-load exiting", Want::Off),
    wish(Primary::CR3_STORE_EXITING.bits(), "CR3-store exiting", Want::Off),
    // Reads and writes of CR8 go to a page of the guest's own instead of the APIC.
    wish(Primary::USE_TPR_SHADOW.bits(), "use TPR shadow", Want::On),
    wish(Primary::MOV_DR_EXITING.bits(), "MOV-DR exiting", Want::On),
    wish(Primary::USE_IO_BITMAPS.bits(), "use I/O bitmaps", Want::On),
    wish(Primary::USE_MSR_BITMAPS.bits(), "use MSR bitmaps", Want::On),
    wish(Primary::MONITOR_EXITING.bits(), "MONITOR exiting", Want::On),
    wish(Primary::SECONDARY_CONTROLS.bits(), "activate secondary controls", Want::On),
];

const SECONDARY: &[Wish] = &[
    wish(Secondary::ENABLE_EPT.bits(), "enable EPT", Want::On),
    wish(Secondary::ENABLE_RDTSCP.bits(), "enable RDTSCP", Want::IfOffered),
    wish(Secondary::ENABLE_VPID.bits(), "enable VPID", Want::IfOffered),
    wish(Secondary::WBINVD_EXITING.bits(), "WBINVD exiting", Want::On),
    wish(Secondary::UNRESTRICTED_GUEST.bits(), "unrestricted guest", Want::IfOffered),
    wish(Secondary::ENABLE_INVPCID.bits(), "enable INVPCID", Want::IfOffered),
    // Enclaves: hidden from guests, and not to be built behind the kernel's back.
    wish(Secondary::ENCLS_EXITING.bits(), "ENCLS exiting", Want::IfOffered),
    wish(Secondary::ENABLE_XSAVES_XRSTORS.bits(), "enable XSAVES/XRSTORS", Want::IfOffered),
];

const EXIT: &[Wish] = &[
    wish(Exit::HOST_ADDRESS_SPACE_SIZE.bits(), "host address-space size", Want::On),
    // The host's own handlers take interrupts, right after the exit.
    wish(Exit::ACK_INTERRUPT_ON_EXIT.bits(), "acknowledge interrupt on exit", Want::Off),
    wish(Exit::LOAD_IA32_PAT.bits(), "load IA32_PAT at exit", Want::On),
    wish(Exit::SAVE_IA32_EFER.bits(), "save IA32_EFER", Want::On),
    wish(Exit::LOAD_IA32_EFER.bits(), "load IA32_EFER at exit", Want::On),
    // Not saved: every entry starts the whole period again.
    wish(Exit::SAVE_VMX_PREEMPTION_TIMER.bits(), "save VMX-preemption timer", Want::Off),
];

const ENTRY: &[Wish] = &[
    wish(Entry::LOAD_DEBUG_CONTROLS.bits(), "load debug controls", Want::On),
    wish(Entry::IA32E_MODE_GUEST.bits(), "IA-32e mode guest", Want::On),
    wish(Entry::LOAD_IA32_PAT.bits(), "load IA32_PAT at entry", Want::On),
    wish(Entry::LOAD_IA32_EFER.bits(), "load IA32_EFER at entry", Want::On),
];

/// The processor's offers, one set a control field.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    /// Pin-based.
    pub pin: Allowed,
    /// Primary processor-based.
    pub primary: Allowed,
    /// Secondary processor-based.
    pub secondary: Allowed,
    exit: Allowed,
    entry: Allowed,
}

impl Offers {
    /// Reads the capability registers by `read`: the TRUE ones where they exist, which know of default-1
    /// controls that can be 0.
    pub fn read(read: impl Fn(u32) -> u64) -> Offers {
        let exact = read(msr::IA32_VMX_BASIC) & BASIC_TRUE_CONTROLS != 0;
        let either = |exactly, roughly| Allowed::new(if exact { read(exactly) } else { read(roughly) });
        let primary = either(msr::IA32_VMX_TRUE_PROCBASED_CTLS, msr::IA32_VMX_PROCBASED_CTLS);
        // The register of the secondary controls exists only with them (A.3.3).
        let has_secondary = primary.offers(Primary::SECONDARY_CONTROLS.bits());
        Offers {
            pin: either(msr::IA32_VMX_TRUE_PINBASED_CTLS, msr::IA32_VMX_PINBASED_CTLS),
            primary,
            secondary: Allowed::new(if has_secondary { read(msr::IA32_VMX_PROCBASED_CTLS2) } else { 0 }),
            exit: either(msr::IA32_VMX_TRUE_EXIT_CTLS, msr::IA32_VMX_EXIT_CTLS),
            entry: either(msr::IA32_VMX_TRUE_ENTRY_CTLS, msr::IA32_VMX_ENTRY_CTLS),
        }
    }
}

/// Values of the control fields of every guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub primary: u32,
    /// Secondary processor-based.
    pub secondary: u32,
    /// VM-exit.
    pub exit: u32,
    /// VM-entry.
    pub entry: u32,
}

impl Controls {
    /// The controls that this backend wants, as the processor can have them.
    ///
    /// # Errors
    ///
    /// [`ControlError`], naming a control without which nothing goes.
    pub fn choose(offers: &Offers) -> Result<Controls, ControlError> {
        Ok(Controls {
            pin: offers.pin.adjust(PIN)?,
            primary: offers.primary.adjust(PRIMARY)?,
            secondary: offers.secondary.adjust(SECONDARY)?,
            exit: offers.exit.adjust(EXIT)?,
            entry: offers.entry.adjust(ENTRY)?,
        })
    }

    /// Whether guests have identifiers in the TLB.
    pub fn uses_vpid(&self) -> bool {
        self.secondary & Secondary::ENABLE_VPID.bits() != 0
    }

    /// Whether `ENCLS` exits.
    pub fn catches_encls(&self) -> bool {
        self.secondary & Secondary::ENCLS_EXITING.bits() != 0
    }

    /// Whether a guest may turn off paging and protection.
    pub fn unrestricted(&self) -> bool {
        self.secondary & Secondary::UNRESTRICTED_GUEST.bits() != 0
    }

    /// Whether a guest's time is bounded by the preemption timer.
    pub fn uses_preemption_timer(&self) -> bool {
        self.pin & Pin::VMX_PREEMPTION_TIMER.bits() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Bochs 2.7 offers as `corei7_haswell_4770`, as far as it matters here.
    fn haswell(register: u32) -> u64 {
        match register {
            msr::IA32_VMX_BASIC => 1 << 55 | 6 << 50 | 1024 << 32 | 1,
            msr::IA32_VMX_TRUE_PINBASED_CTLS => 0x0000_007f_0000_0016,
            msr::IA32_VMX_TRUE_PROCBASED_CTLS => 0xfff9_fffe_0400_6172,
            msr::IA32_VMX_PROCBASED_CTLS => 0xfff9_fffe_0401_e172,
            msr::IA32_VMX_PROCBASED_CTLS2 => 0x0000_7fff_0000_0000,
            msr::IA32_VMX_TRUE_EXIT_CTLS => 0x007f_ffff_0003_6dfb,
            msr::IA32_VMX_TRUE_ENTRY_CTLS => 0x0000_ffff_0000_11fb,
            _ => panic!("register {register:#x} is not needed"),
        }
    }

    #[test]
    fn required_controls_are_on_and_the_processors_demands_kept() {
        let offers = Offers::read(haswell);
        let controls = Controls::choose(&offers).unwrap();
        assert_eq!(controls.pin, 0x16 | 1 | 1 << 3 | 1 << 6);
        assert_eq!(controls.primary & 0x0400_6172, 0x0400_6172, "default-1 controls");
        for off in [2, 9, 12, 15, 16, 19, 20, 24] {
            assert_eq!(controls.primary & 1 << off, 0, "primary control {off}");
        }
        for on in [7, 10, 11, 21, 23, 25, 28, 29, 31] {
            assert_ne!(controls.primary & 1 << on, 0, "primary control {on}");
        }
        assert!(controls.uses_vpid() && controls.unrestricted() && controls.uses_preemption_timer());
        assert_eq!(controls.secondary & (1 << 20 | 1 << 13 | 1), 0, "not offered, or not asked for");
        assert_eq!(controls.exit & (1 << 15 | 1 << 22), 0);
    }

    #[test]
    fn the_missing_control_is_named() {
        let without = |bit: u32| {
            Controls::choose(&Offers::read(|register| match register {
                msr::IA32_VMX_PROCBASED_CTLS2 => haswell(register) & !(1 << (32 + bit)),
                _ => haswell(register),
            }))
        };
        assert_eq!(without(1), Err(ControlError::NotOffered("enable EPT")));
        assert_eq!(without(6), Err(ControlError::NotOffered("WBINVD exiting")));
        assert!(!without(5).unwrap().uses_vpid());
        assert!(!without(7).unwrap().unrestricted());
    }

    #[test]
    fn without_the_true_registers_cr3_exits_are_stuck() {
        let rough = |register| match register {
            msr::IA32_VMX_BASIC => haswell(register) & !BASIC_TRUE_CONTROLS,
            msr::IA32_VMX_PINBASED_CTLS => haswell(msr::IA32_VMX_TRUE_PINBASED_CTLS),
            msr::IA32_VMX_EXIT_CTLS => haswell(msr::IA32_VMX_TRUE_EXIT_CTLS),
            msr::IA32_VMX_ENTRY_CTLS => haswell(msr::IA32_VMX_TRUE_ENTRY_CTLS),
            _ => haswell(register),
        };
        assert_eq!(Controls::choose(&Offers::read(rough)), Err(ControlError::StuckOn("CR3-load exiting")));
    }

    #[test]
    fn no_secondary_controls_no_register() {
        let offers = Offers::read(|register| match register {
            msr::IA32_VMX_TRUE_PROCBASED_CTLS => haswell(register) & !(1 << 63),
            msr::IA32_VMX_PROCBASED_CTLS2 => panic!("read without being there"),
            _ => haswell(register),
        });
        assert_eq!(Controls::choose(&offers), Err(ControlError::NotOffered("activate secondary controls")));
    }
}
