//! Threads: functions with a stack each, which take turns on a core and wait for one another.
//!
//! ```ignore
//! thread::start(Stride::new(time::ticks_in(Duration::from_millis(1))), 1)?;
//! let (sender, receiver) = sync::channel(16);
//! let worker = thread::Builder::named("worker").weight(3).spawn(move || receiver.iter().sum::<u64>())?;
//! (0..100).try_for_each(|value| sender.send(value))?;
//! drop(sender);
//! let sum = worker.join();
//! ```
//!
//! [`start`] names the scheduler ([`crate::schedule`]) and makes the caller the first thread. What waits
//! anywhere in this library or in those above it (a disk, the network, a clock, another core) makes its
//! thread wait from then on, not its core: all of it goes through [`crate::upcall::wait_until`].
//!
//! # When others run
//!
//! When a thread waits, ends or [yields](yield_now); and at any other time, when its quantum is over or
//! somebody more urgent is woken: the timer's interrupt switches. Not while it has a [`Section`] open,
//! holds a [`crate::lock::Deferred`] or [`crate::lock::Masked`], or runs a trap handler with interrupts
//! disabled. The timer is set only while somebody waits for the core.
//!
//! # Several cores
//!
//! Each has a queue and a scheduler of its own. One without work takes a ready thread from another, where the
//! scheduler gives one away. The thread that called [`start`] stays on its core, and so does one that has a
//! [window](crate::window).
//!
//! # The end
//!
//! A thread that panics, or overflows its stack, ends the unikernel with a report that names it, as anything
//! that panics does. So nothing is ever poisoned: no thread sees what another one left half done.
//! When `main` returns, all threads end.
//!
//! | module | what |
//! |---|---|
//! | `switch` | from one stack to another |
//! | `control` | what is known of a thread |
//! | `queue` | of each core: who runs |
//! | `local` | a value for each thread |
//! | `wait` | futures and parking |

mod control;
mod local;
mod queue;
mod switch;
mod wait;

pub use crate::cpu::section::Section;
pub use local::Local;
pub use wait::{block_on, park, park_until, run, waker};

use crate::cpu::lock::Deferred;
use crate::cpu::{cores, section, upcall};
use crate::memory::{self, MOST_STACK_BYTES, ThreadStack};
use crate::schedule::{Periodic, Refusal, Scheduler, Terms};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use control::Control;
use core::fmt;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use hyperexo_abi::hypercall::Status;
use hyperexo_hw::descriptor::core_number;
use hyperexo_hw::trap as hw;
use queue::{Idle, Quiet};

/// Bytes of a thread's stack, unless [`Builder::stack`] says otherwise. The library keeps 64 of them.
pub const STACK_BYTES: u64 = 64 << 10;

/// Bytes of the stack on which the first core waits.
const IDLE_STACK_BYTES: u64 = 16 << 10;

/// Why threads, or a thread, could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// [`start`] was not called, or not for this core.
    NotStarted,
    /// [`start`] was called before.
    Started,
    /// There are no frames for the stack, or it is larger than [`MOST_STACK_BYTES`].
    NoStack(Status),
    /// The scheduler takes nobody on with these terms.
    Refused(Refusal),
    /// Another core can't be had.
    Core(cores::StartError),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotStarted => f.write_str("no threads on this core: call `thread::start` first"),
            SpawnError::Started => f.write_str("`thread::start` was called before"),
            SpawnError::NoStack(Status::BadArgument) => {
                write!(f, "a thread's stack has {MOST_STACK_BYTES} bytes at most")
            }
            SpawnError::NoStack(status) => write!(f, "no frames for the stack of a thread: {status}"),
            SpawnError::Refused(refusal) => write!(f, "the scheduler refuses a thread: {refusal}"),
            SpawnError::Core(error) => write!(f, "threads on another core: {error}"),
        }
    }
}

impl core::error::Error for SpawnError {}

