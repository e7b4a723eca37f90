//! The internet protocols, for the roles that use them.

use crate::Failure;
use alloc::string::ToString;
use libos_core::task::Executor;
use libos_core::{argument, arguments, random, time};
use libos_net::link::NicLink;
use libos_net::{Config, ConfigError, Net};

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
