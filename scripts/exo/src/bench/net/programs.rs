//! Programs of this host that ask servers as fast as they can.

use crate::error::{Error, Result};
use crate::host::children::{Group, Progress};
use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// Requests a second of so many clients that ask for one page, each on a connection of its own that stays
/// open, by `wrk`.
///
/// # Errors
///
/// If `wrk` can't be run, or an answer was missing or none of success.
pub fn wrk(address: SocketAddr, page: &str, clients: u32, duration: Duration) -> Result<f64> {
    let said = run(
        "wrk",
        "wrk",
        &[
            "-t1",
            &format!("-c{clients}"),
            &format!("-d{}s", duration.as_secs().max(1)),
            "--timeout=20s",
            &format!("http://{address}{page}"),
        ],
    )?;
    rate_of_wrk(&said)
}

fn rate_of_wrk(said: &str) -> Result<f64> {
    let wrong = |why: &str| Error::Measurement(format!("wrk: {why}: {said}"));
    if said.contains("Socket errors:") || said.contains("Non-2xx") {
        return Err(wrong("not all were answered"));
    }
    let rate = said.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).ok_or_else(|| wrong("no rate"))
}

/// Requests a second of `redis-benchmark` for one command, `GET` or `SET`, with `pipeline` requests of each
/// client on their way at once.
///
/// # Errors
///
/// If the program can't be run, or says that something went wrong.
pub fn redis_benchmark(
    address: SocketAddr,
    command: &str,
    clients: u32,
    pipeline: u32,
    requests: u64,
) -> Result<f64> {
    let said = run(
        "redis-benchmark",
        "redis-tools",
        &[
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
            "-c",
            &clients.to_string(),
            "-P",
            &pipeline.to_string(),
            "-n",
            &requests.to_string(),
            "-t",
            &command.to_lowercase(),
            "--csv",
        ],
    )?;
    rate_of_redis_benchmark(&said, command)
}

fn rate_of_redis_benchmark(said: &str, command: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("\"{command}\",\"")));
    let rate = line.and_then(|rest| rest.split_once('"')).and_then(|(rate, _)| rate.parse().ok());
    rate.ok_or_else(|| Error::Measurement(format!("redis-benchmark: no rate of {command}: {said}")))
}

/// Runs a program to its end; what it prints.
fn run(program: &str, package: &'static str, arguments: &[&str]) -> Result<String> {
    if crate::host::programs::program_path(program).is_none() {
        return Err(Error::NotInstalled { program: program.to_owned(), package });
    }
    let failed = |source| Error::Io { action: "run", path: program.into(), source };
    let mut group = Group::spawn(Command::new(program).args(arguments), Progress::Piped).map_err(failed)?;
    let mut said = String::new();
    if let Some(mut pipe) = group.child.stdout.take() {
        pipe.read_to_string(&mut said).map_err(failed)?;
    }
    let mut complaint = String::new();
    if let Some(mut pipe) = group.child.stderr.take() {
        pipe.read_to_string(&mut complaint).map_err(failed)?;
    }
    if crate::host::children::interrupted() {
        return Err(Error::Interrupted);
    }
    match group.wait().map_err(failed)? {
        status if status.success() => Ok(said),
        status => Err(Error::Measurement(format!("{program} ended: {status}: {said}{complaint}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_failures_are_seen() {
        let wrk = "  100 requests in 2.00s\nRequests/sec:   5300.25\nTransfer/sec:      6.1MB\n";
        assert_eq!(rate_of_wrk(wrk).unwrap(), 5300.25);
        for bad in ["  Socket errors: connect 0, read 3\n", "  Non-2xx or 3xx responses: 7\n"] {
            assert!(rate_of_wrk(&format!("{bad}{wrk}")).is_err());
        }
        assert!(rate_of_wrk("").is_err());
        let redis = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"76335.88\",\"0.2\"\n";
        assert_eq!(rate_of_redis_benchmark(redis, "GET").unwrap(), 76335.88);
        assert!(rate_of_redis_benchmark(redis, "SET").is_err());
    }
}
