//! Two cores share a link: connections are spread over them, and each core opens its own.

use embedded_io_async::{Read, Write};
use libos_core::task::Executor;
use libos_net::link::{Cores, Frame, Link, spread};
use libos_net::{Config, Interactive, IpAddress, IpEndpoint, Ipv4, Ipv6, Net};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ns() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap() + 1
}

/// Cores as threads.
#[derive(Default)]
struct Threads {
    woken: Mutex<[bool; 3]>,
    changed: Condvar,
}

impl Cores for Threads {
    fn wake(&self, core: usize) {
        self.woken.lock().unwrap()[core] = true;
        self.changed.notify_all();
    }

    fn wait(&self, core: usize, timeout: Option<Duration>, until: &mut dyn FnMut() -> bool) {
        let most = timeout.unwrap_or(Duration::MAX).min(Duration::from_millis(20));
        let woken = self.woken.lock().unwrap();
        let sleeps = |woken: &mut [bool; 3]| !core::mem::take(&mut woken[core]) && !until();
        drop(self.changed.wait_timeout_while(woken, most, sleeps).unwrap());
    }
}

type Queue = Arc<Mutex<VecDeque<Frame>>>;

/// An end of a wire between threads.
struct End {
    last: u8,
    /// Who waits at this end, and at the other.
    cores: (usize, usize),
    incoming: Queue,
    outgoing: Queue,
    threads: Arc<Threads>,
}

impl Link for End {
    fn address(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.last]
    }
    fn receive(&mut self) -> Option<Frame> {
        self.incoming.lock().unwrap().pop_front()
    }
    fn has_room(&mut self) -> bool {
        self.outgoing.lock().unwrap().len() < 256
    }
    fn send(&mut self, frame: Frame) {
        self.outgoing.lock().unwrap().push_back(frame);
        self.threads.wake(self.cores.1);
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        if self.incoming.lock().unwrap().is_empty() {
            self.threads.wait(self.cores.0, timeout, &mut || false);
        }
    }

    fn wait_or(&mut self, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) {
        let incoming = Arc::clone(&self.incoming);
        let until = &mut || !incoming.lock().unwrap().is_empty() || other();
        self.threads.wait(self.cores.0, timeout, until);
    }
}

fn config(last: u8) -> Config {
    let address = format!("10.0.0.{last}/24").parse().unwrap();
    let ipv4 = Ipv4::Static { address, router: None };
    let seed = u64::from(last);
    Config { ipv4, ipv6: Ipv6::None, ..Config::new([seed, seed + 1, seed + 2], now_ns) }
}

/// Serves on one core until all is over: each connection is told which core it is on.
fn serve(core: usize, link: impl Link + 'static, served: &AtomicUsize, over: &AtomicBool) {
    let net = Net::new(link, &config(1)).unwrap();
    let executor = Executor::new(now_ns);
    let listener = net.listen(7, 64, Interactive).unwrap();
    let tasks = executor.clone();
    executor.spawn(async move {
        loop {
            let mut stream = listener.accept().await;
            tasks.spawn(async move {
                let mut part = [0; 1000];
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    part[0] = core as u8;
                    if stream.write_all(&part[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    // This core opens a connection as well: the answers find it.
    let own = net.clone();
    let called = executor.spawn(async move {
        let to = IpEndpoint::new(IpAddress::v4(10, 0, 0, 2), 9);
        let mut stream = own.connect(to, &Interactive).await.unwrap();
        stream.write_all(&[core as u8]).await.unwrap();
        let mut got = [0; 1];
        stream.read_exact(&mut got).await.unwrap();
        got[0]
    });
    let mut called = Some(called);
    while !over.load(Ordering::Relaxed) {
        executor.run_ready();
        if let Some(mut task) = called.take() {
            match executor.now_or_never(&mut task) {
                Some(result) => assert_eq!(result, Ok(core as u8)),
                None => called = Some(task),
            }
        }
        if !net.poll() && !executor.is_ready() {
            net.wait(Some(Duration::from_millis(1)));
        }
    }
    assert!(called.is_none(), "the connection of core {core} was answered");
    served.store(net.statistics().frames_received as usize, Ordering::Relaxed);
}

#[test]
fn connections_are_spread_over_two_cores_and_each_stays_on_its_own() {
    const CLIENTS: usize = 60;
    let (to_server, to_client, threads) = (Queue::default(), Queue::default(), Arc::<Threads>::default());
    let end = |last, cores, incoming: &Queue, outgoing: &Queue| End {
        last,
        cores,
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        threads: Arc::clone(&threads),
    };
    let near = end(1, (0, 2), &to_server, &to_client);
    let client = end(2, (2, 0), &to_client, &to_server);
    let over = Arc::new(AtomicBool::new(false));
    let served: [Arc<AtomicUsize>; 2] = Default::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    let first = {
        let (over, served, waits) = (Arc::clone(&over), Arc::clone(&served[0]), Arc::clone(&threads));
        std::thread::spawn(move || {
            let (link, mut lanes) = spread(near, 2, [7, 8], waits);
            sender.send(lanes.pop().unwrap()).unwrap();
            serve(0, link, &served, &over);
        })
    };
    let second = {
        let (over, served) = (Arc::clone(&over), Arc::clone(&served[1]));
        let lane = receiver.recv().unwrap();
        std::thread::spawn(move || serve(1, lane, &served, &over))
    };
    let net = Net::new(client, &config(2)).unwrap();
    let executor = Executor::new(now_ns);
    let (listener, tasks) = (net.listen(9, 8, Interactive).unwrap(), executor.clone());
    let calls = executor.spawn(async move {
        let mut callers = Vec::new();
        for _ in 0..2 {
            let mut stream = listener.accept().await;
            let mut one = [0; 1];
            stream.read_exact(&mut one).await.unwrap();
            stream.write_all(&one).await.unwrap();
            callers.push(one[0]);
        }
        callers.sort_unstable();
        callers
    });
    let ours = net.clone();
    let counts = net.run(&executor, async move {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let net = ours.clone();
            clients.push(tasks.spawn(async move {
                let to = IpEndpoint::new(IpAddress::v4(10, 0, 0, 1), 7);
                let mut stream = net.connect(to, &Interactive).await.unwrap();
                let mut cores = Vec::new();
                for number in 0..20_u8 {
                    stream.write_all(&[number; 500]).await.unwrap();
                    let mut got = [0; 500];
                    stream.read_exact(&mut got).await.unwrap();
                    assert_eq!(got[1..], [number; 499]);
                    cores.push(got[0]);
                }
                assert!(cores.iter().all(|core| *core == cores[0]), "{cores:?}");
                usize::from(cores[0])
            }));
        }
        let mut counts = [0; 2];
        for client in clients {
            counts[client.await.unwrap()] += 1;
        }
        assert_eq!(calls.await, Ok(vec![0, 1]), "each core has called");
        tasks.sleep(Duration::from_millis(100)).await;
        counts
    });
    over.store(true, Ordering::Relaxed);
    first.join().unwrap();
    second.join().unwrap();
    assert_eq!(counts[0] + counts[1], CLIENTS);
    assert!(counts.iter().all(|count| *count > CLIENTS / 5), "{counts:?}");
    assert!(served.iter().all(|frames| frames.load(Ordering::Relaxed) > 100));
}
