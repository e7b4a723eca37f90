//! The debugger, used by nobody.

use super::context::Context;
use super::platform::Need;
use super::{Test, Verdict};

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("gdb", &[Need::Exokernel, Need::Qemu, Need::Program("gdb")], both_levels),
        Test::new("gdb-direct", &[Need::Alone, Need::Qemu, Need::Program("gdb")], direct),
    ]
}

/// It stops in the kernel and in the unikernel, whose addresses are the same, and names the callers in each.
fn both_levels(context: &Context) -> Verdict {
    let said = context.exo(&["gdb", "hello", "--no-build", "--batch", "--break-kernel", "start::run"])?;
    let said = said
        .succeeded()?
        .shows("run () at hyperexo/src/start/mod.rs")?
        .shows("in main () at hyperexo/src/start/mod.rs")?;
    let said = said.shows("stopped 1\n")?.shows("program () at libos-core/src/entry.rs")?;
    said.shows("enter () at libos-core/src/memory/space.rs")?.shows("stopped 2\n").map(drop)
}

/// The same image alone.
fn direct(context: &Context) -> Verdict {
    let said = context.exo(&["gdb", "hello", "--no-build", "--batch", "--direct"])?.succeeded()?;
    said.shows("program () at libos-core/src/entry.rs")?.shows("run () at libos-core/src/entry.rs")?;
    let said = context.exo(&["gdb", "hello", "--no-build", "--direct", "--break", "no_such_function"])?;
    said.fails_with(&["no single function no_such_function"])
}
