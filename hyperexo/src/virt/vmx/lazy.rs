//! State of a guest that entries and exits leave alone, as the kernel uses none of it: it moves when the
//! virtual CPU takes and leaves a core.

use crate::virt::state::{self, Column, Keeper};
use core::arch::asm;
use x86::msr::{rdmsr, wrmsr};

/// How many MSRs that are.
const MSRS: usize = 5;

/// These MSRs: STAR, LSTAR, CSTAR, SFMASK, kernel GS base.
fn msrs() -> impl Iterator<Item = u32> {
    state::msrs_kept(Column::Vmx, Keeper::Core)
}

/// The state of one guest while it is not on a core; zeros at the start.
#[derive(Default)]
pub struct Lazy {
    msrs: [u64; MSRS],
    cr2: u64,
}

impl Lazy {
    /// Gives the state to this core.
    ///
    /// # Safety
    ///
    /// No other guest runs on this core before [`Lazy::store`].
    pub unsafe fn load(&self) {
        for (register, value) in msrs().zip(self.msrs) {
            // SAFETY: values that the guest itself had in them, or 0; the kernel uses none of these.
            unsafe { wrmsr(register, value) };
        }
        // SAFETY: CR2 has no effect.
        unsafe { asm!("mov cr2, {}", in(reg) self.cr2, options(nomem, nostack)) };
    }

    /// Takes the state from this core.
    pub fn store(&mut self) {
        for (register, value) in msrs().zip(&mut self.msrs) {
            // SAFETY: registers that every processor with long mode has.
            *value = unsafe { rdmsr(register) };
        }
        // SAFETY: reading CR2 has no effect.
        unsafe { asm!("mov {}, cr2", out(reg) self.cr2, options(nomem, nostack)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_all() {
        assert_eq!(msrs().count(), MSRS);
    }
}
