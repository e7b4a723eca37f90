//! Traffic of a cache: an application that keeps in the store what it would else fetch from somewhere slow.
//!
//! | module | what |
//! |---|---|
//! | `plan` | which records are asked for, how large they are, how long they are good |
//! | `run` | asks a server, fetches what is missing, checks every reply |
//! | `limit` | how few misses there could be |
//!
//! Requests go through the server as those of any client: the protocol, the table of commands, the policy.
//! Nothing of it depends on chance or on time: the same numbers come out wherever it runs.

mod limit;
mod plan;
mod run;

pub use limit::{optimal_misses, references};
pub use plan::{Plan, Step, Traffic, UnknownTraffic};
pub use run::{Counts, TrafficError, data_bytes, run};
