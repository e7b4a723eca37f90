//! `exo`, HyperExo's host tool: it builds images, packs them into bundles, boots them under QEMU or Bochs,
//! and measures.
//!
//! A folder for each verb, and below them the folders of what several verbs share:
//!
//! | row, from below | what |
//! |---|---|
//! | [`units`] | sizes and numbers |
//! | [`error`] | what can go wrong, in the user's words |
//! | [`source`] | Rust sources, counted |
//! | [`host`] | this computer: the checkout, files, programs, children |
//! | [`build`] | images: cargo makes them, they are cut down to what is booted; `exo build` |
//! | [`bundle`] | several images and their manifests in one file |
//! | [`machine`] | a machine as data: for QEMU, for Bochs, as the user describes it |
//! | [`session`] | a machine at work: its lines, its control socket, its end |
//! | [`linux`] | the Linux guests to compare with |
//! | [`served`] | machines with a server on them, and those who ask it |
//! | [`page`] | pages of reports |
//! | [`data`], [`fs`] | `exo data`, `exo fs`: disk images |
//! | [`cache`], [`run`], [`compare`], [`mod@bench`], [`image`], [`deploy`], [`gdb`], [`new`], [`doctor`] | the verbs of these names |
//! | [`suite`] | `exo test` |
//!
//! A row uses only rows above it in this list, and no two modules use each other. `rows` checks both, and
//! says what the marks mean:
//!
//! ```text
//! rows: units recorded · error · source · host::+ · build::+ · bundle::+ · machine::+ · session::+
//! rows: linux::+ · served::+ · page::+
//! rows: data::+ fs::+ · cache::+ run::+ · compare::+ · bench::+ · image::+ · deploy::+ · gdb::+ new::+ doctor::+
//! rows: suite::+
//! ```
//!
//! What the user asked for goes to standard output; what the tool says about it goes to standard error.
#![forbid(unsafe_code)]

// These stand before the modules, and so take the place of the standard library's in all of them: see
// `host/streams.rs`.
macro_rules! print {
    ($($text:tt)*) => { $crate::host::streams::print(format_args!($($text)*)) };
}
macro_rules! println {
    () => { $crate::host::streams::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::host::streams::print(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    () => { $crate::host::streams::complain(format_args!("\n")) };
    ($($text:tt)*) => { $crate::host::streams::complain(format_args!("{}\n", format_args!($($text)*))) };
}

mod bench;
mod build;
mod bundle;
mod cache;
mod compare;
mod data;
mod deploy;
mod doctor;
mod error;
mod fs;
mod gdb;
mod host;
mod image;
mod linux;
mod machine;
mod new;
mod page;
mod recorded;
#[cfg(test)]
mod rows;
mod run;
mod served;
mod session;
mod source;
mod suite;
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
    /// Records block references of programs and replays them under replacement policies, on the host
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// Measures
    #[command(subcommand)]
    Bench(Box<bench::BenchVerb>),
    /// Runs the system tests: each boots a machine
    Test(suite::TestArgs),
    /// Makes one bootable file: ELF, CD, disk, or container image
    Image(image::ImageArgs),
    /// Prints what a hypervisor or systemd wants to be told to run it
    Deploy(deploy::DeployArgs),
    /// Debugs HyperExo and the unikernels on it, or a unikernel alone, with gdb
    Gdb(Box<gdb::GdbArgs>),
    /// Makes an application in a directory of its own, outside the checkout
    New(new::NewArgs),
    /// Makes the disk image with the data of filecache
    Data(data::DataArgs),
    /// Makes and changes file systems on disk images
    #[command(subcommand)]
    Fs(fs::FsVerb),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(&cli.verb, Verb::Cache(verb) if verb.takes_signals()) {
        host::children::end_with_this_process();
    }
    let done = match &cli.verb {
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Build(args) => build::build(args),
        Verb::Run(args) => run::run(args),
        Verb::Compare(args) => compare::compare(args),
        Verb::Cache(verb) => cache::cache(verb),
        Verb::Bench(verb) => bench::bench(verb),
        Verb::Test(args) => suite::test(args),
        Verb::Image(args) => image::image(args),
        Verb::Deploy(args) => deploy::deploy(args),
        Verb::Gdb(args) => gdb::gdb(args),
        Verb::New(args) => new::create(args),
        Verb::Data(args) => data::data(args),
        Verb::Fs(verb) => fs::files(verb),
    };
    let written = host::streams::finish();
    if host::streams::reader_is_gone() {
        return ExitCode::from(host::streams::READER_GONE);
    }
    let done = written.map_err(error::Error::io("write", std::path::Path::new("standard output"))).and(done);
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
