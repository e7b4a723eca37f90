//! A queue from any number of senders to any number of receivers.

use super::base::{Short, block_on};
use super::waiters::{Waiters, wake_all};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// The other side of a channel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of the channel is gone")
    }
}

impl core::error::Error for Closed {}

/// Why a value was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySend<T> {
    /// There is no room now.
    Full(T),
    /// Nobody receives any more.
    Closed(T),
}

/// Why no value was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryReceive {
    /// There is none now.
    Empty,
    /// There is none, and nobody sends any more.
    Closed,
}

struct State<T> {
    values: VecDeque<T>,
    senders: usize,
    receivers: usize,
    /// Receivers that wait for values.
    hungry: Waiters,
    /// Senders that wait for room.
    crowded: Waiters,
}

struct Shared<T> {
    capacity: usize,
    state: Short<State<T>>,
}

/// A channel that holds at most `capacity` values (at least 1). Values come out in the order in which they
/// went in. Both sides can be cloned.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        values: VecDeque::new(),
        senders: 1,
        receivers: 1,
        hungry: Waiters::new(),
        crowded: Waiters::new(),
    };
    let shared = Arc::new(Shared { capacity: capacity.max(1), state: Short::new(state) });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The side that puts values in.
pub struct Sender<T>(Arc<Shared<T>>);

/// The side that takes values out.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Shared<T> {
    fn has_room(&self, state: &State<T>) -> bool {
        state.values.len() < self.capacity
    }

    /// Puts a value in. The first receiver that waits is woken, and stays first until it has a value.
    fn put(&self, state: &mut State<T>, value: T) -> Option<Waker> {
        state.values.push_back(value);
        state.hungry.first()
    }
}

impl<T> Sender<T> {
    /// Puts a value in, if there is room now.
    ///
    /// # Errors
    ///
    /// [`TrySend`], with the value.
    pub fn try_send(&self, value: T) -> Result<(), TrySend<T>> {
        let woken = {
            let state = &mut *self.0.state.lock();
            if state.receivers == 0 {
                return Err(TrySend::Closed(value));
            }
            if !self.0.has_room(state) {
                return Err(TrySend::Full(value));
            }
            self.0.put(state, value)
        };
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Puts a value in as soon as there is room.
    ///
    /// # Errors
    ///
    /// [`Closed`], if nobody receives any more.
    ///
    /// # Panics
    ///
    /// As [`super::Semaphore::acquire`].
    pub fn send(&self, value: T) -> Result<(), Closed> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySend::Closed(_)) => Err(Closed),
            Err(TrySend::Full(value)) => block_on(Send { shared: &self.0, value: Some(value), own: None }),
        }
    }

    /// The same for a task.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub async fn send_async(&self, value: T) -> Result<(), Closed> {
        Send { shared: &self.0, value: Some(value), own: None }.await
    }
}

impl<T> Receiver<T> {
    /// Takes a value out, if there is one now.
    ///
    /// # Errors
    ///
    /// [`TryReceive`].
    pub fn try_receive(&self) -> Result<T, TryReceive> {
        let (value, woken) = {
            let state = &mut *self.0.state.lock();
            match state.values.pop_front() {
                Some(value) => (value, state.crowded.first()),
                None if state.senders == 0 => return Err(TryReceive::Closed),
                None => return Err(TryReceive::Empty),
            }
        };
        woken.into_iter().for_each(Waker::wake);
        Ok(value)
    }

    /// Takes a value out as soon as there is one. `None` when all senders are gone and all values are taken.
    ///
    /// # Panics
    ///
    /// As [`super::Semaphore::acquire`].
    pub fn receive(&self) -> Option<T> {
        match self.try_receive() {
            Ok(value) => Some(value),
            Err(TryReceive::Closed) => None,
            Err(TryReceive::Empty) => block_on(Receive { shared: &self.0, own: None }),
        }
    }

    /// The same for a task.
    pub async fn receive_async(&self) -> Option<T> {
        Receive { shared: &self.0, own: None }.await
    }

    /// Takes values out until all senders are gone.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        core::iter::from_fn(|| self.receive())
    }
}

/// Waits for room.
struct Send<'c, T> {
    shared: &'c Shared<T>,
    value: Option<T>,
    own: Option<u64>,
}

impl<T> Unpin for Send<'_, T> {}

impl<T> Future for Send<'_, T> {
    type Output = Result<(), Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Send { shared, value, own } = self.get_mut();
        let (result, woken) = {
            let state = &mut *shared.state.lock();
            if state.receivers == 0 {
                state.crowded.leave(own);
                (Err(Closed), [None, None])
            } else if !shared.has_room(state) {
                state.crowded.wait(own, context.waker());
                return Poll::Pending;
            } else {
                state.crowded.leave(own);
                let receiver = value.take().and_then(|value| shared.put(state, value));
                let sender = if shared.has_room(state) { state.crowded.first() } else { None };
                (Ok(()), [receiver, sender])
            }
        };
        woken.into_iter().flatten().for_each(Waker::wake);
        Poll::Ready(result)
    }
}

/// Who was to be woken instead is.
impl<T> Drop for Send<'_, T> {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        let woken = {
            let state = &mut *self.shared.state.lock();
            state.crowded.leave(&mut self.own);
            if self.shared.has_room(state) { state.crowded.first() } else { None }
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Waits for a value.
struct Receive<'c, T> {
    shared: &'c Shared<T>,
    own: Option<u64>,
}

impl<T> Future for Receive<'_, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Receive { shared, own } = self.get_mut();
        let (value, woken) = {
            let state = &mut *shared.state.lock();
            match state.values.pop_front() {
                Some(value) => {
                    state.hungry.leave(own);
                    let receiver = if state.values.is_empty() { None } else { state.hungry.first() };
                    (Some(value), [state.crowded.first(), receiver])
                }
                None if state.senders == 0 => {
                    state.hungry.leave(own);
                    (None, [None, None])
                }
                None => {
                    state.hungry.wait(own, context.waker());
                    return Poll::Pending;
                }
            }
        };
        woken.into_iter().flatten().for_each(Waker::wake);
        Poll::Ready(value)
    }
}

/// Who was to be woken instead is.
impl<T> Drop for Receive<'_, T> {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        let woken = {
            let state = &mut *self.shared.state.lock();
            state.hungry.leave(&mut self.own);
            if state.values.is_empty() { None } else { state.hungry.first() }
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.state.lock().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.0.state.lock().receivers += 1;
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let woken = {
            let state = &mut *self.0.state.lock();
            state.senders -= 1;
            if state.senders == 0 { state.hungry.take() } else { VecDeque::new() }
        };
        wake_all(woken);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (values, woken) = {
            let state = &mut *self.0.state.lock();
            state.receivers -= 1;
            match state.receivers {
                0 => (core::mem::take(&mut state.values), state.crowded.take()),
                _ => Default::default(),
            }
        };
        wake_all(woken);
        drop(values);
    }
}
