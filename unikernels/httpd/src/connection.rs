//! One client: requests in turn, until one says that it was the last.

use crate::answer::{Answer, Body};
use crate::client::Client;
use crate::documents::Lent;
use crate::request::{BodyLength, MOST_BYTES, Refusal, Request};
use crate::site::Site;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_fs::File;

/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(30);
/// How long a head or a body may take from its first byte on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer.
const SLOWNESS: Duration = Duration::from_secs(30);
/// Bytes of a body that is of no use at most.
const MOST_BODY: u64 = 1 << 20;
/// Bytes that are read of a file, and given to the connection, at once.
const AT_ONCE: usize = 16 * 1024;
/// Bytes of a block of a file.
const BLOCK_BYTES: u64 = libos_fs::BLOCK_BYTES as u64;

/// Why nothing more comes of a connection.
enum End {
    /// The client has gone, or the connection is broken.
    Gone,
    /// The client was silent between two requests.
    Idle,
    /// A request was begun and not ended in time.
    TooSlow,
    /// A request was refused.
    Refused(Refusal),
    /// A body was too long.
    TooLong,
}

/// Serves a client to its end. `log` is told of each answer: the request, if it was understood, the status,
/// and the bytes of the body that were sent.
pub async fn serve<S: Client>(
    stream: &mut S,
    site: &Site,
    executor: &Executor,
    mut log: impl FnMut(Option<&Request>, u16, u64),
) {
    let mut incoming = Vec::new();
    loop {
        let end = match next_request(stream, &mut incoming, executor).await {
            Ok(request) => match take_body(stream, &mut incoming, &request, executor).await {
                Ok(()) => {
                    let answer = Answer::to(&request, site);
                    let keep_alive = request.keep_alive;
                    let sent = send(stream, &answer, keep_alive, site, executor).await;
                    log(Some(&request), answer.status, sent.unwrap_or_default());
                    if !keep_alive || sent.is_none() {
                        return;
                    }
                    continue;
                }
                Err(end) => end,
            },
            Err(end) => end,
        };
        let answer = match end {
            End::Gone | End::Idle => return,
            End::TooSlow => Answer::too_slow(),
            End::Refused(refusal) => Answer::refusing(refusal),
            End::TooLong => Answer::too_long(),
        };
        let sent = send(stream, &answer, false, site, executor).await;
        return log(None, answer.status, sent.unwrap_or_default());
    }
}

/// Reads more, for so long at most. The number of bytes; 0 at the end.
async fn more<S: Read>(
    stream: &mut S,
    incoming: &mut Vec<u8>,
    executor: &Executor,
    patience: Duration,
) -> Option<usize> {
    let start = incoming.len();
    incoming.resize(start + 2048, 0);
    let read = executor.within(patience, stream.read(&mut incoming[start..])).await;
    let count = read.map(|read| read.unwrap_or(0));
    incoming.truncate(start + count.unwrap_or(0));
    count
}

async fn next_request<S: Read>(
    stream: &mut S,
    incoming: &mut Vec<u8>,
    executor: &Executor,
) -> Result<Request, End> {
    let mut give_up_ns = None;
    loop {
        if !incoming.is_empty() {
            if let Some((request, bytes)) = Request::parse(incoming).map_err(End::Refused)? {
                incoming.drain(..bytes);
                return Ok(request);
            }
            give_up_ns.get_or_insert(executor.now_ns().saturating_add(PATIENCE.as_nanos() as u64));
        }
        let patience = match give_up_ns {
            Some(end_ns) => Duration::from_nanos(end_ns.saturating_sub(executor.now_ns())),
            None => IDLE,
        };
        debug_assert!(incoming.len() <= MOST_BYTES + 2048);
        match more(stream, incoming, executor, patience).await {
            Some(0) => return Err(End::Gone),
            Some(_) => {}
            None if give_up_ns.is_some() => return Err(End::TooSlow),
            None => return Err(End::Idle),
        }
    }
}

/// Reads a body and forgets it.
async fn take_body<S: Read + Write>(
    stream: &mut S,
    incoming: &mut Vec<u8>,
    request: &Request,
    executor: &Executor,
) -> Result<(), End> {
    if request.body == BodyLength::Bytes(0) {
        return Ok(());
    }
    if request.expects_continue && incoming.is_empty() {
        let going_on = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        executor.within(SLOWNESS, going_on).await.and_then(Result::ok).ok_or(End::Gone)?;
    }
    let reading = async {
        match request.body {
            BodyLength::Bytes(bytes) if bytes > MOST_BODY => Err(End::TooLong),
            BodyLength::Bytes(bytes) => skip(stream, incoming, bytes, executor).await,
            BodyLength::Chunked => skip_chunks(stream, incoming, executor).await,
        }
    };
    executor.within(PATIENCE, reading).await.unwrap_or(Err(End::TooSlow))
}

async fn skip<S: Read>(
    stream: &mut S,
    incoming: &mut Vec<u8>,
    mut bytes: u64,
    executor: &Executor,
) -> Result<(), End> {
    loop {
        let here = incoming.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        incoming.drain(..here);
        bytes -= here as u64;
        if bytes == 0 {
            return Ok(());
        }
        if more(stream, incoming, executor, PATIENCE).await.is_none_or(|count| count == 0) {
            return Err(End::Gone);
        }
    }
}

