//! A client that asks exactly as often as it is told, to count what one request costs; and streams of bytes.

use crate::error::{Error, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Questions of one kind.
#[derive(Clone, Debug)]
pub struct Question {
    /// One request.
    pub request: Vec<u8>,
    /// Bytes of the answer in the bytes that have come; `None` if they are not all there; an error if it is
    /// not what was asked for.
    pub answered: fn(&[u8]) -> std::result::Result<Option<usize>, String>,
}

/// Bytes of an answer by HTTP, which must be 200 and tell its length.
pub fn http(bytes: &[u8]) -> std::result::Result<Option<usize>, String> {
    Ok(page(bytes, 200)?.map(|(_, end)| end))
}

/// Where the body of an answer by HTTP begins and ends, if all of it is there. It must have this status, and
/// tell its length.
fn page(bytes: &[u8], status: u16) -> std::result::Result<Option<(usize, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with(&format!("HTTP/1.1 {status} ")) {
        return Err(head.into_owned());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.ok_or_else(|| format!("an answer without length: {head}"))?;
    Ok(Some((end + 4, end + 4 + length)).filter(|(_, all)| *all <= bytes.len()))
}

/// A request by HTTP, and what has to be answered.
pub struct Exchange<'b> {
    /// The request.
    pub request: Vec<u8>,
    /// Status of the answer.
    pub status: u16,
    /// Its body.
    pub body: &'b [u8],
}

/// Makes these requests one after the other on one connection, and compares each answer byte by byte.
///
/// # Errors
///
/// If an answer is another, or does not come.
pub fn exchange<'b>(address: SocketAddr, exchanges: impl IntoIterator<Item = Exchange<'b>>) -> Result<()> {
    let failed = |error: std::io::Error| Error::Measurement(format!("asking {address}: {error}"));
    let mut stream = connect(address)?;
    let (mut incoming, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    for Exchange { request, status, body } in exchanges {
        let asked = || String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        stream.write_all(&request).map_err(failed)?;
        let (start, end) = loop {
            let wrong = |said: String| Error::Measurement(format!("{}: {address} answers: {said}", asked()));
            if let Some(whole) = page(&incoming, status).map_err(wrong)? {
                break whole;
            }
            match stream.read(&mut part).map_err(failed)? {
                0 => return Err(Error::Measurement(format!("{}: the connection was closed", asked()))),
                count => incoming.extend_from_slice(&part[..count]),
            }
        };
        if incoming[start..end] != *body {
            let told = format!("{}: {} bytes that are not those of the file", asked(), end - start);
            return Err(Error::Measurement(told));
        }
        incoming.drain(..end);
    }
    Ok(())
}

/// Bytes of a simple or bulk string of the Redis protocol.
pub fn redis(bytes: &[u8]) -> std::result::Result<Option<usize>, String> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&bytes[..end]);
    match line.split_at_checked(1) {
        Some(("+", _)) => Ok(Some(end + 2)),
        Some(("$", number)) => match number.parse::<usize>() {
            Ok(length) => Ok(Some(end + 2 + length + 2).filter(|all| *all <= bytes.len())),
            Err(_) => Err(format!("{line} is no value")),
        },
        _ => Err(line.into_owned()),
    }
}

/// Asks `requests` times in all, over `clients` connections, `pipeline` requests of each on their way at
/// once. Returns how many bytes the answers had.
pub fn ask(
    address: SocketAddr,
    question: &Question,
    clients: u32,
    pipeline: u32,
    requests: u64,
) -> Result<u64> {
    let each = requests / u64::from(clients);
    let more = requests % u64::from(clients);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..u64::from(clients))
            .map(|number| {
                scope.spawn(move || one(address, question, pipeline, each + u64::from(number < more)))
            })
            .collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            let bytes = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(sum + bytes)
        })
    })
}

