//! The congestion window: none, NewReno (RFC 5681, 6582) or Cubic (RFC 9438), in integers.

use crate::protocol::Congestion;

/// Multiplies a window at a loss, in tenths: Cubic's, section 4.6.
const CUBIC_TENTHS: i64 = 7;

/// A congestion window, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    kind: Congestion,
    segment: i64,
    bytes: i64,
    threshold: i64,
    /// Acknowledged bytes that have not yet moved the window.
    credit: i64,
    cubic: Cubic,
}

/// What Cubic remembers of the last loss.
#[derive(Clone, Copy, Debug, Default)]
struct Cubic {
    most: i64,
    since_us: Option<i64>,
    /// Milliseconds from the loss to the plateau.
    plateau_ms: i64,
    /// What Reno would have.
    reno: i64,
}

impl Window {
    /// The window at the beginning: ten segments (RFC 6928).
    pub(super) fn new(kind: Congestion, segment: usize) -> Window {
        let segment = segment as i64;
        let mut window =
            Window { kind, segment, bytes: 0, threshold: i64::MAX, credit: 0, cubic: Cubic::default() };
        window.begin(segment as usize);
        window
    }

    /// The peer has said how long segments are; nothing was sent yet.
    pub(super) fn begin(&mut self, segment: usize) {
        self.segment = segment as i64;
        self.bytes = (10 * self.segment).min((2 * self.segment).max(14_600));
    }

    /// Bytes that may be on their way.
    pub(super) fn bytes(&self) -> i64 {
        if self.kind == Congestion::None { i64::MAX / 4 } else { self.bytes }
    }

    /// Whether it grows as fast as it can.
    fn starts_slowly(&self) -> bool {
        self.bytes < self.threshold
    }

    /// So many bytes were acknowledged, while the window was what held more back.
    pub(super) fn grow(&mut self, acknowledged: i64, now_us: i64, round_trip_us: i64) {
        if self.starts_slowly() {
            self.bytes += acknowledged.min(2 * self.segment);
            return;
        }
        match self.kind {
            Congestion::None => {}
            Congestion::Reno => self.reno(acknowledged),
            Congestion::Cubic => self.cubic(acknowledged, now_us, round_trip_us),
        }
    }

    /// A segment more for each window that is acknowledged.
    fn reno(&mut self, acknowledged: i64) {
        self.credit += acknowledged;
        if self.credit >= self.bytes {
            self.credit -= self.bytes;
            self.bytes += self.segment;
        }
    }

    fn cubic(&mut self, acknowledged: i64, now_us: i64, round_trip_us: i64) {
        let since_us = match self.cubic.since_us {
            Some(since_us) => since_us,
            None => {
                let below = (self.cubic.most - self.bytes).max(0) / self.segment;
                // 1 / 0.4 a segment and cubic second, as cubic milliseconds.
                self.cubic.plateau_ms = cube_root(below.saturating_mul(2_500_000_000));
                self.cubic.most = self.cubic.most.max(self.bytes);
                self.cubic.reno = self.bytes;
                *self.cubic.since_us.insert(now_us)
            }
        };
        // Where the curve is a round trip from now (section 4.4).
        let elapsed_ms = (now_us - since_us + round_trip_us) / 1000 - self.cubic.plateau_ms;
        let distance = elapsed_ms.clamp(-50_000, 50_000);
        let curve = self.cubic.most + distance * distance * distance / 1_000_000 * self.segment * 4 / 10_000;
        let target = curve.clamp(self.bytes, self.bytes + self.bytes / 2);
        self.credit += acknowledged;
        // As fast as Reno would be: 3 (1 - 0.7) / (1 + 0.7) segments a window.
        self.cubic.reno += self.segment * acknowledged * 53 / 100 / self.bytes.max(1);
        let step = (target - self.bytes) * self.credit / self.bytes.max(1);
        if step > 0 {
            self.credit = 0;
            self.bytes += step;
        }
        self.bytes = self.bytes.max(self.cubic.reno.min(self.bytes + self.segment));
    }

    /// Something was lost while so many bytes were on their way.
    pub(super) fn lose(&mut self, in_flight: i64) {
        let tenths = match self.kind {
            Congestion::Cubic => {
                // Room for others if the window did not come back to where it was (section 4.7).
                self.cubic.most = if self.bytes < self.cubic.most {
                    self.bytes * (10 + CUBIC_TENTHS) / 20
                } else {
                    self.bytes
                };
                self.cubic.since_us = None;
                CUBIC_TENTHS
            }
            _ => 5,
        };
        self.threshold = (in_flight * tenths / 10).max(2 * self.segment);
        self.bytes = self.threshold;
        self.credit = 0;
    }

    /// Nothing was heard for a timeout. `first` if it is the first since something was.
    pub(super) fn time_out(&mut self, in_flight: i64, first: bool) {
        if first {
            self.lose(in_flight);
        }
        self.bytes = self.segment;
        self.credit = 0;
    }
}

/// The whole part of a cube root.
fn cube_root(number: i64) -> i64 {
    let (mut low, mut high) = (0_i64, 2_000_000_i64);
    while low < high {
        let middle = (low + high + 1) / 2;
        if middle * middle * middle <= number { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots_are_rounded_down() {
        for (number, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (1_000_000_000, 1000)] {
            assert_eq!(cube_root(number), root, "{number}");
        }
        assert_eq!(cube_root(i64::MAX), 2_000_000);
    }

    #[test]
    fn the_first_window_is_ten_segments_and_doubles_each_round() {
        let mut window = Window::new(Congestion::Reno, 1460);
        assert_eq!(window.bytes(), 14_600);
        (0..10).for_each(|_| window.grow(1460, 0, 0));
        assert_eq!(window.bytes(), 29_200);
        assert_eq!(Window::new(Congestion::Reno, 8960).bytes(), 17_920);
    }

    #[test]
    fn a_loss_halves_reno_and_then_it_grows_by_a_segment_a_window() {
        let mut window = Window::new(Congestion::Reno, 1000);
        window.lose(100_000);
        assert_eq!(window.bytes(), 50_000);
        (0..50).for_each(|_| window.grow(1000, 0, 0));
        assert_eq!(window.bytes(), 51_000);
        window.time_out(51_000, true);
        assert_eq!(window.bytes(), 1000);
    }

    #[test]
    fn cubic_comes_back_to_where_it_was_when_the_curve_says() {
        let mut window = Window::new(Congestion::Cubic, 1000);
        window.bytes = 1_000_000;
        window.threshold = 1_000_000;
        window.lose(1_000_000);
        assert_eq!(window.bytes(), 700_000);
        // K is the cube root of 300 / 0.4: 9.08 s.
        let (mut now_us, mut before) = (0, 0);
        while now_us < 9_080_000 {
            window.grow(window.bytes(), now_us, 100_000);
            now_us += 100_000;
            before = if now_us < 5_000_000 { window.bytes() } else { before };
        }
        assert!((960_000..1_040_000).contains(&window.bytes()), "{}", window.bytes());
        assert!(before > 900_000, "fast first: {before}");
        while now_us < 18_000_000 {
            window.grow(window.bytes(), now_us, 100_000);
            now_us += 100_000;
        }
        assert!(window.bytes() > 1_200_000, "then it looks for more: {}", window.bytes());
    }
}
