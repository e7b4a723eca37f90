//! What is asked of whom.

use super::programs::{redis_benchmark, wrk};
use crate::build::symbols::Symbols;
use crate::build::{Built, Source};
use crate::bundle::environments::{Environment, pack};
use crate::error::Result;
use crate::host::checkout::Checkout;
use crate::host::tap::{MACHINE, TapNetwork};
use crate::linux::servers::{Server, guest};
use crate::machine::args::MachineArgs;
use crate::machine::{Machine, direct};
use crate::served::client::{self, Question, stream};
use crate::units::Extent;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A server on libos-net, and its peer on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum App {
    /// `unikernels/httpd` beside nginx.
    Httpd,
    /// `unikernels/kv` beside redis-server.
    Kv,
    /// Bytes by TCP: `unikernels/network` beside a program of ours on Linux.
    Streams,
}

/// What a server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The unikernel directly on the machine.
    Direct,
    /// The same image under HyperExo.
    #[value(name = "hyperexo")]
    HyperExo,
    /// The peer, in a Linux guest.
    Linux,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A page of httpd.
    Page(&'static str),
    /// A command of kv.
    Command(&'static str),
    /// Bytes from the machine.
    Out,
    /// Bytes to the machine.
    In,
}

/// One kind of questions, by so many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is asked.
    pub wish: Wish,
    /// Clients at once.
    pub clients: u32,
    /// Requests of each on their way at once.
    pub pipeline: u32,
}

/// Port of the streams.
const STREAMS_PORT: u16 = 5001;

impl App {
    /// All of them.
    pub const ALL: [App; 3] = [App::Httpd, App::Kv, App::Streams];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            App::Httpd => "httpd",
            App::Kv => "kv",
            App::Streams => "streams",
        }
    }

    /// The unikernel.
    pub fn unikernel(self) -> &'static str {
        match self {
            App::Httpd => "httpd",
            App::Kv => "kv",
            App::Streams => "network",
        }
    }

    /// The peer.
    fn server(self, site: &Path) -> Server<'_> {
        match self {
            App::Httpd => Server::Nginx { site },
            App::Kv => Server::Redis,
            App::Streams => Server::Streams { port: STREAMS_PORT },
        }
    }

    /// Where both are asked.
    pub fn address(self) -> SocketAddr {
        let port = self.server(Path::new("")).port();
        SocketAddr::new(MACHINE.parse().expect("an address"), port)
    }

    /// Fetches what the peer needs.
    ///
    /// # Errors
    ///
    /// [`Error::NotOffered`](crate::error::Error::NotOffered) if it can't be had here.
    pub fn fetch_peer(self, checkout: &Checkout, site: &Path) -> Result<()> {
        guest(checkout, self.server(site), &TapNetwork::machine())?.initrd(checkout).map(drop)
    }

    /// Words of the unikernel's command line.
    fn words(self) -> &'static str {
        match self {
            App::Httpd => "quiet=1",
            App::Kv => "",
            App::Streams => "role=streams",
        }
    }

    /// What is asked of it.
    pub fn cases(self, quick: bool) -> Vec<Case> {
        let case = |wish, clients, pipeline| Case { wish, clients, pipeline };
        let mut cases = match self {
            App::Httpd => {
                let of = |page, clients: &[u32]| {
                    clients.iter().map(|clients| case(Wish::Page(page), *clients, 1)).collect::<Vec<_>>()
                };
                [of("/1k", &[1, 16, 64]), of("/64k", &[1, 16])].concat()
            }
            App::Kv => ["GET", "SET"]
                .into_iter()
                .flat_map(|command| {
                    [(1, 1), (20, 1), (20, 16)].map(|(c, p)| case(Wish::Command(command), c, p))
                })
                .collect(),
            App::Streams => [Wish::Out, Wish::In]
                .into_iter()
                .flat_map(|wish| [1, 8].map(|clients| case(wish, clients, 1)))
                .collect(),
        };
        cases.retain(|case| !quick || case.clients <= 20 && case.wish != Wish::Page("/64k"));
        cases
    }
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Direct, Mode::HyperExo, Mode::Linux];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Direct => "direct",
            Mode::HyperExo => "hyperexo",
            Mode::Linux => "linux",
        }
    }
}

