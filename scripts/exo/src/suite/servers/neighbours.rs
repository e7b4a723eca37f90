//! Several servers on one card, and servers asked from beside them.

use super::{Asked, holds, on_network, site, still_serves};
use crate::host::tap::TapNetwork;
use crate::session::serial::Accounting;
use crate::suite::context::{Context, json_lines, text};
use crate::suite::platform::Need;
use crate::suite::{Test, Verdict};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The tests.
pub fn tests() -> Vec<Test> {
    let several = [Need::Exokernel, Need::Tap, Need::Cores(2)];
    vec![
        Test::new("web-several-on-one-card", &several, several_on_one_card),
        Test::new("web-between-environments", &[Need::Exokernel, Need::Network], between_environments),
        Test::new("web-beside-a-flood", &[Need::Exokernel, Need::Network, Need::Qemu], beside_a_flood),
        Test::new("web-on-two-cores", &[Need::Tap, Need::QemuMachine, Need::Cores(2)], on_two_cores),
    ]
}

/// Bytes of a volume.
const VOLUME: usize = 2 << 20;
/// Servers at once.
const SERVERS: usize = 4;

/// A disk with a volume for each server, whose page names the server.
fn volumes(context: &Context) -> Asked<PathBuf> {
    let mut disk = Vec::new();
    for number in 0..SERVERS {
        let page = format!("server {number}");
        let image = site(context, &format!("several{number}"), &[("name", page.as_bytes())])?;
        let bytes = std::fs::read(&image).map_err(|error| format!("{}: {error}", image.display()))?;
        holds(bytes.len() == VOLUME, || format!("a volume of {} bytes", bytes.len()))?;
        disk.extend(bytes);
    }
    context.file("several.img", &disk)
}

/// Requests to each server.
const REQUESTS: usize = 50;
/// Packets that an environment may see beyond its own: everybody is asked whose an address is.
const BROADCASTS: u64 = 40;

