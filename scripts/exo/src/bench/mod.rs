//! `exo bench`: measurements of the system itself.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | how long until an application speaks, how large it is, how little memory suffices |
//! | [`overhead`] | what HyperExo costs a workload of `filecache` |
//! | [`size`] | how much code there is, and how much must be trusted |
//! | [`exits`] | what crossings into the exokernel cost |
//! | [`papers`] | the tables of the papers, ours and Linux's beside theirs |
//! | [`net`] | servers on libos-net beside Debian's on Linux |

mod boot;
mod exits;
mod net;
mod overhead;
mod papers;
mod size;
mod start;

use crate::error::Result;

/// Arguments of `exo bench`.
#[derive(Debug, clap::Subcommand)]
pub enum BenchVerb {
    /// Time to the application's first line, image sizes, resident and smallest memory, beside Linux
    Boot(boot::BootArgs),
    /// What crossings into the exokernel cost, and how many a workload takes
    Exits(exits::ExitsArgs),
    /// Requests a second and what one costs, of servers on libos-net beside Debian's in a Linux guest
    Net(net::NetArgs),
    /// The same workload directly and under HyperExo: block counts, instructions and exits per block read
    Overhead(overhead::OverheadArgs),
    /// The tables of the papers: theirs, ours, and Linux's
    Papers(papers::PapersArgs),
    /// Lines of code and blocks of unsafe by crate, and the budget of the trusted base
    Size(size::SizeArgs),
}

/// The verb.
pub fn bench(verb: &BenchVerb) -> Result<()> {
    match verb {
        BenchVerb::Boot(args) => boot::boot(args),
        BenchVerb::Exits(args) => exits::exits(args),
        BenchVerb::Net(args) => net::net(args),
        BenchVerb::Overhead(args) => overhead::overhead(args),
        BenchVerb::Papers(args) => papers::papers(args),
        BenchVerb::Size(args) => size::size(args),
    }
}