/// A thread.
#[derive(Clone)]
pub struct Thread(Arc<Control>);

impl Thread {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Ends its [`park`], or the next one.
    pub fn unpark(&self) {
        queue::unpark(&self.0);
    }

    /// Ticks that it has run, up to when it last stopped.
    pub fn ran_ticks(&self) -> u64 {
        self.0.ran.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({:?})", self.name())
    }
}

/// Makes the caller the first thread, named "main", and has `scheduler` decide from now on, on `count` cores:
/// this one and further ones, each with a copy.
///
/// # Errors
///
/// [`SpawnError`]. If another core can't be had, threads run on those before it.
///
/// # Panics
///
/// In a test program of the host; with interrupts disabled.
pub fn start<S: Scheduler + Clone + 'static>(scheduler: S, count: u64) -> Result<(), SpawnError> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::SeqCst) {
        return Err(SpawnError::Started);
    }
    let others = (0..cores::count()).filter(|core| *core != cores::current());
    let stack = ThreadStack::take(IDLE_STACK_BYTES).map_err(SpawnError::NoStack)?;
    let own = memory::stack_of(stack_pointer()).expect("the stack in use is known");
    upcall::set_threads(queue::wait_until, queue::after_interrupt);
    section::at_the_end(queue::run_others);
    // SAFETY: the stack is nobody's, and is never given back.
    let saved = AtomicU64::new(unsafe { switch::first_frame(stack.range().end, wait_on_first_core) });
    let idle = Idle { saved, stack: stack.range() };
    core::mem::forget(stack);
    let number = core_number();
    let here = section::of_core(number);
    let terms = Terms::default();
    let main = Arc::new(Control::of_running("main".to_owned(), terms, own, here, number));
    {
        let _quiet = Quiet::begin();
        queue::open(Box::new(scheduler.clone()), idle);
        queue::adopt(&main).map_err(SpawnError::Refused)?;
        // SAFETY: the thread never leaves its queue: it ends with the unikernel.
        unsafe { queue::set_owner(&main) };
    }
    for core in others.take(count.saturating_sub(1) as usize) {
        SCHEDULERS.lock().push(Box::new(scheduler.clone()));
        cores::start(core, serve, 0).map_err(SpawnError::Core)?;
    }
    Ok(())
}

/// Schedulers for cores that are about to start.
static SCHEDULERS: Deferred<alloc::vec::Vec<Box<dyn Scheduler>>> = Deferred::new(alloc::vec::Vec::new());

fn stack_pointer() -> u64 {
    let here = 0_u8;
    &raw const here as u64
}

/// What a further core runs, for ever.
fn serve(_: u64) {
    let scheduler = SCHEDULERS.lock().pop().expect("a scheduler for each core");
    let stack = memory::stack_of(stack_pointer()).expect("the stack in use is known");
    hw::disable_interrupts();
    queue::open(scheduler, Idle { saved: AtomicU64::new(0), stack });
    queue::idle();
}

/// Where the first core goes when no thread runs.
unsafe extern "C" fn wait_on_first_core() -> ! {
    // SAFETY: this is the first thing after the switch.
    unsafe { queue::arrive() };
    queue::idle()
}

/// How a thread is to be.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    stack_bytes: u64,
    terms: Terms,
}

impl Builder {
    /// A thread with a name, which reports use, and [`STACK_BYTES`] of stack.
    pub fn named(name: &str) -> Builder {
        Builder { name: name.to_owned(), stack_bytes: STACK_BYTES, terms: Terms::default() }
    }

    /// Bytes of its stack, rounded up to pages, [`MOST_STACK_BYTES`] at most.
    pub fn stack(mut self, bytes: u64) -> Builder {
        self.stack_bytes = bytes;
        self
    }

    /// [`Terms::weight`].
    pub fn weight(mut self, weight: u32) -> Builder {
        self.terms.weight = weight;
        self
    }

    /// [`Terms::priority`].
    pub fn priority(mut self, priority: u8) -> Builder {
        self.terms.priority = priority;
        self
    }

