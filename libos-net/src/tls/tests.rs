//! A client of `rustls`, with this provider, in memory; and clients of this host over TCP.

use super::provider::provider;
use super::{TlsError, TlsServer, TlsSetupError, TlsStream};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_io_async::{ErrorType, Read, Write};
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

const CERTIFICATE: &[u8] = include_bytes!("../../tests/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../../tests/tls/key.pem");

/// Not secret: a counter, spread by a multiplication.
fn numbers(bytes: &mut [u8]) -> bool {
    use core::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    for byte in bytes {
        *byte = (NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    }
    true
}

fn server() -> TlsServer {
    TlsServer::new(CERTIFICATE, KEY, numbers).unwrap()
}

/// One direction of a pipe.
#[derive(Default)]
struct Pipe {
    bytes: RefCell<VecDeque<u8>>,
    is_closed: Cell<bool>,
}

/// An end of two pipes. Nobody is woken: whoever tests polls.
#[derive(Clone)]
struct End {
    from: Rc<Pipe>,
    to: Rc<Pipe>,
    /// Bytes at once at most.
    most: usize,
}

fn ends(most: usize) -> (End, End) {
    let (there, back) = (Rc::<Pipe>::default(), Rc::<Pipe>::default());
    let first = End { from: Rc::clone(&back), to: Rc::clone(&there), most };
    (first, End { from: there, to: back, most })
}

impl ErrorType for End {
    type Error = Infallible;
}

impl Read for End {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|_| {
            let mut bytes = self.from.bytes.borrow_mut();
            if bytes.is_empty() && !self.from.is_closed.get() {
                return Poll::Pending;
            }
            let count = bytes.len().min(into.len()).min(self.most);
            into.iter_mut().zip(bytes.drain(..count)).for_each(|(place, byte)| *place = byte);
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Write for End {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        let count = from.len().min(self.most);
        self.to.bytes.borrow_mut().extend(&from[..count]);
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Takes the one certificate that there is.
#[derive(Debug)]
struct ThisOne;

impl ServerCertVerifier for ThisOne {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.2 is not offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        use p256::ecdsa::signature::Verifier;
        use p256::pkcs8::DecodePrivateKey;
        let key = p256::SecretKey::from_pkcs8_pem(core::str::from_utf8(KEY).unwrap()).unwrap();
        let signature = p256::ecdsa::Signature::from_der(signed.signature()).unwrap();
        let key = p256::ecdsa::VerifyingKey::from(key.public_key());
        key.verify(message, &signature).map_err(|_| rustls::CertificateError::BadSignature)?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[derive(Debug)]
struct Now;

impl rustls::time_provider::TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(core::time::Duration::from_secs(1_800_000_000)))
    }
}

/// A client that offers one suite and one group, sends some bytes, and collects what comes until the end.
struct Client {
    connection: UnbufferedClientConnection,
    end: End,
    incoming: Vec<u8>,
    to_send: Vec<u8>,
    got: Vec<u8>,
    /// The other end has said that this was all.
    is_ended: bool,
    error: Option<rustls::Error>,
}

impl Client {
    fn new(end: End, suite: usize, group: usize, to_send: &[u8]) -> Client {
        let mut provider = provider(numbers);
        provider.cipher_suites = vec![provider.cipher_suites[suite]];
        provider.kx_groups = vec![provider.kx_groups[group]];
        let config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(Now))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ThisOne))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = UnbufferedClientConnection::new(Arc::new(config), name).unwrap();
        let (incoming, got) = (Vec::new(), Vec::new());
        Client { connection, end, incoming, to_send: to_send.to_vec(), got, is_ended: false, error: None }
    }

    /// Does what can be done.
    fn turn(&mut self) {
        self.incoming.extend(self.end.from.bytes.borrow_mut().drain(..));
        while self.error.is_none() {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut out = vec![0; 20_000];
            let mut more = true;
            match state {
                Err(error) => self.error = Some(error),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.unwrap();
                        discard += record.discard;
                        self.got.extend(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    let bytes = record.encode(&mut out).unwrap();
                    self.end.to.bytes.borrow_mut().extend(&out[..bytes]);
                }
                Ok(ConnectionState::TransmitTlsData(records)) => records.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) if !self.to_send.is_empty() => {
                    let part = self.to_send.len().min(16_384);
                    let bytes = traffic.encrypt(&self.to_send[..part], &mut out).unwrap();
                    self.end.to.bytes.borrow_mut().extend(&out[..bytes]);
                    self.to_send.drain(..part);
                }
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(_) => more = false,
            }
            self.incoming.drain(..discard);
            if !more {
                return;
            }
        }
    }
}

/// Polls a server beside a client until the server has ended.
fn beside<T>(client: &mut Client, server: impl Future<Output = T>) -> T {
    let mut server = pin!(server);
    for _ in 0..100_000 {
        client.turn();
        if let Poll::Ready(result) = server.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            client.turn();
            return result;
        }
    }
    panic!("it never ends; the client: {:?}", client.error);
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

