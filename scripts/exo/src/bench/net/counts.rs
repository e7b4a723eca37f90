//! What one request costs, counted: instructions by QEMU, exits and copies by the server itself.

use super::plan::{App, Case, Machines, Mode};
use crate::error::{Error, Result};
use crate::served::client::{answer, ask, transfer};
use crate::served::machine::{End, serve};
use serde_json::Value;
use std::net::SocketAddr;

/// What was counted for a request; what could not be had is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Instructions of the machine, kernel included, halted processors not.
    pub instructions: Option<f64>,
    /// Crossings into HyperExo; without it none.
    pub exits: Option<f64>,
    /// Frames that went out.
    pub frames_sent: Option<f64>,
    /// Bytes that the server copied, for each byte that it sent.
    pub copied: Option<f64>,
}

/// Has QEMU count one instruction a nanosecond.
const ICOUNT: &str = "shift=0";

/// Bytes of a stream that count as one request: as many as the larger page has.
pub const STREAM_REQUEST: u64 = 64 * 1024;
/// Requests before anything is counted: what is done once, at the first, is not what a request costs.
const WARM_UP: u64 = 200;

/// Counts `requests` requests of a case.
pub fn counts(machines: &Machines<'_>, mode: Mode, case: &Case, requests: u64) -> Result<Counts> {
    let address = machines.app.address();
    let machine = machines.machine(mode, Some(ICOUNT), "")?;
    let asked = serve(&machine, address, End::Taken, |control| {
        ask_for(case, address, WARM_UP)?;
        let before = control.instructions()?;
        ask_for(case, address, requests)?;
        Ok(control.instructions()? - before)
    })?;
    let mut counts = Counts { instructions: Some(asked.done as f64 / requests as f64), ..Counts::default() };
    if mode == Mode::Linux {
        return Ok(counts);
    }
    // At the speed that the machine has without counting: how often it waits depends on that.
    let told = match machines.app {
        App::Httpd => told_at_end(machines, mode, case, requests, &format!("requests={requests}"))?,
        App::Kv => told_at_end(machines, mode, case, requests, "")?,
        App::Streams => {
            let machine = machines.machine(mode, None, "")?;
            let told = |()| parsed(&answer(address, b"?")?);
            let count = |_: &mut _| {
                let before = ask_for(case, address, WARM_UP).and_then(told)?;
                Ok((before, ask_for(case, address, requests).and_then(told)?))
            };
            let (before, after) = serve(&machine, address, End::Taken, count)?.done;
            Told(after.0, Some(before.0))
        }
    };
    let each = |count: f64| count / requests as f64;
    let kernel = told.of("bytes_copied_by_kernel").unwrap_or(0.0);
    // Of a stream that comes in, the sockets' copies are known, not counted: each byte twice.
    let (moved, copied) = match case.is_in() {
        true => {
            let moved = told.of("bytes_received");
            (moved, moved.zip(told.of("bytes_joined")).map(|(moved, joined)| 2.0 * moved + joined))
        }
        false => (told.of("bytes_sent"), told.of("bytes_copied")),
    };
    counts.exits = told.of("exits").map(each);
    counts.frames_sent = told.of("frames_sent").or(told.of("packets_sent")).map(each);
    counts.copied = copied.zip(moved).map(|(copied, moved)| (copied + kernel) / moved);
    Ok(counts)
}

/// Asks so often.
fn ask_for(case: &Case, address: SocketAddr, requests: u64) -> Result<()> {
    let Some(question) = case.question() else {
        return transfer(
            address,
            case.direction(),
            case.clients,
            requests * STREAM_REQUEST / u64::from(case.clients),
        );
    };
    if let Some(first) = case.first() {
        ask(address, &first, 1, 1, 1)?;
    }
    ask(address, &question, case.clients, case.pipeline, requests).map(drop)
}

/// What a server has told of itself, and what it had before, if that is not to count.
struct Told(Value, Option<Value>);

impl Told {
    fn of(&self, name: &str) -> Option<f64> {
        let before = self.1.as_ref().map_or(Some(0.0), |before| before[name].as_f64())?;
        self.0[name].as_f64().map(|after| after - before)
    }
}

/// The counts in a line of a server's.
fn parsed(line: &str) -> Result<Told> {
    let line = serde_json::from_str::<Value>(line.trim()).ok();
    let counts = line.as_ref().and_then(|line| line.as_object()?.values().next());
    let counts = counts.filter(|counts| counts["exits"].is_number());
    let counts = counts.ok_or_else(|| Error::Measurement("a server tells no counts".into()))?;
    Ok(Told(counts.clone(), None))
}

/// What a server tells when it ends, after it was asked so often.
fn told_at_end(machines: &Machines<'_>, mode: Mode, case: &Case, requests: u64, words: &str) -> Result<Told> {
    let (machine, address) = (machines.machine(mode, None, words)?, machines.app.address());
    let asked = serve(&machine, address, End::Itself, |_| {
        ask_for(case, address, requests)?;
        if machines.app == App::Kv {
            answer(address, b"SHUTDOWN NOSAVE\r\n")?;
        }
        Ok(())
    })?;
    let told = asked.lines.iter().find_map(|line| parsed(line).ok());
    told.ok_or_else(|| Error::Measurement(format!("no line of counts of {}", machines.app.name())))
}
