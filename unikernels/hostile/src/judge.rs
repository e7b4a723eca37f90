//! What an attempt is, and whether all its tries were refused as they should.

use crate::machine::Trap;
use core::fmt::{self, Debug, Display};
use hyperexo_abi::hypercall::Status;
use libos_core::println;

/// How an attempt must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is refused and the environment goes on.
    Survives,
    /// The kernel ends the environment.
    Killed,
    /// The one or the other: processors differ, and emulators more so.
    Either,
}

impl Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Survives => "survives",
            End::Killed => "killed",
            End::Either => "either",
        })
    }
}

/// Something forbidden.
pub struct Attempt {
    /// Name on the command line.
    pub name: &'static str,
    /// How it must end.
    pub end: End,
    /// Whether it needs a disk extent.
    pub needs_disk: bool,
    /// Whether it needs the network.
    pub needs_network: bool,
    /// Cores that the machine must have.
    pub needs_cores: u64,
    /// What it does, in a few words.
    pub what: &'static str,
    /// Does it.
    pub run: fn(&mut Judge),
}

impl Attempt {
    /// An attempt that must survive.
    pub const fn survives(name: &'static str, what: &'static str, run: fn(&mut Judge)) -> Attempt {
        Attempt {
            name,
            end: End::Survives,
            needs_disk: false,
            needs_network: false,
            needs_cores: 1,
            what,
            run,
        }
    }

    /// An attempt that must be the environment's end.
    pub const fn killed(name: &'static str, what: &'static str, run: fn(&mut Judge)) -> Attempt {
        Attempt { name, end: End::Killed, needs_disk: false, needs_network: false, needs_cores: 1, what, run }
    }

    /// An attempt that may end either way, as long as nobody else notices.
    pub const fn either(name: &'static str, what: &'static str, run: fn(&mut Judge)) -> Attempt {
        Attempt { name, end: End::Either, needs_disk: false, needs_network: false, needs_cores: 1, what, run }
    }

    /// The same attempt, which needs a second core.
    pub const fn with_cores(mut self) -> Attempt {
        self.needs_cores = 2;
        self
    }

    /// The same attempt, which needs the network.
    pub const fn with_network(mut self) -> Attempt {
        self.needs_network = true;
        self
    }

    /// The same attempt, which needs a disk extent.
    pub const fn with_disk(mut self) -> Attempt {
        self.needs_disk = true;
        self
    }
}

/// Counts tries and those that did not end as they should.
pub struct Judge {
    attempt: &'static str,
    tries: u64,
    failures: u64,
}

impl Judge {
    /// A judge of the attempt with this name.
    pub fn new(attempt: &'static str) -> Judge {
        Judge { attempt, tries: 0, failures: 0 }
    }

    /// A try that must end as expected.
    pub fn expect<T: PartialEq + Debug>(&mut self, what: impl Display, actual: T, expected: T) {
        self.tries += 1;
        if actual != expected {
            self.failures += 1;
            println!("error: {}: {what}: got {actual:?}, expected {expected:?}", self.attempt);
        }
    }

    /// A call that must be refused with this status.
    pub fn refused<T>(&mut self, what: impl Display, result: Result<T, Status>, expected: Status) {
        self.expect(what, result.map(|_| ()), Err(expected));
    }

    /// A call that must succeed.
    pub fn allowed<T>(&mut self, what: impl Display, result: Result<T, Status>) -> Option<T> {
        let (value, outcome) = match result {
            Ok(value) => (Some(value), Ok(())),
            Err(status) => (None, Err(status)),
        };
        self.expect(what, outcome, Ok(()));
        value
    }

    /// Something that a try needs and that must be there.
    pub fn found<T>(&mut self, what: impl Display, value: Option<T>) -> Option<T> {
        self.expect(what, value.is_some(), true);
        value
    }

    /// An instruction that must raise an exception.
    pub fn traps(&mut self, what: impl Display, actual: Option<Trap>, expected: u8) {
        self.expect(what, actual.map(|trap| trap.vector), Some(expected));
    }

    /// A try whose only test is that we are still here.
    pub fn harmless(&mut self) {
        self.tries += 1;
    }

    /// Prints the result line; returns the exit code.
    pub fn verdict(&self) -> i32 {
        println!(
            "{{\"hostile\":\"{}\",\"tries\":{},\"failures\":{}}}",
            self.attempt, self.tries, self.failures
        );
        i32::from(self.failures != 0)
    }
}
