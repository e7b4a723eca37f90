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

impl Client for TcpStream {}

#[cfg(feature = "tls")]
impl<S: Read + Write> Client for libos_net::tls::TlsStream<S> {}

/// A connection whose protocol keeps shared bytes until they are acknowledged: what is sent again is the page
/// of the file cache.
pub struct Sharing(pub TcpStream);

impl embedded_io_async::ErrorType for Sharing {
    type Error = libos_net::TcpError;
}

impl Read for Sharing {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
        self.0.read(into).await
    }
}

impl Write for Sharing {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        self.0.write(from).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.0.flush().await
    }
}

impl Client for Sharing {
    fn shares(&self) -> bool {
        true
    }

    async fn write_shared(&mut self, bytes: &SharedBytes) -> Result<(), Self::Error> {
        self.0.write_shared(bytes).await
    }
}
