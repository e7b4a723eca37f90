//! Who runs next: what a scheduler hears, what it says, and six of them.
//!
//! [`Scheduler`] is the whole of it. Threads ([`crate::thread`]) and tasks ([`crate::task::Executor`]) are
//! scheduled by the same values; a scheduler knows neither. It is told who there is, who is ready, who is
//! blocked, and how long somebody ran; it says who is next, and for how long.
//!
//! | scheduler | who is next | source |
//! |---|---|---|
//! | [`RoundRobin`] | who waits longest | |
//! | [`Priorities`] | the highest priority; equals in turn | |
//! | [`Stride`] | who has had least for its weight | Waldspurger and Weihl, MIT/LCS/TM-528, 1995 |
//! | [`Lottery`] | who holds the ticket that is drawn | Waldspurger and Weihl, OSDI 1994 |
//! | [`EarliestDeadline`] | whose deadline is first; a budget guards the others | Liu and Layland, JACM 1973; Abeni and Buttazzo, RTSS 1998 |
//! | [`Feedback`] | who has used least lately | Corbató and others, AFIPS 1962; Arpaci-Dusseau, *OSTEP*, chapter 8 |
//!
//! All time is in ticks of whatever clock the caller has: in a unikernel, the processor's time stamp counter
//! ([`crate::time::ticks_in`]). Nothing here reads a clock, and nothing depends on where it runs.
//!
//! # To write one's own
//!
//! Implement [`Scheduler`]. The caller keeps to this order, which the tests of the shipped ones keep to, too:
//!
//! ```text
//!            ┌──────────── ran, then ready (Yielded, Used, Preempted) ─────────┐
//! enter ─ ready(Woken) ─ next ─ running ─┬─ ran, then blocked ─ ready(Woken) ─ next ─ ...
//!                                        └─ ran, then leave
//! ```
//!
//! Whom `next` names is out of the set of those that are ready, until it is reported ready again.
#![forbid(unsafe_code)]

mod deadline;
mod feedback;
mod lottery;
mod priority;
mod round_robin;
mod scheduler;
mod stride;

pub use deadline::EarliestDeadline;
pub use feedback::Feedback;
pub use lottery::Lottery;
pub use priority::Priorities;
pub use round_robin::RoundRobin;
pub use scheduler::{Id, Periodic, Refusal, Scheduler, Terms, Why};
pub use stride::Stride;

#[cfg(test)]
mod tests;
