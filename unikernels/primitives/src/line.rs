//! Result lines, which `exo bench` reads.

use alloc::format;
use alloc::string::String;

/// The line of one primitive: ticks and exits of one operation, exits that there were none of left out.
pub fn line(
    name: &str,
    operations: u64,
    ticks: u64,
    exits: impl IntoIterator<Item = (&'static str, u64)>,
) -> String {
    let each = |count: u64| count as f64 / operations as f64;
    let seen = exits.into_iter().filter(|(_, count)| *count > 0);
    let exits: alloc::vec::Vec<String> =
        seen.map(|(kind, count)| format!("\"{kind}\":{:.2}", each(count))).collect();
    let (ticks, exits) = (each(ticks), exits.join(","));
    format!(
        "{{\"primitive\":\"{name}\",\"operations\":{operations},\"ticks\":{ticks:.2},\"exits\":{{{exits}}}}}"
    )
}
