//! Futures that run when they are woken.

use super::timer::{Sleep, Timers};
use crate::cpu::lock::Deferred;
use crate::schedule::{Id, Refusal, RoundRobin, Scheduler, Terms, Why};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// Runs tasks on one core. Clones are the same executor: keep one to spawn from within a task.
///
/// ```
/// use libos_core::task::Executor;
///
/// let executor = Executor::new(|| 0);
/// let sum = executor.spawn(async { 1 + 2 });
/// executor.run_ready();
/// assert_eq!(executor.now_or_never(sum), Some(Ok(3)));
/// ```
#[derive(Clone)]
pub struct Executor {
    inner: Rc<Inner>,
}

struct Inner {
    tasks: RefCell<Tasks>,
    ready: Arc<Ready>,
    timers: Rc<RefCell<Timers>>,
    now_ns: fn() -> u64,
    turns: RefCell<Turns>,
}

/// Who is next.
struct Turns {
    scheduler: Box<dyn Scheduler>,
    /// Tasks that the scheduler knows as ready.
    ready: usize,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks by number. A number is used again only after the task's waker is gone from the queue: a stale wake
/// finds another task, which is asked once for nothing.
#[derive(Default)]
struct Tasks {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    alive: usize,
}

enum Slot {
    Vacant,
    /// Its future is being polled, and is not here.
    Running {
        waker: Arc<TaskWaker>,
    },
    Waiting {
        work: Work,
        waker: Arc<TaskWaker>,
        /// Whether the scheduler knows that it is ready.
        told: bool,
    },
}

/// Numbers of tasks that were woken, in this order, until the scheduler hears of it.
struct Ready(Deferred<Woken>);

#[derive(Default)]
struct Woken {
    numbers: VecDeque<usize>,
    /// Who runs the executor, while it waits.
    driver: Option<Waker>,
}

struct TaskWaker {
    number: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let driver = {
                let woken = &mut *self.ready.0.lock();
                woken.numbers.push_back(self.number);
                woken.driver.take()
            };
            driver.into_iter().for_each(Waker::wake);
        }
    }
}

impl Executor {
    /// An executor without tasks. `now_ns` is the clock of its timers; in a unikernel,
    /// [`time::now_ns`](crate::time::now_ns).
    pub fn new(now_ns: fn() -> u64) -> Executor {
        Executor::with_scheduler(now_ns, RoundRobin::new(0))
    }

    /// An executor that runs tasks in the order that a scheduler says: see [`crate::schedule`]. Its time is
    /// that of `now_ns`. A task runs until it waits, so quanta and preemption mean nothing here.
    pub fn with_scheduler(now_ns: fn() -> u64, scheduler: impl Scheduler + 'static) -> Executor {
        let inner = Inner {
            tasks: RefCell::default(),
            ready: Arc::new(Ready(Deferred::new(Woken::default()))),
            timers: Rc::default(),
            now_ns,
            turns: RefCell::new(Turns { scheduler: Box::new(scheduler), ready: 0 }),
        };
        Executor { inner: Rc::new(inner) }
    }

