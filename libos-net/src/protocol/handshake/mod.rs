//! How connections begin that others ask for: the stack answers itself, before there is a protocol machine.
//!
//! ```text
//!   SYN  ──► room in the backlog? ── yes ──► `Dormant`: a few words, answers again while nobody answers it
//!                    │ no                        │ ACK
//!                    ▼                           ▼
//!             a cookie: nothing is kept ──ACK──► `Dormant`, established ── data, or the application writes ──►
//!                                                                  the policy's protocol machine
//! ```
//!
//! So neither strangers who only knock nor connections on which nothing has come yet have buffers, and the
//! first sequence number is nobody's guess (RFC 6528), whatever the machine.

mod cookie;
mod dormant;
mod segment;

use crate::flow::Flow;
pub(crate) use cookie::Secret;
pub(crate) use dormant::Dormant;
pub(crate) use segment::{Answer, Segment};

/// What both ends have agreed on when a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The connection.
    pub flow: Flow,
    /// The sequence number of our SYN.
    pub local_sequence: u32,
    /// The sequence number of theirs.
    pub remote_sequence: u32,
    /// Bytes of data in the longest segment that the other end takes, if it has said so.
    pub max_segment_bytes: Option<u16>,
    /// By how many bits the windows are shifted that the other end says. `None`: neither end shifts; else
    /// ours are shifted by [`Handshake::own_shift`].
    pub window_shift: Option<u8>,
    /// Whether the other end understands selective acknowledgements.
    pub selective: bool,
    /// Bytes that the other end has said it takes.
    pub window_bytes: u32,
}

impl Handshake {
    /// By how many bits the windows are shifted that we say, with so many bytes of buffer: as few as make all
    /// of it fit in 16 bits (RFC 7323, section 2).
    pub fn own_shift(receive_bytes: usize) -> u8 {
        let bits = usize::BITS - receive_bytes.leading_zeros();
        bits.saturating_sub(16).min(14) as u8
    }
}

#[cfg(test)]
mod tests;
