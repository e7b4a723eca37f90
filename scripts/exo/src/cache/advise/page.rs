//! The page of `exo cache advise`.

use super::super::page::miss_ratio_curves;
use super::super::replay::Misses;
use super::read_ahead;
use super::report::{Report, rust};
use crate::page::bars::{Bar, bars};
use crate::page::lines::{Chart, Scale};
use crate::page::{Table, document, escape, facts};
use crate::units::thousands;
use libos_fs::CachePlan;
use std::fmt::Write;

/// The page; `found` has the misses of every policy at every size.
pub fn page(report: &Report, found: &[Misses], sizes: &[u64]) -> String {
    let mut body = facts([
        ("References", thousands(report.references)),
        ("Distinct blocks", thousands(report.distinct)),
        ("Files", thousands(report.files.len() as u64)),
    ]);
    let table = |caption, lines: Vec<Vec<String>>| {
        let mut lines = lines.into_iter();
        let heads = lines.next().unwrap_or_default();
        let lines = lines.map(|line| (String::new(), line)).collect();
        Table { caption, heads, names: 0, lines }.html()
    };
    // Writing to a string does not fail.
    let _ = write!(
        body,
        "<section>\n<h2>What the program reads</h2>\n{}</section>\n<section>\n<h2>Misses</h2>\n{}",
        table("Files by references, and what these look like", report.file_table()),
        table(
            "Misses by size of the cache. The fixed set is the limit of who knows how often each block is used, but \
             not when; Belady’s optimum the limit of who knows the future.",
            report.size_table()
        )
    );
    if sizes.len() > 1 {
        let lines = miss_ratio_curves(found);
        let title = "Misses of every policy, share of references";
        body += &Chart { title, x_name: "cache, blocks", scale: Scale::Share, lines: &lines }.svg();
    }
    body.push_str("</section>\n");
    for advice in &report.advice {
        let _ = write!(body, "<section>\n<h2>{} blocks of cache</h2>\n", thousands(advice.size));
        let (general, misses) = advice.best_general();
        let plan = advice.plan(report.references);
        let bar = |label: &str, misses: u64, class: &str| Bar {
            label: label.to_owned(),
            value: misses as f64,
            text: thousands(misses),
            class: class.to_owned(),
        };
        let mut all = vec![bar("default", advice.default_misses(), "default")];
        all.push(bar(general.name(), misses, "other"));
        all.extend(plan.map(|step| bar("best plan", step.misses, "own")));
        all.push(bar("fixed set", advice.fixed, "other"));
        all.push(bar("Belady", advice.opt, "other"));
        body += &bars("Misses", "blocks", &all, None);
        if plan.is_none() {
            body.push_str("<p>No plan for single files gains more than the best general policy.</p>\n");
        }
        if let Some(all) = &advice.read_ahead {
            body += &table("Read-ahead with that, and how long the disk takes", read_ahead::table(all));
        }
        let advised = report.advised(advice);
        if advised != CachePlan::default() {
            let _ = writeln!(
                body,
                "<div class=\"wide\" role=\"region\" aria-label=\"Lines for the program\" tabindex=\"0\">\
                 <pre>{}</pre></div>",
                escape(&rust(&advised))
            );
        }
        body.push_str("</section>\n");
    }
    document(&format!("Advice for {}", report.name), &body)
}

#[cfg(test)]
mod tests {
    use super::super::character::characters;
    use super::super::plan::Plan;
    use super::super::read_ahead::Ahead;
    use super::super::report::Advice;
    use super::super::search::Step;
    use super::super::units::units;
    use super::*;
    use crate::page::browser::{browser, judge};
    use crate::page::tests::stands_alone;
    use libos_fs::device::DiskTime;
    use libos_fs::{FileId, PolicyKind, ReadAheadKind};
    use std::collections::BTreeMap;

    fn sample() -> String {
        let references: Vec<_> = (0..100).map(|block| (FileId(block % 2), block)).collect();
        let (files, names) = (characters(&references), BTreeMap::new());
        let units = units(&files, &names);
        let plan = Plan::general(PolicyKind::Mru, 2).with_unit(1, 1, PolicyKind::Fifo);
        let general = PolicyKind::ALL.map(|kind| (kind, 90)).into();
        let steps = vec![Step { plan, misses: 60 }];
        let advice = vec![Advice {
            size: 50,
            steps,
            general,
            fixed: 70,
            opt: 50,
            cut_short: false,
            read_ahead: Some(vec![Ahead {
                kind: ReadAheadKind::None,
                blocks_read: 60,
                requests: 60,
                wait_ns: 7_200_000,
            }]),
        }];
        let time = DiskTime { request_ns: 100_000, block_ns: 20_000 };
        let name = "a <trace>".to_owned();
        let report = Report { name, references: 100, distinct: 100, files, names, units, time, advice };
        let misses =
            |policy: &'static str, size| Misses { policy: policy.into(), size, references: 100, misses: 90 };
        page(&report, &[misses("lru", 50), misses("lru", 80)], &[50, 80])
    }

    #[test]
    fn the_page_stands_alone_and_has_the_lines() {
        let text = sample();
        stands_alone(&text);
        assert!(
            text.contains("Advice for a &lt;trace&gt;") && text.contains("set_policy(1, PolicyKind::Fifo)")
        );
    }

    #[test]
    fn a_browser_finds_no_fault_in_the_advice() {
        let Some(browser) = browser("a_browser_finds_no_fault_in_the_advice") else { return };
        judge(&browser, &sample());
    }
}
