//! The rows as text.

use super::super::table::aligned;
use super::Sample;
use crate::units::{signed_percent, thousands};
use results::{KvLine, Role};

/// The heads of the columns.
const HEADS: [&str; 10] = [
    "traffic",
    "memory",
    "policy",
    "hits",
    "misses",
    "of least",
    "± default",
    "MB fetched",
    "evicted",
    "instr/command",
];

/// How much more `value` is than `base`.
fn change(value: u64, base: u64) -> String {
    signed_percent(value as f64 / base.max(1) as f64 - 1.0)
}

/// Whether two lines are of the same traffic with the same memory.
fn beside(one: &KvLine, other: &KvLine) -> bool {
    (&one.traffic, one.memory) == (&other.traffic, other.memory)
}

/// The table. All counts repeat, so the first boot of a policy stands for all.
pub fn table(samples: &[Sample]) -> String {
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for line in samples.iter().filter(|sample| sample.run == 0).map(|sample| &sample.line) {
        let default = samples
            .iter()
            .map(|sample| &sample.line)
            .find(|other| beside(line, other) && other.role == Role::Default);
        let default = default.filter(|_| line.role != Role::Default);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "—".into());
        lines.push(vec![
            line.traffic.clone(),
            format!("{} ({} %)", thousands(line.memory), (line.memory * 100).div_ceil(line.data.max(1))),
            line.policy.clone(),
            format!("{:.1} %", line.hits as f64 * 100.0 / (line.hits + line.misses).max(1) as f64),
            thousands(line.misses),
            or_dash(line.least_misses.map(|least| change(line.misses, least))),
            or_dash(default.map(|default| change(line.misses, default.misses))),
            format!("{:.1}", line.missed_bytes as f64 / 1e6),
            thousands(line.evicted),
            or_dash(line.instructions_per_command.map(|count| thousands(count.round() as u64))),
        ]);
    }
    aligned(&lines, |column| column == 0 || column == 2)
}

/// What the table does not say.
pub fn remarks(samples: &[Sample]) -> String {
    let mut text = String::from(
        "\nMisses are records that were wanted and had to be fetched: each was put into the store then. The least that\n\
         is possible is Belady's optimum where all records have the same size, else a bound that may lie below it.\n\
         Every reply was checked and found right.\n",
    );
    let lines = || samples.iter().filter(|sample| sample.run == 0).map(|sample| &sample.line);
    for own in lines().filter(|line| line.role == Role::Own) {
        let better = lines().filter(|line| beside(own, line) && line.misses < own.misses);
        if let Some(best) = better.min_by_key(|line| line.misses) {
            text += &format!(
                "{} with {} bytes: {} has {} fewer misses than the store's own policy.\n",
                own.traffic,
                thousands(own.memory),
                best.policy,
                change(own.misses, best.misses).trim_start_matches('+'),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv::traffic::{Counts, Traffic};

    fn sample(policy: &str, role: Role, misses: u64) -> Sample {
        let counts = Counts { misses, hits: 1000 - misses, ..Counts::default() };
        let of_store = "allkeys-lru".parse().unwrap();
        let line = KvLine::parse(&counts.line(Traffic::Sizes, of_store, 100, 1000)).unwrap().unwrap();
        let policy = policy.to_owned();
        Sample { line: KvLine { policy, role, least_misses: Some(100), ..line }, run: 0 }
    }

    #[test]
    fn rows_compare_with_the_limit_and_the_default() {
        let text = table(&[sample("default", Role::Default, 200), sample("own", Role::Own, 110)]);
        assert!(text.contains("sizes") && text.contains("100 (10 %)") && text.contains("89.0 %"), "{text}");
        assert!(text.contains("−45.0 %") && text.contains("+10.0 %"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }

    #[test]
    fn it_is_told_where_the_own_policy_is_not_the_best() {
        let own = || sample("own", Role::Own, 110);
        assert!(!remarks(&[own(), sample("lru", Role::Other, 110)]).contains("fewer misses than the store"));
        let text = remarks(&[own(), sample("lru", Role::Other, 100)]);
        assert!(text.contains("lru has 10.0 % fewer misses than the store's own policy"), "{text}");
    }
}
