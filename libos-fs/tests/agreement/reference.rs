//! The policies once more, written down from the papers' pseudo-code: with blocks instead of slots, plain
//! vectors, linear searches, the cache and its policy in one. Slow, and with nothing in common with the
//! library's code.

use std::collections::VecDeque;

/// A cache of a fixed size under one policy.
pub trait Reference {
    /// A reference to a block. Whether it was in the cache.
    fn hit(&mut self, block: u64) -> bool;
}

/// Misses on a reference string.
pub fn misses(cache: &mut dyn Reference, references: &[u64]) -> u64 {
    references.iter().filter(|block| !cache.hit(**block)).count() as u64
}

/// The cache of this name, or `None`.
pub fn build(name: &str, capacity: usize) -> Option<Box<dyn Reference>> {
    Some(match name {
        "fifo" => Box::new(Fifo { capacity, queue: VecDeque::new() }),
        "lru" => Box::new(Lru { capacity, stack: Vec::new() }),
        "clock" => Box::new(Clock { capacity, frames: Vec::new(), hand: 0 }),
        "lru-2" => Box::new(Lru2 { capacity, now: 0, resident: Vec::new(), retained: VecDeque::new() }),
        "2q" => Box::new(TwoQ { capacity, ..TwoQ::default() }),
        "lirs" => Box::new(Lirs { capacity, ..Lirs::default() }),
        "arc" => Box::new(Arc { c: capacity, ..Arc::default() }),
        "s3-fifo" => Box::new(S3Fifo { capacity, ..S3Fifo::default() }),
        "sieve" => Box::new(Sieve { capacity, queue: Vec::new(), hand: None }),
        _ => return None,
    })
}

fn take<T>(queue: &mut VecDeque<T>, wanted: impl Fn(&T) -> bool) -> Option<T> {
    let position = queue.iter().position(wanted)?;
    queue.remove(position)
}

struct Fifo {
    capacity: usize,
    queue: VecDeque<u64>,
}

impl Reference for Fifo {
    fn hit(&mut self, block: u64) -> bool {
        if self.queue.contains(&block) {
            return true;
        }
        if self.queue.len() == self.capacity {
            self.queue.pop_back();
        }
        self.queue.push_front(block);
        false
    }
}

struct Lru {
    capacity: usize,
    /// Top last.
    stack: Vec<u64>,
}

impl Reference for Lru {
    fn hit(&mut self, block: u64) -> bool {
        let position = self.stack.iter().position(|other| *other == block);
        match position {
            Some(position) => drop(self.stack.remove(position)),
            None if self.stack.len() == self.capacity => drop(self.stack.remove(0)),
            None => {}
        }
        self.stack.push(block);
        position.is_some()
    }
}

/// A ring of frames that stay where they are, and a hand that moves.
struct Clock {
    capacity: usize,
    frames: Vec<(u64, bool)>,
    hand: usize,
}

impl Reference for Clock {
    fn hit(&mut self, block: u64) -> bool {
        if let Some((_, used)) = self.frames.iter_mut().find(|(other, _)| *other == block) {
            *used = true;
            return true;
        }
        if self.frames.len() < self.capacity {
            self.frames.push((block, false));
            return false;
        }
        while self.frames[self.hand].1 {
            self.frames[self.hand].1 = false;
            self.hand = (self.hand + 1) % self.capacity;
        }
        self.frames[self.hand] = (block, false);
        self.hand = (self.hand + 1) % self.capacity;
        false
    }
}

/// O'Neil et al., figure 2.1, with K = 2 and a correlated reference period of 0.
struct Lru2 {
    capacity: usize,
    now: u64,
    /// Block, HIST(1), HIST(2).
    resident: Vec<(u64, u64, u64)>,
    /// Block, HIST(1) of what has left; oldest first.
    retained: VecDeque<(u64, u64)>,
}

impl Reference for Lru2 {
    fn hit(&mut self, block: u64) -> bool {
        self.now += 1;
        if let Some((_, last, before)) = self.resident.iter_mut().find(|(other, ..)| *other == block) {
            (*before, *last) = (*last, self.now);
            return true;
        }
        let before = take(&mut self.retained, |(other, _)| *other == block).map_or(0, |(_, last)| last);
        if self.resident.len() == self.capacity {
            let victim = self.resident.iter().min_by_key(|(_, last, before)| (*before, *last)).copied();
            let (victim, last, _) = victim.unwrap();
            self.resident.retain(|(other, ..)| *other != victim);
            self.retained.push_back((victim, last));
            if self.retained.len() > self.capacity {
                self.retained.pop_front();
            }
        }
        self.resident.push((block, self.now, before));
        false
    }
}

