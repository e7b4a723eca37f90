//! The program as a unikernel.

use crate::paged::Paged;
use crate::tests;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use libos_core::{argument, println, time};
use libos_fs::RingDevice;
use libos_pager::{Foretelling, PagedMemory, PagedOptions, References, Swap};
use pager::OwnPolicy;
use pager::modelled::CLUSTER;
use pager::options::{Options, Policy};
use results::{BENCH_PAGING, PagingLine};

/// Runs what the command line asks for.
pub fn main() -> i32 {
    let done = match argument("test") {
        Some(name) => tests::run(name),
        None => Options::parse(argument).and_then(|options| run(&options)),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            println!("error: {error}");
            1
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let Options { program, policy, scale, frames, record } = *options;
    let pages = program.pages(scale);
    let device = RingDevice::open().map_err(|error| format!("the disk: {error}"))?;
    // Each region has a part of its own; this one, empty, only knows the disk.
    let disk = Swap::new(Box::new(device), 0).map_err(|error| format!("{error}"))?;
    // A part that is taken once tells whether the disk is large enough.
    let memory = PagedMemory::new(PagedOptions { pages, frames, cluster: CLUSTER });
    let memory = memory.map_err(|error| format!("{error}"))?;
    disk.check(pages).map_err(|error| format!("{error}"))?;
    let foretelling = Foretelling::new();
    match policy.of(program) {
        OwnPolicy::Library(kind) => memory.use_policy(kind),
        OwnPolicy::Foretold => memory.use_own_policy(Box::new(foretelling.policy()), References::Sampled),
    }
    if record {
        memory.record();
    }
    let paged = Paged::new(&memory, disk, (policy == Policy::Own).then_some(foretelling));
    let start_ns = time::now_ns();
    let digest = program.run(scale, &paged);
    let elapsed_ms = (time::now_ns() - start_ns) as f64 / 1e6;
    let done = memory.statistics();
    let line = PagingLine {
        bench: BENCH_PAGING.into(),
        program: program.name().into(),
        policy: policy.name().into(),
        role: policy.role(),
        frames: frames as u64,
        pages,
        scale: scale as u64,
        faults: done.faults,
        misses: done.brought,
        reads: done.read,
        read_requests: done.read_requests,
        read_ahead: done.read_ahead,
        writes: done.written,
        write_requests: done.write_requests,
        elapsed_ms,
        digest: format!("{digest:016x}"),
        references: memory.recorded(|recorder| recorder.pages().len() as u64),
        references_digest: memory.recorded(|recorder| format!("{:016x}", recorder.digest())),
        ..PagingLine::default()
    };
    println!("{}", line.to_json_line());
    Ok(())
}
