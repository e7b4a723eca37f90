//! What a client gets, word for word, on a connection in memory.

use core::convert::Infallible;
use embedded_io_async::{ErrorType, Read, Write};
use httpd::connection::serve;
use httpd::site::Site;
use libos_core::task::Executor;
use libos_fs::{CacheOptions, RamDisk, Volume, extent_fs};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

/// A client that has sent something, and then ends or stays silent.
#[derive(Clone)]
struct Client {
    sends: Rc<RefCell<VecDeque<Vec<u8>>>>,
    stays: bool,
    got: Rc<RefCell<Vec<u8>>>,
}

impl ErrorType for Client {
    type Error = Infallible;
}

impl Read for Client {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let next = self.sends.borrow_mut().pop_front();
        let Some(mut bytes) = next else {
            if self.stays {
                core::future::pending::<()>().await;
            }
            return Ok(0);
        };
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        if count < bytes.len() {
            self.sends.borrow_mut().push_front(bytes.split_off(count));
        }
        Ok(count)
    }
}

impl Write for Client {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        let count = from.len().min(1000);
        self.got.borrow_mut().extend(&from[..count]);
        Ok(count)
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl httpd::client::Client for Client {}

fn site() -> Site {
    let disk = RamDisk::new(300);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk), CacheOptions::default()).unwrap();
    volume.create_dir("/d").unwrap();
    let page: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    for (path, bytes) in [
        ("/index.html", &b"<p>root"[..]),
        ("/d/index.html", b"<p>d"),
        ("/a b.txt", b"0123456789"),
        ("/style.css", b"plain"),
        ("/style.css.gz", b"gzipped"),
        ("/page", &page),
        ("/empty", b""),
    ] {
        volume.create(path).unwrap().append(bytes).unwrap();
    }
    Site::new(volume, 0)
}

