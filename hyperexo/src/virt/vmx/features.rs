//! What VMX offers on a processor beyond the necessary, and what of it is used: probed, and told at boot.
#![forbid(unsafe_code)]

use super::controls::{Controls, Offers};
use core::fmt;
use x86::msr;
use x86::vmx::vmcs::control::SecondaryControls as Secondary;

/// Bits of `IA32_VMX_EPT_VPID_CAP` (SDM vol. 3 appendix A.10).
mod ept {
    #![allow(missing_docs)]
    pub const FOUR_LEVELS: u64 = 1 << 6;
    pub const WRITE_BACK: u64 = 1 << 14;
    pub const LARGE_2M: u64 = 1 << 16;
    pub const INVEPT: u64 = 1 << 20;
    pub const INVEPT_SINGLE: u64 = 1 << 25;
    pub const INVEPT_ALL: u64 = 1 << 26;
    pub const INVVPID: u64 = 1 << 32;
    pub const INVVPID_SINGLE: u64 = 1 << 41;
    pub const INVVPID_ALL: u64 = 1 << 42;
}

/// How much a flush instruction can be told to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// What belongs to one guest.
    Single,
    /// Everything.
    All,
}

impl Reach {
    fn offered(capability: u64, instruction: u64, single: u64, all: u64) -> Option<Reach> {
        if capability & instruction == 0 {
            None
        } else if capability & single != 0 {
            Some(Reach::Single)
        } else {
            (capability & all != 0).then_some(Reach::All)
        }
    }

    /// The instruction's first operand: the type of `INVEPT` and `INVVPID` (SDM vol. 3 ch. 31).
    pub fn operand(self) -> u64 {
        match self {
            Reach::Single => 1,
            Reach::All => 2,
        }
    }
}

/// What a processor offers.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// How `INVEPT` flushes.
    pub invept: Reach,
    /// How `INVVPID` flushes; `None`: guests have no identifiers in the TLB, and every entry and exit flushes
    /// it.
    pub invvpid: Option<Reach>,
    /// The preemption timer counts down when bit `n` of the time stamp counter changes; `None`: there is no
    /// such timer.
    pub preemption_timer_shift: Option<u8>,
    /// A guest may turn off paging and protection.
    pub unrestricted_guest: bool,
    /// `VMFUNC` function 0: the guest changes between prepared nested tables by itself. Used for views.
    pub eptp_switching: bool,
    /// Executable large entries are safe (CVE-2018-12207).
    pub large_code: bool,
    /// #VE: nested faults go to the guest. Used for those that have asked.
    pub virtualization_exception: bool,
}

impl Features {
    /// From the capability registers, read by `read`. `large_code`: see [`large_code_is_safe`].
    ///
    /// # Errors
    ///
    /// The name of a property of nested paging without which nothing goes.
    pub fn read(
        offers: &Offers,
        controls: &Controls,
        read: impl Fn(u32) -> u64,
        large_code: bool,
    ) -> Result<Features, &'static str> {
        let capability = read(msr::IA32_VMX_EPT_VPID_CAP);
        for (bit, name) in [
            (ept::FOUR_LEVELS, "page tables of 4 levels"),
            (ept::WRITE_BACK, "write-back memory"),
            (ept::LARGE_2M, "2 MiB entries"),
        ] {
            if capability & bit == 0 {
                return Err(name);
            }
        }
        let invept = Reach::offered(capability, ept::INVEPT, ept::INVEPT_SINGLE, ept::INVEPT_ALL);
        let invvpid = Reach::offered(capability, ept::INVVPID, ept::INVVPID_SINGLE, ept::INVVPID_ALL);
        let secondary = |control: Secondary| offers.secondary.offers(control.bits());
        let functions = secondary(Secondary::ENABLE_VM_FUNCTIONS).then(|| read(msr::IA32_VMX_VMFUNC));
        Ok(Features {
            invept: invept.ok_or("the instruction INVEPT")?,
            invvpid: invvpid.filter(|_| controls.uses_vpid()),
            preemption_timer_shift: controls
                .uses_preemption_timer()
                .then(|| read(msr::IA32_VMX_MISC) as u8 & 0x1f),
            unrestricted_guest: controls.unrestricted(),
            eptp_switching: functions.is_some_and(|functions| functions & 1 != 0),
            large_code,
            virtualization_exception: secondary(Secondary::EPT_VIOLATION_VE),
        })
    }
}

/// Whether executable large entries are safe (CVE-2018-12207): the processor says so in
/// `IA32_ARCH_CAPABILITIES`, or it is a hypervisor's, whose own tables are the ones that the machine reads.
pub fn large_code_is_safe(hypervisor: bool, capabilities: Option<u64>) -> bool {
    const PAGE_SIZE_CHANGE_SAFE: u64 = 1 << 6;
    hypervisor || capabilities.is_some_and(|bits| bits & PAGE_SIZE_CHANGE_SAFE != 0)
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vmx: ept with 2 MiB entries")?;
        for (name, offered) in [
            ("vpid", self.invvpid.is_some()),
            ("unrestricted guest", self.unrestricted_guest),
            ("preemption timer", self.preemption_timer_shift.is_some()),
            ("vmfunc eptp switching", self.eptp_switching),
            ("2 MiB entries for code", self.large_code),
            ("#ve", self.virtualization_exception),
        ] {
            if offered {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_code_is_for_processors_that_say_so() {
        assert!(!large_code_is_safe(false, None));
        assert!(!large_code_is_safe(false, Some(!(1 << 6))));
        assert!(large_code_is_safe(false, Some(1 << 6)));
        assert!(large_code_is_safe(true, None));
    }

    #[test]
    fn flushes_take_the_narrowest_reach_there_is() {
        let offered = |bits| Reach::offered(bits, ept::INVEPT, ept::INVEPT_SINGLE, ept::INVEPT_ALL);
        assert_eq!(offered(ept::INVEPT | ept::INVEPT_SINGLE | ept::INVEPT_ALL), Some(Reach::Single));
        assert_eq!(offered(ept::INVEPT | ept::INVEPT_ALL), Some(Reach::All));
        assert_eq!(offered(ept::INVEPT_SINGLE), None, "the instruction itself is missing");
        assert_eq!((Reach::Single.operand(), Reach::All.operand()), (1, 2));
    }
}
