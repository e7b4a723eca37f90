//! `exo cache`: replacement policies on the host, without a machine.
//!
//! | module | what |
//! |---|---|
//! | [`advise`] | `exo cache advise`: from a trace to a policy, and lines for the program |
//! | [`criteria`] | `exo cache criteria`: what a division between managers keeps, with figures |
//! | [`simulate`] | `exo cache simulate`: from a trace to tables, lines and curves |
//! | [`record`] | `exo cache record`: what a program of this host refers to |
//! | [`trace`] | reference strings and the formats they come in |
//! | [`policy`] | policies and their parameters as the user names them |
//! | [`sizes`] | cache sizes as the user names them |
//! | [`replay`] | every policy at every size, on several cores |
//! | [`sample`] | how large a sample is, as the user says it |
//! | [`estimate`] | the misses of a whole trace from a sample, and their error |
//! | [`plot`] | miss-ratio curves in the terminal |
//! | [`page`] | the same as a page |

pub mod advise;
mod criteria;
mod estimate;
pub mod page;
mod plot;
pub mod policy;
mod record;
pub mod replay;
mod sample;
mod simulate;
pub mod sizes;
pub mod trace;

use crate::error::Result;

/// Arguments of `exo cache`.
#[derive(Debug, clap::Subcommand)]
pub enum CacheVerb {
    /// Replays a trace of block references under several policies and sizes, and counts misses
    Simulate(Box<simulate::SimulateArgs>),
    /// Finds the policy that suits a program, says what it gains, and what to write in the program
    Advise(Box<advise::AdviseArgs>),
    /// Runs a program of this host, and records which blocks of files it reads and writes
    Record(record::RecordArgs),
    /// The process that becomes the program to record
    #[command(name = "record-command", hide = true)]
    RecordCommand(record::CommandArgs),
    /// Judges how managers share a cache: oblivious, foolish and smart programs, in calculated time
    Criteria(criteria::CriteriaArgs),
}

impl CacheVerb {
    /// Whether signals to this tool are the verb's own affair: a command that is recorded is to get them.
    pub fn takes_signals(&self) -> bool {
        matches!(self, CacheVerb::Record(_) | CacheVerb::RecordCommand(_))
    }
}

/// The verb.
pub fn cache(verb: &CacheVerb) -> Result<()> {
    match verb {
        CacheVerb::Simulate(args) => simulate::simulate(args),
        CacheVerb::Advise(args) => advise::advise(args),
        CacheVerb::Record(args) => record::record(args),
        CacheVerb::RecordCommand(args) => record::become_command(args),
        CacheVerb::Criteria(args) => criteria::criteria(args),
    }
}
