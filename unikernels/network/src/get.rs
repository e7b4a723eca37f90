//! Fetches a page by HTTP: a client of `httpd` in another environment, or of any other server.

use crate::{Failure, internet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_core::{argument, println, time};
use libos_net::{IpAddress, IpEndpoint, TcpStream};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Fetches the page so often, on so many connections at once, and says what all answers had in common and how
/// long they took.
pub fn get(count: u64, clients: u64) -> Result<(), Failure> {
    let from = match argument("from") {
        Some(text) => text.parse().map_err(|_| Failure::Word("from=A: an address"))?,
        None => IpAddress::v4(10, 0, 0, 1),
    };
    let remote = IpEndpoint::new(from, internet::port(80)?);
    let page = argument("page").unwrap_or("/");
    let request = format!("GET {page} HTTP/1.1\r\nHost: {}\r\n\r\n", remote.addr);
    let (net, executor) = internet::open()?;
    let (own, tasks) = (net.clone(), executor.clone());
    let fetched = net.run(&executor, async move {
        own.address().await;
        let mut streams = Vec::new();
        for _ in 0..clients {
            streams.push(internet::connect(&own, &tasks, remote).await?);
        }
        let begin_ns = tasks.now_ns();
        let fetching: Vec<_> = (0..clients)
            .zip(streams)
            .map(|(number, stream)| {
                let share = count / clients + u64::from(number < count % clients);
                tasks.spawn(fetch(stream, tasks.clone(), request.clone(), share))
            })
            .collect();
        let mut found = None;
        for one in fetching {
            found = same(found, one.await.unwrap_or_else(|_| Err("cancelled".into()))?)?;
        }
        let found = found.ok_or_else(|| String::from("count=0: nothing was fetched"))?;
        Ok((found, (tasks.now_ns() - begin_ns) / 1000))
    });
    let ((bytes, checksum), us) = fetched.map_err(Failure::Stream)?;
    let ended_us = time::since_boot_ns() / 1000;
    println!(
        "{{\"network\":{{\"role\":\"get\",\"count\":{count},\"bytes\":{bytes},\"crc32\":\"{checksum:08x}\",\"us\":{us},\"ended_us\":{ended_us}}}}}"
    );
    Ok(())
}

/// Length and CRC-32 of a page, if there was one.
type Found = Option<(usize, u32)>;

/// What two found, if it is the same.
fn same(one: Found, other: Found) -> Result<Found, String> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err("the same page has come in two versions".into()),
        _ => Ok(one.or(other)),
    }
}

async fn fetch(
    mut stream: TcpStream,
    executor: Executor,
    request: String,
    count: u64,
) -> Result<Found, String> {
    let mut found = None;
    for _ in 0..count {
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = executor.within(LIMIT, answer(&mut stream)).await;
        let body = answer.unwrap_or_else(|| Err("no answer".into()))?;
        found = same(found, Some((body.len(), crc32fast::hash(&body))))?;
    }
    Ok(found)
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
