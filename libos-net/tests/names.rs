//! Names to addresses: a resolver on a wire, good, slow, lossy and forged; and the blocking calls.

use crate::pair::{Pair, advance, config, remote};
use embedded_io::{Read as _, Write as _};
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_net::link::{Faults, Frame, Link, Wire, wire};
use libos_net::{
    Config, ConnectByNameError, Interactive, IpAddress, Net, ResolveError, TcpError, UdpError, blocking,
};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What a resolver answers: `two.example` has two addresses, `large.example` one that only fits in a stream,
/// `busy.example` is refused, and there are no others.
fn answer(question: &[u8], by_stream: bool) -> Vec<u8> {
    let name = String::from_utf8_lossy(&question[12..question.len() - 5]).into_owned();
    let name = name.trim_matches(|c: char| c.is_control()).to_string();
    let (flags, last): (u16, &[u8]) = match name.as_str() {
        "two\u{7}example" => (0x8180, &[1, 77]),
        "large\u{7}example" if by_stream => (0x8180, &[1]),
        "large\u{7}example" => (0x8380, &[]),
        "busy\u{7}example" => (0x8182, &[]),
        _ => (0x8183, &[]),
    };
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[7] = last.len() as u8;
    for last in last {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, *last]);
    }
    bytes
}

/// Serves that on both kinds of port 53; how many questions came by datagram.
fn serve_names(net: &Net, executor: &Executor) -> Rc<Cell<usize>> {
    let asked: Rc<Cell<usize>> = Rc::default();
    let (socket, counted) = (net.bind_udp(53).unwrap(), Rc::clone(&asked));
    executor.spawn(async move {
        let mut bytes = [0; 600];
        while let Ok((count, from)) = socket.receive_from(&mut bytes).await {
            counted.set(counted.get() + 1);
            // One that answers something else is passed over.
            let good = answer(&bytes[..count], false);
            let mut forged = good.clone();
            forged[0] ^= 1;
            socket.send_to(&forged, from).await.unwrap();
            socket.send_to(&good, from).await.unwrap();
        }
    });
    let listener = net.listen(53, 4, Interactive).unwrap();
    executor.spawn(async move {
        loop {
            let mut stream = listener.accept().await;
            let mut length = [0; 2];
            stream.read_exact(&mut length).await.unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, true);
            stream.write_all(&(answer.len() as u16).to_be_bytes()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    asked
}

fn asking() -> Config {
    Config { resolvers: vec![IpAddress::v4(10, 0, 0, 1)], ..config(2) }
}

fn resolved(pair: &Pair, name: &'static str) -> Result<Vec<IpAddress>, ResolveError> {
    let client = pair.client.clone();
    pair.run(async move { client.resolve(name).await })
}

#[test]
fn a_name_has_its_addresses_whatever_the_wire_does() {
    let faults = Faults { lose: 6000, repeat: 2000, reorder: 2000, damage: 2000 };
    for (faults, seed) in [(Faults::default(), 1), (faults, 2), (faults, 3)] {
        let pair = Pair::between(&config(1), &asking(), faults, seed);
        serve_names(&pair.server, &pair.executor);
        let two = vec![IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 77)];
        assert_eq!(resolved(&pair, "two.example"), Ok(two), "seed {seed}");
        assert_eq!(resolved(&pair, "large.example"), Ok(vec![IpAddress::v4(10, 0, 0, 1)]), "by a stream");
        assert_eq!(resolved(&pair, "none.example"), Err(ResolveError::NotFound("none.example".into())));
        assert_eq!(resolved(&pair, "busy.example"), Err(ResolveError::Refused("busy.example".into())));
        assert_eq!(resolved(&pair, "10.1.2.3"), Ok(vec![IpAddress::v4(10, 1, 2, 3)]));
        assert_eq!(resolved(&pair, "a..b"), Err(ResolveError::NoName("a..b".into())));
    }
}

#[test]
fn nobody_to_ask_and_nobody_who_answers() {
    let pair = Pair::new();
    assert_eq!(resolved(&pair, "two.example"), Err(ResolveError::NoResolver));
    let two = vec![IpAddress::v4(10, 0, 0, 9), IpAddress::v4(10, 0, 0, 1)];
    let pair = Pair::between(&config(1), &Config { resolvers: two, ..asking() }, Faults::default(), 1);
    assert_eq!(resolved(&pair, "two.example"), Err(ResolveError::NoAnswer("two.example".into())));
    // The second is there now, the first still is not.
    let asked = serve_names(&pair.server, &pair.executor);
    assert_eq!(resolved(&pair, "two.example").map(|found| found.len()), Ok(2));
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_connection_by_name_takes_the_first_address_that_answers() {
    let pair = Pair::between(&config(1), &asking(), Faults::default(), 1);
    serve_names(&pair.server, &pair.executor);
    let listener = pair.server.listen(80, 4, Interactive).unwrap();
    pair.executor.spawn(async move { listener.accept().await.write_all(b"hello").await });
    let client = pair.client.clone();
    pair.run(async move {
        let mut stream = client.connect_by_name("two.example", 80, &Interactive).await.unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        let missing = client.connect_by_name("none.example", 80, &Interactive).await.map(drop);
        assert_eq!(missing, Err(ConnectByNameError::Resolve(ResolveError::NotFound("none.example".into()))));
    });
}

/// A wire whose other end runs while this one waits.
struct Driving {
    below: Wire,
    peer: Net,
    executor: Executor,
}

impl Link for Driving {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.below.receive()
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.below.send(frame);
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.executor.run_ready();
        self.peer.poll();
        let most = timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(1));
        advance(u64::try_from(most.as_nanos()).unwrap());
    }
}

/// A network for blocking calls, and the other end with its tasks.
fn blocking_pair() -> (Net, Net, Executor) {
    let (one, two) = wire(64);
    let (peer, executor) = (Net::new(one, &config(1)).unwrap(), crate::pair::executor());
    let driving = Driving { below: two, peer: peer.clone(), executor: executor.clone() };
    (Net::new(driving, &asking()).unwrap(), peer, executor)
}

#[test]
fn blocking_calls_read_write_and_give_up_in_time() {
    let (net, peer, executor) = blocking_pair();
    serve_names(&peer, &executor);
    let listener = peer.listen(7, 4, Interactive).unwrap();
    executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut part = [0; 3000];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            stream.write_all(&part[..count]).await.unwrap();
        }
    });
    let mut stream = blocking::TcpStream::connect_by_name(&net, "two.example", 7, &Interactive).unwrap();
    for number in 0..50 {
        stream.write_all(&[number; 5000]).unwrap();
        let mut got = [0; 5000];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, [number; 5000]);
    }
    stream.set_timeout(Some(Duration::from_secs(2)));
    let before_ns = crate::pair::now_ns();
    assert_eq!(stream.read(&mut [0; 1]), Err(blocking::Error::TimedOut));
    assert!(crate::pair::now_ns() - before_ns >= 2_000_000_000);
    stream.set_timeout(None);
    stream.shutdown();
    assert_eq!(stream.read(&mut [0; 1]), Ok(0));
    assert_eq!(stream.write(b"x"), Err(blocking::Error::Failed(TcpError::Closed)));
    let refused = blocking::TcpStream::connect(&net, remote(9), &Interactive).map(drop);
    assert!(refused.is_err());
}

