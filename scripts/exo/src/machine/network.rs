//! What the network of a machine is connected to: `--net`.

use crate::machine::{Board, escape, text};
use std::path::PathBuf;

/// The far side of a machine's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// There is no network.
    #[default]
    None,
    /// Nothing: the environments reach each other, by the exokernel alone.
    Loopback,
    /// QEMU's own host and name server, 10.0.2.2 and 10.0.2.3, cut off from the host and the world.
    User,
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

    /// Arguments for QEMU; none without a device.
    pub fn arguments(&self, board: Board) -> Vec<String> {
        let back_end = match self {
            Network::None | Network::Loopback => return vec![],
            Network::User => format!("user,id={BACK_END},restrict=on"),
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

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Network::None => f.write_str("none"),
            Network::Loopback => f.write_str("loopback"),
            Network::User => f.write_str("user"),
            Network::Datagram { local, remote } => write!(f, "dgram:{}:{}", text(local), text(remote)),
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(word: &str) -> Result<Network, String> {
        let paths = word.strip_prefix("dgram:").and_then(|paths| paths.split_once(':'));
        match (word, paths) {
            ("none", _) => Ok(Network::None),
            ("loopback", _) => Ok(Network::Loopback),
            ("user", _) => Ok(Network::User),
            (_, Some((local, remote))) if !local.is_empty() && !remote.is_empty() => {
                Ok(Network::Datagram { local: local.into(), remote: remote.into() })
            }
            _ => Err(format!("{word:?} is none of none, loopback, user and dgram:LOCAL:REMOTE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_networks_are_inverse() {
        for word in ["none", "loopback", "user", "dgram:/a/b:/c"] {
            assert_eq!(word.parse::<Network>().unwrap().to_string(), word);
        }
        for word in ["", "tap", "dgram", "dgram:", "dgram:/a", "dgram::/a", "dgram:/a:"] {
            assert!(word.parse::<Network>().is_err(), "{word}");
        }
    }

    #[test]
    fn networks_are_described() {
        assert!(Network::Loopback.arguments(Board::Q35).is_empty() && Network::Loopback.is_on());
        assert!(!Network::default().is_on());
        assert_eq!(Network::User.arguments(Board::Q35)[1], "user,id=n0,restrict=on");
        let datagram: Network = "dgram:/a,b:/c".parse().unwrap();
        let expected = "dgram,id=n0,local.type=unix,local.path=/a,,b,remote.type=unix,remote.path=/c";
        assert_eq!(datagram.arguments(Board::Microvm)[3], "virtio-net-device,netdev=n0");
        assert_eq!(datagram.arguments(Board::Microvm)[1], expected);
    }
}
