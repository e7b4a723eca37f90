//! Calls that take several pieces.
//!
//! A call may name all of memory, and the kernel's lock must not be held for that long. So long calls are
//! done in pieces. Between two pieces other cores get the lock, and the core attends to interrupts. The
//! caller goes on after the last piece.
//!
//! Other calls may change anything between two pieces. So each piece judges anew what it touches, and trusts
//! nothing that an earlier piece has found.
#![forbid(unsafe_code)]

use crate::resource::capability::Verified;
use crate::resource::frame::Place;
use crate::resource::frame::binding::Everywhere;
use crate::resource::frame::nested::Counted;
use crate::resource::frame::views::ViewId;
use core::ops::Range;
use hyperexo_abi::capability::Rights;

/// A call that is not over, and how far it has come.
#[derive(Clone, Debug)]
pub enum Underway {
    /// `ConsoleWrite`.
    Console(ConsoleWrite),
    /// `PageAlloc`.
    Allocate(PageAlloc),
    /// `PageFree`.
    Free(PageFree),
    /// `PageBind`.
    Bind(PageBind),
    /// `PageUnbind`.
    Unbind(PageUnbind),
    /// `Derive`.
    Derive(Derive),
    /// `Revoke` of pages.
    Revoke(PageRevoke),
    /// `RingKick`.
    ServeDisk,
    /// `NetKick`.
    ServeNet,
    /// `ViewEnd`.
    EndView(ViewEnd),
}

/// `ConsoleWrite`: the bytes that are left, and those taken.
#[derive(Clone, Debug)]
pub struct ConsoleWrite {
    /// Physical addresses of the rest.
    pub left: Range<u64>,
    /// Bytes taken.
    pub taken: u64,
}

/// `PageAlloc`.
#[derive(Clone, Debug)]
pub struct PageAlloc {
    /// Frames that are wanted.
    pub count: u64,
    /// At a multiple of this.
    pub align: u64,
    /// How far it is.
    pub phase: AllocPhase,
}

/// Phases of [`PageAlloc`].
#[derive(Clone, Debug)]
pub enum AllocPhase {
    /// Looking for free frames from here on, up to the end.
    Search {
        /// Where to look next.
        at: u64,
        /// Where to stop.
        end: u64,
        /// It is the second time round, from the bottom on.
        again: bool,
    },
    /// Taking frames from `first` on, with this generation; those before `at` are taken.
    Take {
        /// First frame.
        first: u64,
        /// Next frame to take.
        at: u64,
        /// Stamp of all of them.
        generation: u64,
        /// The caller named the first frame.
        named: bool,
    },
    /// Clearing them; those before `at` are cleared.
    Clear {
        /// First frame.
        first: u64,
        /// Next frame to clear.
        at: u64,
        /// Stamp of all of them.
        generation: u64,
    },
}

/// `PageFree`.
#[derive(Clone, Debug)]
pub struct PageFree {
    /// What is freed.
    pub claim: Verified,
    /// How far it is.
    pub phase: TakePhase,
}

/// `Revoke` of pages.
#[derive(Clone, Debug)]
pub struct PageRevoke {
    /// What is revoked.
    pub claim: Verified,
    /// How far it is.
    pub phase: TakePhase,
}

/// Phases of calls that take frames away from others.
#[derive(Clone, Debug)]
pub enum TakePhase {
    /// Judging; frames before `at` have been.
    Check {
        /// Next frame.
        at: u64,
    },
    /// Giving frames a new generation: nobody binds them any more. Those before `at` have it.
    Stamp {
        /// Next frame.
        at: u64,
        /// The generation.
        generation: u64,
    },
    /// Ending bindings of others; those of frames before `at` are gone.
    Unbind {
        /// Next frame.
        at: u64,
        /// The generation.
        generation: u64,
        /// Nested tables that have been looked at for the part that begins at `at`.
        progress: Everywhere,
    },
}

/// `PageBind`.
#[derive(Clone, Debug)]
pub struct PageBind {
    /// What is bound.
    pub claim: Verified,
    /// Where.
    pub place: Place,
    /// With which rights.
    pub rights: Rights,
    /// How far it is.
    pub phase: BindPhase,
}

/// Phases of [`PageBind`].
#[derive(Clone, Debug)]
pub enum BindPhase {
    /// Judging; frames before `at` have been.
    Check {
        /// Next frame.
        at: u64,
        /// Frames that tables will take.
        needed: u64,
        /// Tables that are in `needed`.
        counted: Counted,
    },
    /// Binding; frames before `at` are bound.
    Map {
        /// Next frame.
        at: u64,
    },
}

/// `PageUnbind`.
#[derive(Clone, Debug)]
pub struct PageUnbind {
    /// Which frames.
    pub frames: Range<u64>,
    /// Where.
    pub place: Place,
    /// Next frame to judge, or to unbind.
    pub at: u64,
    /// All have been judged.
    pub checked: bool,
}

/// `Derive` of pages.
#[derive(Clone, Debug)]
pub struct Derive {
    /// Of what.
    pub claim: Verified,
    /// Next frame to judge.
    pub at: u64,
    /// First of the part.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// With which rights.
    pub rights: Rights,
}

/// `ViewEnd`.
#[derive(Clone, Debug)]
pub enum ViewEnd {
    /// Taking apart a view that was the caller's own.
    Own {
        /// Which.
        view: ViewId,
        /// How far.
        cursor: u64,
    },
    /// Taking the caller's own frames out of somebody else's view.
    Guest {
        /// Which.
        view: ViewId,
        /// The last frame taken out.
        last: Option<u64>,
    },
}
