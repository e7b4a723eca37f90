//! The shipped schedulers, by a simulated core.
//!
//! `SCHEDULE_CASES=N` tries N sets of threads for each property (default 64).

extern crate std;

use super::*;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::format;

/// What a simulated thread does: it computes for `work` ticks, sleeps for `sleep`, and so on. With a sleep of
/// 0 it computes always.
#[derive(Clone, Copy, Debug)]
struct Habit {
    work: u64,
    sleep: u64,
    terms: Terms,
}

impl Habit {
    fn always(weight: u32) -> Habit {
        Habit { work: u64::MAX, sleep: 0, terms: Terms { weight, ..Terms::default() } }
    }
}

struct Simulated {
    habit: Habit,
    left: u64,
    /// When it wakes, if it sleeps.
    wakes: Option<u64>,
    /// When it was last woken.
    woken: u64,
    ran: u64,
    /// The longest time from a wake to the end of the work.
    slowest: u64,
    /// When it last ran, and the longest time that it was ready and did not.
    last: u64,
    hungriest: u64,
}

/// A core that runs threads by what a scheduler says, as `crate::thread` does.
struct Core {
    scheduler: Box<dyn Scheduler>,
    threads: Vec<Simulated>,
    now: u64,
}

impl Core {
    fn new(scheduler: impl Scheduler + 'static, habits: &[Habit]) -> Core {
        let mut core = Core { scheduler: Box::new(scheduler), threads: Vec::new(), now: 0 };
        for habit in habits {
            let id = Id(core.threads.len() as u32);
            core.scheduler.enter(id, habit.terms, 0).unwrap();
            core.scheduler.ready(id, Why::Woken, 0);
            core.threads.push(Simulated {
                habit: *habit,
                left: habit.work,
                wakes: None,
                woken: 0,
                ran: 0,
                slowest: 0,
                last: 0,
                hungriest: 0,
            });
        }
        core
    }

    fn next_wake(&self) -> Option<u64> {
        self.threads.iter().filter_map(|thread| thread.wakes).min()
    }

    fn wake_due(&mut self) {
        for (number, thread) in self.threads.iter_mut().enumerate() {
            if let Some(at) = thread.wakes.filter(|at| *at <= self.now) {
                (thread.wakes, thread.woken, thread.last) = (None, at, self.now);
                self.scheduler.ready(Id(number as u32), Why::Woken, self.now);
            }
        }
    }

    /// Runs until a time; `each` sees the threads after each turn.
    fn run(&mut self, until: u64, mut each: impl FnMut(&[Simulated])) {
        while self.now < until {
            self.wake_due();
            self.scheduler.tick(self.now);
            let Some(id) = self.scheduler.next(self.now) else {
                self.now = self.next_wake().unwrap_or(until);
                continue;
            };
            self.turn(id);
            each(&self.threads);
        }
    }

