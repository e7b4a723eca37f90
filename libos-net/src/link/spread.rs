//! One link for several cores: each has a stack of its own, and connections are spread over them.
//!
//! ```text
//!             ┌ frames by the hash of their ends ──► Lane ──► stack of core 1
//!   link ──► Spread ──► stack of core 0              Lane ──► stack of core 2
//!             └ what the others send ◄─────────────────┘
//! ```
//!
//! The core with the link takes all frames, keeps those of its own connections and passes the others on,
//! through queues without locks: a core that is taken off its processor keeps nobody waiting. What neighbours
//! say goes to all, and is answered by the core with the link. What is not TCP belongs to that core: the
//! sockets of UDP, and DHCP; the other stacks have static addresses. A program with one core does without all
//! this.

use super::{Frame, Link, NicStatistics, Offloads, Pages, pages_for};
use crate::flow::{Flow, Kind, classify, too_long};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicBool, Ordering, fence};
use core::time::Duration;
use crossbeam_queue::ArrayQueue;
use hyperexo_abi::FRAME_BYTES;
use siphasher::sip::SipHasher13;

/// Frames that wait for a core, or for the link, at most; then frames for the core are lost, as on any link.
const MOST: usize = 256;
/// Frames that are passed on before the core with the link looks after its own.
const AT_ONCE: usize = 64;
/// Pages that a core keeps for its next frames.
const MOST_SPARE: usize = 64;

/// How cores wait for one another.
pub trait Cores: Send + Sync {
    /// Has a core that waits look at its condition again. Whoever makes the condition true calls it after
    /// that.
    fn wake(&self, core: usize);

    /// Waits on this core until the condition holds or the timeout is over. May return early.
    fn wait(&self, core: usize, timeout: Option<Duration>, until: &mut dyn FnMut() -> bool);
}

/// Between the core with the link and another one.
struct Queues {
    incoming: ArrayQueue<Frame>,
    outgoing: ArrayQueue<Frame>,
    /// The other core sleeps, or is about to.
    sleeps: AtomicBool,
    /// It also waits for room in `outgoing`.
    wants_room: AtomicBool,
}

impl Queues {
    fn new() -> Queues {
        Queues {
            incoming: ArrayQueue::new(MOST),
            outgoing: ArrayQueue::new(MOST),
            sleeps: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
        }
    }
}

struct Shared {
    address: [u8; 6],
    max_frame_bytes: usize,
    offloads: Offloads,
    key: [u64; 2],
    /// Of all cores but the first.
    queues: Vec<Queues>,
    /// The core with the link sleeps, or is about to.
    first_sleeps: AtomicBool,
    cores: Arc<dyn Cores>,
}

impl Shared {
    /// The core of a connection.
    fn core_of(&self, flow: &Flow) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        flow.hash(&mut hasher);
        (hasher.finish() % (self.queues.len() as u64 + 1)) as usize
    }

    /// Wakes a core if its mark says that it waits. Called by who has done what it may wait for.
    fn wake(&self, core: usize, mark: &AtomicBool) {
        // Either the sleeper sees what was put there, or its mark is seen here.
        fence(Ordering::SeqCst);
        if mark.load(Ordering::Relaxed) && mark.swap(false, Ordering::Relaxed) {
            self.cores.wake(core);
        }
    }
}

/// Says in a mark that this core sleeps, while it calls `sleep`.
fn sleeping(mark: &AtomicBool, sleep: impl FnOnce()) {
    mark.store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    sleep();
    mark.store(false, Ordering::Relaxed);
}

/// The link of the core that has it.
pub struct Spread<L> {
    below: L,
    shared: Arc<Shared>,
    lost: u64,
}

/// The link of another core. It can be sent to it.
pub struct Lane {
    shared: Arc<Shared>,
    core: usize,
    /// Single pages of frames that have come.
    spare: Vec<Pages>,
}

/// Spreads a link over so many cores, at least one: the link for the core that has it, which counts as 0, and
/// those of the others. Nobody outside must know the key.
pub fn spread<L: Link>(
    below: L,
    cores: usize,
    key: [u64; 2],
    waits: Arc<dyn Cores>,
) -> (Spread<L>, Vec<Lane>) {
    let others = cores.max(1) - 1;
    let shared = Arc::new(Shared {
        address: below.address(),
        max_frame_bytes: below.max_frame_bytes(),
        offloads: below.offloads(),
        key,
        queues: (0..others).map(|_| Queues::new()).collect(),
        first_sleeps: AtomicBool::new(false),
        cores: waits,
    });
    let lane = |core| Lane { shared: Arc::clone(&shared), core, spare: Vec::new() };
    let lanes = (1..=others).map(lane).collect();
    (Spread { below, shared, lost: 0 }, lanes)
}

impl<L: Link> Spread<L> {
    /// Frames that were lost because a core was too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn pass(&mut self, core: usize, frame: Frame) {
        let queues = &self.shared.queues[core - 1];
        match queues.incoming.push(frame) {
            Ok(()) => self.shared.wake(core, &queues.sleeps),
            Err(frame) => {
                self.lost += 1;
                self.below.recycle(frame);
            }
        }
    }

    /// Sends what the others want sent, as far as there is room.
    fn send_for_others(&mut self) {
        for (core, queues) in (1..).zip(&self.shared.queues) {
            for _ in 0..AT_ONCE {
                if !self.below.has_room() {
                    return;
                }
                let Some(frame) = queues.outgoing.pop() else { break };
                self.below.send(frame);
                self.shared.wake(core, &queues.wants_room);
            }
        }
    }
}

