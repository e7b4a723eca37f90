//! One link for several cores: each has a stack of its own, and connections are spread over them.
//!
//! ```text
//!             ┌ frames by the hash of their ends ──► Lane ──► stack of core 1
//!   link ──► Spread ──► stack of core 0              Lane ──► stack of core 2
//!             └ what the others send ◄─────────────────┘
//! ```
//!
//! The core with the link takes all frames, keeps those of its own connections and passes the others on. What
//! neighbours say goes to all. What is not TCP belongs to the core with the link: the sockets of UDP, and
//! DHCP; the other stacks have static addresses. A program with one core does without all this.

use super::{Frame, Link, NicStatistics, Offloads};
use crate::flow::{Flow, Kind, classify, too_long};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use siphasher::sip::SipHasher13;
use spin::Mutex;

/// Frames that wait for a core, or for the link, at most; then frames for the core are lost, as on any link.
const MOST: usize = 256;
/// Frames that are passed on before the core with the link looks after its own.
const AT_ONCE: usize = 64;

/// How cores wait for one another.
pub trait Cores: Send + Sync {
    /// Ends the wait of a core, or its next one if it does not wait.
    fn wake(&self, core: usize);

    /// Waits on this core until it is woken, or the timeout is over. May return early.
    fn wait(&self, core: usize, timeout: Option<Duration>);
}

#[derive(Default)]
struct Queues {
    incoming: VecDeque<Frame>,
    outgoing: VecDeque<Frame>,
    /// Pages that the link can use again.
    spent: Vec<Frame>,
}

struct Shared {
    address: [u8; 6],
    max_frame_bytes: usize,
    offloads: Offloads,
    key: [u64; 2],
    /// Of all cores but the first.
    queues: Vec<Mutex<Queues>>,
    cores: Arc<dyn Cores>,
}

impl Shared {
    /// The core of a connection.
    fn core_of(&self, flow: &Flow) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        flow.hash(&mut hasher);
        (hasher.finish() % (self.queues.len() as u64 + 1)) as usize
    }
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
        queues: (0..others).map(|_| Mutex::default()).collect(),
        cores: waits,
    });
    let lanes = (1..=others).map(|core| Lane { shared: Arc::clone(&shared), core }).collect();
    (Spread { below, shared, lost: 0 }, lanes)
}

impl<L: Link> Spread<L> {
    /// Frames that were lost because a core was too slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn pass(&mut self, core: usize, frame: Frame) {
        let mut queues = self.shared.queues[core - 1].lock();
        if queues.incoming.len() < MOST {
            queues.incoming.push_back(frame);
            drop(queues);
            self.shared.cores.wake(core);
        } else {
            drop(queues);
            self.lost += 1;
            self.below.recycle(frame);
        }
    }

    /// Sends what the others want sent, as far as there is room. Returns whether there was something.
    fn send_for_others(&mut self) -> bool {
        let mut sent = false;
        for queues in &self.shared.queues {
            let (outgoing, spent) = {
                let queues = &mut *queues.lock();
                let mut outgoing = Vec::new();
                while outgoing.len() < AT_ONCE && self.below.has_room() {
                    let Some(frame) = queues.outgoing.pop_front() else { break };
                    outgoing.push(frame);
                }
                (outgoing, core::mem::take(&mut queues.spent))
            };
            sent |= !outgoing.is_empty();
            outgoing.into_iter().for_each(|frame| self.below.send(frame));
            spent.into_iter().for_each(|frame| self.below.recycle(frame));
        }
        sent
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

    /// The link wakes this core when a frame comes; other cores do with [`Cores::wake`], so that one must end
    /// the wait of the link too.
    fn wait(&mut self, timeout: Option<Duration>) {
        if self.send_for_others() {
            self.below.flush();
        } else {
            self.below.wait(timeout);
        }
    }
}

impl Lane {
    /// The core that it is for.
    pub fn core(&self) -> usize {
        self.core
    }

    fn queues(&self) -> &Mutex<Queues> {
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
        self.queues().lock().incoming.pop_front()
    }
    fn has_room(&mut self) -> bool {
        self.queues().lock().outgoing.len() < MOST
    }
    fn send(&mut self, frame: Frame) {
        self.queues().lock().outgoing.push_back(frame);
    }
    fn recycle(&mut self, frame: Frame) {
        let spent = &mut self.queues().lock().spent;
        if spent.len() < MOST {
            spent.push(frame);
        }
    }
    fn flush(&mut self) {
        if !self.queues().lock().outgoing.is_empty() {
            self.shared.cores.wake(0);
        }
    }
    fn wait(&mut self, timeout: Option<Duration>) {
        if self.queues().lock().incoming.is_empty() {
            self.shared.cores.wait(self.core, timeout);
        }
    }
}
