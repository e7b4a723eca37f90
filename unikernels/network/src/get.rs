//! Fetches a page by HTTP: a client of `httpd` in another environment, or of any other server.

use crate::{Failure, internet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_core::{argument, println};
use libos_net::{IpAddress, IpEndpoint, Net, TcpStream};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Fetches the page so often, and says what all answers had in common.
pub fn get(count: u64) -> Result<(), Failure> {
    let from = match argument("from") {
        Some(text) => text.parse().map_err(|_| Failure::Word("from=A: an address"))?,
        None => IpAddress::v4(10, 0, 0, 1),
    };
    let remote = IpEndpoint::new(from, internet::port(80)?);
    let page = argument("page").unwrap_or("/").to_string();
    let (net, executor) = internet::open()?;
    let (own, tasks) = (net.clone(), executor.clone());
    let fetched = net.run(&executor, async move { fetch(&own, &tasks, remote, &page, count).await });
    let (bytes, checksum) = fetched.map_err(Failure::Stream)?;
    println!(
        "{{\"network\":{{\"role\":\"get\",\"count\":{count},\"bytes\":{bytes},\"crc32\":\"{checksum:08x}\"}}}}"
    );
    Ok(())
}

async fn fetch(
    net: &Net,
    executor: &Executor,
    remote: IpEndpoint,
    page: &str,
    count: u64,
) -> Result<(usize, u32), String> {
    net.address().await;
    let mut stream = internet::connect(net, executor, remote).await?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: {}\r\n\r\n", remote.addr);
    let mut first = None;
    for _ in 0..count {
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = executor.within(LIMIT, answer(&mut stream)).await;
        let body = answer.unwrap_or_else(|| Err("no answer".into()))?;
        let found = (body.len(), crc32fast::hash(&body));
        if *first.get_or_insert(found) != found {
            return Err("the same page has come in two versions".into());
        }
    }
    first.ok_or_else(|| "count=0: nothing was fetched".into())
}

/// The body of one answer, which must be one of success.
async fn answer(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut part = vec![0; 4096];
    loop {
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = core::str::from_utf8(&all[..end]).map_err(|error| error.to_string())?;
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            let length: usize = length.ok_or_else(|| format!("no length: {head}"))?;
            if !head.starts_with("HTTP/1.1 200 ") {
                return Err(head.lines().next().unwrap_or_default().into());
            }
            if all.len() >= end + 4 + length {
                return Ok(all.split_off(end + 4));
            }
        }
        match stream.read(&mut part).await.map_err(|error| error.to_string())? {
            0 => return Err("the server has closed the connection".into()),
            bytes => all.extend_from_slice(&part[..bytes]),
        }
    }
}