#[test]
fn a_blocking_server_takes_one_client_after_the_other() {
    let (net, peer, executor) = blocking_pair();
    let listener = blocking::TcpListener::bind(&net, 80, 4, Interactive).unwrap();
    assert!(listener.try_accept().is_none());
    let target: std::net::SocketAddr = ([10, 0, 0, 2], 80).into();
    for number in 0..3_u8 {
        let peer = peer.clone();
        let client = executor.spawn(async move {
            let mut stream = peer.connect(target.into(), &Interactive).await.unwrap();
            stream.write_all(&[number]).await.unwrap();
            let mut got = [0; 1];
            stream.read_exact(&mut got).await.unwrap();
            got[0]
        });
        let mut stream = listener.accept();
        let mut got = [0; 1];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&[got[0] + 100]).unwrap();
        stream.flush().unwrap();
        assert_eq!(net.block_until(Duration::from_secs(9), client), Some(Ok(number + 100)));
    }
}

#[test]
fn blocking_datagrams_and_ports_that_somebody_has() {
    let (net, peer, executor) = blocking_pair();
    let echo = peer.bind_udp(9).unwrap();
    executor.spawn(async move {
        let mut bytes = [0; 100];
        let (count, from) = echo.receive_from(&mut bytes).await.unwrap();
        echo.send_to(&bytes[..count], from).await.unwrap();
    });
    let mut socket = blocking::UdpSocket::bind(&net, 1000).unwrap();
    assert!(matches!(net.bind_udp(1000), Err(UdpError::InUse(1000))));
    socket.send_to(b"there and back", remote(9)).unwrap();
    let mut got = [0; 100];
    assert_eq!(socket.receive_from(&mut got), Ok((14, remote(9))));
    assert_eq!(&got[..14], b"there and back");
    socket.set_timeout(Some(Duration::from_millis(50)));
    assert_eq!(socket.receive_from(&mut got), Err(blocking::Error::TimedOut));
    drop(socket);
    assert!(net.bind_udp(1000).is_ok());
}
