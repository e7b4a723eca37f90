//! A meeting of several.

use super::base::{Short, block_on};
use super::waiters::{Waiters, wake_all};
use core::future::poll_fn;
use core::task::Poll;

/// Lets nobody go on before so many have come. Then it can be used again.
#[derive(Debug)]
pub struct Barrier {
    members: usize,
    state: Short<State>,
}

#[derive(Debug)]
struct State {
    here: usize,
    /// Meetings that are over.
    meetings: u64,
    waiting: Waiters,
}

impl Barrier {
    /// A barrier for so many; 0 counts as 1.
    pub const fn new(members: usize) -> Barrier {
        let state = State { here: 0, meetings: 0, waiting: Waiters::new() };
        Barrier { members: if members == 0 { 1 } else { members }, state: Short::new(state) }
    }

    /// Waits until all are here. Returns `true` for one of them: the last.
    ///
    /// # Panics
    ///
    /// As [`super::Semaphore::acquire`].
    pub fn wait(&self) -> bool {
        block_on(self.wait_async())
    }

    /// The same for a task. One that is dropped has come nevertheless.
    pub async fn wait_async(&self) -> bool {
        let (meeting, all) = {
            let state = &mut *self.state.lock();
            state.here += 1;
            if state.here < self.members {
                (state.meetings, None)
            } else {
                state.here = 0;
                state.meetings += 1;
                (state.meetings, Some(state.waiting.take()))
            }
        };
        if let Some(all) = all {
            wake_all(all);
            return true;
        }
        let mut own = None;
        poll_fn(|context| {
            let state = &mut *self.state.lock();
            if state.meetings != meeting {
                return Poll::Ready(false);
            }
            state.waiting.wait(&mut own, context.waker());
            Poll::Pending
        })
        .await
    }
}
