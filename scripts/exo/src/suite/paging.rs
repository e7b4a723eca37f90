//! Memory that a program pages itself.

use super::context::{Context, Said, json_lines, text};
use super::platform::Need;
use super::{Test, Verdict};
use pager::{Program, Recording};
use results::PagingLine;

/// The tests.
pub fn tests() -> Vec<Test> {
    let direct = [Need::Alone, Need::Disk];
    vec![
        Test::new("paged-memory", &[], works),
        Test::new("paged-memory-frames", &[], |context| run(context, "frames")?.succeeded().map(drop)),
        Test::new(
            "paged-memory-between-environments",
            &[Need::Exokernel, Need::Network],
            between_environments,
        ),
        Test::new("paged-memory-fails", &[Need::Speed], fails),
        Test::new("exceptions", &[], exceptions),
        Test::new("appel-li-primitives", &[], primitives),
        Test::new("fault-in-quick-handler", &[], fault_in_quick_handler),
        Test::new("heaps", &[Need::Speed], heaps),
        Test::new("store-of-objects", &[Need::KeptWrites], store),
        Test::new("page-references", &[Need::Disk, Need::Speed], references),
        Test::new("compare-pager", &[Need::Exokernel, Need::Disk, Need::Speed], |context| {
            compare(context, &[])
        }),
        Test::new("compare-pager-direct", &direct, |context| compare(context, &["--direct"])),
        Test::new("compare-pager-arguments", &[], arguments),
    ]
}

fn run(context: &Context, word: &str) -> Result<Said, String> {
    context.run(&["pager", "--", &format!("test={word}")])
}

/// Aliases, sharing, copies on write, lazy zeros, protection, the processor's bits; all policies.
fn works(context: &Context) -> Verdict {
    run(context, "works")?.succeeded()?.shows("paged memory: works is as it should be").map(drop)
}

/// An environment lends frames to another, by a capability that it sends.
fn between_environments(context: &Context) -> Verdict {
    let arguments = ["--net", "loopback", "--app", "a=pager:test=lend", "--app", "b=pager:test=accept"];
    let said = context.run(&arguments)?.succeeded()?.shows("two environments share a frame")?;
    said.shows("paged memory: lend is as it should be").map(drop)
}

/// What can't be answered ends the program with a report that says why.
fn fails(context: &Context) -> Verdict {
    for (word, reason) in [
        ("guard", "page 2 of a window: page 2 is a guard"),
        ("failing-pager", "page 1 of a window: the tape is torn"),
        (
            "pager-faults",
            "page 0 of a window: the handler of this window used a page of it that is not there",
        ),
        ("locked", "page 0 of a window: used with interrupts disabled"),
    ] {
        let said = run(context, word)?.shows(&format!("paged memory: {reason}"))?;
        said.shows("unhandled page fault: ")?.shows("#0 ")?.fails_with(&["102"])?;
    }
    let said = run(context, "policy-panics")?.shows("no victim for page Some(4)")?;
    said.fails_with(&["101"])
}

/// Each exception by each of the ways, no register lost, handlers within handlers.
fn exceptions(context: &Context) -> Verdict {
    let said = context.run(&["primitives", "--", "test=exceptions"])?.succeeded()?;
    let all = "exceptions: illegal, breakpoint, overflow, divide, unaligned: by closure and by function, registers \
               kept, nested";
    said.shows(all).map(drop)
}

/// Appel and Li's primitives, at the borders of ranges too.
fn primitives(context: &Context) -> Verdict {
    let said = context.run(&["primitives", "--", "test=memory"])?.succeeded()?;
    said.shows("memory: trap, prot1, protN, unprot, dirty, map2").map(drop)
}

/// A quick handler that faults itself ends the program with a report, and is not called within itself.
fn fault_in_quick_handler(context: &Context) -> Verdict {
    let said = context.run(&["primitives", "--", "test=fault-in-quick-handler"])?;
    said.shows("unhandled page fault: ")?.shows("#0 ")?.fails_with(&["102"])
}

