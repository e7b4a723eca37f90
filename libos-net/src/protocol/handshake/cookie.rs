//! Numbers that nobody outside can guess: first sequence numbers (RFC 6528), and those that carry what a SYN
//! has asked for, so that nothing must be kept until it is answered (SYN cookies, D. J. Bernstein, 1996).
//!
//! ```text
//!   bits of a cookie    31 ────────────── 8 │ 7    │ 6     │ 5 ── 3 │ 2 ──── 0
//!                       MAC over all beside │ half │ SACK  │ window │ longest
//!                       the ends, and time  │ of   │       │ shift  │ segment
//!                                           │ time │       │        │
//! ```
//!
//! The eight lower bits are covered by eight bits of a hash, so that they say nothing to others.

use super::Handshake;
use crate::flow::Flow;
use core::hash::{Hash, Hasher};
use siphasher::sip::SipHasher24;

/// A cookie is good for at least this time, and for less than twice.
const PERIOD_US: i64 = 32_000_000;

/// Longest segments that a cookie can carry: the largest that is not above the real one is taken.
const SEGMENTS: [u16; 8] = [64, 536, 1200, 1360, 1400, 1440, 1460, 8940];
/// Shifts of windows. The first stands for none.
const SHIFTS: [Option<u8>; 8] = [None, Some(0), Some(2), Some(4), Some(6), Some(7), Some(8), Some(10)];

/// A key for such numbers.
#[derive(Clone, Copy)]
pub(crate) struct Secret {
    key: (u64, u64),
    /// When a cookie was given last.
    given_us: Option<i64>,
    /// Numbers that were drawn.
    drawn: u64,
}

/// What a hash is for: two never are the same by chance.
#[derive(Hash)]
enum Purpose {
    Key,
    Sequence,
    Cookie,
    Cover,
    Random,
}

impl Secret {
    /// A key made of another one, which it does not tell.
    pub(crate) fn new(key: (u64, u64)) -> Secret {
        let part = |part: u8| hash(key, Purpose::Key, part);
        Secret { key: (part(0), part(1)), given_us: None, drawn: 0 }
    }

    /// The first sequence number of a connection: that of earlier ones of the same ends, and what has run
    /// since by four microseconds each (RFC 6528, section 3).
    pub(crate) fn sequence(&self, flow: &Flow, now_us: i64) -> u32 {
        let offset = hash(self.key, Purpose::Sequence, flow) as u32;
        offset.wrapping_add((now_us / 4) as u32)
    }

    /// A number that nobody can guess, another one each time.
    pub(crate) fn random(&mut self) -> u64 {
        self.drawn += 1;
        hash(self.key, Purpose::Random, self.drawn)
    }

    /// A sequence number to answer a SYN with, which carries what it asks for.
    pub(crate) fn cookie(&mut self, request: &Handshake, now_us: i64) -> u32 {
        self.given_us = Some(now_us);
        let period = now_us / PERIOD_US;
        let bytes = request.max_segment_bytes.unwrap_or(536);
        let segment = SEGMENTS.iter().rposition(|known| *known <= bytes).unwrap_or(0);
        let shift = SHIFTS.iter().rposition(|known| match (known, request.window_shift) {
            (Some(known), Some(shift)) => *known <= shift,
            (None, None) => true,
            _ => false,
        });
        let bits = segment as u32
            | (shift.unwrap_or(0) as u32) << 3
            | u32::from(request.selective) << 6
            | ((period & 1) as u32) << 7;
        let mac = self.mac(request, period, bits);
        mac << 8 | (bits ^ self.cover(request, mac))
    }

    /// Whether cookies were given that may still be answered.
    pub(crate) fn has_given(&self, now_us: i64) -> bool {
        self.given_us.is_some_and(|given_us| now_us - given_us < 2 * PERIOD_US)
    }

    /// What a SYN has asked for that was answered with this number, if it was, lately.
    pub(crate) fn read(&self, flow: Flow, local: u32, remote: u32, now_us: i64) -> Option<Handshake> {
        if !self.has_given(now_us) {
            return None;
        }
        let asked = Handshake {
            flow,
            local_sequence: local,
            remote_sequence: remote,
            max_segment_bytes: None,
            window_shift: None,
            selective: false,
            window_bytes: 0,
        };
        let mac = local >> 8;
        let bits = (local & 0xff) ^ self.cover(&asked, mac);
        let now = now_us / PERIOD_US;
        let period = if (now & 1) as u32 == bits >> 7 { now } else { now - 1 };
        (mac == self.mac(&asked, period, bits)).then(|| Handshake {
            max_segment_bytes: Some(SEGMENTS[bits as usize & 7]),
            window_shift: SHIFTS[bits as usize >> 3 & 7],
            selective: bits & 0x40 != 0,
            ..asked
        })
    }

    fn mac(&self, asked: &Handshake, period: i64, bits: u32) -> u32 {
        let covered = (asked.flow, asked.remote_sequence, period, bits);
        hash(self.key, Purpose::Cookie, covered) as u32 & 0x00ff_ffff
    }

    fn cover(&self, asked: &Handshake, mac: u32) -> u32 {
        hash(self.key, Purpose::Cover, (asked.flow, asked.remote_sequence, mac)) as u32 & 0xff
    }
}

fn hash((first, second): (u64, u64), purpose: Purpose, value: impl Hash) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(first, second);
    (purpose, value).hash(&mut hasher);
    hasher.finish()
}
