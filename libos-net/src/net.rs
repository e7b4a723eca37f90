//! The network of a program.

use crate::config::{Config, ConfigError};
use crate::link::{Link, NicStatistics};
use crate::name::{self, ConnectByNameError, ResolveError};
use crate::protocol::TcpPolicy;
use crate::stack::{Handle, ListenError, Stack, Statistics, micros};
use crate::tcp::{ConnectError, TcpListener, TcpStream};
use crate::udp::{UdpError, UdpSocket};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use libos_core::task::Executor;
use libos_core::thread;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

/// The network of a program, on one core. Clones are the same.
#[derive(Clone)]
pub struct Net {
    handle: Handle,
}

/// Whether a future that is waited for wants to be asked again.
struct Woken {
    again: AtomicBool,
    /// Whether the caller waits for packets, or is about to.
    asleep: AtomicBool,
    caller: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.caller.wake_by_ref();
        }
    }
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

    /// The addresses of a name, by asking [`Net::resolvers`]: those of IPv4 first. An address that is written
    /// as one is itself.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddress>, ResolveError> {
        name::resolve(&self.handle, name).await
    }

    /// Opens a connection to the first address of a name that answers.
    ///
    /// # Errors
    ///
    /// [`ConnectByNameError`].
    pub async fn connect_by_name(
        &self,
        name: &str,
        port: u16,
        policy: &dyn TcpPolicy,
    ) -> Result<TcpStream, ConnectByNameError> {
        let addresses = self.resolve(name).await.map_err(ConnectByNameError::Resolve)?;
        name::connect(addresses.into_iter(), port, async |to| self.connect(to, policy).await).await
    }

    /// Binds a port of UDP.
    ///
    /// # Errors
    ///
    /// [`UdpError::NoPort`] and [`UdpError::InUse`].
    pub fn bind_udp(&self, port: u16) -> Result<UdpSocket, UdpError> {
        UdpSocket::bind(self.handle.clone(), port)
    }

    /// What was counted.
    pub fn statistics(&self) -> Statistics {
        self.handle.stack().statistics()
    }

    /// Frames received and sent. [`Net::statistics`] has them, too, but adds up what all connections count.
    pub fn frames(&self) -> (u64, u64) {
        self.handle.stack().frames()
    }

    /// What the link has counted.
    pub fn link_statistics(&self) -> NicStatistics {
        self.handle.stack().link().statistics()
    }

    /// Runs the network until a future has ended, and sleeps while there is nothing to do. Tasks of an
    /// executor do not run meanwhile: for programs without one; others have [`Net::run`].
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Some(value) = self.step(future.as_mut(), None) {
                return value;
            }
        }
    }

    /// The same for so long at most. `None` if the time was over first: then the future is dropped.
    pub fn block_until<T>(&self, timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let end_ns = self.handle.now_ns().saturating_add(timeout_ns);
        let mut future = pin!(future);
        loop {
            let value = self.step(future.as_mut(), Some(end_ns));
            if value.is_some() || self.handle.now_ns() >= end_ns {
                return value;
            }
        }
    }

    /// Runs the network once and then asks a future; waits if neither has more to do.
    fn step<T>(&self, future: Pin<&mut impl Future<Output = T>>, end_ns: Option<u64>) -> Option<T> {
        let woken = Arc::new(Woken {
            again: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            caller: thread::waker(),
        });
        let waker = Waker::from(Arc::clone(&woken));
        let more = self.poll();
        if let Poll::Ready(value) = future.poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        // What the future has written goes out before anybody waits.
        let more = self.poll() || more;
        woken.asleep.store(true, Ordering::SeqCst);
        let more = more || woken.again.load(Ordering::SeqCst);
        let due_ns = self.due_ns().into_iter().chain(end_ns).min();
        let timeout = due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(self.handle.now_ns())));
        if !more && timeout != Some(Duration::ZERO) {
            self.wait(timeout);
        }
        None
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
        // Another thread may wake a task while this one waits for packets.
        let waker = thread::waker();
        loop {
            executor.run_ready();
            let more = self.poll();
            if let Some(Ok(result)) = executor.now_or_never(&mut main) {
                // What was written last is on its way.
                self.poll();
                return result;
            }
            if !more && executor.wake_before(&waker) {
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
