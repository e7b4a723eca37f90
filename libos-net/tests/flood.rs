//! Strangers who ask for connections and mean none, by the hundred thousand; and what connections cost.

use crate::pair::strangers::{from_another, recorded_syn};
use crate::pair::{Pair, Variant, advance, config, remote};
use allocation_counter::measure;
use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, Wire, wire};
use libos_net::{Interactive, Net, TcpPolicy, TcpStream};
use std::cell::Cell;
use std::rc::Rc;

/// A wire over which a flood comes as well: of so many frames only the last is an honest one. What answers
/// the flood is lost.
struct Flooded {
    below: Wire,
    syn: Vec<u8>,
    sent: Rc<Cell<u32>>,
    most: u32,
    turn: u32,
}

const HONEST: u32 = 50;

impl Link for Flooded {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.turn += 1;
        if self.turn.is_multiple_of(HONEST) || self.sent.get() >= self.most {
            return self.below.receive();
        }
        self.sent.set(self.sent.get() + 1);
        Some(from_another(&self.syn, self.sent.get()))
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        let is_flood = frame[12..14] == [8, 0] && frame[30..33] != [10, 0, 0];
        if !is_flood {
            self.below.send(frame);
        }
    }
    fn wait(&mut self, timeout: Option<core::time::Duration>) {
        self.below.wait(timeout);
    }
}

#[test]
fn who_means_it_is_served_while_a_hundred_thousand_do_not() {
    serves_while_others_only_knock(Interactive);
}

/// Our own machines answer as long as there is room, the stack after that: nobody notices.
#[test]
fn who_means_it_is_served_on_our_own_protocol_too() {
    serves_while_others_only_knock(Variant::OWN);
}

fn serves_while_others_only_knock(policy: impl TcpPolicy + 'static) {
    let (one, two) = wire(64);
    let sent: Rc<Cell<u32>> = Rc::default();
    let flooded = Flooded { below: one, syn: recorded_syn(), sent: Rc::clone(&sent), most: 100_000, turn: 0 };
    let pair = Pair::of(Net::new(flooded, &config(1)).unwrap(), Net::new(two, &config(2)).unwrap());
    pair.serve_echo(16, policy);
    for _ in 0..10 {
        pair.turn();
    }
    assert_eq!(pair.server.statistics().connections, 16, "the backlog is full before anybody honest comes");
    let mut served = 0;
    let heap = measure(|| {
        while sent.get() < 100_000 {
            let client = pair.client.clone();
            pair.run(async move {
                let mut stream = client.connect(remote(7), &Interactive).await.unwrap();
                for number in 0..20 {
                    let mut got = [0; 1000];
                    stream.write_all(&[number; 1000]).await.unwrap();
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(got, [number; 1000]);
                }
            });
            served += 1;
            let statistics = pair.server.statistics();
            assert!(statistics.connections <= 16 + served, "{statistics:?}");
        }
    });
    assert!(heap.bytes_max < 1_000_000, "{heap:?} for {served}");
    let statistics = pair.server.statistics();
    assert!(served > 10 && statistics.cookies_accepted >= 10, "{served} served: {statistics:?}");
    assert!(statistics.cookies_sent > 90_000, "{statistics:?}");
}

/// The same request again and again: each is answered, and the time until the stack itself sends the answer
/// again does not grow by it.
#[test]
fn a_request_that_is_repeated_is_answered_as_often() {
    let syn = recorded_syn();
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let _listener = server.listen(7, 16, Interactive).unwrap();
    let answers = |two: &mut Wire| {
        server.poll();
        std::iter::from_fn(|| two.receive()).filter(|frame| frame[12..14] == [8, 0]).count()
    };
    for _ in 0..100 {
        two.send(from_another(&syn, 1));
        assert_eq!(answers(&mut two), 1);
    }
    assert_eq!(server.statistics().connections, 1);
    advance(1_100_000_000);
    assert_eq!(answers(&mut two), 1, "after a second");
    advance(1_000_000_000);
    assert_eq!(answers(&mut two), 0, "the next waits twice as long");
}

#[test]
fn a_flood_takes_no_more_than_the_backlog_and_passes() {
    takes_no_more_than_the_backlog(Interactive);
}

#[test]
fn a_flood_takes_no_more_of_our_own_protocol() {
    takes_no_more_than_the_backlog(Variant::OWN);
}

