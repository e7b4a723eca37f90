//! What can go wrong.

use core::fmt;
use embedded_io_async::ErrorKind;

/// Why a server can't be set up.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsSetupError {
    /// The certificates are not PEM.
    Certificates,
    /// There is no certificate.
    NoCertificate,
    /// The key is not PEM, or there is none.
    NoKey,
    /// The key is of another kind, or is damaged.
    Key(rustls::Error),
    /// The key and the certificate don't fit, or the certificate can't be used.
    Unfit(rustls::Error),
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsSetupError::Certificates => f.write_str("the certificates are not PEM"),
            TlsSetupError::NoCertificate => {
                f.write_str("there is no certificate: a part BEGIN CERTIFICATE is wanted")
            }
            TlsSetupError::NoKey => {
                f.write_str("there is no key: a part BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY is wanted")
            }
            TlsSetupError::Key(error) => write!(
                f,
                "the key can't be used ({error}): one for ECDSA on P-256 is wanted (openssl ecparam -genkey -name prime256v1)"
            ),
            TlsSetupError::Unfit(error) => write!(f, "the certificate can't be used with this key: {error}"),
        }
    }
}

impl core::error::Error for TlsSetupError {}

/// Why a connection does not go on.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError<E> {
    /// The stream below has failed.
    Stream(E),
    /// The other end breaks the protocol, or has nothing in common with us. It was told.
    Protocol(rustls::Error),
    /// The other end has gone without saying so: what was read may not be all.
    Truncated,
    /// More than a record came that is none.
    TooLong,
}

impl<E: fmt::Display> fmt::Display for TlsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Stream(error) => error.fmt(f),
            TlsError::Protocol(error) => write!(f, "TLS: {error}"),
            TlsError::Truncated => f.write_str("TLS: the other end has gone without saying so"),
            TlsError::TooLong => f.write_str("TLS: a record that is too long"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for TlsError<E> {}

impl<E: embedded_io_async::Error> embedded_io_async::Error for TlsError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            TlsError::Stream(error) => error.kind(),
            TlsError::Protocol(_) | TlsError::TooLong => ErrorKind::InvalidData,
            TlsError::Truncated => ErrorKind::ConnectionAborted,
        }
    }
}
