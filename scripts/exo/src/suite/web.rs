//! The web server, asked by programs of this host.

use super::context::{Context, json_lines, text};
use super::platform::Need;
use super::{Test, Verdict};
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("web-server", &[Need::NetworkDevice], web_server),
        Test::new("web-server-ends", &[Need::NetworkDevice, Need::QemuMachine], ends),
    ]
}

/// Clients at once, and what each asks for.
const CLIENTS: usize = 12;
const REQUESTS: usize = 10;

/// Bytes of a page that takes many segments.
fn page() -> Vec<u8> {
    (0..70_000_u32).map(|at| (at * 7 % 253) as u8).collect()
}

/// Files come whole and in parts, to one client and to many at once; what went over the wire is in a file.
fn web_server(context: &Context) -> Verdict {
    let folder = context.scratch.path().join("www");
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::fs::write(folder.join("index.html"), "<p>here").map_err(failed)?;
    std::fs::write(folder.join("page"), page()).map_err(failed)?;
    let (image, dump) = (context.scratch.path().join("www.img"), context.scratch.path().join("www.pcap"));
    context.exo(&["fs", "make", "--size", "4M", "--from", &text(&folder), &text(&image)])?.succeeded()?;
    // Nobody else takes it in the moment until QEMU does, but a program that is given the same by chance.
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let port = any.map_err(|error| error.to_string())?.port();
    let (publish, total) = (format!("{port}:80"), format!("requests={}", 4 + CLIENTS * REQUESTS));
    let (disk, pcap) = (text(&image), text(&dump));
    let counters = text(&context.scratch.path().join("www.json"));
    let own = ["--json", &counters, "--net", "user", "--publish", &publish, "--pcap", &pcap];
    let arguments = [&own[..], &["--disk", &disk, "httpd", "--", &total]].concat();
    let said = context.run_with_control(&arguments, |_, printed| {
        printed.wait_for("httpd: listening on 10.0.2.15:80")?;
        one_client(port)?;
        many_clients(port)
    })?;
    let said = said.succeeded()?.tells(&format!("10.0.2.15:80 of httpd is reached at 127.0.0.1:{port}"))?;
    told_as_json(&counters, port)?;
    let counted = said.out.lines().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    let counted = counted.ok_or("no line of counts")?;
    if counted["httpd"]["requests"] != 4 + CLIENTS * REQUESTS {
        return Err(format!("{counted}"));
    }
    said.shows("\"GET /page HTTP/1.1\" 206 10")?.shows("\"GET /none HTTP/1.1\" 404")?;
    let frames = counted["httpd"]["frames_received"].as_u64().unwrap_or(u64::MAX);
    match packets(&dump)? {
        seen if seen >= frames => Ok(()),
        seen => Err(format!("{seen} packets in the dump, {frames} received")),
    }
}

/// The published port and the server's address are in the file with the counters.
fn told_as_json(file: &str, port: u16) -> Verdict {
    let lines: Vec<Value> = json_lines(file)?;
    let reached = format!("127.0.0.1:{port}");
    let published = lines.iter().find(|line| line["published"] == reached && line["port"] == 80);
    let listening =
        lines.iter().find(|line| line["address"] == "10.0.2.15:80" && line["reached_at"] == reached);
    match (published, listening) {
        (Some(_), Some(_)) => Ok(()),
        other => Err(format!("{other:?} in {lines:?}")),
    }
}

/// A server that sleeps has nothing to save: it ends when the power button is pressed.
fn ends(context: &Context) -> Verdict {
    let image = text(&context.scratch.path().join("empty.img"));
    context.exo(&["fs", "make", "--size", "1M", &image])?.succeeded()?;
    let arguments = ["--net", "user", "--disk", &image, "httpd"];
    let said = context.run_with_control(&arguments, |control, printed| {
        printed.wait_for("httpd: listening on")?;
        control.press_power_button()
    })?;
    said.succeeded()?.shows("the power button was pressed: ended").map(drop)
}

/// Several requests at once on one connection, answered in their order.
fn one_client(port: u16) -> Result<()> {
    let mut stream = connect(port)?;
    let request = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let four = request("/", "")
        + &request("/page", "Range: bytes=60000-60009\r\n")
        + &request("/none", "")
        + &request("/page", "Connection: close\r\n");
    let failed = |error| Error::Measurement(format!("httpd: {error}"));
    stream.write_all(four.as_bytes()).map_err(failed)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(failed)?;
    let mut rest = &all[..];
    let page = page();
    for (status, body) in
        [("200", &b"<p>here"[..]), ("206", &page[60000..60010]), ("404", b""), ("200", &page)]
    {
        let (head, after) = answer(rest)?;
        let (found, more) = after.split_at(length(head)?.min(after.len()));
        if head.get(9..12) != Some(status) || !body.is_empty() && found != body {
            return Err(Error::Measurement(format!("{status} was expected: {head}, {} bytes", found.len())));
        }
        rest = more;
    }
    Ok(())
}

fn many_clients(port: u16) -> Result<()> {
    let page = page();
    std::thread::scope(|scope| {
        let client = || {
            let mut stream = connect(port)?;
            (0..REQUESTS).try_for_each(|_| ask(&mut stream, &page))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|_| Err(Error::Measurement("a client has panicked".into())))
        })
    })
}

/// Asks for the page on a connection that goes on.
fn ask(stream: &mut TcpStream, page: &[u8]) -> Result<()> {
    let failed = |error| Error::Measurement(format!("httpd: {error}"));
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n").map_err(failed)?;
    let mut got = vec![0; 4096];
    let mut all = Vec::new();
    loop {
        let count = stream.read(&mut got).map_err(failed)?;
        all.extend_from_slice(&got[..count]);
        if let Ok((head, body)) = answer(&all)
            && body.len() >= length(head)?
        {
            return if body == page { Ok(()) } else { Err(Error::Measurement("another page".into())) };
        }
        if count == 0 {
            return Err(Error::Measurement(format!("the answer ends after {} bytes", all.len())));
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let limited = stream.and_then(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    });
    limited.map_err(|error| Error::Measurement(format!("httpd: {error}")))
}

/// Head and what follows.
fn answer(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let head = end.and_then(|end| Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 4..])));
    head.ok_or_else(|| Error::Measurement("an answer without head".into()))
}

fn length(head: &str) -> Result<usize> {
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    length.ok_or_else(|| Error::Measurement(format!("an answer without length: {head}")))
}

/// Packets in a file of libpcap's format.
fn packets(file: &Path) -> std::result::Result<u64, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let number = |at: usize| {
        bytes.get(at..at + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    };
    if number(0) != Some(0xa1b2_c3d4) {
        return Err(format!("{} is no dump of packets", file.display()));
    }
    // A head of 24 bytes; each packet after one of 16.
    let (mut at, mut count) = (24, 0);
    while let Some(length) = number(at + 8) {
        at += 16 + length as usize;
        count += 1;
    }
    Ok(count)
}