fn takes_no_more_than_the_backlog(policy: impl TcpPolicy + 'static) {
    let syn = recorded_syn();
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let listener = server.listen(7, 16, policy).unwrap();
    let poll = |two: &mut Wire| {
        server.poll();
        while two.receive().is_some() {}
    };
    (0..32).for_each(|number| two.send(from_another(&syn, number)));
    poll(&mut two);
    let heap = measure(|| {
        for number in 0..100_000 {
            two.send(from_another(&syn, number));
            if number % 32 == 0 {
                poll(&mut two);
                assert!(server.statistics().connections <= 16);
            }
        }
        poll(&mut two);
    });
    // A page at most, for lists that may grow a little.
    assert!(heap.bytes_current < 4096, "{heap:?}");
    assert_eq!(server.statistics().connections, 16);
    let counted = server.statistics();
    assert!(counted.cookies_sent > 90_000 && counted.cookies_accepted == 0, "{counted:?}");
    advance(11_000_000_000);
    for _ in 0..100 {
        poll(&mut two);
    }
    assert_eq!(server.statistics().connections, 0);
    drop(listener);
}

/// After a cookie, a server that speaks first has nothing but the handshake to go by.
#[test]
fn a_server_that_speaks_first_is_heard_after_a_cookie() {
    for policy in [Variant::SMOL, Variant::OWN] {
        let (one, two) = wire(64);
        let flooded = Flooded { below: one, syn: recorded_syn(), sent: Rc::default(), most: 3_000, turn: 0 };
        let pair = Pair::of(Net::new(flooded, &config(1)).unwrap(), Net::new(two, &config(2)).unwrap());
        let listener = pair.server.listen(7, 16, policy).unwrap();
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            stream.write_all(&[9; 5000]).await.unwrap();
            stream.flush().await.unwrap();
        });
        for _ in 0..10 {
            pair.turn();
        }
        let client = pair.client.clone();
        pair.run(async move {
            let mut stream = client.connect(remote(7), &Interactive).await.unwrap();
            let mut got = [0; 5000];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(got, [9; 5000]);
        });
        assert!(pair.server.statistics().cookies_accepted > 0, "{policy:?}");
    }
}

#[test]
fn a_cookie_that_was_not_given_opens_nothing() {
    let syn = recorded_syn();
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let _listener = server.listen(7, 4, Interactive).unwrap();
    (0..64).for_each(|number| two.send(from_another(&syn, number)));
    server.poll();
    while two.receive().is_some() {}
    assert!(server.statistics().cookies_sent > 50);
    for number in 0..10_000_u32 {
        // The same ends with an acknowledgement that was guessed.
        let mut frame = from_another(&syn, 64 + number).to_vec();
        frame[47] = 0x10;
        frame[42..46].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        crate::pair::strangers::seal(&mut frame);
        two.send(Frame::from_bytes(&frame));
        server.poll();
        while two.receive().is_some() {}
    }
    let counted = server.statistics();
    assert_eq!((counted.cookies_accepted, counted.connections), (0, 4), "{counted:?}");
}

/// Opens so many connections and keeps them; the server has accepted them all.
fn open(pair: &Pair, count: usize) -> Vec<TcpStream> {
    let client = pair.client.clone();
    pair.run(async move {
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(client.connect(remote(7), &Interactive).await.unwrap());
        }
        open
    })
}

#[test]
fn a_connection_costs_little_until_it_has_data() {
    let pair = Pair::new();
    let listener = pair.server.listen(7, 16, Interactive).unwrap();
    let held: Rc<std::cell::RefCell<Vec<TcpStream>>> = Rc::default();
    let keep = Rc::clone(&held);
    pair.executor.spawn(async move {
        loop {
            let stream = listener.accept().await;
            keep.borrow_mut().push(stream);
        }
    });
    const COUNT: usize = 2000;
    // The client's ends have the same policy, and buffers: what they take is known from one alone.
    let mut clients = Vec::new();
    let both = measure(|| {
        clients = open(&pair, COUNT);
        let executor = pair.executor.clone();
        pair.run(async move { executor.sleep(core::time::Duration::from_secs(1)).await });
    });
    assert_eq!(held.borrow().len(), clients.len());
    let client_bytes = (8 * 1024 + 16 * 1024) * COUNT;
    let each = (both.bytes_current - client_bytes as i64) / COUNT as i64;
    // Besides the server's, this has the client's socket, which is more than 1,000 bytes by itself.
    println!("{each} bytes a connection at both ends, without the client's buffers");
    assert!(each < 4096, "{each} bytes a connection");
}

#[test]
fn ten_thousand_connections_leave_nothing_on_the_heap() {
    let pair = Pair::new();
    pair.serve_echo(16, Interactive);
    let round = |count: usize| {
        let mut open = open(&pair, count);
        let executor = pair.executor.clone();
        pair.run(async move {
            for stream in &mut open {
                stream.write_all(b"used").await.unwrap();
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            drop(open);
            executor.sleep(core::time::Duration::from_secs(120)).await;
        });
        assert_eq!((pair.server.statistics().connections, pair.client.statistics().connections), (0, 0));
    };
    // Tables grow to the most that there were at once, and stay.
    round(1000);
    let heap = measure(|| (0..10).for_each(|_| round(1000)));
    assert!(heap.bytes_current <= 0, "{heap:?}");
}