    /// Adds a task. It runs for the first time at the next [`Executor::run_ready`], and goes on without its
    /// handle.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.spawn_with(Terms::default(), future)
            .unwrap_or_else(|refusal| panic!("a scheduler that refuses a task without terms: {refusal}"))
    }

    /// The same for a task that is to get something particular.
    ///
    /// # Errors
    ///
    /// [`Refusal`], if the scheduler does not take it on.
    pub fn spawn_with<T: 'static>(
        &self,
        terms: Terms,
        future: impl Future<Output = T> + 'static,
    ) -> Result<JoinHandle<T>, Refusal> {
        let outcome =
            Rc::new(Outcome { result: Cell::new(None), cancelled: Cell::new(false), waker: Cell::default() });
        let shared = Rc::clone(&outcome);
        let work: Work = Box::pin(async move { shared.end(future.await) });
        let tasks = &mut *self.inner.tasks.borrow_mut();
        let number = tasks.vacant.last().copied().unwrap_or(tasks.slots.len());
        self.inner.turns.borrow_mut().scheduler.enter(Id(number as u32), terms, (self.inner.now_ns)())?;
        tasks.vacant.pop();
        tasks.alive += 1;
        let ready = Arc::clone(&self.inner.ready);
        let waker = Arc::new(TaskWaker { number, queued: AtomicBool::new(false), ready });
        waker.wake_by_ref();
        let slot = Slot::Waiting { work, waker: Arc::clone(&waker), told: false };
        match tasks.slots.get_mut(number) {
            Some(vacant) => *vacant = slot,
            None => tasks.slots.push(slot),
        }
        Ok(JoinHandle { executor: self.clone(), waker, outcome })
    }

    /// Runs every task that is ready, and those that become so meanwhile and by timers that are due. Returns
    /// whether any ran.
    pub fn run_ready(&self) -> bool {
        let now = (self.inner.now_ns)();
        self.inner.timers.borrow_mut().wake_due(now);
        let mut ran = false;
        // Those that wake themselves run again next time: others must be looked at in between.
        let round = self.hear(now);
        for _ in 0..round {
            let next = {
                let turns = &mut *self.inner.turns.borrow_mut();
                let next = turns.scheduler.next(now);
                turns.ready -= usize::from(next.is_some());
                next
            };
            let Some(id) = next else { break };
            ran |= self.poll_task(id);
        }
        ran
    }

    /// Tells the scheduler who was woken. Returns how many are ready.
    fn hear(&self, now: u64) -> usize {
        let turns = &mut *self.inner.turns.borrow_mut();
        loop {
            let woken = self.inner.ready.0.lock().numbers.pop_front();
            let Some(number) = woken else { return turns.ready };
            // There may be nobody left, or somebody else by now: a stale wake.
            if let Some(Slot::Waiting { told, .. }) = self.inner.tasks.borrow_mut().slots.get_mut(number)
                && !core::mem::replace(told, true)
            {
                turns.scheduler.ready(Id(number as u32), Why::Woken, now);
                turns.ready += 1;
            }
        }
    }

    /// The time, if the scheduler wants to know how long tasks run.
    fn clock(&self) -> Option<u64> {
        self.inner.turns.borrow().scheduler.wants_time().then(self.inner.now_ns)
    }

    /// Tells the scheduler how long a task ran that was begun at `start`, and that it stopped.
    fn ran(&self, id: Id, start: Option<u64>) {
        let now = self.clock();
        let turns = &mut *self.inner.turns.borrow_mut();
        if let (Some(start), Some(now)) = (start, now) {
            turns.scheduler.ran(id, now.saturating_sub(start));
            turns.scheduler.tick(now);
        }
        turns.scheduler.blocked(id, now.unwrap_or_default());
    }

    /// Whether a task waits for [`Executor::run_ready`].
    pub fn is_ready(&self) -> bool {
        self.inner.turns.borrow().ready > 0 || !self.inner.ready.0.lock().numbers.is_empty()
    }

    /// Has `waker` called once, when the next task is woken: for who runs the executor and is about to
    /// wait. Returns `false` if a task waits for [`Executor::run_ready`] already. Then there is nothing
    /// to wait for.
    pub fn wake_before(&self, waker: &Waker) -> bool {
        let woken = &mut *self.inner.ready.0.lock();
        let idle = woken.numbers.is_empty() && self.inner.turns.borrow().ready == 0;
        woken.driver = idle.then(|| waker.clone());
        idle
    }

    /// Number of tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.inner.tasks.borrow().alive
    }

    /// When the next timer is due, on the executor's clock.
    pub fn next_timer_ns(&self) -> Option<u64> {
        self.inner.timers.borrow_mut().next()
    }

    /// The time on the executor's clock.
    pub fn now_ns(&self) -> u64 {
        (self.inner.now_ns)()
    }

    /// Ends at this time, on the executor's clock.
    pub fn sleep_until_ns(&self, due_ns: u64) -> Sleep {
        Sleep::new(Rc::clone(&self.inner.timers), due_ns, self.inner.now_ns)
    }

    /// Ends when so much time has passed.
    pub fn sleep(&self, duration: core::time::Duration) -> Sleep {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until_ns(self.now_ns().saturating_add(ns))
    }

    /// Runs a future for so long at most. `None` if the time was over first: then the future is dropped.
    pub async fn within<T>(
        &self,
        duration: core::time::Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let (mut future, mut end) = (pin!(future), pin!(self.sleep(duration)));
        core::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Polls a future once, with a waker that does nothing: what it has come to, if it has.
    pub fn now_or_never<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn poll_task(&self, id: Id) -> bool {
        let number = id.0 as usize;
        let taken = {
            let tasks = &mut *self.inner.tasks.borrow_mut();
            match tasks.slots.get_mut(number) {
                Some(slot @ Slot::Waiting { .. }) => match core::mem::replace(slot, Slot::Vacant) {
                    Slot::Waiting { work, waker, .. } => {
                        *slot = Slot::Running { waker: Arc::clone(&waker) };
                        Some((work, waker))
                    }
                    other => {
                        *slot = other;
                        None
                    }
                },
                _ => None,
            }
        };
        let Some((mut work, task)) = taken else { return false };
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task));
        let start = self.clock();
        let done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let ended = {
            let tasks = &mut *self.inner.tasks.borrow_mut();
            let still_there =
                matches!(&tasks.slots[number], Slot::Running { waker } if Arc::ptr_eq(waker, &task));
            if still_there {
                self.ran(id, start);
            }
            if done || !still_there {
                if still_there {
                    tasks.vacate(number);
                    self.inner.turns.borrow_mut().scheduler.leave(id);
                }
                Some(work)
            } else {
                tasks.slots[number] = Slot::Waiting { work, waker: task, told: false };
                None
            }
        };
        // With nothing borrowed: what is dropped may spawn or wake.
        drop(ended);
        true
    }

    /// Drops a task, unless it has ended. One that cancels itself ends with its next wait.
    fn cancel(&self, waker: &Arc<TaskWaker>) -> bool {
        let dropped = {
            let tasks = &mut *self.inner.tasks.borrow_mut();
            let is_it = match tasks.slots.get(waker.number) {
                Some(Slot::Waiting { waker: there, .. } | Slot::Running { waker: there }) => {
                    Arc::ptr_eq(there, waker)
                }
                _ => false,
            };
            if !is_it {
                return false;
            }
            let slot = tasks.vacate(waker.number);
            let turns = &mut *self.inner.turns.borrow_mut();
            turns.ready -= usize::from(matches!(slot, Slot::Waiting { told: true, .. }));
            turns.scheduler.leave(Id(waker.number as u32));
            slot
        };
        drop(dropped);
        true
    }
}

