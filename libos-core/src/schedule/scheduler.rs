//! What a scheduler hears and says.

use alloc::vec::Vec;
use core::fmt;

/// A thread or a task, as its scheduler knows it: a small number, used again after the one before has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u32);

/// What somebody is to get. Each scheduler looks at what it understands and ignores the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Share of the processor, in proportion to the weights of the others: [`Stride`](super::Stride),
    /// [`Lottery`](super::Lottery). 0 counts as 1.
    pub weight: u32,
    /// A higher one goes first: [`Priorities`](super::Priorities).
    pub priority: u8,
    /// What is needed by when: [`EarliestDeadline`](super::EarliestDeadline).
    pub periodic: Option<Periodic>,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { weight: 1, priority: 0, periodic: None }
    }
}

/// Work that comes again and again, and is to be done before it comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periodic {
    /// Ticks from when the work comes to when it must be done.
    pub period: u64,
    /// Ticks that it takes at most.
    pub budget: u64,
}

/// Why somebody is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is new, or what it was blocked for has come.
    Woken,
    /// It ran and lets others go first.
    Yielded,
    /// It ran for its quantum.
    Used,
    /// It ran, and somebody more urgent came.
    Preempted,
}

/// Somebody can't be taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With it, not all deadlines could be met.
    Overload {
        /// Parts of a million of the processor that would be promised.
        promised: u64,
    },
    /// A period of 0, a budget of 0, or a budget beyond the period.
    Impossible(Periodic),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Overload { promised } => {
                let (percent, rest) = (promised / 10_000, promised % 10_000 / 100);
                write!(f, "deadlines would need {percent}.{rest:02} % of the processor")
            }
            Refusal::Impossible(Periodic { period, budget }) => {
                write!(f, "{budget} ticks in each {period}: both must be above 0, the period not shorter")
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// Decides who runs. One value decides for one core, or for one executor. See the module's text for the order
/// of the calls.
pub trait Scheduler: Send {
    /// Somebody is there from now on, not ready yet.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; then it is as if the call had not been.
    fn enter(&mut self, who: Id, terms: Terms, now: u64) -> Result<(), Refusal>;

    /// Somebody is gone, whether it was ready, blocked or running.
    fn leave(&mut self, who: Id);

    /// Somebody wants to run.
    fn ready(&mut self, who: Id, why: Why, now: u64);

    /// Who was running waits for something.
    fn blocked(&mut self, who: Id, now: u64) {
        let _ = (who, now);
    }

    /// Who was running ran for so long.
    fn ran(&mut self, who: Id, ticks: u64) {
        let _ = (who, ticks);
    }

    /// Time passes. Called now and then, at the end of a quantum at least.
    fn tick(&mut self, now: u64) {
        let _ = now;
    }

    /// Who runs now. `None` if nobody is ready.
    fn next(&mut self, now: u64) -> Option<Id>;

    /// Ticks that somebody may run, from when it was named, while others are ready.
    fn quantum(&self, who: Id) -> u64;

    /// Whether somebody who is ready shall run at once, before the quantum of who is running is over.
    fn preempts(&self, running: Id) -> bool {
        let _ = running;
        false
    }

    /// Gives one that is ready, and that `may` go, to another core. The caller tells that it leaves.
    fn give(&mut self, may: &dyn Fn(Id) -> bool) -> Option<Id>;

    /// Whether [`Scheduler::ran`] must be told in truth. If not, callers save looks at the clock.
    fn wants_time(&self) -> bool {
        true
    }
}

/// Something for each [`Id`], found by its number.
#[derive(Clone, Debug)]
pub(super) struct ById<T>(pub Vec<Option<T>>);

impl<T> ById<T> {
    pub const fn new() -> ById<T> {
        ById(Vec::new())
    }

    pub fn set(&mut self, who: Id, value: T) {
        let at = who.0 as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(value);
    }

    pub fn get(&self, who: Id) -> Option<&T> {
        self.0.get(who.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, who: Id) -> Option<&mut T> {
        self.0.get_mut(who.0 as usize)?.as_mut()
    }

    pub fn take(&mut self, who: Id) -> Option<T> {
        self.0.get_mut(who.0 as usize)?.take()
    }
}
