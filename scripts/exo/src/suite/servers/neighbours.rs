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
