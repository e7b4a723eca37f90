//! Round-trip times and the retransmission timeout (RFC 6298).

/// The shortest timeout: as Linux (`TCP_RTO_MIN`), shorter than the second that the standard asks for.
const SHORTEST_US: i64 = 200_000;
/// The longest.
const LONGEST_US: i64 = 60_000_000;
/// Before there is a sample.
const FIRST_US: i64 = 1_000_000;
/// The clock's granularity, as far as timeouts go.
const GRANULARITY_US: i64 = 1_000;

/// Estimates of a path, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrips {
    smoothed_us: Option<i64>,
    variation_us: i64,
    least_us: Option<i64>,
    doublings: u32,
}

impl RoundTrips {
    /// A segment was acknowledged after so long, and it was sent once only.
    pub(super) fn sample(&mut self, rtt_us: i64) {
        let rtt_us = rtt_us.max(1);
        self.least_us = Some(self.least_us.map_or(rtt_us, |least| least.min(rtt_us)));
        self.doublings = 0;
        match self.smoothed_us {
            None => (self.smoothed_us, self.variation_us) = (Some(rtt_us), rtt_us / 2),
            Some(smoothed) => {
                self.variation_us += ((smoothed - rtt_us).abs() - self.variation_us) / 4;
                self.smoothed_us = Some(smoothed + (rtt_us - smoothed) / 8);
            }
        }
    }

    /// The smoothed time.
    pub(super) fn smoothed_us(&self) -> Option<i64> {
        self.smoothed_us
    }

    /// The shortest that was seen.
    pub(super) fn least_us(&self) -> Option<i64> {
        self.least_us
    }

    /// How long to wait for an acknowledgement.
    pub(super) fn timeout_us(&self) -> i64 {
        let plain = self.smoothed_us.map_or(FIRST_US, |smoothed| {
            (smoothed + GRANULARITY_US.max(4 * self.variation_us)).max(SHORTEST_US)
        });
        plain.saturating_mul(1 << self.doublings.min(10)).min(LONGEST_US)
    }

    /// It was waited in vain.
    pub(super) fn back_off(&mut self) {
        self.doublings += 1;
    }

    /// Something new was acknowledged.
    pub(super) fn forget_back_off(&mut self) {
        self.doublings = 0;
    }

    /// How often it was waited in vain, one time after the other.
    pub(super) fn doublings(&self) -> u32 {
        self.doublings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_follow_the_samples_and_double() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(round_trips.timeout_us(), FIRST_US);
        round_trips.sample(1_000);
        assert_eq!(round_trips.timeout_us(), SHORTEST_US);
        round_trips.sample(800_000);
        assert!(round_trips.timeout_us() > 800_000);
        let plain = round_trips.timeout_us();
        round_trips.back_off();
        assert_eq!(round_trips.timeout_us(), 2 * plain);
        (0..40).for_each(|_| round_trips.back_off());
        assert_eq!(round_trips.timeout_us(), LONGEST_US);
        round_trips.forget_back_off();
        assert_eq!((round_trips.timeout_us(), round_trips.least_us()), (plain, Some(1_000)));
    }
}
