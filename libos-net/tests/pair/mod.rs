//! Two stacks on a wire in one program, with a clock that moves only when nobody has anything to do.

mod slow;
pub mod strangers;

use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_net::link::{Faults, Faulty, Offloads, wire};
use libos_net::{Config, Congestion, IpEndpoint, Ipv4, Ipv6, Net, OwnTcp, Protocol, SmolTcp, TcpPolicy};
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

pub fn now_ns() -> u64 {
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
    /// When a frame arrives on a slow wire.
    arrivals: slow::Arrivals,
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
        Pair::of(
            Net::new(Faulty::new(one, faults, seed), server).unwrap(),
            Net::new(Faulty::new(two, faults, seed + 1000), client).unwrap(),
        )
    }

    /// These two, which have a link.
    pub fn of(server: Net, client: Net) -> Pair {
        Pair { server, client, executor: Executor::new(now_ns), arrivals: Default::default() }
    }

    /// A wire with delay: frames take so many microseconds, and a byte so many nanoseconds.
    pub fn slow(faults: Faults, seed: u64, delay_us: u64, ns_a_byte: u64, mtu: usize) -> Pair {
        let (one, two) = wire(4096);
        let arrivals = slow::Arrivals::default();
        let slow = |end, seed| {
            let slow = slow::Slow::new(end, delay_us * 1000, ns_a_byte, 14 + mtu, arrivals.clone());
            Faulty::new(slow, faults, seed)
        };
        Pair {
            server: Net::new(slow(one, seed), &config(1)).unwrap(),
            client: Net::new(slow(two, seed + 1000), &config(2)).unwrap(),
            executor: Executor::new(now_ns),
            arrivals,
        }
    }

    /// The server gives back on port 7 what it gets, to so many who ask at once and to all who have come.
    pub fn serve_echo(&self, backlog: usize, policy: impl TcpPolicy + 'static) {
        let listener = self.server.listen(7, backlog, policy).unwrap();
        let executor = self.executor.clone();
        self.executor.spawn(async move {
            loop {
                let mut stream = listener.accept().await;
                executor.spawn(async move {
                    let mut part = [0; 2000];
                    while let Ok(count @ 1..) = stream.read(&mut part).await {
                        if stream.write_all(&part[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
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
                let arrival_ns = self.arrivals.get().filter(|ns| *ns > now_ns());
                let due =
                    [self.server.due_ns(), self.client.due_ns(), self.executor.next_timer_ns(), arrival_ns];
                let due_ns = due.into_iter().flatten().min().expect("somebody waits for a time");
                assert!(due_ns < end_ns, "a day has passed");
                NOW_NS.set(due_ns.max(now_ns() + 1000));
            }
        }
    }

    /// One turn of everybody; whether anything happened.
    pub fn turn(&self) -> bool {
        let before = (self.server.frames(), self.client.frames());
        let ran = self.executor.run_ready();
        self.server.poll();
        self.client.poll();
        ran || self.executor.is_ready() || before != (self.server.frames(), self.client.frames())
    }
}

/// A policy with the protocol of this project, or with that of smoltcp.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub own: bool,
    pub congestion: Congestion,
    pub receive_bytes: usize,
    pub send_bytes: usize,
}

impl Variant {
    pub const SMOL: Variant =
        Variant { own: false, congestion: Congestion::Reno, receive_bytes: 64 * 1024, send_bytes: 64 * 1024 };
    pub const OWN: Variant = Variant { own: true, ..Variant::SMOL };
    pub const CUBIC: Variant = Variant { congestion: Congestion::Cubic, ..Variant::OWN };

    /// Who serves and who asks: all in which our own has a part.
    pub const PAIRS: [(Variant, Variant); 4] = [
        (Variant::OWN, Variant::SMOL),
        (Variant::SMOL, Variant::OWN),
        (Variant::OWN, Variant::OWN),
        (Variant::CUBIC, Variant::OWN),
    ];
}

impl TcpPolicy for Variant {
    fn receive_bytes(&self) -> usize {
        self.receive_bytes
    }
    fn send_bytes(&self) -> usize {
        self.send_bytes
    }
    fn congestion_control(&self) -> Congestion {
        self.congestion
    }
    fn protocol(&self) -> Box<dyn Protocol> {
        match self.own {
            true => Box::new(OwnTcp::new(&self.parameters())),
            false => Box::new(SmolTcp::new(&self.parameters())),
        }
    }
}
