//! Protocols side by side: our own against smoltcp's and against itself, on wires good and bad.

use crate::pair::{Pair, Variant, now_ns, remote};
use embedded_io_async::{Read, Write};
use libos_core::task::channel;
use libos_net::link::{Faults, Offloads};
use libos_net::{ConnectError, Counted, SharedBytes, TcpError, TcpStream};
use std::time::Duration;

/// Bytes that tell where they belong.
fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)) as u8).collect()
}

/// Reads to the end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let (mut got, mut part) = (Vec::<u8>::new(), vec![0; 10_007]);
    loop {
        match stream.read(&mut part).await.unwrap() {
            0 => return got,
            count => got.extend(&part[..count]),
        }
    }
}

/// Sends bytes to who connects, in pieces and in copies by turns, and reads them there. Returns how long that
/// took on the clock, in milliseconds.
fn download(pair: &Pair, (server, client): (Variant, Variant), data: &[u8]) -> u64 {
    let listener = pair.server.listen(80, 1, server).unwrap();
    let sent = data.to_vec();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        for (number, part) in sent.chunks(4096).enumerate() {
            if number % 3 == 0 {
                stream.write_all(part).await.unwrap();
            } else {
                stream.write_shared(&SharedBytes::from_bytes(part)).await.unwrap();
            }
        }
    });
    let net = pair.client.clone();
    let begun_ns = now_ns();
    let got = pair.run(async move {
        let mut stream = net.connect(remote(80), &client).await.unwrap();
        rest(&mut stream).await
    });
    assert!(got == data, "{} of {} bytes, or others", got.len(), data.len());
    (now_ns() - begun_ns) / 1_000_000
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    for pairing in Variant::PAIRS {
        for bytes in [0, 1, 1000, 100_000, 3_000_000] {
            download(&Pair::new(), pairing, &pattern(bytes, 3));
        }
    }
}

#[test]
fn and_on_wires_that_take_checksums_and_segments() {
    for offloads in [Offloads::CHECKSUM, Offloads::CHECKSUM.union(Offloads::SEGMENTS4)] {
        for pairing in Variant::PAIRS {
            download(&Pair::with(Faults::default(), 1, offloads), pairing, &pattern(1_000_000, 8));
            let faults = Faults { lose: 1000, repeat: 1000, reorder: 1000, damage: 1000 };
            for seed in 1..4 {
                download(&Pair::with(faults, seed, offloads), pairing, &pattern(200_000, seed as usize));
            }
        }
    }
}

#[test]
fn and_on_wires_that_lose_repeat_reorder_and_damage() {
    for pairing in Variant::PAIRS {
        for seed in 1..=12 {
            let faults = Faults { lose: 2000, repeat: 2000, reorder: 2000, damage: 1000 };
            let ms = download(&Pair::faulty(faults, seed), pairing, &pattern(200_000, seed as usize));
            assert!(ms < 120_000, "{pairing:?}, seed {seed}: {ms} ms");
        }
    }
}

/// Milliseconds for half a megabyte, on a wire of 100 Mbit/s with a round trip of 20 ms that loses so many
/// frames of 65,536: the middle of three seeds.
fn with_loss(pairing: (Variant, Variant), lose: u16) -> u64 {
    let data = pattern(500_000, 5);
    let mut took: Vec<u64> = (1..=3)
        .map(|seed| {
            let faults = Faults { lose, ..Faults::default() };
            download(&Pair::slow(faults, seed * 77, 10_000, 80, 1500), pairing, &data)
        })
        .collect();
    took.sort_unstable();
    took[1]
}

#[test]
fn losses_cost_it_no_more_than_the_other() {
    for receiver in [Variant::OWN, Variant::SMOL] {
        for lose in [0, 655, 3277] {
            let (own, cubic, smol) = (
                with_loss((Variant::OWN, receiver), lose),
                with_loss((Variant::CUBIC, receiver), lose),
                with_loss((Variant::SMOL, receiver), lose),
            );
            assert!(own.max(cubic) <= smol, "{lose} lost: {own} or {cubic} ms, the other {smol}");
        }
    }
}

#[test]
fn segments_fit_into_what_the_link_takes() {
    for pairing in Variant::PAIRS {
        for mtu in [576, 1280, 1499, 1500, 4082] {
            for lose in [0, 1311] {
                let faults = Faults { lose, ..Faults::default() };
                download(&Pair::slow(faults, 9, 1000, 8, mtu), pairing, &pattern(100_000, mtu));
            }
        }
    }
}

#[test]
fn who_does_not_read_is_waited_for() {
    for (server, client) in Variant::PAIRS {
        let pair = Pair::new();
        let listener = pair.server.listen(80, 1, server).unwrap();
        let data = pattern(300_000, 4);
        let sent = data.clone();
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            stream.write_all(&sent).await.unwrap();
        });
        let (net, executor) = (pair.client.clone(), pair.executor.clone());
        // Longer than a peer that does not answer would be waited for. smoltcp 0.14 gives up after a minute
        // in which nothing new has come.
        let patience = Duration::from_secs(if server.own && client.own { 200 } else { 50 });
        let got = pair.run(async move {
            let mut stream = net.connect(remote(80), &client).await.unwrap();
            executor.sleep(patience).await;
            rest(&mut stream).await
        });
        assert!(got == data, "{} bytes", got.len());
    }
}

