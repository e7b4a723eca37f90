//! The network of a program.

use crate::config::{Config, ConfigError};
use crate::link::{Link, NicStatistics};
use crate::protocol::TcpPolicy;
use crate::stack::{Handle, ListenError, Stack, Statistics, micros};
use crate::tcp::{ConnectError, TcpListener, TcpStream};
use crate::udp::{UdpError, UdpSocket};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use libos_core::task::Executor;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

/// The network of a program, on one core. Clones are the same.
#[derive(Clone)]
pub struct Net {
    handle: Handle,
}

impl Net {
    /// A stack on a link.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn new(link: impl Link + 'static, config: &Config) -> Result<Net, ConfigError> {
        config.check()?;
        let stack = Stack::new(Box::new(link), config, micros((config.now_ns)()));
        Ok(Net { handle: Handle::new(stack, config.now_ns) })
    }

    /// The addresses that may be used now: those of IPv6 are there a second after the start at the earliest.
    pub fn addresses(&self) -> Vec<IpCidr> {
        self.handle.stack().own_addresses().to_vec()
    }

    /// Waits until there is an address, and returns the first.
    pub async fn address(&self) -> IpCidr {
        self.addresses_other_than(&[]).await[0]
    }

    /// Waits until the addresses are others than these, and there are some, and returns them. A program that
    /// says where it listens calls this with what it has said.
    pub async fn addresses_other_than(&self, known: &[IpCidr]) -> Vec<IpCidr> {
        poll_fn(|context| {
            let stack = &mut *self.handle.stack();
            match stack.own_addresses() {
                own if !own.is_empty() && own != known => Poll::Ready(own.to_vec()),
                _ => {
                    stack.wait_for_address(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whom to ask for names: those of the application, then those that the network names.
    pub fn resolvers(&self) -> Vec<IpAddress> {
        self.handle.stack().resolvers()
    }

    /// Listens to a port of TCP, for `backlog` connections that are being made or wait to be accepted.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn listen(
        &self,
        port: u16,
        backlog: usize,
        policy: impl TcpPolicy + 'static,
    ) -> Result<TcpListener, ListenError> {
        self.handle.stack().listen(port, backlog, Rc::new(policy))?;
        Ok(TcpListener::new(self.handle.clone(), port))
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        remote: IpEndpoint,
        policy: &dyn TcpPolicy,
    ) -> Result<TcpStream, ConnectError> {
        let now_us = self.handle.now_us();
        let id =
            self.handle.stack().connect(remote, policy, now_us).ok_or(ConnectError::Unreachable(remote))?;
        TcpStream::new(self.handle.clone(), id).established(remote).await
    }

    /// Binds a port of UDP.
    ///
    /// # Errors
    ///
    /// [`UdpError::NoPort`].
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, UdpError> {
        UdpSocket::bind(self.handle.clone(), port)
    }

    /// What was counted.
    pub fn statistics(&self) -> Statistics {
        self.handle.stack().statistics()
    }

    /// What the link has counted.
    pub fn link_statistics(&self) -> NicStatistics {
        self.handle.stack().link().statistics()
    }

    /// Takes the frames that have come, and sends what is to be sent. Returns whether there is more to do at
    /// once. For programs with a loop of their own; others have [`Net::run`].
    pub fn poll(&self) -> bool {
        let now_us = self.handle.now_us();
        self.handle.stack().poll(now_us)
    }

    /// When [`Net::poll`] is to be called at the latest, in nanoseconds.
    pub fn due_ns(&self) -> Option<u64> {
        let stack = &mut *self.handle.stack();
        if stack.common_is_pending() {
            return Some(0);
        }
        stack.due_us().map(|due_us| u64::try_from(due_us).unwrap_or(0).saturating_mul(1000))
    }

    /// Runs tasks and the network until `main` has ended, and sleeps while there is nothing to do.
    pub fn run<T: 'static>(&self, executor: &Executor, main: impl Future<Output = T> + 'static) -> T {
        let mut main = executor.spawn(main);
        loop {
            executor.run_ready();
            let more = self.poll();
            if let Some(Ok(result)) = executor.now_or_never(&mut main) {
                // What was written last is on its way.
                self.poll();
                return result;
            }
            if !more && !executor.is_ready() {
                self.sleep(executor);
            }
        }
    }

    fn sleep(&self, executor: &Executor) {
        let due_ns = self.due_ns().into_iter().chain(executor.next_timer_ns()).min();
        let timeout = due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.handle.now_ns())));
        if timeout != Some(Duration::ZERO) {
            self.wait(timeout);
        }
    }

    /// Sleeps until a frame has come, or there is room for one again, or the timeout is over. May return
    /// early. For programs with a loop of their own, with the time until [`Net::due_ns`].
    pub fn wait(&self, timeout: Option<Duration>) {
        self.handle.stack().link().wait(timeout);
    }
}
