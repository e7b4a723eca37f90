//! The main job, `exo compare`, and that what is measured is what others count.

use super::context::{Context, json_lines, text};
use super::platform::Need;
use super::{Test, Verdict};
use results::{CompareLine, Role};
use serde_json::Value;

/// The tests.
pub fn tests() -> Vec<Test> {
    let here = [Need::Exokernel, Need::Disk, Need::Speed];
    let linux = [&here[..], &[Need::LinuxKernel, Need::Program("mke2fs")]].concat();
    vec![
        Test::new("compare-filecache", &here, compare),
        Test::new("compare-with-linux", &linux, with_linux),
        Test::new("compare-verify", &here, verify),
        Test::new("compare-direct", &[Need::Alone, Need::Disk], direct),
        Test::new("compare-on-two-cores", &here, on_two_cores),
        Test::new(
            "compare-direct-on-two-cores",
            &[Need::Alone, Need::Disk, Need::Cores(2)],
            direct_on_two_cores,
        ),
        Test::new("compare-read-ahead", &here, read_ahead),
        Test::new("advice-holds", &[Need::Disk, Need::Speed], advice_holds),
        Test::new("record-and-simulate", &[Need::Disk, Need::Speed], record_and_simulate),
    ]
}

/// JSON lines that `exo compare filecache` writes, with the images at hand.
fn compared(context: &Context, arguments: &[&str]) -> Result<Vec<(CompareLine, Value)>, String> {
    let json = text(&context.scratch.path().join("compared.json"));
    let own = ["compare", "filecache", "--no-build", "--json", &json];
    let limit: &[&str] = if arguments.contains(&"--timeout") { &[] } else { &["--timeout", "120"] };
    context.exo(&[&own[..], limit, arguments].concat())?.succeeded()?.shows("checked and found right")?;
    let parse = |line: Value| {
        let parsed = CompareLine::parse(&line.to_string()).map_err(|error| error.to_string())?;
        Ok((parsed, line))
    };
    json_lines(&json)?.into_iter().map(parse).collect()
}

/// QEMU, and HyperExo if it runs, must have counted what the system below the workload counted.
fn counts_agree(line: &CompareLine, json: &Value, counters: &[&str]) -> Verdict {
    let own = line.reads + line.mount_reads;
    for counter in counters {
        let counted = json[*counter].as_u64();
        if own == 0 || counted != Some(own) {
            return Err(format!(
                "{} under {}: {own} reads, {counter}: {counted:?}",
                line.workload, line.policy
            ));
        }
    }
    if line.verified { Ok(()) } else { Err(format!("{} under {}: wrong result", line.workload, line.policy)) }
}

/// The line of a policy.
fn under<'l>(lines: &'l [(CompareLine, Value)], policy: &str) -> Result<&'l (CompareLine, Value), String> {
    lines.iter().find(|(line, _)| line.policy == policy).ok_or_else(|| format!("no line of {policy}"))
}

/// The main job: right results, counts that agree, as few reads as promised.
fn compare(context: &Context) -> Verdict {
    let json = text(&context.scratch.path().join("compare.json"));
    let html = text(&context.scratch.path().join("compare.html"));
    let arguments =
        ["compare", "filecache", "--no-build", "--timeout", "120", "--json", &json, "--html", &html];
    let said = context.exo(&arguments)?.succeeded()?;
    said.shows("agree exactly")?.shows("checked and found right")?;
    let lines = std::fs::read_to_string(&json).map_err(|error| format!("{json}: {error}"))?;
    let lines: Vec<CompareLine> = lines.lines().filter_map(|line| CompareLine::parse(line).ok()).collect();
    for workload in ["cs", "din"] {
        let of = |policy: &str| {
            let found = lines.iter().find(|line| line.workload == workload && line.policy == policy);
            found.ok_or_else(|| format!("no result of {workload} under {policy}"))
        };
        let (default, own) = (of("default")?, of("own")?);
        if own.reads as f64 > default.reads as f64 * 0.4 {
            return Err(format!("{workload}: {} reads against {} by default", own.reads, default.reads));
        }
        let least = own.opt_misses.ok_or("no optimum")?;
        if own.reads as f64 > least as f64 * 1.05 {
            return Err(format!("{workload}: {} reads, Belady's optimum is {least}", own.reads));
        }
    }
    let page = std::fs::read_to_string(&html).map_err(|error| format!("{html}: {error}"))?;
    if page.matches("<svg").count() < 6 { Err("the page lacks charts".into()) } else { Ok(()) }
}

