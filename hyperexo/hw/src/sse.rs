//! SSE state, moved by one instruction for each register.
//!
//! No Rust code touches x87 or MMX registers, so around an interrupt or an exit they stay where they are.
//! `FXSAVE` and `FXRSTOR` would move them for nothing.
//!
//! They are also dangerous under QEMU's TCG with several cores. `FXRSTOR`, `FRSTOR`, `FLDENV`, and `XRSTOR`
//! of an area that has x87 state, all call `cpu_clear_ignne`. That changes flags of the *first* processor,
//! whichever processor executes the instruction, and takes no lock. If the first processor changes its flags
//! at that moment, its change is lost. After an exit of SVM it may then still count as a guest with nested
//! paging, or never take an interrupt again (GIF). Seen in QEMU 7.2, and newer ones are the same.
#![forbid(unsafe_code)]

/// SSE state as [`load_sse!`](crate::load_sse) and [`store_sse!`](crate::store_sse) move it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SseState {
    registers: [[u8; 16]; 16],
    mxcsr: u32,
}

/// Bytes of an [`SseState`].
pub const BYTES: usize = size_of::<SseState>();

/// `MXCSR` after reset: no exceptions, round to nearest.
pub const MXCSR_RESET: u32 = 0x1f80;

impl SseState {
    /// The state after reset.
    pub const fn initial() -> SseState {
        SseState { registers: [[0; 16]; 16], mxcsr: MXCSR_RESET }
    }
}

/// Assembly that loads an [`SseState`](crate::sse::SseState) from the address in a register. Flags stay.
#[macro_export]
macro_rules! load_sse {
    ($address:literal) => {
        concat!(
            "ldmxcsr [",
            $address,
            " + 256]\n.irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\nmovaps xmm\\number, [",
            $address,
            " + 16 * \\number]\n.endr",
        )
    };
}

/// Assembly that stores an [`SseState`](crate::sse::SseState) at the address in a register. Flags stay.
#[macro_export]
macro_rules! store_sse {
    ($address:literal) => {
        concat!(
            "stmxcsr [",
            $address,
            " + 256]\n.irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\nmovaps [",
            $address,
            " + 16 * \\number], xmm\\number\n.endr",
        )
    };
}

const _: () = assert!(core::mem::offset_of!(SseState, mxcsr) == 256 && BYTES == 272);
