//! The server on several cores, which share nothing but the devices: each has its own network stack,
//! listener, tasks and file cache. The core with the network card passes frames on by the hash of their
//! connection.

use super::server::{Counts, Seat, Wishes, config, site};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use libos_core::{cores, println, random};
use libos_fs::{RingDevice, Turns};
use libos_net::link::{Lane, NicLink, UnikernelCores, spread};
use libos_net::{Config, Ipv4};
use spin::Mutex;

/// What a core takes that begins.
static BEGINNERS: Mutex<Vec<(Seat, Lane, Disk)>> = Mutex::new(Vec::new());

/// The disk of all cores.
type Disk = Turns<RingDevice, libos_fs::shared::Cores>;

/// Serves on so many cores.
pub fn serve(link: NicLink, disk: RingDevice, wanted: u64, wishes: Wishes) -> Result<i32, String> {
    let wrong = |error: &dyn core::fmt::Display| format!("httpd: {error}");
    let there = cores::count();
    if wanted == 0 || wanted > there {
        return Err(format!("httpd: cores={wanted}: this machine has {there}"));
    }
    let configs: Result<Vec<Config>, String> = (0..wanted).map(|_| config()).collect();
    let configs = configs?;
    if configs.iter().any(|config| config.ipv4 == Ipv4::Dhcp) {
        return Err(wrong(&"cores= wants an address= as well: with DHCP only one core would have it"));
    }
    let disk = Turns::new(disk, libos_fs::shared::Cores);
    let own = cores::current();
    let numbers: Vec<u64> =
        core::iter::once(own).chain((0..there).filter(|core| *core != own)).take(configs.len()).collect();
    let mut key = [0; 2];
    for word in &mut key {
        *word = random::seed().map_err(|error| wrong(&error))?;
    }
    let waits = Arc::new(UnikernelCores { numbers: numbers.clone() });
    let (link, lanes) = spread(link, numbers.len(), key, waits);
    let counts = Counts::of(numbers.len());
    let mut seats = (0..).zip(configs).map(|(place, config)| Seat {
        place,
        wishes: wishes.clone(),
        config,
        counts: Arc::clone(&counts),
    });
    let Some(first) = seats.next() else { return Ok(0) };
    BEGINNERS.lock().extend(seats.zip(lanes).map(|(seat, lane)| (seat, lane, disk.clone())));
    for number in &numbers[1..] {
        cores::start(*number, begin, 0).map_err(|error| wrong(&error))?;
    }
    let site = site(Box::new(disk), &first.wishes)?;
    first.serve(link, site)?;
    Ok(0)
}

/// Serves on a core that has begun. Whichever core has seen the last request ends the server.
fn begin(_: u64) {
    let Some((seat, lane, disk)) = BEGINNERS.lock().pop() else { return };
    let served = site(Box::new(disk), &seat.wishes).and_then(|site| seat.serve(lane, site));
    if let Err(error) = &served {
        println!("error: {error}");
    }
    libos_core::exit(i32::from(served.is_err()));
}
