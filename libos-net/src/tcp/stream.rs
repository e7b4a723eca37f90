//! A connection, for the application.

use crate::stack::{ConnectionId, Handle};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::wire::IpEndpoint;

/// Why a connection can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// There is no address of ours, or no way to that one.
    Unreachable(IpEndpoint),
    /// The other end refuses, or does not answer.
    Refused(IpEndpoint),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Unreachable(to) => write!(f, "no way to {to}, or no address of our own yet"),
            ConnectError::Refused(to) => write!(f, "{to} refuses the connection, or does not answer"),
        }
    }
}

impl core::error::Error for ConnectError {}

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

/// A connection. When it is dropped, what was written is still sent, and then the connection is closed.
pub struct TcpStream {
    net: Handle,
    id: ConnectionId,
}

impl TcpStream {
    pub(crate) fn new(net: Handle, id: ConnectionId) -> TcpStream {
        TcpStream { net, id }
    }

    /// Ends when the connection is there.
    pub(crate) async fn established(self, remote: IpEndpoint) -> Result<TcpStream, ConnectError> {
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let Some(socket) = stack.socket(self.id) else {
                return Poll::Ready(Err(ConnectError::Refused(remote)));
            };
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(ConnectError::Refused(remote))),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await?;
        Ok(self)
    }

    /// The other end.
    pub fn remote(&self) -> Option<IpEndpoint> {
        self.net.stack().socket(self.id).and_then(|socket| socket.remote_endpoint())
    }

    /// Our end.
    pub fn local(&self) -> Option<IpEndpoint> {
        self.net.stack().socket(self.id).and_then(|socket| socket.local_endpoint())
    }

    /// Says that nothing more will be written. What the other end writes can still be read.
    pub fn shutdown(&self) {
        let stack = &mut *self.net.stack();
        if let Some(socket) = stack.socket(self.id) {
            socket.close();
            stack.touch(self.id);
        }
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(self) {
        let stack = &mut *self.net.stack();
        if let Some(socket) = stack.socket(self.id) {
            socket.abort();
            stack.touch(self.id);
        }
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let now_us = self.net.now_us();
        self.net.stack().let_go(self.id, now_us);
    }
}

impl ErrorType for TcpStream {
    type Error = TcpError;
}

impl Read for TcpStream {
    /// Reads what has come, as much as there is room for. 0 at the end, when the other end has shut down.
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, TcpError> {
        if into.is_empty() {
            return Ok(0);
        }
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let Some(socket) = stack.socket(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            match socket.recv_slice(into) {
                Ok(0) => {
                    socket.register_recv_waker(context.waker());
                    Poll::Pending
                }
                Ok(bytes) => {
                    // The window has opened.
                    stack.touch(self.id);
                    Poll::Ready(Ok(bytes))
                }
                Err(RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(RecvError::InvalidState) => Poll::Ready(Err(TcpError::Reset)),
            }
        })
        .await
    }
}

impl Write for TcpStream {
    /// Takes as many bytes as there is room for, at least one.
    async fn write(&mut self, from: &[u8]) -> Result<usize, TcpError> {
        if from.is_empty() {
            return Ok(0);
        }
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let Some(socket) = stack.socket(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            match socket.send_slice(from) {
                Ok(0) => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
                Ok(bytes) => {
                    stack.touch(self.id);
                    Poll::Ready(Ok(bytes))
                }
                Err(_) if socket.state() == State::Closed => Poll::Ready(Err(TcpError::Reset)),
                Err(_) => Poll::Ready(Err(TcpError::Closed)),
            }
        })
        .await
    }

    /// Ends when the other end has acknowledged all that was written.
    async fn flush(&mut self) -> Result<(), TcpError> {
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let Some(socket) = stack.socket(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            if socket.send_queue() == 0 {
                return Poll::Ready(Ok(()));
            }
            if socket.state() == State::Closed {
                return Poll::Ready(Err(TcpError::Reset));
            }
            socket.register_send_waker(context.waker());
            Poll::Pending
        })
        .await
    }
}
