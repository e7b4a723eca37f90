//! The time of day.

/// A clock that says how late it is, and how much time has passed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds on a clock that never goes back.
    now_ns: fn() -> u64,
    /// Milliseconds since 1970 when that clock was 0.
    start_ms: u64,
}

impl Clock {
    /// A clock by one that never goes back. `unix_ms` are the milliseconds since 1970 now.
    pub fn new(now_ns: fn() -> u64, unix_ms: u64) -> Clock {
        Clock { now_ns, start_ms: unix_ms.saturating_sub(now_ns() / 1_000_000) }
    }

    /// Nanoseconds on a clock that never goes back.
    pub fn now_ns(&self) -> u64 {
        (self.now_ns)()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.start_ms + self.now_ns() / 1_000_000
    }

    /// Goes on from a time, if it is later than now. For a machine that does not know the time, and has read
    /// how late it was when it stopped.
    pub fn at_least(&mut self, unix_ms: u64) {
        self.start_ms += unix_ms.saturating_sub(self.now_ms());
    }
}
