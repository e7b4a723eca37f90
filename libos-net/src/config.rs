//! How the network of a program begins.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

/// Where the address of IPv4 comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4 {
    /// There is none.
    None,
    /// From the network, by DHCP (RFC 2131).
    Dhcp,
    /// From the application.
    Static {
        /// The address, and how many of its bits are those of the network.
        address: Ipv4Cidr,
        /// The way to other networks.
        router: Option<Ipv4Address>,
    },
}

/// Where the addresses of IPv6 come from. Unless there are none, there is always one of the link too, made
/// of the hardware address. Each is used only after nobody on the link has said that it is his (RFC 4862,
/// section 5.4), which takes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// There are none.
    None,
    /// From the prefixes that routers announce (RFC 4862).
    Slaac,
    /// From the application.
    Static {
        /// The address, and how many of its bits are those of the network.
        address: Ipv6Cidr,
        /// The way to other networks.
        router: Option<Ipv6Address>,
    },
}

/// How a stack begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address of IPv4.
    pub ipv4: Ipv4,
    /// Its addresses of IPv6.
    pub ipv6: Ipv6,
    /// Whom to ask for names, before those that the network names.
    pub resolvers: Vec<IpAddress>,
    /// Bytes of the longest packet, without the header of Ethernet; `None`: as long as the link carries.
    pub mtu: Option<usize>,
    /// Numbers that nobody outside can guess: for sequence numbers, ports, and the key of the table of flows.
    /// In a unikernel from [`libos_core::random`].
    pub seed: [u64; 3],
    /// A clock in nanoseconds that never goes back. In a unikernel [`libos_core::time::now_ns`].
    pub now_ns: fn() -> u64,
}

impl Config {
    /// Addresses of both kinds from the network.
    pub fn new(seed: [u64; 3], now_ns: fn() -> u64) -> Config {
        Config { ipv4: Ipv4::Dhcp, ipv6: Ipv6::Slaac, resolvers: Vec::new(), mtu: None, seed, now_ns }
    }

    /// Follows the words of a command line; `word` returns the value of one, if it was given.
    ///
    /// | word | what |
    /// |---|---|
    /// | `address=A/BITS` | its address of IPv4, such as 10.0.0.2/24, or `dhcp` (as if not given), or `none` |
    /// | `router=A` | the way to other networks, with `address=A/BITS` |
    /// | `address6=A/BITS` | its address of IPv6, or `slaac` (as if not given), or `none` |
    /// | `router6=A` | the way to other networks, with `address6=A/BITS` |
    /// | `resolver=A` | whom to ask for names |
    /// | `mtu=N` | bytes of the longest packet, from 576 (with IPv6 from 1280) to 9000 |
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn with_words<'a>(mut self, word: impl Fn(&str) -> Option<&'a str>) -> Result<Config, ConfigError> {
        let router = match word("router") {
            Some(text) => Some(text.parse().map_err(|_| wrong("router", text, "such as 10.0.0.1"))?),
            None => None,
        };
        self.ipv4 = match (word("address"), router) {
            (Some("none"), None) => Ipv4::None,
            (None | Some("dhcp"), None) => Ipv4::Dhcp,
            (None | Some("dhcp" | "none"), Some(_)) => return Err(ConfigError::RouterAlone("router")),
            (Some(text), router) => {
                let example = "an address and the bits of its network, such as 10.0.0.2/24";
                let address = text.parse().map_err(|()| wrong("address", text, example))?;
                Ipv4::Static { address, router }
            }
        };
        let router = match word("router6") {
            Some(text) => Some(text.parse().map_err(|_| wrong("router6", text, "such as fe80::1"))?),
            None => None,
        };
        self.ipv6 = match (word("address6"), router) {
            (Some("none"), None) => Ipv6::None,
            (None | Some("slaac"), None) => Ipv6::Slaac,
            (None | Some("slaac" | "none"), Some(_)) => return Err(ConfigError::RouterAlone("router6")),
            (Some(text), router) => {
                let example = "an address and the bits of its network, such as fd00::2/64";
                let address = text.parse().map_err(|()| wrong("address6", text, example))?;
                Ipv6::Static { address, router }
            }
        };
        if let Some(text) = word("resolver") {
            let resolver = text.parse().map_err(|()| wrong("resolver", text, "an address, such as 10.0.0.1"));
            self.resolvers.push(resolver?);
        }
        if let Some(text) = word("mtu") {
            let bytes = text.parse().map_err(|_| wrong("mtu", text, "a number of bytes"))?;
            self.mtu = Some(bytes);
        }
        self.check()?;
        Ok(self)
    }

    /// Whether a stack can begin like this.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let unicast = |cidr: IpCidr| match cidr.address().is_unicast() {
            true => Ok(()),
            false => Err(ConfigError::NotUnicast(cidr.address())),
        };
        if let Ipv4::Static { address, router } = self.ipv4 {
            unicast(IpCidr::Ipv4(address))?;
            if let Some(router) = router.filter(|router| !address.contains_addr(router)) {
                return Err(ConfigError::RouterElsewhere(router.into(), IpCidr::Ipv4(address)));
            }
        }
        if let Ipv6::Static { address, router } = self.ipv6 {
            unicast(IpCidr::Ipv6(address))?;
            let near = |router: &Ipv6Address| router.is_unicast_link_local() || address.contains_addr(router);
            if let Some(router) = router.filter(|router| !near(router)) {
                return Err(ConfigError::RouterElsewhere(router.into(), IpCidr::Ipv6(address)));
            }
        }
        let least = if self.ipv6 == Ipv6::None { LEAST_MTU } else { LEAST_MTU_6 };
        match self.mtu {
            Some(bytes) if !(least..=MOST_MTU).contains(&bytes) => Err(ConfigError::Mtu { bytes, least }),
            _ => Ok(()),
        }
    }
}

