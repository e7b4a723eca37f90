//! Packets between environments, and between one and a program of the host.

use super::context::{Context, Said, json_lines, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::session::serial::Accounting;
use ::network::message::{Kind, Message};
use hyperexo_abi::net::MacAddress;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("network-between-environments", &[Need::Network], between_environments),
        Test::new("network-between-cores", &[Need::Network, Need::Cores(2)], between_cores),
        Test::new("network-off", &[], off),
        Test::new("network-arp", &[Need::NetworkDevice], arp),
        Test::new("network-device", &[Need::NetworkDevice], device),
        Test::new("network-device-stuck", &[Need::Exokernel, Need::NetworkDevice], device_stuck),
        Test::new("network-directly", &[Need::Alone, Need::Qemu], directly),
        Test::new("network-device-spoof", &[Need::Exokernel, Need::NetworkDevice], device_spoof),
    ]
}

/// Hardware address of [`Peer`].
const PEER: MacAddress = MacAddress([0x52, 0x55, 1, 2, 3, 4]);

/// One environment asks another, which answers; crossings into the kernel a packet stay as few as they
/// should.
fn between_environments(context: &Context) -> Verdict {
    // One by one: a kick, and every other time a sleep and its end. Together: all that is shared by as many
    // as go together.
    for (words, most) in [("batch=1 bytes=64", 2.0), ("batch=32 bytes=1514", 0.25)] {
        let ping = format!("a=network:role=ping count=320 {words}");
        let arguments = ["--net", "loopback", "--app", &ping, "--app", "b=network:role=echo count=320"];
        let exits = exits_per_packet(context.run(&arguments)?.succeeded()?)?;
        if exits > most {
            return Err(format!("{words}: {exits} exits a packet, more than {most}"));
        }
    }
    Ok(())
}

/// What `ping` says in its result line.
fn exits_per_packet(said: Said) -> std::result::Result<f64, String> {
    let value = said.out.split_once("\"exits_per_packet\":").and_then(|(_, rest)| rest.split_once('}'));
    let number = value.and_then(|(number, _)| number.parse().ok());
    number.ok_or_else(|| format!("no result line of ping in {:?}", said.out))
}

/// The same, each on a core of its own.
fn between_cores(context: &Context) -> Verdict {
    let ping = "a=network:role=ping count=320 batch=8";
    let arguments = [
        "--net",
        "loopback",
        "--cores",
        "2",
        "--core",
        "b=1",
        "--app",
        ping,
        "--app",
        "b=network:role=echo count=320",
    ];
    context.run(&arguments)?.succeeded().map(drop)
}

/// Without `--net` there is no network, which is said.
fn off(context: &Context) -> Verdict {
    let said = context.run(&["network", "--", "role=arp"])?;
    said.shows("this unikernel has no network (exo run --net gives it one)")?
        .fails_with(&["environment network ended"])
}

/// The host that QEMU plays answers.
fn arp(context: &Context) -> Verdict {
    let said = context.run(&["--net", "user", "network", "--", "role=arp"])?.succeeded()?;
    said.shows("\"wanted\":\"10.0.2.2\",\"address\":\"52:55:0a:00:02:02\"").map(drop)
}

/// Requests to a program of the host, and its answers.
fn device(context: &Context) -> Verdict {
    let peer = Peer::start(&context.scratch.path().join("device"))?;
    let ping = ["--net", &peer.argument, "network", "--", "role=ping", "count=500", "batch=16", "bytes=1514"];
    let said = context.run(&ping)?.succeeded()?;
    let sources = peer.finish();
    said.shows(&format!("echo at {PEER}"))?;
    match sources.len() {
        501.. => Ok(()),
        seen => Err(format!("the peer has seen {seen} packets, fewer than were sent")),
    }
}

/// The far side takes no packets, and one environment sends without end: two others get along all the same.
fn device_stuck(context: &Context) -> Verdict {
    let folder = context.scratch.path().join("stuck");
    let (network, _unread) = sockets(&folder)?;
    let counters = folder.join("counters.json");
    let said = context.run(&[
        "--json",
        &text(&counters),
        "--net",
        &network,
        "--app",
        "victim=network:role=ping count=300 batch=4",
        "--app",
        "friend=network:role=echo count=300",
        "--app",
        "attacker=hostile:attempt=net-flood",
    ])?;
    said.tells("victim ended: exit code 0")?.tells("friend ended: exit code 0")?.succeeded()?;
    let counted: Vec<Accounting> = json_lines(&counters)?;
    if counted.iter().map(|one| one.net_packets_refused).sum::<u64>() == 0 {
        return Err("no packet was given up: the device was not stuck".into());
    }
    Ok(())
}

