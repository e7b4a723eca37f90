//! Who changes the volume, or a file, and who wants to be alone with it.

use super::sleep::Sleep;
use crate::lock::Mutex;
use alloc::vec::Vec;
use core::task::Waker;

/// Many may be inside, or one may have closed it. Cores that must wait sleep. Who wants to close it goes
/// before those who come after.
#[derive(Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    inside: usize,
    closed: bool,
    waiting: Vec<Waker>,
}

/// A core is inside.
pub(super) struct Inside<'g>(&'g Gate);

/// A core has closed the gate, and nobody is inside.
pub(super) struct Closed<'g>(&'g Gate);

impl Gate {
    /// Goes inside as soon as the gate is open.
    pub(super) fn enter(&self, sleep: &dyn Sleep) -> Inside<'_> {
        self.wait_until(sleep, |state| {
            state.inside += usize::from(!state.closed);
            !state.closed
        });
        Inside(self)
    }

    /// Closes the gate, and waits until nobody is inside.
    pub(super) fn close(&self, sleep: &dyn Sleep) -> Closed<'_> {
        self.wait_until(sleep, |state| !core::mem::replace(&mut state.closed, true));
        let closed = Closed(self);
        self.wait_until(sleep, |state| state.inside == 0);
        closed
    }

    fn wait_until(&self, sleep: &dyn Sleep, mut condition: impl FnMut(&mut State) -> bool) {
        if condition(&mut self.0.lock()) {
            return;
        }
        let waker = sleep.waker();
        sleep.sleep_until(&mut || {
            let state = &mut *self.0.lock();
            let holds = condition(state);
            if !holds {
                state.waiting.push(waker.clone());
            }
            holds
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let state = &mut *self.0.lock();
            change(state);
            core::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.inside -= 1);
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.closed = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Threads;
    use core::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn who_closes_is_alone() {
        let (gate, inside) = (Gate::default(), AtomicI64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (gate, inside) = (&gate, &inside);
                scope.spawn(move || {
                    for round in 0..2000 {
                        if (round + thread) % 5 == 0 {
                            let _closed = gate.close(&Threads);
                            assert_eq!(inside.load(Ordering::SeqCst), 0);
                            inside.store(-1000, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.store(0, Ordering::SeqCst);
                        } else {
                            let _inside = gate.enter(&Threads);
                            assert!(inside.fetch_add(1, Ordering::SeqCst) >= 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
