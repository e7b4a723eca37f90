//! Programs of this host as clients of the TLS server.

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use libos_net::tls::TlsServer;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::task::{Context, Poll, Waker};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");

/// A stream that waits where it is asked.
struct Waiting(TcpStream);

impl ErrorType for Waiting {
    type Error = ErrorKind;
}

impl Read for Waiting {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(into).map_err(|_| ErrorKind::Other)
    }
}

impl Write for Waiting {
    async fn write(&mut self, from: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(from).map_err(|_| ErrorKind::Other)
    }
    async fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.flush().map_err(|_| ErrorKind::Other)
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn random(bytes: &mut [u8]) -> bool {
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes)).is_ok()
}

/// Answers one client; what it has asked for.
fn serve(listener: &TcpListener, answer: &[u8]) -> Option<String> {
    let file = |name| std::fs::read(format!("{FOLDER}/{name}")).unwrap();
    let server = TlsServer::new(&file("certificate.pem"), &file("key.pem"), random).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut stream = now(server.accept(Waiting(stream))).ok()?;
    let mut asked = vec![0; 1000];
    let count = now(stream.read(&mut asked)).ok()?;
    now(stream.write_all(answer)).ok()?;
    now(stream.close()).ok()?;
    Some(String::from_utf8_lossy(&asked[..count]).into_owned())
}

fn with_server(answer: &[u8], client: impl FnOnce(u16) -> Output) -> (Option<String>, Output) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener, answer));
        let output = client(port);
        (serving.join().unwrap(), output)
    })
}

#[test]
fn curl_reads_a_page() {
    let Some(curl) = host_needs::program("curl_reads_a_page", "curl") else { return };
    let body = "x".repeat(100_000);
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n{body}");
    let (asked, output) = with_server(answer.as_bytes(), |port| {
        let url = format!("https://localhost:{port}/page");
        let certificate = format!("{FOLDER}/certificate.pem");
        let arguments = ["-sS", "--max-time", "20", "--cacert", &certificate, &url];
        Command::new(curl).args(arguments).output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, body.as_bytes());
    assert!(asked.unwrap().starts_with("GET /page HTTP/1.1"));
}

#[test]
fn openssl_agrees_on_every_suite_and_group() {
    let Some(openssl) = host_needs::program("openssl_agrees_on_every_suite_and_group", "openssl") else {
        return;
    };
    let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for (suite, group) in suites.iter().flat_map(|suite| [(suite, "X25519"), (suite, "P-256")]) {
        let (asked, output) = with_server(b"an answer", |port| {
            let (to, certificate) = (format!("localhost:{port}"), format!("{FOLDER}/certificate.pem"));
            let mut child = Command::new(&openssl)
                .args([
                    "s_client",
                    "-quiet",
                    "-verify_return_error",
                    "-CAfile",
                    &certificate,
                    "-connect",
                    &to,
                ])
                .args(["-ciphersuites", suite, "-groups", group])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(b"a question").unwrap();
            let output = child.wait_with_output().unwrap();
            drop(input);
            output
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(asked.as_deref(), Some("a question"), "{suite}, {group}: {said}");
        assert_eq!(output.stdout, b"an answer", "{suite}, {group}: {said}");
    }
}

/// A client that offers only what there is not is told so, and the server goes on.
#[test]
fn openssl_with_tls_1_2_only_is_refused() {
    let Some(openssl) = host_needs::program("openssl_with_tls_1_2_only_is_refused", "openssl") else {
        return;
    };
    let (asked, output) = with_server(b"never", |port| {
        let to = format!("localhost:{port}");
        let arguments = ["s_client", "-tls1_2", "-connect", &to];
        Command::new(&openssl).args(arguments).stdin(Stdio::null()).output().unwrap()
    });
    assert_eq!(asked, None);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("alert protocol version"), "{said}");
}
