//! The server, in a unikernel.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::RefCell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use kv::server::{Clock, Config, Ending, Refused, Server, ended, keep_log, look_after, serve};
use libos_core::task::Executor;
use libos_core::{accounting, argument, arguments, power, println, random, time};
use libos_fs::{CacheOptions, RingDevice, Volume};
use libos_net::link::NicLink;
use libos_net::{Net, TcpListener, TcpPolicy};

/// The log, in its volume.
const LOG: &str = "/appendonly.aof";

/// Small questions and answers, many at once in a pipeline.
struct Pipelined;

impl TcpPolicy for Pipelined {
    fn receive_bytes(&self) -> usize {
        16 * 1024
    }
    fn send_bytes(&self) -> usize {
        32 * 1024
    }
}

fn wrong(error: &dyn core::fmt::Display) -> String {
    format!("kv: {error}")
}

fn number(name: &'static str) -> Result<Option<u64>, String> {
    arguments().number(name).map_err(|error| wrong(&error))
}

/// Runs the server, until it is told to end.
pub fn main() -> Result<i32, String> {
    let port = match number("port")?.map(u16::try_from) {
        None => 6379,
        Some(Ok(port @ 1..)) => port,
        Some(_) => return Err(wrong(&"port= wants a number from 1 to 65535")),
    };
    let backlog = number("backlog")?.unwrap_or(256).max(1) as usize;
    let mut seeds = [0; 8];
    for word in &mut seeds {
        *word = random::seed().map_err(|error| wrong(&error))?;
    }
    let [a, b, c, d, e, net @ ..] = seeds;
    let clock = Clock::new(time::now_ns, number("epoch")?.unwrap_or(0).saturating_mul(1000));
    let mut server = Server::new(config(port)?, clock, [a, b, c, d, e]);
    // What was recorded and is not durable yet must become so before the end.
    power::take_over();
    if argument("appendonly").is_some_and(|word| word.eq_ignore_ascii_case("yes")) {
        open_log(&mut server)?;
    }
    let link = NicLink::open().map_err(|error| wrong(&error))?;
    let net_config =
        libos_net::Config::new(net, time::now_ns).with_words(argument).map_err(|error| wrong(&error))?;
    let net = Net::new(link, &net_config).map_err(|error| wrong(&error))?;
    let executor = Executor::new(time::now_ns);
    let listener = net.listen(port, backlog, Pipelined).map_err(|error| wrong(&error))?;
    let server = Rc::new(RefCell::new(server));
    let begin = crossings();
    let ending = net.run(&executor, run(Rc::clone(&server), net.clone(), executor.clone(), listener));
    if ending == Ending::Saved
        && let Err(error) = server.borrow_mut().commit()
    {
        return Err(wrong(&format!("{LOG}: {error}: what was written last may be lost")));
    }
    match ending {
        Ending::Broken(error) => {
            Err(wrong(&format!("{LOG}: {error}; nothing that was not durable was acknowledged")))
        }
        Ending::Saved | Ending::Unsaved => {
            report(&net, crossings() - begin);
            println!("kv: ended");
            Ok(0)
        }
    }
}

/// Crossings into the exokernel so far.
fn crossings() -> u64 {
    accounting().exits.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

/// Prints what serving has cost.
fn report(net: &Net, exits: u64) {
    let (net, kernel) = (net.statistics(), accounting());
    println!(
        "{{\"kv\":{{\"exits\":{exits},\"frames_received\":{},\"frames_sent\":{},\"bytes_sent\":{},\
         \"bytes_copied\":{},\"bytes_copied_by_kernel\":{}}}}}",
        net.frames_received,
        net.frames_sent,
        net.tcp.bytes_sent,
        net.tcp.bytes_copied,
        kernel.net_bytes_copied.load(Ordering::Relaxed)
    );
}

/// What is set on the command line.
fn config(port: u16) -> Result<Config, String> {
    let mut config = Config::default();
    for name in Config::names().filter(|name| !matches!(*name, "port" | "appendonly")) {
        let Some(value) = argument(name) else { continue };
        config.set(name, value).map_err(|refused| match refused {
            Refused::Value(why) => wrong(&format!("{name}={value}: {why}")),
            Refused::Immutable | Refused::Unknown => wrong(&format!("{name}= can't be set")),
        })?;
    }
    config.port = port;
    Ok(config)
}

fn open_log(server: &mut Server) -> Result<(), String> {
    let disk = RingDevice::open().map_err(|error| wrong(&error))?;
    let blocks = number("cache")?.unwrap_or(512).max(16) as usize;
    let options = CacheOptions { blocks, ..CacheOptions::default() };
    let volume = Volume::mount_extent_fs(Box::new(disk), options).map_err(|error| wrong(&error))?;
    let start_ns = time::now_ns();
    let found = server.open_log(&volume, LOG).map_err(|error| wrong(&error))?;
    let took_ms = (time::now_ns() - start_ns) / 1_000_000;
    if found.torn > 0 {
        println!(
            "kv: {LOG}: the last {} bytes were never finished: cut off at offset {}",
            found.torn, found.whole
        );
    }
    println!(
        "kv: {LOG}: {} commands in {} groups, {} bytes, read in {took_ms} ms",
        found.commands, found.groups, found.whole
    );
    Ok(())
}

async fn run(server: Rc<RefCell<Server>>, net: Net, executor: Executor, listener: TcpListener) -> Ending {
    let address = net.address().await;
    println!("kv: listening on {}:{}", address.address(), listener.port());
    executor.spawn(keep_log(Rc::clone(&server)));
    executor.spawn(look_after(Rc::clone(&server), executor.clone(), power::is_pressed));
    let (accepting, own) = (Rc::clone(&server), executor.clone());
    executor.spawn(async move {
        loop {
            let mut stream = listener.accept().await;
            let (server, executor) = (Rc::clone(&accepting), own.clone());
            let shown =
                |end: Option<libos_net::IpEndpoint>| end.map_or_else(String::new, |end| end.to_string());
            let (remote, local) = (shown(stream.remote()), shown(stream.local()));
            own.spawn(async move { serve(&mut stream, &server, &executor, remote, local).await });
        }
    });
    let ending = ended(Rc::clone(&server), executor.clone()).await;
    // What was answered last is sent.
    executor.sleep(Duration::from_millis(50)).await;
    ending
}