/// The same program in a Linux guest, without hints and with them: its counts are those of QEMU, hints help
/// it, and the own policy of the unikernel reads no more than it does with hints.
fn with_linux(context: &Context) -> Verdict {
    let arguments = [
        "--workloads",
        "din",
        "--policies",
        "own,linux,linux-fadvise",
        "--peer",
        "linux",
        "--read-ahead",
        "none",
    ];
    let lines = compared(context, &arguments)?;
    let [own, plain, hinted] = ["own", "linux", "linux-fadvise"].map(|policy| under(&lines, policy));
    let (own, plain, hinted) = (own?, plain?, hinted?);
    counts_agree(&own.0, &own.1, &["accounted_reads", "emulator_reads"])?;
    for (line, json) in [plain, hinted] {
        counts_agree(line, json, &["emulator_reads"])?;
        if line.role != Role::Peer || line.platform.as_deref() != Some("qemu-linux") {
            return Err(format!("not a line of Linux: {json}"));
        }
    }
    let reads = [own, hinted, plain].map(|(line, _)| line.reads);
    if reads[0] <= reads[1] && reads[1] < reads[2] {
        return Ok(());
    }
    Err(format!("own, hinted and default Linux read {reads:?}: not in this order"))
}

/// Guest, host and simulator read and miss the same, under each policy.
fn verify(context: &Context) -> Verdict {
    let own = ["compare", "filecache", "--no-build", "--timeout", "120", "--verify"];
    let what = ["--workloads", "cs3,din,sort", "--policies", "own,arc"];
    let said = context.exo(&[&own[..], &what].concat())?.succeeded()?;
    let lines: Vec<&str> = said
        .out
        .lines()
        .filter(|line| line.ends_with("block by block the same on the host") || line.contains("simulator"))
        .collect();
    let simulated =
        lines.iter().filter(|line| line.ends_with("misses, as many as the simulator has")).count();
    // Nobody simulates policies that talk to the cache, nor sort, which removes files.
    if (lines.len(), simulated) == (6, 2) {
        Ok(())
    } else {
        Err(format!("not what was to be verified: {lines:?}"))
    }
}

/// Without HyperExo: libOS and QEMU count the same, and the platform is told.
fn direct(context: &Context) -> Verdict {
    let what = ["--workloads", "din", "--policies", "default,own"];
    let lines = compared(context, &[context.platform.arguments(), &what].concat())?;
    for policy in ["default", "own"] {
        let (line, json) = under(&lines, policy)?;
        counts_agree(line, json, &["emulator_reads"])?;
        if line.platform.as_deref() != Some("direct") || !json["accounted_reads"].is_null() {
            return Err(format!("not a run without HyperExo: {json}"));
        }
    }
    let lines = under(&lines, "own")?.1["policy_lines"].as_u64();
    if lines.is_some_and(|lines| lines > 0) {
        Ok(())
    } else {
        Err(format!("the own policy has {lines:?} lines"))
    }
}

/// Two cores, each with the whole workload: results are right, counts of reads and writes agree, and what one
/// core has read serves the other.
fn on_two_cores(context: &Context) -> Verdict {
    two_cores(context, &[], &["accounted_reads", "emulator_reads"])
}

/// The same without HyperExo.
fn direct_on_two_cores(context: &Context) -> Verdict {
    two_cores(context, context.platform.arguments(), &["emulator_reads"])
}

fn two_cores(context: &Context, machine: &[&str], counters: &[&str]) -> Verdict {
    let what = ["--workloads", "din,sort", "--policies", "own", "--cores", "2", "--timeout", "240"];
    let lines = compared(context, &[machine, &what].concat())?;
    for (line, json) in &lines {
        counts_agree(line, json, counters)?;
        let least = line.opt_misses.ok_or("no optimum")?;
        if line.cores != Some(2) || line.misses < least || line.hits + line.misses != line.references {
            return Err(format!("not a run of two cores: {json}"));
        }
        if (line.workload == "sort") != (line.writes > 0) {
            return Err(format!("{} blocks written: {json}", line.writes));
        }
    }
    if lines.len() == 2 { Ok(()) } else { Err(format!("{} lines of two", lines.len())) }
}