#[test]
fn one_half_is_closed_and_the_other_goes_on() {
    for (server, client) in Variant::PAIRS {
        let pair = Pair::new();
        let listener = pair.server.listen(80, 1, server).unwrap();
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            let mut all = rest(&mut stream).await;
            all.reverse();
            stream.write_all(&all).await.unwrap();
        });
        let net = pair.client.clone();
        let got = pair.run(async move {
            let mut stream = net.connect(remote(80), &client).await.unwrap();
            stream.write_all(&pattern(50_000, 1)).await.unwrap();
            stream.shutdown();
            assert_eq!(stream.write(b"d").await, Err(TcpError::Closed));
            rest(&mut stream).await
        });
        assert!(got.iter().rev().eq(&pattern(50_000, 1)));
    }
}

#[test]
fn both_close_at_once_and_nothing_is_left() {
    for (server, client) in Variant::PAIRS {
        let pair = Pair::slow(Faults::default(), 1, 5000, 8, 1500);
        let listener = pair.server.listen(80, 1, server).unwrap();
        let (opened, mut opened_there) = channel::<()>(1);
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            opened.send(()).await.unwrap();
            stream.shutdown();
            assert_eq!(stream.read(&mut [0; 1]).await, Ok(0));
        });
        let (net, executor) = (pair.client.clone(), pair.executor.clone());
        pair.run(async move {
            let mut stream = net.connect(remote(80), &client).await.unwrap();
            opened_there.receive().await;
            stream.shutdown();
            assert_eq!(stream.read(&mut [0; 1]).await, Ok(0));
            drop(stream);
            executor.sleep(Duration::from_secs(121)).await;
        });
        let left = (pair.server.statistics().connections, pair.client.statistics().connections);
        assert_eq!(left, (0, 0), "{server:?} {client:?}");
    }
}

#[test]
fn a_reset_and_a_refusal_are_told() {
    for (server, client) in Variant::PAIRS {
        let pair = Pair::new();
        let listener = pair.server.listen(80, 1, server).unwrap();
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            stream.read_exact(&mut [0; 1]).await.unwrap();
            stream.abort();
        });
        let net = pair.client.clone();
        pair.run(async move {
            let mut stream = net.connect(remote(80), &client).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await, Err(TcpError::Reset));
            assert_eq!(stream.write(&[0; 1]).await, Err(TcpError::Reset));
            let refused = net.connect(remote(9), &client).await.map(drop);
            assert_eq!(refused, Err(ConnectError::Refused(remote(9))));
            let far = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap().into();
            let silent = net.connect(far, &client).await.map(drop);
            assert_eq!(silent, Err(ConnectError::Refused(far)), "after the time that the policy says");
        });
    }
}

/// What a server counts that writes the same shared page a hundred times, on a wire with these offloads; and
/// how many frames it sent.
fn pages_written(offloads: Offloads) -> (Counted, u64) {
    let pair = Pair::with(Faults::default(), 1, offloads);
    let listener = pair.server.listen(80, 1, Variant::OWN).unwrap();
    let page = SharedBytes::from_bytes(&pattern(4096, 2));
    let counted = pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        stream.write_all(&[1; 100]).await.unwrap();
        for _ in 0..100 {
            stream.write_shared(&page).await.unwrap();
        }
        stream.flush().await.unwrap();
        stream.counted()
    });
    let net = pair.client.clone();
    let got = pair.run(async move {
        let mut stream = net.connect(remote(80), &Variant::OWN).await.unwrap();
        rest(&mut stream).await
    });
    let expected: Vec<u8> = [1; 100].into_iter().chain(pattern(4096, 2).repeat(100)).collect();
    assert!(got == expected, "{} bytes", got.len());
    (pair.run(async move { counted.await.unwrap() }), pair.server.statistics().frames_sent)
}

#[test]
fn shared_bytes_are_not_copied_and_summed_in_parts_or_not_at_all() {
    let (alone, frames) = pages_written(Offloads::NONE);
    assert_eq!(alone.bytes_sent, 409_700);
    // What was written as a copy: into the queue, and into a frame. Ends of pages that are too short.
    assert!(alone.bytes_copied < 409_700 / 20, "{alone:?}");
    assert!(alone.bytes_summed < 409_700 / 4, "{alone:?}");
    let (left, _) = pages_written(Offloads::CHECKSUM);
    assert_eq!(left.bytes_summed, 0);
    let (cut, few) = pages_written(Offloads::CHECKSUM.union(Offloads::SEGMENTS4));
    assert_eq!((cut.bytes_sent, cut.bytes_copied), (409_700, 200));
    assert!(few * 4 < frames, "{few} frames, {frames} without");
}

#[test]
fn ten_thousand_connections_leave_nothing() {
    let pair = Pair::new();
    let listener = pair.server.listen(80, 64, Variant::OWN).unwrap();
    let executor = pair.executor.clone();
    pair.executor.spawn(async move {
        loop {
            let mut stream = listener.accept().await;
            executor.spawn(async move {
                let mut one = [0; 1];
                stream.read_exact(&mut one).await.unwrap();
                stream.write_all(&one).await.unwrap();
            });
        }
    });
    let (net, executor) = (pair.client.clone(), pair.executor.clone());
    pair.run(async move {
        let mut open = Vec::new();
        for _ in 0..10_000 {
            open.push(net.connect(remote(80), &Variant::OWN).await.unwrap());
        }
        assert_eq!(net.statistics().connections, 10_000);
        for stream in &mut open {
            stream.write_all(b"x").await.unwrap();
            assert_eq!(rest(stream).await, b"x");
        }
        drop(open);
        executor.sleep(Duration::from_secs(121)).await;
    });
    assert_eq!((pair.server.statistics().connections, pair.client.statistics().connections), (0, 0));
    assert_eq!(pair.executor.tasks(), 1, "who accepts");
}
