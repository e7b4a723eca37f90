//! The exokernel.
#![cfg_attr(not(test), no_std)]
extern crate alloc;
pub mod capability;
pub mod image;
pub mod resource;
pub mod virt {
    pub mod nested;
}
