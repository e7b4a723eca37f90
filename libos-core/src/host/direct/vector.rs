//! Interrupt vectors of the machine as a host, from the one of upcalls on.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;
use hyperexo_abi::upcall;

/// Another core calls.
pub(super) const WAKE: u8 = upcall::VECTOR;
/// The local APIC's timer.
pub(super) const TIMER: u8 = WAKE + 1;
/// The disk.
pub(super) const DISK: u8 = WAKE + 2;
/// The unikernel has ended on another core.
pub(super) const HALT: u8 = WAKE + 3;
/// The network device.
pub(super) const NET: u8 = WAKE + 4;
/// The power button.
pub(super) const POWER: u8 = WAKE + 5;
/// Where the masked 8259s would interrupt.
pub(super) const LEGACY: RangeInclusive<u8> = 0x20..=0x2f;
