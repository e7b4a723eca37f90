//! What is said at the end of a recording.

use super::files::{File, Files};
use super::log::Tally;
use crate::cache::simulate::aligned;
use crate::recorded::one_line;
use crate::units::{human_bytes, thousands};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Files in the table.
const FILES: usize = 10;
/// Mapped files that are named.
const NAMED: usize = 3;

/// Says something on standard error. Whoever reads that may have gone, which must not end the command.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The lines, each with `exo: ` in front of it.
pub fn report(path: &Path, files: &Files, tally: &Tally, filtered: bool, time: Duration) -> String {
    let mut recorded: Vec<&File> = files.all().iter().filter(|file| file.number.is_some()).collect();
    let sum = |of: fn(&File) -> u64| thousands(recorded.iter().map(|file| of(file)).sum());
    let mut lines = vec![
        format!(
            "{}: {} references to {} distinct blocks of {} files: {} reads, {} writes",
            path.display(),
            sum(File::references),
            sum(|file| file.blocks.count()),
            thousands(recorded.len() as u64),
            sum(|file| file.reads),
            sum(|file| file.writes)
        ),
        format!(
            "{} calls were looked at, {} of them moved bytes of files; {:.2} s{}",
            thousands(tally.calls),
            thousands(tally.transfers),
            time.as_secs_f64(),
            if filtered { "" } else { ", slow: every call stopped, for there is no seccomp filter" }
        ),
    ];
    lines.extend(not_in_record(files, tally));
    recorded.sort_by_key(|file| std::cmp::Reverse(file.references()));
    let table = table(&recorded);
    lines.extend(table.lines().map(str::to_owned));
    lines.iter().map(|line| format!("exo: {}\n", line.trim_end())).collect()
}

/// What the command did to files, or may have done, that the record does not show.
pub fn not_in_record(files: &Files, tally: &Tally) -> Vec<String> {
    let mut lines: Vec<String> = mapped(files).into_iter().collect();
    if tally.rings > 0 {
        lines.push("io_uring was used; what it read and wrote is not in the record".into());
    }
    if tally.contexts > 0 {
        lines.push("io_submit was made ready; what it read and wrote is not in the record".into());
    }
    if tally.foreign > 0 {
        lines.push(format!(
            "{} calls of 32-bit programs were not understood; what these read and wrote is not in the record",
            thousands(tally.foreign)
        ));
    }
    if tally.beyond > 0 {
        lines.push(format!(
            "{} transfers beyond 16 TiB of a file are not in the record",
            thousands(tally.beyond)
        ));
    }
    lines
}

/// A line for what was mapped: libraries, which every program has, and other files, which may be its data.
fn mapped(files: &Files) -> Option<String> {
    let all = files.all().iter().filter(|file| !file.mapped.is_empty());
    let (libraries, mut others): (Vec<&File>, Vec<&File>) = all.partition(|file| file.executable);
    if libraries.is_empty() && others.is_empty() {
        return None;
    }
    let amount = |files: &[&File]| {
        let bytes = files.iter().map(|file| file.mapped_bytes()).sum();
        format!("{} ({})", thousands(files.len() as u64), human_bytes(bytes))
    };
    others.sort_by_key(|file| std::cmp::Reverse(file.mapped_bytes()));
    let names: Vec<String> = others.iter().take(NAMED).map(|file| one_line(&file.name)).collect();
    Some(format!(
        "mapped files, whose use is not in the record: libraries: {}, others: {}{}{}{}",
        amount(&libraries),
        amount(&others),
        if names.is_empty() { "" } else { ": " },
        names.join(", "),
        if others.len() > NAMED { ", …" } else { "" }
    ))
}

/// A line for each of the first files.
fn table(files: &[&File]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let head = ["file", "reads", "writes", "distinct blocks", "size"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(files.iter().take(FILES).map(|file| {
        vec![
            one_line(&file.name),
            thousands(file.reads),
            thousands(file.writes),
            thousands(file.blocks.count()),
            human_bytes(file.bytes),
        ]
    }));
    let more = files.len().saturating_sub(FILES);
    let rest = if more > 0 { format!("and {} more\n", thousands(more as u64)) } else { String::new() };
    aligned(&lines) + &rest
}
