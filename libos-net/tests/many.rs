//! Many connections, and strangers who mean no good.

use crate::pair::strangers::{checksum, from_another, recorded_syn};
use crate::pair::{Pair, Small, config, remote};
use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, wire};
use libos_net::{Net, TcpStream};

/// Opens so many connections, each to an echo of the server, and keeps them.
fn open(pair: &Pair, count: usize) -> Vec<TcpStream> {
    let client = pair.client.clone();
    pair.run(async move {
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(client.connect(remote(7), &Small).await.unwrap());
        }
        open
    })
}

/// Connections that were polled, and frames, for 100 echoes on one connection among so many.
fn cost(idle: usize) -> (u64, u64) {
    let pair = Pair::new();
    pair.serve_echo(16, Small);
    let mut open = open(&pair, idle + 1);
    let mut busy = open.pop().unwrap();
    // What the last handshakes had to do is over.
    let executor = pair.executor.clone();
    pair.run(async move { executor.sleep(core::time::Duration::from_secs(1)).await });
    let before = pair.server.statistics();
    pair.run(async move {
        for _ in 0..100 {
            busy.write_all(&[7; 64]).await.unwrap();
            busy.read_exact(&mut [0; 64]).await.unwrap();
        }
    });
    let after = pair.server.statistics();
    assert_eq!(after.connections, idle + 1);
    (after.connections_polled - before.connections_polled, after.frames_received - before.frames_received)
}

#[test]
fn idle_connections_cost_a_busy_one_nothing() {
    let alone = cost(0);
    assert_eq!(cost(100), alone);
    assert_eq!(cost(3000), alone);
}

#[test]
fn ended_connections_leave_nothing() {
    let pair = Pair::new();
    pair.serve_echo(16, Small);
    for _ in 0..3 {
        drop(open(&pair, 700));
        let executor = pair.executor.clone();
        pair.run(async move { executor.sleep(core::time::Duration::from_secs(120)).await });
        assert_eq!((pair.server.statistics().connections, pair.client.statistics().connections), (0, 0));
        // The echo that accepts, and nothing else.
        assert_eq!(pair.executor.tasks(), 1);
    }
}

#[test]
fn a_listener_that_is_dropped_closes_what_nobody_accepted() {
    let pair = Pair::new();
    let listener = pair.server.listen(7, 16, Small).unwrap();
    let mut open = open(&pair, 3);
    drop(listener);
    pair.run(async move {
        for stream in &mut open {
            assert_eq!(stream.read(&mut [0; 1]).await, Ok(0));
        }
    });
    assert!(pair.server.listen(7, 16, Small).is_ok(), "the port is free again");
}

#[test]
fn segments_of_no_connection_are_answered_a_hundred_times_a_second() {
    let syn = recorded_syn();
    let (one, mut two) = wire(4096);
    let server = Net::new(one, &config(1)).unwrap();
    for number in 0..2000 {
        two.send(from_another(&syn, number));
    }
    while server.poll() {}
    assert_eq!(server.statistics().ignored_segments, 2000 - 100);
}

/// A datagram of a stranger for this port.
fn datagram(port: u16) -> Frame {
    let mut bytes = from_another(&recorded_syn(), 1).to_vec();
    bytes.truncate(60);
    bytes[16..18].copy_from_slice(&46_u16.to_be_bytes());
    bytes[23] = 17;
    bytes[24..26].fill(0);
    let sum = checksum(&[&bytes[14..34]]);
    bytes[24..26].copy_from_slice(&sum);
    // Without a checksum.
    bytes[36..42].copy_from_slice(&[(port >> 8) as u8, port as u8, 0, 26, 0, 0]);
    Frame::from_bytes(&bytes)
}

#[test]
fn datagrams_for_nobody_are_few_to_answer_and_others_are_all_read() {
    let (one, mut two) = wire(4096);
    let server = Net::new(one, &config(1)).unwrap();
    let socket = server.bind_udp(53).unwrap();
    for _ in 0..2000 {
        two.send(datagram(9));
    }
    two.send(datagram(53));
    while server.poll() {}
    assert_eq!(server.statistics().ignored_segments, 2000 - 100);
    let (bytes, _) = server.block_on(async { socket.receive_from(&mut [0; 100]).await.unwrap() });
    assert_eq!(bytes, 18);
}

/// Only a question of ARP that is for us, or tells of its sender, is looked at.
#[test]
fn questions_to_others_teach_nothing_and_cost_no_answer() {
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let question = |wanted: u8| {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9]);
        bytes.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, wanted]);
        bytes.resize(60, 0);
        Frame::from_bytes(&bytes)
    };
    for (wanted, answers) in [(7, 0), (1, 1)] {
        two.send(question(wanted));
        while server.poll() {}
        assert_eq!(std::iter::from_fn(|| two.receive()).count(), answers, "{wanted}");
    }
}

#[test]
fn damaged_frames_never_stop_it() {
    let syn = recorded_syn();
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let _listener = server.listen(7, 64, Small).unwrap();
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for number in 0..100_000 {
        let mut bytes = from_another(&syn, number).to_vec();
        for _ in 0..random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(if random() % 4 == 0 { random() % bytes.len() } else { bytes.len() });
        two.send(Frame::from_bytes(&bytes));
        if number % 16 == 0 {
            server.poll();
            while two.receive().is_some() {}
            crate::pair::advance(1_000_000);
        }
    }
    assert!(server.statistics().frames_received >= 99_000);
}
