//! The server, in a unikernel.

use super::secure::Secure;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use core::time::Duration;
use httpd::client::Connection;
use httpd::connection::serve;
use httpd::documents::passage;
use httpd::log::Line;
use httpd::request::Request;
use httpd::site::Site;
use libos_core::task::{Executor, Sender, channel};
use libos_core::{accounting, argument, arguments, heap, println, random, time};
use libos_fs::{CacheOptions, FsError, RingDevice, Volume};
use libos_net::link::NicLink;
use libos_net::{Config, Congestion, Interactive, Net, OwnTcp, Protocol, TcpListener, TcpPolicy, TcpStream};

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

/// The same on this project's own TCP, which keeps pages of files until they are acknowledged.
struct Files;

impl TcpPolicy for Files {
    fn receive_bytes(&self) -> usize {
        Web.receive_bytes()
    }
    fn send_bytes(&self) -> usize {
        128 * 1024
    }
    fn acknowledge_after(&self) -> Option<Duration> {
        Web.acknowledge_after()
    }
    fn congestion_control(&self) -> Congestion {
        Congestion::Cubic
    }
    fn protocol(&self) -> Box<dyn Protocol> {
        Box::new(OwnTcp::new(&self.parameters()))
    }
}

/// Runs the server. Ends only if `requests=` says so, or with an error.
pub fn main() -> Result<i32, String> {
    let wrong = |error: &dyn core::fmt::Display| format!("httpd: {error}");
    let number = |name| arguments().number(name).map_err(|error| wrong(&error));
    let port = |name| match number(name)?.map(u16::try_from) {
        None => Ok(None),
        Some(Ok(port @ 1..)) => Ok(Some(port)),
        Some(_) => Err(format!("httpd: {name}= wants a number from 1 to 65535")),
    };
    let (plain, secret) = (port("port")?.unwrap_or(80), port("tls")?);
    let blocks = number("cache")?.unwrap_or(1024).max(1) as usize;
    let backlog = number("backlog")?.unwrap_or(256).max(1) as usize;
    let most = number("requests")?;
    let every = number("counts")?;
    let quiet = argument("quiet").is_some();
    let own = match argument("stack") {
        None | Some("default") => false,
        Some("own") => true,
        Some(_) => return Err(wrong(&"stack= wants default or own")),
    };
    let disk = RingDevice::open().map_err(|error| wrong(&error))?;
    // Both builds may have as many blocks; one divides them by what it knows.
    let cached = if own { passage(blocks) } else { blocks };
    let options = CacheOptions { blocks: cached, ..CacheOptions::default() };
    let disk = Box::new(disk);
    let mounted = match cfg!(feature = "ext4") {
        true => Volume::mount(disk, options),
        false => Volume::mount_extent_fs(disk, options),
    };
    let volume = mounted.map_err(|error| match error {
        FsError::UnknownFormat if !cfg!(feature = "ext4") => {
            wrong(&"no volume of exo fs make on the disk; for ext4: exo run --features httpd/ext4 httpd")
        }
        error => wrong(&error),
    })?;
    let mut link = NicLink::open().map_err(|error| wrong(&error))?;
    if let Some(looks) = number("looks")? {
        link = link.with_looks(u32::try_from(looks).unwrap_or(u32::MAX));
    }
    let mut seed = [0; 3];
    for word in &mut seed {
        *word = random::seed().map_err(|error| wrong(&error))?;
    }
    let config = Config::new(seed, time::now_ns).with_words(argument).map_err(|error| wrong(&error))?;
    let net = Net::new(link, &config).map_err(|error| wrong(&error))?;
    let executor = Executor::new(time::now_ns);
    let mut site = Site::new(volume, blocks - cached);
    let mut listeners = Vec::new();
    if let Some(port) = secret {
        let tls = Secure::new(&mut site)?;
        listeners.push((net.listen(port, backlog, Web).map_err(|error| wrong(&error))?, Some(tls)));
    }
    let listener = if own { net.listen(plain, backlog, Files) } else { net.listen(plain, backlog, Web) };
    listeners.push((listener.map_err(|error| wrong(&error))?, None));
    let server = Server {
        site: Rc::new(site),
        net: net.clone(),
        executor: executor.clone(),
        answered: Rc::default(),
        most,
        every,
        begin: Cell::default(),
        quiet,
        own,
    };
    net.run(&executor, server.run(listeners));
    Ok(0)
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
    /// Whether connections share what they send.
    own: bool,
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
    async fn run(self, listeners: Vec<(TcpListener, Option<Secure>)>) {
        let net = self.net.clone();
        let ports: Vec<(u16, &str)> = listeners
            .iter()
            .map(|(listener, tls)| (listener.port(), if tls.is_some() { " with TLS" } else { "" }))
            .collect();
        self.executor.spawn(async move {
            let mut known = Vec::new();
            loop {
                let now = net.addresses_other_than(&known).await;
                for address in now.iter().filter(|address| !known.contains(address)) {
                    for (port, with) in &ports {
                        let end = SocketAddr::new(IpAddr::from(address.address()), *port);
                        println!("httpd: listening on {end}{with}");
                    }
                }
                known = now;
            }
        });
        self.net.address().await;
        self.begin.set(Begin { exits: exits(), heap_bytes: heap::allocated_bytes() });
        let (ended, mut end) = channel::<()>(1);
        let server = Rc::new(self);
        for (listener, tls) in listeners {
            let accepting = Rc::clone(&server).accept(listener, tls, ended.clone());
            server.executor.spawn(accepting);
        }
        end.receive().await;
        // What was answered last is sent.
        server.executor.sleep(Duration::from_millis(200)).await;
        server.report();
        server.site.volume().cache().end_reference_log();
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, tls: Option<Secure>, ended: Sender<()>) {
        loop {
            let stream = listener.accept().await;
            let client = Rc::clone(&self).serve(stream, tls.clone(), ended.clone());
            self.executor.spawn(client);
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream, tls: Option<Secure>, ended: Sender<()>) {
        let remote = stream.remote();
        let log = |request: Option<&Request>, status, bytes| {
            let request = request.map_or("", |request| &request.line);
            if !self.quiet {
                let since_start = Duration::from_nanos(time::since_boot_ns());
                println!("{}", Line { remote, since_start, request, status, bytes });
            }
            let answered = self.answered.get() + 1;
            self.answered.set(answered);
            if self.every.is_some_and(|every| answered.is_multiple_of(every)) {
                self.report();
            }
            if self.most.is_some_and(|most| answered >= most) {
                // If it is full, the end is told already.
                let _ = ended.try_send(());
            }
        };
        match tls {
            Some(tls) => tls.serve(stream, &self.site, &self.executor, log).await,
            None => {
                let mut connection = Connection { stream, shares: self.own };
                serve(&mut connection, &self.site, &self.executor, log).await;
            }
        }
    }

    fn report(&self) {
        let begin = self.begin.get();
        let (net, cache) = (self.net.statistics(), self.site.volume().cache().statistics());
        println!(
            "{{\"httpd\":{{\"requests\":{},\"frames_received\":{},\"frames_sent\":{},\"connections_polled\":{},\
             \"blocks_read\":{},\"block_misses\":{},\"metadata_blocks_read\":{},\"exits\":{},\"heap_bytes\":{},\"heap_bytes_at_start\":{},\
             \"bytes_sent\":{},\"bytes_copied\":{},\"bytes_copied_by_kernel\":{},\"bytes_summed\":{}}}}}",
            self.answered.get(),
            net.frames_received,
            net.frames_sent,
            net.connections_polled,
            cache.blocks_read,
            cache.misses,
            cache.mount_reads + cache.metadata_reads,
            exits() - begin.exits,
            heap::allocated_bytes(),
            begin.heap_bytes,
            net.tcp.bytes_sent,
            net.tcp.bytes_copied + self.site.copied.get(),
            accounting().net_bytes_copied.load(Ordering::Relaxed),
            net.tcp.bytes_summed
        );
    }
}
