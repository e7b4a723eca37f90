//! The same network for programs without tasks: calls that return when they are done.
//!
//! While a call waits, the network runs, and nothing else of the program does. A stream has the traits of
//! `embedded-io`, so that the crates of that ecosystem work on it.

use crate::name::ConnectByNameError;
use crate::net::Net;
use crate::protocol::{TcpError, TcpPolicy};
use crate::stack::ListenError;
use crate::tcp::ConnectError;
use crate::udp::UdpError;
use core::fmt;
use core::time::Duration;
use embedded_io::{ErrorKind, ErrorType, Read, Write};
use embedded_io_async::{Read as _, Write as _};
use smoltcp::wire::IpEndpoint;

/// Why a call on a stream or a socket has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// What happened to the connection, or to the datagram.
    Failed(E),
    /// The time that was set is over.
    TimedOut,
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Failed(error) => error.fmt(f),
            Error::TimedOut => f.write_str("the time for it is over"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> core::error::Error for Error<E> {}

impl<E: embedded_io::Error> embedded_io::Error for Error<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Failed(error) => error.kind(),
            Error::TimedOut => ErrorKind::TimedOut,
        }
    }
}

/// Takes connections to a port.
pub struct TcpListener {
    net: Net,
    listener: crate::TcpListener,
}

impl TcpListener {
    /// Listens to a port, as [`Net::listen`] does.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn bind(
        net: &Net,
        port: u16,
        backlog: usize,
        policy: impl TcpPolicy + 'static,
    ) -> Result<TcpListener, ListenError> {
        Ok(TcpListener { net: net.clone(), listener: net.listen(port, backlog, policy)? })
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> TcpStream {
        TcpStream::new(&self.net, self.net.block_on(self.listener.accept()))
    }

    /// The next connection, if there is one now.
    pub fn try_accept(&self) -> Option<TcpStream> {
        let next = self.net.block_until(Duration::ZERO, self.listener.accept())?;
        Some(TcpStream::new(&self.net, next))
    }
}

/// A connection.
pub struct TcpStream {
    net: Net,
    stream: crate::TcpStream,
    timeout: Option<Duration>,
}

impl TcpStream {
    fn new(net: &Net, stream: crate::TcpStream) -> TcpStream {
        TcpStream { net: net.clone(), stream, timeout: None }
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub fn connect(net: &Net, to: IpEndpoint, policy: &dyn TcpPolicy) -> Result<TcpStream, ConnectError> {
        Ok(TcpStream::new(net, net.block_on(net.connect(to, policy))?))
    }

    /// Opens a connection to a named machine.
    ///
    /// # Errors
    ///
    /// [`ConnectByNameError`].
    pub fn connect_by_name(
        net: &Net,
        name: &str,
        port: u16,
        policy: &dyn TcpPolicy,
    ) -> Result<TcpStream, ConnectByNameError> {
        Ok(TcpStream::new(net, net.block_on(net.connect_by_name(name, port, policy))?))
    }

    /// How long a call may wait from now on; `None`: for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// The other end.
    pub fn remote(&self) -> Option<IpEndpoint> {
        self.stream.remote()
    }

    /// Says that nothing more will be written. What the other end writes can still be read.
    pub fn shutdown(&self) {
        self.stream.shutdown();
        self.net.poll();
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(self) {
        self.stream.abort();
        self.net.poll();
    }
}

fn wait<T, E>(
    net: &Net,
    timeout: Option<Duration>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Error<E>> {
    let result = match timeout {
        None => Some(net.block_on(call)),
        Some(timeout) => net.block_until(timeout, call),
    };
    result.ok_or(Error::TimedOut)?.map_err(Error::Failed)
}

impl ErrorType for TcpStream {
    type Error = Error<TcpError>;
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error<TcpError>> {
        wait(&self.net, self.timeout, self.stream.read(into))
    }
}

impl Write for TcpStream {
    fn write(&mut self, from: &[u8]) -> Result<usize, Error<TcpError>> {
        let written = wait(&self.net, self.timeout, self.stream.write(from));
        self.net.poll();
        written
    }

    /// Returns when the other end has acknowledged all that was written.
    fn flush(&mut self) -> Result<(), Error<TcpError>> {
        wait(&self.net, self.timeout, self.stream.flush())
    }
}

/// A port for datagrams.
pub struct UdpSocket {
    net: Net,
    socket: crate::UdpSocket,
    timeout: Option<Duration>,
}

impl UdpSocket {
    /// Binds a port, as [`Net::bind_udp`] does.
    ///
    /// # Errors
    ///
    /// [`UdpError`].
    pub fn bind(net: &Net, port: u16) -> Result<UdpSocket, UdpError> {
        Ok(UdpSocket { net: net.clone(), socket: net.bind_udp(port)?, timeout: None })
    }

    /// How long a call may wait from now on; `None`: for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn send_to(&self, bytes: &[u8], to: IpEndpoint) -> Result<(), Error<UdpError>> {
        let sent = wait(&self.net, self.timeout, self.socket.send_to(bytes, to));
        self.net.poll();
        sent
    }

    /// The next datagram: its length, and where it came from.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn receive_from(&self, into: &mut [u8]) -> Result<(usize, IpEndpoint), Error<UdpError>> {
        wait(&self.net, self.timeout, self.socket.receive_from(into))
    }
}
