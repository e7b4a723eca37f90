//! A server's certificate and key.

use super::provider;
use super::stream::TlsStream;
use super::{Random, TlsError, TlsSetupError};
use alloc::sync::Arc;
use alloc::vec::Vec;
use embedded_io_async::{Read, Write};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::time_provider::TimeProvider;

/// A server with its certificate. Clones are the same.
#[derive(Clone, Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

/// Nothing that a server does here depends on the time of day: no session is resumed, and no certificate of
/// a client is judged.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

impl TlsServer {
    /// A server with this chain of certificates, its own first, and this key, both in PEM (RFC 7468).
    /// `random` is asked for numbers with each connection.
    ///
    /// # Errors
    ///
    /// [`TlsSetupError`].
    pub fn new(certificates: &[u8], key: &[u8], random: Random) -> Result<TlsServer, TlsSetupError> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsSetupError::Certificates)?;
        if chain.is_empty() {
            return Err(TlsSetupError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsSetupError::NoKey)?;
        let provider = provider::provider(random);
        let loaded = provider.key_provider.load_private_key(key.clone_key()).map(drop);
        loaded.map_err(TlsSetupError::Key)?;
        let mut config = ServerConfig::builder_with_details(Arc::new(provider), Arc::new(NoTime))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(TlsSetupError::Unfit)?;
        config.send_tls13_tickets = 0;
        Ok(TlsServer { config: Arc::new(config) })
    }

    /// Has the handshake with a client. Whoever waits sets a limit of time.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub async fn accept<S: Read + Write>(&self, stream: S) -> Result<TlsStream<S>, TlsError<S::Error>> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&self.config));
        let mut stream = TlsStream::new(stream, connection.map_err(TlsError::Protocol)?);
        stream.handshake().await?;
        Ok(stream)
    }
}
