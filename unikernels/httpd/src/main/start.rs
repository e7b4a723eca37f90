//! What the command line says, and what is opened for it.

use super::cores;
use super::server::{Counts, Seat, Wishes, config, site};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use libos_core::{argument, arguments, memory};
use libos_fs::RingDevice;
use libos_net::link::NicLink;

/// Runs the server. Ends only if `requests=` says so, or with an error.
pub fn main() -> Result<i32, String> {
    let wrong = |error: &dyn core::fmt::Display| format!("httpd: {error}");
    let number = |name| arguments().number(name).map_err(|error| wrong(&error));
    let port = |name| match number(name)?.map(u16::try_from) {
        None => Ok(None),
        Some(Ok(port @ 1..)) => Ok(Some(port)),
        Some(_) => Err(format!("httpd: {name}= wants a number from 1 to 65535")),
    };
    let own = match argument("stack") {
        None | Some("default") => false,
        Some("own") => true,
        Some(_) => return Err(wrong(&"stack= wants default or own")),
    };
    let wishes = Wishes {
        plain: port("port")?.unwrap_or(80),
        secret: port("tls")?,
        backlog: number("backlog")?.unwrap_or(256).max(1) as usize,
        connections: number("connections")?.unwrap_or_else(affordable).max(1) as usize,
        blocks: number("cache")?.unwrap_or(1024).max(1) as usize,
        most: number("requests")?,
        every: number("counts")?,
        quiet: argument("quiet").is_some(),
        own,
    };
    let cores = number("cores")?.unwrap_or(1);
    let disk = RingDevice::open().map_err(|error| wrong(&error))?;
    let mut link = NicLink::open().map_err(|error| wrong(&error))?;
    if let Some(looks) = number("looks")? {
        link = link.with_looks(u32::try_from(looks).unwrap_or(u32::MAX));
    }
    if cores != 1 {
        return cores::serve(link, disk, cores, wishes);
    }
    let site = site(Box::new(disk), &wishes)?;
    Seat { place: 0, wishes, config: config()?, counts: Counts::of(1) }.serve(link, site)?;
    Ok(0)
}

/// Connections for which there is memory, whatever clients do: half of what is free is left to all else.
fn affordable() -> u64 {
    /// Bytes of one at most: buffers both ways, a request, a part of a file and what is sent of it.
    const BYTES: u64 = 96 * 1024;
    /// Bytes of a frame of memory.
    const FRAME_BYTES: u64 = 4096;
    /// Even a machine with next to nothing serves some.
    const LEAST: u64 = 16;
    let quota = memory::quota_frames().saturating_sub(memory::acquired_frames());
    (memory::free_frames().min(quota) * FRAME_BYTES / 2 / BYTES).max(LEAST)
}
