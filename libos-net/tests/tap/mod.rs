//! A tap in a network namespace: this stack at one end, Linux's at the other.

use libos_core::task::Executor;
use libos_net::link::{Faults, Faulty, Frame, Link};
use libos_net::{Config, Ipv4, Ipv6, Net};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tappers::{Interface, Tap};

pub const LINUX: &str = "10.79.0.1";
pub const OURS: &str = "10.79.0.2";
pub const LINUX6: &str = "fd79::1";
pub const OURS6: &str = "fd79::2";

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the program began.
pub fn now_ns() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap() + 1
}

/// The tap as a link. What it sends is lost by the same rule as what comes.
struct TapLink {
    tap: Tap,
    mtu: usize,
}

impl Link for TapLink {
    fn address(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0x79, 2]
    }
    fn max_frame_bytes(&self) -> usize {
        self.mtu + 14
    }
    fn receive(&mut self) -> Option<Frame> {
        let mut bytes = [0; 9100];
        match self.tap.recv(&mut bytes) {
            Ok(count) => {
                let mut frame = self.frame(count);
                frame.copy_from_slice(&bytes[..count]);
                Some(frame)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the tap: {error}"),
        }
    }
    fn has_room(&mut self) -> bool {
        true
    }
    fn send(&mut self, frame: Frame) {
        match self.tap.send(&frame) {
            Ok(_) => {}
            // Lost, as on a link.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the tap: {error}"),
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        // Tasks and clients in other threads are looked at as well.
        let most = timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(5));
        let most = PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)], most);
    }
}

/// A link on which frames that go out are lost, by a seed.
struct Leaky<L> {
    below: L,
    lose: u16,
    state: u64,
}

impl<L: Link> Link for Leaky<L> {
    fn address(&self) -> [u8; 6] {
        self.below.address()
    }
    fn max_frame_bytes(&self) -> usize {
        self.below.max_frame_bytes()
    }
    fn receive(&mut self) -> Option<Frame> {
        self.below.receive()
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        if self.state >> 48 >= u64::from(self.lose) {
            self.below.send(frame);
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.below.wait(timeout);
    }
}

/// Both ends. The thread that makes it is in the namespace from then on, and so are threads that it starts.
pub struct Peer {
    net: Net,
    executor: Executor,
}

impl Peer {
    /// `None` if this host does not allow it: that is said.
    pub fn new(test: &str, mtu: usize, faults: Faults, seed: u64) -> Option<Peer> {
        let ip = host_needs::program(test, "ip")?;
        let may = unshare(CloneFlags::CLONE_NEWNET).is_ok();
        if !host_needs::permission(test, "a network namespace", may) {
            return None;
        }
        let tap = Interface::new("hxpeer").and_then(Tap::new_named);
        if !host_needs::permission(test, "a tap", tap.is_ok()) {
            return None;
        }
        let mut tap = tap.unwrap();
        tap.set_nonblocking(true).unwrap();
        let length = mtu.to_string();
        let mut commands = vec![
            vec!["link", "set", "lo", "up"],
            vec!["link", "set", "hxpeer", "mtu", &length, "up"],
            vec!["addr", "add", "10.79.0.1/24", "dev", "hxpeer"],
        ];
        if mtu >= 1280 {
            commands.push(vec!["addr", "add", "fd79::1/64", "dev", "hxpeer", "nodad"]);
        }
        for words in commands {
            let status = Command::new(&ip).args(&words).status().unwrap();
            assert!(status.success(), "ip {}", words.join(" "));
        }
        let ipv4 = Ipv4::Static { address: "10.79.0.2/24".parse().unwrap(), router: None };
        let ipv6 = match mtu >= 1280 {
            true => Ipv6::Static { address: "fd79::2/64".parse().unwrap(), router: None },
            false => Ipv6::None,
        };
        let config = Config { ipv4, ipv6, ..Config::new([seed, seed + 1, seed + 2], now_ns) };
        let leaky = Leaky { below: TapLink { tap, mtu }, lose: faults.lose, state: seed };
        let net = Net::new(Faulty::new(leaky, faults, seed), &config).unwrap();
        let peer = Peer { net, executor: Executor::new(now_ns) };
        if mtu >= 1280 {
            let net = peer.net.clone();
            // That of the link, and ours.
            peer.turn_until(|| net.addresses().len() == 3);
        }
        Some(peer)
    }

    pub fn executor(&self) -> Executor {
        self.executor.clone()
    }

    /// Runs everything of ours until that is so.
    ///
    /// # Panics
    ///
    /// After two minutes.
    fn turn_until(&self, mut is_over: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while !is_over() {
            assert!(Instant::now() < end, "two minutes have passed");
            self.executor.run_ready();
            if !self.net.poll() && !self.executor.is_ready() {
                let due_ns = self.net.due_ns().into_iter().chain(self.executor.next_timer_ns()).min();
                let timeout = due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(now_ns())));
                self.net.wait(timeout);
            }
        }
    }

    /// Begins something of ours, and runs it while a thread of Linux's works.
    pub fn run<T: Send + 'static>(
        &self,
        ours: impl FnOnce(&Net, &Executor),
        theirs: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        ours(&self.net, &self.executor);
        let theirs = std::thread::spawn(theirs);
        self.turn_until(|| theirs.is_finished());
        theirs.join().expect("no failure at Linux's end")
    }

    /// Runs a task of ours to its end.
    pub fn run_ours<T: 'static, F: Future<Output = T> + 'static>(&self, ours: impl FnOnce(Net) -> F) -> T {
        let mut ours = self.executor.spawn(ours(self.net.clone()));
        let mut result = None;
        self.turn_until(|| {
            result = self.executor.now_or_never(&mut ours);
            result.is_some()
        });
        result.and_then(Result::ok).expect("it was not cancelled")
    }

    /// Runs a task of ours and a thread of Linux's, both to their ends.
    pub fn run_both<T: 'static, U: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        ours: impl FnOnce(Net) -> F,
        theirs: impl FnOnce() -> U + Send + 'static,
    ) -> (T, U) {
        let task = ours(self.net.clone());
        let mut ours = self.executor.spawn(task);
        // Whoever listens does so before somebody connects.
        self.executor.run_ready();
        let theirs = std::thread::spawn(theirs);
        let mut result = None;
        self.turn_until(|| {
            if result.is_none() {
                result = self.executor.now_or_never(&mut ours);
            }
            result.is_some() && theirs.is_finished()
        });
        let ours = result.and_then(Result::ok).expect("it was not cancelled");
        (ours, theirs.join().expect("no failure at Linux's end"))
    }
}
