//! What is on its way: when it was sent, what has arrived, what is lost (RACK-TLP, RFC 8985).

use super::rtt::RoundTrips;
use alloc::collections::VecDeque;
use core::ops::Range;

/// Records beyond which a block does not cut one in two: a peer that reports every other byte would have as
/// many made as there are bytes on their way.
const MOST_CUT: usize = 1024;
/// Places for records that an idle connection keeps.
const MOST_IDLE: usize = 16;

/// A range that was sent at once.
#[derive(Clone, Copy, Debug)]
struct Record {
    start: i64,
    end: i64,
    sent_us: i64,
    again: bool,
    sacked: bool,
    lost: bool,
}

impl Record {
    fn len(&self) -> i64 {
        self.end - self.start
    }

    /// Whether it was sent before the other, or in the same moment and lies before it.
    fn before(&self, sent_us: i64, end: i64) -> bool {
        self.sent_us < sent_us || self.sent_us == sent_us && self.end < end
    }
}

/// The last of what was sent among all that has arrived.
#[derive(Clone, Copy, Debug)]
struct Latest {
    sent_us: i64,
    end: i64,
    rtt_us: i64,
}

/// What an acknowledgement has told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Bytes that are known to have arrived since now.
    pub(super) bytes: i64,
    /// A round trip of something that was sent once only.
    pub(super) rtt_us: Option<i64>,
}

/// The scoreboard. Places are counted from the SYN, which is 0.
#[derive(Debug)]
pub(super) struct Scoreboard {
    records: VecDeque<Record>,
    acknowledged: i64,
    next: i64,
    sacked: i64,
    lost: i64,
    latest: Latest,
    /// The last place that has arrived.
    furthest: i64,
    has_reordered: bool,
}

impl Scoreboard {
    pub(super) fn new() -> Scoreboard {
        Scoreboard {
            records: VecDeque::new(),
            acknowledged: 0,
            next: 0,
            sacked: 0,
            lost: 0,
            latest: Latest { sent_us: i64::MIN, end: 0, rtt_us: 0 },
            furthest: 0,
            has_reordered: false,
        }
    }

    /// The SYN was sent and acknowledged elsewhere.
    pub(super) fn begin(&mut self) {
        (self.acknowledged, self.next, self.furthest) = (1, 1, 1);
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }

    /// All before this place was acknowledged.
    pub(super) fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// Nothing from this place on was sent.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Bytes that were sent and not acknowledged.
    pub(super) fn in_flight(&self) -> i64 {
        self.next - self.acknowledged
    }

    /// Bytes that are thought to be in the network.
    pub(super) fn in_network(&self) -> i64 {
        self.in_flight() - self.sacked - self.lost
    }

    /// Bytes that have arrived out of order.
    pub(super) fn sacked(&self) -> i64 {
        self.sacked
    }

    /// Whether something is to be sent again.
    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// New bytes were sent up to this place.
    pub(super) fn sent(&mut self, to: i64, now_us: i64) {
        let record =
            Record { start: self.next, end: to, sent_us: now_us, again: false, sacked: false, lost: false };
        self.records.push_back(record);
        self.next = to;
    }

    /// The first of what was lost, at most `most` of it, which is sent again now.
    pub(super) fn send_again(&mut self, most: i64, now_us: i64) -> Option<Range<i64>> {
        let at = self.records.iter().position(|record| record.lost)?;
        self.split(at, self.records[at].start + most);
        let record = &mut self.records[at];
        self.lost -= record.len();
        (record.lost, record.again, record.sent_us) = (false, true, now_us);
        Some(record.start..record.end)
    }

    /// Splits a record at a place within it.
    fn split(&mut self, at: usize, place: i64) {
        let record = self.records[at];
        if record.start < place && place < record.end {
            self.records[at].end = place;
            self.records.insert(at + 1, Record { start: place, ..record });
        }
    }

    /// The peer has all before `to`, and what is in the blocks.
    pub(super) fn acknowledge(
        &mut self,
        to: i64,
        blocks: impl Iterator<Item = Range<i64>>,
        now_us: i64,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        let before = self.latest;
        while let Some(record) = self.records.front_mut() {
            if record.start >= to {
                break;
            }
            let part = Record { end: record.end.min(to), ..*record };
            record.start = part.end;
            let over = record.start == record.end;
            if over {
                self.records.pop_front();
            }
            if part.lost {
                self.lost -= part.len();
            }
            if part.sacked {
                self.sacked -= part.len();
            } else {
                self.arrived(&part, now_us, &mut delivered);
            }
        }
        self.acknowledged = self.acknowledged.max(to);
        for block in blocks {
            if block.start >= self.acknowledged && block.start < block.end && block.end <= self.next {
                self.take_block(&block, now_us, &mut delivered);
            }
        }
        // The SYN's place is not kept for a connection that may never have data.
        if self.records.is_empty() && (to == 1 || self.records.capacity() > MOST_IDLE) {
            self.records = VecDeque::new();
        }
        debug_assert!(self.latest.sent_us >= before.sent_us);
        delivered
    }

