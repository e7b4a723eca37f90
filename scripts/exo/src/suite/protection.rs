//! One image and what it does by itself: the same bytes everywhere, and guards against its own mistakes.

use super::context::Context;
use super::platform::{Need, Platform};
use super::{Test, Verdict};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("same-image-everywhere", &[], same_image),
        Test::new("stack-overflow", &[], stack_overflow),
        Test::new("stack-overflow-on-another-core", &[Need::Cores(2)], stack_overflow_elsewhere),
        Test::new("a-call-wherever", &[], a_call_wherever),
        Test::new("frames-by-number", &[], frames_by_number),
        Test::new("out-of-memory", &[], out_of_memory),
        Test::new("image-guards", &[], guards),
        Test::new("image-protection", &[], protection),
    ]
}

/// What runs here is, byte for byte, what runs on HyperExo.
fn same_image(context: &Context) -> Verdict {
    let image = |platform: Platform| {
        let said = context.run_on(platform, &["hello"])?.succeeded()?;
        let line = said.err.lines().find(|line| line.starts_with("exo: image hello: "));
        line.map(str::to_owned).ok_or_else(|| format!("the image is not told: {}", said.err))
    };
    let (here, there) = (image(context.platform)?, image(Platform::QemuSvm)?);
    if here == there { Ok(()) } else { Err(format!("{here} here, {there} on HyperExo")) }
}

fn stack_overflow(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--", "overflow=1"])?;
    let said = said.shows("stack overflow: the start-up stack is full")?;
    said.shows("hello::overflow")?.fails_with(&["environment hello ended: exit code 102"])
}

fn stack_overflow_elsewhere(context: &Context) -> Verdict {
    let said = context.run(&["cores", "--cores", "2", "--", "overflow=1"])?;
    let said = said.shows("stack overflow: the stack of another core is full")?.shows("(on core 1)")?;
    said.fails_with(&["environment cores ended: exit code 102"])
}

/// A hypercall is answered by HyperExo, and by nobody where there is none, which is an error like others.
fn a_call_wherever(context: &Context) -> Verdict {
    let said = context.run(&["hostile", "--", "act=call"])?.succeeded()?;
    let answer = if context.platform.is_direct() { "Err(UnknownCall)" } else { "Ok(())" };
    said.shows(&format!("call: {answer}")).map(drop)
}

/// Frames are given by number and alignment, once, clear, and taken back; with a capability where there is
/// somebody else.
fn frames_by_number(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--", "own-frames=40"])?.succeeded()?;
    let capability = if context.platform.is_direct() { "no" } else { "a" };
    said.shows(&format!("{{\"frames\":{{\"count\":40,\"aligned\":true}}}} with {capability} capability"))
        .map(drop)
}

fn out_of_memory(context: &Context) -> Verdict {
    let said = context.run(&["hello", "--memory", "16M", "--", "oom=1"])?;
    said.shows("the heap could not grow")?.fails_with(&["environment hello ended: exit code 101"])
}

/// Each guard that the processor offers is on.
fn guards(context: &Context) -> Verdict {
    let said = context.run(&["hostile", "--", "act=guards"])?.succeeded()?;
    said.shows("guard WP: on")?.shows("guard NX: on").map(drop)
}

/// Acts of `hostile` against its own image, and the words of the report that each must end in.
const ACTS: [(&str, &str, &str); 8] = [
    ("write-code", "unhandled page fault: write to", "(not allowed)"),
    ("write-constant", "unhandled page fault: write to", "(not allowed)"),
    ("write-code-linear", "unhandled page fault: write to 0xffff80", "(not allowed)"),
    ("write-constant-linear", "unhandled page fault: write to 0xffff80", "(not allowed)"),
    ("execute-heap", "unhandled page fault: execution of", "(not allowed)"),
    ("execute-stack", "unhandled page fault: execution of", "(not allowed)"),
    ("read-null", "unhandled page fault: read of 0x0 ", "(not mapped)"),
    ("write-null", "unhandled page fault: write to 0x8 ", "(not mapped)"),
];

fn protection(context: &Context) -> Verdict {
    for (act, what, why) in ACTS {
        let said = context.run(&["hostile", "--", &format!("act={act}")])?;
        let said = said.shows(what)?.shows(why)?;
        said.fails_with(&["environment hostile ended: exit code 102"])
            .map_err(|error| format!("{act}: {error}"))?;
    }
    Ok(())
}