impl<L: Link> Link for Spread<L> {
    fn address(&self) -> [u8; 6] {
        self.shared.address
    }
    fn max_frame_bytes(&self) -> usize {
        self.shared.max_frame_bytes
    }
    fn offloads(&self) -> Offloads {
        self.shared.offloads
    }
    fn statistics(&self) -> NicStatistics {
        self.below.statistics()
    }
    fn takes(&self, flow: &Flow) -> bool {
        self.shared.core_of(flow) == 0
    }

    fn receive(&mut self) -> Option<Frame> {
        for _ in 0..AT_ONCE {
            let frame = self.below.receive()?;
            match classify(&frame) {
                Kind::Tcp { flow, .. } => match self.shared.core_of(&flow) {
                    0 => return Some(frame),
                    core => self.pass(core, frame),
                },
                Kind::Neighbor | Kind::Discovery => {
                    (1..=self.shared.queues.len()).for_each(|core| self.pass(core, frame.clone()));
                    return Some(frame);
                }
                Kind::HiddenTcp => return Some(frame),
                // What a router says of a connection's packets is for the connection's core.
                Kind::Other => match too_long(&frame).map_or(0, |(flow, _)| self.shared.core_of(&flow)) {
                    0 => return Some(frame),
                    core => self.pass(core, frame),
                },
            }
        }
        None
    }

    fn frame(&mut self, bytes: usize) -> Frame {
        self.below.frame(bytes)
    }
    fn has_room(&mut self) -> bool {
        self.below.has_room()
    }
    fn send(&mut self, frame: Frame) {
        self.below.send(frame);
    }
    fn recycle(&mut self, frame: Frame) {
        self.below.recycle(frame);
    }
    fn flush(&mut self) {
        self.send_for_others();
        self.below.flush();
    }

    /// The link wakes this core when a frame comes; other cores do with [`Cores::wake`], which must have the
    /// link look at the condition of [`Link::wait_or`].
    fn wait_or(&mut self, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) {
        let Spread { below, shared, .. } = self;
        // While the link has no room, what others want sent is nothing to get up for.
        let is_full = !below.has_room();
        let waits =
            |shared: &Shared| !is_full && shared.queues.iter().any(|queues| !queues.outgoing.is_empty());
        sleeping(&shared.first_sleeps, || below.wait_or(timeout, &mut || waits(shared) || other()));
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        self.wait_or(timeout, &mut || false);
    }
}

impl Lane {
    /// The core that it is for.
    pub fn core(&self) -> usize {
        self.core
    }

    fn queues(&self) -> &Queues {
        &self.shared.queues[self.core - 1]
    }
}

impl Link for Lane {
    fn address(&self) -> [u8; 6] {
        self.shared.address
    }
    fn max_frame_bytes(&self) -> usize {
        self.shared.max_frame_bytes
    }
    fn offloads(&self) -> Offloads {
        self.shared.offloads
    }
    fn takes(&self, flow: &Flow) -> bool {
        self.shared.core_of(flow) == self.core
    }
    fn receive(&mut self) -> Option<Frame> {
        self.queues().incoming.pop()
    }

    /// What has come gives its pages to what is sent: the link gets as many back as it has given.
    fn frame(&mut self, bytes: usize) -> Frame {
        let page = if bytes <= FRAME_BYTES { self.spare.pop() } else { None };
        Frame::new(page.unwrap_or_else(|| pages_for(bytes)), bytes)
    }
    fn has_room(&mut self) -> bool {
        !self.queues().outgoing.is_full()
    }

    /// The core with the link answers for all what neighbours ask for.
    fn send(&mut self, frame: Frame) {
        if is_advertisement(&frame) {
            self.recycle(frame);
        } else {
            // Without room it is lost, as on any link; nobody sends without having asked.
            let _ = self.queues().outgoing.push(frame);
        }
    }
    fn recycle(&mut self, frame: Frame) {
        let (pages, _) = frame.into_parts();
        if pages.len() == 1 && self.spare.len() < MOST_SPARE {
            self.spare.push(pages);
        }
    }
    fn flush(&mut self) {
        if !self.queues().outgoing.is_empty() {
            self.shared.wake(0, &self.shared.first_sleeps);
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        self.wait_or(timeout, &mut || false);
    }
    fn wait_or(&mut self, timeout: Option<Duration>, other: &mut dyn FnMut() -> bool) {
        let queues = self.queues();
        let is_full = queues.outgoing.is_full();
        queues.wants_room.store(is_full, Ordering::Relaxed);
        let mut until = || !queues.incoming.is_empty() || is_full && !queues.outgoing.is_full() || other();
        sleeping(&queues.sleeps, || self.shared.cores.wait(self.core, timeout, &mut until));
    }
}

/// Whether a frame says whose an address is: an answer of ARP, or an advertisement of a neighbour of IPv6.
fn is_advertisement(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 6]) => frame.get(20..22) == Some(&[0, 2]),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && frame.get(54) == Some(&136),
        _ => false,
    }
}
