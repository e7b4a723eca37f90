//! What runs behind a connection: the protocol machine of one connection of TCP, and the policy that chooses
//! it.
//!
//! | variant | what |
//! |---|---|
//! | [`SmolTcp`] | smoltcp's socket: a ring of bytes for each direction |
//! | [`OwnTcp`] | this project's own: what is sent stays where it lies until it is acknowledged |
//!
//! An application adds its own: it implements [`Protocol`], and its [`TcpPolicy`] says so.

mod handshake;
mod outlet;
mod own;
mod parameters;
mod paths;
mod policy;
mod port;
mod replay;
mod shared_bytes;
mod smol;

use crate::flow::Flow;
use crate::link::Frame;
use core::fmt;
use core::task::{Poll, Waker};
use embedded_io_async::ErrorKind;
pub use handshake::Handshake;
pub(crate) use handshake::{Answer, Dormant, Secret, Segment};
pub use outlet::Outlet;
pub use own::OwnTcp;
pub use parameters::{Congestion, TcpParameters};
pub(crate) use paths::Paths;
pub use policy::{Bulk, Interactive, TcpPolicy};
pub(crate) use port::{Port, instant, send, take};
pub use shared_bytes::SharedBytes;
pub use smol::SmolTcp;
pub use smoltcp::socket::tcp::State as TcpState;

/// Why a connection does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpError {
    /// The other end has reset it, or was silent for too long.
    Reset,
    /// Our end is closed for writing.
    Closed,
}

impl fmt::Display for TcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TcpError::Reset => "the connection was reset or timed out",
            TcpError::Closed => "our end of the connection is closed",
        })
    }
}

impl core::error::Error for TcpError {}

impl embedded_io_async::Error for TcpError {
    fn kind(&self) -> ErrorKind {
        match self {
            TcpError::Reset => ErrorKind::ConnectionReset,
            TcpError::Closed => ErrorKind::NotConnected,
        }
    }
}

/// What a connection has sent, in bytes of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Sent, again or not.
    pub bytes_sent: u64,
    /// Copied on the way from the application into frames.
    pub bytes_copied: u64,
    /// Looked at for a checksum.
    pub bytes_summed: u64,
}

impl Counted {
    /// Both together.
    pub(crate) fn and(self, other: Counted) -> Counted {
        Counted {
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_copied: self.bytes_copied + other.bytes_copied,
            bytes_summed: self.bytes_summed + other.bytes_summed,
        }
    }
}

/// The protocol machine of one connection of TCP (RFC 9293): what comes for it, what it sends, and when it
/// wants to be asked. The stack finds the connection of a frame, keeps deadlines and owners, and hands out
/// the link; all else is decided here.
///
/// A machine is made in state `Closed`. Then one of [`Protocol::listen`], [`Protocol::begin`] and
/// [`Protocol::connect`] is called, once.
pub trait Protocol {
    /// Waits for the first segment of this flow, which has come and is given to [`Protocol::take`] next.
    /// Returns whether that is possible.
    fn listen(&mut self, flow: &Flow) -> bool;

    /// Begins to open this flow. What is to be sent is sent by the next [`Protocol::send`]. Returns whether
    /// that is possible.
    fn connect(&mut self, flow: &Flow, outlet: &mut Outlet<'_>) -> bool;

    /// Whether [`Protocol::begin`] is there. Then the stack can answer requests for connections itself, and a
    /// machine is made when there is something for it to do; else one is made for each request, and
    /// [`Protocol::listen`] is called.
    fn can_begin(&self) -> bool {
        false
    }

    /// Whether it wants to answer a request itself as long as there is room in the backlog, though
    /// [`Protocol::begin`] is there, since it agrees on more than the stack does. Then one machine is made
    /// for each request, and the stack answers only those for which there is no room.
    fn wants_requests(&self) -> bool {
        !self.can_begin()
    }

    /// Goes on with a connection that is there: the handshake is over. Instead of [`Protocol::listen`].
    /// Returns whether that is possible.
    fn begin(&mut self, agreed: &Handshake, now_us: i64) -> bool {
        let _ = (agreed, now_us);
        false
    }

    /// Takes a frame with a segment of this connection. The stack has found the ports in it with smoltcp's
    /// parsers; checksums are not verified yet.
    fn take(&mut self, frame: &Frame, outlet: &mut Outlet<'_>);

    /// Sends all that is to be sent now, as far as there is room.
    fn send(&mut self, outlet: &mut Outlet<'_>);

    /// When [`Protocol::send`] is to be called at the latest, in microseconds on the clock of the outlet.
    fn due_us(&mut self, outlet: &mut Outlet<'_>) -> Option<i64>;

    /// Its state.
    fn state(&self) -> TcpState;

    /// Reads what has come in its order. 0 at the end, when the other end has shut down. While there is
    /// nothing, `waker` is kept, and woken when that or the state has changed.
    ///
    /// # Errors
    ///
    /// [`TcpError::Reset`].
    fn poll_read(&mut self, into: &mut [u8], waker: &Waker) -> Poll<Result<usize, TcpError>>;

    /// Takes bytes to be sent, as many as there is room for, at least one. While there is no room, `waker` is
    /// kept, and woken when that or the state has changed.
    ///
    /// # Errors
    ///
    /// [`TcpError`].
    fn poll_write(&mut self, from: &[u8], waker: &Waker) -> Poll<Result<usize, TcpError>>;

    /// Takes shared bytes to be sent, or as many as there is room for; how many is returned. A protocol that
    /// can't share them copies them. `waker` as with [`Protocol::poll_write`].
    ///
    /// # Errors
    ///
    /// [`TcpError`].
    fn poll_write_shared(&mut self, bytes: &SharedBytes, waker: &Waker) -> Poll<Result<usize, TcpError>> {
        self.poll_write(bytes, waker)
    }

    /// Ready when the other end has acknowledged all that was written. `waker` as with
    /// [`Protocol::poll_write`].
    ///
    /// # Errors
    ///
    /// [`TcpError::Reset`].
    fn poll_flush(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>>;

    /// Ready when the connection is there, or can't be made. `waker` as with [`Protocol::poll_write`].
    ///
    /// # Errors
    ///
    /// [`TcpError::Reset`].
    fn poll_established(&mut self, waker: &Waker) -> Poll<Result<(), TcpError>>;

    /// Nothing more is written: what was written is still sent, and then the end.
    fn close(&mut self);

    /// Ends at once; the next [`Protocol::send`] sends a reset, if the other end knows of the connection.
    fn abort(&mut self);

    /// What it has counted.
    fn counted(&self) -> Counted;
}