/// A client that sends a request and takes nothing.
struct Mute(Option<&'static [u8]>);

impl ErrorType for Mute {
    type Error = Infallible;
}

impl Read for Mute {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let Some(bytes) = self.0.take() else { return core::future::pending().await };
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Mute {
    async fn write(&mut self, _: &[u8]) -> Result<usize, Infallible> {
        core::future::pending().await
    }
    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl httpd::client::Client for Mute {}

#[test]
fn a_client_that_takes_nothing_is_left_after_a_while() {
    let heads: [&[u8]; 2] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    ];
    for head in heads {
        let executor = Executor::new(|| NOW_NS.get());
        let own = executor.clone();
        executor.spawn(async move { serve(&mut Mute(Some(head)), &site(), &own, |_, _, _| {}).await });
        let end_ns = NOW_NS.get() + 120_000_000_000;
        while executor.tasks() > 0 {
            if !executor.run_ready() {
                NOW_NS.set(executor.next_timer_ns().expect("a time to wait for").max(NOW_NS.get()));
            }
            assert!(NOW_NS.get() < end_ns);
        }
    }
}

/// What comes back, and the lines of the log as status and bytes.
fn served(parts: &[&str], stays: bool) -> (Vec<u8>, Vec<(u16, u64)>) {
    let executor = Executor::new(|| NOW_NS.get());
    let sends = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    let client = Client { sends: Rc::new(RefCell::new(sends)), stays, got: Rc::default() };
    let logged = Rc::new(RefCell::new(Vec::new()));
    let (mut stream, log, own) = (client.clone(), Rc::clone(&logged), executor.clone());
    executor.spawn(async move {
        let site = site();
        serve(&mut stream, &site, &own, |_, status, bytes| log.borrow_mut().push((status, bytes))).await;
    });
    while executor.tasks() > 0 {
        if !executor.run_ready() {
            NOW_NS.set(executor.next_timer_ns().expect("a time to wait for").max(NOW_NS.get()));
        }
    }
    (client.got.take(), logged.take())
}

/// An answer to one request: status, head, body.
fn get(request: &str) -> (u16, String, Vec<u8>) {
    let (got, _) = served(&[request], false);
    split(&got)
}

fn split(got: &[u8]) -> (u16, String, Vec<u8>) {
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(got[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    (status, head, got[end + 4..].to_vec())
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn plain(path: &str, more: &str) -> (u16, String, Vec<u8>) {
    get(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n"))
}

#[test]
fn files_and_directories_are_found() {
    let (status, head, body) = plain("/", "");
    assert_eq!((status, &body[..]), (200, &b"<p>root"[..]));
    assert_eq!(field(&head, "Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(field(&head, "Content-Length"), Some("7"));
    assert_eq!(plain("/a%20b.txt", "").2, b"0123456789");
    assert_eq!(plain("/d/", "").2, b"<p>d");
    let (status, head, _) = plain("/d", "");
    assert_eq!((status, field(&head, "Location")), (301, Some("/d/")));
    assert_eq!((plain("/none", "").0, plain("/page/x", "").0, plain("/d/none/", "").0), (404, 404, 404));
    let (status, _, body) = plain("/page", "");
    assert_eq!((status, body.len()), (200, 40_000));
    assert!(body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
    assert_eq!((plain("/empty", "").0, plain("/empty", "").2.len()), (200, 0));
}

#[test]
fn a_head_says_what_would_come_and_nothing_else_does() {
    let (got, logged) = served(&["HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n"], false);
    let (status, head, body) = split(&got);
    assert_eq!((status, field(&head, "Content-Length"), body.len()), (200, Some("40000"), 0));
    assert_eq!(logged, [(200, 0)]);
    let (status, head, _) = get("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((status, field(&head, "Allow")), (405, Some("GET, HEAD")));
}

#[test]
fn parts_come_alone_or_several_in_one() {
    let (status, head, body) = plain("/a%20b.txt", "Range: bytes=2-4\r\n");
    assert_eq!((status, &body[..], field(&head, "Content-Range")), (206, &b"234"[..], Some("bytes 2-4/10")));
    let (status, head, _) = plain("/a%20b.txt", "Range: bytes=10-\r\n");
    assert_eq!((status, field(&head, "Content-Range")), (416, Some("bytes */10")));
    let (status, head, body) = plain("/a%20b.txt", "Range: bytes=0-0,-2\r\n");
    let boundary = field(&head, "Content-Type").unwrap().split("boundary=").nth(1).unwrap();
    let part = |range: &str, bytes: &str| {
        let media = "text/plain; charset=utf-8";
        format!("\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}")
    };
    let expected = part("0-0", "0") + &part("8-9", "89") + &format!("\r\n--{boundary}--\r\n");
    assert_eq!((status, String::from_utf8(body).unwrap()), (206, expected.clone()));
    assert_eq!(field(&head, "Content-Length"), Some(&*expected.len().to_string()));
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let (_, head, _) = plain("/page", "");
    let tag = field(&head, "ETag").unwrap().to_owned();
    let (status, head, body) = plain("/page", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((status, body.len(), field(&head, "ETag")), (304, 0, Some(&*tag)));
    assert_eq!(field(&head, "Content-Length"), None);
    assert_eq!(plain("/page", "If-Match: \"other\"\r\n").0, 412);
    let held = format!("Range: bytes=0-9\r\nIf-Range: {tag}\r\n");
    assert_eq!(
        (plain("/page", &held).0, plain("/page", "Range: bytes=0-9\r\nIf-Range: \"x\"\r\n").0),
        (206, 200)
    );
}

#[test]
fn a_compressed_file_beside_it_is_sent_to_who_takes_it() {
    let (_, head, body) = plain("/style.css", "Accept-Encoding: br, gzip\r\n");
    assert_eq!((&body[..], field(&head, "Content-Encoding")), (&b"gzipped"[..], Some("gzip")));
    assert_eq!(field(&head, "Content-Type"), Some("text/css; charset=utf-8"));
    let (_, head, body) = plain("/style.css", "");
    assert_eq!((&body[..], field(&head, "Content-Encoding")), (&b"plain"[..], None));
    assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"));
}

#[test]
fn requests_come_in_any_pieces_and_several_at_once() {
    let one = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let text = format!("{one}{one}{last}{one}");
    let bytes: Vec<String> = text.chars().map(String::from).collect();
    let pieces: Vec<&str> = bytes.iter().map(|byte| &**byte).collect();
    for parts in [&[&*text][..], &pieces] {
        let (got, logged) = served(parts, false);
        assert_eq!(logged, [(200, 7), (200, 7), (200, 4)], "what follows the last is not answered");
        assert!(got.ends_with(b"Connection: close\r\n\r\n<p>d"));
    }
}

#[test]
fn bodies_are_read_to_their_end_and_the_next_request_is_found() {
    let next = "GET /d/ HTTP/1.1\r\nHost: x\r\n\r\n";
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n",
    ] {
        let (got, logged) = served(&[&format!("GET / HTTP/1.1\r\nHost: x\r\n{body}{next}")], false);
        assert_eq!(logged, [(200, 7), (200, 4)], "{}", String::from_utf8_lossy(&got));
    }
    let head = "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let (got, logged) = served(&[head, "ab"], false);
    assert!(got.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_eq!(logged, [(200, 7)]);
    for (body, status) in [
        ("Content-Length: 9999999999\r\n\r\n", 413),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", 413),
    ] {
        let (_, logged) = served(&[&format!("GET / HTTP/1.1\r\nHost: x\r\n{body}{next}")], false);
        assert_eq!(logged.len(), 1, "{body:?}: the connection ends");
        assert_eq!(logged[0].0, status, "{body:?}");
    }
}

#[test]
fn who_is_slow_is_told_and_who_is_silent_is_left() {
    let (got, logged) = served(&["GET / HTTP/1.1\r\nHo"], true);
    assert_eq!((split(&got).0, logged[0].0), (408, 408));
    let (got, logged) = served(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"], true);
    assert_eq!((split(&got).0, &logged[..]), (200, &[(200, 7)][..]));
    assert_eq!(served(&[], true), (vec![], vec![]));
    let endless = "a".repeat(9000);
    assert_eq!(served(&[&endless], true).1[0].0, 431);
}
