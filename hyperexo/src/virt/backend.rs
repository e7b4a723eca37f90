//! The processor's virtualization extension, as the rest of the kernel sees it.

use super::vcpu::{Frames, Guest, HostPage, VcpuBox};
use crate::resource::frame::nested::EntryFormat;
use core::fmt;

/// A virtualization extension, turned on, on the core that made this value. What it says holds for all cores,
/// but for [`Backend::host_page`].
pub trait Backend: Sync + fmt::Display {
    /// How entries of nested page tables look.
    fn entry_format(&self) -> EntryFormat;
    /// How many guests the processor can tell apart.
    fn max_guests(&self) -> u64;
    /// Which instruction is a hypercall, as [`hyperexo_abi::start::StartInfo::hypercall`] says it.
    fn hypercall_instruction(&self) -> u64;
    /// How the list of an environment's views names the nested table with its top in this frame.
    fn view_entry(&self, root: u64) -> u64;
    /// Whether guests change to another view without an exit.
    fn switches_views(&self) -> bool;
    /// What entries on this core must know.
    fn host_page(&self) -> HostPage;
    /// Prepares this core to halt with interrupts disabled.
    fn prepare_halt(&self) {}
    /// A virtual CPU in these frames, in 64-bit mode at its entry point. It allocates nothing.
    ///
    /// # Safety
    ///
    /// The frames are mapped by identity, zeroed, and nobody else's until the value is dropped. The nested
    /// page table confines the guest to what it may touch, and stays in place as long as the value lives. The
    /// identifier is at most [`Backend::max_guests`].
    unsafe fn new_vcpu(&self, frames: Frames, guest: &Guest<'_>) -> VcpuBox;
}
