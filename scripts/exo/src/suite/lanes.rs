//! Which tests run at the same time.
//!
//! A test often waits: for a machine that starts or ends, for a time limit. So there is a lane more than the
//! host has processors, and each takes the next test that no other has begun. Tests that want the computer
//! for themselves come first, one by one.

use super::context::Context;
use super::platform::{Need, Platform};
use super::{Entry, Outcome, Test};
use crate::error::{Error, Result};
use crate::host::children::interrupted;
use std::sync::{Mutex, PoisonError};
use std::thread::{ScopedJoinHandle, available_parallelism, scope};
use std::time::Instant;

/// A test on a platform: their places in the lists of both.
type Place = (usize, usize);

/// Tests and where they run.
struct Plan<'a> {
    tests: &'a [Test],
    platforms: &'a [Platform],
    /// Why a platform can't be used, if it can't.
    missing: Vec<Option<String>>,
}

/// Runs all tests on all platforms. The results are in the order of the tests, then of the platforms.
///
/// # Errors
///
/// If the tool is interrupted, or a directory can't be made.
pub(super) fn run(tests: &[Test], platforms: &[Platform], mut context: Context) -> Result<Vec<Entry>> {
    let missing = platforms.iter().map(|platform| platform.missing()).collect();
    let plan = Plan { tests, platforms, missing };
    let places = || (0..tests.len()).flat_map(|test| (0..platforms.len()).map(move |place| (test, place)));
    let (alone, beside): (Vec<Place>, Vec<Place>) =
        places().partition(|(test, _)| tests[*test].needs.contains(&Need::QuietHost));
    let mut entries = plan.lane(alone.into_iter(), &mut context)?;
    let lanes = available_parallelism().map_or(1, usize::from) + 1;
    let contexts = (0..lanes).map(|_| context.another()).collect::<Result<Vec<_>>>()?;
    let waiting = Mutex::new(beside.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let ran: Vec<_> = scope(|scope| {
        let (plan, next) = (&plan, &next);
        let run = |mut context| scope.spawn(move || plan.lane(std::iter::from_fn(next), &mut context));
        let lanes: Vec<_> = contexts.into_iter().map(run).collect();
        lanes.into_iter().map(ScopedJoinHandle::join).collect()
    });
    for lane in ran {
        entries.extend(lane.map_err(|_| Error::Measurement("a lane of tests has panicked".into()))??);
    }
    entries.sort_by_key(|(place, _)| *place);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

impl Plan<'_> {
    /// Runs tests one after the other.
    fn lane(
        &self,
        places: impl Iterator<Item = Place>,
        context: &mut Context,
    ) -> Result<Vec<(Place, Entry)>> {
        places
            .map(|place| {
                context.platform = self.platforms[place.1];
                let test = &self.tests[place.0];
                let entry = one(test, self.missing[place.1].as_deref(), context)?;
                let (number, all) = (place.0 + 1, self.tests.len());
                let head = format!("[{number}/{all}] {} on {}", test.name, context.platform.name());
                match &entry.outcome {
                    Outcome::Passed => println!("{head}: passed ({:.1} s)", entry.seconds),
                    Outcome::Failed(why) => println!("{head}: FAILED ({:.1} s)\n    {why}", entry.seconds),
                    Outcome::NotOffered(what) => println!("{head}: not offered: needs {what}"),
                }
                Ok((place, entry))
            })
            .collect()
    }
}

fn one(test: &Test, missing: Option<&str>, context: &Context) -> Result<Entry> {
    let platform = context.platform;
    let start = Instant::now();
    let lacking = || test.needs.iter().find(|need| !platform.offers(**need)).map(Need::to_string);
    let outcome = match missing.map(str::to_owned).or_else(lacking) {
        Some(what) => Outcome::NotOffered(what),
        None => (test.run)(context).map_or_else(Outcome::Failed, |()| Outcome::Passed),
    };
    if interrupted() {
        return Err(Error::Interrupted);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Entry { test: test.name.clone(), platform, outcome, seconds })
}
