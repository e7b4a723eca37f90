//! A `redis-server` that ends with the test.

use super::reply::length;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server and a connection to it.
pub struct Peer {
    _server: Server,
    stream: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    /// Starts a server, if there is one on this host; else says that the test is not offered.
    pub fn start(test: &str) -> Option<Self> {
        let program = host_needs::program(test, "redis-server")?;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let server = Server(child);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).expect("no delay");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                return Some(Self { _server: server, stream, read: Vec::new() });
            }
            assert!(Instant::now() < end, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The reply to a command.
    pub fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        kv::resp::write_command(&mut bytes, words.iter().map(Vec::as_slice));
        self.stream.write_all(&bytes).expect("redis-server reads");
        loop {
            if let Some(end) = length(&self.read) {
                let rest = self.read.split_off(end);
                return std::mem::replace(&mut self.read, rest);
            }
            let mut buffer = [0; 65536];
            let count = self.stream.read(&mut buffer).expect("redis-server answers");
            assert_ne!(count, 0, "redis-server has closed the connection");
            self.read.extend_from_slice(&buffer[..count]);
        }
    }
}

/// A process that ends with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