    fn take_block(&mut self, block: &Range<i64>, now_us: i64, delivered: &mut Delivered) {
        let mut at = self.records.partition_point(|record| record.end <= block.start);
        while at < self.records.len() && self.records[at].start < block.end {
            let whole = block.start <= self.records[at].start && self.records[at].end <= block.end;
            if !self.records[at].sacked && (whole || self.records.len() < MOST_CUT) {
                if self.records[at].start < block.start {
                    self.split(at, block.start);
                    at += 1;
                }
                self.split(at, block.end);
                let record = self.records[at];
                if record.lost {
                    self.lost -= record.len();
                }
                self.sacked += record.len();
                (self.records[at].sacked, self.records[at].lost) = (true, false);
                self.arrived(&record, now_us, delivered);
            }
            at += 1;
        }
    }

    /// A record has arrived, or the part of it that this is.
    fn arrived(&mut self, record: &Record, now_us: i64, delivered: &mut Delivered) {
        delivered.bytes += record.len();
        let rtt_us = now_us - record.sent_us;
        if record.again {
            // It may have been the first one that arrived (section 6.2, step 2).
            if rtt_us < self.latest.rtt_us {
                return;
            }
        } else {
            delivered.rtt_us = Some(delivered.rtt_us.map_or(rtt_us, |least| least.min(rtt_us)));
            if record.end < self.furthest {
                self.has_reordered = true;
            }
        }
        self.furthest = self.furthest.max(record.end);
        if !record.before(self.latest.sent_us, self.latest.end) {
            self.latest = Latest { sent_us: record.sent_us, end: record.end, rtt_us };
        }
    }

    /// Marks what was sent so long before something that has arrived that it must be lost. Returns whether
    /// something was marked, and when to look again.
    pub(super) fn find_lost(
        &mut self,
        round_trips: &RoundTrips,
        recovers: bool,
        segment: i64,
        now_us: i64,
    ) -> (bool, Option<i64>) {
        if self.records.is_empty() || self.latest.sent_us == i64::MIN {
            return (false, None);
        }
        let patience_us = if !self.has_reordered && (recovers || self.sacked >= 3 * segment) {
            0
        } else {
            let quarter = round_trips.least_us().unwrap_or_default() / 4;
            quarter.min(round_trips.smoothed_us().unwrap_or(quarter))
        };
        let (mut found, mut again_us) = (false, None);
        for record in &mut self.records {
            if record.sacked || record.lost || !record.before(self.latest.sent_us, self.latest.end) {
                continue;
            }
            let end_us = record.sent_us + self.latest.rtt_us + patience_us;
            if end_us <= now_us {
                record.lost = true;
                self.lost += record.len();
                found = true;
            } else {
                again_us = Some(again_us.map_or(end_us, |later: i64| later.max(end_us)));
            }
        }
        (found, again_us)
    }

    /// The first that has not arrived is lost: for peers that send no blocks. Returns whether it was not
    /// thought so before.
    pub(super) fn lose_first(&mut self, most: i64) -> bool {
        if self.records.front().is_none_or(|first| first.lost) {
            return false;
        }
        self.split(0, self.records[0].start + most);
        let first = &mut self.records[0];
        first.lost = true;
        self.lost += first.len();
        true
    }

    /// The last of what is on its way is sent again, to hear what has arrived.
    pub(super) fn probe_last(&mut self, most: i64, now_us: i64) -> Option<Range<i64>> {
        let at = self.records.len().checked_sub(1)?;
        self.split(at, self.records[at].end - most);
        let last = self.records.back_mut()?;
        if last.lost {
            self.lost -= last.len();
        }
        (last.lost, last.again, last.sent_us) = (false, true, now_us);
        Some(last.start..last.end)
    }

    /// All that has not arrived is lost: a timeout.
    pub(super) fn lose_all(&mut self) {
        for record in &mut self.records {
            if !record.sacked && !record.lost {
                record.lost = true;
                self.lost += record.len();
            }
        }
    }

    /// The peer may have thrown away what it had reported (RFC 2018, section 8): all is as if it were not.
    pub(super) fn forget_blocks(&mut self) {
        self.records.iter_mut().for_each(|record| record.sacked = false);
        self.sacked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_reports_every_other_byte_has_few_records_made() {
        let mut board = Scoreboard::new();
        board.begin();
        (1..=100).for_each(|number| board.sent(1 + number * 1000, number));
        for at in 0..40_000 {
            let block = 2 + 2 * at..3 + 2 * at;
            board.acknowledge(1, [block].into_iter(), 1000);
            assert!(board.records.len() <= MOST_CUT + 1, "{} after {at}", board.records.len());
        }
        // A whole record still counts.
        let sacked = board.sacked();
        board.acknowledge(1, core::iter::once(90_001..91_001), 1000);
        assert_eq!(board.sacked(), sacked + 1000);
        board.acknowledge(100_001, core::iter::empty(), 1000);
        assert_eq!((board.sacked(), board.in_flight(), board.records.len()), (0, 0, 0));
    }
}
