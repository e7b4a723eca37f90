//! The nested tables that a virtual CPU can change to. The current VMCS says which is in use; `VMFUNC`
//! changes it, too.

use super::features::Features;
use super::fill::{eptp, set};
use super::vmcs::{self, read};
use crate::virt::vcpu::{Roots, ViewChange, listed};
use hyperexo_abi::hypercall::VIEWS;
use x86::vmx::vmcs::control;

/// VM-function control: function 0, which changes the EPTP to one of the list (SDM vol. 3 §25.6.14).
pub const EPTP_SWITCHING: u64 = 1 << 0;

/// The list of one virtual CPU.
pub struct Views {
    /// Top frames of the tables; entry 0 is its own.
    roots: Roots,
    features: Features,
}

impl Views {
    /// Its own table, with the top in this frame, and no more.
    pub fn new(root: u64, features: Features) -> Views {
        let mut roots = [0; VIEWS];
        roots[0] = root;
        Views { roots, features }
    }

    /// The pointer to its own table.
    pub fn own(&self) -> u64 {
        eptp(self.roots[0])
    }

    /// Whether there is a view with this number.
    pub fn has(&self, entry: u64) -> bool {
        listed(&self.roots, entry).is_some()
    }

    /// The view that is in use, by its number.
    pub fn current(&self) -> usize {
        let used = read(control::EPTP_FULL);
        self.roots.iter().position(|root| *root != 0 && eptp(*root) == used).unwrap_or(0)
    }

    /// Goes on with another nested table. Nothing is flushed: cached translations carry the table's name (SDM
    /// vol. 3 §29.4.1).
    pub fn select(&self, view: usize) {
        set(control::EPTP_FULL, eptp(self.roots[view]));
        if self.features.virtualization_exception {
            set(control::EPTP_INDEX, view as u64);
        }
    }

    /// Forgets cached translations of all tables that it may change to.
    pub fn flush(&self) {
        for root in self.roots.iter().filter(|root| **root != 0) {
            // SAFETY: offered (`Features`), and VMX is on.
            unsafe { vmcs::flush_nested(self.features.invept, eptp(*root)) };
        }
    }

    /// Takes a new list. Tables that are gone are flushed as well as new ones: frames may have served before.
    /// Returns whether the view in use is still the same; if not, its own table is in use now.
    pub fn change(&mut self, change: &ViewChange) -> bool {
        let view = self.current();
        self.flush();
        self.roots[1..].copy_from_slice(&change.roots[1..]);
        self.flush();
        let kept = change.kept >> view & 1 != 0;
        if !kept {
            self.select(0);
        }
        kept
    }
}
