//! Two stacks on a wire, good or bad: what is written at one end is read at the other, and only that.

use crate::pair::{Pair, remote};
use embedded_io_async::{Read, Write};
use libos_net::link::{Faults, Offloads};
use libos_net::{Bulk, ConnectError, Interactive, TcpError, TcpPolicy};

/// Bytes that tell where they belong.
fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)) as u8).collect()
}

/// What comes back of what the client sends to an echo.
fn echoed(pair: &Pair, bytes: &[u8], policy: impl TcpPolicy + Clone + 'static) -> Vec<u8> {
    let listener = pair.server.listen(7, 4, policy.clone()).unwrap();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut part = [0; 3000];
        loop {
            let count = stream.read(&mut part).await.unwrap();
            if count == 0 {
                return;
            }
            stream.write_all(&part[..count]).await.unwrap();
        }
    });
    let (client, sent) = (pair.client.clone(), bytes.to_vec());
    pair.run(async move {
        let mut stream = client.connect(remote(7), &policy).await.unwrap();
        let mut back = Vec::new();
        for part in sent.chunks(1000) {
            stream.write_all(part).await.unwrap();
            let mut got = vec![0; part.len()];
            stream.read_exact(&mut got).await.unwrap();
            back.extend(got);
        }
        stream.shutdown();
        assert_eq!(stream.read(&mut [0; 1]).await, Ok(0));
        back
    })
}

#[test]
fn bytes_come_back_as_they_were_sent() {
    for bytes in [1, 1000, 100_000] {
        let data = pattern(bytes, 3);
        assert_eq!(echoed(&Pair::new(), &data, Interactive), data);
        assert_eq!(echoed(&Pair::new(), &data, Bulk), data);
    }
}

#[test]
fn and_over_a_wire_that_loses_repeats_reorders_and_damages() {
    for seed in 1..=20 {
        let faults = Faults { lose: 2000, repeat: 2000, reorder: 2000, damage: 1000 };
        let data = pattern(20_000, seed as usize);
        assert_eq!(echoed(&Pair::faulty(faults, seed), &data, Interactive), data, "seed {seed}");
    }
}

#[test]
fn checksums_that_are_left_to_the_wire_are_looked_at_once_they_were_on_one() {
    let data = pattern(100_000, 5);
    let pair = Pair::with(Faults::default(), 1, Offloads::CHECKSUM);
    assert_eq!(echoed(&pair, &data, Bulk), data);
    assert_eq!(pair.server.statistics().wrong_checksums, 0, "nobody has computed one");
    let faults = Faults { damage: 3000, ..Faults::default() };
    let wrong: u64 = (1..=10)
        .map(|seed| {
            let pair = Pair::with(faults, seed, Offloads::CHECKSUM);
            assert_eq!(echoed(&pair, &data, Interactive), data, "seed {seed}");
            pair.server.statistics().wrong_checksums
        })
        .sum();
    assert!(wrong > 10, "only {wrong} were damaged");
}

#[test]
fn segments_are_left_to_the_wire_if_it_cuts_them() {
    let cut = Offloads::CHECKSUM.union(Offloads::SEGMENTS4);
    let pair = Pair::with(Faults::default(), 1, cut);
    let frames = much_data(&pair, Bulk);
    let alone = much_data(&Pair::new(), Bulk);
    assert!(frames * 10 < alone, "{frames} frames for what took {alone}");
}

#[test]
fn much_data_flows_in_one_direction_while_the_window_closes_and_opens() {
    much_data(&Pair::new(), Interactive);
}

/// Sends three megabytes; returns how many frames that took.
fn much_data(pair: &Pair, policy: impl TcpPolicy + 'static) -> u64 {
    let data = pattern(3_000_000, 9);
    let listener = pair.server.listen(80, 1, policy).unwrap();
    let sent = data.clone();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        stream.write_all(&sent).await.unwrap();
    });
    let client = pair.client.clone();
    let got = pair.run(async move {
        let mut stream = client.connect(remote(80), &Bulk).await.unwrap();
        let (mut got, mut part) = (Vec::<u8>::new(), vec![0; 10_007]);
        loop {
            match stream.read(&mut part).await.unwrap() {
                0 => return got,
                count => got.extend(&part[..count]),
            }
        }
    });
    assert!(got == data, "{} of {} bytes, or others", got.len(), data.len());
    pair.server.statistics().frames_sent
}

#[test]
fn nobody_listens_and_nobody_is_there() {
    let pair = Pair::new();
    let client = pair.client.clone();
    let refused = pair.run(async move { client.connect(remote(9), &Interactive).await.map(drop) });
    assert_eq!(refused, Err(ConnectError::Refused(remote(9))));
    let client = pair.client.clone();
    let far = "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap().into();
    let silent = pair.run(async move { client.connect(far, &Interactive).await.map(drop) });
    assert_eq!(silent, Err(ConnectError::Refused(far)), "after the time that the policy says");
}

#[test]
fn one_half_is_closed_and_the_other_goes_on() {
    let pair = Pair::new();
    let listener = pair.server.listen(80, 1, Interactive).unwrap();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut all = Vec::new();
        let mut part = [0; 100];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            all.extend(&part[..count]);
        }
        all.reverse();
        stream.write_all(&all).await.unwrap();
    });
    let client = pair.client.clone();
    pair.run(async move {
        let mut stream = client.connect(remote(80), &Interactive).await.unwrap();
        stream.write_all(b"abc").await.unwrap();
        stream.shutdown();
        assert_eq!(stream.write(b"d").await, Err(TcpError::Closed));
        let mut got = [0; 3];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, stream.read(&mut [0; 1]).await), (b"cba", Ok(0)));
    });
}

#[test]
fn a_reset_is_told_to_who_waits() {
    let pair = Pair::new();
    let listener = pair.server.listen(80, 1, Interactive).unwrap();
    pair.executor.spawn(async move {
        let mut stream = listener.accept().await;
        let mut one = [0; 1];
        stream.read_exact(&mut one).await.unwrap();
        stream.abort();
    });
    let client = pair.client.clone();
    let error = pair.run(async move {
        let mut stream = client.connect(remote(80), &Interactive).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read(&mut [0; 1]).await
    });
    assert_eq!(error, Err(TcpError::Reset));
}

#[test]
fn a_connection_on_which_nobody_says_anything_stays() {
    for spoken in [false, true] {
        let pair = Pair::new();
        let listener = pair.server.listen(80, 1, Interactive).unwrap();
        pair.executor.spawn(async move {
            let mut stream = listener.accept().await;
            let mut one = [0; 1];
            while stream.read(&mut one).await.expect("no reset") == 1 {
                stream.write_all(&one).await.unwrap();
            }
        });
        let (client, executor) = (pair.client.clone(), pair.executor.clone());
        pair.run(async move {
            let mut stream = client.connect(remote(80), &Interactive).await.unwrap();
            let mut one = [0; 1];
            for after_s in [if spoken { 0 } else { 100 }, 100, 1000] {
                executor.sleep(core::time::Duration::from_secs(after_s)).await;
                stream.write_all(b"x").await.unwrap();
                stream.read_exact(&mut one).await.expect("after a silence");
            }
            executor.sleep(core::time::Duration::from_secs(1000)).await;
            stream.shutdown();
            assert_eq!(stream.read(&mut one).await, Ok(0), "the end after a silence is no reset");
        });
    }
}
