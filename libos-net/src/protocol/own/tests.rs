//! A machine without a wire: segments are handed to it, in every state, and what it answers is looked at.

use super::departure::Departure;
use super::machine::Machine;
use crate::flow::Flow;
use crate::protocol::{SharedBytes, TcpParameters, TcpPolicy, TcpState};
use core::task::Waker;
use smoltcp::wire::{IpEndpoint, TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

/// Ours and the peer's first numbers: both wrap soon.
const FIRST: u32 = u32::MAX - 700;
const PEER: u32 = 0x7fff_ff00;
const LONGEST: usize = 1460;

fn machine(parameters: &TcpParameters) -> Machine {
    let end = |last| IpEndpoint::new(smoltcp::wire::IpAddress::v4(10, 0, 0, last), 80);
    let mut machine = Machine::new(parameters);
    machine.flow = Some(Flow { local: end(1), remote: end(2) });
    machine.first = FIRST;
    machine
}

fn segment(control: TcpControl, at: i64, ack: Option<i64>, payload: &[u8]) -> TcpRepr<'_> {
    let number = |first: u32, place: i64| TcpSeqNumber(first.wrapping_add(place as u32) as i32);
    TcpRepr {
        src_port: 80,
        dst_port: 80,
        control,
        seq_number: number(PEER, at),
        ack_number: ack.map(|ack| number(FIRST, ack)),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: control == TcpControl::Syn,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    }
}

/// Lets everything leave; how many segments, and the last.
fn leave(machine: &mut Machine, now_us: i64) -> (usize, Option<Departure>) {
    let (mut count, mut last) = (0, None);
    machine.pass(now_us);
    while let Some(departure) = machine.depart(LONGEST, LONGEST, now_us) {
        machine.receiver.offer(LONGEST, 0);
        (count, last) = (count + 1, Some(departure));
        assert!(count < 10_000, "it never ends");
    }
    (count, last)
}

/// A machine in a state, and the place of the peer's next byte.
fn in_state(state: TcpState) -> Machine {
    let mut machine = machine(&crate::Interactive.parameters());
    let here = |machine: &mut Machine, repr: TcpRepr<'_>| {
        machine.arrive(&repr, LONGEST, 1000);
        leave(machine, 1000);
    };
    match state {
        TcpState::Closed => return machine,
        TcpState::SynSent => {
            machine.state = TcpState::SynSent;
            leave(&mut machine, 1000);
            return machine;
        }
        _ => machine.state = TcpState::Listen,
    }
    if state == TcpState::Listen {
        return machine;
    }
    here(&mut machine, segment(TcpControl::Syn, 0, None, &[]));
    if state == TcpState::SynReceived {
        return machine;
    }
    here(&mut machine, segment(TcpControl::None, 1, Some(1), &[]));
    match state {
        TcpState::Established => {}
        TcpState::CloseWait | TcpState::LastAck => {
            here(&mut machine, segment(TcpControl::Fin, 1, Some(1), &[]));
            if state == TcpState::LastAck {
                machine.close();
            }
        }
        _ => {
            machine.close();
            leave(&mut machine, 1000);
            if matches!(state, TcpState::FinWait2 | TcpState::TimeWait) {
                here(&mut machine, segment(TcpControl::None, 1, Some(2), &[]));
            }
            if matches!(state, TcpState::Closing | TcpState::TimeWait) {
                let ack = if state == TcpState::Closing { 1 } else { 2 };
                here(&mut machine, segment(TcpControl::Fin, 1, Some(ack), &[]));
            }
        }
    }
    leave(&mut machine, 1000);
    assert_eq!(machine.state, state);
    machine
}

const ALL: [TcpState; 10] = [
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynReceived,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
];

