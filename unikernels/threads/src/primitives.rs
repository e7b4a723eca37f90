//! Every primitive, with results that can be checked, while the timer preempts whoever runs.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use libos_core::sync::{Barrier, Condition, Mutex, Once, Semaphore, channel};
use libos_core::task::Executor;
use libos_core::thread::{self, Builder, JoinHandle, Local, SpawnError};
use libos_core::{cores, println, time};

const THREADS: u64 = 4;

/// Computes for a while, so that quanta end at every place.
fn compute(turns: u64) {
    (0..turns * 50).for_each(|turn| {
        black_box(turn);
    });
}

/// Has a function run by some threads at once, each with its place; returns the sum of what they return.
fn on_all(function: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Result<u64, SpawnError> {
    let function = Arc::new(function);
    let spawn = |place| {
        let function = Arc::clone(&function);
        // Terms of all kinds, so that all schedulers have something to decide.
        Builder::named("worker")
            .weight(place as u32 + 1)
            .priority(place as u8 % 2)
            .spawn(move || function(place))
    };
    let threads = (0..THREADS).map(spawn).collect::<Result<Vec<_>, _>>()?;
    Ok(threads.into_iter().map(JoinHandle::join).sum())
}

/// Tries a primitive for some rounds. Returns whether the result was right.
type Check = fn(u64) -> Result<bool, SpawnError>;

/// Runs all of them. Returns whether all results were right.
pub fn check(rounds: u64) -> Result<bool, SpawnError> {
    let checks: [(&str, Check); 10] = [
        ("mutex", mutex),
        ("condition", condition),
        ("semaphore", semaphore),
        ("channel", by_channel),
        ("once", once),
        ("barrier", barrier),
        ("parking", parking),
        ("locals", locals),
        ("floats", floats),
        ("tasks", tasks),
    ];
    let mut all = true;
    for (name, check) in checks {
        let right = check(rounds)?;
        println!("{{\"primitive\":\"{name}\",\"right\":{right}}}");
        all &= right;
    }
    println!("{{\"cores\":{},\"all\":{all}}}", cores::count());
    Ok(all)
}

/// The sum is right only if nobody was between the two halves of another's addition.
fn mutex(rounds: u64) -> Result<bool, SpawnError> {
    static SUM: Mutex<u64> = Mutex::new(0);
    let before = *SUM.lock();
    on_all(move |place| {
        for round in 0..rounds {
            let mut sum = SUM.lock();
            let seen = *sum;
            compute(round % 7 + place);
            *sum = seen + 1;
        }
        0
    })?;
    Ok(*SUM.lock() - before == THREADS * rounds)
}

/// Two pairs hand a number back and forth.
fn condition(rounds: u64) -> Result<bool, SpawnError> {
    static TURN: [(Mutex<u64>, Condition); 2] = [const { (Mutex::new(0), Condition::new()) }; 2];
    on_all(move |place| {
        let (mutex, condition) = &TURN[place as usize / 2];
        for _ in 0..rounds {
            let mut turn = condition.wait_while(mutex.lock(), |turn| *turn % 2 != place % 2);
            *turn += 1;
            condition.notify_all();
        }
        0
    })?;
    Ok(TURN.iter().all(|(mutex, _)| *mutex.lock() == 2 * rounds))
}

fn semaphore(rounds: u64) -> Result<bool, SpawnError> {
    static PERMITS: Semaphore = Semaphore::new(2);
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    let crowded = on_all(move |_| {
        (0..rounds)
            .filter(|round| {
                let _permit = PERMITS.acquire();
                let crowd = INSIDE.fetch_add(1, Ordering::SeqCst);
                compute(round % 5);
                INSIDE.fetch_sub(1, Ordering::SeqCst);
                crowd >= 2
            })
            .count() as u64
    })?;
    Ok(crowded == 0 && PERMITS.available() == 2)
}

/// Everything that is sent arrives once, and in order from each sender.
fn by_channel(rounds: u64) -> Result<bool, SpawnError> {
    let (sender, receiver) = channel(3);
    let (sums, got) = channel(2);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (receiver, sums) = (receiver.clone(), sums.clone());
            thread::spawn("reader", move || {
                let (mut last, mut sum, mut ordered) = ([0; THREADS as usize], 0_u64, true);
                for (place, value) in receiver.iter() {
                    ordered &= value > core::mem::replace(&mut last[place as usize], value);
                    sum += value;
                    compute(value % 3);
                }
                sums.send(if ordered { sum } else { 0 })
            })
        })
        .collect::<Result<_, _>>()?;
    let failed = on_all(move |place| {
        (1..=rounds).filter(|value| sender.send((place, *value)).is_err()).count() as u64
    })?;
    let ended = readers.into_iter().all(|reader| reader.join().is_ok());
    let sum: u64 = [got.receive(), got.receive()].into_iter().flatten().sum();
    Ok(failed == 0 && ended && sum == THREADS * rounds * (rounds + 1) / 2)
}

