//! The queue of each core: its scheduler, its threads, and the switch from one to the next.
//!
//! Everything here runs with interrupts disabled. A queue is locked while it is used, and stays locked during
//! a switch: the next thread unlocks it ([`arrive`]). So nobody on another core wakes, takes or ends a thread
//! whose registers are not on its stack yet.

use super::control::Control;
use super::switch::switch;
use crate::cpu::section::{self, Here, here};
use crate::cpu::{lock, timer};
use crate::platform;
use crate::schedule::{Id, Refusal, Scheduler, Terms, Why};
use crate::time::ticks;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hyperexo_hw::descriptor::{MAX_NUMBERS, core_number};
use hyperexo_hw::trap as hw;

/// Bytes of a thread's stack that must be left for the handler of a trap.
const HANDLER_ROOM_BYTES: u64 = 4096;

/// The threads of a core.
pub(super) struct Queue {
    scheduler: Box<dyn Scheduler>,
    members: Vec<Option<Arc<Control>>>,
    vacant: Vec<u32>,
    /// Who runs; nobody while the core is idle. Its control is among the members.
    running: Option<(Id, *const Control)>,
    /// When that was named.
    since: u64,
    /// When the timer was last asked to fire for the end of a quantum.
    tick: u64,
    /// Those that are ready.
    ready: usize,
    /// Where the core is while no thread runs.
    idle: Idle,
    /// Who has ended, until its stack is left.
    gone: Option<Arc<Control>>,
}

/// The context in which a core waits.
pub(super) struct Idle {
    pub saved: AtomicU64,
    pub stack: Range<u64>,
}

/// A core as its threads know it.
struct Core {
    /// Whether the queue is locked.
    turn: AtomicBool,
    queue: UnsafeCell<Option<Queue>>,
    /// Whether there is a queue.
    there: AtomicBool,
    /// Threads that wait for a condition.
    waiting: UnsafeCell<Vec<Waiting>>,
}

// SAFETY: `queue` is used by who holds `turn`, `waiting` by its core with interrupts disabled. What they
// point to may be used by any core: controls are `Sync`, conditions are called by their own core.
unsafe impl Sync for Core {}

static CORES: [Core; MAX_NUMBERS] = [const {
    Core {
        turn: AtomicBool::new(false),
        queue: UnsafeCell::new(None),
        there: AtomicBool::new(false),
        waiting: UnsafeCell::new(Vec::new()),
    }
}; MAX_NUMBERS];

/// The cores that wait, a bit for each.
static IDLE: AtomicU32 = AtomicU32::new(0);

/// A thread that waits until a condition holds.
struct Waiting {
    condition: *mut dyn FnMut() -> bool,
    done: *const AtomicBool,
    thread: Arc<Control>,
}