async fn echo(stream: End, bytes: usize) -> Result<(), TlsError<Infallible>> {
    let mut stream = server().accept(stream).await?;
    let mut got = vec![0; bytes];
    let mut at = 0;
    while at < bytes {
        at += match stream.read(&mut got[at..]).await? {
            0 => panic!("the end after {at} bytes"),
            count => count,
        };
    }
    stream.write_all(&got).await?;
    stream.close().await
}

#[test]
fn every_suite_with_every_group_carries_bytes_both_ways() {
    for (suite, group) in (0..3).flat_map(|suite| [(suite, 0), (suite, 1)]) {
        let (ours, theirs) = ends(1000 + suite * 777);
        let sent = pattern(100_000);
        let mut client = Client::new(theirs, suite, group, &sent);
        beside(&mut client, echo(ours, sent.len())).unwrap();
        assert_eq!(client.error, None);
        assert!(client.is_ended && client.got == sent, "suite {suite}, group {group}");
    }
}

#[test]
fn an_altered_record_ends_the_connection_and_is_told() {
    let (ours, theirs) = ends(4096);
    let mut client = Client::new(theirs, 0, 0, b"");
    let to_server = Rc::clone(&ours.from);
    let work = async {
        let mut stream = server().accept(ours).await.unwrap();
        stream.read(&mut [0; 10]).await
    };
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        client.turn();
        assert!(work.as_mut().poll(&mut context).is_pending());
    }
    client.to_send = b"a secret".to_vec();
    client.turn();
    let last = to_server.bytes.borrow().len() - 1;
    to_server.bytes.borrow_mut()[last] ^= 1;
    let Poll::Ready(read) = work.as_mut().poll(&mut context) else { panic!("it waits for more") };
    assert_eq!(read, Err(TlsError::Protocol(rustls::Error::DecryptError)));
    client.turn();
    assert!(matches!(client.error, Some(rustls::Error::AlertReceived(_))), "{:?}", client.error);
}

#[test]
fn an_end_without_a_word_is_no_end() {
    let (ours, theirs) = ends(4096);
    let pipe = Rc::clone(&ours.from);
    let mut client = Client::new(theirs, 2, 0, b"half");
    let result = beside(&mut client, async {
        let mut stream = server().accept(ours).await.unwrap();
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        pipe.is_closed.set(true);
        stream.read(&mut four).await
    });
    assert_eq!(result, Err(TlsError::Truncated));
}

#[test]
fn what_is_no_tls_is_refused() {
    for bytes in
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), vec![0; 100], vec![0x16, 3, 1, 0xff, 0xff, 1]]
    {
        let (ours, theirs) = ends(4096);
        theirs.to.bytes.borrow_mut().extend(&bytes);
        theirs.to.is_closed.set(true);
        let work = server();
        let mut work = pin!(work.accept(ours));
        let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("{bytes:?} are waited for")
        };
        assert!(matches!(result, Err(TlsError::Protocol(_))), "{bytes:?}");
    }
}

/// Random damage of what a client sends: an error or the truth, never a panic.
#[test]
fn damage_anywhere_is_no_panic() {
    for seed in 0..60_usize {
        let (ours, theirs) = ends(4096);
        let to_server = Rc::clone(&ours.from);
        let mut client = Client::new(theirs, seed % 3, seed % 2, b"some bytes to be echoed");
        let mut work = pin!(echo(ours, 23));
        let mut context = Context::from_waker(Waker::noop());
        for turn in 0..20 {
            client.turn();
            let mut bytes = to_server.bytes.borrow_mut();
            let at = (seed * 7919 + turn * 104_729) % bytes.len().max(1);
            if seed % 5 == turn && !bytes.is_empty() {
                bytes[at] ^= 1 << (seed % 8);
                let rest = bytes.len() - seed % 2;
                bytes.truncate(rest);
            }
            drop(bytes);
            if work.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
        assert!(client.got.is_empty() || client.got == b"some bytes to be echoed");
    }
}

#[test]
fn keys_and_certificates_that_do_not_fit_are_named() {
    let error = |certificates, key| TlsServer::new(certificates, key, numbers).unwrap_err();
    assert_eq!(error(b"", KEY), TlsSetupError::NoCertificate);
    assert_eq!(error(CERTIFICATE, b""), TlsSetupError::NoKey);
    let rsa = b"-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    assert!(error(CERTIFICATE, rsa).to_string().contains("RSA"));
    let cut = &CERTIFICATE[..CERTIFICATE.len() / 2];
    assert!(matches!(error(cut, KEY), TlsSetupError::Certificates | TlsSetupError::NoCertificate));
    assert!(TlsServer::new(CERTIFICATE, KEY, |_| false).is_ok());
}

#[test]
fn without_random_numbers_there_is_no_connection() {
    let (ours, theirs) = ends(4096);
    let mut client = Client::new(theirs, 0, 0, b"");
    let server = TlsServer::new(CERTIFICATE, KEY, |_| false).unwrap();
    let result = beside(&mut client, server.accept(ours)).map(|_: TlsStream<End>| ());
    assert_eq!(result, Err(TlsError::Protocol(rustls::Error::FailedToGetRandomBytes)));
}
