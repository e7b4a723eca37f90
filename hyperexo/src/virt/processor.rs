//! Features of the processor that are not virtualization, but that a kernel chooses its ways by. Probed,
//! never assumed; what is offered and not used is told as such.
#![forbid(unsafe_code)]

use core::fmt;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The APIC timer can be set to a value of the time stamp counter. Not used: not every platform has it,
    /// the one-shot timer is everywhere, and a deadline is set anew only when it changes.
    pub tsc_deadline: bool,
    /// The APIC's registers are model-specific registers. Not used: the kernel runs on 16 cores at most,
    /// whose numbers fit the memory-mapped registers, which are everywhere.
    pub x2apic: bool,
    /// Page tables can have entries of 1 GiB. Not used: the kernel's own map is made of 2 MiB pages, which
    /// are everywhere.
    pub gigabyte_pages: bool,
    /// The time stamp counter ticks evenly, whatever the processor does.
    pub invariant_tsc: bool,
}

impl Features {
    /// Asks this core.
    pub fn probe() -> Features {
        let cpuid = raw_cpuid::CpuId::new();
        let basic = cpuid.get_feature_info();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        let power = cpuid.get_advanced_power_mgmt_info();
        Features {
            tsc_deadline: basic.as_ref().is_some_and(|info| info.has_tsc_deadline()),
            x2apic: basic.as_ref().is_some_and(|info| info.has_x2apic()),
            gigabyte_pages: extended.is_some_and(|info| info.has_1gib_pages()),
            invariant_tsc: power.is_some_and(|info| info.has_invariant_tsc()),
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("processor:")?;
        let mut separator = " ";
        for (name, offered) in [
            ("tsc deadline (not used)", self.tsc_deadline),
            ("x2apic (not used)", self.x2apic),
            ("1 GiB pages (not used)", self.gigabyte_pages),
            ("invariant tsc", self.invariant_tsc),
        ] {
            if offered {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        if separator == " " { f.write_str(" nothing optional") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_told() {
        let none =
            Features { tsc_deadline: false, x2apic: false, gigabyte_pages: false, invariant_tsc: false };
        assert_eq!(none.to_string(), "processor: nothing optional");
        let some = Features { x2apic: true, gigabyte_pages: true, ..none };
        assert_eq!(some.to_string(), "processor: x2apic (not used), 1 GiB pages (not used)");
    }
}
