//! The network of a program.

use crate::link::{Link, NicStatistics};
use crate::protocol::TcpPolicy;
use crate::stack::{Handle, ListenError, Stack, Statistics, micros};
use crate::tcp::{ConnectError, TcpListener, TcpStream};
use crate::udp::{UdpError, UdpSocket};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use libos_core::task::Executor;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

/// Where a stack has its address from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// From the network, by DHCP.
    Dhcp,
    /// From the application.
    Static {
        /// The address, and how many of its bits are those of the network.
        address: IpCidr,
        /// The way to other networks.
        router: Option<IpAddress>,
    },
}

/// How a stack begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address.
    pub address: Address,
    /// Numbers that nobody outside can guess: for sequence numbers, ports, and the key of the table of flows.
    /// In a unikernel from [`libos_core::random`].
    pub seed: [u64; 3],
    /// A clock in nanoseconds that never goes back. In a unikernel [`libos_core::time::now_ns`].
    pub now_ns: fn() -> u64,
}

/// The network of a program, on one core. Clones are the same.
#[derive(Clone)]
pub struct Net {
    handle: Handle,
}

impl Net {
    /// A stack on a link.
    pub fn new(link: impl Link + 'static, config: &Config) -> Net {
        let now_us = micros((config.now_ns)());
        let mut stack = Stack::new(Box::new(link), config.seed, now_us);
        match &config.address {
            Address::Dhcp => stack.start_dhcp(),
            Address::Static { address, router } => {
                stack.interface().update_ip_addrs(|addresses| {
                    // There is room for it: it is the first.
                    let _ = addresses.push(*address);
                });
                let routes = stack.interface().routes_mut();
                match router {
                    Some(IpAddress::Ipv4(router)) => drop(routes.add_default_ipv4_route(*router)),
                    Some(IpAddress::Ipv6(router)) => drop(routes.add_default_ipv6_route(*router)),
                    None => {}
                }
            }
        }
        Net { handle: Handle::new(stack, config.now_ns) }
    }

    /// Waits until there is an address, and returns it.
    pub async fn address(&self) -> IpCidr {
        poll_fn(|context| {
            let stack = &mut *self.handle.stack();
            match stack.interface().ip_addrs().first() {
                Some(address) => Poll::Ready(*address),
                None => {
                    stack.wait_for_address(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
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
                self.wait(executor);
            }
        }
    }

    fn wait(&self, executor: &Executor) {
        let due_ns = self.due_ns().into_iter().chain(executor.next_timer_ns()).min();
        let timeout = due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.handle.now_ns())));
        if timeout != Some(Duration::ZERO) {
            self.handle.stack().link().wait(timeout);
        }
    }
}
