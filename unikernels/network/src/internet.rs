//! The internet protocols, for the roles that use them.

use crate::Failure;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use libos_core::task::Executor;
use libos_core::{argument, arguments, random, time};
use libos_net::link::NicLink;
use libos_net::{Config, ConfigError, Interactive, IpEndpoint, Net, TcpStream};

/// How long a server has to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait before it is looked for again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an attempt may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The network with the addresses of the command line, and what runs tasks on it.
pub fn open() -> Result<(Net, Executor), Failure> {
    let mut seed = [0; 3];
    for word in &mut seed {
        *word = random::seed().map_err(|error| Failure::Stream(error.to_string()))?;
    }
    let failed = |error: ConfigError| Failure::Config(error.to_string());
    let config = Config::new(seed, time::now_ns).with_words(argument).map_err(failed)?;
    Ok((Net::new(NicLink::open()?, &config).map_err(failed)?, Executor::new(time::now_ns)))
}

/// The port of the command line.
pub fn port(default: u16) -> Result<u16, Failure> {
    let number = arguments().number("port").ok().map(|number| number.unwrap_or(u64::from(default)));
    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    port.ok_or(Failure::Word("port=N: 1 to 65535"))
}

/// Connects as soon as the server is there.
pub async fn connect(net: &Net, executor: &Executor, remote: IpEndpoint) -> Result<TcpStream, String> {
    let end_ns = executor.now_ns() + PATIENCE.as_nanos() as u64;
    loop {
        let attempt = executor.within(LIMIT, net.connect(remote, &Interactive)).await;
        match attempt {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) if executor.now_ns() >= end_ns => return Err(error.to_string()),
            None => return Err(format!("{remote} does not answer")),
            Some(Err(_)) => executor.sleep(PAUSE).await,
        }
    }
}
