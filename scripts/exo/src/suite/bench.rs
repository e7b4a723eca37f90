//! Measurements that must hold whatever the host is.

use super::context::{Context, json_lines, text};
use super::platform::Need;
use super::{Test, Verdict};
use serde_json::Value;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("bench-boot", &[Need::Exokernel, Need::Qemu], boot),
        Test::new("bench-papers", &[Need::Exokernel, Need::Qemu], papers),
        Test::new("bench-overhead", &[Need::Exokernel, Need::Qemu, Need::Disk, Need::Speed], overhead),
    ]
}

/// JSON lines that `exo bench VERB` writes.
fn lines(context: &Context, verb: &str, more: &[&str]) -> Result<Vec<Value>, String> {
    let json = text(&context.scratch.path().join(format!("{verb}.json")));
    let own = ["bench", verb, "--no-build", "--json", &json];
    context.exo(&[&own, more].concat())?.succeeded()?;
    json_lines(&json)
}

/// `hello` alone has less than 200 KB and runs in 2 MiB, on both machines.
fn boot(context: &Context) -> Verdict {
    let lines = lines(context, "boot", &["--runs", "1", "--no-linux"])?;
    for (mode, machine) in [("direct", "microvm"), ("direct", "q35"), ("hyperexo", "q35")] {
        let line = lines.iter().find(|line| line["mode"] == mode && line["machine"] == machine);
        let line = line.ok_or_else(|| format!("no line of {mode} on {machine}"))?;
        let number = |key: &str| line[key].as_f64().filter(|number| *number > 0.0);
        for key in ["process_ms", "guest_ms", "rss_kib", "image_bytes", "min_mem_mib"] {
            number(key).ok_or_else(|| format!("{mode} on {machine}: no {key} in {line}"))?;
        }
        let small = number("image_bytes") < Some(200e3) && number("min_mem_mib") <= Some(2.0);
        if mode == "direct" && !small {
            return Err(format!("not small: {line}"));
        }
    }
    Ok(())
}

/// A table of a paper has a row for each operation, and ours take no more instructions than aimed at.
fn papers(context: &Context) -> Verdict {
    let lines = lines(context, "papers", &["--quick", "--only", "sosp95-10"])?;
    let operations: Vec<&str> = lines.iter().filter_map(|line| line["operation"].as_str()).collect();
    if operations != ["dirty", "prot1", "prot100", "unprot100", "trap", "appel1", "appel2"] {
        return Err(format!("rows of the table: {operations:?}"));
    }
    for line in &lines {
        let (ours, aim) = (line["ours"].as_f64(), line["aim"].as_f64());
        let (Some(ours), Some(aim)) = (ours, aim) else { return Err(format!("no figure: {line}")) };
        if !(1.0..=aim).contains(&ours) {
            return Err(format!("{ours} instructions instead of {aim} at most: {line}"));
        }
    }
    Ok(())
}

/// The same transfers with HyperExo and without it, and fewer than a tenth of an exit a block.
fn overhead(context: &Context) -> Verdict {
    let lines = lines(context, "overhead", &["--disk", &text(&context.data)])?;
    let [alone, under] = &lines[..] else { return Err(format!("{} lines", lines.len())) };
    if alone["blocks_read"] != under["blocks_read"] || alone["blocks_read"].as_u64() == Some(0) {
        return Err(format!("{alone} and {under}"));
    }
    match under["exits_per_block_read"].as_f64() {
        Some(exits) if exits > 0.0 && exits < 0.1 => Ok(()),
        other => Err(format!("{other:?} exits a block")),
    }
}
