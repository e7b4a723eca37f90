//! Much data both ways at once, over a tap that does work for the machine and over one that does not.

use super::{Asked, Test, Verdict, connect, holds, on_network};
use crate::host::tap::{MACHINE, TapNetwork};
use crate::suite::context::{Context, text};
use crate::suite::platform::Need;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![Test::new("network-bulk", &[Need::Tap, Need::NetworkDevice], bulk)]
}

/// Bytes that go to the machine, and come back.
const BYTES: usize = 6 << 20;
/// Bytes of a segment on this network, at most.
const SEGMENT: u64 = 1460;

/// What is sent comes back, with offloads and without; with them, in few packets and without sums in
/// software.
fn bulk(context: &Context) -> Verdict {
    let dump = text(&context.scratch.path().join("bulk.pcap"));
    // What is dumped to a file is not left to the tap: see `Network::arguments`.
    for (how, more) in [("with offloads", &[][..]), ("without", &["--pcap", &dump])] {
        let counted = echoed(context, more).map_err(|why| format!("{how}: {why}"))?;
        let number = |name: &str| counted[name].as_u64().ok_or(format!("{how}: no {name} in {counted}"));
        let (bytes, sent, received) =
            (number("bytes_sent")?, number("packets_sent")?, number("packets_received")?);
        // What has come is counted at once, what is sent when the device is done with it.
        let enough = bytes > BYTES as u64 / 2 && number("bytes_received")? > BYTES as u64;
        holds(enough, || format!("{how}: fewer bytes than were sent: {counted}"))?;
        let (segments, left) = (BYTES as u64 / SEGMENT, more.is_empty());
        holds(left == (sent * 4 < segments), || format!("{how}: {sent} packets sent: {counted}"))?;
        holds(left == (received * 2 < segments), || format!("{how}: {received} received: {counted}"))?;
        holds(!left || number("bytes_summed")? == 0, || format!("{how}: sums in software: {counted}"))?;
        holds(number("bytes_gathered")? == 0, || format!("{how}: copies to send: {counted}"))?;
    }
    Ok(())
}

/// Sends to the machine what it sends back; returns what it has counted.
fn echoed(context: &Context, more: &[&str]) -> Asked<Value> {
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let (net, address) = (TapNetwork::net(), TapNetwork::word());
    let words = ["network", "--", "role=streams", &address];
    let arguments = [&["--net", &net][..], more, &words].concat();
    let said = on_network(context, &network, &arguments, "network: listening on", |printed| {
        echo(SocketAddr::new(MACHINE.parse().expect("an address"), 5001))?;
        printed.wait_for("bytes_copied_by_kernel").map_err(|error| error.to_string())
    })?;
    let mut lines = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    lines.find_map(|line| line.get("network").cloned()).ok_or("no line of counts".into())
}

fn echo(address: SocketAddr) -> Verdict {
    let failed = |error: std::io::Error| format!("echo of {address}: {error}");
    let sent: Vec<u8> = (0..BYTES as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    let mut stream = connect(address).map_err(failed)?;
    let mut writer = stream.try_clone().map_err(failed)?;
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            writer.write_all(b"=").and_then(|()| writer.write_all(&sent))?;
            writer.shutdown(Shutdown::Write)
        });
        let read = stream.read_to_end(&mut back);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(read).map_err(failed)
    })?;
    let differs = sent.iter().zip(&back).position(|(one, other)| one != other);
    holds(sent.len() == back.len() && differs.is_none(), || {
        format!("{} of {BYTES} bytes came back, the first that differs is {differs:?}", back.len())
    })
}
