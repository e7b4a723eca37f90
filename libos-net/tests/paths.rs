//! Ways that carry shorter packets than the link: a router says so, and connections go on.

use crate::pair::strangers::checksum;
use crate::pair::{Pair, Variant, config};
use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, Wire, wire};
use libos_net::{Config, IpEndpoint, Ipv4, Ipv6, Net, TcpPolicy};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// A router behind a link: packets that are longer than it carries are dropped, and their sender is told.
struct Router {
    below: Wire,
    mtu: usize,
    told: VecDeque<Frame>,
    dropped: Rc<Cell<usize>>,
    /// Whether it shows another connection than that of the packet.
    lies: bool,
}

fn word(value: usize) -> [u8; 2] {
    (value as u16).to_be_bytes()
}

impl Router {
    /// What it says of a packet.
    fn complaint(&self, frame: &[u8]) -> Frame {
        let ip = &frame[14..];
        let shown = &ip[..(ip.len()).min(100)];
        let mut bytes = [&frame[6..12], &[2, 0, 0, 0, 0, 99], &frame[12..14]].concat();
        if ip[0] >> 4 == 4 {
            let mut header = [&[0x45, 0][..], &word(20 + 8 + shown.len()), &[0; 4], &[64, 1, 0, 0]].concat();
            header.extend([10, 0, 0, 254]);
            header.extend(&ip[12..16]);
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum);
            let mut message = [&[3, 4, 0, 0, 0, 0][..], &word(self.mtu), shown].concat();
            if self.lies {
                message[8 + 20] ^= 1;
            }
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum);
            bytes.extend(header);
            bytes.extend(message);
        } else {
            let mut message = [&[2, 0, 0, 0, 0, 0][..], &word(self.mtu), shown].concat();
            if self.lies {
                message[8 + 40] ^= 1;
            }
            let source = "fd00::fe".parse::<std::net::Ipv6Addr>().unwrap().octets();
            let length = (message.len() as u32).to_be_bytes();
            let sum = checksum(&[&source, &ip[8..24], &length, &[0, 0, 0, 58], &message]);
            message[2..4].copy_from_slice(&sum);
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(word(message.len()));
            bytes.extend([58, 64]);
            bytes.extend(source);
            bytes.extend(&ip[8..24]);
            bytes.extend(message);
        }
        Frame::from_bytes(&bytes)
    }
}

impl Link for Router {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.told.pop_front().or_else(|| self.below.receive())
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        let mut whole = vec![0; frame.total_bytes()];
        frame.copy_to(&mut whole);
        if whole.len() > 14 + self.mtu {
            self.dropped.set(self.dropped.get() + 1);
            let complaint = self.complaint(&whole);
            self.told.push_back(complaint);
        } else {
            self.below.send(frame);
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

/// How many packets were too long while the server sent 200,000 bytes; nothing if they did not come.
fn sent(six: bool, mtu: usize, lies: bool, policy: impl TcpPolicy + Copy + 'static) -> Option<usize> {
    let ours = |last: u8| {
        let address = format!("fd00::{last}/64").parse().unwrap();
        let six6 = Config { ipv4: Ipv4::None, ipv6: Ipv6::Static { address, router: None }, ..config(last) };
        if six { six6 } else { config(last) }
    };
    let (one, two) = wire(64);
    let dropped: Rc<Cell<usize>> = Rc::default();
    let router = Router { below: one, mtu, told: VecDeque::new(), dropped: Rc::clone(&dropped), lies };
    let pair = Pair::of(Net::new(router, &ours(1)).unwrap(), Net::new(two, &ours(2)).unwrap());
    let executor = pair.executor.clone();
    pair.run(async move { executor.sleep(Duration::from_secs(2)).await });
    let data: Vec<u8> = (0..200_000).map(|at: usize| (at / 3) as u8).collect();
    let (listener, all) = (pair.server.listen(80, 1, policy).unwrap(), data.clone());
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut one = [0; 1];
        stream.read_exact(&mut one).await.unwrap();
        let _ = stream.write_all(&all).await;
    });
    let (client, executor) = (pair.client.clone(), pair.executor.clone());
    let server: IpEndpoint = IpEndpoint::new((if six { "fd00::1" } else { "10.0.0.1" }).parse().unwrap(), 80);
    let got = pair.run(async move {
        let mut stream = client.connect(server, &policy).await.unwrap();
        stream.write_all(b"?").await.unwrap();
        let (mut got, mut part) = (Vec::new(), vec![0; 5000]);
        let limit = Duration::from_secs(30);
        while let Some(Ok(count @ 1..)) = executor.within(limit, stream.read(&mut part)).await {
            got.extend_from_slice(&part[..count]);
        }
        got
    });
    (got == data).then(|| dropped.get())
}

#[test]
fn segments_that_are_too_long_for_their_way_are_cut() {
    for policy in [Variant::SMOL, Variant::OWN] {
        for (six, mtu) in [(false, 576), (false, 1006), (false, 1499), (true, 1280), (true, 1400)] {
            let dropped = sent(six, mtu, false, policy);
            let dropped = dropped.unwrap_or_else(|| panic!("{policy:?}, {mtu}: the bytes did not come"));
            assert!((1..100).contains(&dropped), "{policy:?}, {mtu}: {dropped} packets were too long");
        }
    }
}

#[test]
fn who_shows_no_packet_of_ours_is_not_believed() {
    for six in [false, true] {
        assert_eq!(sent(six, 1300, true, Variant::SMOL), None);
    }
}