/// Johnson and Shasha, "2Q, full version". Heads are at the front.
#[derive(Default)]
struct TwoQ {
    capacity: usize,
    am: VecDeque<u64>,
    a1_in: VecDeque<u64>,
    a1_out: VecDeque<u64>,
}

impl TwoQ {
    fn reclaim(&mut self) {
        if self.am.len() + self.a1_in.len() < self.capacity {
            return;
        }
        if self.a1_in.len() > (self.capacity / 4).max(1) || self.am.is_empty() {
            let victim = self.a1_in.pop_back().unwrap();
            self.a1_out.push_front(victim);
            if self.a1_out.len() > (self.capacity / 2).max(1) {
                self.a1_out.pop_back();
            }
        } else {
            self.am.pop_back();
        }
    }
}

impl Reference for TwoQ {
    fn hit(&mut self, block: u64) -> bool {
        if take(&mut self.am, |other| *other == block).is_some() {
            self.am.push_front(block);
            return true;
        }
        if self.a1_in.contains(&block) {
            return true;
        }
        if take(&mut self.a1_out, |other| *other == block).is_some() {
            self.reclaim();
            self.am.push_front(block);
        } else {
            self.reclaim();
            self.a1_in.push_front(block);
        }
        false
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lir,
    Hir,
    Gone,
}

/// Jiang and Zhang, section 3.3.
#[derive(Default)]
struct Lirs {
    capacity: usize,
    /// Bottom first.
    s: Vec<(u64, Kind)>,
    /// Front first.
    q: VecDeque<u64>,
    /// Non-resident blocks in S in the order in which they left.
    left: Vec<u64>,
}

impl Lirs {
    fn lirs(&self) -> usize {
        self.s.iter().filter(|(_, kind)| *kind == Kind::Lir).count()
    }

    fn max_lirs(&self) -> usize {
        self.capacity - (self.capacity / 100).max(1)
    }

    fn prune(&mut self) {
        while let Some((block, kind)) = self.s.first().copied()
            && kind != Kind::Lir
        {
            self.s.remove(0);
            self.left.retain(|other| *other != block);
        }
    }

    /// Takes a block out of S. What it was there.
    fn take(&mut self, block: u64) -> Option<Kind> {
        let position = self.s.iter().position(|(other, _)| *other == block)?;
        Some(self.s.remove(position).1)
    }

    fn push_lir(&mut self, block: u64) {
        self.s.push((block, Kind::Lir));
        if self.lirs() > self.max_lirs() {
            let (bottom, _) = self.s.remove(0);
            self.q.push_back(bottom);
        }
        self.prune();
    }

