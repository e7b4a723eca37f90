//! `exo`, HyperExo's host tool: it builds images, packs them into bundles, boots them under QEMU or Bochs,
//! and measures.
//!
//! | verb | module |
//! |---|---|
//! | `doctor` | [`doctor`] |
//! | `build` | [`build`], [`image`] |
//! | `compare` | [`compare`], [`page`] |
//! | `cache` | [`cache`] |
//! | `bench` | [`mod@bench`], [`exits`] |
//! | `test` | [`suite`] |
//! | `image` | [`artefact`] |
//! | `deploy` | [`deploy`] |
//! | `gdb` | [`gdb`] |
//! | `new` | [`create`] |
//! | `data`, `fs` | [`data`], [`files`] |
//! | (to compare with) | [`linux`] |
//! | `run` | [`run`], [`recording`], [`mod@direct`], [`environments`], [`bundle`], [`machine`], [`machine_args`], [`network`], [`bochs`], [`iso`], [`session`], [`serial`], [`qmp`], [`symbols`] |
//!
//! What the user asked for goes to standard output; what the tool says about it goes to standard error.
#![forbid(unsafe_code)]

mod accel;
mod artefact;
mod bench;
mod bochs;
mod build;
mod bundle;
mod cache;
mod checkout;
mod children;
mod compare;
mod conditions;
mod create;
mod data;
mod deploy;
mod direct;
mod doctor;
mod environments;
mod error;
mod exits;
mod files;
mod firmware;
mod gdb;
mod image;
mod iso;
mod linux;
mod machine;
mod machine_args;
mod network;
mod page;
mod qmp;
mod recording;
mod run;
mod serial;
mod session;
mod suite;
mod symbols;
mod units;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// HyperExo's host tool: builds unikernels, runs them on the exokernel under QEMU or Bochs, compares and
/// measures.
#[derive(Parser)]
#[command(name = "exo", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Says what this host can run, what not, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Builds the exokernel and unikernels
    Build(build::BuildArgs),
    /// Runs unikernels on the exokernel under QEMU or Bochs
    Run(Box<run::RunArgs>),
    /// Runs workloads under several cache policies and compares block reads, hits and time
    Compare(Box<compare::CompareArgs>),
    /// Replays traces of block references under replacement policies, on the host
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// Measures
    #[command(subcommand)]
    Bench(Box<bench::BenchVerb>),
    /// Runs the system tests: each boots a machine
    Test(suite::TestArgs),
    /// Makes one bootable file: ELF, CD, disk, or container image
    Image(artefact::ImageArgs),
    /// Prints what a hypervisor or systemd wants to be told to run it
    Deploy(deploy::DeployArgs),
    /// Debugs HyperExo and the unikernels on it, or a unikernel alone, with gdb
    Gdb(Box<gdb::GdbArgs>),
    /// Makes an application in a directory of its own, outside the checkout
    New(create::NewArgs),
    /// Makes the disk image with the data of filecache
    Data(data::DataArgs),
    /// Makes and changes file systems on disk images
    #[command(subcommand)]
    Fs(files::FsVerb),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    children::end_with_this_process();
    let done = match &cli.verb {
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Build(args) => build::build(args),
        Verb::Run(args) => run::run(args),
        Verb::Compare(args) => compare::compare(args),
        Verb::Cache(verb) => cache::cache(verb),
        Verb::Bench(verb) => bench::bench(verb),
        Verb::Test(args) => suite::test(args),
        Verb::Image(args) => artefact::image(args),
        Verb::Deploy(args) => deploy::deploy(args),
        Verb::Gdb(args) => gdb::gdb(args),
        Verb::New(args) => create::create(args),
        Verb::Data(args) => data::data(args),
        Verb::Fs(verb) => files::files(verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exo: error: {error}");
            if let Some(fix) = error.fix() {
                eprintln!("exo: fix: {fix}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
