//! The server, in a unikernel.

use super::secure::Secure;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use httpd::client::Connection;
use httpd::connection::serve;
use httpd::documents::passage;
use httpd::log::Line;
use httpd::request::Request;
use httpd::site::Site;
use libos_core::task::{Executor, JoinHandle, Sender, channel};
use libos_core::{accounting, argument, heap, println, random, time};
use libos_fs::{BlockDevice, CacheOptions, FsError, Volume};
use libos_net::link::Link;
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

/// The network as the command line wants it, with numbers that nobody can guess.
pub fn config() -> Result<Config, String> {
    let mut seed = [0; 3];
    for word in &mut seed {
        *word = random::seed().map_err(|error| format!("httpd: {error}"))?;
    }
    Config::new(seed, time::now_ns).with_words(argument).map_err(|error| format!("httpd: {error}"))
}

/// What the command line says.
#[derive(Clone)]
pub struct Wishes {
    pub plain: u16,
    pub secret: Option<u16>,
    pub backlog: usize,
    /// Connections of a core at most. One more, and the one goes whose last answer is longest ago.
    pub connections: usize,
    /// Blocks of files in the memory of a core.
    pub blocks: usize,
    /// Ends after so many requests.
    pub most: Option<u64>,
    /// Prints the counts after every so many requests.
    pub every: Option<u64>,
    pub quiet: bool,
    /// Whether connections share what they send.
    pub own: bool,
}

/// The site on a disk, with the memory that the command line gives a core.
pub fn site(disk: Box<dyn BlockDevice>, wishes: &Wishes) -> Result<Site, String> {
    // Both builds may have as many blocks; one divides them by what it knows.
    let blocks = wishes.blocks;
    let cached = if wishes.own { passage(blocks) } else { blocks };
    let options = CacheOptions { blocks: cached, ..CacheOptions::default() };
    let mounted = match cfg!(feature = "ext4") {
        true => Volume::mount(disk, options),
        false => Volume::mount_extent_fs(disk, options),
    };
    let volume = mounted.map_err(|error| match error {
        FsError::UnknownFormat if !cfg!(feature = "ext4") => String::from(
            "httpd: no volume of exo fs make on the disk; for ext4: exo run --features httpd/ext4 httpd",
        ),
        error => format!("httpd: {error}"),
    })?;
    Ok(Site::new(volume, blocks - cached))
}

/// What all cores have counted.
pub struct Counts {
    answered: AtomicU64,
    /// Cores that listen.
    listening: AtomicUsize,
    cores: Vec<CoreCounts>,
}

/// What one core has.
#[derive(Default)]
struct CoreCounts {
    connections: AtomicU64,
    requests: AtomicU64,
}

impl Counts {
    /// For so many cores.
    pub fn of(cores: usize) -> Arc<Counts> {
        let cores = (0..cores).map(|_| CoreCounts::default()).collect();
        Arc::new(Counts { answered: AtomicU64::new(0), listening: AtomicUsize::new(0), cores })
    }

    /// Both of each core, as further fields of the counts; nothing for one core.
    fn by_core(&self) -> String {
        if self.cores.len() == 1 {
            return String::new();
        }
        let list = |of: fn(&CoreCounts) -> &AtomicU64| {
            let numbers = self.cores.iter().map(|core| of(core).load(Ordering::Relaxed).to_string());
            numbers.collect::<Vec<_>>().join(",")
        };
        let (connections, requests) = (list(|core| &core.connections), list(|core| &core.requests));
        format!(",\"connections_by_core\":[{connections}],\"requests_by_core\":[{requests}]")
    }
}

/// Where a core serves.
pub struct Seat {
    /// Its number, from 0: the one with the network card.
    pub place: usize,
    pub wishes: Wishes,
    pub config: Config,
    pub counts: Arc<Counts>,
}

impl Seat {
    /// Serves a site on a link. Ends as the command line says.
    ///
    /// # Errors
    ///
    /// What keeps it from listening.
    pub fn serve(self, link: impl Link + 'static, mut site: Site) -> Result<(), String> {
        let wrong = |error: &dyn core::fmt::Display| format!("httpd: {error}");
        let Seat { place, wishes, config, counts } = self;
        let net = Net::new(link, &config).map_err(|error| wrong(&error))?;
        let executor = Executor::new(time::now_ns);
        let (plain, backlog) = (wishes.plain, wishes.backlog);
        let mut listeners = Vec::new();
        if let Some(port) = wishes.secret {
            let tls = Secure::new(&mut site)?;
            listeners.push((net.listen(port, backlog, Web).map_err(|error| wrong(&error))?, Some(tls)));
        }
        let listener =
            if wishes.own { net.listen(plain, backlog, Files) } else { net.listen(plain, backlog, Web) };
        listeners.push((listener.map_err(|error| wrong(&error))?, None));
        let (net_of, begin) = (net.clone(), Cell::default());
        let server = Server {
            site: Rc::new(site),
            net: net_of,
            executor: executor.clone(),
            place,
            wishes,
            counts,
            begin,
            open: Open::default(),
        };
        net.run(&executor, server.run(listeners));
        Ok(())
    }
}

