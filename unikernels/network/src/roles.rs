//! What the unikernel does on the network.

use crate::{Failure, PATIENCE};
use alloc::vec;
use core::net::Ipv4Addr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use hyperexo_abi::hypercall::Status;
use hyperexo_abi::net::{Destination, Fields, Filter};
use libos_core::net::{MacAddress, NetError, Nic, Packet};
use libos_core::time::{now_ns, sleep};
use libos_core::{accounting, println};
use network::arp;
use network::message::{self, Kind, MIN_BYTES, Message};

/// How long an echo has to be found before it is looked for again: it may not be there yet.
const SEARCH: Duration = Duration::from_millis(20);
/// How often it is looked for.
const SEARCHES: u32 = 500;
/// Number of the message that looks for it.
const SEARCH_SEQUENCE: u64 = u64::MAX;

/// After how long without a packet requests are sent again: packets can be lost.
const REPEAT: Duration = Duration::from_millis(500);
/// How often that is done before it is given up.
const SILENCES: u32 = 20;
/// How long to wait for another's filter, before it is tried again.
const TURN: Duration = Duration::from_millis(1);
/// How long an echo that has answered everything goes on, for requests whose answers were lost.
const LINGER: Duration = Duration::from_millis(1200);

/// What `ping` does.
pub struct Ping {
    /// Requests.
    pub count: u64,
    /// Requests on their way at once.
    pub batch: u64,
    /// Bytes of each.
    pub bytes: usize,
}

/// Finds an echo, sends requests, checks answers.
pub fn ping(plan: Ping) -> Result<(), Failure> {
    let mut nic = Nic::open()?;
    println!("address {}", nic.address());
    let peer = search(&mut nic)?;
    println!("echo at {peer}");
    let exits = exits();
    let (mut answers, mut repeated) = (0, 0);
    while answers < plan.count {
        let batch = plan.batch.min(plan.count - answers);
        // A bit for each request of the batch that has no answer yet.
        let mut open = u32::MAX >> (u32::BITS - batch as u32);
        send_open(&mut nic, peer, answers, open, plan.bytes)?;
        let mut silences = 0;
        while open != 0 {
            if take_answers(&mut nic, peer, answers, &mut open) {
                continue;
            }
            silences += 1;
            if silences > SILENCES {
                return Err(Failure::Silence { answers });
            }
            repeated += u64::from(open.count_ones());
            send_open(&mut nic, peer, answers, open, plan.bytes)?;
        }
        answers += batch;
    }
    // A request and an answer each.
    let packets = 2 * plan.count;
    let thousandths = (self::exits() - exits) * 1000 / packets.max(1);
    println!(
        "{{\"network\":{{\"role\":\"ping\",\"count\":{},\"batch\":{},\"bytes\":{},\"repeated\":{repeated},\"exits_per_packet\":{}.{:03}}}}}",
        plan.count,
        plan.batch,
        plan.bytes,
        thousandths / 1000,
        thousandths % 1000
    );
    Ok(())
}

