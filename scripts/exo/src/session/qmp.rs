//! QEMU's control socket: reading the counters of its block devices, ending it, and seeing why it ends.

use crate::error::{Error, Result};
use crate::machine::DRIVE;
use serde::Deserialize;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Counters of a block device as QEMU keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BlockStats {
    /// Bytes read.
    pub rd_bytes: u64,
    /// Bytes written.
    pub wr_bytes: u64,
    /// Read requests.
    pub rd_operations: u64,
    /// Write requests.
    pub wr_operations: u64,
    /// Flush requests.
    pub flush_operations: u64,
    /// Read requests that failed.
    pub failed_rd_operations: u64,
    /// Write requests that failed.
    pub failed_wr_operations: u64,
}

/// A connection to the control socket.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Qmp {
    /// Connects and says hello.
    pub fn connect(socket: &Path) -> Result<Qmp> {
        let failed = |error: std::io::Error| Error::Qmp(format!("{}: {error}", socket.display()));
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut qmp = Qmp { reader: BufReader::new(stream) };
        qmp.receive()?;
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Connects to a QEMU that has just been started: waits for its socket.
    pub fn connect_when_ready(socket: &Path) -> Result<Qmp> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Qmp::connect(socket) {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                done => return done,
            }
        }
    }

    /// Lets the machine's processors run.
    pub fn run(&mut self) -> Result<()> {
        self.execute("cont").map(|_| ())
    }

    /// Whether the machine's processors run.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.execute("query-status")?["running"] == true)
    }

    /// Counters of the machine's disk; `None` if it has none.
    pub fn block_stats(&mut self) -> Result<Option<BlockStats>> {
        let devices = self.execute("query-blockstats")?;
        let disk = devices.as_array().and_then(|list| list.iter().find(|device| device["device"] == DRIVE));
        disk.map(|disk| {
            serde_json::from_value(disk["stats"].clone())
                .map_err(|error| Error::Qmp(format!("unexpected block statistics: {error}")))
        })
        .transpose()
    }

    /// Instructions that the machine's processors have executed; 0 if QEMU was not told to count them
    /// (`-icount`).
    pub fn instructions(&mut self) -> Result<u64> {
        let answer = self.execute("query-replay")?;
        answer["icount"].as_u64().ok_or_else(|| Error::Qmp(format!("no count of instructions: {answer}")))
    }

    /// Tells QEMU to end.
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit").map(|_| ())
    }

    /// Kills QEMU, as the system does when it has no memory left: nothing is put in order.
    pub fn kill(&self) -> Result<()> {
        let failed = |error: rustix::io::Errno| Error::Qmp(format!("killing QEMU: {error}"));
        let peer = rustix::net::sockopt::socket_peercred(self.reader.get_ref()).map_err(failed)?;
        rustix::process::kill_process(peer.pid, rustix::process::Signal::KILL).map_err(failed)
    }

    /// Takes the host's side of the machine's disk away: the device stays, and has nothing behind it.
    pub fn remove_drive(&mut self) -> Result<()> {
        self.monitor(&format!("drive_del {DRIVE}")).map(|_| ())
    }

    /// A command of QEMU's monitor, for which the socket has no words of its own: what it says.
    pub fn monitor(&mut self, command: &str) -> Result<String> {
        let words = serde_json::json!({ "command-line": command });
        let said = self.execute_with("human-monitor-command", Some(words))?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    /// Asks the machine to let the device with this name go.
    pub fn remove_device(&mut self, name: &str) -> Result<()> {
        self.execute_with("device_del", Some(serde_json::json!({ "id": name }))).map(|_| ())
    }

    /// Presses the machine's power button.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown").map(|_| ())
    }

    /// Interrupts the machine's processors in whatever they do, as a watchdog would.
    pub fn inject_nmi(&mut self) -> Result<()> {
        self.execute("inject-nmi").map(|_| ())
    }

    /// Follows the machine to its end: QEMU's reason, such as `guest-shutdown` (it was switched off) or
    /// `guest-reset`.
    pub fn shutdown_reason(&mut self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let set = self.reader.get_ref().set_read_timeout(Some(left));
            set.map_err(|error| Error::Qmp(error.to_string()))?;
            let event = self.receive()?;
            if event["event"] == "SHUTDOWN" {
                return Ok(event["data"]["reason"].as_str().unwrap_or_default().to_owned());
            }
        }
    }

    fn execute(&mut self, command: &str) -> Result<Value> {
        self.execute_with(command, None)
    }

    fn execute_with(&mut self, command: &str, arguments: Option<Value>) -> Result<Value> {
        let mut message = serde_json::json!({ "execute": command });
        if let Some(arguments) = arguments {
            message["arguments"] = arguments;
        }
        let text = format!("{message}\n");
        let sent = self.reader.get_mut().write_all(text.as_bytes());
        sent.map_err(|error| Error::Qmp(format!("{command}: {error}")))?;
        loop {
            let answer = self.receive()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(Error::Qmp(format!("{command}: {}", error["desc"])));
            }
            // Anything else is an event.
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).map_err(|error| Error::Qmp(error.to_string()))?;
        if count == 0 {
            return Err(Error::Qmp("closed by QEMU".into()));
        }
        serde_json::from_str(&line).map_err(|error| Error::Qmp(format!("not JSON: {error}")))
    }
}
