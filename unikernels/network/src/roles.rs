//! What the unikernel does on the network.

use crate::{Failure, PATIENCE};
use core::net::Ipv4Addr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use libos_core::net::{MacAddress, Nic, Packet};
use libos_core::{accounting, println};
use network::arp;
use network::message::{Kind, MIN_BYTES, Message};

/// How long an echo has to be found before it is looked for again: it may not be there yet.
const SEARCH: Duration = Duration::from_millis(20);
/// How often it is looked for.
const SEARCHES: u32 = 500;
/// Number of the message that looks for it.
const SEARCH_SEQUENCE: u64 = u64::MAX;

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
    let mut answers = 0;
    while answers < plan.count {
        let batch = plan.batch.min(plan.count - answers);
        for sequence in answers..answers + batch {
            let mut packet = nic.packet(plan.bytes);
            Message { source: nic.address(), kind: Kind::Request, sequence }.write(peer, &mut packet);
            enqueue(&mut nic, packet)?;
        }
        nic.kick();
        for sequence in answers..answers + batch {
            let expected = Message { source: peer, kind: Kind::Answer, sequence };
            await_answer(&mut nic, &expected, sequence)?;
        }
        answers += batch;
    }
    // A request and an answer each.
    let packets = 2 * plan.count;
    let thousandths = (self::exits() - exits) * 1000 / packets.max(1);
    println!(
        "{{\"network\":{{\"role\":\"ping\",\"count\":{},\"batch\":{},\"bytes\":{},\"exits_per_packet\":{}.{:03}}}}}",
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

/// Waits for one answer; passes over late ones to the search and what is not ours.
fn await_answer(nic: &mut Nic, expected: &Message, answers: u64) -> Result<(), Failure> {
    loop {
        let packet = receive(nic).ok_or(Failure::Silence { answers })?;
        let found = Message::read(&packet).as_ref() == Some(expected);
        nic.recycle(packet);
        if found {
            return Ok(());
        }
    }
}

/// The next packet, if one comes in time.
fn receive(nic: &mut Nic) -> Option<Packet> {
    if let Some(packet) = nic.receive() {
        return Some(packet);
    }
    nic.wait(Some(PATIENCE));
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

/// Answers requests; those that look for an echo do not count.
pub fn echo(count: u64) -> Result<(), Failure> {
    let mut nic = Nic::open()?;
    println!("address {}", nic.address());
    let mut answered = 0;
    while answered < count {
        let mut next = Some(receive(&mut nic).ok_or(Failure::Silence { answers: answered })?);
        // What has come together is answered together.
        while let Some(mut packet) = next {
            match Message::read(&packet) {
                Some(request) if request.kind == Kind::Request => {
                    let answer = Message { source: nic.address(), kind: Kind::Answer, ..request };
                    answer.write(request.source, &mut packet);
                    enqueue(&mut nic, packet)?;
                    answered += u64::from(request.sequence != SEARCH_SEQUENCE);
                }
                _ => nic.recycle(packet),
            }
            next = nic.receive();
        }
        nic.kick();
    }
    println!("{{\"network\":{{\"role\":\"echo\",\"answered\":{answered}}}}}");
    Ok(())
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
        let packet = receive(&mut nic).ok_or(Failure::Silence { answers: 0 })?;
        if let Some(owner) = arp::reply(&packet, wanted) {
            println!("{{\"network\":{{\"role\":\"arp\",\"wanted\":\"{wanted}\",\"address\":\"{owner}\"}}}}");
            return Ok(());
        }
        nic.recycle(packet);
    }
}
