//! What SVM offers on a processor beyond the necessary, and what of it is used: probed, and told at boot.
#![forbid(unsafe_code)]

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
}

impl core::fmt::Display for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "svm: {} asids", self.asids)?;
        for (name, offered) in [
            ("next rip", self.next_rip),
            ("flush by asid", self.flush_by_asid),
            ("clean bits", self.clean_bits),
        ] {
            if offered {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