    fn limit(&mut self) {
        while self.s.len() > 2 * self.capacity && !self.left.is_empty() {
            let oldest = self.left.remove(0);
            self.take(oldest);
        }
    }
}

impl Reference for Lirs {
    fn hit(&mut self, block: u64) -> bool {
        let was = self.s.iter().find(|(other, _)| *other == block).map(|(_, kind)| *kind);
        let queued = self.q.contains(&block);
        match was {
            Some(Kind::Lir) => {
                self.take(block);
                self.s.push((block, Kind::Lir));
                self.prune();
                return true;
            }
            Some(Kind::Hir) => {
                self.take(block);
                take(&mut self.q, |other| *other == block);
                self.push_lir(block);
                return true;
            }
            None if queued => {
                self.s.push((block, Kind::Hir));
                take(&mut self.q, |other| *other == block);
                self.q.push_back(block);
                self.limit();
                return true;
            }
            _ => {}
        }
        if self.lirs() + self.q.len() == self.capacity
            && let Some(victim) = self.q.pop_front()
            && let Some(entry) = self.s.iter_mut().find(|(other, _)| *other == victim)
        {
            entry.1 = Kind::Gone;
            self.left.push(victim);
        }
        if was == Some(Kind::Gone) {
            self.take(block);
            self.left.retain(|other| *other != block);
            self.push_lir(block);
        } else if self.lirs() < self.max_lirs() {
            self.push_lir(block);
        } else {
            self.s.push((block, Kind::Hir));
            self.q.push_back(block);
            self.prune();
        }
        self.limit();
        false
    }
}

/// Megiddo and Modha, figure 4. MRU at the back.
#[derive(Default)]
struct Arc {
    c: usize,
    p: f64,
    t1: VecDeque<u64>,
    t2: VecDeque<u64>,
    b1: VecDeque<u64>,
    b2: VecDeque<u64>,
}

impl Arc {
    fn replace(&mut self, in_b2: bool) {
        let t1 = self.t1.len() as f64;
        if !self.t1.is_empty() && (t1 > self.p || in_b2 && t1 == self.p) {
            self.b1.extend(self.t1.pop_front());
        } else {
            self.b2.extend(self.t2.pop_front());
        }
    }
}

impl Reference for Arc {
    fn hit(&mut self, x: u64) -> bool {
        let is_x = |other: &u64| *other == x;
        // Case I.
        if take(&mut self.t1, is_x).or_else(|| take(&mut self.t2, is_x)).is_some() {
            self.t2.push_back(x);
            return true;
        }
        let (b1, b2) = (self.b1.len() as f64, self.b2.len() as f64);
        // Case II.
        if self.b1.contains(&x) {
            let delta = if b1 >= b2 { 1.0 } else { b2 / b1 };
            self.p = (self.p + delta).min(self.c as f64);
            self.replace(false);
            take(&mut self.b1, is_x);
            self.t2.push_back(x);
            return false;
        }
        // Case III.
        if self.b2.contains(&x) {
            let delta = if b2 >= b1 { 1.0 } else { b1 / b2 };
            self.p = (self.p - delta).max(0.0);
            self.replace(true);
            take(&mut self.b2, is_x);
            self.t2.push_back(x);
            return false;
        }
        // Case IV.
        let l1 = self.t1.len() + self.b1.len();
        let both = l1 + self.t2.len() + self.b2.len();
        if l1 == self.c {
            if self.t1.len() < self.c {
                self.b1.pop_front();
                self.replace(false);
            } else {
                self.t1.pop_front();
            }
        } else if both >= self.c {
            if both == 2 * self.c {
                self.b2.pop_front();
            }
            self.replace(false);
        }
        self.t1.push_back(x);
        false
    }
}

/// Yang et al., algorithm 1, filled as in the authors' simulator. Heads are at the front.
#[derive(Default)]
struct S3Fifo {
    capacity: usize,
    small: VecDeque<(u64, u8)>,
    main: VecDeque<(u64, u8)>,
    ghost: VecDeque<u64>,
    evicting: bool,
}

impl S3Fifo {
    fn full(&self) -> bool {
        self.small.len() + self.main.len() >= self.capacity
    }

    fn evict(&mut self) {
        if self.small.len() >= (self.capacity / 10).max(1) {
            while let Some((block, frequency)) = self.small.pop_back() {
                if frequency > 1 {
                    self.main.push_front((block, 0));
                } else {
                    self.ghost.push_front(block);
                    self.ghost.truncate(self.capacity * 9 / 10);
                    return;
                }
            }
        } else {
            while let Some((block, frequency)) = self.main.pop_back() {
                if frequency == 0 {
                    return;
                }
                self.main.push_front((block, frequency - 1));
            }
        }
    }
}

impl Reference for S3Fifo {
    fn hit(&mut self, block: u64) -> bool {
        let mut all = self.small.iter_mut().chain(&mut self.main);
        if let Some((_, frequency)) = all.find(|(other, _)| *other == block) {
            *frequency = (*frequency + 1).min(3);
            return true;
        }
        let in_ghost = take(&mut self.ghost, |other| *other == block).is_some();
        while self.full() {
            self.evicting = true;
            self.evict();
        }
        let to_main = in_ghost || !self.evicting && self.small.len() >= (self.capacity / 10).max(1);
        if to_main {
            self.main.push_front((block, 0))
        } else {
            self.small.push_front((block, 0))
        }
        false
    }
}

/// Zhang et al., algorithm 1. The head is the last; the hand is a position.
struct Sieve {
    capacity: usize,
    queue: Vec<(u64, bool)>,
    hand: Option<usize>,
}

impl Reference for Sieve {
    fn hit(&mut self, block: u64) -> bool {
        if let Some((_, visited)) = self.queue.iter_mut().find(|(other, _)| *other == block) {
            *visited = true;
            return true;
        }
        if self.queue.len() == self.capacity {
            let mut hand = self.hand.unwrap_or(0);
            while self.queue[hand].1 {
                self.queue[hand].1 = false;
                hand = (hand + 1) % self.capacity;
            }
            self.queue.remove(hand);
            self.hand = (hand < self.queue.len()).then_some(hand);
        }
        self.queue.push((block, false));
        false
    }
}
