//! Ports of the machine that the host can reach: `--publish`.

use crate::error::{Error, Result};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::str::FromStr;

/// A port of the host's loopback address that leads to a port of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Port of the host; 0 is any.
    pub host: u16,
    /// Port of the machine.
    pub guest: u16,
    /// Whether it is one of UDP, not TCP.
    pub udp: bool,
}

impl Publish {
    /// The same with a port of the host that can be had now.
    ///
    /// # Errors
    ///
    /// If somebody has the port, or it is not for everybody.
    pub fn resolved(self) -> Result<Publish> {
        let address = (Ipv4Addr::LOCALHOST, self.host);
        // Let go at once: QEMU opens it again.
        let bound = if self.udp {
            UdpSocket::bind(address).and_then(|socket| socket.local_addr())
        } else {
            TcpListener::bind(address).and_then(|socket| socket.local_addr())
        };
        match bound {
            Ok(address) => Ok(Publish { host: address.port(), ..self }),
            Err(error) => Err(Error::Argument {
                what: format!("--publish {self}: port {} of 127.0.0.1 can't be had: {error}", self.host),
                fix: match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "end the program that has it (ss -lntup shows which), or take another; port 0 takes a free one"
                    }
                    io::ErrorKind::PermissionDenied => "take a port from 1024 on",
                    _ => "take another port",
                }
                .into(),
            }),
        }
    }

    /// Its protocol's name.
    pub fn protocol(self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// Option of QEMU's user network.
    pub fn forward(self) -> String {
        format!("hostfwd={}:127.0.0.1:{}-:{}", self.protocol(), self.host, self.guest)
    }

    /// What to tell the user.
    pub fn told(self) -> String {
        format!("{} port {} of the machine is 127.0.0.1:{}", self.protocol(), self.guest, self.host)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.guest, if self.udp { "/udp" } else { "" })
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Publish, String> {
        let wrong =
            || format!("{text:?} is not HOST:MACHINE, two port numbers such as 8080:80 or 5353:53/udp");
        let (ports, udp) = match text.split_once('/') {
            Some((ports, "udp")) => (ports, true),
            Some((ports, "tcp")) => (ports, false),
            Some(_) => return Err(wrong()),
            None => (text, false),
        };
        let (host, guest) = ports.split_once(':').ok_or_else(wrong)?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let (host, guest) = (port(host)?, port(guest)?);
        if guest == 0 { Err(wrong()) } else { Ok(Publish { host, guest, udp }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ports_are_inverse() {
        for word in ["8080:80", "0:1", "5353:53/udp"] {
            assert_eq!(word.parse::<Publish>().unwrap().to_string(), word);
        }
        assert_eq!("1:2/tcp".parse(), "1:2".parse::<Publish>());
        for word in ["", "80", "80:", ":80", "80:0", "99999:1", "1:2/sctp", "a:1", "1:2:3"] {
            assert!(word.parse::<Publish>().is_err(), "{word}");
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_and_zero_is_any() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let refused = Publish { host: port, guest: 80, udp: false }.resolved().unwrap_err().to_string();
        assert!(refused.contains(&format!("--publish {port}:80")) && refused.contains("in use"), "{refused}");
        drop(held);
        for udp in [false, true] {
            let any = Publish { host: 0, guest: 80, udp }.resolved().unwrap();
            assert!(any.host != 0 && any.forward().ends_with(&format!("127.0.0.1:{}-:80", any.host)));
        }
    }
}