/// Four servers on two cores and one card, each with an address of its own: each answers its own clients, and
/// sees no packets but its own and those for all.
fn several_on_one_card(context: &Context) -> Verdict {
    let network = TapNetwork::new().map_err(|error| error.to_string())?;
    let disk = text(&volumes(context)?);
    let counters = text(&context.scratch.path().join("several.json"));
    let net = TapNetwork::net();
    let blocks = VOLUME / hyperexo_abi::BLOCK_BYTES;
    let mut arguments: Vec<String> =
        ["--cores", "2", "--net", &net, "--disk", &disk, "--json", &counters].map(str::to_owned).into();
    for number in 0..SERVERS {
        arguments
            .extend(["--app".into(), format!("s{number}=httpd:address=10.78.0.{}/24 quiet=1", 2 + number)]);
        arguments.extend(["--disk-extent".into(), format!("s{number}={}+{blocks}", number * blocks)]);
        arguments.extend(["--core".into(), format!("s{number}={}", number % 2)]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let last = format!("httpd: listening on 10.78.0.{}", 1 + SERVERS);
    on_network(context, &network, &arguments, &last, |printed| {
        for number in 0..SERVERS {
            printed
                .wait_for(&format!("httpd: listening on 10.78.0.{}", 2 + number))
                .map_err(|error| error.to_string())?;
        }
        // The last one is asked by nobody.
        for number in 0..SERVERS - 1 {
            let address: SocketAddr = SocketAddr::new([10, 78, 0, 2 + number as u8].into(), 80);
            for _ in 0..REQUESTS {
                still_serves(address, "/name").map_err(|error| format!("server {number}: {error}"))?;
            }
            let page = super::says("curl", &["-sS", &format!("http://{}/name", address.ip())])?;
            holds(page == format!("server {number}"), || format!("server {number} has {page:?}"))?;
        }
        Ok(())
    })?;
    let counted: Vec<Accounting> = json_lines(&counters)?;
    let received = |number: usize| {
        let name = format!("s{number}");
        counted.iter().find(|one| one.accounting == name).map(|one| one.net_packets_received)
    };
    let (asked, silent) = (received(0).unwrap_or(0), received(SERVERS - 1).unwrap_or(u64::MAX));
    holds(asked >= 3 * REQUESTS as u64 && silent <= BROADCASTS, || {
        format!("packets of a server that is asked {asked}, of one that is not {silent}")
    })?;
    Ok(())
}

/// A server in one environment, a client in another, without a card: pages come whole.
fn between_environments(context: &Context) -> Verdict {
    let page: Vec<u8> = (0..30_000_u32).map(|at| (at * 7 % 253) as u8).collect();
    let image = text(&site(context, "between", &[("page", &page)])?);
    let client = "client=network:role=get address=10.0.0.2/24 from=10.0.0.1 page=/page count=5";
    let said = context.run(&[
        "--net",
        "loopback",
        "--disk",
        &image,
        "--app",
        "server=httpd:address=10.0.0.1/24 requests=5",
        "--app",
        client,
    ])?;
    let wanted = format!("\"bytes\":{},\"crc32\":\"{:08x}\"", page.len(), crc32fast::hash(&page));
    said.succeeded()?.shows(&wanted)?.shows("\"GET /page HTTP/1.1\" 200 30000").map(drop)
}

/// Pages that a client gets beside a flood, on so many connections.
const PAGES: u64 = 400;
const CONNECTIONS: u64 = 16;
/// A slice for which that is work enough. The usual ones are five times as long, and leave less to a flood:
/// while its neighbour sleeps it has no more than two thirds of his ring.
const SLICE: &str = "slice-us=2000";
/// Percent of the time without a flood that they may take with one.
const MOST_PERCENT: u64 = 110;
/// Milliseconds of a flood: longer than the pages take.
const FLOOD_MS: u64 = 160;

/// A server and its client share a core with a neighbour who sends as fast as he can, whatever to: they serve
/// and get nearly as much as beside one who computes. In instructions, so that each run is the same.
fn beside_a_flood(context: &Context) -> Verdict {
    let image = text(&site(context, "flooded", &[("page", &[7; 1000])])?);
    let alone = microseconds(context, &image, &format!("attempt=victim ms={FLOOD_MS}"))?;
    // Who asks for connections as clients do costs what they cost; but no packet of others is lost by it.
    let ways = ["outside", "all", "neighbours", "spoofed"].map(|way| (way, MOST_PERCENT));
    for (way, percent) in ways.into_iter().chain([("servers", 200)]) {
        let flooded = microseconds(context, &image, &format!("attempt=net-storm to={way} ms={FLOOD_MS}"))?;
        holds(flooded * 100 <= alone * percent, || {
            format!("{PAGES} pages took {flooded} us beside a flood to {way}, {alone} without one")
        })?;
    }
    Ok(())
}

/// How long the pages take beside this neighbour.
fn microseconds(context: &Context, image: &str, beside: &str) -> Asked<u64> {
    let (server, client) = (
        format!("server=httpd:address=10.0.0.1/24 quiet=1 requests={PAGES}"),
        format!(
            "client=network:role=get address=10.0.0.2/24 from=10.0.0.1 page=/page count={PAGES} clients={CONNECTIONS}"
        ),
    );
    let said = context.run(&[
        "--icount",
        "shift=0",
        "--kernel-args",
        SLICE,
        "--net",
        "loopback",
        "--disk",
        image,
        "--disk-extent",
        &format!("server=0+{}", VOLUME / hyperexo_abi::BLOCK_BYTES),
        "--app",
        &server,
        "--app",
        &client,
        "--app",
        &format!("beside=hostile:{beside}"),
    ])?;
    let said = said.succeeded()?;
    let number = |line: &str, part: &str, name: &str| -> Option<u64> {
        serde_json::from_str::<serde_json::Value>(line.split_once("| ")?.1).ok()?[part][name].as_u64()
    };
    let find = |part, name| said.out.lines().find_map(|line| number(line, part, name));
    let us = find("network", "us").ok_or_else(|| format!("no time of the client in {:?}", said.out))?;
    let ended = find("network", "ended_us").unwrap_or(u64::MAX);
    holds(find("storm", "ended_us").is_none_or(|storm| storm > ended), || "the flood ended first".into())?;
    Ok(us)
}

/// Clients of a server on two cores, one after the other with two requests each.
const CLIENTS: u64 = 60;

/// One image serves on two cores from one card: connections are spread over them, each stays on its core, and
/// all are served.
fn on_two_cores(context: &Context) -> Verdict {
    let image = site(context, "two-cores", &[("small", b"the end of it")])?;
    let counts = format!("counts={}", 2 * CLIENTS);
    let said = super::served(context, &image, &["--cores", "2"], &["cores=2", &counts], |_| {
        let failed = |error: std::io::Error| format!("a client: {error}");
        for _ in 0..CLIENTS {
            let mut stream = super::connect(super::server()).map_err(failed)?;
            (0..2).try_for_each(|_| super::pressure::ask(&mut stream)).map_err(failed)?;
        }
        Ok(())
    })?;
    let mut lines =
        said.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line.trim()).ok());
    let counted = lines.next_back().ok_or("no counts")?;
    let list = |name: &str| -> Vec<u64> {
        let numbers = counted["httpd"][name].as_array().into_iter().flatten();
        numbers.filter_map(serde_json::Value::as_u64).collect()
    };
    let (connections, requests) = (list("connections_by_core"), list("requests_by_core"));
    let right = connections.len() == 2
        && connections.iter().sum::<u64>() == CLIENTS
        && connections.iter().zip(&requests).all(|(one, two)| *one >= 10 && *two == 2 * one);
    holds(right, || format!("connections {connections:?} and requests {requests:?} of the cores"))
}