/// Several ways to read ahead, each named in its lines. What was disclosed comes in larger requests, and not
/// more of it.
fn read_ahead(context: &Context) -> Verdict {
    let what = ["--workloads", "din", "--policies", "own", "--read-ahead", "none,aggressive"];
    let lines = compared(context, &what)?;
    let [none, aggressive] = ["none", "aggressive"].map(|name| {
        let found = lines.iter().find(|(line, _)| line.read_ahead == name);
        found.ok_or_else(|| format!("no line of read-ahead {name}"))
    });
    let (none, aggressive) = (none?, aggressive?);
    for (line, json) in [none, aggressive] {
        counts_agree(line, json, &["accounted_reads", "emulator_reads"])?;
    }
    let (none, aggressive) = (&none.0, &aggressive.0);
    if aggressive.read_requests < none.read_requests && aggressive.reads * 100 <= none.reads * 102 {
        return Ok(());
    }
    let of = |line: &CompareLine| (line.reads, line.read_requests);
    Err(format!("reads and requests: {:?} alone, {:?} aggressively", of(none), of(aggressive)))
}

/// What is advised for the references of a run misses, in a run that follows it, what was foretold.
fn advice_holds(context: &Context) -> Verdict {
    let path = |name: &str| text(&context.scratch.path().join(name));
    let (trace, json, disk) = (path("cs2.references"), path("cs2.json"), text(&context.data));
    let record =
        ["filecache", "--disk", &disk, "--record-references", &trace, "--", "workload=cs2", "cache=10%"];
    context.run(&record)?.succeeded()?;
    context.exo(&["cache", "advise", &trace, "--sizes", "10%,40%", "--json", &json])?.succeeded()?;
    for foretold in json_lines::<Value>(&json)? {
        let (size, default) = (&foretold["size"], foretold["default_misses"].as_u64());
        let general = format!("0={}", foretold["general"].as_str().unwrap_or_default());
        let plan = foretold["plan"].as_str().unwrap_or(&general);
        let misses = foretold.get("plan_misses").unwrap_or(&foretold["general_misses"]).as_u64();
        let run = |words: &[&str]| {
            let size = format!("cache={size}");
            let run = ["filecache", "--disk", &disk, "--", "workload=cs2", &size];
            let said = context.run(&[&run[..], words].concat())?.succeeded()?;
            said.out.lines().find_map(|line| CompareLine::parse(line).ok()).ok_or("no result line".to_owned())
        };
        let line = run(&["read_ahead=none", &format!("plan={plan}")])?;
        if Some(line.misses) != misses || misses >= default {
            return Err(format!("{plan}: {} misses, {misses:?} foretold, default {default:?}", line.misses));
        }
        let advised = foretold["advised"].as_str().unwrap_or_default();
        let line = run(&[&format!("plan={advised}")])?;
        let blocks = line.reads - line.metadata_reads;
        if Some(blocks) != foretold["reads"].as_u64() || !advised.contains("read-ahead=") {
            return Err(format!("{advised}: {blocks} blocks read, foretold {}", foretold["reads"]));
        }
    }
    Ok(())
}

/// References recorded in a run; simulated under the same policy with the same size, they miss as often as
/// blocks were read in the run.
fn record_and_simulate(context: &Context) -> Verdict {
    let path = |name: &str| text(&context.scratch.path().join(name));
    let (trace, json, disk) = (path("din.references"), path("din.json"), text(&context.data));
    for policy in ["mru", "s3-fifo"] {
        let policy_word = format!("policy={policy}");
        let words = ["--", "workload=din", "cache=900", "read_ahead=none", &policy_word];
        let run = ["filecache", "--disk", &disk, "--record-references", &trace];
        let said = context.run(&[&run[..], &words].concat())?.succeeded()?;
        let line = said.out.lines().find_map(|line| CompareLine::parse(line).ok()).ok_or("no result line")?;
        let simulate = ["cache", "simulate", &trace, "--policies", policy, "--sizes", "900", "--json", &json];
        context.exo(&simulate)?.succeeded()?;
        let simulated = json_lines(&json)?;
        let [Value::Object(simulated)] = &simulated[..] else { return Err(format!("{simulated:?}")) };
        let misses = simulated["misses"].as_u64();
        let reads = line.reads - line.metadata_reads;
        if line.hits == 0 || misses != Some(reads) {
            return Err(format!(
                "{policy}: {reads} blocks read, {} hits, simulated {misses:?} misses",
                line.hits
            ));
        }
    }
    Ok(())
}
