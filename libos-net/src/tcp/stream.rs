//! A connection, for the application.

use crate::protocol::{Counted, SharedBytes, TcpError};
use crate::stack::{ConnectionId, Handle};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use embedded_io_async::{ErrorType, Read, Write};
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
            let Some(protocol) = stack.protocol(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            protocol.poll_established(context.waker())
        })
        .await
        .map_err(|_| ConnectError::Refused(remote))?;
        Ok(self)
    }

    /// The other end.
    pub fn remote(&self) -> Option<IpEndpoint> {
        self.net.stack().flow(self.id).map(|flow| flow.remote)
    }

    /// Our end.
    pub fn local(&self) -> Option<IpEndpoint> {
        self.net.stack().flow(self.id).map(|flow| flow.local)
    }

    /// What was counted on this connection.
    pub fn counted(&self) -> Counted {
        self.net.stack().counted(self.id).unwrap_or_default()
    }

    /// Writes shared bytes: all of them. With a protocol that can, they are not copied.
    ///
    /// # Errors
    ///
    /// [`TcpError`].
    pub async fn write_shared(&mut self, bytes: &SharedBytes) -> Result<(), TcpError> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = if written == 0 { bytes.clone() } else { bytes.part(written..bytes.len()) };
            written += poll_fn(|context| {
                let stack = &mut *self.net.stack();
                let Some(protocol) = stack.protocol(self.id) else {
                    return Poll::Ready(Err(TcpError::Reset));
                };
                let taken = protocol.poll_write_shared(&rest, context.waker());
                if matches!(taken, Poll::Ready(Ok(_))) {
                    stack.touch(self.id);
                }
                taken
            })
            .await?;
        }
        Ok(())
    }

    /// Says that nothing more will be written. What the other end writes can still be read.
    pub fn shutdown(&self) {
        let stack = &mut *self.net.stack();
        if let Some(protocol) = stack.protocol(self.id) {
            protocol.close();
            stack.touch(self.id);
        }
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(self) {
        let stack = &mut *self.net.stack();
        if let Some(protocol) = stack.protocol(self.id) {
            protocol.abort();
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
            let Some(protocol) = stack.protocol(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            let read = protocol.poll_read(into, context.waker());
            if matches!(read, Poll::Ready(Ok(1..))) {
                // The window has opened.
                stack.touch(self.id);
            }
            read
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
            let Some(protocol) = stack.protocol(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            let written = protocol.poll_write(from, context.waker());
            if matches!(written, Poll::Ready(Ok(_))) {
                stack.touch(self.id);
            }
            written
        })
        .await
    }

    /// Ends when the other end has acknowledged all that was written.
    async fn flush(&mut self) -> Result<(), TcpError> {
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let Some(protocol) = stack.protocol(self.id) else { return Poll::Ready(Err(TcpError::Reset)) };
            protocol.poll_flush(context.waker())
        })
        .await
    }
}
