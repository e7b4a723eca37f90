//! Pages of the file cache are what is sent, over this project's own TCP and a wire in memory.

use embedded_io_async::{Read, Write};
use httpd::client::Connection;
use httpd::connection::serve;
use httpd::site::Site;
use libos_core::task::Executor;
use libos_fs::{CacheOptions, RamDisk, Volume, extent_fs};
use libos_net::link::wire;
use libos_net::{Config, Interactive, Ipv4, Ipv6, Net, OwnTcp, Protocol, TcpPolicy};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

fn now_ns() -> u64 {
    NOW_NS.get()
}

struct Own;

impl TcpPolicy for Own {
    fn send_bytes(&self) -> usize {
        64 * 1024
    }
    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(OwnTcp::new(&self.parameters()))
    }
}

fn config(last: u8) -> Config {
    Config {
        ipv4: Ipv4::Static { address: format!("10.0.0.{last}/24").parse().unwrap(), router: None },
        ipv6: Ipv6::None,
        ..Config::new([u64::from(last), 2, 3], now_ns)
    }
}

fn contents(name: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + name) as u8).collect()
}

/// Asks for paths in turn on one connection; the bodies, and what the server has copied and sent.
fn ask(site: &Rc<Site>, paths: &[&str]) -> (Vec<Vec<u8>>, u64, u64) {
    let (one, two) = wire(64);
    let (server, client) = (Net::new(one, &config(1)).unwrap(), Net::new(two, &config(2)).unwrap());
    let executor = Executor::new(now_ns);
    let listener = server.listen(80, 4, Own).unwrap();
    let (serving, inside) = (Rc::clone(site), executor.clone());
    executor.spawn(async move {
        let stream = listener.accept().await;
        serve(&mut Connection { stream, shares: true }, &serving, &inside, |_, _, _| ()).await;
    });
    let bodies: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let (got, connecting) = (Rc::clone(&bodies), client.clone());
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mut asking = executor.spawn(async move {
        let mut stream = connecting.connect("10.0.0.1:80".parse().unwrap(), &Interactive).await.unwrap();
        for path in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            let body = loop {
                if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                    break at + 4;
                }
                let mut part = [0; 2000];
                let count = stream.read(&mut part).await.unwrap();
                bytes.extend(&part[..count]);
            };
            let head = String::from_utf8_lossy(&bytes[..body]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let length: usize = length.parse().unwrap();
            let mut rest = bytes.split_off(body);
            while rest.len() < length {
                let mut part = [0; 2000];
                let count = stream.read(&mut part).await.unwrap();
                rest.extend(&part[..count]);
            }
            got.borrow_mut().push(rest);
        }
    });
    for _ in 0..100_000 {
        executor.run_ready();
        let (one, two) = (server.poll(), client.poll());
        if executor.now_or_never(&mut asking).is_some() {
            let tcp = server.statistics().tcp;
            let bodies = bodies.borrow().clone();
            return (bodies, tcp.bytes_copied + site.copied.get(), tcp.bytes_sent);
        }
        if !one && !two && !executor.is_ready() {
            NOW_NS.set(now_ns() + 100_000);
        }
    }
    panic!("it never ends: {:?}", server.statistics());
}

fn site(blocks: usize, documents: usize) -> Rc<Site> {
    let disk = RamDisk::new(2000);
    extent_fs::make(Box::new(disk.clone())).unwrap();
    let volume = Volume::mount(Box::new(disk), CacheOptions { blocks, ..CacheOptions::default() }).unwrap();
    for (number, bytes) in [1000, 10_000, 200_000].into_iter().enumerate() {
        let file = volume.create(&format!("/{number}")).unwrap();
        file.write_at(0, &contents(number, bytes)).unwrap();
    }
    volume.commit().unwrap();
    Rc::new(Site::new(volume, documents))
}

#[test]
fn small_and_large_files_are_sent_without_a_copy() {
    let site = site(256, 256);
    let (bodies, copied, sent) = ask(&site, &["/0", "/1", "/2", "/0", "/1", "/2"]);
    for (number, body) in bodies.iter().enumerate() {
        let bytes = [1000, 10_000, 200_000][number % 3];
        assert!(*body == contents(number % 3, bytes), "request {number}: {} bytes", body.len());
    }
    assert!(sent > 422_000, "{sent}");
    // Heads are, and nothing else by the server; the wire in memory gathers by itself.
    assert!(copied < sent / 20, "{copied} of {sent} copied");
}

#[test]
fn what_is_asked_for_most_is_read_once_however_small_the_cache() {
    let site = site(8, 8);
    ask(&site, &["/0", "/1", "/0", "/1"]);
    let before = site.volume().cache().statistics().blocks_read;
    let (bodies, _, _) = ask(&site, &["/2", "/0", "/1"]);
    assert!(bodies[1] == contents(0, 1000) && bodies[2] == contents(1, 10_000));
    let large = 200_000_u64.div_ceil(4096);
    let read = site.volume().cache().statistics().blocks_read - before;
    assert_eq!(read, large, "the large file, once: its tag takes no reading");
}

#[test]
fn a_document_goes_only_for_one_that_is_asked_for_more_often() {
    // Room for /1, or for /0 and two blocks more.
    let site = site(8, 3);
    let reads = |paths: &[&str]| {
        site.volume().cache().drop_clean();
        let before = site.volume().cache().statistics().blocks_read;
        ask(&site, paths);
        site.volume().cache().statistics().blocks_read - before
    };
    assert_eq!(reads(&["/0", "/0"]), 1, "kept");
    assert_eq!(reads(&["/1"]), 3, "asked for less often than what would go");
    assert_eq!((reads(&["/1"]), reads(&["/0"])), (3, 0), "as often is not more often");
    assert_eq!((reads(&["/1"]), reads(&["/1"])), (3, 3), "three requests, as /0 has; then four");
    assert_eq!((reads(&["/1"]), reads(&["/0"])), (0, 1), "now /1 is kept, and /0 went for it");
    assert_eq!((reads(&["/2"]), reads(&["/1"])), (49, 0), "a large one never pushes a small one out");
}

#[test]
fn room_that_small_files_leave_is_for_blocks_of_large_ones() {
    let site = site(8, 50);
    let reads = |paths: &[&str]| {
        site.volume().cache().drop_clean();
        let before = site.volume().cache().statistics().blocks_read;
        ask(&site, paths);
        site.volume().cache().statistics().blocks_read - before
    };
    assert_eq!((reads(&["/2"]), reads(&["/2"])), (49, 0));
    assert_eq!((reads(&["/1", "/0"]), reads(&["/0", "/1"])), (4, 0), "small ones go before it at once");
    assert_eq!((reads(&["/2"]), reads(&["/2"]), reads(&["/1"])), (3, 3, 0), "three of its blocks went");
}
