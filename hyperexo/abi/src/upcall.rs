//! How the kernel calls an environment.
//!
//! An upcall is an interrupt with [`VECTOR`], delivered by the processor through the environment's own
//! descriptor table as soon as its interrupt flag allows. Before it is raised, the kernel sets bits of
//! [`Doorbell::pending`]; the handler takes them by an atomic swap with 0. Upcalls are not queued: several
//! causes can come with one interrupt. `HLT` waits for the next one; an environment that halts with
//! interrupts disabled ends.

use core::sync::atomic::AtomicU64;

/// Interrupt vector of all upcalls.
pub const VECTOR: u8 = 0x40;

/// Why the kernel calls: bits of [`Doorbell::pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Cause {
    /// A request has completed while the ring's `wake` word was set.
    Disk = 1 << 0,
    /// The time of [`crate::hypercall::Call::TimerSet`] has come.
    Timer = 1 << 1,
    /// Another virtual CPU of the environment asked for it.
    Wake = 1 << 2,
    /// A packet has arrived, or one has been sent, while the `wake` word of its ring was set.
    Net = 1 << 3,
    /// The machine's power button has been pressed: who uses the machine asks for an orderly end. Goes to the
    /// first virtual CPU of every environment.
    Power = 1 << 4,
}

/// A page of the kernel that an environment may write: it holds nothing the kernel relies on.
#[repr(C, align(4096))]
pub struct Doorbell {
    /// Causes not yet taken.
    pub pending: AtomicU64,
}
