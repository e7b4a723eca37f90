//! The connection of a client.

use embedded_io_async::{Read, Write};
use libos_net::{SharedBytes, TcpStream};

/// What a client sends on, and is answered on.
pub trait Client: Read + Write {
    /// Whether shared bytes are sent from where they lie.
    fn shares(&self) -> bool {
        false
    }

    /// Writes shared bytes: all of them.
    ///
    /// # Errors
    ///
    /// Those of [`Write`].
    fn write_shared(&mut self, bytes: &SharedBytes) -> impl Future<Output = Result<(), Self::Error>> {
        async { self.write_all(bytes).await }
    }
}

#[cfg(feature = "tls")]
impl<S: Read + Write> Client for libos_net::tls::TlsStream<S> {}

/// A connection of a unikernel. All are of this type, so that there is one copy of what serves them.
pub struct Connection {
    /// It.
    pub stream: TcpStream,
    /// Whether its protocol keeps shared bytes until they are acknowledged: what is sent again is the page of
    /// the file cache.
    pub shares: bool,
}

impl embedded_io_async::ErrorType for Connection {
    type Error = libos_net::TcpError;
}

impl Read for Connection {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        self.stream.read(into).await
    }
}

impl Write for Connection {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        self.stream.write(from).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.stream.flush().await
    }
}

impl Client for Connection {
    fn shares(&self) -> bool {
        self.shares
    }

    async fn write_shared(&mut self, bytes: &SharedBytes) -> Result<(), Self::Error> {
        self.stream.write_shared(bytes).await
    }
}
