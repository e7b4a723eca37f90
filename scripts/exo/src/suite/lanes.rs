//! Which tests run at the same time.
//!
//! Bochs works with one processor and is slow, and QEMU seldom takes all of the others: tests on Bochs run
//! beside those on QEMU. Tests that want the computer for themselves come first, one by one.

use super::context::Context;
use super::platform::{Need, Platform};
use super::{Entry, Outcome, Test};
use crate::error::{Error, Result};
use crate::host::children::interrupted;
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
    let (bochs, qemu): (Vec<Place>, Vec<Place>) =
        beside.into_iter().partition(|(_, platform)| platforms[*platform] == Platform::BochsVmx);
    let mut entries = plan.lane(&alone, &mut context)?;
    let mut second = context.another()?;
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| plan.lane(&bochs, &mut second));
        (plan.lane(&qemu, &mut context), second.join())
    });
    entries.extend(first?);
    entries.extend(second.map_err(|_| Error::Measurement("the tests on Bochs have panicked".into()))??);
    entries.sort_by_key(|(place, _)| *place);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

impl Plan<'_> {
    /// Runs tests one after the other.
    fn lane(&self, places: &[Place], context: &mut Context) -> Result<Vec<(Place, Entry)>> {
        places
            .iter()
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
                Ok((*place, entry))
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
