//! Datagrams.

use crate::stack::Handle;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;
use embedded_io_async::ErrorKind;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{
    BindError, PacketBuffer, PacketMetadata, RecvError, SendError, Socket, UdpMetadata,
};
use smoltcp::wire::IpEndpoint;

/// Datagrams that wait in each direction at most.
const DATAGRAMS: usize = 32;
/// Bytes of all that wait in a direction.
const BYTES: usize = 64 * 1024;

/// Why a datagram can't be sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpError {
    /// Port 0 is none.
    NoPort,
    /// Somebody has this port.
    InUse(u16),
    /// All ports are in use.
    NoneLeft,
    /// There is no way to that address.
    Unreachable(IpEndpoint),
    /// It is larger than all that may wait.
    TooLarge(usize),
    /// The datagram was longer than the buffer, and is lost.
    Truncated,
}

impl fmt::Display for UdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UdpError::NoPort => f.write_str("port 0 can't be bound: name one from 1 to 65535"),
            UdpError::InUse(port) => write!(f, "somebody has port {port} already"),
            UdpError::NoneLeft => f.write_str("all ports of UDP are in use"),
            UdpError::Unreachable(to) => write!(f, "no way to {}", SocketAddr::from(*to)),
            UdpError::TooLarge(bytes) => write!(f, "a datagram of {bytes} bytes; at most {BYTES} may wait"),
            UdpError::Truncated => f.write_str("a datagram was longer than the buffer for it"),
        }
    }
}

impl core::error::Error for UdpError {}

impl embedded_io_async::Error for UdpError {
    fn kind(&self) -> ErrorKind {
        match self {
            UdpError::NoPort | UdpError::TooLarge(_) => ErrorKind::InvalidInput,
            UdpError::InUse(_) | UdpError::NoneLeft => ErrorKind::AddrInUse,
            UdpError::Unreachable(_) => ErrorKind::AddrNotAvailable,
            UdpError::Truncated => ErrorKind::InvalidData,
        }
    }
}

/// A port for datagrams; see [`Net::bind_udp`](crate::Net::bind_udp). When it is dropped, what was sent still
/// goes out, if there is a way to it within three seconds.
pub struct UdpSocket {
    net: Handle,
    handle: SocketHandle,
}

impl UdpSocket {
    /// Binds a port that nobody has, for a few small datagrams.
    pub(crate) fn bind_any(net: Handle) -> Result<UdpSocket, UdpError> {
        let port = net.stack().unused_udp_port().ok_or(UdpError::NoneLeft)?;
        UdpSocket::with_room(net, port, 4, 4096)
    }

    pub(crate) fn bind(net: Handle, port: u16) -> Result<UdpSocket, UdpError> {
        UdpSocket::with_room(net, port, DATAGRAMS, BYTES)
    }

    fn with_room(net: Handle, port: u16, datagrams: usize, bytes: usize) -> Result<UdpSocket, UdpError> {
        if net.stack().has_udp_port(port) {
            return Err(UdpError::InUse(port));
        }
        let buffer =
            || PacketBuffer::new(alloc::vec![PacketMetadata::EMPTY; datagrams], alloc::vec![0; bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        match socket.bind(port) {
            Ok(()) => {}
            Err(BindError::InvalidState | BindError::Unaddressable) => return Err(UdpError::NoPort),
        }
        let handle = net.stack().add_common(socket);
        Ok(UdpSocket { net, handle })
    }

    /// Sends a datagram, as soon as there is room.
    ///
    /// # Errors
    ///
    /// [`UdpError::Unreachable`] or [`UdpError::TooLarge`].
    pub async fn send_to(&self, bytes: &[u8], to: IpEndpoint) -> Result<(), UdpError> {
        if bytes.len() > BYTES {
            return Err(UdpError::TooLarge(bytes.len()));
        }
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let socket = stack.common::<Socket<'_>>(self.handle);
            match socket.send_slice(bytes, UdpMetadata::from(to)) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(SendError::Unaddressable) => Poll::Ready(Err(UdpError::Unreachable(to))),
                Err(SendError::BufferFull) => {
                    socket.register_send_waker(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next datagram: its length, and where it came from.
    ///
    /// # Errors
    ///
    /// [`UdpError::Truncated`].
    pub async fn receive_from(&self, into: &mut [u8]) -> Result<(usize, IpEndpoint), UdpError> {
        poll_fn(|context| {
            let stack = &mut *self.net.stack();
            let socket = stack.common::<Socket<'_>>(self.handle);
            match socket.recv_slice(into) {
                Ok((bytes, from)) => Poll::Ready(Ok((bytes, from.endpoint))),
                Err(RecvError::Truncated) => Poll::Ready(Err(UdpError::Truncated)),
                Err(RecvError::Exhausted) => {
                    socket.register_recv_waker(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let now_us = self.net.now_us();
        self.net.stack().remove_udp(self.handle, now_us);
    }
}
