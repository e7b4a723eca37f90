//! A queue between tasks of one core.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// The other side of a channel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of the channel is gone")
    }
}

impl core::error::Error for Closed {}

struct Queue<T> {
    values: VecDeque<T>,
    capacity: usize,
    senders: usize,
    has_receiver: bool,
    receiver: Option<Waker>,
    /// Senders that wait for room.
    waiting: VecDeque<Waker>,
}

/// A channel that holds at most `capacity` values (at least 1). Values come out in the order in which they
/// went in.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Rc::new(RefCell::new(Queue {
        values: VecDeque::new(),
        capacity: capacity.max(1),
        senders: 1,
        has_receiver: true,
        receiver: None,
        waiting: VecDeque::new(),
    }));
    (Sender(Rc::clone(&queue)), Receiver(queue))
}

/// The side that puts values in. Clones send to the same receiver.
pub struct Sender<T>(Rc<RefCell<Queue<T>>>);

/// The side that takes values out.
pub struct Receiver<T>(Rc<RefCell<Queue<T>>>);

impl<T> Sender<T> {
    /// Puts a value in, if there is room now.
    ///
    /// # Errors
    ///
    /// The value, if the channel is full or nobody receives any more.
    pub fn try_send(&self, value: T) -> Result<(), T> {
        let waker = {
            let queue = &mut *self.0.borrow_mut();
            if !queue.has_receiver || queue.values.len() >= queue.capacity {
                return Err(value);
            }
            queue.values.push_back(value);
            queue.receiver.take()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Puts a value in as soon as there is room.
    ///
    /// # Errors
    ///
    /// [`Closed`], if nobody receives any more.
    pub async fn send(&self, value: T) -> Result<(), Closed> {
        let mut value = Some(value);
        poll_fn(|context| {
            let Some(sent) = value.take() else { return Poll::Ready(Ok(())) };
            match self.try_send(sent) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(back) => {
                    let queue = &mut *self.0.borrow_mut();
                    if !queue.has_receiver {
                        return Poll::Ready(Err(Closed));
                    }
                    value = Some(back);
                    queue.waiting.push_back(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.borrow_mut().senders += 1;
        Sender(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let queue = &mut *self.0.borrow_mut();
            queue.senders -= 1;
            if queue.senders == 0 { queue.receiver.take() } else { None }
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Receiver<T> {
    /// Takes a value out as soon as there is one. `None` when all senders are gone and all values are taken.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| {
            let (value, waiting) = {
                let queue = &mut *self.0.borrow_mut();
                match queue.values.pop_front() {
                    // All of them: the first may have been cancelled.
                    Some(value) => (Some(value), core::mem::take(&mut queue.waiting)),
                    None if queue.senders == 0 => (None, VecDeque::new()),
                    None => {
                        queue.receiver = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            waiting.into_iter().for_each(Waker::wake);
            Poll::Ready(value)
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (values, waiting) = {
            let queue = &mut *self.0.borrow_mut();
            queue.has_receiver = false;
            (core::mem::take(&mut queue.values), core::mem::take(&mut queue.waiting))
        };
        waiting.into_iter().for_each(Waker::wake);
        drop(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Executor;
    use alloc::vec::Vec;

    #[test]
    fn values_come_in_order_and_senders_wait_for_room() {
        let executor = Executor::new(|| 0);
        let (sender, mut receiver) = channel(2);
        for first in [0, 100] {
            let sender = sender.clone();
            executor.spawn(async move {
                for value in first..first + 10 {
                    sender.send(value).await.unwrap();
                }
            });
        }
        drop(sender);
        let got = executor.spawn(async move {
            let mut got = Vec::new();
            while let Some(value) = receiver.receive().await {
                got.push(value);
            }
            got
        });
        while executor.run_ready() {}
        let got = executor.now_or_never(got).unwrap().unwrap();
        for first in [0, 100] {
            let part: Vec<i32> = got.iter().copied().filter(|value| value / 100 == first / 100).collect();
            assert_eq!(part, (first..first + 10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sender_without_receiver_is_told_even_while_it_waits() {
        let executor = Executor::new(|| 0);
        let (sender, receiver) = channel(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(2));
        let task = executor.spawn(async move { sender.send(3).await });
        executor.run_ready();
        drop(receiver);
        executor.run_ready();
        assert_eq!(executor.now_or_never(task), Some(Ok(Err(Closed))));
    }
}
