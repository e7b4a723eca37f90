//! The primitives over the locks of `shuttle`, which runs them in many orders: no deadlock, no lost wake.
//!
//! `SYNC_SCHEDULES=N` tries N orders for each (default 300): random ones or, where the name says so, as many
//! of all that there are, one after the other.
#![allow(clippy::duplicate_mod, dead_code)]

extern crate std;

/// What the primitives stand on, here.
mod base {
    extern crate std;
    use std::sync::OnceLock;

    pub use shuttle::future::block_on;

    /// A lock that shuttle knows.
    #[derive(Debug)]
    pub struct Short<T>(shuttle::sync::Mutex<T>);

    pub type CellGuard<'c, T> = shuttle::sync::MutexGuard<'c, T>;
    pub use Short as Cell;

    impl<T> Short<T> {
        pub const fn new(value: T) -> Short<T> {
            Short(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> CellGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub fn into_inner(self) -> T {
            self.0.into_inner().unwrap()
        }
    }

    pub struct Ready<T>(OnceLock<T>);

    impl<T> Ready<T> {
        pub const fn new() -> Ready<T> {
            Ready(OnceLock::new())
        }

        pub fn get(&self) -> Option<&T> {
            self.0.get()
        }

        pub fn call_once(&self, make: impl FnOnce() -> T) -> &T {
            self.0.get_or_init(make)
        }
    }
}

#[path = "barrier.rs"]
mod barrier;
#[path = "channel.rs"]
mod channel;
#[path = "condition.rs"]
mod condition;
#[path = "mutex.rs"]
mod mutex;
#[path = "once.rs"]
mod once;
#[path = "semaphore.rs"]
mod semaphore;
#[path = "waiters.rs"]
mod waiters;

use barrier::Barrier;
use channel::{Closed, TryReceive, TrySend, channel};
use condition::Condition;
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use mutex::Mutex;
use once::Once;
use semaphore::Semaphore;
use shuttle::future::block_on;
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

fn orders() -> usize {
    std::env::var("SYNC_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

fn random(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(test, orders());
}

fn depth_first(test: impl Fn() + Send + Sync + 'static) {
    shuttle::check_dfs(test, Some(orders()));
}

/// Polls a future once and drops it where it waits.
fn given_up<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Lets others in between: a step of a task.
async fn step() {
    let mut waited = false;
    poll_fn(|context| {
        if core::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn a_mutex_excludes_threads_and_tasks() {
    random(|| {
        let sum = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let sum = Arc::clone(&sum);
                thread::spawn(move || {
                    for _ in 0..2 {
                        if number == 0 {
                            block_on(async {
                                let mut sum = sum.lock_async().await;
                                let before = *sum;
                                step().await;
                                *sum = before + 1;
                            });
                        } else {
                            let mut sum = sum.lock();
                            let before = *sum;
                            thread::yield_now();
                            *sum = before + 1;
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*sum.lock(), 6);
    });
}

#[test]
fn a_mutex_wakes_who_waits_depth_first() {
    depth_first(|| {
        let mutex = Arc::new(Mutex::new(0));
        let other = Arc::clone(&mutex);
        let thread = thread::spawn(move || *other.lock() += 1);
        *mutex.lock() += 1;
        thread.join().unwrap();
        assert_eq!(mutex.try_lock().map(|value| *value), Some(2));
    });
}

#[test]
fn who_gives_up_waiting_for_a_permit_takes_no_wake_along() {
    random(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.acquire();
        let patient = Arc::clone(&semaphore);
        let impatient = Arc::clone(&semaphore);
        let threads = [
            thread::spawn(move || drop(given_up(impatient.acquire_async()))),
            thread::spawn(move || drop(patient.acquire())),
        ];
        drop(held);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn permits_are_as_many_as_there_are() {
    random(|| {
        let (semaphore, inside) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (semaphore, inside) = (Arc::clone(&semaphore), Arc::clone(&inside));
                thread::spawn(move || {
                    let permit = semaphore.acquire();
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    permit.forget();
                    semaphore.release();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn a_notification_between_unlock_and_wait_is_heard_depth_first() {
    depth_first(|| {
        let shared = Arc::new((Mutex::new(false), Condition::new()));
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            *other.0.lock() = true;
            other.1.notify_one();
        });
        let ready = shared.1.wait_while(shared.0.lock(), |ready| !*ready);
        assert!(*ready);
        drop(ready);
        thread.join().unwrap();
    });
}

#[test]
fn a_notification_for_who_gave_up_goes_to_the_next() {
    random(|| {
        let shared = Arc::new((Mutex::new(0), Condition::default()));
        let (waiting, leaving) = (Arc::clone(&shared), Arc::clone(&shared));
        let waits = thread::spawn(move || drop(waiting.1.wait_while(waiting.0.lock(), |value| *value == 0)));
        let leaves = thread::spawn(move || {
            let guard = leaving.0.lock();
            drop(given_up(leaving.1.wait_async(guard)));
        });
        *shared.0.lock() = 1;
        // One notification, for whoever is first.
        shared.1.notify_one();
        waits.join().unwrap();
        leaves.join().unwrap();
    });
}

#[test]
fn all_are_notified() {
    random(|| {
        let shared = Arc::new((Mutex::new(false), Condition::new()));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    block_on(async {
                        let mut go = shared.0.lock_async().await;
                        while !*go {
                            go = shared.1.wait_async(go).await;
                        }
                    });
                })
            })
            .collect();
        *shared.0.lock() = true;
        shared.1.notify_all();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_channel_loses_nothing_and_doubles_nothing() {
    random(|| {
        let (sender, receiver) = channel(2);
        let senders: Vec<_> = (0..2)
            .map(|from| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for value in 0..3 {
                        match from {
                            0 => sender.send(value).unwrap(),
                            _ => block_on(sender.send_async(10 + value)).unwrap(),
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let receivers: Vec<_> = (0..2)
            .map(|number| {
                let receiver = receiver.clone();
                thread::spawn(move || match number {
                    0 => receiver.iter().collect::<Vec<i32>>(),
                    _ => core::iter::from_fn(|| block_on(receiver.receive_async())).collect(),
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let parts: Vec<Vec<i32>> = receivers.into_iter().map(|thread| thread.join().unwrap()).collect();
        for part in &parts {
            let from = |which| part.iter().filter(move |value| *value / 10 == which).collect::<Vec<_>>();
            assert!(from(0).is_sorted() && from(1).is_sorted(), "{part:?}");
        }
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 10, 11, 12]);
        assert_eq!(receiver.try_receive(), Err(TryReceive::Closed));
    });
}

#[test]
fn a_channel_of_one_place_goes_back_and_forth_depth_first() {
    depth_first(|| {
        let (sender, receiver) = channel(1);
        let thread = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!([receiver.receive(), receiver.receive(), receiver.receive()], [Some(1), Some(2), None]);
        thread.join().unwrap();
    });
}

#[test]
fn the_end_of_a_channel_is_heard_on_both_sides() {
    random(|| {
        let (sender, receiver) = channel(1);
        sender.send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(TrySend::Full(2)));
        let waits = thread::spawn(move || sender.send(3));
        drop(receiver);
        assert_eq!(waits.join().unwrap(), Err(Closed));
        let (sender, receiver) = channel::<()>(1);
        let waits = thread::spawn(move || receiver.receive());
        drop(sender);
        assert_eq!(waits.join().unwrap(), None);
    });
}

#[test]
fn who_gives_up_on_a_channel_takes_no_wake_along() {
    random(|| {
        let (sender, receiver) = channel(1);
        let (impatient, patient) = (receiver.clone(), receiver);
        let gives_up = thread::spawn(move || given_up(impatient.receive_async()).flatten());
        let waits = thread::spawn(move || patient.receive());
        sender.send(1).unwrap();
        drop(sender);
        let got: Vec<i32> = [gives_up.join().unwrap(), waits.join().unwrap()].into_iter().flatten().collect();
        assert_eq!(got, [1]);
    });
}

#[test]
fn a_barrier_holds_until_all_are_there_again_and_again() {
    random(|| {
        let shared = Arc::new((Barrier::new(3), AtomicUsize::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let mut led = 0;
                    for round in 1..=2 {
                        shared.1.fetch_add(1, Ordering::SeqCst);
                        led += usize::from(shared.0.wait());
                        assert!(shared.1.load(Ordering::SeqCst) >= 3 * round);
                    }
                    led
                })
            })
            .collect();
        let led: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(led, 2, "one leader a meeting");
    });
}

#[test]
fn a_value_is_made_once() {
    random(|| {
        let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let made = || shared.1.fetch_add(1, Ordering::SeqCst) + 7;
                    match number {
                        0 => *block_on(shared.0.get_or_make_async(async {
                            step().await;
                            made()
                        })),
                        _ => *shared.0.get_or_make(made),
                    }
                })
            })
            .collect();
        let values: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(values, [7; 3]);
        assert_eq!(shared.0.get(), Some(&7));
    });
}