/// Exits of this environment so far.
fn exits() -> u64 {
    accounting().exits.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

/// Looks for an echo by broadcast.
fn search(nic: &mut Nic) -> Result<MacAddress, Failure> {
    for _ in 0..SEARCHES {
        let mut packet = nic.packet(MIN_BYTES);
        let request = Message { source: nic.address(), kind: Kind::Request, sequence: SEARCH_SEQUENCE };
        request.write(MacAddress::BROADCAST, &mut packet);
        enqueue(nic, packet)?;
        nic.kick();
        nic.wait(Some(SEARCH));
        while let Some(packet) = nic.receive() {
            let message = Message::read(&packet);
            nic.recycle(packet);
            if let Some(Message { source, kind: Kind::Answer, .. }) = message {
                return Ok(source);
            }
        }
    }
    Err(Failure::Silence { answers: 0 })
}

/// Sends the requests of a batch from number `first` on that `open` has a bit for.
fn send_open(nic: &mut Nic, peer: MacAddress, first: u64, open: u32, bytes: usize) -> Result<(), Failure> {
    for number in (0..u32::BITS).filter(|number| open >> number & 1 != 0) {
        let mut packet = nic.packet(bytes);
        let sequence = first + u64::from(number);
        Message { source: nic.address(), kind: Kind::Request, sequence }.write(peer, &mut packet);
        enqueue(nic, packet)?;
    }
    nic.kick();
    Ok(())
}

/// Takes answers to requests from number `first` on, clearing their bits; waits for a packet if there is
/// none. Returns whether one came.
fn take_answers(nic: &mut Nic, peer: MacAddress, first: u64, open: &mut u32) -> bool {
    let mut came = false;
    let mut next = receive(nic, REPEAT);
    while let Some(packet) = next {
        came = true;
        if let Some(Message { source, kind: Kind::Answer, sequence }) = Message::read(&packet)
            && source == peer
            && let Some(number) = sequence.checked_sub(first).filter(|number| *number < u64::from(u32::BITS))
        {
            *open &= !(1 << number);
        }
        nic.recycle(packet);
        next = nic.receive();
    }
    came
}

/// The next packet, if one comes in time.
fn receive(nic: &mut Nic, patience: Duration) -> Option<Packet> {
    if let Some(packet) = nic.receive() {
        return Some(packet);
    }
    nic.wait(Some(patience));
    nic.receive()
}

/// Takes a packet to be sent; waits if there is no room.
fn enqueue(nic: &mut Nic, mut packet: Packet) -> Result<(), Failure> {
    while let Err(back) = nic.enqueue(packet) {
        packet = back;
        nic.kick();
        if !nic.wait_for_room(Some(PATIENCE)) {
            return Err(Failure::NoRoom);
        }
    }
    Ok(())
}

/// Answers requests until it has seen all numbers below `count`, each as often as it comes.
pub fn echo(count: u64, shared: bool) -> Result<(), Failure> {
    let own = [Destination::Own, Destination::Group].map(Filter::all);
    // Of the shared address only what is ours.
    let fields = Fields { ether_type: Some(message::ETHER_TYPE), ..Fields::default() };
    let filters = [own[0], own[1], Filter { destination: Destination::Shared, fields }];
    let mut nic = open_in_turn(if shared { &filters } else { &own })?;
    println!("address {}", nic.address());
    let mut seen = vec![false; usize::try_from(count).unwrap_or(usize::MAX)];
    let (mut answered, mut left) = (0u64, count);
    loop {
        let patience = if left == 0 { LINGER } else { PATIENCE };
        let mut next = receive(&mut nic, patience);
        if next.is_none() {
            break;
        }
        // What has come together is answered together.
        while let Some(mut packet) = next {
            match Message::read(&packet) {
                Some(request) if request.kind == Kind::Request => {
                    let answer = Message { source: nic.address(), kind: Kind::Answer, ..request };
                    answer.write(request.source, &mut packet);
                    enqueue(&mut nic, packet)?;
                    answered += 1;
                    let first =
                        usize::try_from(request.sequence).ok().and_then(|number| seen.get_mut(number));
                    left -= u64::from(first.is_some_and(|seen| !core::mem::replace(seen, true)));
                }
                _ => nic.recycle(packet),
            }
            next = nic.receive();
        }
        nic.kick();
    }
    if left != 0 {
        return Err(Failure::Silence { answers: answered });
    }
    println!("{{\"network\":{{\"role\":\"echo\",\"answered\":{answered}}}}}");
    Ok(())
}

/// Opens the network, waiting while another environment has a filter that overlaps one of ours: it may be
/// about to give it back.
fn open_in_turn(filters: &[Filter]) -> Result<Nic, NetError> {
    let deadline = now_ns() + PATIENCE.as_nanos() as u64;
    loop {
        match Nic::open_with(filters) {
            Err(NetError::Refused { status: Status::InUse, .. }) if now_ns() < deadline => sleep(TURN),
            opened => return opened,
        }
    }
}

/// Asks who has an address.
pub fn arp(own: Ipv4Addr, wanted: Ipv4Addr) -> Result<(), Failure> {
    let mut nic = Nic::open()?;
    println!("address {}", nic.address());
    let mut request = [0; arp::BYTES];
    arp::request(nic.address(), own, wanted, &mut request);
    let mut packet = nic.packet(arp::BYTES);
    packet.copy_from_slice(&request);
    enqueue(&mut nic, packet)?;
    nic.kick();
    loop {
        let packet = receive(&mut nic, PATIENCE).ok_or(Failure::Silence { answers: 0 })?;
        if let Some(owner) = arp::reply(&packet, wanted) {
            println!("{{\"network\":{{\"role\":\"arp\",\"wanted\":\"{wanted}\",\"address\":\"{owner}\"}}}}");
            return Ok(());
        }
        nic.recycle(packet);
    }
}
