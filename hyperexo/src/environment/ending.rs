//! How environments end.
#![forbid(unsafe_code)]

use crate::virt::Access;
use core::fmt;

/// Why an environment was ended by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It touched memory that it has not bound.
    NestedFault {
        /// Physical address.
        address: u64,
        /// What it wanted.
        access: Access,
        /// Instruction pointer.
        rip: u64,
    },
    /// An exception while delivering an exception while delivering an exception.
    TripleFault {
        /// Instruction pointer.
        rip: u64,
    },
    /// It halted with interrupts disabled: nothing could ever wake it.
    HaltedForever {
        /// Instruction pointer.
        rip: u64,
    },
    /// Its registers were in a state that the processor refuses.
    InvalidState {
        /// Instruction pointer.
        rip: u64,
    },
    /// An exit that the kernel does not know.
    UnknownExit {
        /// Number of the exit.
        code: u64,
        /// Instruction pointer.
        rip: u64,
    },
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Death::NestedFault { address, access, rip } => {
                let verb = match access {
                    Access::Read => "read",
                    Access::Write => "write",
                    Access::Execute => "execute",
                };
                write!(
                    f,
                    "tried to {verb} physical address {address:#x}, which it has not bound so, at rip {rip:#x}"
                )
            }
            Death::TripleFault { rip } => write!(f, "triple fault at rip {rip:#x}"),
            Death::HaltedForever { rip } => write!(f, "halted with interrupts disabled at rip {rip:#x}"),
            Death::InvalidState { rip } => {
                write!(f, "processor state that the hardware refuses, at rip {rip:#x}")
            }
            Death::UnknownExit { code, rip } => write!(f, "unknown exit {code:#x} at rip {rip:#x}"),
        }
    }
}

/// How an environment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    Exited(u64),
    /// By the kernel.
    Killed(Death),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(f, "exit code {code}"),
            Ending::Killed(death) => write!(f, "killed: {death}"),
        }
    }
}