/// A queue, locked.
struct Held(&'static Core);

impl Held {
    /// Locks the queue of a core that has one.
    fn of(number: usize) -> Held {
        let core = &CORES[number];
        while core.turn.swap(true, Ordering::Acquire) {
            lock::relax();
        }
        Held(core)
    }

    #[inline(always)]
    fn own() -> Held {
        Held::of(core_number())
    }
}

impl Deref for Held {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: who holds the turn uses the queue. It is there before anybody asks for it.
        unsafe { (*self.0.queue.get()).as_ref().unwrap_unchecked() }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Queue {
        // SAFETY: as above.
        unsafe { (*self.0.queue.get()).as_mut().unwrap_unchecked() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.turn.store(false, Ordering::Release);
    }
}

/// Interrupts are disabled until it is dropped, if they were enabled before.
pub(super) struct Quiet(bool);

impl Quiet {
    pub fn begin() -> Quiet {
        Quiet(hw::disable_interrupts())
    }

    /// Whether they were enabled before.
    pub fn were_enabled(&self) -> bool {
        self.0
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: they were enabled, so the tables are loaded and nothing is held.
            unsafe { hw::enable_interrupts() };
        }
    }
}

impl Queue {
    fn new(scheduler: Box<dyn Scheduler>, idle: Idle) -> Queue {
        Queue {
            scheduler,
            members: Vec::new(),
            vacant: Vec::new(),
            running: None,
            since: 0,
            tick: 0,
            ready: 0,
            idle,
            gone: None,
        }
    }

    /// Takes a thread on, not ready yet.
    fn enter(&mut self, thread: &Arc<Control>, terms: Terms, now: u64) -> Result<(), Refusal> {
        let number = self.vacant.pop().unwrap_or(self.members.len() as u32);
        if let Err(refusal) = self.scheduler.enter(Id(number), terms, now) {
            self.vacant.push(number);
            return Err(refusal);
        }
        if self.members.len() <= number as usize {
            self.members.resize(number as usize + 1, None);
        }
        thread.id.store(number, Ordering::Relaxed);
        self.members[number as usize] = Some(Arc::clone(thread));
        Ok(())
    }

    /// Lets a thread go.
    fn leave(&mut self, id: Id) -> Option<Arc<Control>> {
        self.scheduler.leave(id);
        self.vacant.push(id.0);
        self.members.get_mut(id.0 as usize)?.take()
    }

    #[inline(always)]
    fn make_ready(&mut self, id: Id, why: Why, now: u64) {
        self.ready += 1;
        self.scheduler.ready(id, why, now);
    }

    /// Reports what the running thread has run, which stops running. Its stack pointer goes to the address
    /// that is returned.
    #[inline(always)]
    fn stop(&mut self, now: u64) -> Option<(Id, *mut u64)> {
        let (id, thread) = self.running.take()?;
        let ran = now.wrapping_sub(self.since);
        self.scheduler.ran(id, ran);
        // SAFETY: the members have it until it leaves, which is after it has stopped.
        let thread = unsafe { &*thread };
        thread.ran.store(thread.ran.load(Ordering::Relaxed).wrapping_add(ran), Ordering::Relaxed);
        Some((id, thread.saved.as_ptr()))
    }

    /// Has the timer fire when the running thread's quantum is over, if somebody waits for that.
    #[inline(always)]
    fn set_timer(&mut self, now: u64) {
        if let Some((id, _)) = self.running
            && self.ready > 0
        {
            let end = self.since.saturating_add(self.scheduler.quantum(id));
            // One that fires before that sees to the rest.
            if self.tick <= now || self.tick > end {
                self.tick = end;
                timer::wake_by(end);
            }
        }
    }

    /// Whether the running thread's turn is over, and why.
    fn is_over(&mut self, now: u64) -> Option<Why> {
        self.scheduler.tick(now);
        let (id, _) = self.running.filter(|_| self.ready > 0)?;
        if now.wrapping_sub(self.since) >= self.scheduler.quantum(id) {
            return Some(Why::Used);
        }
        self.scheduler.preempts(id).then_some(Why::Preempted)
    }
}

/// Makes a queue for the calling core.
pub(super) fn open(scheduler: Box<dyn Scheduler>, idle: Idle) {
    let core = &CORES[core_number()];
    // SAFETY: there is none yet, so nobody looks.
    unsafe { *core.queue.get() = Some(Queue::new(scheduler, idle)) };
    core.there.store(true, Ordering::Release);
}

/// Whether the calling core has a queue.
pub(super) fn is_open() -> bool {
    CORES[core_number()].there.load(Ordering::Acquire)
}

/// Makes `thread` the running one of its core, which the caller is.
pub(super) fn adopt(thread: &Arc<Control>) -> Result<(), Refusal> {
    let mut queue = Held::own();
    let now = ticks();
    queue.enter(thread, thread.terms, now)?;
    // It was ready, and was named: schedulers hear of everybody in the same order.
    queue.scheduler.ready(thread.id(), Why::Woken, now);
    queue.running = queue.scheduler.next(now).map(|id| (id, Arc::as_ptr(thread)));
    queue.since = now;
    Ok(())
}

/// Takes a new thread on, ready.
pub(super) fn begin(thread: &Arc<Control>) -> Result<(), Refusal> {
    let quiet = Quiet::begin();
    thread.home.store(core_number(), Ordering::Relaxed);
    let mut queue = Held::own();
    let now = ticks();
    queue.enter(thread, thread.terms, now)?;
    if woken(queue, thread.id(), now) {
        at_once(&quiet);
    }
    Ok(())
}

/// Ends the wait of a thread, or the next one.
pub(super) fn unpark(thread: &Arc<Control>) {
    let quiet = Quiet::begin();
    let queue = loop {
        let home = thread.home.load(Ordering::Acquire);
        let queue = Held::of(home);
        if thread.home.load(Ordering::Relaxed) == home {
            break queue;
        }
    };
    if !thread.blocked.load(Ordering::Relaxed) {
        return thread.token.store(true, Ordering::Relaxed);
    }
    thread.blocked.store(false, Ordering::Relaxed);
    if woken(queue, thread.id(), ticks()) {
        at_once(&quiet);
    }
}

impl Wake for Control {
    fn wake(self: Arc<Self>) {
        unpark(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        unpark(self);
    }
}

/// Lets somebody more urgent run, as soon as the caller may stop.
fn at_once(quiet: &Quiet) {
    let here = here();
    if quiet.0 && !here.is_open() {
        run_others_now();
    } else {
        here.put_off();
    }
}

/// Makes a thread ready. Returns whether the caller's thread should let it run at once.
fn woken(mut queue: Held, id: Id, now: u64) -> bool {
    queue.make_ready(id, Why::Woken, now);
    let own = core::ptr::eq(queue.0, &CORES[core_number()]);
    match queue.running {
        Some((running, _)) => {
            let urgent = queue.scheduler.preempts(running);
            if own && !urgent && queue.ready == 1 {
                queue.set_timer(now);
            }
            // The first one to wait there: the core has to set its timer.
            let other = (!own && (urgent || queue.ready == 1)).then(|| number_of(queue.0));
            drop(queue);
            call_an_idle_core();
            if let Some(other) = other {
                platform::current().call_core(other);
            }
            own && urgent
        }
        // An idle core looks before it halts; another one must be told.
        None => {
            let number = number_of(queue.0);
            drop(queue);
            if !own {
                platform::current().call_core(number);
            }
            false
        }
    }
}

/// The number of a core.
fn number_of(core: &Core) -> usize {
    // SAFETY: both point into the same array.
    unsafe { core::ptr::from_ref(core).offset_from_unsigned(CORES.as_ptr()) }
}

/// Has a core that waits look for something to take.
fn call_an_idle_core() {
    let idle = IDLE.load(Ordering::SeqCst);
    if idle != 0 {
        let number = idle.trailing_zeros() as usize;
        if IDLE.fetch_and(!(1 << number), Ordering::SeqCst) & 1 << number != 0 {
            platform::current().call_core(number);
        }
    }
}

/// Goes from the context that saves itself at `from` to the next one. Returns when that is switched to again,
/// perhaps on another core.
///
/// # Safety
///
/// `from` belongs to the caller's context, which the queue has noted as ready, blocked or ended.
#[inline(always)]
unsafe fn depart(mut queue: Held, from: *mut u64, now: u64) {
    let next = queue.scheduler.next(now);
    let (to, stack) = match next {
        Some(id) => {
            let thread = queue.members.get(id.0 as usize).and_then(Option::as_ref).map(Arc::as_ptr);
            let thread = thread.expect("a scheduler names who is there");
            queue.running = Some((id, thread));
            queue.since = now;
            queue.ready -= 1;
            if queue.ready > 0 {
                queue.set_timer(now);
            }
            // SAFETY: the members have it.
            let thread = unsafe { &*thread };
            if core::ptr::eq(thread.saved.as_ptr(), from) {
                return;
            }
            (thread.saved.load(Ordering::Relaxed), &raw const thread.stack)
        }
        None => {
            queue.running = None;
            (queue.idle.saved.load(Ordering::Relaxed), &raw const queue.idle.stack)
        }
    };
    // SAFETY: stacks of threads and cores are mapped for good. The context of `to` waits in a switch or has
    // not begun: it was in the set of those that are ready, or is the idle one and no thread's.
    unsafe {
        hw::set_interrupted_stack((*stack).start, (*stack).end, HANDLER_ROOM_BYTES);
        core::mem::forget(queue);
        switch(from, to);
        arrive();
    }
}

/// What the context does that was switched to: it unlocks the queue of its core.
///
/// # Safety
///
/// Called once after each switch.
#[inline(always)]
pub(super) unsafe fn arrive() {
    let mut queue = Held(&CORES[core_number()]);
    if queue.gone.is_none() {
        return;
    }
    let Some(gone) = queue.gone.take() else { return };
    drop(queue);
    // SAFETY: it has left its stack for good.
    drop(unsafe { gone.take_stack() });
}

/// Lets others run, those with the caller's own rights last.
pub(super) fn yield_now() {
    let _quiet = Quiet::begin();
    if is_open() {
        give_way(Held::own(), Why::Yielded);
    }
}

/// Stops the running thread, which stays ready, and goes to the next.
#[inline(always)]
fn give_way(mut queue: Held, why: Why) {
    let now = ticks();
    if queue.ready == 0 {
        return;
    }
    let Some((id, from)) = queue.stop(now) else { return };
    queue.make_ready(id, why, now);
    // SAFETY: the thread is the caller, and was noted as ready.
    unsafe { depart(queue, from, now) };
}

/// Waits until the calling thread is unparked, unless it has been already. Called with interrupts disabled.
pub(super) fn park(thread: &Control) {
    let mut queue = Held::own();
    if thread.token.load(Ordering::Relaxed) {
        return thread.token.store(false, Ordering::Relaxed);
    }
    thread.blocked.store(true, Ordering::Relaxed);
    let now = ticks();
    if let Some((id, _)) = queue.stop(now) {
        queue.scheduler.blocked(id, now);
    }
    // SAFETY: the thread is the caller, and was noted as blocked.
    unsafe { depart(queue, thread.saved.as_ptr(), now) };
}

/// Ends the calling thread. Called with interrupts disabled.
pub(super) fn end() -> ! {
    let mut queue = Held::own();
    let now = ticks();
    if let Some((id, from)) = queue.stop(now) {
        queue.gone = queue.leave(id);
        // SAFETY: the thread is the caller, and was noted as ended. Its control lives until its stack is
        // left.
        unsafe { depart(queue, from, now) };
    }
    unreachable!("a thread that has ended runs");
}

/// Lets others run if it is time: at the end of a critical section.
pub(super) fn run_others() {
    let _quiet = Quiet::begin();
    look();
    run_others_now();
}

fn run_others_now() {
    if !is_open() {
        return;
    }
    let mut queue = Held::own();
    // The timer may have fired for somebody else's sake, before the end of the quantum.
    queue.tick = 0;
    let now = ticks();
    match queue.is_over(now) {
        Some(why) => give_way(queue, why),
        None => queue.set_timer(now),
    }
}

/// The end of an interrupt: conditions are looked at, and the thread goes on or another one does.
pub(super) fn after_interrupt(on_trap_stack: bool) {
    /// When to try again if the interrupted stack has no room, in ticks: some microseconds.
    const SOON: u64 = 1 << 14;
    if !is_open() {
        return;
    }
    if on_trap_stack {
        // The next trap would take the stack on which this one would wait.
        return timer::wake_by(ticks().saturating_add(SOON));
    }
    let here = here();
    if here.is_open() {
        return here.put_off();
    }
    look();
    run_others_now();
}

/// Wakes those whose conditions hold by now.
fn look() {
    // SAFETY: interrupts are disabled, and conditions neither wait nor come here.
    let waiting = unsafe { &mut *CORES[core_number()].waiting.get() };
    let mut at = 0;
    while let Some(entry) = waiting.get(at) {
        // SAFETY: the condition is on the stack of a thread that waits, of this core, and does not run.
        if unsafe { (*entry.condition)() } {
            let entry = waiting.swap_remove(at);
            // SAFETY: as above.
            unsafe { (*entry.done).store(true, Ordering::Relaxed) };
            unpark(&entry.thread);
        } else {
            at += 1;
        }
    }
}

/// Has the calling thread wait until a condition holds. `false` if the caller is none, or has a critical
/// section open: then the core waits.
pub(super) fn wait_until(condition: &mut dyn FnMut() -> bool) -> bool {
    wait(condition, false)
}

/// The same until somebody unparks it, if `or_unparked`.
pub(super) fn wait(condition: &mut dyn FnMut() -> bool, or_unparked: bool) -> bool {
    let Some(thread) = current() else { return false };
    if thread.here.is_open() {
        return false;
    }
    let quiet = Quiet::begin();
    assert!(quiet.0, "sleeping with interrupts disabled");
    // The condition stays in the list of this core.
    section::pin();
    let (done, mut unparked) = (AtomicBool::new(false), false);
    while !done.load(Ordering::Relaxed) && !condition() {
        let erased = core::ptr::from_mut::<dyn FnMut() -> bool + '_>(condition);
        // SAFETY: the entry is gone before this function returns; only the lifetime is forgotten.
        let erased = unsafe {
            core::mem::transmute::<*mut (dyn FnMut() -> bool + '_), *mut (dyn FnMut() -> bool + 'static)>(
                erased,
            )
        };
        let list = CORES[core_number()].waiting.get();
        // SAFETY: interrupts are disabled.
        unsafe { (*list).push(Waiting { condition: erased, done: &raw const done, thread: thread.clone() }) };
        let before = thread.token.load(Ordering::Relaxed);
        park(&thread);
        // SAFETY: interrupts are disabled again, and the thread was pinned.
        unsafe { (*list).retain(|entry| !core::ptr::eq(entry.done, &raw const done)) };
        if !done.load(Ordering::Relaxed) {
            if or_unparked {
                break;
            }
            unparked = true;
        }
        unparked |= before && !or_unparked;
    }
    section::unpin();
    if unparked {
        // It was not for us: whoever waits for it looks again.
        thread.token.store(true, Ordering::Relaxed);
    }
    true
}

/// The calling thread.
pub(super) fn current() -> Option<Arc<Control>> {
    of(here())
}

/// The thread of a stack.
pub(super) fn of(here: &Here) -> Option<Arc<Control>> {
    let owner = here.owner.load(Ordering::Relaxed).cast::<Control>();
    // SAFETY: only `set_owner` stores a pointer that is not null, and its thread has not ended.
    unsafe {
        (!owner.is_null()).then(|| {
            Arc::increment_strong_count(owner);
            Arc::from_raw(owner)
        })
    }
}

/// Makes a thread the owner of its stack.
///
/// # Safety
///
/// The thread stays in a queue until the owner is taken back.
pub(super) unsafe fn set_owner(thread: &Arc<Control>) {
    thread.here.owner.store(Arc::as_ptr(thread).cast_mut().cast(), Ordering::Relaxed);
}

/// What a core does when no thread runs: it looks for one, at home and elsewhere, and halts. Called with
/// interrupts disabled, on the stack that its queue knows as the idle one.
pub(super) fn idle() -> ! {
    let number = core_number();
    loop {
        look();
        if work(number) || steal(number) {
            continue;
        }
        IDLE.fetch_or(1 << number, Ordering::SeqCst);
        // Who came before the bit was set has called nobody.
        if !(Held::own().ready > 0 || steal(number)) {
            // SAFETY: nothing is held. What comes from now on calls this core.
            unsafe { hw::wait_for_interrupt() };
        }
        IDLE.fetch_and(!(1 << number), Ordering::SeqCst);
    }
}

/// Runs threads until none is ready. Returns whether any was.
fn work(number: usize) -> bool {
    let queue = Held::of(number);
    if queue.ready == 0 {
        return false;
    }
    let from = queue.idle.saved.as_ptr();
    // SAFETY: the caller is the idle context.
    unsafe { depart(queue, from, ticks()) };
    true
}

/// Takes a thread from the queue of another core that has more than it runs.
fn steal(thief: usize) -> bool {
    let others = (1..MAX_NUMBERS).map(|distance| (thief + distance) % MAX_NUMBERS);
    let found = others.filter(|other| CORES[*other].there.load(Ordering::Acquire)).find_map(|other| {
        let mut queue = Held::of(other);
        let Queue { scheduler, members, .. } = &mut *queue;
        let may = |id: Id| {
            members
                .get(id.0 as usize)
                .and_then(Option::as_ref)
                .is_some_and(|thread| !thread.stays && !thread.here.is_pinned())
        };
        let id = scheduler.give(&may)?;
        queue.ready -= 1;
        let thread = queue.leave(id)?;
        thread.home.store(thief, Ordering::Release);
        Some(thread)
    });
    let Some(thread) = found else { return false };
    let mut queue = Held::of(thief);
    let now = ticks();
    let taken = queue.enter(&thread, thread.terms, now).or_else(|_| {
        // A scheduler that gave it away for terms which it does not take on.
        queue.enter(&thread, Terms::default(), now)
    });
    taken.unwrap_or_else(|refusal| panic!("thread {:?} has no scheduler any more: {refusal}", thread.name));
    queue.make_ready(thread.id(), Why::Woken, now);
    true
}
