//! Addresses of IPv6, neighbours that do not answer, packets shorter than the link carries.

use crate::pair::{Pair, advance, config};
use embedded_io_async::{Read, Write};
use libos_net::link::{Faults, Frame, Link, wire};
use libos_net::{Config, Interactive, IpAddress, IpCidr, IpEndpoint, Ipv4, Ipv6, Net};

/// One that has addresses of IPv6 only.
fn config6(last: u8, ipv6: Ipv6) -> Config {
    Config { ipv4: Ipv4::None, ipv6, ..config(last) }
}

fn fixed(last: u8) -> Config {
    config6(last, Ipv6::Static { address: format!("fd00::{last}/64").parse().unwrap(), router: None })
}

/// Sends bytes to the server's port 7, and returns what comes back.
fn echo(pair: &Pair, to: IpEndpoint, bytes: usize) -> Vec<u8> {
    let listener = pair.server.listen(to.port, 4, Interactive).unwrap();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut part = [0; 2000];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            stream.write_all(&part[..count]).await.unwrap();
        }
    });
    let client = pair.client.clone();
    pair.run(async move {
        let mut stream = client.connect(to, &Interactive).await.unwrap();
        let sent: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
        let mut got = vec![0; bytes];
        for (part, into) in sent.chunks(2000).zip(got.chunks_mut(2000)) {
            stream.write_all(part).await.unwrap();
            stream.read_exact(into).await.unwrap();
        }
        assert_eq!(got, sent);
        got
    })
}

/// Lets two seconds pass: then addresses of IPv6 are there.
fn settle(pair: &Pair) {
    let executor = pair.executor.clone();
    pair.run(async move { executor.sleep(core::time::Duration::from_secs(2)).await });
}

#[test]
fn two_ends_talk_by_addresses_of_the_link_and_by_their_own() {
    for target in ["fd00::1", "fe80::ff:fe00:1"] {
        let pair = Pair::between(&fixed(1), &fixed(2), Faults::default(), 1);
        assert_eq!(pair.server.addresses(), [], "nothing is used before a second has passed");
        settle(&pair);
        let expected: Vec<IpCidr> =
            vec!["fe80::ff:fe00:1/64".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        assert_eq!(pair.server.addresses(), expected);
        let address: IpAddress = target.parse().unwrap();
        assert_eq!(echo(&pair, IpEndpoint::new(address, 7), 50_000).len(), 50_000);
    }
}

#[test]
fn of_two_that_want_one_address_at_least_one_goes_without() {
    let pair = Pair::between(&fixed(1), &fixed(1), Faults::default(), 1);
    settle(&pair);
    let duplicates = [&pair.server, &pair.client].map(|net| net.statistics().duplicate_addresses);
    assert!(duplicates.iter().sum::<u64>() >= 1, "{duplicates:?}");
    let wanted: IpCidr = "fd00::1/64".parse().unwrap();
    let users = [&pair.server, &pair.client].iter().filter(|net| net.addresses().contains(&wanted)).count();
    assert!(users <= 1);
}

#[test]
fn an_address_of_ipv4_is_there_at_once_and_who_waits_is_told_of_the_others() {
    let both = Config { ipv6: Ipv6::Slaac, ..config(1) };
    let pair = Pair::between(&both, &config(2), Faults::default(), 1);
    let server = pair.server.clone();
    let (first, second) = pair.run(async move {
        let first = server.addresses_other_than(&[]).await;
        let second = server.addresses_other_than(&first).await;
        (first, second)
    });
    assert_eq!((first.len(), second.len()), (1, 2));
    assert_eq!(second[1], "fe80::ff:fe00:1/64".parse::<IpCidr>().unwrap());
}

#[test]
fn a_neighbor_that_does_not_answer_keeps_nobody_waiting() {
    let (one, mut two) = wire(256);
    let net = Net::new(one, &config(1)).unwrap();
    let executor = crate::pair::executor();
    for last in 10..20 {
        let net = net.clone();
        let to = IpEndpoint::new(IpAddress::v4(10, 0, 0, last), 80);
        executor.spawn(async move { net.connect(to, &Interactive).await.map(drop) });
    }
    let mut asked = Vec::new();
    for _ in 0..100 {
        executor.run_ready();
        net.poll();
        while let Some(frame) = two.receive() {
            assert_eq!(frame[12..14], [8, 6], "a question by ARP");
            asked.push(frame[41]);
        }
        advance(1_000_000);
    }
    asked.sort_unstable();
    assert_eq!(asked, (10..20).collect::<Vec<u8>>(), "each once in a tenth of a second");
    for _ in 0..20 {
        advance(100_000_000);
        net.poll();
    }
    let frames: Vec<Frame> = std::iter::from_fn(|| two.receive()).collect();
    for last in 10..20 {
        let times = frames.iter().filter(|frame| frame[41] == last).count();
        assert!((1..=3).contains(&times), "{times} times for {last} in two seconds");
    }
}

/// A link that measures what is sent.
struct Measured<L>(L, std::rc::Rc<std::cell::Cell<usize>>);

impl<L: Link> Link for Measured<L> {
    fn address(&self) -> [u8; 6] {
        self.0.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.0.receive()
    }
    fn has_room(&mut self) -> bool {
        self.0.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.1.set(self.1.get().max(frame.len()));
        self.0.send(frame);
    }
    fn wait(&mut self, timeout: Option<core::time::Duration>) {
        self.0.wait(timeout);
    }
}

#[test]
fn no_packet_is_longer_than_the_configuration_says() {
    for (mtu, ipv6) in [(576, false), (1280, false), (1280, true), (1400, true), (1500, true)] {
        let base = |last| if ipv6 { fixed(last) } else { config(last) };
        let server = Config { mtu: Some(mtu), ..base(1) };
        let (one, two) = wire(64);
        let longest = [(); 2].map(|()| std::rc::Rc::default());
        let [first, second] = longest.clone();
        let pair = Pair::of(
            Net::new(Measured(one, first), &server).unwrap(),
            Net::new(Measured(two, second), &base(2)).unwrap(),
        );
        settle(&pair);
        let address = if ipv6 { "fd00::1" } else { "10.0.0.1" };
        echo(&pair, IpEndpoint::new(address.parse().unwrap(), 7), 20_000);
        for longest in longest {
            assert_eq!(longest.get(), mtu + 14, "the other end keeps to it as well");
        }
    }
}