impl Case {
    /// What is asked, in a word.
    pub fn asks(&self) -> &'static str {
        match self.wish {
            Wish::Page(page) => page,
            Wish::Command(command) => command,
            Wish::Out => "out",
            Wish::In => "in",
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("{}, {} clients, {} at once", self.asks(), self.clients, self.pipeline)
    }

    /// Whether its rate is one of bytes.
    pub fn is_stream(&self) -> bool {
        matches!(self.wish, Wish::Out | Wish::In)
    }

    /// Whether bytes come to the machine.
    pub fn is_in(&self) -> bool {
        self.wish == Wish::In
    }

    /// What is asked of a server of streams.
    pub fn direction(&self) -> u8 {
        if self.is_in() { linux_init::TAKE } else { linux_init::GIVE }
    }

    /// One request of it; none of a stream.
    pub fn question(&self) -> Option<Question> {
        match self.wish {
            Wish::Page(page) => Some(Question {
                request: format!("GET {page} HTTP/1.1\r\nHost: {MACHINE}\r\n\r\n").into_bytes(),
                answered: client::http,
            }),
            Wish::Command("GET") => {
                Some(Question { request: command(&["GET", KEY]), answered: client::redis })
            }
            Wish::Command(_) => {
                Some(Question { request: command(&["SET", KEY, "xxx"]), answered: client::redis })
            }
            Wish::Out | Wish::In => None,
        }
    }

    /// What must have been asked before.
    pub fn first(&self) -> Option<Question> {
        let set = Case { wish: Wish::Command("SET"), ..*self };
        matches!(self.wish, Wish::Command("GET")).then(|| set.question()).flatten()
    }

    /// Asks as fast as can be: requests a second, bytes a second of a stream.
    pub fn rate(&self, address: SocketAddr, duration: Duration) -> Result<f64> {
        match self.wish {
            Wish::Page(page) => wrk(address, page, self.clients, duration),
            Wish::Command(command) => {
                if let Some(first) = self.first() {
                    client::ask(address, &first, 1, 1, 1)?;
                }
                // It ends after so many requests: first some, to see how many make up the time.
                let some = u64::from(1000 * self.pipeline);
                let rate = redis_benchmark(address, command, self.clients, self.pipeline, some)?;
                let all = (rate * duration.as_secs_f64()) as u64;
                redis_benchmark(address, command, self.clients, self.pipeline, all.max(some))
            }
            Wish::Out | Wish::In => stream(address, self.direction(), self.clients, duration),
        }
    }
}

/// The key that `redis-benchmark` uses.
const KEY: &str = "key:__rand_int__";

/// A command of the Redis protocol.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| bytes += &format!("${}\r\n{word}\r\n", word.len()));
    bytes.into_bytes()
}

/// The machines of one server.
pub struct Machines<'a> {
    /// The checkout.
    pub checkout: &'a Checkout,
    /// The images.
    pub built: &'a Built,
    /// Which of them is the server's.
    pub index: usize,
    /// The server.
    pub app: App,
    /// The pages for nginx.
    pub site: &'a Path,
    /// The machine, with its network.
    pub args: MachineArgs,
}

impl Machines<'_> {
    /// The machine of a mode, which counts instructions if `icount` says how; `words` are further ones
    /// for the unikernel.
    pub fn machine(&self, mode: Mode, icount: Option<&str>, words: &str) -> Result<Machine> {
        let mut args = self.args.clone();
        if let Some(icount) = icount {
            args.icount = Some(icount.to_owned());
        }
        let image = std::slice::from_ref(&self.built.apps[self.index]);
        let label = self.app.unikernel().to_owned();
        let words = format!("{} {} {words}", TapNetwork::word(), self.app.words());
        let environment = Environment::new(label.clone(), Source::Member(label), words.trim().into());
        match mode {
            Mode::Direct => direct::machine(self.checkout, &image[0], &environment, &args),
            Mode::HyperExo => {
                let environment = Environment { extent: Some(Extent::ALL), ..environment };
                let supply = args.supply();
                let (kernel, symbols) = (&self.built.kernel, &mut Symbols::default());
                let bundle = pack(self.checkout, kernel, image, &[environment], &supply, symbols)?;
                args.machine(&self.built.kernel_file, &bundle)
            }
            Mode::Linux => {
                args.disk = None;
                let server = self.app.server(self.site);
                guest(self.checkout, server, &TapNetwork::machine())?.machine(self.checkout, &args)
            }
        }
    }
}
