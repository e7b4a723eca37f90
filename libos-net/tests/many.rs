//! Many connections, and strangers who mean no good.

mod pair;

use embedded_io_async::{Read, Write};
use libos_net::link::{Frame, Link, wire};
use libos_net::{Net, TcpPolicy, TcpStream};
use pair::{Pair, config, remote};
use std::cell::RefCell;
use std::rc::Rc;

/// Buffers of a page for both directions.
#[derive(Clone, Copy)]
struct Small;

impl TcpPolicy for Small {
    fn receive_bytes(&self) -> usize {
        512
    }
    fn send_bytes(&self) -> usize {
        512
    }
}

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

fn serve_echo(pair: &Pair) {
    let listener = pair.server.listen(7, 16, Small).unwrap();
    let executor = pair.executor.clone();
    pair.executor.spawn(async move {
        loop {
            let mut stream = listener.accept().await;
            executor.spawn(async move {
                let mut part = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    if stream.write_all(&part[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Connections that were polled, and frames, for 100 echoes on one connection among so many.
fn cost(idle: usize) -> (u64, u64) {
    let pair = Pair::new();
    serve_echo(&pair);
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
    serve_echo(&pair);
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

/// What a client sends to open a connection.
fn recorded_syn() -> Vec<u8> {
    let (one, mut two) = wire(16);
    let client = Net::new(one, &config(2)).unwrap();
    let executor = pair::executor();
    let connecting = client.clone();
    executor.spawn(async move { connecting.connect(remote(7), &Small).await.map(drop) });
    let mut frames = Vec::new();
    // First it asks for the hardware address; somebody must answer.
    let other = Rc::new(RefCell::new(None));
    for _ in 0..10 {
        executor.run_ready();
        client.poll();
        while let Some(frame) = two.receive() {
            if frame[12..14] == [8, 6] && other.borrow().is_none() {
                let mut answer = frame.to_vec();
                answer[..6].copy_from_slice(&frame[6..12]);
                answer[6..12].copy_from_slice(&two.address());
                answer[21] = 2;
                answer[22..28].copy_from_slice(&two.address());
                answer[28..32].copy_from_slice(&frame[38..42]);
                answer[32..38].copy_from_slice(&frame[22..28]);
                answer[38..42].copy_from_slice(&frame[28..32]);
                two.send(Frame::from_bytes(&answer));
                *other.borrow_mut() = Some(());
            } else if frame[12..14] == [8, 0] {
                frames.push(frame.to_vec());
            }
        }
    }
    frames.into_iter().next().expect("a SYN")
}

/// Sums of 16-bit words as the Internet's checksum has them (RFC 1071).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The SYN as if it came from another address and port.
fn from_another(syn: &[u8], number: u32) -> Frame {
    let mut bytes = syn.to_vec();
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[14 + 12..14 + 16].copy_from_slice(&(0x0a01_0000 + number % 60_000).to_be_bytes());
    bytes[34..36].copy_from_slice(&((1024 + number % 50_000) as u16).to_be_bytes());
    bytes[24..26].fill(0);
    let sum = checksum(&[&bytes[14..34]]);
    bytes[24..26].copy_from_slice(&sum);
    bytes[50..52].fill(0);
    let length = ((bytes.len() - 34) as u32).to_be_bytes();
    let sum = checksum(&[&bytes[26..34], &[0, 6], &length[2..], &bytes[34..]]);
    bytes[50..52].copy_from_slice(&sum);
    Frame::from_bytes(&bytes)
}

#[test]
fn a_flood_of_requests_takes_no_more_than_the_backlog_and_passes() {
    let syn = recorded_syn();
    let (one, mut two) = wire(64);
    let server = Net::new(one, &config(1)).unwrap();
    let listener = server.listen(7, 16, Small).unwrap();
    for number in 0..100_000 {
        two.send(from_another(&syn, number));
        if number % 32 == 0 {
            server.poll();
            while two.receive().is_some() {}
            assert!(server.statistics().connections <= 16);
        }
    }
    assert_eq!(server.statistics().connections, 16);
    let counted = server.statistics();
    assert!(counted.refused_connections > 90_000, "{counted:?}");
    pair::advance(11_000_000_000);
    for _ in 0..100 {
        server.poll();
        while two.receive().is_some() {}
    }
    assert_eq!(server.statistics().connections, 0);
    drop(listener);
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
            pair::advance(1_000_000);
        }
    }
    assert!(server.statistics().frames_received >= 99_000);
}