#[test]
fn a_reset_ends_every_state_if_its_place_is_the_next_and_only_then() {
    for state in ALL {
        let mut machine = in_state(state);
        let next = machine.receiver.next();
        if state == TcpState::SynSent {
            machine.arrive(&segment(TcpControl::Rst, 7, None, &[]), LONGEST, 2000);
            assert_eq!(machine.state, state, "without acknowledgement anybody could have sent it");
            machine.arrive(&segment(TcpControl::Rst, 0, Some(1), &[]), LONGEST, 2000);
            assert_eq!(machine.state, TcpState::Closed);
            continue;
        }
        machine.arrive(&segment(TcpControl::Rst, next - 1, None, &[]), LONGEST, 2000);
        machine.arrive(&segment(TcpControl::Rst, next + 100_000, None, &[]), LONGEST, 2000);
        assert_eq!((machine.state, leave(&mut machine, 2000).0), (state, 0), "outside of the window");
        if state == TcpState::Listen {
            continue;
        }
        machine.arrive(&segment(TcpControl::Rst, next + 5, None, &[]), LONGEST, 3000);
        assert_eq!(machine.state, state);
        if state != TcpState::SynReceived {
            let answer = leave(&mut machine, 3000).1;
            assert_eq!(answer, Some(Departure::Bare { before: false }), "{state:?}: a challenge");
        }
        machine.arrive(&segment(TcpControl::Rst, next, None, &[]), LONGEST, 4000);
        assert_eq!(machine.state, TcpState::Closed, "{state:?}");
    }
}

#[test]
fn a_syn_within_a_connection_is_challenged_and_not_too_often() {
    let mut machine = in_state(TcpState::Established);
    let mut answers = 0;
    for number in 0..100 {
        let now_us = 10_000 + number * 10_000;
        machine.arrive(&segment(TcpControl::Syn, 1 + number, Some(1), &[]), LONGEST, now_us);
        answers += leave(&mut machine, now_us).0;
    }
    assert_eq!((machine.state, answers), (TcpState::Established, 2), "two a second");
    // What was never sent can't be acknowledged; the data with it is not believed.
    machine.arrive(&segment(TcpControl::None, 1, Some(500), b"evil"), LONGEST, 5_000_000);
    assert!(!machine.receiver.is_ready());
    machine.arrive(&segment(TcpControl::None, 1, Some(1), b"good"), LONGEST, 5_000_000);
    assert!(machine.receiver.is_ready());
}

#[test]
fn an_older_acknowledgement_brings_its_data() {
    let mut machine = in_state(TcpState::Established);
    machine.sender.queue.push_bytes(&[0; 100]);
    leave(&mut machine, 2000);
    machine.arrive(&segment(TcpControl::None, 1, Some(101), b"one"), LONGEST, 3000);
    machine.arrive(&segment(TcpControl::None, 4, Some(1), b"two"), LONGEST, 3000);
    assert_eq!(machine.receiver.next(), 7);
}

#[test]
fn an_old_time_stamp_is_not_believed() {
    let stamped = |mut repr: TcpRepr<'static>, tsval| {
        repr.timestamp = Some(TcpTimestampRepr::new(tsval, 0));
        repr
    };
    let mut machine = in_state(TcpState::Listen);
    machine.arrive(&stamped(segment(TcpControl::Syn, 0, None, &[]), 1000), LONGEST, 1000);
    leave(&mut machine, 1000);
    machine.arrive(&stamped(segment(TcpControl::None, 1, Some(1), b"a"), 1001), LONGEST, 1000);
    leave(&mut machine, 50_000);
    machine.arrive(&stamped(segment(TcpControl::None, 2, Some(1), b"b"), 999), LONGEST, 1000);
    assert_eq!(machine.receiver.next(), 2);
    machine.arrive(&stamped(segment(TcpControl::None, 2, Some(1), b"b"), 1001), LONGEST, 1000);
    assert_eq!(machine.receiver.next(), 3);
    machine.arrive(&segment(TcpControl::None, 3, Some(1), b"c"), LONGEST, 1000);
    assert_eq!(machine.receiver.next(), 3, "one without");
}

#[test]
fn a_closed_window_is_probed_until_it_opens() {
    let mut machine = in_state(TcpState::Established);
    let mut closed = segment(TcpControl::None, 1, Some(1), &[]);
    closed.window_len = 0;
    machine.arrive(&closed, LONGEST, 2000);
    machine.sender.queue.push_shared(SharedBytes::from_bytes(&[7; 5000]));
    assert_eq!(leave(&mut machine, 2000).0, 0);
    let mut probes = 0;
    let mut now_us = 2000;
    while now_us < 600_000_000 {
        now_us = machine.due_us(now_us).expect("a probe is due").max(now_us);
        probes += leave(&mut machine, now_us).0;
        machine.arrive(&closed, LONGEST, now_us + 10);
    }
    assert!((35..40).contains(&probes), "{probes}: the time between them doubles up to 20 s");
    assert_eq!(machine.state, TcpState::Established, "the peer answers");
    machine.arrive(&segment(TcpControl::None, 1, Some(1), &[]), LONGEST, now_us + 20);
    assert_eq!(leave(&mut machine, now_us + 20).0, 4);
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut machine = in_state(TcpState::Established);
    machine.sender.queue.push_bytes(b"hello");
    let mut now_us = 2000;
    while machine.state != TcpState::Closed {
        leave(&mut machine, now_us);
        now_us = machine.due_us(now_us).map_or(now_us + 1, |due_us| due_us.max(now_us));
        assert!(now_us < 100_000_000, "after the minute that the policy says");
    }
    assert!(now_us >= 60_000_000);
}