/// The same without the exokernel: by PCI and by registers in memory.
fn directly(context: &Context) -> Verdict {
    for board in ["q35", "pc", "microvm"] {
        let peer = Peer::start(&context.scratch.path().join(board))?;
        let words = ["network", "--", "role=ping", "count=200", "batch=16", "bytes=1514"];
        let arguments =
            [&["run", "--no-build", "--direct", "--machine", board, "--net", &peer.argument], &words[..]]
                .concat();
        let said = context.exo(&arguments)?.succeeded();
        peer.finish();
        said?.shows(&format!("echo at {PEER}")).map_err(|why| format!("{board}: {why}"))?;
    }
    Ok(())
}

/// What one environment sends in another's name does not reach the wire; what it sends in its own does.
fn device_spoof(context: &Context) -> Verdict {
    let peer = Peer::start(&context.scratch.path().join("spoof"))?;
    let attacker = "attacker=hostile:attempt=net-spoof";
    let said =
        context.run(&["--net", &peer.argument, "--app", "victim=hello:sleep-ms=100", "--app", attacker])?;
    said.succeeded()?;
    let mut sources = peer.finish();
    let seen = sources.len();
    sources.dedup();
    match sources[..] {
        // The machine's address is QEMU's default for its first device.
        [source] if source.environment_on(MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56])) == Some(2) => Ok(()),
        _ => Err(format!("{seen} packets reached the wire, from {sources:?}")),
    }
}

/// Value of `--net` for sockets in a new directory, and the far side's socket.
fn sockets(folder: &Path) -> std::result::Result<(String, UnixDatagram), String> {
    // It may be there from the same test on another platform.
    let _ = std::fs::remove_dir_all(folder);
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir(folder).map_err(failed)?;
    let (local, remote) = (folder.join(MACHINE_SOCKET), folder.join("peer"));
    let socket = UnixDatagram::bind(&remote).map_err(failed)?;
    Ok((format!("dgram:{}:{}", local.display(), remote.display()), socket))
}

/// Name of the machine's socket.
const MACHINE_SOCKET: &str = "machine";

/// A program of the host on the machine's network: answers requests, and remembers who has sent packets.
struct Peer {
    /// Value of `--net`.
    argument: String,
    over: Arc<AtomicBool>,
    sources: Arc<Mutex<Vec<MacAddress>>>,
    thread: JoinHandle<()>,
}

impl Peer {
    /// Starts it, with its sockets in a directory.
    fn start(folder: &Path) -> std::result::Result<Peer, String> {
        let (argument, socket) = sockets(folder)?;
        let limit = socket.set_read_timeout(Some(Duration::from_millis(50)));
        limit.map_err(|error| format!("{}: {error}", folder.display()))?;
        let local = folder.join(MACHINE_SOCKET);
        let (over, sources) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let (over, sources) = (over.clone(), sources.clone());
            move || serve(&socket, &local, &over, &sources)
        });
        Ok(Peer { argument, over, sources, thread })
    }

    /// Ends it; the senders of all packets.
    fn finish(self) -> Vec<MacAddress> {
        self.over.store(true, Ordering::Release);
        // A peer that has panicked has seen what it has seen.
        let _ = self.thread.join();
        self.sources.lock().map(|sources| sources.clone()).unwrap_or_default()
    }
}

fn serve(socket: &UnixDatagram, machine: &Path, over: &AtomicBool, sources: &Mutex<Vec<MacAddress>>) {
    let mut packet = [0; 2048];
    while !over.load(Ordering::Acquire) {
        // Errors are the time limit of the socket: then it is asked again whether all is over.
        let Ok(bytes) = socket.recv(&mut packet) else { continue };
        let packet = &mut packet[..bytes];
        if let Some(source) = packet.get(6..).and_then(|rest| rest.first_chunk())
            && let Ok(mut sources) = sources.lock()
        {
            sources.push(MacAddress(*source));
        }
        if let Some(request) = Message::read(packet).filter(|message| message.kind == Kind::Request) {
            let answer = Message { source: PEER, kind: Kind::Answer, ..request };
            answer.write(request.source, packet);
            // If the machine is gone, the test has its result.
            let _ = socket.send_to(packet, machine);
        }
    }
}