    /// One thread runs until it sleeps, its quantum is over, or somebody more urgent comes.
    fn turn(&mut self, id: Id) {
        let number = id.0 as usize;
        let quantum = self.scheduler.quantum(id);
        let start = self.now;
        let thread = &mut self.threads[number];
        assert!(thread.wakes.is_none(), "somebody was named who sleeps");
        thread.hungriest = thread.hungriest.max(start - thread.last);
        let why = loop {
            let thread = &self.threads[number];
            let end = start + quantum.min(thread.left);
            // Up to the next wake of another.
            let stop = self.next_wake().map_or(end, |wake| wake.clamp(self.now, end));
            self.now = stop;
            self.wake_due();
            match () {
                () if self.now - start >= self.threads[number].left => break None,
                () if self.now - start >= quantum => break Some(Why::Used),
                () if self.scheduler.preempts(id) => break Some(Why::Preempted),
                () => (),
            }
        };
        let (now, ran) = (self.now, self.now - start);
        self.scheduler.ran(id, ran);
        let thread = &mut self.threads[number];
        (thread.ran, thread.last, thread.left) = (thread.ran + ran, now, thread.left - ran);
        match why {
            Some(why) => self.scheduler.ready(id, why, now),
            None => {
                thread.slowest = thread.slowest.max(now - thread.woken);
                thread.left = thread.habit.work;
                // Periodic work comes on time, however late the last was done.
                thread.wakes = Some(match thread.habit.terms.periodic {
                    Some(periodic) => (thread.woken + periodic.period).max(now),
                    None => now + thread.habit.sleep,
                });
                self.scheduler.blocked(id, now);
            }
        }
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("SCHEDULE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

const QUANTUM: u64 = 1000;

#[test]
fn stride_draws_the_figure_of_three_two_one() {
    let habits = [3, 2, 1].map(Habit::always);
    let mut core = Core::new(Stride::new(QUANTUM), &habits);
    let mut turns = 0;
    core.run(600 * QUANTUM, |threads| {
        turns += 1;
        let all: u64 = threads.iter().map(|thread| thread.ran).sum();
        for (thread, weight) in threads.iter().zip([3, 2, 1]) {
            let error = thread.ran.abs_diff(all * weight / 6);
            assert!(error < QUANTUM, "{error} ticks away after {turns} quanta");
        }
    });
    assert_eq!(turns, 600);
}

proptest! {
    #![proptest_config(cases())]

    /// Waldspurger and Weihl 1995, §3: of any two clients, the error is at most a quantum.
    #[test]
    fn stride_keeps_any_two_within_a_quantum(weights in prop::collection::vec(1_u32..100, 2..8)) {
        let habits: Vec<Habit> = weights.iter().map(|weight| Habit::always(*weight)).collect();
        let mut core = Core::new(Stride::new(QUANTUM), &habits);
        let mut wrong = None;
        core.run(2000 * QUANTUM, |threads| {
            for (one, other) in threads.iter().flat_map(|one| threads.iter().map(move |other| (one, other))) {
                let (a, b) = (u64::from(one.habit.terms.weight), u64::from(other.habit.terms.weight));
                let error = one.ran.abs_diff((one.ran + other.ran) * a / (a + b));
                if error > QUANTUM {
                    wrong = Some((a, b, error));
                }
            }
        });
        prop_assert_eq!(wrong, None);
    }

    /// Who slept has saved nothing up: those that were there all the time are not held up afterwards.
    #[test]
    fn stride_gives_sleepers_no_credit(weight in 1_u32..50, sleep in 1_u64..50) {
        let habits = [
            Habit::always(weight),
            Habit { work: QUANTUM / 2, sleep: sleep * QUANTUM, terms: Terms { weight, ..Terms::default() } },
        ];
        let mut core = Core::new(Stride::new(QUANTUM), &habits);
        core.run(1000 * QUANTUM, |_| ());
        prop_assert!(core.threads[0].hungriest <= QUANTUM, "{}", core.threads[0].hungriest);
        prop_assert!(core.threads[1].slowest <= 2 * QUANTUM, "{}", core.threads[1].slowest);
    }

    /// The number of wins is binomial: five standard deviations are left (1 in 3,000,000).
    #[test]
    fn lottery_is_as_likely_as_its_tickets(weights in prop::collection::vec(1_u32..20, 2..6), seed: u64) {
        const DRAWS: u64 = 4000;
        let habits: Vec<Habit> = weights.iter().map(|weight| Habit::always(*weight)).collect();
        let mut core = Core::new(Lottery::new(QUANTUM, seed), &habits);
        core.run(DRAWS * QUANTUM, |_| ());
        let all: u32 = weights.iter().sum();
        for (thread, weight) in core.threads.iter().zip(&weights) {
            let p = f64::from(*weight) / f64::from(all);
            let (mean, deviation) = (DRAWS as f64 * p, (DRAWS as f64 * p * (1.0 - p)).sqrt());
            let wins = (thread.ran / QUANTUM) as f64;
            prop_assert!((wins - mean).abs() <= 5.0 * deviation + 1.0, "{wins} of {mean} ± {deviation}");
        }
    }

    /// Liu and Layland 1973, theorem 7: if all needs add up to no more than the processor, none is late.
    #[test]
    fn earliest_deadline_meets_what_can_be_met(needs in prop::collection::vec((20_u64..200, 1_u64..100), 1..6)) {
        let whole: u64 = needs.iter().map(|(_, part)| part).sum();
        let habits: Vec<Habit> = needs
            .iter()
            .map(|(period, part)| {
                let period = period * 100;
                let budget = (period * part / whole).max(1);
                let periodic = Some(Periodic { period, budget });
                Habit { work: budget, sleep: 0, terms: Terms { periodic, ..Terms::default() } }
            })
            // One without a deadline, which takes the rest.
            .chain([Habit::always(1)])
            .collect();
        // Rounded up, parts of a million may add up to a little more.
        prop_assume!(habits.iter().filter_map(|habit| habit.terms.periodic).map(|periodic| {
            (periodic.budget * 1_000_000).div_ceil(periodic.period)
        }).sum::<u64>() <= 1_000_000);
        let mut core = Core::new(EarliestDeadline::new(QUANTUM), &habits);
        core.run(500_000, |_| ());
        for thread in &core.threads {
            if let Some(Periodic { period, .. }) = thread.habit.terms.periodic {
                prop_assert!(thread.slowest <= period, "{} of {period} ticks", thread.slowest);
                prop_assert!(thread.ran > 0);
            }
        }
    }

    /// Who is on the lowest queue runs after each boost, whatever keeps coming in above.
    #[test]
    fn feedback_starves_nobody(works in prop::collection::vec((1_u64..900, 1_u64..900), 1..8), boost in 20_u64..100) {
        let busy = works.iter().map(|(work, sleep)| Habit { work: *work, sleep: *sleep, terms: Terms::default() });
        let habits: Vec<Habit> = busy.chain([Habit::always(1), Habit::always(1)]).collect();
        let boost = boost * QUANTUM;
        let mut core = Core::new(Feedback::new(QUANTUM, boost), &habits);
        core.run(50 * boost, |_| ());
        // On top again after each boost, each waits for one turn of the others at most, and for the longest
        // turn that was under way.
        let most = boost + (habits.len() as u64 + 32) * QUANTUM;
        for thread in &core.threads {
            prop_assert!(thread.hungriest <= most, "{} of {most} ticks", thread.hungriest);
        }
    }

    /// Everybody who is ready is named once, by every scheduler.
    #[test]
    fn nobody_is_lost_or_doubled(steps in prop::collection::vec((0_u32..6, 0_u8..5), 1..200)) {
        for mut scheduler in shipped() {
            // Of six: absent, blocked, ready.
            let (mut there, mut ready) = ([false; 6], [false; 6]);
            for (now, (number, step)) in (0_u64..).zip(&steps) {
                let (id, at) = (Id(*number), *number as usize);
                match step {
                    0 if !there[at] => {
                        scheduler.enter(id, Terms { weight: *number, ..Terms::default() }, now).unwrap();
                        there[at] = true;
                    }
                    1 if there[at] && !ready[at] => {
                        scheduler.ready(id, Why::Woken, now);
                        ready[at] = true;
                    }
                    2 if there[at] => {
                        scheduler.leave(id);
                        (there[at], ready[at]) = (false, false);
                    }
                    3 => match scheduler.give(&|other| other.0 != 0) {
                        Some(given) => {
                            prop_assert!(given.0 != 0 && core::mem::take(&mut ready[given.0 as usize]));
                            scheduler.leave(given);
                            there[given.0 as usize] = false;
                        }
                        None => prop_assert!(!ready[1..].contains(&true)),
                    },
                    4 => match scheduler.next(now) {
                        Some(next) => {
                            prop_assert!(core::mem::take(&mut ready[next.0 as usize]), "{next:?} was not ready");
                            prop_assert!(scheduler.quantum(next) > 0);
                            scheduler.ran(next, 400);
                            scheduler.blocked(next, now);
                        }
                        None => prop_assert!(!ready.contains(&true), "somebody is ready"),
                    },
                    _ => (),
                }
            }
            while let Some(next) = scheduler.next(1000) {
                prop_assert!(core::mem::take(&mut ready[next.0 as usize]));
            }
            prop_assert!(!ready.contains(&true));
        }
    }
}

fn shipped() -> Vec<Box<dyn Scheduler>> {
    vec![
        Box::new(RoundRobin::new(QUANTUM)),
        Box::new(Priorities::new(QUANTUM)),
        Box::new(Stride::new(QUANTUM)),
        Box::new(Lottery::new(QUANTUM, 1)),
        Box::new(EarliestDeadline::new(QUANTUM)),
        Box::new(Feedback::new(QUANTUM, 50 * QUANTUM)),
    ]
}

#[test]
fn the_highest_priority_runs_and_equals_take_turns() {
    let habit = |priority, work, sleep| Habit { work, sleep, terms: Terms { priority, ..Terms::default() } };
    let habits = [habit(1, u64::MAX, 0), habit(1, u64::MAX, 0), habit(7, 100, 5000), habit(0, u64::MAX, 0)];
    let mut core = Core::new(Priorities::new(QUANTUM), &habits);
    core.run(100 * QUANTUM, |_| ());
    let ran: Vec<u64> = core.threads.iter().map(|thread| thread.ran).collect();
    assert_eq!(core.threads[2].slowest, 100, "nobody holds the highest up");
    assert!(ran[0].abs_diff(ran[1]) <= QUANTUM, "{ran:?}");
    assert_eq!(ran[3], 0);
}

#[test]
fn round_robin_is_in_turn() {
    let mut core = Core::new(RoundRobin::new(QUANTUM), &[Habit::always(1); 3]);
    core.run(30 * QUANTUM, |_| ());
    assert_eq!(core.threads.iter().map(|thread| thread.ran).collect::<Vec<_>>(), [10 * QUANTUM; 3]);
}

#[test]
fn who_overruns_its_budget_makes_nobody_else_late() {
    let periodic = |period, budget| Terms { periodic: Some(Periodic { period, budget }), ..Terms::default() };
    let habits = [
        Habit { work: 4000, sleep: 0, terms: periodic(10_000, 4000) },
        // It says 5,000 of each 10,000 and never stops.
        Habit { work: u64::MAX, sleep: 0, terms: periodic(10_000, 5000) },
    ];
    let mut core = Core::new(EarliestDeadline::new(QUANTUM), &habits);
    core.run(1_000_000, |_| ());
    assert!(core.threads[0].slowest <= 10_000, "{}", core.threads[0].slowest);
    assert!(core.threads[1].ran >= 590_000, "it gets what is left: {}", core.threads[1].ran);
}

#[test]
fn deadlines_that_cannot_be_met_are_refused() {
    let mut scheduler = EarliestDeadline::new(QUANTUM);
    let terms = |period, budget| Terms { periodic: Some(Periodic { period, budget }), ..Terms::default() };
    assert_eq!(scheduler.enter(Id(0), terms(100, 60), 0), Ok(()));
    let refused = scheduler.enter(Id(1), terms(100, 41), 0);
    assert_eq!(refused, Err(Refusal::Overload { promised: 1_010_000 }));
    assert_eq!(format!("{}", refused.unwrap_err()), "deadlines would need 101.00 % of the processor");
    assert!(matches!(scheduler.enter(Id(1), terms(100, 101), 0), Err(Refusal::Impossible(_))));
    scheduler.leave(Id(0));
    assert_eq!(scheduler.enter(Id(1), terms(100, 100), 0), Ok(()), "what was promised is free again");
}

#[test]
fn who_uses_little_of_its_quantum_wins_more_often() {
    let half = Habit { work: QUANTUM / 4, sleep: 0, terms: Terms::default() };
    let mut core = Core::new(Lottery::new(QUANTUM, 7), &[Habit::always(1), half]);
    core.run(4000 * QUANTUM, |_| ());
    let part = core.threads[1].ran * 100 / (core.threads[0].ran + core.threads[1].ran);
    // Without compensation it would have 20 %.
    assert!((47..=53).contains(&part), "{part} %");
}
