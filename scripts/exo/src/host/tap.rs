//! A network of this host's own for a machine: a network namespace, and a tap device in it.
//!
//! ```text
//!  host's networks │ namespace
//!                  │   lo 127.0.0.1
//!                  │   hx0, the tap: 10.78.0.1/24 ── virtio-net ── the machine: 10.78.0.2
//! ```
//!
//! The namespace has no name. It lives for as long as something of it is open: this value, or a process in
//! it. So nothing is left behind, however this tool ends, and two of them never meet.

use crate::error::{Error, Result};
use crate::host::programs::program_path;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// The tap device.
pub const TAP: &str = "hx0";
/// The host's address in the namespace.
pub const HOST: &str = "10.78.0.1";
/// The machine's address, which it gives itself.
pub const MACHINE: &str = "10.78.0.2";
/// Bits of both that are the network's.
const BITS: u32 = 24;
/// The namespace of the thread that looks.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace with a tap device.
pub struct TapNetwork {
    namespace: File,
}

impl TapNetwork {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// [`Error::NotOffered`] where the system does not permit it, or has no `ip`: it is for root.
    pub fn new() -> Result<TapNetwork> {
        let not_offered =
            |why: String| Error::NotOffered { what: "a network namespace with a tap device".into(), why };
        if program_path("ip").is_none() {
            return Err(not_offered("there is no ip (apt-get install iproute2)".into()));
        }
        // Of this thread alone, which ends with it.
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
                let namespace = File::open(OWN).map_err(|error| error.to_string())?;
                let host = format!("{HOST}/{BITS}");
                ip(&["link", "set", "lo", "up"])?;
                ip(&["tuntap", "add", "dev", TAP, "mode", "tap"])?;
                ip(&["addr", "add", &host, "dev", TAP])?;
                // An address that the host gives itself comes a second later; a browser then takes what it
                // waits for as lost, since the network has changed.
                ip(&["link", "set", "dev", TAP, "addrgenmode", "none"])?;
                ip(&["link", "set", TAP, "up"])?;
                Ok(namespace)
            });
            thread.join().unwrap_or_else(|_| Err("the thread that made it has panicked".into()))
        });
        made.map(|namespace| TapNetwork { namespace }).map_err(not_offered)
    }

    /// What the machine's own address is on its command line.
    pub fn word() -> String {
        format!("address={MACHINE}/{BITS}")
    }

    /// The machine's address with the bits of its network.
    pub fn machine() -> String {
        format!("{MACHINE}/{BITS}")
    }

    /// Value of `--net`.
    pub fn net() -> String {
        format!("tap:{TAP}")
    }

    /// Runs `work` in a thread that is in the namespace, as are all threads and children that it starts.
    ///
    /// # Panics
    ///
    /// If `work` does, or if the namespace, which is there, can't be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the namespace is open");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Whether the calling thread's namespace has a network device of this name. `/sys` would tell of the
/// namespace in which it was mounted.
pub fn has_device(name: &str) -> bool {
    let table = std::fs::read_to_string(Path::new("/proc/thread-self/net/dev")).unwrap_or_default();
    table.lines().filter_map(|line| line.split_once(':')).any(|(device, _)| device.trim() == name)
}

fn ip(arguments: &[&str]) -> std::result::Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_device_and_nobody_else_sees_it() {
        let made = TapNetwork::new();
        if !host_needs::permission(
            "a_namespace_has_its_device_and_nobody_else_sees_it",
            "leave to make network namespaces and taps",
            made.is_ok(),
        ) {
            return;
        }
        let network = made.unwrap();
        assert!(has_device("lo") && !has_device(TAP));
        let found = network.within(|| {
            // Children are there, too.
            let shown = Command::new("ip").args(["addr", "show", "dev", TAP]).output().unwrap();
            (has_device(TAP), String::from_utf8_lossy(&shown.stdout).into_owned())
        });
        assert!(found.0 && found.1.contains("10.78.0.1/24"), "{found:?}");
        assert!(!has_device(TAP));
    }
}
