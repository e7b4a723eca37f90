//! What the network of a machine is connected to: `--net`.

use crate::error::{Error, Result};
use crate::host::tap;
use crate::machine::publish::Publish;
use crate::machine::{Board, escape, text};
use std::path::{Path, PathBuf};

/// The far side of a machine's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// There is no network.
    #[default]
    None,
    /// Nothing: the environments reach each other, by the exokernel alone.
    Loopback,
    /// QEMU's own host and name server, 10.0.2.2 and 10.0.2.3, cut off from the host and the world but for
    /// these ports.
    User(Vec<Publish>),
    /// A tap device of the host, which is there.
    Tap(String),
    /// Another program: a datagram socket in the file system for each direction, a packet a datagram.
    Datagram {
        /// Made by QEMU, which receives here.
        local: PathBuf,
        /// Where QEMU sends.
        remote: PathBuf,
    },
}

/// Name of the network's back end in QEMU.
const BACK_END: &str = "n0";

impl Network {
    /// Whether environments get hardware addresses.
    pub fn is_on(&self) -> bool {
        *self != Network::None
    }

    /// The published ports.
    pub fn published(&self) -> &[Publish] {
        match self {
            Network::User(ports) => ports,
            _ => &[],
        }
    }

    /// Whether the machine has a network device.
    pub fn has_device(&self) -> bool {
        !matches!(self, Network::None | Network::Loopback)
    }

    /// The same with published ports that can be had.
    ///
    /// # Errors
    ///
    /// If a port can't be had, if it is no user network, or if a tap device is not there.
    pub fn prepared(&self, publish: &[Publish]) -> Result<Network> {
        match self {
            Network::User(_) => {
                publish.iter().map(|port| port.resolved()).collect::<Result<_>>().map(Network::User)
            }
            other if !publish.is_empty() => Err(Error::Argument {
                what: format!("--publish {} with --net {other}", publish[0]),
                fix: "ports are published by --net user; on other networks the machine is reached by its address".into(),
            }),
            Network::Tap(name) if !tap::has_device(name) => Err(Error::Argument {
                what: format!("--net tap:{name}: there is no network device {name}"),
                fix: format!("make it, as root: ip tuntap add dev {name} mode tap && ip link set {name} up"),
            }),
            other => Ok(other.clone()),
        }
    }

    /// Arguments for QEMU; none without a device. `dumped` if all packets are written to a file: QEMU
    /// would write what the device and a tap tell each other about a packet before each, which nobody
    /// reads. So they then leave nothing to each other.
    pub fn arguments(&self, board: Board, dumped: bool) -> Vec<String> {
        let back_end = match self {
            Network::None | Network::Loopback => return vec![],
            Network::User(publish) => {
                let forward = publish.iter().map(|port| format!(",{}", port.forward())).collect::<String>();
                format!("user,id={BACK_END},restrict=on{forward}")
            }
            Network::Tap(name) => {
                let headers = if dumped { ",vnet_hdr=off" } else { "" };
                format!("tap,id={BACK_END},ifname={name},script=no,downscript=no{headers}")
            }
            Network::Datagram { local, remote } => format!(
                "dgram,id={BACK_END},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                escape(local),
                escape(remote)
            ),
        };
        let device = match board {
            // Without a ROM to boot from: nothing here boots from the network, and it takes time.
            Board::Q35 | Board::Pc => format!("virtio-net-pci,netdev={BACK_END},romfile="),
            Board::Microvm => format!("virtio-net-device,netdev={BACK_END}"),
        };
        ["-netdev".into(), back_end, "-device".into(), device].into()
    }
}

/// Arguments for QEMU that have it write all packets to a file.
pub fn dump(file: &Path) -> [String; 2] {
    ["-object".into(), format!("filter-dump,id=f0,netdev={BACK_END},file={}", escape(file))]
}

/// Whether the host could have a network device of this name.
fn is_device_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/,:".contains(&byte))
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Network::None => f.write_str("none"),
            Network::Loopback => f.write_str("loopback"),
            Network::User(_) => f.write_str("user"),
            Network::Tap(name) => write!(f, "tap:{name}"),
            Network::Datagram { local, remote } => write!(f, "dgram:{}:{}", text(local), text(remote)),
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Network, String> {
        let paths = word.strip_prefix("dgram:").and_then(|paths| paths.split_once(':'));
        match (word, paths) {
            ("none", _) => Ok(Network::None),
            ("loopback", _) => Ok(Network::Loopback),
            ("user", _) => Ok(Network::User(Vec::new())),
            (tap, _) if tap.strip_prefix("tap:").is_some_and(is_device_name) => {
                Ok(Network::Tap(tap[4..].into()))
            }
            (_, Some((local, remote))) if !local.is_empty() && !remote.is_empty() => {
                Ok(Network::Datagram { local: local.into(), remote: remote.into() })
            }
            _ => Err(format!("{word:?} is none of none, loopback, user, tap:NAME and dgram:LOCAL:REMOTE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_networks_are_inverse() {
        for word in ["none", "loopback", "user", "tap:t0", "dgram:/a/b:/c"] {
            assert_eq!(word.parse::<Network>().unwrap().to_string(), word);
        }
        for word in [
            "",
            "tap",
            "tap:",
            "tap:a,b",
            "tap:sixteen-letters-",
            "dgram",
            "dgram:",
            "dgram:/a",
            "dgram::/a",
            "dgram:/a:",
        ] {
            assert!(word.parse::<Network>().is_err(), "{word}");
        }
    }

    #[test]
    fn networks_are_described() {
        assert!(Network::Loopback.arguments(Board::Q35, false).is_empty() && Network::Loopback.is_on());
        assert!(!Network::default().is_on());
        assert_eq!(Network::User(Vec::new()).arguments(Board::Q35, false)[1], "user,id=n0,restrict=on");
        let web = "8080:80".parse().unwrap();
        assert_eq!(
            Network::User(vec![web]).arguments(Board::Q35, false)[1],
            "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80"
        );
        assert_eq!(
            Network::Tap("t0".into()).arguments(Board::Pc, false)[1],
            "tap,id=n0,ifname=t0,script=no,downscript=no"
        );
        let dumped = Network::Tap("t0".into()).arguments(Board::Pc, true);
        assert!(dumped[1].ends_with(",vnet_hdr=off"), "{dumped:?}");
        let refused = Network::Loopback.prepared(&[web]).unwrap_err().to_string();
        assert!(refused.contains("--publish 8080:80 with --net loopback"), "{refused}");
        let absent = Network::Tap("no-such-tap".into()).prepared(&[]).unwrap_err().to_string();
        assert!(absent.contains("no network device no-such-tap"), "{absent}");
        let datagram: Network = "dgram:/a,b:/c".parse().unwrap();
        let expected = "dgram,id=n0,local.type=unix,local.path=/a,,b,remote.type=unix,remote.path=/c";
        assert_eq!(datagram.arguments(Board::Microvm, false)[3], "virtio-net-device,netdev=n0");
        assert_eq!(datagram.arguments(Board::Microvm, false)[1], expected);
    }
}
