//! Two stacks on a wire in one program, with a clock that moves only when nobody has anything to do.

// Each test program uses some of this.
#![allow(dead_code)]

pub mod strangers;

use libos_core::task::Executor;
use libos_net::link::{Faults, Faulty, Offloads, wire};
use libos_net::{Config, IpEndpoint, Ipv4, Ipv6, Net, TcpPolicy};
use std::cell::Cell;
use std::net::SocketAddr;

/// Small buffers in both directions.
#[derive(Clone, Copy)]
pub struct Small;

impl TcpPolicy for Small {
    fn receive_bytes(&self) -> usize {
        512
    }
    fn send_bytes(&self) -> usize {
        512
    }
}

thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(0) };
}

fn now_ns() -> u64 {
    NOW_NS.get()
}

/// Lets time pass.
pub fn advance(ns: u64) {
    NOW_NS.set(now_ns() + ns);
}

/// An executor on that clock.
pub fn executor() -> Executor {
    Executor::new(now_ns)
}

/// The server's end of a port.
pub fn remote(port: u16) -> IpEndpoint {
    SocketAddr::from(([10, 0, 0, 1], port)).into()
}

/// Frames that the wire holds.
const WIRE: usize = 64;

pub struct Pair {
    pub server: Net,
    pub client: Net,
    pub executor: Executor,
}

/// The configuration of 10.0.0.`last`.
pub fn config(last: u8) -> Config {
    let address = format!("10.0.0.{last}/24").parse().unwrap();
    let router = Some([10, 0, 0, 254].into());
    let seed = u64::from(last);
    Config {
        ipv4: Ipv4::Static { address, router },
        ipv6: Ipv6::None,
        ..Config::new([seed, seed + 1, seed + 2], now_ns)
    }
}

impl Pair {
    pub fn new() -> Pair {
        Pair::faulty(Faults::default(), 1)
    }

    /// Both ends have the faults.
    pub fn faulty(faults: Faults, seed: u64) -> Pair {
        Pair::with(faults, seed, Offloads::NONE)
    }

    /// The same, and both ends leave this work to each other.
    pub fn with(faults: Faults, seed: u64, offloads: Offloads) -> Pair {
        Pair::both(&config(1), &config(2), faults, seed, offloads)
    }

    /// A server and a client with these configurations.
    pub fn between(server: &Config, client: &Config, faults: Faults, seed: u64) -> Pair {
        Pair::both(server, client, faults, seed, Offloads::NONE)
    }

    fn both(server: &Config, client: &Config, faults: Faults, seed: u64, offloads: Offloads) -> Pair {
        let (one, two) = wire(WIRE);
        let (one, two) = (one.with_offloads(offloads), two.with_offloads(offloads));
        Pair {
            server: Net::new(Faulty::new(one, faults, seed), server).unwrap(),
            client: Net::new(Faulty::new(two, faults, seed + 1000), client).unwrap(),
            executor: Executor::new(now_ns),
        }
    }

    /// Lets everybody do what can be done, and the time pass while nothing can. Ends with `main`.
    ///
    /// # Panics
    ///
    /// If nobody waits for anything any more, or after a day on the clock.
    pub fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> T {
        let mut main = self.executor.spawn(main);
        let end_ns = now_ns() + 24 * 3600 * 1_000_000_000;
        loop {
            let busy = self.turn();
            if let Some(Ok(result)) = self.executor.now_or_never(&mut main) {
                return result;
            }
            if !busy {
                let due = [self.server.due_ns(), self.client.due_ns(), self.executor.next_timer_ns()];
                let due_ns = due.into_iter().flatten().min().expect("somebody waits for a time");
                assert!(due_ns < end_ns, "a day has passed");
                NOW_NS.set(due_ns.max(now_ns() + 1000));
            }
        }
    }

    /// One turn of everybody; whether anything happened.
    pub fn turn(&self) -> bool {
        let frames = |net: &Net| (net.statistics().frames_received, net.statistics().frames_sent);
        let before = (frames(&self.server), frames(&self.client));
        let ran = self.executor.run_ready();
        self.server.poll();
        self.client.poll();
        ran || self.executor.is_ready() || before != (frames(&self.server), frames(&self.client))
    }
}