/// Reads a line up to its end, which is taken off.
async fn line<S: Read>(stream: &mut S, incoming: &mut Vec<u8>, executor: &Executor) -> Result<Vec<u8>, End> {
    const MOST: usize = 1024;
    loop {
        if let Some(at) = incoming.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = incoming.drain(..=at).collect();
            line.pop();
            return match line.pop() {
                Some(b'\r') => Ok(line),
                _ => Err(End::Refused(Refusal::Malformed("a chunk's line ends without carriage return"))),
            };
        }
        if incoming.len() > MOST {
            return Err(End::Refused(Refusal::Malformed("a chunk's line is too long")));
        }
        if more(stream, incoming, executor, PATIENCE).await.is_none_or(|count| count == 0) {
            return Err(End::Gone);
        }
    }
}

/// Reads chunks up to the last, and the trailer (RFC 9112, section 7.1).
async fn skip_chunks<S: Read>(
    stream: &mut S,
    incoming: &mut Vec<u8>,
    executor: &Executor,
) -> Result<(), End> {
    let mut left = MOST_BODY;
    loop {
        let head = line(stream, incoming, executor).await?;
        let digits: Vec<u8> = head.iter().copied().take_while(|byte| *byte != b';').collect();
        let size = chunk_size(&digits).ok_or(End::Refused(Refusal::Malformed("a chunk without size")))?;
        if size == 0 {
            while !line(stream, incoming, executor).await?.is_empty() {}
            return Ok(());
        }
        left = left.checked_sub(size).ok_or(End::TooLong)?;
        skip(stream, incoming, size, executor).await?;
        if !line(stream, incoming, executor).await?.is_empty() {
            return Err(End::Refused(Refusal::Malformed("a chunk is longer than it says")));
        }
    }
}

fn chunk_size(digits: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(digits).ok()?.trim_end_matches([' ', '\t']);
    let sound = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| sound)
}

/// Sends an answer. How many bytes of its body; `None` if not all could be sent.
async fn send<S: Client>(
    stream: &mut S,
    answer: &Answer,
    keep_alive: bool,
    site: &Site,
    executor: &Executor,
) -> Option<u64> {
    let mut out = Outgoing { stream, executor, bytes: answer.head(keep_alive).into_bytes() };
    if answer.head_only || answer.status == 304 {
        out.flush().await?;
        return Some(0);
    }
    match &answer.body {
        Body::Text(text) => out.add(text.as_bytes()).await?,
        Body::File { file, length, parts, end } => {
            for (text, part) in parts {
                out.add(text.as_bytes()).await?;
                if out.stream.shares() {
                    out.share(file, *length, part.clone(), site).await?;
                } else {
                    out.copy(file, part.clone(), site).await?;
                }
            }
            out.add(end.as_bytes()).await?;
        }
    }
    out.flush().await?;
    Some(answer.body.bytes())
}

/// Bytes on their way, collected so that no small ones leave alone.
struct Outgoing<'s, S> {
    stream: &'s mut S,
    executor: &'s Executor,
    bytes: Vec<u8>,
}

impl<S: Client> Outgoing<'_, S> {
    /// Adds a part of a file.
    async fn copy(&mut self, file: &File, part: Range<u64>, site: &Site) -> Option<()> {
        let mut at = part.start;
        while at < part.end {
            // Head and contents leave together, and so does what fills the last segment.
            let (start, room) = (self.bytes.len(), AT_ONCE - self.bytes.len() % AT_ONCE);
            let most = (part.end - at).min(room as u64) as usize;
            self.bytes.resize(start + most, 0);
            let count = file.read_at(at, &mut self.bytes[start..]).ok().filter(|count| *count > 0)?;
            self.bytes.truncate(start + count);
            site.copied.set(site.copied.get() + count as u64);
            at += count as u64;
            self.add(&[]).await?;
        }
        Some(())
    }

    /// Has a part of a file sent from where its cache has it, after what was added before.
    async fn share(&mut self, file: &File, length: u64, part: Range<u64>, site: &Site) -> Option<()> {
        let mut at = part.start;
        // The last that were found are often those that are wanted next.
        let mut found = None;
        while at < part.end {
            let (block, from) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let is_there = |(first, blocks): &Lent| {
                block.checked_sub(*first).is_some_and(|index| index < blocks.len() as u64)
            };
            if !found.as_ref().is_some_and(is_there) {
                found = site.documents.blocks(file, length, block).ok()?;
            }
            let shared = found.as_ref().and_then(|(first, blocks)| blocks.get((block - first) as usize));
            let Some(shared) = shared else { return self.copy(file, at..part.end, site).await };
            let to = shared.len().min(from + (part.end - at) as usize);
            self.flush().await?;
            let shared = shared.part(from..to);
            self.executor.within(SLOWNESS, self.stream.write_shared(&shared)).await?.ok()?;
            at += (to - from) as u64;
        }
        Some(())
    }

    async fn add(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= AT_ONCE { self.flush().await } else { Some(()) }
    }

    async fn flush(&mut self) -> Option<()> {
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let count = self.executor.within(SLOWNESS, self.stream.write(rest)).await?.ok()?;
            rest = &rest[count..];
        }
        self.bytes.clear();
        Some(())
    }
}