    /// [`Terms::periodic`]: so much of each period, both in ticks.
    pub fn periodic(mut self, period: u64, budget: u64) -> Builder {
        self.terms.periodic = Some(Periodic { period, budget });
        self
    }

    /// Starts it, on the caller's core.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; nothing runs then.
    pub fn spawn<T: Send + 'static>(
        self,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        if !queue::is_open() {
            return Err(SpawnError::NotStarted);
        }
        let outcome = Arc::new(Deferred::new(Outcome { value: None, done: false, waker: None }));
        let end = Arc::clone(&outcome);
        let body = Box::new(move || {
            let value = function();
            local::clear();
            let waker = {
                let outcome = &mut *end.lock();
                (outcome.value, outcome.done) = (Some(value), true);
                outcome.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        });
        let stack = ThreadStack::take(self.stack_bytes).map_err(SpawnError::NoStack)?;
        // SAFETY: the slot's top page is mapped.
        let here = unsafe { section::of_slot(&stack.slot()) };
        // SAFETY: nobody has the stack yet.
        let first = unsafe { switch::first_frame(stack.range().end, first_of_thread) };
        let control = Arc::new(Control::new(self.name, self.terms, stack, here, body, core_number()));
        control.saved.store(first, Ordering::Relaxed);
        // SAFETY: it is in a queue as long as it runs, and takes the owner back at its end.
        unsafe { queue::set_owner(&control) };
        match queue::begin(&control) {
            Ok(()) => Ok(JoinHandle { thread: Thread(control), outcome }),
            Err(refusal) => {
                here.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
                Err(SpawnError::Refused(refusal))
            }
        }
    }
}

/// Starts a thread with default terms.
///
/// # Errors
///
/// As [`Builder::spawn`].
pub fn spawn<T: Send + 'static>(
    name: &str,
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    Builder::named(name).spawn(function)
}

/// Where a thread begins, with interrupts disabled.
unsafe extern "C" fn first_of_thread() -> ! {
    // SAFETY: this is the first thing after the switch.
    unsafe { queue::arrive() };
    // SAFETY: the switch was made with interrupts disabled for no other reason than itself.
    unsafe { hw::enable_interrupts() };
    if let Some(thread) = queue::current() {
        // SAFETY: the thread is the caller.
        if let Some(body) = unsafe { thread.take_body() } {
            body();
        }
    }
    hw::disable_interrupts();
    section::here().owner.store(core::ptr::null_mut(), Ordering::Relaxed);
    queue::end()
}

/// What a thread has come to.
struct Outcome<T> {
    value: Option<T>,
    done: bool,
    /// Who awaits it.
    waker: Option<Waker>,
}

/// Waits for the end of a thread: with [`JoinHandle::join`], or as a future. To drop it leaves the thread
/// alone.
pub struct JoinHandle<T> {
    thread: Thread,
    outcome: Arc<Deferred<Outcome<T>>>,
}

impl<T> JoinHandle<T> {
    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether it has returned.
    pub fn is_done(&self) -> bool {
        self.outcome.lock().done
    }

    /// Waits until it has returned, and takes what.
    pub fn join(self) -> T {
        block_on(self)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let outcome = &mut *self.outcome.lock();
        match outcome.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                assert!(!outcome.done, "a thread was joined before");
                outcome.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The calling thread. `None` before [`start`], and on a core where no thread runs.
pub fn current() -> Option<Thread> {
    queue::current().map(Thread)
}

/// Lets others run first.
pub fn yield_now() {
    queue::yield_now();
}

/// The name of the thread whose stack an address lies in, its guard included.
pub(crate) fn named_at(address: u64) -> Option<Thread> {
    memory::thread_stack_of(address)?;
    let slot = section::slot_of(address)?;
    // SAFETY: the slot has a stack.
    queue::of(unsafe { section::of_slot(&slot) }).map(Thread)
}