fn once(rounds: u64) -> Result<bool, SpawnError> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let values: Arc<Vec<Once<u64>>> = Arc::new((0..rounds).map(|_| Once::new()).collect());
    let sum = on_all(move |_| {
        let make = |number| {
            compute(3);
            MADE.fetch_add(1, Ordering::Relaxed);
            number
        };
        (0..rounds).zip(values.iter()).map(|(number, once)| *once.get_or_make(|| make(number))).sum()
    })?;
    Ok(MADE.swap(0, Ordering::Relaxed) == rounds && sum == THREADS * rounds * (rounds - 1) / 2)
}

/// Nobody is a meeting ahead, and each meeting has one leader.
fn barrier(rounds: u64) -> Result<bool, SpawnError> {
    static MEETING: Barrier = Barrier::new(THREADS as usize);
    static CAME: AtomicU64 = AtomicU64::new(0);
    CAME.store(0, Ordering::Relaxed);
    let led = on_all(move |place| {
        (1..=rounds)
            .filter(|round| {
                compute(round % 4 * place);
                CAME.fetch_add(1, Ordering::SeqCst);
                let led = MEETING.wait();
                assert!(CAME.load(Ordering::SeqCst) >= round * THREADS, "somebody is missing");
                led
            })
            .count() as u64
    })?;
    Ok(led == rounds)
}

/// Two threads wake each other in turn.
fn parking(rounds: u64) -> Result<bool, SpawnError> {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    TURNS.store(0, Ordering::Relaxed);
    OVER.store(false, Ordering::Relaxed);
    let main = thread::current().ok_or(SpawnError::NotStarted)?;
    let other = thread::spawn("parker", move || {
        while !OVER.load(Ordering::Acquire) {
            if TURNS.load(Ordering::Acquire).is_multiple_of(2) {
                thread::park();
            } else {
                TURNS.fetch_add(1, Ordering::AcqRel);
                main.unpark();
            }
        }
    })?;
    for turn in 0..rounds {
        TURNS.fetch_add(1, Ordering::AcqRel);
        other.thread().unpark();
        while TURNS.load(Ordering::Acquire) < 2 * (turn + 1) {
            thread::park();
        }
    }
    OVER.store(true, Ordering::Release);
    other.thread().unpark();
    other.join();
    Ok(TURNS.load(Ordering::Relaxed) == 2 * rounds)
}

/// A value of each thread's own, dropped with it.
fn locals(rounds: u64) -> Result<bool, SpawnError> {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    struct Counted(Cell<u64>);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(self.0.get(), Ordering::Relaxed);
        }
    }
    static COUNT: Local<Counted> = Local::new(|| Counted(Cell::new(0)));
    DROPPED.store(0, Ordering::Relaxed);
    let sum = on_all(move |place| {
        for _ in 0..rounds {
            COUNT.with(|count| count.0.set(count.0.get() + place));
            compute(1);
        }
        COUNT.with(|count| count.0.get())
    })?;
    let expected = rounds * THREADS * (THREADS - 1) / 2;
    Ok(sum == expected && DROPPED.load(Ordering::Relaxed) == expected)
}

/// Registers of a thread that is preempted are its own, those of floating point included.
fn floats(rounds: u64) -> Result<bool, SpawnError> {
    let wrong = on_all(move |place| {
        let start = place as f64 + 1.0;
        let mut values = [start, start * 2.0, start * 3.0, start * 4.0];
        for _ in 0..rounds * 200 {
            values = black_box(values.map(|value| value * 1.5 / 3.0 * 2.0));
        }
        u64::from(values != [start, start * 2.0, start * 3.0, start * 4.0])
    })?;
    Ok(wrong == 0)
}

/// A thread waits for what a task of another thread's executor does, and the task for what the thread does.
fn tasks(rounds: u64) -> Result<bool, SpawnError> {
    let (questions, asked) = channel::<u64>(1);
    let (answers, answered) = channel::<u64>(1);
    let server = thread::spawn("executor", move || {
        thread::run(&Executor::new(time::now_ns), async move {
            while let Some(question) = asked.receive_async().await {
                if answers.send_async(question * question).await.is_err() {
                    return;
                }
            }
        });
    })?;
    let mut right = true;
    for number in 0..rounds {
        right &= questions.send(number).is_ok();
        right &= thread::block_on(answered.receive_async()) == Some(number * number);
    }
    drop(questions);
    server.join();
    Ok(right)
}
