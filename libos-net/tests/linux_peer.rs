//! This stack and Linux's, on a tap in a network namespace of the test's own, in one program and in true
//! time: with packets of many lengths, over a link that loses and reorders, with readers that sleep, ends
//! that close one half, and ends that reset.
//!
//! Whoever runs it must be allowed to make a network namespace: root is.

use crate::pair::Variant;
use crate::tap::{LINUX, LINUX6, OURS, OURS6, Peer};
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_net::link::Faults;
use libos_net::{IpEndpoint, Net, TcpError, TcpPolicy};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes that tell where they belong.
fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)) as u8).collect()
}

fn port(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

/// A server of ours that gives back what comes, to as many as come.
async fn echo(net: Net, executor: Executor, port: u16, policy: impl TcpPolicy + 'static) {
    let listener = net.listen(port, 16, policy).unwrap();
    loop {
        let mut stream = listener.accept().await;
        executor.spawn(async move {
            let mut part = vec![0; 4000];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                if stream.write_all(&part[..count]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Linux sends bytes to a port, closes its half, and reads until the end.
fn sent_by_linux(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(60)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).expect("all is written");
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("all is read");
    writing.join().unwrap();
    got
}

/// One echo over a tap: Linux connects, or we do.
fn one(
    test: &str,
    mtu: usize,
    faults: Faults,
    seed: u64,
    bytes: usize,
    (to, ours): (&str, &str),
    policy: Variant,
) -> bool {
    let Some(peer) = Peer::new(test, mtu, faults, seed) else { return false };
    let data = pattern(bytes, seed as usize);
    let what = format!("MTU {mtu}, {faults:?}, seed {seed}, {ours}, {policy:?}");
    // Linux connects to us.
    let (target, sent) = (port(ours, 7), data.clone());
    let got = peer.run(
        move |net, executor| drop(executor.spawn(echo(net.clone(), executor.clone(), 7, policy))),
        move || sent_by_linux(target, &sent),
    );
    assert!(got == data, "{what}: {} of {} bytes came back, or others", got.len(), data.len());
    // We connect to Linux, which gives back what comes.
    let listener = TcpListener::bind(port(to, 0)).unwrap();
    let target: IpEndpoint = listener.local_addr().unwrap().into();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let sent = data.clone();
    let got = peer.run_ours(move |net| async move {
        let mut stream = net.connect(target, &policy).await.expect("a connection");
        let mut got = Vec::new();
        // As much as any buffer holds at a time: nobody waits for the other.
        for part in sent.chunks(4000) {
            stream.write_all(part).await.expect("all is written");
            let mut back = vec![0; part.len()];
            stream.read_exact(&mut back).await.expect("all is read");
            got.extend(back);
        }
        stream.shutdown();
        assert_eq!(stream.read(&mut [0; 1]).await, Ok(0), "the end");
        got
    });
    assert!(got == data, "{what}: {} of {} bytes came back to us, or others", got.len(), data.len());
    true
}

#[test]
fn packets_of_all_lengths_carry_the_same_bytes() {
    for mtu in [576, 1280, 1500, 4000, 9000] {
        let test = "packets_of_all_lengths_carry_the_same_bytes";
        for (policy, bytes) in [(Variant::SMOL, 500_000), (Variant::OWN, 200_000)] {
            if !one(test, mtu, Faults::default(), 1, bytes, (LINUX, OURS), policy) {
                return;
            }
            if mtu >= 1280 {
                one(test, mtu, Faults::default(), 2, bytes / 2, (LINUX6, OURS6), policy);
            }
        }
    }
}

#[test]
fn a_link_that_loses_and_reorders_changes_nothing() {
    let of_65536 = |percent: u16| percent * 655;
    let runs: Vec<_> = [(1, 0, 1500), (5, 0, 1500), (0, 10, 1500), (2, 5, 576), (2, 5, 9000), (3, 3, 1500)]
        .into_iter()
        .enumerate()
        .map(|(seed, (lose, reorder, mtu))| {
            let faults =
                Faults { lose: of_65536(lose), reorder: of_65536(reorder), repeat: 300, damage: 300 };
            std::thread::spawn(move || {
                one(
                    "a_link_that_loses_and_reorders_changes_nothing",
                    mtu,
                    faults,
                    seed as u64 + 1,
                    60_000,
                    (LINUX, OURS),
                    if seed % 2 == 0 { Variant::SMOL } else { Variant::OWN },
                )
            })
        })
        .collect();
    for run in runs {
        run.join().expect("no failure in a run");
    }
}

#[test]
fn a_reader_that_sleeps_stops_the_writer_and_loses_nothing() {
    let run = |policy: Variant| std::thread::spawn(move || sleeping_readers(policy));
    for run in [Variant::SMOL, Variant::OWN].map(run) {
        run.join().expect("no failure in a run");
    }
}

fn sleeping_readers(policy: Variant) {
    let test = "a_reader_that_sleeps_stops_the_writer_and_loses_nothing";
    let Some(peer) = Peer::new(test, 1500, Faults::default(), 1) else { return };
    let data = pattern(3_000_000, 5);
    // We write much, Linux sleeps.
    let sent = data.clone();
    let got = peer.run(
        move |net, executor| {
            let net = net.clone();
            executor.spawn(async move {
                let listener = net.listen(80, 4, policy).unwrap();
                let mut stream = listener.accept().await;
                stream.write_all(&sent).await.expect("all is written");
            });
        },
        || {
            let mut stream = TcpStream::connect(port(OURS, 80)).unwrap();
            std::thread::sleep(Duration::from_millis(1500));
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        },
    );
    assert!(got == data, "{} of {} bytes to Linux", got.len(), data.len());
    // Linux writes much, we sleep.
    let sent = data.clone();
    let peer_executor = peer.executor();
    let (read, written) = peer.run_both(
        move |net| async move {
            let listener = net.listen(81, 4, policy).unwrap();
            let mut stream = listener.accept().await;
            peer_executor.sleep(Duration::from_millis(1500)).await;
            let (mut got, mut part) = (Vec::new(), vec![0; 10_000]);
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                got.extend_from_slice(&part[..count]);
            }
            got
        },
        move || {
            let mut stream = TcpStream::connect(port(OURS, 81)).unwrap();
            stream.write_all(&sent).is_ok()
        },
    );
    assert!(written && read == data, "{} of {} bytes from Linux", read.len(), data.len());
}

#[test]
fn an_end_that_resets_is_told_to_the_other() {
    [Variant::SMOL, Variant::OWN].into_iter().for_each(ends_that_reset);
}

fn ends_that_reset(policy: Variant) {
    let Some(peer) = Peer::new("an_end_that_resets_is_told_to_the_other", 1500, Faults::default(), 1) else {
        return;
    };
    // Linux closes with bytes unread: that is a reset.
    let (ours, ()) = peer.run_both(
        move |net| async move {
            let listener = net.listen(80, 4, policy).unwrap();
            let mut stream = listener.accept().await;
            stream.write_all(&[1; 1000]).await.unwrap();
            loop {
                match stream.read(&mut [0; 100]).await {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        },
        || {
            let mut stream = TcpStream::connect(port(OURS, 80)).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        },
    );
    assert_eq!(ours, Err(TcpError::Reset));
    // We do.
    let ((), theirs) = peer.run_both(
        move |net| async move {
            let listener = net.listen(81, 4, policy).unwrap();
            let mut stream = listener.accept().await;
            stream.read_exact(&mut [0; 1]).await.unwrap();
            stream.abort();
        },
        || {
            let mut stream = TcpStream::connect(port(OURS, 81)).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read(&mut [0; 1]).map_err(|error| error.kind())
        },
    );
    assert_eq!(theirs, Err(std::io::ErrorKind::ConnectionReset));
    // Nobody listens.
    let refused =
        peer.run(|_, _| {}, || TcpStream::connect(port(OURS, 9)).map(drop).map_err(|error| error.kind()));
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
}
