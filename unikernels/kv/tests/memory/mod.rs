//! A connection in memory, and a server whose clients have one.

use core::convert::Infallible;
use embedded_io_async::{ErrorType, Read, Write};
use kv::server::{Clock, Config, Server, serve};
use libos_core::task::Executor;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(1) };
}

/// The clock of all tests: it stands still unless it is moved.
pub fn now_ns() -> u64 {
    NOW_NS.get()
}

/// Moves the clock.
pub fn pass_ms(ms: u64) {
    NOW_NS.set(NOW_NS.get() + ms * 1_000_000);
}

#[derive(Default)]
struct Wire {
    sent: VecDeque<u8>,
    got: Vec<u8>,
    closed: bool,
    /// Bytes that the client takes before it is asked; all if `None`.
    room: Option<usize>,
    waker: Option<Waker>,
}

/// The client's end of a connection.
#[derive(Clone, Default)]
pub struct Client(Rc<RefCell<Wire>>);

/// The server's end.
pub struct Stream(Rc<RefCell<Wire>>);

impl Client {
    /// Sends bytes.
    pub fn send(&self, bytes: &[u8]) {
        let wire = &mut *self.0.borrow_mut();
        wire.sent.extend(bytes);
        wire.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Closes its end.
    pub fn close(&self) {
        let wire = &mut *self.0.borrow_mut();
        wire.closed = true;
        wire.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Takes no more than so many bytes from now on; all if `None`.
    pub fn take_only(&self, bytes: Option<usize>) {
        let wire = &mut *self.0.borrow_mut();
        wire.room = bytes;
        wire.waker.take().into_iter().for_each(Waker::wake);
    }

    /// What has come since it was asked last.
    pub fn got(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().got)
    }

    /// Whether the server has let go of the connection.
    pub fn is_alone(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl ErrorType for Stream {
    type Error = Infallible;
}

impl Read for Stream {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            let wire = &mut *self.0.borrow_mut();
            let count = into.len().min(wire.sent.len());
            if count == 0 && !wire.closed {
                wire.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            into.iter_mut().zip(wire.sent.drain(..count)).for_each(|(to, from)| *to = from);
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Write for Stream {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        poll_fn(|context| {
            let wire = &mut *self.0.borrow_mut();
            let count = wire.room.unwrap_or(usize::MAX).min(from.len()).min(5000);
            if count == 0 {
                wire.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            if let Some(room) = &mut wire.room {
                *room -= count;
            }
            wire.got.extend(&from[..count]);
            Poll::Ready(Ok(count))
        })
        .await
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A server, its tasks, and time.
pub struct Machine {
    pub server: Rc<RefCell<Server>>,
    pub executor: Executor,
}

impl Machine {
    pub fn new(config: Config) -> Machine {
        Machine::with(Server::new(config, Clock::new(now_ns, 1_700_000_000_000), [1, 2, 3, 4, 5]))
    }

    pub fn with(server: Server) -> Machine {
        let (server, executor) = (Rc::new(RefCell::new(server)), Executor::new(now_ns));
        executor.spawn(kv::server::keep_log(Rc::clone(&server)));
        executor.spawn(kv::server::look_after(Rc::clone(&server), executor.clone(), || false));
        Machine { server, executor }
    }

    /// A new client.
    pub fn client(&self) -> Client {
        let client = Client::default();
        let mut stream = Stream(Rc::clone(&client.0));
        let (server, executor) = (Rc::clone(&self.server), self.executor.clone());
        self.executor.spawn(async move {
            serve(&mut stream, &server, &executor, "10.0.0.9:1".into(), "10.0.0.1:6379".into()).await;
        });
        client
    }

    /// Runs until nobody has anything to do now.
    pub fn settle(&self) {
        while self.executor.is_ready() {
            self.executor.run_ready();
        }
    }

    /// Lets time pass, in small steps.
    pub fn pass_ms(&self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            pass_ms(10);
            self.executor.run_ready();
            self.settle();
        }
    }

    /// What a client gets for a line of words.
    pub fn ask(&self, client: &Client, line: &str) -> String {
        client.send(format!("{line}\r\n").as_bytes());
        self.settle();
        String::from_utf8_lossy(&client.got()).into_owned()
    }
}
