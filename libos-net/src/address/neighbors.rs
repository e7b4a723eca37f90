//! Neighbours that are asked for.
//!
//! smoltcp asks for one neighbour a second, on the whole link: one that does not answer keeps all others
//! waiting. So here each is asked for by itself. The answer is addressed to us, and smoltcp takes it.

use alloc::vec::Vec;
use smoltcp::wire::IpAddress;

/// How long to wait before the same neighbour is asked for again.
const AGAIN_US: i64 = 1_000_000;
/// Neighbours that are remembered as asked for: beyond, the oldest is forgotten, and may be asked for again
/// a little early.
const MOST: usize = 64;

/// When neighbours were asked for.
#[derive(Default)]
pub(crate) struct Neighbors {
    asked: Vec<(IpAddress, i64)>,
}

impl Neighbors {
    /// Whether to ask for a neighbour now.
    pub(crate) fn may_ask(&mut self, neighbor: IpAddress, now_us: i64) -> bool {
        self.asked.retain(|(_, asked_us)| now_us - asked_us < AGAIN_US);
        if self.asked.iter().any(|(address, _)| *address == neighbor) {
            return false;
        }
        if self.asked.len() >= MOST {
            self.asked.remove(0);
        }
        self.asked.push((neighbor, now_us));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_for_once_a_second_and_nobody_keeps_others_waiting() {
        let mut neighbors = Neighbors::default();
        for now_us in [0, 999_999] {
            for last in 1..=3 {
                let asked = neighbors.may_ask(IpAddress::v4(10, 0, 0, last), now_us);
                assert_eq!(asked, now_us == 0, "{last} at {now_us}");
            }
        }
        assert!(neighbors.may_ask(IpAddress::v4(10, 0, 0, 1), 1_000_000));
        for number in 0..1000_u16 {
            neighbors.may_ask(IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, number), 1_000_001);
        }
        assert_eq!(neighbors.asked.len(), MOST);
    }
}