#[test]
fn a_connection_without_data_has_no_buffers() {
    assert!(size_of::<Machine>() < 1024, "{} bytes", size_of::<Machine>());
    let mut machine = in_state(TcpState::Established);
    assert_eq!(machine.receiver.memory() + machine.sender.board.memory(), 0);
    for _ in 0..3 {
        let at = machine.receiver.next();
        let ack = machine.sender.board.acknowledged();
        machine.arrive(&segment(TcpControl::None, at, Some(ack), &[1; 1400]), LONGEST, 2000);
        machine.receiver.read(&mut [0; 2000]);
        machine.sender.queue.push_bytes(&[2; 50_000]);
        while machine.sender.queue.len() > 0 {
            leave(&mut machine, 3000);
            let (at, sent) = (machine.receiver.next(), machine.sender.board.next());
            machine.arrive(&segment(TcpControl::None, at, Some(sent), &[]), LONGEST, 3000);
        }
        // What it keeps is small.
        assert!(machine.receiver.memory() + machine.sender.board.memory() < 1024);
    }
}

/// Xorshift (G. Marsaglia, "Xorshift RNGs").
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 8) as usize
}

#[test]
fn nothing_that_comes_makes_it_fail_in_any_state() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let data = [5; 3000];
    let mut segments = 0;
    while segments < 1_000_000 {
        let mut machine = in_state(ALL[random(&mut state) % ALL.len()]);
        let mut now_us = 10_000;
        for _ in 0..50 {
            segments += 1;
            now_us += (random(&mut state) % 300_000) as i64;
            if random(&mut state).is_multiple_of(4)
                && machine.is_synchronized()
                && machine.sender.queue.len() < 100_000
            {
                machine.sender.queue.push_bytes(&data[..random(&mut state) % 3000]);
            }
            let near = |state: &mut u64, place: i64| match random(state) % 8 {
                0 => random(state) as i64,
                1 => place + (random(state) % 200_000) as i64 - 100_000,
                2 | 3 => place + (random(state) % 6000) as i64 - 3000,
                _ => place,
            };
            let controls = [
                TcpControl::None,
                TcpControl::None,
                TcpControl::Psh,
                TcpControl::Fin,
                TcpControl::Rst,
                TcpControl::Syn,
            ];
            let mut control = controls[random(&mut state) % 6];
            if matches!(control, TcpControl::Rst | TcpControl::Fin) && !random(&mut state).is_multiple_of(4) {
                control = TcpControl::None;
            }
            let at = near(&mut state, machine.receiver.next());
            let board = &machine.sender.board;
            let some = board.acknowledged() + random(&mut state) as i64 % (board.in_flight() + 1);
            let ack = (!random(&mut state).is_multiple_of(16)).then(|| near(&mut state, some));
            let mut repr = segment(control, at, ack, &data[..random(&mut state) % 1500]);
            repr.window_len = random(&mut state) as u16;
            for range in &mut repr.sack_ranges {
                let from = near(&mut state, some);
                let number = |place: i64| FIRST.wrapping_add(place as u32);
                *range = random(&mut state)
                    .is_multiple_of(2)
                    .then(|| (number(from), number(from + (random(&mut state) % 4000) as i64)));
            }
            machine.arrive(&repr, LONGEST, now_us);
            leave(&mut machine, now_us);
            machine.receiver.read(&mut [0; 1000][..random(&mut state) % 1000]);
            let board = &machine.sender.board;
            assert!(board.in_network() >= 0 && board.in_network() <= board.in_flight());
            assert!(board.next() <= machine.sender.queue.end() + 1);
            if machine.state == TcpState::Closed {
                break;
            }
        }
        machine.reader = Some(Waker::noop().clone());
    }
}
