//! What SVM offers on a processor beyond the necessary: probed, told at boot, and used where there is a use.
//! What is offered and not used is told as such; why not is said at its field.
#![forbid(unsafe_code)]

/// Bit of CPUID leaf 0x8000_000a `edx` that `raw-cpuid` does not know.
pub(super) const AVIC: u32 = 1 << 13;

/// What SVM offers on this processor.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Address space identifiers, 0 included.
    pub asids: u32,
    /// The exit tells the next instruction's address.
    pub next_rip: bool,
    /// The TLB entries of one guest can be flushed alone.
    pub flush_by_asid: bool,
    /// Unchanged parts of the VMCB need not be read again.
    pub clean_bits: bool,
    /// The exit tells what a faulting instruction was about. Not used: the kernel decodes no instruction of a
    /// guest.
    pub decode_assists: bool,
    /// Interrupt controller registers and delivery without exits. Not used: an environment has no interrupt
    /// controller. All its upcalls are one vector, which its own core posts before an entry.
    pub avic: bool,
}

impl core::fmt::Display for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "svm: {} asids", self.asids)?;
        for (name, offered) in [
            ("next rip", self.next_rip),
            ("flush by asid", self.flush_by_asid),
            ("clean bits", self.clean_bits),
            ("decode assists (not used)", self.decode_assists),
            ("avic (not used)", self.avic),
        ] {
            if offered {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
