//! TLS 1.3 for servers, over any stream: `rustls` without std, with cryptography of RustCrypto and random
//! numbers of the application's.
//!
//! | part | what is offered |
//! |---|---|
//! | cipher suites | AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305 |
//! | key exchange | X25519, P-256 |
//! | the server's key | ECDSA on P-256 |
//!
//! Why these: `embedded-tls` is a client only; `ring`, `aws-lc-rs` and `graviola` want an operating system or
//! a C compiler; `rustls-rustcrypto` is an alpha release that asks libc for random numbers. So `rustls` has a
//! provider of our own here, of the primitives that a server needs and no more. No session is resumed, no
//! client is asked for a certificate, and there is no TLS 1.2.
//!
//! ```no_run
//! # async fn example(listener: libos_net::TcpListener, chain: &[u8], key: &[u8]) -> Option<()> {
//! use embedded_io_async::Write;
//! use libos_net::tls::TlsServer;
//!
//! let fill = |bytes: &mut [u8]| libos_core::random::fill(bytes).is_ok();
//! let server = TlsServer::new(chain, key, fill).ok()?;
//! let mut stream = server.accept(listener.accept().await).await.ok()?;
//! stream.write_all(b"nobody else reads this").await.ok()?;
//! stream.close().await.ok()
//! # }
//! ```

mod error;
mod provider;
mod server;
mod stream;
#[cfg(test)]
mod tests;

pub use error::{TlsError, TlsSetupError};
pub use server::TlsServer;
pub use stream::TlsStream;

/// Fills bytes with numbers that nobody can guess. Returns whether there were any.
pub type Random = fn(&mut [u8]) -> bool;
