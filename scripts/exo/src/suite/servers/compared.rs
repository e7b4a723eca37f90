//! What `exo compare httpd` measures: the web server's own build against its default one.

use super::{Test, Verdict, holds};
use crate::suite::context::{Context, json_lines, text};
use crate::suite::platform::{Need, Platform};
use serde_json::Value;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("compare-httpd", &[Need::Tap, Need::Disk], compare),
        Test::new("compare-httpd-arguments", &[Need::QemuMachine], arguments),
    ]
}

/// The own build copies next to nothing and reads fewer blocks. All who count agree, and every answer is
/// right: otherwise the command fails.
fn compare(context: &Context) -> Verdict {
    let json = text(&context.scratch.path().join("httpd.json"));
    // So few requests don't fill more.
    let what = ["--quick", "--workloads", "popular", "--cache", "5%"];
    let words = [&["compare", "httpd", "--no-build", "--json", &json][..], &what].concat();
    let platform = match context.platform {
        Platform::Direct => &["--direct"][..],
        Platform::DirectMicrovm => &["--direct", "--machine", "microvm"],
        Platform::QemuSvm | Platform::BochsVmx => &[],
    };
    let said = context.exo(&[&words[..], platform].concat())?.succeeded()?;
    holds(said.out.contains("Every byte of every answer was compared."), || said.out.clone())?;
    let lines: Vec<Value> = json_lines(&json)?;
    let [default, own] = &lines[..] else { return Err(format!("{} lines of two", lines.len())) };
    let number = |line: &Value, name: &str| line[name].as_f64().ok_or(format!("no {name} in {line}"));
    holds(default["build"] == "default" && own["build"] == "own", || format!("{lines:?}"))?;
    for line in [default, own] {
        let exits = number(line, "exits_per_request")?;
        let under = context.platform == Platform::QemuSvm;
        holds(under == (exits > 0.0) && number(line, "instructions_per_request")? > 1000.0, || {
            line.to_string()
        })?;
        let (read, least) = (number(line, "blocks_read")?, number(line, "opt_misses")?);
        holds(read >= least && number(line, "best_shipped_misses")? >= least, || line.to_string())?;
    }
    for (what, times) in [("bytes_copied", 100.0), ("blocks_read", 1.0)] {
        let (default, own) = (number(default, what)?, number(own, what)?);
        holds(own * times <= default, || format!("{what}: {default} by default, {own} of its own"))?;
    }
    Ok(())
}

/// What is not for this application is refused in one line that says so.
fn arguments(context: &Context) -> Verdict {
    for (words, said) in [
        (&["--workloads", "2k"][..], "workload \"2k\""),
        (&["--policies", "lru"], "policy \"lru\""),
        (&["--cache", "0%"], "\"0%\" is no share from 1% to 100%"),
        (&["--html", "x.html"], "--html is not for exo compare httpd"),
        (&["--on", "bochs"], "over a tap, which Bochs has not"),
    ] {
        context.exo(&[&["compare", "httpd", "--no-build"], words].concat())?.fails_with(&[said])?;
    }
    context.exo(&["compare", "pager", "--quick", "--no-build"])?.fails_with(&["--quick is not for"])
}