impl Tasks {
    fn vacate(&mut self, number: usize) -> Slot {
        self.alive -= 1;
        self.vacant.push(number);
        core::mem::replace(&mut self.slots[number], Slot::Vacant)
    }
}

/// What a task has come to.
struct Outcome<T> {
    result: Cell<Option<T>>,
    cancelled: Cell<bool>,
    /// Who awaits it.
    waker: Cell<Option<Waker>>,
}

impl<T> Outcome<T> {
    fn end(&self, value: T) {
        self.result.set(Some(value));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The task was [cancelled](JoinHandle::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl core::error::Error for Cancelled {}

/// Awaits what a task returns. To drop the handle does not end the task.
pub struct JoinHandle<T> {
    executor: Executor,
    waker: Arc<TaskWaker>,
    outcome: Rc<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    /// Drops the task's future where it waits, if it has not ended.
    pub fn cancel(&self) {
        if self.executor.cancel(&self.waker) {
            self.outcome.cancelled.set(true);
            self.outcome.wake();
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.outcome.result.take() {
            return Poll::Ready(Ok(value));
        }
        if self.outcome.cancelled.get() {
            return Poll::Ready(Err(Cancelled));
        }
        self.outcome.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use alloc::vec;
    use core::future::poll_fn;
    use core::sync::atomic::AtomicU64;

    fn executor() -> Executor {
        Executor::new(|| 0)
    }

    #[test]
    fn tasks_run_in_the_order_of_their_wakes_and_only_then() {
        let executor = executor();
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3 {
            let order = Rc::clone(&order);
            executor.spawn(async move {
                for step in 0..2 {
                    order.borrow_mut().push((number, step));
                    let mut asked = false;
                    poll_fn(|context| {
                        if core::mem::replace(&mut asked, true) {
                            return Poll::Ready(());
                        }
                        context.waker().wake_by_ref();
                        context.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                }
            });
        }
        assert!(executor.run_ready());
        assert_eq!(*order.borrow(), [(0, 0), (1, 0), (2, 0)]);
        assert!(executor.run_ready() && executor.run_ready());
        assert_eq!(order.borrow()[3..], [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(executor.tasks(), 0);
        assert!(!executor.run_ready() && !executor.is_ready());
    }

    #[test]
    fn a_task_is_awaited_by_another_and_its_place_is_used_again() {
        let executor = executor();
        for round in 0..100_u32 {
            let inner = executor.spawn(async move { round });
            let outer = executor.spawn(async move { inner.await.map(|value| value + 1) });
            while executor.run_ready() {}
            assert_eq!(executor.now_or_never(outer), Some(Ok(Ok(round + 1))));
        }
        assert!(executor.inner.tasks.borrow().slots.len() <= 2);
    }

    #[test]
    fn a_cancelled_task_is_dropped_where_it_waits() {
        let executor = executor();
        let held = Rc::new(());
        let inside = Rc::clone(&held);
        let task = executor.spawn(async move {
            let _inside = inside;
            core::future::pending::<()>().await;
        });
        executor.run_ready();
        assert_eq!(Rc::strong_count(&held), 2);
        task.cancel();
        assert_eq!((Rc::strong_count(&held), executor.tasks()), (1, 0));
        assert_eq!(executor.now_or_never(task), Some(Err(Cancelled)));
    }

    #[test]
    fn a_task_can_cancel_itself_and_the_next_one_in_its_place_is_not_hurt() {
        let executor = executor();
        let slot: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let own = Rc::clone(&slot);
        let task = executor.spawn(async move {
            if let Some(handle) = own.borrow().as_ref() {
                handle.cancel();
            }
            core::future::pending::<()>().await;
        });
        *slot.borrow_mut() = Some(task);
        executor.run_ready();
        assert_eq!(executor.tasks(), 0);
        let next = executor.spawn(async { 7 });
        // The old handle names the same place.
        slot.borrow().as_ref().unwrap().cancel();
        executor.run_ready();
        assert_eq!(executor.now_or_never(next), Some(Ok(7)));
    }

    #[test]
    fn wakers_work_from_other_threads_and_after_the_end() {
        let executor = executor();
        let (sent, received) = std::sync::mpsc::channel();
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let task = executor.spawn(poll_fn(move |context| {
            let _ = sent.send(context.waker().clone());
            if counted.fetch_add(1, Ordering::Relaxed) < 3 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let waking = std::thread::spawn(move || received.into_iter().for_each(|waker| waker.wake()));
        while executor.tasks() > 0 {
            executor.run_ready();
        }
        drop(task);
        waking.join().unwrap();
        executor.run_ready();
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn timers_end_in_the_order_of_their_times() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let executor = Executor::new(|| NOW.load(Ordering::Relaxed));
        let order = Rc::new(RefCell::new(vec![]));
        for due in [30, 10, 20, 10] {
            let (order, own) = (Rc::clone(&order), executor.clone());
            executor.spawn(async move {
                own.sleep_until_ns(due).await;
                order.borrow_mut().push(due);
            });
        }
        executor.run_ready();
        assert_eq!(executor.next_timer_ns(), Some(10));
        for now in [9, 10, 25, 40] {
            NOW.store(now, Ordering::Relaxed);
            executor.run_ready();
        }
        assert_eq!(*order.borrow(), [10, 10, 20, 30]);
        let late = executor.clone();
        let late = executor.spawn(async move {
            let second = core::time::Duration::from_nanos(10);
            (late.within(second, core::future::pending::<()>()).await, late.within(second, async { 5 }).await)
        });
        executor.run_ready();
        NOW.store(50, Ordering::Relaxed);
        executor.run_ready();
        assert_eq!(executor.now_or_never(late), Some(Ok((None, Some(5)))));
        NOW.store(40, Ordering::Relaxed);
        let sleep = executor.sleep_until_ns(50);
        let mut sleep = Box::pin(sleep);
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(executor.next_timer_ns(), Some(50));
        drop(sleep);
        assert_eq!(executor.next_timer_ns(), None, "a dropped timer keeps nobody awake");
    }
}
