//! One client: its requests in turn, and what it is sent.

use super::client::Closing;
use super::request::Next;
use super::state::Server;
use crate::resp::Parser;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use embedded_io_async::{Read, Write};
use libos_core::task::Executor;

/// Bytes of input for which there is room while nothing has come.
const LEAST: usize = 512;
/// Bytes that are read at once, if so many come.
const MOST: usize = 16 * 1024;
/// Bytes of requests that wait while a client waits itself.
const AHEAD: usize = 1 << 20;
/// Bytes of replies for which the memory is kept.
const KEPT: usize = 4 * 1024;

/// What a client has sent and is not done with.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Input {
        Input { bytes: alloc::vec![0; LEAST], start: 0, end: 0 }
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn done(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > MOST {
                self.bytes = alloc::vec![0; LEAST];
            }
        }
    }

    /// Room for what comes next. `wanted` bytes are expected in all.
    fn room(&mut self, wanted: Option<usize>) -> &mut [u8] {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            // Who only says that much will come gets no memory for it.
            let most = self.bytes.len() * 2 + MOST;
            let wanted = wanted.map_or(0, |wanted| self.start + wanted);
            self.bytes.resize(wanted.max(self.bytes.len() + MOST / 2).min(most), 0);
        }
        &mut self.bytes[self.end..]
    }
}

/// Why a wait has ended.
enum Woken {
    /// So many bytes have come.
    Bytes(usize),
    /// The connection is at its end.
    End,
    /// Somebody has something for the client.
    Called,
    /// The time is over.
    Late,
}

/// Serves a client to its end.
pub async fn serve<S: Read + Write>(
    stream: &mut S,
    server: &Rc<RefCell<Server>>,
    executor: &Executor,
    remote: String,
    local: String,
) {
    let place = server.borrow_mut().connect(remote, local);
    let Some(place) = place else {
        // If it can't be told, it notices the end.
        let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
        return;
    };
    let mut connection =
        Connection { server, executor, place, input: Input::new(), parser: Parser::new(), ended: false };
    connection.run(stream).await;
    server.borrow_mut().disconnect(place);
}

struct Connection<'s> {
    server: &'s Rc<RefCell<Server>>,
    executor: &'s Executor,
    place: usize,
    input: Input,
    parser: Parser,
    /// The client sends nothing more.
    ended: bool,
}

impl Connection<'_> {
    async fn run<S: Read + Write>(&mut self, stream: &mut S) {
        let mut spare = Vec::new();
        loop {
            let (next, done) =
                self.server.borrow_mut().turn(self.place, &mut self.parser, self.input.waiting());
            self.input.done(done);
            if !self.send(stream, &mut spare).await {
                return;
            }
            let deadline_ns = match next {
                Next::Close => return,
                Next::Send => continue,
                Next::Read if self.ended => return,
                Next::Read => None,
                Next::Pause(until_ns) => Some(until_ns),
                Next::Wait => {
                    let server = &mut *self.server.borrow_mut();
                    server.clients.at(self.place).blocked.as_ref().and_then(|blocked| blocked.deadline_ns)
                }
            };
            if next == Next::Wait && self.ended {
                return;
            }
            match self.wait(stream, deadline_ns, next).await {
                Woken::Bytes(count) => {
                    self.input.end += count;
                }
                // What it has sent before its end is still answered.
                Woken::End => self.ended = true,
                Woken::Called => {}
                Woken::Late if next == Next::Wait => self.server.borrow_mut().time_out(self.place),
                Woken::Late => {}
            }
        }
    }

    /// Sends what there is to be sent. Whether the connection goes on.
    async fn send<S: Write>(&mut self, stream: &mut S, spare: &mut Vec<u8>) -> bool {
        loop {
            let position = {
                let server = &mut *self.server.borrow_mut();
                let client = server.clients.at(self.place);
                if client.closing == Closing::Now {
                    return false;
                }
                if client.out.is_empty() {
                    return true;
                }
                core::mem::swap(&mut client.out, spare);
                client.position
            };
            if !self.durable(position).await {
                return false;
            }
            let mut rest = &spare[..];
            while !rest.is_empty() {
                match self.write(stream, rest).await {
                    Some(count) => rest = &rest[count..],
                    None => return false,
                }
            }
            let server = &mut *self.server.borrow_mut();
            server.counts.output += spare.len() as u64;
            server.counts.writes += 1;
            spare.clear();
            spare.shrink_to(KEPT);
        }
    }

    /// Waits until so much of the log is durable, if that is to be waited for. Whether it is.
    async fn durable(&self, position: u64) -> bool {
        poll_fn(|context| {
            let server = &mut *self.server.borrow_mut();
            let always = server.is_always_durable();
            match &server.log {
                Some(log) if always && log.durable() < position => {}
                _ => return Poll::Ready(true),
            }
            if server.ending().is_some() {
                return Poll::Ready(false);
            }
            server.undurable.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Writes some bytes; `None` if the client has gone, or is to go.
    async fn write<S: Write>(&self, stream: &mut S, bytes: &[u8]) -> Option<usize> {
        let mut writing = pin!(stream.write(bytes));
        poll_fn(|context| {
            if let Poll::Ready(written) = writing.as_mut().poll(context) {
                return Poll::Ready(written.ok());
            }
            let client = &mut *self.server.borrow_mut();
            let client = client.clients.at(self.place);
            if client.closing == Closing::Now {
                return Poll::Ready(None);
            }
            client.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until something comes, somebody calls, or the time is over.
    async fn wait<S: Read>(&mut self, stream: &mut S, deadline_ns: Option<u64>, next: Next) -> Woken {
        let reads = !self.ended && (next == Next::Read || self.input.waiting().len() < AHEAD);
        let wanted = self.parser.wanted().filter(|_| next == Next::Read);
        let mut none = [0; 0];
        let into = if reads { self.input.room(wanted) } else { &mut none[..] };
        let mut reading = pin!(stream.read(into));
        let mut late = pin!(deadline_ns.map(|deadline_ns| self.executor.sleep_until_ns(deadline_ns)));
        poll_fn(|context| {
            if reads && let Poll::Ready(read) = reading.as_mut().poll(context) {
                return Poll::Ready(match read {
                    Ok(0) | Err(_) => Woken::End,
                    Ok(count) => Woken::Bytes(count),
                });
            }
            let server = &mut *self.server.borrow_mut();
            let is_over = server.pause.until_ns <= server.clock.now_ns();
            if matches!(next, Next::Pause(_)) {
                if is_over {
                    return Poll::Ready(Woken::Late);
                }
                server.paused.push(context.waker().clone());
            }
            let ending = server.ending().is_some();
            let client = server.clients.at(self.place);
            let served = next == Next::Wait && client.blocked.is_none();
            if ending || served || client.closing != Closing::No || !client.out.is_empty() {
                return Poll::Ready(Woken::Called);
            }
            client.waker = Some(context.waker().clone());
            if let Some(late) = late.as_mut().as_pin_mut()
                && late.poll(context).is_ready()
            {
                return Poll::Ready(Woken::Late);
            }
            Poll::Pending
        })
        .await
    }
}
