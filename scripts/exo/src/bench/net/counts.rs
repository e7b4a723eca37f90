//! What one request costs, counted: instructions by QEMU, exits and copies by the server itself.

use super::plan::{App, Case, Machines, Mode};
use crate::error::{Error, Result};
use crate::served::client::ask;
use crate::served::machine::{End, serve};
use serde_json::Value;

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

/// Counts `requests` requests of a case.
pub fn counts(machines: &Machines<'_>, mode: Mode, case: &Case, requests: u64) -> Result<Counts> {
    let address = machines.app.address();
    let question = case.question().ok_or_else(|| Error::Measurement("a stream has no requests".into()))?;
    let machine = machines.machine(mode, Some(ICOUNT), "")?;
    let asked = serve(&machine, address, End::Taken, |control| {
        if let Some(first) = case.first() {
            ask(address, &first, 1, 1, 1)?;
        }
        // What is done once, at the first request, is not what a request costs.
        ask(address, &question, case.clients, case.pipeline, WARM_UP)?;
        let before = control.instructions()?;
        ask(address, &question, case.clients, case.pipeline, requests)?;
        Ok(control.instructions()? - before)
    })?;
    let mut counts = Counts { instructions: Some(asked.done as f64 / requests as f64), ..Counts::default() };
    if machines.app == App::Httpd && mode != Mode::Linux {
        // At the speed that the machine has without counting: how often it waits depends on that.
        let machine = machines.machine(mode, None, &format!("requests={requests}"))?;
        let asked = serve(&machine, address, End::Itself, |_| {
            ask(address, &question, case.clients, case.pipeline, requests)
        });
        let lines = asked?.lines;
        let line = lines.iter().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
        let line = line.ok_or_else(|| Error::Measurement("no line of counts of httpd".into()))?;
        let of = |name: &str| line["httpd"][name].as_f64();
        let each = |count: f64| count / requests as f64;
        counts.exits = of("exits").map(each);
        counts.frames_sent = of("frames_sent").map(each);
        counts.copied = of("bytes_copied").zip(of("bytes_sent")).map(|(copied, sent)| copied / sent);
    }
    Ok(counts)
}

/// Requests before anything is counted.
const WARM_UP: u64 = 200;