/// What every host must be able to take by IPv4 (RFC 791).
const LEAST_MTU: usize = 576;
/// What every link must carry for IPv6 (RFC 8200, section 5).
const LEAST_MTU_6: usize = 1280;
/// What goes into jumbo frames of Ethernet.
const MOST_MTU: usize = 9000;

fn wrong(word: &'static str, value: &str, wanted: &'static str) -> ConfigError {
    ConfigError::Word { word, value: value.to_string(), wanted }
}

/// Why a network can't begin as it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A word has a value that makes no sense.
    Word {
        /// Its name.
        word: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// A router is named without an address of our own.
    RouterAlone(&'static str),
    /// The router can't be reached from the address.
    RouterElsewhere(IpAddress, IpCidr),
    /// No machine can have this address for its own.
    NotUnicast(IpAddress),
    /// Packets of this length are not possible.
    Mtu {
        /// The length.
        bytes: usize,
        /// The least that is.
        least: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Word { word, value, wanted } => write!(f, "{word}={value}: wanted is {wanted}"),
            ConfigError::RouterAlone(word) => {
                let address = if *word == "router" { "address=A/BITS" } else { "address6=A/BITS" };
                write!(f, "{word}= needs {address}: otherwise the network names the router")
            }
            ConfigError::RouterElsewhere(router, address) => {
                write!(f, "the router {router} is not in the network of {address}")
            }
            ConfigError::NotUnicast(address) => write!(f, "{address} can't be the address of a machine"),
            ConfigError::Mtu { bytes, least } => {
                write!(f, "packets of {bytes} bytes: possible are {least} to {MOST_MTU}")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(words: &[(&str, &'static str)]) -> Result<Config, ConfigError> {
        let config = Config::new([1, 2, 3], || 0);
        config.with_words(|name| words.iter().find(|(word, _)| *word == name).map(|(_, value)| *value))
    }

    #[test]
    fn words_say_where_addresses_come_from() {
        let automatic = config(&[]).unwrap();
        assert_eq!((automatic.ipv4, automatic.ipv6), (Ipv4::Dhcp, Ipv6::Slaac));
        let mine = config(&[
            ("address", "10.0.0.2/24"),
            ("router", "10.0.0.1"),
            ("address6", "fd00::2/64"),
            ("router6", "fe80::1"),
            ("resolver", "10.0.0.3"),
            ("mtu", "1400"),
        ]);
        let mine = mine.unwrap();
        let router = Some(Ipv4Address::new(10, 0, 0, 1));
        assert_eq!(mine.ipv4, Ipv4::Static { address: "10.0.0.2/24".parse().unwrap(), router });
        let router = Some("fe80::1".parse().unwrap());
        assert_eq!(mine.ipv6, Ipv6::Static { address: "fd00::2/64".parse().unwrap(), router });
        assert_eq!((mine.resolvers.len(), mine.mtu), (1, Some(1400)));
        assert_eq!(
            config(&[("address", "none"), ("address6", "none"), ("mtu", "576")]).unwrap().ipv6,
            Ipv6::None
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_word_of_why() {
        for (words, expected) in [
            (&[("address", "10.0.0.2")][..], "address=10.0.0.2: wanted is an address and the bits"),
            (&[("address", "224.0.0.1/4")], "224.0.0.1 can't be the address of a machine"),
            (&[("router", "10.0.0.1")], "router= needs address=A/BITS"),
            (&[("address6", "none"), ("router6", "fe80::1")], "router6= needs address6=A/BITS"),
            (
                &[("address", "10.0.0.2/24"), ("router", "10.0.1.1")],
                "10.0.1.1 is not in the network of 10.0.0.2",
            ),
            (
                &[("address6", "fd00::2/64"), ("router6", "fd01::1")],
                "fd01::1 is not in the network of fd00::2",
            ),
            (&[("mtu", "1279")], "packets of 1279 bytes: possible are 1280 to 9000"),
            (&[("mtu", "9001"), ("address6", "none")], "possible are 576 to 9000"),
            (&[("mtu", "much")], "mtu=much: wanted is a number of bytes"),
            (&[("resolver", "dns")], "resolver=dns: wanted is an address"),
        ] {
            let error = config(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
