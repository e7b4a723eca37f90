//! Thousands of connections, clients that are slow on purpose, and floods.

use super::{connect, holds, served, server, site, still_serves};
use crate::host::tap::MACHINE;
use crate::suite::context::Context;
use crate::suite::platform::Need;
use crate::suite::{Test, Verdict};
use rustix::net::{AddressFamily, SendFlags, SocketAddrV4, SocketType, ipproto, sendto, socket};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    // Minutes in all if they ran everywhere.
    let here = [Need::Tap, Need::Qemu];
    vec![
        Test::new("web-many-connections", &here, many_connections),
        Test::new("web-slow-clients", &here, slow_clients),
        Test::new("web-syn-flood", &[Need::Tap, Need::Qemu, Need::Alone], syn_flood),
    ]
}

/// Connections that are open at once, and how often.
const AT_ONCE: usize = 500;
const BATCHES: usize = 20;
/// The same where a connection takes longer.
const FEWER_BATCHES: usize = 6;
/// Batches after which tables have the size that they keep.
const WARM_UP: usize = 3;
/// Bytes by which the heap may grow after that: a page or two that wait to be used again. Whoever kept
/// something of each connection would need more.
const SPARE: u64 = 16 << 10;

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n";

/// One request on a connection that is open.
pub(super) fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(b"the end of it") {
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(())
}

/// 10,000 connections are opened, used and closed: then the server has as much memory as before.
fn many_connections(context: &Context) -> Verdict {
    let batches = if context.platform.is_direct() { BATCHES } else { FEWER_BATCHES };
    let image = site(context, "many", &[("small", b"the end of it")])?;
    let every = format!("counts={}", AT_ONCE + 1);
    let said = served(context, &image, &["--timeout", "90"], &[&every], |_| {
        (0..batches).try_for_each(|batch| {
            one_batch().map_err(|error| format!("batch {batch} of {AT_ONCE} connections: {error}"))
        })
    })?;
    let lines = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    let heap: Vec<u64> = lines.filter_map(|line| line["httpd"]["heap_bytes"].as_u64()).collect();
    let [early, late] = [WARM_UP - 1, batches - 1].map(|batch| heap.get(batch).copied());
    let grown = early.zip(late).map(|(early, late)| late.saturating_sub(early));
    holds(grown.is_some_and(|grown| grown <= SPARE), || {
        format!("bytes on the heap after each batch: {heap:?}")
    })
}

fn one_batch() -> std::io::Result<()> {
    let open: std::io::Result<Vec<TcpStream>> = (0..AT_ONCE).map(|_| connect(server())).collect();
    let mut open = open?;
    open.iter_mut().try_for_each(ask)?;
    // One after the other, so that no packet is lost for want of room: that would take time, and is another
    // matter. Each end is seen by the client: then the server has nothing of it.
    for stream in &mut open {
        stream.shutdown(std::net::Shutdown::Write)?;
        while stream.read(&mut [0; 16])? > 0 {}
    }
    drop(open);
    std::thread::sleep(Duration::from_millis(50));
    ask(&mut connect(server())?)
}

/// Clients that send the head of a request byte by byte.
const SLOW: usize = 300;

/// Connections that the server has at once: fewer than there are slow clients.
const SERVED: usize = 200;

/// Clients that never end their requests keep nobody from the server, though there are more of them than it
/// serves: who was answered longest ago has to go. After a while the others are sent away.
fn slow_clients(context: &Context) -> Verdict {
    let image = site(context, "slow", &[("small", b"the end of it")])?;
    let connections = format!("connections={SERVED}");
    let asked = served(context, &image, &[], &[&connections], |_| {
        let failed = |error: std::io::Error| format!("a slow client: {error}");
        let mut slow: Vec<TcpStream> =
            (0..SLOW).map(|_| connect(server())).collect::<Result<_, _>>().map_err(failed)?;
        for byte in b"GET /s" {
            // Whoever had to go may hear of it.
            slow.iter_mut()
                .skip(SLOW - SERVED / 2)
                .try_for_each(|stream| stream.write_all(&[*byte]))
                .map_err(failed)?;
            still_serves(server(), "/small").map_err(|error| error.to_string())?;
        }
        // The last one, who was let in, gets an answer that is no page; the first has had to go.
        let mut answer = String::new();
        slow[SLOW - 1].read_to_string(&mut answer).map_err(failed)?;
        holds(answer.starts_with("HTTP/1.1 408 "), || format!("a slow client got {answer:?}"))?;
        let first = slow[0].read(&mut [0; 16]);
        holds(!matches!(first, Ok(1..)), || format!("the first slow client got {first:?}"))
    });
    asked.map(drop)
}

/// Requests for connections in a flood, and how many are sent at once.
const FLOOD: u32 = 100_000;
const BURST: u32 = 250;
/// Those that must have arrived: a tap device drops what a machine does not take.
const ARRIVED: u64 = 20_000;

/// Connections are asked for in the name of others who never answer: clients are served during that and
/// after.
fn syn_flood(context: &Context) -> Verdict {
    let image = site(context, "flood", &[("small", b"the end of it")])?;
    let mut asked = 0u64;
    let said = served(context, &image, &["--timeout", "90"], &["counts=1"], |_| {
        let failed = |error: std::io::Error| format!("a client in a flood: {error}");
        let mut old = connect(server()).map_err(failed)?;
        ask(&mut old).map_err(failed)?;
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
        let raw = raw.map_err(|error| format!("a raw socket: {error}"))?;
        let to = SocketAddrV4::new(MACHINE.parse().map_err(|_| "an address")?, 0);
        for first in (0..FLOOD).step_by(BURST as usize) {
            for number in first..first + BURST {
                // A full queue of the device is no failure of the flood.
                let _ = sendto(&raw, &syn(number, *to.ip()), SendFlags::empty(), &to);
            }
            std::thread::sleep(Duration::from_millis(4));
            if first % (BURST * 40) == 0 {
                ask(&mut old).map_err(failed)?;
                still_serves(server(), "/small").map_err(|error| format!("after {first}: {error}"))?;
            }
        }
        ask(&mut old).map_err(failed)?;
        still_serves(server(), "/small").map_err(|error| error.to_string())
    })?;
    for line in said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok()) {
        asked = asked.max(line["httpd"]["frames_received"].as_u64().unwrap_or(0));
    }
    holds(asked >= ARRIVED, || format!("only {asked} frames of the flood have arrived"))
}

/// A packet that asks for a connection, in somebody else's name.
fn syn(number: u32, to: Ipv4Addr) -> Vec<u8> {
    let from = Ipv4Addr::new(10, 78, 0, 3 + (number % 240) as u8);
    let mut tcp = vec![0; 20];
    tcp[..2].copy_from_slice(&(1024 + (number / 240 * 7 + number % 240) as u16 % 60000).to_be_bytes());
    tcp[2..4].copy_from_slice(&80u16.to_be_bytes());
    tcp[4..8].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    tcp[12..16].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    let sum = checksum(&[&from.octets()[..], &to.octets(), &[0, 6, 0, 20], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    // The system adds length, number and checksum of this head.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.octets().iter().chain(&to.octets()));
    packet.extend(tcp);
    packet
}

/// The checksum of the internet protocols (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
