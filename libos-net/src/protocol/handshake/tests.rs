use super::*;
use smoltcp::wire::{IpAddress, IpEndpoint};

fn flow(number: u32) -> Flow {
    let [_, _, high, low] = number.to_be_bytes();
    let end = |last, port| IpEndpoint::new(IpAddress::v4(10, high, low, last), port);
    Flow { local: end(1, 80), remote: end(2, 1000) }
}

fn asked(number: u32) -> Handshake {
    Handshake {
        flow: flow(number),
        local_sequence: 0,
        remote_sequence: number.wrapping_mul(0x9e37_79b9),
        max_segment_bytes: [None, Some(1), Some(1450), Some(1460), Some(9000)][number as usize % 5],
        window_shift: [None, Some(0), Some(1), Some(7), Some(9), Some(14)][number as usize % 6],
        selective: number % 2 == 1,
        window_bytes: 0,
    }
}

#[test]
fn a_cookie_says_what_was_asked_for_and_never_more() {
    for number in 0..1000 {
        let mut secret = Secret::new((1, 2));
        let asked = asked(number);
        let now_us = i64::from(number) * 1_000_003;
        let cookie = secret.cookie(&asked, now_us);
        for later_us in [0, 1, 31_999_999] {
            let read = secret.read(asked.flow, cookie, asked.remote_sequence, now_us + later_us);
            let read = read.expect("it is good for 32 seconds");
            assert!(read.max_segment_bytes <= Some(asked.max_segment_bytes.unwrap_or(536).max(64)));
            assert_eq!(read.window_shift.is_some(), asked.window_shift.is_some());
            assert!(read.window_shift <= asked.window_shift);
            assert_eq!(read.selective, asked.selective);
            assert_eq!(read.local_sequence, cookie);
        }
        assert_eq!(secret.read(asked.flow, cookie, asked.remote_sequence, now_us + 64_000_000), None);
    }
}

#[test]
fn a_cookie_is_good_for_its_ends_and_its_request_only() {
    let mut secret = Secret::new((1, 2));
    let asked = asked(77);
    let cookie = secret.cookie(&asked, 0);
    assert!(secret.read(asked.flow, cookie, asked.remote_sequence, 0).is_some());
    assert_eq!(secret.read(flow(78), cookie, asked.remote_sequence, 0), None);
    assert_eq!(secret.read(asked.flow, cookie, asked.remote_sequence.wrapping_add(1), 0), None);
    let mut other = Secret::new((1, 3));
    other.cookie(&asked, 0);
    assert_eq!(other.read(asked.flow, cookie, asked.remote_sequence, 0), None);
    for bit in 0..32 {
        assert_eq!(secret.read(asked.flow, cookie ^ 1 << bit, asked.remote_sequence, 0), None, "bit {bit}");
    }
    assert_eq!(
        Secret::new((1, 2)).read(asked.flow, cookie, asked.remote_sequence, 0),
        None,
        "none was given"
    );
}

#[test]
fn sequence_numbers_run_for_each_pair_of_ends_and_say_nothing_of_others() {
    let secret = Secret::new((1, 2));
    let at = |number, now_us| secret.sequence(&flow(number), now_us);
    assert_eq!(at(1, 4_000_000).wrapping_sub(at(1, 0)), 1_000_000);
    assert_ne!(at(2, 0).wrapping_sub(at(1, 0)), at(3, 0).wrapping_sub(at(2, 0)));
    assert_ne!(at(1, 0), Secret::new((1, 3)).sequence(&flow(1), 0));
}

#[test]
fn windows_are_shifted_as_little_as_possible() {
    for (bytes, shift) in [(1, 0), (65_535, 0), (65_536, 1), (131_071, 1), (262_144, 3), (1 << 30, 14)] {
        assert_eq!(Handshake::own_shift(bytes), shift, "{bytes}");
        assert!(bytes >> shift <= 65_535 + usize::from(bytes == 1 << 30));
    }
}