/// Connections that are served, the one whose last answer is longest ago first.
#[derive(Default)]
struct Open {
    /// By a number that grows with each answer.
    served: RefCell<BTreeMap<u64, JoinHandle<()>>>,
    next: Cell<u64>,
}

impl Open {
    /// The number of what happens now.
    fn now(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// Makes room for one connection if there are so many.
    fn make_room(&self, most: usize) {
        if self.served.borrow().len() >= most {
            let oldest = self.served.borrow_mut().pop_first();
            oldest.iter().for_each(|(_, task)| task.cancel());
        }
    }

    /// A connection has had an answer.
    fn answered(&self, number: &Cell<u64>) {
        let task = self.served.borrow_mut().remove(&number.get());
        number.set(self.now());
        task.into_iter().for_each(|task| drop(self.served.borrow_mut().insert(number.get(), task)));
    }
}

struct Server {
    site: Rc<Site>,
    net: Net,
    executor: Executor,
    place: usize,
    wishes: Wishes,
    counts: Arc<Counts>,
    begin: Cell<Begin>,
    open: Open,
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
        self.counts.listening.fetch_add(1, Ordering::Relaxed);
        // One core tells for all.
        if self.place == 0 {
            self.executor.spawn(self.tell(&listeners));
        }
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

    /// Tells where the server listens, as soon as all cores do, and whenever there is another address.
    fn tell(&self, listeners: &[(TcpListener, Option<Secure>)]) -> impl Future<Output = ()> + 'static {
        let (net, counts, tasks) = (self.net.clone(), Arc::clone(&self.counts), self.executor.clone());
        let ports: Vec<(u16, &str)> = listeners
            .iter()
            .map(|(listener, tls)| (listener.port(), if tls.is_some() { " with TLS" } else { "" }))
            .collect();
        async move {
            while counts.listening.load(Ordering::Relaxed) < counts.cores.len() {
                tasks.sleep(Duration::from_millis(1)).await;
            }
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
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener, tls: Option<Secure>, ended: Sender<()>) {
        loop {
            let stream = listener.accept().await;
            self.counts.cores[self.place].connections.fetch_add(1, Ordering::Relaxed);
            self.open.make_room(self.wishes.connections);
            let number = Rc::new(Cell::new(self.open.now()));
            let client = Rc::clone(&self).serve(stream, tls.clone(), Rc::clone(&number), ended.clone());
            self.open.served.borrow_mut().insert(number.get(), self.executor.spawn(client));
        }
    }

    async fn serve(
        self: Rc<Self>,
        stream: TcpStream,
        tls: Option<Secure>,
        number: Rc<Cell<u64>>,
        ended: Sender<()>,
    ) {
        let remote = stream.remote();
        let log = |request: Option<&Request>, status, bytes| {
            let request = request.map_or("", |request| &request.line);
            if !self.wishes.quiet {
                let since_start = Duration::from_nanos(time::since_boot_ns());
                println!("{}", Line { remote, since_start, request, status, bytes });
            }
            self.open.answered(&number);
            self.counts.cores[self.place].requests.fetch_add(1, Ordering::Relaxed);
            let answered = self.counts.answered.fetch_add(1, Ordering::Relaxed) + 1;
            if self.wishes.every.is_some_and(|every| answered.is_multiple_of(every)) {
                self.report();
            }
            if self.wishes.most.is_some_and(|most| answered >= most) {
                // If it is full, the end is told already.
                let _ = ended.try_send(());
            }
        };
        match tls {
            Some(tls) => tls.serve(stream, &self.site, &self.executor, log).await,
            None => {
                let mut connection = Connection { stream, shares: self.wishes.own };
                serve(&mut connection, &self.site, &self.executor, log).await;
            }
        }
        self.open.served.borrow_mut().remove(&number.get());
    }

    fn report(&self) {
        let begin = self.begin.get();
        let (net, cache) = (self.net.statistics(), self.site.volume().cache().statistics());
        println!(
            "{{\"httpd\":{{\"requests\":{},\"frames_received\":{},\"frames_sent\":{},\"connections_polled\":{},\
             \"blocks_read\":{},\"block_misses\":{},\"metadata_blocks_read\":{},\"exits\":{},\"heap_bytes\":{},\"heap_bytes_at_start\":{},\
             \"bytes_sent\":{},\"bytes_copied\":{},\"bytes_copied_by_kernel\":{},\"bytes_summed\":{}{}}}}}",
            self.counts.answered.load(Ordering::Relaxed),
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
            net.tcp.bytes_summed,
            self.counts.by_core()
        );
    }
}