/// A collector keeps the same objects, whichever barrier tells it of writes.
fn heaps(context: &Context) -> Verdict {
    let said = context.run(&["heaps", "--", "only=table", "test=1"])?.succeeded()?;
    let digest_under = |barrier: &str| {
        let wanted = format!("\"barrier\":\"{barrier}\"");
        let line = said.out.lines().find(|line| line.contains(&wanted));
        let digest = line.and_then(|line| line.split("\"digest\":").nth(1)).map(str::to_owned);
        digest.ok_or_else(|| format!("no digest under {barrier}"))
    };
    let software = digest_under("software")?;
    for barrier in ["protection", "dirty"] {
        let digest = digest_under(barrier)?;
        if digest != software {
            return Err(format!("{digest} under {barrier}, {software} under software"));
        }
    }
    Ok(())
}

/// Objects that were committed are found by another run, page by page as they are touched; what was not
/// committed is not.
fn store(context: &Context) -> Verdict {
    let disk = context.scratch.path().join("store.img");
    std::fs::write(&disk, vec![0; 8 << 20]).map_err(|error| error.to_string())?;
    let disk = text(&disk);
    let write = ["--keep-writes", "heaps", "--disk", &disk, "--", "store=write"];
    context.run(&write)?.succeeded()?.shows("store: 2000 objects in 250 pages committed")?;
    let said = context.run(&["heaps", "--disk", &disk, "--", "store=read"])?.succeeded()?;
    said.shows("store: 16 objects took 3 pages, all 2000 took 250").map(drop)
}

/// What a machine records, by a fault for each change of page, is what this host records of every access.
fn references(context: &Context) -> Verdict {
    let disk = context.scratch.path().join("pages.img");
    std::fs::write(&disk, vec![0; 2 << 20]).map_err(|error| error.to_string())?;
    let words = ["--", "program=matmul", "policy=lru", "record=1"];
    let disk = text(&disk);
    let arguments = [&["pager", "--disk", &disk], &words[..]].concat();
    let memory = Recording::default();
    Program::Matmul.run(1, &memory);
    context
        .run(&arguments)?
        .succeeded()?
        .shows(&format!("\"references_digest\":\"{:016x}\"", memory.digest()))
        .map(drop)
}

/// The program's own policy comes near Belady's optimum where its accesses are regular, and does better than
/// the default.
fn compare(context: &Context, more: &[&str]) -> Verdict {
    let json = text(&context.scratch.path().join("pager.json"));
    let all =
        ["compare", "pager", "--no-build", "--workloads", "matmul,sort", "--timeout", "120", "--json", &json];
    context.exo(&[&all[..], more].concat())?.succeeded()?.shows("checked and found right")?;
    let lines: Vec<PagingLine> = json_lines(&json)?;
    for program in ["matmul", "sort"] {
        let under = |policy: &str| {
            let found = lines.iter().find(|line| line.program == program && line.policy == policy);
            found.ok_or_else(|| format!("no line of {program} under {policy}"))
        };
        let (default, own) = (under("default")?, under("own")?);
        let least = own.opt_misses.unwrap_or(0);
        if own.misses * 10 > least * 11 {
            return Err(format!("{program}: {} misses, where {least} are possible", own.misses));
        }
        if own.reads * 10 > default.reads * 6 {
            return Err(format!(
                "{program}: {} reads by its own policy, {} by default",
                own.reads, default.reads
            ));
        }
    }
    Ok(())
}

/// Wrong arguments are one clear line.
fn arguments(context: &Context) -> Verdict {
    for (words, said) in [
        (&["--workloads", "nothing"][..], "program \"nothing\""),
        (&["--policies", "nothing"], "policy \"nothing\""),
        (&["--cache", "0%"], "memory \"0%\""),
        (&["--read-ahead", "none"], "--read-ahead is not for exo compare pager"),
        (&["--workloads", "sort,sort"], "program sort is named twice"),
    ] {
        context.exo(&[&["compare", "pager", "--no-build"], words].concat())?.fails_with(&[said])?;
    }
    Ok(())
}
