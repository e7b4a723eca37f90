//! HTTPS, if the image is built with it.

#[cfg(feature = "tls")]
mod with_tls {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::time::Duration;
    use httpd::connection::serve;
    use httpd::request::Request;
    use httpd::site::Site;
    use libos_core::task::Executor;
    use libos_core::{argument, random};
    use libos_fs::File;
    use libos_net::TcpStream;
    use libos_net::tls::TlsServer;

    /// Bytes of a file with certificates or a key at most.
    const MOST_PEM: u64 = 1 << 20;
    /// How long a handshake may take, and the last word.
    const HANDSHAKE: Duration = Duration::from_secs(10);

    /// A server's certificate and key.
    #[derive(Clone)]
    pub struct Secure(TlsServer);

    impl Secure {
        /// The certificate and the key that the command line names.
        pub fn new(site: &mut Site) -> Result<Secure, String> {
            let read = |name: &str| -> Result<(File, Vec<u8>), String> {
                let path =
                    argument(name).ok_or_else(|| format!("httpd: with tls= a word {name}=FILE is wanted"))?;
                let failed = |error| format!("httpd: {name}={path}: {error}");
                let file = site.volume().open(path).map_err(failed)?;
                let bytes = file.len().map_err(failed)?;
                if bytes > MOST_PEM {
                    return Err(format!("httpd: {name}={path}: {bytes} bytes are no PEM of a server"));
                }
                let mut text = vec![0; bytes as usize];
                let count = file.read_at(0, &mut text).map_err(failed)?;
                text.truncate(count);
                Ok((file, text))
            };
            let (_, certificates) = read("certificate")?;
            let (file, key) = read("key")?;
            site.conceal(&file);
            TlsServer::new(&certificates, &key, |bytes| random::fill(bytes).is_ok())
                .map(Secure)
                .map_err(|error| format!("httpd: {error}"))
        }

        /// Serves a client to its end.
        pub async fn serve(
            &self,
            stream: TcpStream,
            site: &Site,
            executor: &Executor,
            log: impl FnMut(Option<&Request>, u16, u64),
        ) {
            // Who is no client of TLS, or too slow, was told so.
            let Some(Ok(mut stream)) = executor.within(HANDSHAKE, self.0.accept(stream)).await else {
                return;
            };
            serve(&mut stream, site, executor, log).await;
            let _ = executor.within(HANDSHAKE, stream.close()).await;
        }
    }
}

#[cfg(not(feature = "tls"))]
mod without_tls {
    use alloc::string::String;
    use httpd::request::Request;
    use httpd::site::Site;
    use libos_core::task::Executor;
    use libos_net::TcpStream;

    /// There is none.
    #[derive(Clone)]
    pub enum Secure {}

    impl Secure {
        /// Says what is missing.
        pub fn new(_: &mut Site) -> Result<Secure, String> {
            Err("httpd: tls= wants an image built with TLS: exo run --features httpd/tls httpd".into())
        }

        /// There is nobody to serve.
        pub async fn serve(
            &self,
            _: TcpStream,
            _: &Site,
            _: &Executor,
            _: impl FnMut(Option<&Request>, u16, u64),
        ) {
            match *self {}
        }
    }
}

#[cfg(feature = "tls")]
pub use with_tls::Secure;
#[cfg(not(feature = "tls"))]
pub use without_tls::Secure;