fn one(address: SocketAddr, question: &Question, pipeline: u32, requests: u64) -> Result<u64> {
    let failed = |error: std::io::Error| Error::Measurement(format!("asking {address}: {error}"));
    let mut stream = connect(address)?;
    let (mut incoming, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    let (mut left, mut bytes) = (requests, 0);
    while left > 0 {
        let batch = left.min(u64::from(pipeline));
        stream.write_all(&question.request.repeat(batch as usize)).map_err(failed)?;
        let mut open = batch;
        while open > 0 {
            let wrong = |said: String| Error::Measurement(format!("{address} answers: {said}"));
            match (question.answered)(&incoming).map_err(wrong)? {
                Some(length) => {
                    incoming.drain(..length);
                    bytes += length as u64;
                    open -= 1;
                }
                None => match stream.read(&mut part).map_err(failed)? {
                    0 => return Err(Error::Measurement(format!("{address} has closed a connection"))),
                    count => incoming.extend_from_slice(&part[..count]),
                },
            }
        }
        left -= batch;
    }
    Ok(bytes)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    stream.map_err(|error| Error::Measurement(format!("connecting to {address}: {error}")))
}

/// Bytes that are read or written at once.
const AT_ONCE: usize = 256 * 1024;
/// How long streams run before bytes are counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// Bytes a second over so many streams together, in the direction that `wish` asks of the server.
pub fn stream(address: SocketAddr, wish: u8, clients: u32, duration: Duration) -> Result<f64> {
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let one = || -> Result<()> {
        let failed = |error: std::io::Error| Error::Measurement(format!("stream of {address}: {error}"));
        let mut stream = connect(address)?;
        stream.write_all(&[wish]).map_err(failed)?;
        let mut bytes = vec![0; AT_ONCE];
        while !over.load(Ordering::Relaxed) {
            let moved = if wish == linux_init::GIVE { stream.read(&mut bytes) } else { stream.write(&bytes) };
            match moved.map_err(failed)? {
                0 => return Err(Error::Measurement(format!("{address} has closed a stream"))),
                moved => count.fetch_add(moved as u64, Ordering::Relaxed),
            };
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        std::thread::sleep(WARM_UP);
        let (before, start) = (count.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(duration);
        let rate = (count.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))?;
        Ok(rate)
    })
}

/// Moves so many bytes over each of so many streams together, in the direction that `wish` asks of a server.
pub fn transfer(address: SocketAddr, wish: u8, clients: u32, bytes: u64) -> Result<()> {
    let one = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.write_all(&[wish])?;
        let ended =
            |moved: u64| if moved < bytes { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
        if wish == linux_init::GIVE {
            return ended(std::io::copy(&mut stream.take(bytes), &mut std::io::sink())?);
        }
        std::io::copy(&mut std::io::repeat(0).take(bytes), &mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        // The server closes once it has all.
        stream.read(&mut [0]).map(drop)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
    .map_err(|error| Error::Measurement(format!("stream of {address}: {error}")))
}

/// What a server answers to this, on a connection of its own.
pub fn answer(address: SocketAddr, question: &[u8]) -> Result<String> {
    let mut said = String::new();
    let mut stream = connect(address)?;
    let asked = stream.write_all(question).and_then(|()| stream.read_to_string(&mut said));
    asked.map_err(|error| Error::Measurement(format!("asking {address}: {error}")))?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_they_say() {
        let page = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabcHTTP";
        assert_eq!(http(page), Ok(Some(page.len() - 4)));
        assert_eq!((http(&page[..30]), http(&page[..page.len() - 5])), (Ok(None), Ok(None)));
        assert_eq!(super::page(page, 200), Ok(Some((page.len() - 7, page.len() - 4))));
        assert!(super::page(page, 206).is_err(), "another status");
        assert!(
            http(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err() && http(b"HTTP/1.1 200 OK\r\n\r\n").is_err()
        );
        assert_eq!((redis(b"+OK\r\n+"), redis(b"$3\r\nabc\r\n")), (Ok(Some(5)), Ok(Some(9))));
        assert_eq!((redis(b"$3\r\nabc"), redis(b"+O")), (Ok(None), Ok(None)));
        assert!(redis(b"$-1\r\n").is_err() && redis(b"-ERR no\r\n").is_err());
    }
}
