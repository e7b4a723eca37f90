//! The server, in a unikernel.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use httpd::connection::serve;
use httpd::log::Line;
use httpd::site::Site;
use libos_core::task::{Executor, channel};
use libos_core::{accounting, argument, arguments, heap, println, random, time};
use libos_fs::{CacheOptions, RingDevice, Volume};
use libos_net::link::NicLink;
use libos_net::{Address, Config, Interactive, Net, TcpListener, TcpPolicy};

/// Answers are pages of files: what is acknowledged late makes nobody wait.
struct Web;

impl TcpPolicy for Web {
    fn receive_bytes(&self) -> usize {
        4 * 1024
    }
    fn send_bytes(&self) -> usize {
        32 * 1024
    }
    fn acknowledge_after(&self) -> Option<Duration> {
        Interactive.acknowledge_after()
    }
}

/// Runs the server. Ends only if `requests=` says so, or with an error.
pub fn main() -> Result<i32, String> {
    let wrong = |error: &dyn core::fmt::Display| format!("httpd: {error}");
    let number = |name| arguments().number(name).map_err(|error| wrong(&error));
    let port = match number("port")?.map(u16::try_from) {
        None => 80,
        Some(Ok(port @ 1..)) => port,
        Some(_) => return Err(wrong(&"port= wants a number from 1 to 65535")),
    };
    let blocks = number("cache")?.unwrap_or(1024).max(1) as usize;
    let backlog = number("backlog")?.unwrap_or(256).max(1) as usize;
    let most = number("requests")?;
    let every = number("counts")?;
    let quiet = argument("quiet").is_some();
    let disk = RingDevice::open().map_err(|error| wrong(&error))?;
    let options = CacheOptions { blocks, ..CacheOptions::default() };
    let volume = Volume::mount(Box::new(disk), options).map_err(|error| wrong(&error))?;
    let link = NicLink::open().map_err(|error| wrong(&error))?;
    let mut seed = [0; 3];
    for word in &mut seed {
        *word = random::seed().map_err(|error| wrong(&error))?;
    }
    let config = Config { address: address()?, seed, now_ns: time::now_ns };
    let net = Net::new(link, &config);
    let executor = Executor::new(time::now_ns);
    let listener = net.listen(port, backlog, Web).map_err(|error| wrong(&error))?;
    let server = Server {
        site: Rc::new(Site::new(volume)),
        net: net.clone(),
        executor: executor.clone(),
        answered: Rc::default(),
        most,
        every,
        begin: Cell::default(),
        quiet,
    };
    net.run(&executor, server.run(listener));
    Ok(0)
}

fn address() -> Result<Address, String> {
    let Some(text) = argument("address") else { return Ok(Address::Dhcp) };
    let address = text.parse().map_err(|()| {
        format!("httpd: address={text}: an address and the bits of its network are wanted: 10.0.0.2/24")
    })?;
    let router = match argument("router") {
        Some(text) => Some(text.parse().map_err(|()| format!("httpd: router={text} is no address"))?),
        None => None,
    };
    Ok(Address::Static { address, router })
}

struct Server {
    site: Rc<Site>,
    net: Net,
    executor: Executor,
    answered: Rc<Cell<u64>>,
    /// Ends after so many requests.
    most: Option<u64>,
    /// Prints the counts after every so many requests.
    every: Option<u64>,
    begin: Cell<Begin>,
    quiet: bool,
}

/// What was counted before anybody asked.
#[derive(Clone, Copy, Default)]
struct Begin {
    exits: u64,
    heap_bytes: u64,
}

/// Crossings into the exokernel so far.
fn exits() -> u64 {
    accounting().exits.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

impl Server {
    async fn run(self, listener: TcpListener) {
        let address = self.net.address().await;
        println!("httpd: listening on {}:{}", address.address(), listener.port());
        self.begin.set(Begin { exits: exits(), heap_bytes: heap::allocated_bytes() });
        let (ended, mut end) = channel::<()>(1);
        let accepting = Rc::new(self);
        let server = Rc::clone(&accepting);
        accepting.executor.spawn(async move {
            loop {
                let mut stream = listener.accept().await;
                let (server, ended) = (Rc::clone(&server), ended.clone());
                let remote = stream.remote();
                let executor = server.executor.clone();
                executor.spawn(async move {
                    let log = |request: Option<&httpd::request::Request>, status, bytes| {
                        let request = request.map_or("", |request| &request.line);
                        if !server.quiet {
                            let since_start = Duration::from_nanos(time::since_boot_ns());
                            println!("{}", Line { remote, since_start, request, status, bytes });
                        }
                        let answered = server.answered.get() + 1;
                        server.answered.set(answered);
                        if server.every.is_some_and(|every| answered.is_multiple_of(every)) {
                            server.report();
                        }
                        if server.most.is_some_and(|most| answered >= most) {
                            // If it is full, the end is told already.
                            let _ = ended.try_send(());
                        }
                    };
                    serve(&mut stream, &server.site, &server.executor, log).await;
                });
            }
        });
        end.receive().await;
        // What was answered last is sent.
        accepting.executor.sleep(Duration::from_millis(200)).await;
        accepting.report();
    }

    fn report(&self) {
        let begin = self.begin.get();
        let (net, cache) = (self.net.statistics(), self.site.volume().cache().statistics());
        println!(
            "{{\"httpd\":{{\"requests\":{},\"frames_received\":{},\"frames_sent\":{},\"connections_polled\":{},\
             \"blocks_read\":{},\"block_misses\":{},\"exits\":{},\"heap_bytes\":{},\"heap_bytes_at_start\":{}}}}}",
            self.answered.get(),
            net.frames_received,
            net.frames_sent,
            net.connections_polled,
            cache.blocks_read,
            cache.misses,
            exits() - begin.exits,
            heap::allocated_bytes(),
            begin.heap_bytes
        );
    }
}
